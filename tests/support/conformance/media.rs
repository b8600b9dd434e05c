//! Lines 1 to 12: the media.

use std::collections::{BTreeMap, BTreeSet};

use mp4_atom::Codec;

use super::{Evidence, PartMedia, Verdict};
use crate::support::hls::{
    Init, Kind, Media, Rendition, Sample, has_parameter_sets, is_idr, resolve,
};
use crate::support::http::Purpose;

/// ISO/IEC 23000-19 7.2 and 7.3.1.
pub(super) fn line_01_init_is_one_track_without_samples(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    for (path, init) in evidence
        .recording
        .played()
        .flat_map(|rendition| &rendition.inits)
    {
        verdict.require(init.boxes == ["ftyp", "moov"], || {
            format!("{path}: boxes {:?}", init.boxes)
        });
        let has = |brand: &str| init.brands.iter().any(|name| name == brand);
        verdict.require((has("cmfc") || has("cmf2")) && has("iso6"), || {
            format!("{path}: brands {:?}", init.brands)
        });
        let tables = init.moov.trak.iter().map(|trak| &trak.mdia.minf.stbl);
        let samples: usize = tables
            .map(|stbl| stbl.stts.entries.len() + stbl.stsc.entries.len())
            .sum();
        let trex = init.moov.mvex.as_ref().map_or(0, |mvex| mvex.trex.len());
        verdict.require((init.moov.trak.len(), trex, samples) == (1, 1, 0), || {
            format!(
                "{path}: {} tracks, {trex} trex, {samples} entries of samples",
                init.moov.trak.len()
            )
        });
    }
    verdict
}

/// ISO/IEC 23000-19 7.3.2.
pub(super) fn line_02_part_is_whole_chunks(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    for part in evidence.all_tracks().flat_map(|(_, parts)| parts) {
        verdict.require(!part.fragments.is_empty(), || {
            format!("{} holds no chunk", part.path)
        });
        for fragment in &part.fragments {
            let names: Vec<&str> = fragment
                .boxes
                .iter()
                .map(String::as_str)
                .filter(|name| !matches!(*name, "styp" | "prft" | "emsg"))
                .collect();
            verdict.require(names == ["moof", "mdat"], || {
                format!("{}: boxes {:?}", part.path, fragment.boxes)
            });
            let trafs = &fragment.moof.traf;
            verdict.require(trafs.len() == 1, || {
                format!("{}: {} traf", part.path, trafs.len())
            });
            let tfhd = &trafs[0].tfhd;
            verdict.require(
                tfhd.default_base_is_moof && tfhd.base_data_offset.is_none(),
                || format!("{}: base is not the moof", part.path),
            );
            verdict.require(fragment.misplaced.is_none(), || {
                format!("{}: {:?}", part.path, fragment.misplaced)
            });
        }
    }
    for problem in &evidence.unreadable {
        verdict.require(false, || problem.clone());
    }
    verdict
}

/// draft-pantos-hls-rfc8216bis 3.2.
pub(super) fn line_03_parts_make_the_segment(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let recording = &evidence.recording;
    for rendition in recording.played() {
        for segment in rendition.timeline() {
            let get = |uri: &str| recording.object(&resolve(&rendition.path, uri));
            let Some(whole) = segment.uri.as_deref().and_then(get) else {
                continue;
            };
            let parts: Option<Vec<_>> = segment.parts.iter().map(|part| get(&part.uri)).collect();
            let Some(parts) = parts.filter(|parts| !parts.is_empty()) else {
                continue;
            };
            let joined: Vec<u8> = parts.into_iter().flatten().copied().collect();
            verdict.require(joined == *whole, || {
                format!("{} segment {}", rendition.path, segment.number)
            });
        }
    }
    verdict
}

/// Apple 7.3, ISO/IEC 23000-19 7.3.2: to the tick.
pub(super) fn line_04_decode_times_are_continuous(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    for (_, parts) in evidence.all_tracks() {
        let mut expected: Option<(usize, u64, i64)> = None;
        for part in parts {
            for fragment in &part.fragments {
                let Some(first) = fragment.samples.first() else {
                    continue;
                };
                let follows = |(index, segment, _): &(usize, u64, i64)| {
                    // Two chunks of a part, two parts of a segment, or two segments.
                    let next = (*segment == part.segment && part.index <= index + 1)
                        || (*segment + 1 == part.segment && part.index == 0);
                    next && !part.discontinuity
                };
                if let Some((_, _, end)) = expected.filter(follows) {
                    verdict.require(first.dts == end, || {
                        format!("{} starts at {}, not at {end}", part.path, first.dts)
                    });
                }
                let positive = fragment.samples.iter().all(|sample| sample.duration > 0);
                verdict.require(positive, || {
                    format!("{} has a sample without duration", part.path)
                });
                expected = fragment.samples.last().map(|last| {
                    (
                        part.index,
                        part.segment,
                        last.dts + i64::from(last.duration),
                    )
                });
            }
        }
    }
    verdict
}

/// Apple 7.4 and 1.13. The lengths of GOPs are judged to a picture.
pub(super) fn line_05_segments_start_with_idr_and_closed_gops(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    for (rendition, parts) in evidence.tracks(Kind::Video) {
        for (segment, samples) in segments(parts) {
            let Some(codec) = codec_of(rendition) else {
                continue;
            };
            let Some(first) = samples.first() else {
                continue;
            };
            let idr = is_idr(Some(codec), &first.data).unwrap_or(first.is_sync());
            verdict.require(idr && first.is_sync(), || {
                format!(
                    "{} segment {segment} does not start with an IDR",
                    rendition.path
                )
            });
            let keys: Vec<i64> = samples
                .iter()
                .filter(|sample| sample.is_sync())
                .map(|sample| sample.pts)
                .collect();
            let mut start = first.pts;
            for sample in &samples {
                if sample.is_sync() {
                    start = sample.pts;
                }
                verdict.require(sample.pts >= start, || {
                    format!("{} segment {segment}: an open GOP", rendition.path)
                });
            }
            let end = samples
                .last()
                .map_or(0, |last| last.dts + i64::from(last.duration));
            let picture = i64::from(first.duration);
            let ends = keys.iter().copied().skip(1).chain([end]);
            let lengths: Vec<i64> = keys
                .iter()
                .zip(ends)
                .map(|(start, end)| end - start)
                .collect();
            let scale = scale_of(rendition);
            let short = lengths
                .iter()
                .all(|length| ticks(*length) / scale <= 2.0 + ticks(picture) / scale);
            verdict.require(short, || {
                format!(
                    "{} segment {segment}: GOPs of {lengths:?} ticks",
                    rendition.path
                )
            });
            // The last GOP of the last segment may be cut by the end.
            let even = lengths
                .iter()
                .take(lengths.len().saturating_sub(1))
                .all(|length| (length - lengths[0]).abs() <= picture);
            verdict.require(even, || {
                format!(
                    "{} segment {segment}: GOPs of {lengths:?} ticks",
                    rendition.path
                )
            });
        }
    }
    verdict
}

/// ISO/IEC 23000-19 7.5.
pub(super) fn line_06_sync_flags_are_true(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    for (rendition, parts) in evidence.all_tracks() {
        for (part, sample) in parts
            .iter()
            .flat_map(|part| part.samples().map(move |sample| (part, sample)))
        {
            if let Some(idr) =
                codec_of(rendition).and_then(|codec| is_idr(Some(codec), &sample.data))
            {
                verdict.require(sample.is_sync() == idr, || {
                    format!("{}: IDR {idr}, sync {}", part.path, sample.is_sync())
                });
            } else if rendition.kind == Kind::Sound {
                verdict.require(sample.is_sync(), || {
                    format!("{}: sound that is not sync", part.path)
                });
            }
            let expected = if sample.is_sync() { 2 } else { 1 };
            verdict.require(sample.depends_on() == expected, || {
                format!("{}: sample_depends_on {}", part.path, sample.depends_on())
            });
        }
    }
    verdict
}

/// Apple 1.10 and 8.13, draft 6.2.1.
pub(super) fn line_07_parameter_sets_only_in_the_init(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    for (rendition, parts) in evidence.tracks(Kind::Video) {
        let codec = codec_of(rendition);
        let stored = matches!(
            codec,
            Some(Codec::Avc1(_) | Codec::Hvc1(_) | Codec::Av01(_))
        );
        verdict.require(stored, || {
            format!(
                "{}: parameter sets may stand in the samples",
                rendition.path
            )
        });
        for part in parts {
            let clean = !part
                .samples()
                .any(|sample| has_parameter_sets(codec, &sample.data));
            verdict.require(clean, || format!("{} carries parameter sets", part.path));
        }
    }
    for rendition in evidence.recording.played() {
        let segments: Vec<_> = rendition.timeline().collect();
        for pair in segments.windows(2) {
            let same = pair[0].map == pair[1].map;
            verdict.require(same || pair[1].discontinuity, || {
                format!(
                    "{} segment {}: a new EXT-X-MAP alone",
                    rendition.path, pair[1].number
                )
            });
        }
    }
    verdict
}

/// Apple 8.22, draft 6.2.4: video to the tick, sound within one frame.
pub(super) fn line_08_same_number_same_start(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let mut videos: BTreeMap<u64, f64> = BTreeMap::new();
    for (rendition, parts) in evidence.tracks(Kind::Video) {
        for (segment, start) in starts(rendition, parts) {
            let known = *videos.entry(segment).or_insert(start);
            verdict.require((known - start).abs() < 1e-6, || {
                format!(
                    "{} segment {segment} starts {} s off",
                    rendition.path,
                    start - known
                )
            });
        }
    }
    for (rendition, parts) in evidence.tracks(Kind::Sound) {
        let frame = frame_seconds(rendition, parts);
        for (segment, start) in starts(rendition, parts) {
            let Some(video) = videos.get(&segment) else {
                continue;
            };
            let off = start - video;
            verdict.require(off.abs() <= frame, || {
                format!("{} segment {segment} starts {off} s off", rendition.path)
            });
        }
    }
    verdict
}

/// Draft 6.2.4: the frame at the video's boundary each time, so that the distance wanders within a frame but goes nowhere.
pub(super) fn line_09_sound_boundaries_do_not_drift(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let video = evidence
        .tracks(Kind::Video)
        .next()
        .map(|(rendition, parts)| starts(rendition, parts))
        .unwrap_or_default();
    for (rendition, parts) in evidence.tracks(Kind::Sound) {
        let frame = frame_seconds(rendition, parts);
        let offs: Vec<f64> = starts(rendition, parts)
            .iter()
            .filter_map(|(segment, start)| Some(start - video.get(segment)?))
            .collect();
        let spread = offs.iter().copied().fold(f64::MIN, f64::max)
            - offs.iter().copied().fold(f64::MAX, f64::min);
        verdict.require(offs.len() > 2, || {
            format!("{}: only {} boundaries", rendition.path, offs.len())
        });
        verdict.require(spread <= frame + 1e-6, || {
            format!(
                "{}: boundaries wander {spread} s, a frame is {frame} s: {offs:?}",
                rendition.path
            )
        });
    }
    verdict
}

/// ISO/IEC 23000-19 7.5.13: negative composition offsets, not edits.
pub(super) fn line_10_no_edit_lists(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    for (path, init) in evidence
        .recording
        .played()
        .flat_map(|rendition| &rendition.inits)
    {
        let edits = init
            .moov
            .trak
            .iter()
            .filter_map(|trak| trak.edts.as_ref()?.elst.as_ref())
            .flat_map(|elst| &elst.entries);
        let edits: Vec<_> = edits.collect();
        verdict.require(edits.is_empty(), || format!("{path}: edits {edits:?}"));
    }
    for (rendition, parts) in evidence.tracks(Kind::Video) {
        for (segment, samples) in segments(parts) {
            let Some(first) = samples.first() else {
                continue;
            };
            verdict.require(first.pts == first.dts, || {
                format!(
                    "{} segment {segment}: shown {} ticks after its decode time",
                    rendition.path,
                    first.pts - first.dts
                )
            });
        }
    }
    verdict
}

/// One name, one byte string, for ever.
pub(super) fn line_11_names_are_immutable(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let mut known = BTreeMap::new();
    for exchange in &evidence.recording.exchanges {
        let media = matches!(
            exchange.purpose,
            Purpose::Init | Purpose::Part | Purpose::Segment | Purpose::Hint
        );
        if media && exchange.ok() {
            let first = *known.entry(exchange.path()).or_insert(&exchange.body);
            verdict.require(*first == exchange.body, || {
                format!("{} had two contents", exchange.path())
            });
        }
    }
    verdict
}

/// Draft 6.2.1, Apple 8.15.
pub(super) fn line_12_discontinuities_are_everywhere_at_once(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let mut known: BTreeMap<u64, (bool, &str)> = BTreeMap::new();
    for rendition in evidence.recording.played() {
        // The first segment a rendition lists shows no discontinuity before it.
        for segment in rendition.timeline().skip(1) {
            let (first, path) = *known
                .entry(segment.number)
                .or_insert((segment.discontinuity, &rendition.path));
            verdict.require(first == segment.discontinuity, || {
                format!(
                    "segment {}: a discontinuity in {path} is {first}, in {} {}",
                    segment.number, rendition.path, segment.discontinuity
                )
            });
        }
        for pair in rendition.states.windows(2) {
            let (before, after) = (&pair[0].media, &pair[1].media);
            let sequences = |media: &Media| (media.sequence, media.discontinuity_sequence);
            let onward = before.sequence <= after.sequence
                && before.discontinuity_sequence <= after.discontinuity_sequence;
            verdict.require(onward, || {
                format!(
                    "{}: {:?} went back to {:?}",
                    rendition.path,
                    sequences(before),
                    sequences(after)
                )
            });
        }
    }
    verdict
}

/// Samples of each segment of which the first part was received.
pub(super) fn segments(parts: &[PartMedia]) -> BTreeMap<u64, Vec<&Sample>> {
    let whole: BTreeSet<u64> = parts
        .iter()
        .filter(|part| part.index == 0)
        .map(|part| part.segment)
        .collect();
    let mut segments: BTreeMap<u64, Vec<&Sample>> = BTreeMap::new();
    for part in parts.iter().filter(|part| whole.contains(&part.segment)) {
        segments
            .entry(part.segment)
            .or_default()
            .extend(part.samples());
    }
    segments
}

/// When each segment starts to be shown, in seconds.
pub(super) fn starts(rendition: &Rendition, parts: &[PartMedia]) -> BTreeMap<u64, f64> {
    let scale = scale_of(rendition);
    let first = |samples: Vec<&Sample>| samples.iter().map(|sample| sample.pts).min();
    segments(parts)
        .into_iter()
        .filter_map(|(segment, samples)| Some((segment, ticks(first(samples)?) / scale)))
        .collect()
}

pub(super) fn scale_of(rendition: &Rendition) -> f64 {
    rendition.inits.values().next().map_or(1.0, Init::timescale)
}

fn codec_of(rendition: &Rendition) -> Option<&Codec> {
    rendition.inits.values().next()?.codec()
}

/// Seconds of a frame of sound.
fn frame_seconds(rendition: &Rendition, parts: &[PartMedia]) -> f64 {
    let duration = parts
        .iter()
        .flat_map(PartMedia::samples)
        .map(|sample| sample.duration)
        .max();
    f64::from(duration.unwrap_or(0)) / scale_of(rendition)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "media times stay far below 2^53 ticks"
)]
pub(super) fn ticks(count: i64) -> f64 {
    count as f64
}
