//! One CMAF chunk: `moof` and `mdat` (ISO/IEC 23000-19 7.3.2).

use bytes::{BufMut, Bytes, BytesMut};
use mp4_atom::{Encode, Mfhd, Moof, Tfdt, Tfhd, Traf, Trun, TrunEntry};

use crate::boxes::{NON_SYNC, SYNC, TRACK_ID};

/// One sample of a chunk.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) data: Bytes,
    /// Ticks to the next sample in decode order.
    pub(crate) duration: u32,
    /// Presentation time less decode time, in ticks.
    pub(crate) composition: i32,
    pub(crate) sync: bool,
}

impl Sample {
    const fn flags(&self) -> u32 {
        if self.sync { SYNC } else { NON_SYNC }
    }
}

/// A chunk's bytes.
#[derive(Debug)]
pub(crate) struct Fragment {
    pub(crate) data: Bytes,
    /// Where its first sample ends.
    pub(crate) first_sample_end: u32,
}

/// Writes the chunk that begins with decode time `tfdt`. `default_flags` are those of the track's `trex`.
///
/// The samples are copied: a part is then one allocation of its own size, and does not hold on to the buffers that its
/// samples came in. They are at most some tens of megabytes.
pub(crate) fn write(sequence: u32, tfdt: u64, samples: &[Sample], default_flags: u32) -> Fragment {
    let media: usize = samples.iter().map(|sample| sample.data.len()).sum();
    let size = |bytes: usize| u32::try_from(bytes).expect("parts are bounded far below 2 GiB");
    let mut moof = moof(sequence, tfdt, samples, default_flags);
    let mut header = Vec::new();
    // Written twice: where the samples lie depends on the length of what says so.
    for _ in 0..2 {
        let offset = size(header.len() + MDAT_HEADER);
        moof.traf[0].trun[0].data_offset = Some(offset.cast_signed());
        header.clear();
        moof.encode(&mut header)
            .expect("all values fit their fields");
    }

    let mut data = BytesMut::with_capacity(header.len() + MDAT_HEADER + media);
    data.put_slice(&header);
    data.put_u32(size(MDAT_HEADER + media));
    data.put_slice(b"mdat");
    for sample in samples {
        data.put_slice(&sample.data);
    }
    let first = samples.first().map_or(0, |sample| sample.data.len());
    Fragment {
        data: data.freeze(),
        first_sample_end: size(header.len() + MDAT_HEADER + first),
    }
}

const MDAT_HEADER: usize = 8;

fn moof(sequence: u32, tfdt: u64, samples: &[Sample], default_flags: u32) -> Moof {
    // What is the same in all samples is said once.
    let duration = samples.first().map_or(0, |sample| sample.duration);
    let same_duration = samples.iter().all(|sample| sample.duration == duration);
    let composed = samples.iter().any(|sample| sample.composition != 0);
    let later_differ = samples.iter().skip(1).any(|s| s.flags() != default_flags);
    let entries: Vec<TrunEntry> = samples
        .iter()
        .enumerate()
        .map(|(i, sample)| TrunEntry {
            duration: (!same_duration).then_some(sample.duration),
            size: Some(u32::try_from(sample.data.len()).unwrap_or(u32::MAX)),
            // Flags of the first alone become `first_sample_flags`.
            flags: (later_differ || (i == 0 && sample.flags() != default_flags))
                .then(|| sample.flags()),
            cts: composed.then(|| sample.composition.into()),
        })
        .collect();
    Moof {
        mfhd: Mfhd {
            sequence_number: sequence,
        },
        traf: vec![Traf {
            tfhd: Tfhd {
                track_id: TRACK_ID,
                default_sample_duration: same_duration.then_some(duration),
                default_base_is_moof: true,
                ..Tfhd::default()
            },
            tfdt: Some(Tfdt {
                base_media_decode_time: tfdt,
            }),
            trun: vec![Trun {
                data_offset: Some(0),
                samples: entries.into(),
            }],
            ..Traf::default()
        }],
    }
}
