//! Lines 18 to 30: media playlists.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::media::{starts, ticks};
use super::{Evidence, Verdict};
use crate::support::hls::{Kind, Media, Rendition, State};
use crate::support::http::Purpose;

/// Rounding of printed seconds.
const PRINT: f64 = 0.001;
/// Seconds that the dates may move against the media from one segment to the next: a thousandth of its length.
const DRIFT: f64 = 0.002;

fn states(evidence: &Evidence) -> impl Iterator<Item = (&Rendition, &Media)> {
    evidence.recording.played().flat_map(|rendition| {
        rendition
            .states
            .iter()
            .map(move |state| (rendition, &state.media))
    })
}

/// The values of all playlists must be one value.
fn one<T: PartialEq + std::fmt::Debug>(
    verdict: &mut Verdict,
    what: &str,
    values: impl Iterator<Item = (String, T)>,
) -> Option<T> {
    let mut first: Option<T> = None;
    for (place, value) in values {
        match &first {
            Some(first) => verdict.require(*first == value, || {
                format!("{what} is {value:?} in {place}, {first:?} elsewhere")
            }),
            None => first = Some(value),
        }
    }
    verdict.some(first, what)
}

/// Draft 4.4.3.1, 6.2.1 and 6.2.4, Apple 7.7.
pub(super) fn line_18_target_duration_is_constant_and_kept(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let all = evidence
        .recording
        .renditions
        .values()
        .flat_map(|rendition| {
            rendition
                .states
                .iter()
                .map(move |state| (rendition, &state.media))
        });
    let target = one(
        &mut verdict,
        "TARGETDURATION",
        all.clone()
            .map(|(rendition, media)| (rendition.path.clone(), media.target)),
    );
    let Some(target) = target else { return verdict };
    let target = ticks(i64::try_from(target).unwrap_or(0));
    for (rendition, media) in all {
        for segment in media.complete() {
            let kept = segment.duration.round() <= target && segment.duration <= target + 0.5;
            verdict.require(kept, || {
                format!(
                    "{} segment {} lasts {} s",
                    rendition.path, segment.number, segment.duration
                )
            });
        }
    }
    verdict
}

/// Draft 4.4.4.9.
pub(super) fn line_19_part_target_is_constant_and_kept(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let targets =
        states(evidence).map(|(rendition, media)| (rendition.path.clone(), media.part_target));
    let Some(Some(target)) = one(&mut verdict, "PART-TARGET", targets) else {
        return verdict;
    };
    for (rendition, media) in states(evidence) {
        for part in media.segments.iter().flat_map(|segment| &segment.parts) {
            verdict.require(part.duration <= target + 1e-9, || {
                format!(
                    "{} {} lasts {} s of {target} s",
                    rendition.path, part.uri, part.duration
                )
            });
        }
    }
    // What the playlist says of a part must be what the part holds.
    for (rendition, parts) in evidence.all_tracks() {
        let scale = super::media::scale_of(rendition);
        for part in parts {
            let real = part
                .samples()
                .map(|sample| f64::from(sample.duration))
                .sum::<f64>()
                / scale;
            verdict.require((real - part.duration).abs() < PRINT, || {
                format!("{} says {} s and holds {real} s", part.path, part.duration)
            });
        }
    }
    verdict
}

/// Draft 4.4.4.9.
pub(super) fn line_20_parts_are_long_enough(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    for (rendition, media) in states(evidence) {
        let target = media.part_target.unwrap_or(0.0);
        for segment in media.complete() {
            // Of a whole segment the last part is known, and whatever stands before a gap.
            let exempt =
                |index: usize| index + 1 == segment.parts.len() || segment.parts[index + 1].gap;
            for (index, part) in segment.parts.iter().enumerate() {
                let long = part.duration >= 0.85 * target - PRINT;
                // Sound is independent throughout; that must not excuse it from filling its parts.
                let independent = part.independent && rendition.kind == Kind::Video;
                verdict.require(long || independent || part.gap || exempt(index), || {
                    format!(
                        "{} {} lasts {} s of {target} s",
                        rendition.path, part.uri, part.duration
                    )
                });
            }
        }
    }
    verdict
}

/// Draft 4.4.3.8 and 6.2.4, Apple 14.3.
pub(super) fn line_21_server_control_is_constant(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let deltas = evidence.recording.played().flat_map(|rendition| {
        rendition
            .deltas
            .iter()
            .map(move |state| (rendition, &state.media))
    });
    let all = states(evidence).chain(deltas);
    let controls = all.map(|(rendition, media)| (rendition.path.clone(), media.control.clone()));
    let Some(Some(control)) = one(&mut verdict, "SERVER-CONTROL", controls) else {
        return verdict;
    };
    let Some((_, media)) = states(evidence).next() else {
        return verdict;
    };
    let target = ticks(i64::try_from(media.target).unwrap_or(0));
    let part = media.part_target.unwrap_or(0.0);
    let at_least =
        |value: Option<f64>, least: f64| value.is_some_and(|value| value >= least - PRINT);
    verdict.require(control.can_block_reload, || {
        "no CAN-BLOCK-RELOAD=YES".to_owned()
    });
    verdict.require(at_least(control.part_hold_back, 3.0 * part), || {
        format!("PART-HOLD-BACK {:?}", control.part_hold_back)
    });
    verdict.require(at_least(control.hold_back, 3.0 * target), || {
        format!("HOLD-BACK {:?}", control.hold_back)
    });
    verdict.require(at_least(control.can_skip_until, 6.0 * target), || {
        format!("CAN-SKIP-UNTIL {:?}", control.can_skip_until)
    });
    verdict
}

/// Draft 4.4.4.9.
pub(super) fn line_22_independent_parts_start_with_idr(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    for (rendition, parts) in evidence.all_tracks() {
        for part in parts {
            let starts = part
                .samples()
                .next()
                .is_some_and(super::super::hls::Sample::is_sync);
            verdict.require(part.independent == starts, || {
                format!(
                    "{}: INDEPENDENT is {}, starts with a sync sample {starts}",
                    part.path, part.independent
                )
            });
            let must = part.index == 0 || rendition.kind == Kind::Sound;
            verdict.require(part.independent || !must, || {
                format!("{} must be independent", part.path)
            });
        }
    }
    verdict
}

/// Apple 8.4, draft 6.2.4: media time plus what is the same in all renditions, to the millisecond. From segment to
/// segment that may move a little, as the encoder's clock runs off from ours, but not with the time of writing.
pub(super) fn line_23_dates_follow_the_media(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let mut shifts: BTreeMap<u64, Vec<(f64, String)>> = BTreeMap::new();
    let mut broken = BTreeSet::new();
    for (rendition, parts) in evidence.all_tracks() {
        let starts = starts(rendition, parts);
        for segment in rendition.timeline() {
            if segment.discontinuity {
                broken.insert(segment.number);
            }
            let Some(date) = verdict.some(segment.date, "EXT-X-PROGRAM-DATE-TIME on every segment")
            else {
                continue;
            };
            let Some(start) = starts.get(&segment.number) else {
                continue;
            };
            shifts.entry(segment.number).or_default().push((
                ticks(date) / 1e6 - start,
                format!("{} segment {}", rendition.path, segment.number),
            ));
        }
        for (_, media) in states(evidence).filter(|(other, _)| other.path == rendition.path) {
            let (_, line) = media
                .tagged("#EXT-X-PROGRAM-DATE-TIME:")
                .next()
                .unwrap_or((0, ""));
            let digits = line.split_once('.').map_or(0, |(_, rest)| {
                rest.chars().take_while(char::is_ascii_digit).count()
            });
            verdict.require(digits >= 3, || {
                format!("{}: {line:?} is coarser than a millisecond", rendition.path)
            });
        }
    }
    let mut before: Option<(u64, f64)> = None;
    for (segment, shifts) in shifts {
        let first = shifts[0].0;
        for (shift, place) in &shifts {
            let off = shift - first;
            verdict.require(off.abs() <= 2.0 * PRINT, || {
                format!("{place} is dated {off} s off the other renditions")
            });
        }
        let follows = before.filter(|(last, _)| last + 1 == segment && !broken.contains(&segment));
        let step = follows.map_or(0.0, |(_, last)| first - last);
        verdict.require(step.abs() <= 2.0 * PRINT + DRIFT, || {
            format!("segment {segment} is dated {step} s off the one before")
        });
        before = Some((segment, first));
    }
    verdict
}

/// Draft 4.4.4.9.
pub(super) fn line_24_tags_stand_before_the_parts(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let heads = [
        "#EXT-X-MAP",
        "#EXT-X-KEY",
        "#EXT-X-PROGRAM-DATE-TIME",
        "#EXT-X-DISCONTINUITY",
    ];
    for (rendition, media) in states(evidence) {
        let mut in_parts = false;
        for line in &media.lines {
            match line {
                line if line.starts_with("#EXT-X-PART:") => {
                    in_parts = true;
                    verdict.judged += 1;
                }
                line if !line.starts_with('#') => in_parts = false,
                line => {
                    // DISCONTINUITY-SEQUENCE is a header of the playlist.
                    let head = heads.iter().any(|head| {
                        line.strip_prefix(head)
                            .is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
                    });
                    verdict.require(!(in_parts && head), || {
                        format!(
                            "{}: {line} stands behind a part of its segment",
                            rendition.path
                        )
                    });
                }
            }
        }
    }
    verdict
}

/// Draft 6.2.2.
pub(super) fn line_25_parts_are_listed_for_three_targets(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    for (rendition, media) in states(evidence) {
        let target = ticks(i64::try_from(media.target).unwrap_or(0));
        let open: f64 = media
            .segments
            .last()
            .filter(|last| last.uri.is_none())
            .map_or(0.0, |last| {
                last.parts.iter().map(|part| part.duration).sum()
            });
        let mut behind = open;
        for segment in media.complete().rev().filter(|segment| !segment.gap) {
            let (needed, allowed) = (behind < 3.0 * target - 0.5, behind <= 4.0 * target);
            // An ended playlist needs no parts any more.
            verdict.require(!segment.parts.is_empty() || !needed || media.ended, || {
                format!(
                    "{} segment {}: no parts, {behind:.2} s behind the edge",
                    rendition.path, segment.number
                )
            });
            verdict.require(segment.parts.is_empty() || allowed, || {
                format!(
                    "{} segment {}: parts {behind:.2} s behind the edge",
                    rendition.path, segment.number
                )
            });
            behind += segment.duration;
        }
    }
    if let Some(probe) = verdict.some(
        evidence.recording.probes("old-part").next(),
        "a request for a part listed no more",
    ) {
        verdict.require(probe.ok(), || {
            format!("{} is {} already", probe.target, probe.status)
        });
    }
    verdict
}

/// Draft 6.2.2.
pub(super) fn line_26_segments_outlive_their_listing(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    for probe in evidence.recording.probes("old-segment") {
        verdict.require(probe.ok(), || {
            format!("{} is {} already", probe.target, probe.status)
        });
    }
    verdict
}

/// Apple 8.11 and 8.17, draft 6.2.2.
pub(super) fn line_27_window_is_long_enough(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let mut slid = false;
    for rendition in evidence.recording.played() {
        let first = rendition
            .states
            .first()
            .map_or(0, |state| state.media.sequence);
        for media in rendition.states.iter().map(|state| &state.media) {
            verdict.require(media.playlist_type.is_none() || media.ended, || {
                format!("{}: a live playlist with a PLAYLIST-TYPE", rendition.path)
            });
            verdict.require(media.discontinuity_sequence.is_some(), || {
                format!("{}: no EXT-X-DISCONTINUITY-SEQUENCE", rendition.path)
            });
            if media.sequence > first {
                slid = true;
                let target = ticks(i64::try_from(media.target).unwrap_or(0));
                let count = media.complete().count();
                verdict.require(count >= 6, || {
                    format!("{}: {count} segments", rendition.path)
                });
                verdict.require(media.seconds() >= 3.0 * target - 0.5, || {
                    format!("{}: {} s", rendition.path, media.seconds())
                });
            }
        }
    }
    verdict.require(slid, || "a window that slides was not seen".to_owned());
    verdict
}

/// Draft 6.2.1 and B.1. Nineteen in twenty, so that a busy machine is not the server's fault.
pub(super) fn line_28_parts_come_in_time(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let mut listed: BTreeMap<(u64, u64), Vec<Duration>> = BTreeMap::new();
    let mut target = Duration::ZERO;
    for rendition in evidence.recording.played() {
        let Some(media) = rendition.last() else {
            continue;
        };
        target = Duration::from_secs_f64(media.part_target.unwrap_or(0.0));
        let advances = rendition.advances();
        let gaps: Vec<Duration> = advances
            .windows(2)
            .map(|pair| pair[1].2 - pair[0].2)
            .collect();
        let late = gaps.iter().filter(|gap| **gap > target * 3 / 2).count();
        verdict.require(gaps.len() > 20 && late * 20 <= gaps.len(), || {
            format!("{}: {late} of {} parts late", rendition.path, gaps.len())
        });
        // The first answer tells what was there, not when it came.
        for (segment, parts, at) in advances.into_iter().skip(1) {
            listed.entry((segment, parts)).or_default().push(at);
        }
    }
    let spreads = listed
        .values()
        .filter(|times| times.len() > 1)
        .filter_map(|times| Some(*times.iter().max()? - *times.iter().min()?));
    let mut spreads: Vec<Duration> = spreads.collect();
    spreads.sort_unstable();
    spreads.sort_unstable();
    let apart = spreads.iter().filter(|spread| **spread > target).count();
    let (all, most) = (spreads.len(), spreads.last().copied().unwrap_or_default());
    verdict.require(all > 0 && apart * 20 <= all, || {
        let middle = spreads.get(all / 2);
        format!("renditions {apart} times of {all} more than a part out of step; half {middle:?}, most {most:?}")
    });
    verdict
}

/// Draft 6.2.1.
pub(super) fn line_29_what_is_listed_can_be_had(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let mut slow = Vec::new();
    for exchange in &evidence.recording.exchanges {
        if matches!(
            exchange.purpose,
            Purpose::Init | Purpose::Part | Purpose::Segment
        ) {
            let whole = exchange.header("content-length") == exchange.body.len().to_string();
            verdict.require(exchange.ok() && whole, || {
                format!(
                    "{}: {}, {} bytes of {}",
                    exchange.target,
                    exchange.status,
                    exchange.body.len(),
                    exchange.header("content-length")
                )
            });
            slow.push(exchange.done - exchange.sent > Duration::from_millis(250));
        }
    }
    let late = slow.iter().filter(|slow| **slow).count();
    verdict.require(!slow.is_empty() && late * 20 <= slow.len(), || {
        format!(
            "{late} of {} listed objects came slower than a link would bring them",
            slow.len()
        )
    });
    verdict
}

/// Draft 8 and 6.2.1.
pub(super) fn line_30_version_is_what_is_needed(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    for rendition in evidence.recording.played() {
        let mut version = |states: &[State], least: u64, most: u64| {
            let versions: BTreeSet<u64> = states.iter().map(|state| state.media.version).collect();
            let good = versions
                .iter()
                .all(|version| (least..=most).contains(version));
            verdict.require(good, || {
                format!(
                    "{}: versions {versions:?}, not {least} to {most}",
                    rendition.path
                )
            });
        };
        // EXT-X-MAP asks for 6, EXT-X-SKIP for 9; a server may say 9 in both, so that the version never changes.
        version(&rendition.states, 6, 9);
        version(&rendition.deltas, 9, 9);
    }
    verdict
}
