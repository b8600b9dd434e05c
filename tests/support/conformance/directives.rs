//! Lines 31 to 43: delivery directives, preload hints and rendition reports.

use std::time::Duration;

use super::{Evidence, Verdict};
use crate::support::hls::{Media, Recording, Rendition, State, resolve};
use crate::support::http::{Exchange, Purpose};

/// "At once" on a machine that does other things, too.
const AT_ONCE: Duration = Duration::from_millis(300);
/// Between an answer and the moment when it was true, both ways.
const LAG: Duration = Duration::from_millis(30);

fn directive(exchange: &Exchange, name: &str) -> Option<u64> {
    exchange.query(name)?.parse().ok()
}

fn took(exchange: &Exchange) -> Duration {
    exchange.head - exchange.sent
}

/// Probes of this name, of which there must be one.
fn probes<'a>(
    verdict: &mut Verdict,
    recording: &'a Recording,
    name: &'static str,
) -> Vec<&'a Exchange> {
    let found: Vec<_> = recording.probes(name).collect();
    verdict.require(!found.is_empty(), || format!("nobody asked: {name}"));
    found
}

fn media(verdict: &mut Verdict, exchange: &Exchange) -> Media {
    let parsed = Media::parse(&exchange.text());
    verdict.require(exchange.ok() && parsed.is_ok(), || {
        format!(
            "{}: {} {:?}",
            exchange.target,
            exchange.status,
            parsed.as_ref().err()
        )
    });
    parsed.unwrap_or_default()
}

/// Draft 6.2.5.2.
pub(super) fn line_31_reload_blocks_until_the_part(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let recording = &evidence.recording;
    let mut held = 0;
    for state in recording.played().flat_map(|rendition| &rendition.states) {
        let exchange = &recording.exchanges[state.exchange];
        let (Some(msn), Some(part)) = (
            directive(exchange, "_HLS_msn"),
            directive(exchange, "_HLS_part"),
        ) else {
            continue;
        };
        let arrived = state.media.tip() > (msn, part) || state.media.ended;
        verdict.require(arrived, || {
            format!(
                "{} was answered when the tip was {:?}",
                exchange.target,
                state.media.tip()
            )
        });
        held += usize::from(took(exchange) > Duration::from_millis(50));
    }
    verdict.require(held > 10, || {
        format!("only {held} reloads were held at all")
    });
    for probe in probes(&mut verdict, recording, "part-past-the-end") {
        let (msn, media) = (
            directive(probe, "_HLS_msn").unwrap_or(0),
            media(&mut verdict, probe),
        );
        verdict.require(media.tip() > (msn + 1, 0), || {
            format!("{}: tip {:?}", probe.target, media.tip())
        });
    }
    verdict
}

/// Draft 6.2.5.2.
pub(super) fn line_32_reload_blocks_until_the_segment(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    for probe in probes(&mut verdict, &evidence.recording, "segment-in-progress") {
        let (msn, media) = (
            directive(probe, "_HLS_msn").unwrap_or(0),
            media(&mut verdict, probe),
        );
        let whole = media
            .segment(msn)
            .is_some_and(|segment| segment.uri.is_some());
        verdict.require(whole || media.ended, || {
            format!("{}: segment {msn} is not whole", probe.target)
        });
    }
    verdict
}

/// Draft 6.2.5.2.
pub(super) fn line_33_too_far_is_refused_at_once(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    for name in ["segment-too-far", "part-too-far"] {
        for probe in probes(&mut verdict, &evidence.recording, name) {
            verdict.require(probe.status == 400 && took(probe) < AT_ONCE, || {
                format!("{}: {} after {:?}", probe.target, probe.status, took(probe))
            });
        }
    }
    for probe in probes(&mut verdict, &evidence.recording, "two-segments-ahead") {
        verdict.require(probe.ok() && took(probe) > AT_ONCE, || {
            format!("{}: {} after {:?}", probe.target, probe.status, took(probe))
        });
    }
    verdict
}

/// Draft 6.2.5.2.
pub(super) fn line_34_past_is_answered_at_once_and_part_needs_msn(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    for name in ["part-alone", "nonsense"] {
        for probe in probes(&mut verdict, &evidence.recording, name) {
            verdict.require(probe.status == 400 && took(probe) < AT_ONCE, || {
                format!("{}: {} after {:?}", probe.target, probe.status, took(probe))
            });
        }
    }
    for probe in probes(&mut verdict, &evidence.recording, "past") {
        let media = media(&mut verdict, probe);
        verdict.require(took(probe) < AT_ONCE && media.skipped.is_none(), || {
            format!("{} after {:?}", probe.target, took(probe))
        });
    }
    verdict
}

/// Draft 6.2.5.2.
pub(super) fn line_35_blocked_too_long_and_after_the_end(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let recording = &evidence.recording;
    let target = recording
        .played()
        .find_map(|rendition| Some(rendition.last()?.target))
        .unwrap_or(0);
    let limit = Duration::from_secs(3 * target);
    for probe in probes(&mut verdict, recording, "stalled") {
        let in_time = took(probe) + Duration::from_millis(50) >= limit
            && took(probe) < limit + Duration::from_secs(2);
        verdict.require(probe.status == 503 && in_time, || {
            format!("{}: {} after {:?}", probe.target, probe.status, took(probe))
        });
    }
    for probe in probes(&mut verdict, recording, "after-the-end") {
        let media = media(&mut verdict, probe);
        verdict.require(media.ended && took(probe) < AT_ONCE, || {
            format!("{} after {:?}", probe.target, took(probe))
        });
    }
    // Whoever waited when the end came was woken by it.
    for state in recording
        .played()
        .filter_map(|rendition| rendition.states.last())
    {
        let exchange = &recording.exchanges[state.exchange];
        verdict.require(state.media.ended, || {
            format!("{}: the last answer knows no end", exchange.target)
        });
    }
    verdict
}

/// Draft B.1: one rendering for all who wait.
pub(super) fn line_36_all_waiters_get_the_same_bytes(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let crowd = probes(&mut verdict, &evidence.recording, "crowd");
    for probe in &crowd {
        let first = crowd
            .iter()
            .find(|first| first.target == probe.target)
            .expect("itself, at least");
        verdict.require(probe.ok() && probe.body == first.body, || {
            format!("{}: {}", probe.target, probe.status)
        });
        let apart = probe.head.abs_diff(first.head);
        verdict.require(apart < AT_ONCE, || {
            format!("{}: woken {apart:?} apart", probe.target)
        });
    }
    verdict.require(crowd.len() > 4, || format!("{} are no crowd", crowd.len()));
    verdict
}

/// Draft 6.2.5.1 and 4.4.5.2.
pub(super) fn line_37_delta_updates_add_up(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    for rendition in evidence.recording.played() {
        for State { media: delta, .. } in &rendition.deltas {
            let skipped = delta.skipped.unwrap_or(0);
            let headers = delta
                .tagged("#EXT-X-SKIP:")
                .next()
                .map_or(0, |(line, _)| line);
            for tag in [
                "#EXT-X-VERSION",
                "#EXT-X-TARGETDURATION",
                "#EXT-X-SERVER-CONTROL",
                "#EXT-X-PART-INF",
                "#EXT-X-MEDIA-SEQUENCE",
                "#EXT-X-DISCONTINUITY-SEQUENCE",
            ] {
                let first = delta.tagged(tag).next().map(|(line, _)| line);
                verdict.require(first.is_some_and(|line| line < headers), || {
                    format!("{}: {tag} is not before EXT-X-SKIP", rendition.path)
                });
            }
            let same = rendition.states.iter().find(|state| {
                state.media.tip() == delta.tip()
                    && state.media.sequence == delta.sequence
                    && state.media.ended == delta.ended
            });
            let Some(State { media: full, .. }) = same else {
                continue;
            };
            let sequences = |media: &Media| (media.sequence, media.discontinuity_sequence);
            verdict.require(sequences(full) == sequences(delta), || {
                format!(
                    "{}: {:?} became {:?}",
                    rendition.path,
                    sequences(full),
                    sequences(delta)
                )
            });
            let skip = usize::try_from(skipped).unwrap_or(usize::MAX);
            let rest = full.segments.get(skip..).unwrap_or_default();
            // The first that stays need not repeat the map that players know.
            let alike = rest.len() == delta.segments.len()
                && rest.iter().zip(&delta.segments).all(|(full, delta)| {
                    (
                        full.number,
                        &full.uri,
                        &full.parts,
                        full.discontinuity,
                        full.date,
                    ) == (
                        delta.number,
                        &delta.uri,
                        &delta.parts,
                        delta.discontinuity,
                        delta.date,
                    )
                });
            verdict.require(alike, || {
                format!(
                    "{}: skipping {skipped} leaves {} of {} segments",
                    rendition.path,
                    delta.segments.len(),
                    full.segments.len()
                )
            });
            let boundary = full
                .control
                .as_ref()
                .and_then(|control| control.can_skip_until)
                .unwrap_or(0.0);
            let mut behind = full.seconds();
            for segment in full.segments.iter().take(skip) {
                // Its end, not its start: a segment on the boundary stays.
                behind -= segment.duration;
                verdict.require(behind > boundary - 0.001, || {
                    format!(
                        "{}: segment {} was skipped, {behind:.3} s behind the edge",
                        rendition.path, segment.number
                    )
                });
            }
        }
    }
    verdict
}

/// Parameters in any order mean the same.
pub(super) fn line_38_directives_in_any_order(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    for probe in probes(&mut verdict, &evidence.recording, "order") {
        let (msn, part) = (
            directive(probe, "_HLS_msn").unwrap_or(0),
            directive(probe, "_HLS_part").unwrap_or(0),
        );
        let media = media(&mut verdict, probe);
        verdict.require(media.tip() > (msn, part), || {
            format!("{}: tip {:?}", probe.target, media.tip())
        });
    }
    verdict
}

/// Draft 4.4.5.3 and 6.2.6.
pub(super) fn line_39_one_hint_for_the_next_part(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    for rendition in evidence.recording.played() {
        for pair in rendition.states.windows(2) {
            let (before, after) = (&pair[0].media, &pair[1].media);
            if before.ended {
                continue;
            }
            let parts: Vec<_> = before
                .hints
                .iter()
                .filter(|hint| hint.kind.contains("Part"))
                .collect();
            verdict.require(parts.len() == 1, || {
                format!("{}: {} hints for parts", rendition.path, parts.len())
            });
            let (segment, index) = before.tip();
            let next = after.segment(segment).and_then(|segment| {
                segment
                    .parts
                    .get(usize::try_from(index).unwrap_or(usize::MAX))
            });
            // A segment that ended early begins the next one instead.
            let next = next.or_else(|| after.segment(segment + 1)?.parts.first());
            if let (Some(hint), Some(next)) = (parts.first(), next.filter(|part| !part.gap)) {
                verdict.require(hint.uri == next.uri, || {
                    format!("{}: hinted {}, came {}", rendition.path, hint.uri, next.uri)
                });
            }
        }
    }
    verdict
}

/// Draft 6.2.6: no early bytes, which would spoil the player's estimate of the link.
pub(super) fn line_40_hints_block_and_come_whole(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let recording = &evidence.recording;
    let mut held = 0;
    for hint in recording
        .exchanges
        .iter()
        .filter(|exchange| exchange.purpose == Purpose::Hint && exchange.ok())
    {
        let burst = hint.done - hint.head;
        verdict.require(burst < AT_ONCE, || {
            format!("{} trickled for {burst:?}", hint.target)
        });
        held += usize::from(took(hint) > Duration::from_millis(50));
        let part = recording.exchanges.iter().find(|exchange| {
            exchange.purpose == Purpose::Part && exchange.ok() && exchange.path() == hint.path()
        });
        if let Some(part) = part {
            verdict.require(part.body == hint.body, || {
                format!("{} was another as a hint", hint.target)
            });
        }
    }
    verdict.require(held > 10, || format!("only {held} hints were held at all"));
    verdict
}

/// Draft 6.2.6.
pub(super) fn line_41_hints_that_fail_are_404(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let recording = &evidence.recording;
    for rendition in recording.played() {
        let Some(end) = rendition.states.iter().find(|state| state.media.ended) else {
            continue;
        };
        let Some(before) = rendition
            .states
            .iter()
            .rev()
            .find(|state| !state.media.ended)
        else {
            continue;
        };
        for hint in &before.media.hints {
            let path = resolve(&rendition.path, &hint.uri);
            // It came true when the last part was published together with the end.
            let listed = end
                .media
                .segments
                .iter()
                .flat_map(|segment| &segment.parts)
                .any(|part| part.uri == hint.uri);
            let expected = if listed { 200 } else { 404 };
            let asked = recording
                .exchanges
                .iter()
                .filter(|exchange| exchange.purpose == Purpose::Hint && exchange.path() == path);
            for asked in asked {
                // Line 35: nobody knew yet, and it had waited too long.
                let limit = Duration::from_secs(3 * before.media.target);
                if asked.status == 503 && took(asked) >= limit && asked.done < end.at {
                    continue;
                }
                let soon = asked.done < end.at + Duration::from_secs(1);
                verdict.require(asked.status == expected && soon, || {
                    format!(
                        "{path}: {} after {:?}, {:?} after the end",
                        asked.status,
                        took(asked),
                        asked.done.saturating_sub(end.at)
                    )
                });
            }
        }
    }
    verdict
}

/// Draft B.1 and 6.2.6: a part has a name of its own; a new map is hinted before it is needed.
pub(super) fn line_42_hints_need_no_byte_ranges(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    for rendition in evidence.recording.played() {
        for state in &rendition.states {
            for hint in &state.media.hints {
                let plain = hint.byterange_start == 0 && hint.byterange_length.is_none();
                verdict.require(plain, || format!("{}: {hint:?}", rendition.path));
            }
            let ranges = state
                .media
                .segments
                .iter()
                .flat_map(|segment| &segment.parts)
                .filter(|part| part.byterange)
                .count();
            verdict.require(ranges == 0, || {
                format!("{}: {ranges} parts with BYTERANGE", rendition.path)
            });
        }
    }
    verdict
}

/// Draft 4.4.5.4 and B.1: as fresh as the playlist that carries it, which is to say, no older than what the other
/// rendition was seen to list before.
pub(super) fn line_43_reports_are_fresh(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let (mut compared, mut stale) = (0, Vec::new());
    let played: Vec<&Rendition> = evidence.recording.played().collect();
    for rendition in &played {
        for state in rendition.states.iter().filter(|state| !state.media.ended) {
            let answered = evidence.recording.exchanges[state.exchange].head;
            for other in played.iter().filter(|other| other.path != rendition.path) {
                let report = state.media.reports.iter().find(|report| {
                    let path = report.uri.split('?').next().unwrap_or_default();
                    resolve(&rendition.path, path) == other.path
                });
                let Some(report) = verdict.some(
                    report,
                    &format!("a report of {} in {}", other.path, rendition.path),
                ) else {
                    continue;
                };
                let clean = !report.uri.contains('?') && !report.uri.contains("://");
                verdict.require(clean, || {
                    format!("{}: report URI {}", rendition.path, report.uri)
                });
                let seen = other
                    .states
                    .iter()
                    .rev()
                    .find(|seen| seen.at + LAG <= answered);
                let Some(newest) = seen.and_then(|seen| last_part(&seen.media)) else {
                    continue;
                };
                let said = (report.last_msn, report.last_part.unwrap_or(0));
                compared += 1;
                if said < newest {
                    stale.push(format!(
                        "{} says {said:?} of {}, which had listed {newest:?}",
                        rendition.path, other.path
                    ));
                }
            }
        }
    }
    // On a busy machine an answer may lie around before we read it.
    let fresh = compared > 0 && stale.len() * 50 <= compared;
    verdict.require(fresh, || {
        format!("{} of {compared} stale: {:?}", stale.len(), stale.first())
    });
    verdict
}

/// Number of the segment and index of the newest part listed; `None` when the playlist lists none.
fn last_part(media: &Media) -> Option<(u64, u64)> {
    let last = media
        .segments
        .iter()
        .rfind(|segment| !segment.parts.is_empty())?;
    Some((last.number, last.parts.len() as u64 - 1))
}
