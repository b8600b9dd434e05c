//! Lines 56 and 57: the end.

use std::collections::BTreeSet;
use std::time::Duration;

use super::media::{scale_of, ticks};
use super::{Evidence, Verdict};

/// Draft 6.2.1 and 4.4.5.3.
pub(super) fn line_56_the_end_is_everywhere_at_once(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let mut ends = Vec::new();
    for rendition in evidence.recording.played() {
        let end = rendition.states.iter().find(|state| state.media.ended);
        let Some(end) = verdict.some(end, &format!("EXT-X-ENDLIST in {}", rendition.path)) else {
            continue;
        };
        ends.push(end.at);
        verdict.require(end.media.hints.is_empty(), || {
            format!("{}: hints after the end", rendition.path)
        });
        let whole = end
            .media
            .segments
            .iter()
            .all(|segment| segment.uri.is_some());
        verdict.require(whole, || {
            format!("{}: the last segment is not whole", rendition.path)
        });
        let resumed = rendition
            .states
            .iter()
            .skip_while(|state| !state.media.ended)
            .any(|state| !state.media.ended);
        verdict.require(!resumed, || {
            format!("{} goes on after its end", rendition.path)
        });
    }
    let spread = ends
        .iter()
        .max()
        .zip(ends.iter().min())
        .map(|(last, first)| *last - *first);
    verdict.require(
        spread.is_some_and(|spread| spread < Duration::from_secs(1)),
        || format!("the ends are {spread:?} apart"),
    );
    verdict
}

/// Apple 8.1 and 8.7, draft 6.2.4.
pub(super) fn line_57_all_renditions_have_the_same_range(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let last: Vec<_> = evidence
        .recording
        .played()
        .filter_map(|rendition| Some((rendition, rendition.last()?)))
        .collect();
    for (rendition, media) in &last {
        let range = |media: &crate::support::hls::Media| {
            (
                media.sequence,
                media.segments.last().map(|segment| segment.number),
            )
        };
        verdict.require(range(media) == range(last[0].1), || {
            format!(
                "{}: {:?}, elsewhere {:?}",
                rendition.path,
                range(media),
                range(last[0].1)
            )
        });
        verdict.require(media.playlist_type == last[0].1.playlist_type, || {
            format!("{}: {:?}", rendition.path, media.playlist_type)
        });
        // The sum of what is said against the sum of what was received, over the segments received whole.
        let parts = evidence.parts(rendition);
        let received: BTreeSet<u64> = parts.iter().map(|part| part.segment).collect();
        let segments: Vec<_> = rendition
            .timeline()
            .filter(|segment| {
                let listed = segment.parts.len();
                listed > 0
                    && segment.uri.is_some()
                    && received.contains(&segment.number)
                    && parts
                        .iter()
                        .filter(|part| part.segment == segment.number)
                        .count()
                        == listed
            })
            .collect();
        let said: f64 = segments.iter().map(|segment| segment.duration).sum();
        let numbers: BTreeSet<u64> = segments.iter().map(|segment| segment.number).collect();
        let samples: Vec<_> = parts
            .iter()
            .filter(|part| numbers.contains(&part.segment))
            .flat_map(super::PartMedia::samples)
            .collect();
        let real = samples
            .iter()
            .map(|sample| ticks(sample.duration.into()))
            .sum::<f64>()
            / scale_of(rendition);
        let frame = samples
            .iter()
            .map(|sample| sample.duration)
            .max()
            .map_or(0.0, f64::from)
            / scale_of(rendition);
        verdict.require(!segments.is_empty() && (said - real).abs() <= frame, || {
            format!(
                "{}: EXTINF sums to {said}, the media to {real}",
                rendition.path
            )
        });
    }
    verdict
}
