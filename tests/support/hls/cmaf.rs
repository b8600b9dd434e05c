//! CMAF as a strict demultiplexer reads it.

use bytes::Bytes;
use mp4_atom::{Any, Codec, Decode as _, DecodeMaybe as _, Ftyp, Header, Moof, Moov};

/// An initialization segment.
#[derive(Clone, Debug)]
pub(crate) struct Init {
    /// Names of the boxes at the top, in order.
    pub(crate) boxes: Vec<String>,
    pub(crate) brands: Vec<String>,
    pub(crate) moov: Moov,
}

/// One `moof` with its `mdat`.
#[derive(Clone, Debug)]
pub(crate) struct Fragment {
    /// Names of the boxes at the top, `mdat` last.
    pub(crate) boxes: Vec<String>,
    pub(crate) moof: Moof,
    pub(crate) samples: Vec<Sample>,
    /// What is wrong with where the samples' bytes lie.
    pub(crate) misplaced: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Decode time in ticks.
    pub(crate) dts: i64,
    /// Presentation time in ticks.
    pub(crate) pts: i64,
    pub(crate) duration: u32,
    pub(crate) flags: u32,
    pub(crate) data: Bytes,
}

impl Sample {
    /// `sample_is_non_sync_sample` is not set.
    pub(crate) const fn is_sync(&self) -> bool {
        self.flags & 0x1_0000 == 0
    }

    /// `sample_depends_on`.
    pub(crate) const fn depends_on(&self) -> u32 {
        self.flags >> 24 & 3
    }
}

impl Init {
    pub(crate) fn parse(bytes: &Bytes) -> Result<Self, String> {
        let (mut boxes, mut brands, mut moov) = (Vec::new(), Vec::new(), None);
        for (name, whole) in top_level(bytes)? {
            match name.as_str() {
                "ftyp" => {
                    let ftyp =
                        Ftyp::decode(&mut &whole[..]).map_err(|error| format!("ftyp: {error}"))?;
                    brands = ftyp
                        .compatible_brands
                        .iter()
                        .chain([&ftyp.major_brand])
                        .map(ToString::to_string)
                        .collect();
                }
                "moov" => {
                    moov = Some(
                        Moov::decode(&mut &whole[..]).map_err(|error| format!("moov: {error}"))?,
                    )
                }
                _ => {}
            }
            boxes.push(name);
        }
        Ok(Self {
            boxes,
            brands,
            moov: moov.ok_or("no moov")?,
        })
    }

    /// Ticks a second of its first track.
    pub(crate) fn timescale(&self) -> f64 {
        self.moov
            .trak
            .first()
            .map_or(1.0, |trak| f64::from(trak.mdia.mdhd.timescale))
    }

    /// The one sample entry of its first track.
    pub(crate) fn codec(&self) -> Option<&Codec> {
        self.moov.trak.first()?.mdia.minf.stbl.stsd.codecs.first()
    }

    /// The codec as RFC 6381 writes it, from the configuration record itself.
    pub(crate) fn rfc6381(&self) -> String {
        match self.codec() {
            Some(Codec::Avc1(entry)) => {
                let avcc = &entry.avcc;
                format!(
                    "avc1.{:02x}{:02x}{:02x}",
                    avcc.avc_profile_indication,
                    avcc.profile_compatibility,
                    avcc.avc_level_indication
                )
            }
            Some(Codec::Mp4a(entry)) => {
                let config = &entry.esds.es_desc.dec_config;
                let object = config
                    .dec_specific
                    .as_ref()
                    .map_or(0, |specific| specific.profile);
                format!("mp4a.{:x}.{object}", config.object_type_indication)
            }
            Some(Codec::Opus(_)) => "opus".to_owned(),
            Some(Codec::Hvc1(_)) => "hvc1".to_owned(),
            Some(Codec::Av01(_)) => "av01".to_owned(),
            other => format!("{other:?}"),
        }
    }

    /// Width and height of the sample entry.
    pub(crate) fn size(&self) -> Option<(u64, u64)> {
        let visual = match self.codec()? {
            Codec::Avc1(entry) => &entry.visual,
            Codec::Hvc1(entry) => &entry.visual,
            Codec::Av01(entry) => &entry.visual,
            _ => return None,
        };
        Some((visual.width.into(), visual.height.into()))
    }
}

impl Fragment {
    /// The fragments of a part or a segment, under their init.
    pub(crate) fn parse_all(init: &Init, bytes: &Bytes) -> Result<Vec<Self>, String> {
        let mut fragments = Vec::new();
        let mut boxes = Vec::new();
        let mut moof = None;
        let mut at = 0;
        for (name, whole) in top_level(bytes)? {
            boxes.push(name.clone());
            match name.as_str() {
                "moof" => {
                    let parsed =
                        Moof::decode(&mut &whole[..]).map_err(|error| format!("moof: {error}"))?;
                    moof = Some((at, parsed));
                }
                "mdat" => {
                    let (start, moof) = moof.take().ok_or("mdat without moof")?;
                    let here = bytes.slice(start..at + whole.len());
                    fragments.push(Self::new(
                        init,
                        std::mem::take(&mut boxes),
                        moof,
                        &here,
                        at - start,
                    )?);
                }
                _ => {}
            }
            at += whole.len();
        }
        if !boxes.is_empty() {
            return Err(format!("boxes {boxes:?} behind the last mdat"));
        }
        Ok(fragments)
    }

    /// `bytes` are the `moof` and the `mdat`, which begins at `mdat`.
    fn new(
        init: &Init,
        boxes: Vec<String>,
        moof: Moof,
        bytes: &Bytes,
        mdat: usize,
    ) -> Result<Self, String> {
        let traf = moof.traf.first().ok_or("moof without traf")?;
        let defaults = init.moov.mvex.as_ref().and_then(|mvex| mvex.trex.first());
        let trex = |field: fn(&mp4_atom::Trex) -> u32| defaults.map(field);
        let tfdt = traf.tfdt.as_ref().ok_or("traf without tfdt")?;
        let mut dts =
            i64::try_from(tfdt.base_media_decode_time).map_err(|error| error.to_string())?;
        let mut samples = Vec::new();
        let mut misplaced = None;
        let mut expected = mdat + 8;
        for trun in &traf.trun {
            let mut at = usize::try_from(trun.data_offset.unwrap_or_default()).unwrap_or_default();
            if at != expected {
                misplaced = Some(format!("samples at {at} of the moof, not at {expected}"));
            }
            for entry in trun.samples.iter() {
                let inherit = |own: Option<u32>, track: Option<u32>, all: Option<u32>| {
                    own.or(track).or(all).unwrap_or(0)
                };
                let duration = inherit(
                    entry.duration,
                    traf.tfhd.default_sample_duration,
                    trex(|trex| trex.default_sample_duration),
                );
                let size = inherit(
                    entry.size,
                    traf.tfhd.default_sample_size,
                    trex(|trex| trex.default_sample_size),
                );
                let flags = inherit(
                    entry.flags,
                    traf.tfhd.default_sample_flags,
                    trex(|trex| trex.default_sample_flags),
                );
                let end = at + size as usize;
                if end > bytes.len() {
                    return Err(format!(
                        "a sample ends {} bytes behind its mdat",
                        end - bytes.len()
                    ));
                }
                let pts = dts + i64::from(entry.cts.unwrap_or(0));
                samples.push(Sample {
                    dts,
                    pts,
                    duration,
                    flags,
                    data: bytes.slice(at..end),
                });
                dts += i64::from(duration);
                at = end;
            }
            expected = at;
        }
        if expected != bytes.len() {
            misplaced = Some(format!(
                "{} bytes of the mdat belong to no sample",
                bytes.len() - expected
            ));
        }
        Ok(Self {
            boxes,
            moof,
            samples,
            misplaced,
        })
    }
}

/// Name and whole bytes of each box at the top.
fn top_level(bytes: &Bytes) -> Result<Vec<(String, Bytes)>, String> {
    let mut boxes = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let mut rest = &bytes[at..];
        let header = Header::decode_maybe(&mut rest)
            .ok()
            .flatten()
            .ok_or("a box without a header")?;
        let body = header.size.ok_or("a box without a size")?;
        let start = bytes.len() - rest.len();
        if body > rest.len() {
            return Err(format!("box {} is cut", header.kind));
        }
        boxes.push((header.kind.to_string(), bytes.slice(at..start + body)));
        at = start + body;
    }
    Ok(boxes)
}

/// The types of the NAL units of a sample, for the codecs that have them.
pub(crate) fn nal_types(codec: Option<&Codec>, data: &[u8]) -> Vec<u8> {
    let hevc = match codec {
        Some(Codec::Avc1(_)) => false,
        Some(Codec::Hvc1(_)) => true,
        _ => return Vec::new(),
    };
    let mut types = Vec::new();
    let mut rest = data;
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = u32::from_be_bytes(*length) as usize;
        let Some(first) = after.first().filter(|_| length <= after.len()) else {
            break;
        };
        types.push(if hevc {
            first >> 1 & 0x3f
        } else {
            first & 0x1f
        });
        rest = &after[length..];
    }
    types
}

/// Whether decoding can start at this sample, by its own bytes; `None` when the codec has no NAL units.
pub(crate) fn is_idr(codec: Option<&Codec>, data: &[u8]) -> Option<bool> {
    let types = nal_types(codec, data);
    match codec? {
        Codec::Avc1(_) => Some(types.contains(&5)),
        Codec::Hvc1(_) => Some(types.iter().any(|kind| matches!(kind, 19 | 20))),
        _ => None,
    }
}

/// Whether a sample carries parameter sets.
pub(crate) fn has_parameter_sets(codec: Option<&Codec>, data: &[u8]) -> bool {
    let types = nal_types(codec, data);
    match codec {
        Some(Codec::Avc1(_)) => types.iter().any(|kind| matches!(kind, 7 | 8)),
        Some(Codec::Hvc1(_)) => types.iter().any(|kind| matches!(kind, 32..=34)),
        _ => false,
    }
}

#[test]
fn a_fragmented_file_of_ffmpeg_is_read() {
    use crate::support::ledger::{Picture, Source};
    let more = &["-movflags", "+cmaf+empty_moov"];
    let source = Source {
        more,
        sound: &[],
        ..Source::new(Picture::new(320, 180, 30), 2)
    };
    let file = Bytes::from(std::fs::read(source.file("mp4")).unwrap());
    let boxes = top_level(&file).unwrap();
    assert_eq!(
        Any::decode(&mut &boxes[0].1[..])
            .unwrap()
            .kind()
            .to_string(),
        "ftyp"
    );
    let head: usize = boxes.iter().take(2).map(|(_, whole)| whole.len()).sum();
    let init = Init::parse(&file.slice(..head)).unwrap();
    assert!(init.rfc6381().starts_with("avc1."));
    assert_eq!(init.size(), Some((320, 180)));
    let tail = file.slice(
        head..file.len()
            - boxes
                .last()
                .filter(|(name, _)| name == "mfra")
                .map_or(0, |(_, whole)| whole.len()),
    );
    let fragments = Fragment::parse_all(&init, &tail).unwrap();
    let samples: Vec<_> = fragments
        .iter()
        .flat_map(|fragment| &fragment.samples)
        .collect();
    assert_eq!(samples.len(), 60);
    let keys = samples
        .iter()
        .filter(|sample| is_idr(init.codec(), &sample.data) == Some(true))
        .count();
    assert_eq!(
        (
            keys,
            samples.iter().filter(|sample| sample.is_sync()).count()
        ),
        (2, 2)
    );
    assert!(
        samples
            .windows(2)
            .all(|pair| pair[0].dts + i64::from(pair[0].duration) == pair[1].dts)
    );
    let cut = Fragment::parse_all(&init, &tail.slice(..tail.len() - 1));
    assert!(cut.is_err());
}
