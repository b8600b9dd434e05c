//! Lines 13 to 17: the multivariant playlist.

use std::collections::BTreeMap;

use super::media::ticks;
use super::{Evidence, Verdict};
use crate::support::hls::{Kind, Rendition, resolve};

/// Draft 4.4.6.2, Apple 1.29 and 9.14. Peaks are those of whole segments.
pub(super) fn line_13_bandwidth_is_true(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let Some(playlist) = verdict.some(evidence.recording.multivariant(), "a multivariant playlist")
    else {
        return verdict;
    };
    let sounds: Vec<_> = evidence
        .recording
        .of_kind(Kind::Sound)
        .map(|rendition| rates(evidence, rendition))
        .collect();
    for variant in &playlist.variants {
        let Some(rendition) = rendition(evidence, &variant.uri) else {
            continue;
        };
        let own = rates(evidence, rendition);
        let with_sound = own.iter().map(|(segment, (bits, seconds))| {
            let sound = sounds
                .iter()
                .filter_map(|sound| sound.get(segment))
                .map(|(bits, _)| *bits)
                .fold(0.0, f64::max);
            ((bits + sound) / seconds, bits + sound, *seconds)
        });
        let with_sound: Vec<_> = with_sound.collect();
        let peak = with_sound
            .iter()
            .map(|(rate, _, _)| *rate)
            .fold(0.0, f64::max);
        let average = with_sound.iter().map(|(_, bits, _)| bits).sum::<f64>()
            / with_sound
                .iter()
                .map(|(_, _, seconds)| seconds)
                .sum::<f64>();
        let declared = ticks(i64::try_from(variant.bandwidth).unwrap_or(i64::MAX));
        verdict.require(peak > 0.0 && peak <= declared, || {
            format!("{}: BANDWIDTH {declared}, measured {peak:.0}", variant.uri)
        });
        let Some(said) = verdict.some(variant.average, "AVERAGE-BANDWIDTH") else {
            continue;
        };
        let said = ticks(i64::try_from(said).unwrap_or(i64::MAX));
        verdict.require(said <= declared && average <= said * 1.1, || {
            format!(
                "{}: AVERAGE-BANDWIDTH {said}, measured {average:.0}",
                variant.uri
            )
        });
    }
    verdict
}

/// Draft 6.2.4, Apple 9.1.
pub(super) fn line_14_codecs_are_read_from_the_init(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let Some(playlist) = verdict.some(evidence.recording.multivariant(), "a multivariant playlist")
    else {
        return verdict;
    };
    let codec = |rendition: &Rendition| {
        rendition
            .inits
            .values()
            .last()
            .map(|init| init.rfc6381().to_lowercase())
    };
    let sound = evidence.recording.of_kind(Kind::Sound).find_map(codec);
    for variant in &playlist.variants {
        let Some(rendition) = rendition(evidence, &variant.uri) else {
            continue;
        };
        let mut real: Vec<String> = codec(rendition).into_iter().collect();
        real.extend(variant.audio.as_ref().and(sound.clone()));
        let said: Vec<String> = variant
            .codecs
            .iter()
            .map(|codec| codec.to_lowercase())
            .collect();
        // The whole strings of HEVC and AV1 are the media crate's own tests' business; here their sample entry counts.
        let matches = |real: &String| {
            said.iter().any(|said| {
                said == real || (!real.contains('.') && said.starts_with(real.as_str()))
            })
        };
        verdict.require(said.len() == real.len() && real.iter().all(matches), || {
            format!("{}: CODECS {said:?}, really {real:?}", variant.uri)
        });
    }
    verdict
}

/// Apple 9.2, 9.15 and 9.16.
pub(super) fn line_15_variants_are_described(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let Some(playlist) = verdict.some(evidence.recording.multivariant(), "a multivariant playlist")
    else {
        return verdict;
    };
    for variant in &playlist.variants {
        let Some(rendition) =
            rendition(evidence, &variant.uri).filter(|rendition| rendition.kind == Kind::Video)
        else {
            continue;
        };
        let size = rendition
            .inits
            .values()
            .last()
            .and_then(super::super::hls::Init::size);
        verdict.require(
            variant.resolution.is_some() && variant.resolution == size,
            || {
                format!(
                    "{}: RESOLUTION {:?}, really {size:?}",
                    variant.uri, variant.resolution
                )
            },
        );
        let attribute = |name: &str| {
            variant
                .line
                .split_once(name)
                .map(|(_, rest)| rest.split(',').next().unwrap_or_default())
        };
        let said = attribute("FRAME-RATE=").unwrap_or_default();
        verdict.require(
            said.split_once('.')
                .is_some_and(|(_, decimals)| decimals.len() == 3),
            || format!("{}: FRAME-RATE={said}", variant.uri),
        );
        let durations: Vec<u32> = evidence
            .parts(rendition)
            .iter()
            .flat_map(super::PartMedia::samples)
            .map(|sample| sample.duration)
            .collect();
        let seconds = durations
            .iter()
            .map(|duration| f64::from(*duration))
            .sum::<f64>()
            / super::media::scale_of(rendition);
        let measured = ticks(i64::try_from(durations.len()).unwrap_or(0)) / seconds;
        let close = variant
            .frame_rate
            .is_some_and(|rate| (rate - measured).abs() / measured < 0.02);
        verdict.require(close, || {
            format!(
                "{}: FRAME-RATE {:?}, measured {measured:.3}",
                variant.uri, variant.frame_rate
            )
        });
        verdict.require(variant.line.contains("CLOSED-CAPTIONS=NONE"), || {
            format!("{}: no CLOSED-CAPTIONS=NONE", variant.uri)
        });
        let range = attribute("VIDEO-RANGE=");
        verdict.require(matches!(range, None | Some("SDR")), || {
            format!("{}: VIDEO-RANGE {range:?}", variant.uri)
        });
    }
    verdict
}

/// Apple 9.11 and 8.10.
pub(super) fn line_16_independent_segments_and_sound_attributes(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let Some(playlist) = verdict.some(evidence.recording.multivariant(), "a multivariant playlist")
    else {
        return verdict;
    };
    verdict.require(playlist.independent_segments, || {
        "no EXT-X-INDEPENDENT-SEGMENTS".to_owned()
    });
    for sound in &playlist.sounds {
        for attribute in [
            "TYPE=AUDIO",
            "NAME=",
            "LANGUAGE=",
            "CHANNELS=",
            "DEFAULT=YES",
            "AUTOSELECT=YES",
            "URI=",
        ] {
            verdict.require(sound.line.contains(attribute), || {
                format!("{attribute} is missing in {}", sound.line)
            });
        }
        let used = playlist
            .variants
            .iter()
            .any(|variant| variant.audio.as_deref() == Some(&sound.group));
        verdict.require(used, || format!("no variant uses group {}", sound.group));
    }
    let grouped = playlist.variants.iter().all(|variant| {
        variant
            .audio
            .as_ref()
            .is_none_or(|group| playlist.sounds.iter().any(|sound| sound.group == *group))
    });
    verdict.require(grouped, || "a variant names an unknown group".to_owned());
    verdict
}

/// Apple 6.1, 9.9 and 1.33.
pub(super) fn line_17_i_frames_and_a_ladder(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let Some(playlist) = verdict.some(evidence.recording.multivariant(), "a multivariant playlist")
    else {
        return verdict;
    };
    let mut rates: Vec<u64> = playlist
        .variants
        .iter()
        .map(|variant| variant.bandwidth)
        .collect();
    rates.sort_unstable();
    verdict.require(rates.len() > 1, || format!("rates {rates:?}"));
    let steps = rates
        .windows(2)
        .all(|pair| (13..=30).contains(&(10 * pair[1] / pair[0])));
    verdict.require(steps, || format!("steps between {rates:?}"));
    let aspect = |(width, height): (u64, u64)| {
        ticks(i64::try_from(width).unwrap_or(0)) / ticks(i64::try_from(height).unwrap_or(1))
    };
    let aspects: Vec<f64> = playlist
        .variants
        .iter()
        .filter_map(|variant| variant.resolution)
        .map(aspect)
        .collect();
    verdict.require(
        aspects
            .iter()
            .all(|one| (one / aspects[0] - 1.0).abs() < 0.02),
        || format!("aspect ratios {aspects:?}"),
    );
    verdict.require(!playlist.i_frames.is_empty(), || {
        "no EXT-X-I-FRAME-STREAM-INF".to_owned()
    });
    for rendition in evidence.recording.of_kind(Kind::IFrames) {
        let Some(media) = verdict.some(rendition.last(), "an I-frame playlist") else {
            continue;
        };
        verdict.require(media.i_frames_only, || {
            format!("{}: no EXT-X-I-FRAMES-ONLY", rendition.path)
        });
        let mut looked_into = 0;
        for segment in media.segments.iter().filter(|segment| !segment.gap) {
            let uri = segment.uri.as_deref().unwrap_or_default();
            let Some((length, offset)) = verdict.some(segment.byterange, "EXT-X-BYTERANGE") else {
                continue;
            };
            let Some(bytes) = evidence.recording.object(&resolve(&rendition.path, uri)) else {
                continue;
            };
            let start = usize::try_from(offset.unwrap_or(0)).unwrap_or(usize::MAX);
            let end = start.saturating_add(usize::try_from(length).unwrap_or(usize::MAX));
            let Some(piece) = verdict.some(bytes.get(start..end), "the range of an I-frame") else {
                continue;
            };
            // The picture itself: the range may end before the mdat does, but not within the first sample.
            let whole = piece.windows(4).any(|window| window == b"mdat")
                && piece.get(4..8) == Some(b"moof");
            verdict.require(whole, || {
                format!("{uri}: bytes {start}..{end} are no chunk's beginning")
            });
            looked_into += 1;
        }
        verdict.require(looked_into > 0, || {
            format!("{}: no range could be compared", rendition.path)
        });
    }
    verdict
}

fn rendition<'a>(evidence: &'a Evidence, uri: &str) -> Option<&'a Rendition> {
    let (index, _) = evidence.recording.multivariants.last()?;
    evidence
        .recording
        .renditions
        .get(&resolve(evidence.recording.exchanges[*index].path(), uri))
}

/// Bits and seconds of each whole segment that was received.
fn rates(evidence: &Evidence, rendition: &Rendition) -> BTreeMap<u64, (f64, f64)> {
    let segments = rendition
        .timeline()
        .filter(|segment| !segment.gap && segment.duration > 0.5);
    let sized = segments.filter_map(|segment| {
        let bytes = evidence
            .recording
            .object(&resolve(&rendition.path, segment.uri.as_deref()?))?;
        let bits = 8 * i64::try_from(bytes.len()).ok()?;
        Some((segment.number, (ticks(bits), segment.duration)))
    });
    sized.collect()
}
