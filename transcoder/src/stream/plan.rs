use bytes::Bytes;
use media::{Codec, Format, Name, Rational, Track, TrackId};

use crate::Ladder;
use crate::ladder::Planned;
use crate::ring::Source;

/// What goes out for a source.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The whole ladder, highest first.
    pub(super) rungs: Vec<Planned>,
    /// The top rung is the publisher's bitstream.
    pub(super) passed: bool,
    /// That rung, or the picture of a stream that is not transcoded.
    pub(super) picture: Option<Track>,
    pub(super) sound: SoundPlan,
    /// Pictures a second of the source, as far as known.
    pub(super) frame_rate: Option<Rational>,
    encoded: Vec<Planned>,
}

#[derive(Clone, Debug, Default)]
pub(super) enum SoundPlan {
    #[default]
    None,
    Passed(Track),
    Encoded,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            rungs: Vec::new(),
            passed: false,
            picture: None,
            sound: SoundPlan::None,
            frame_rate: None,
            encoded: Vec::new(),
        }
    }
}

impl Plan {
    pub(super) fn new(ladder: &Ladder, source: &Source, keep: &[Name], passed: bool) -> Self {
        let mut plan = Self {
            sound: sound(ladder, source),
            ..Self::default()
        };
        let Some(track) = &source.video else {
            return plan;
        };
        let Format::Video(video) = track.format else {
            return plan;
        };
        plan.frame_rate = video.frame_rate.filter(|rate| rate.num() > 0);
        if ladder.is_passthrough() {
            let name = format!("{}p", video.width.min(video.height));
            plan.picture = name.parse().ok().map(|name| Track {
                id: TrackId(0),
                name,
                bandwidth: None,
                ..track.clone()
            });
            plan.passed = plan.picture.is_some();
            return plan;
        }
        plan.rungs = ladder.plan(&video, keep);
        plan.encoded.clone_from(&plan.rungs);
        let short = u32::from(video.width.min(video.height));
        let own = plan
            .rungs
            .iter()
            .position(|rung| u32::from(rung.width.min(rung.height)) <= short * 21 / 20);
        if passed && let Some(index) = own {
            let rung = plan.encoded.remove(index);
            plan.picture = rung.name.parse().ok().map(|name| Track {
                id: rung.id(),
                name,
                bandwidth: None,
                ..track.clone()
            });
            plan.passed = plan.picture.is_some();
        }
        plan
    }

    /// The rungs that a worker makes.
    pub(super) fn encoded(&self) -> &[Planned] {
        &self.encoded
    }
}

/// AAC-LC in 48 kHz stereo goes on as it is, and so does everything where nothing is transcoded.
fn sound(ladder: &Ladder, source: &Source) -> SoundPlan {
    let Some(track) = &source.audio else {
        return SoundPlan::None;
    };
    let stands = match &track.codec {
        Codec::Aac(config) => {
            config.is_lc()
                && config.sample_rate() == 48_000
                && config.channels() == 2
                && config.samples_per_frame() == 1_024
        }
        _ => false,
    };
    if !stands && !ladder.is_passthrough() {
        return SoundPlan::Encoded;
    }
    let name = "audio".parse().expect("letters are a name");
    SoundPlan::Passed(Track {
        id: ladder.audio_track(),
        name,
        bandwidth: None,
        ..track.clone()
    })
}

/// One frame of silence in a codec that is passed through, where there is one that always decodes.
pub(super) fn silence(codec: &Codec) -> Option<Bytes> {
    match codec {
        // A raw_data_block with one channel pair element (or single channel element) without spectral data, and the
        // end (ISO/IEC 14496-3 4.4.2).
        Codec::Aac(config) if config.is_lc() && config.channels() == 2 => {
            Some(Bytes::from_static(&[0x21, 0x10, 0x04, 0x60, 0x8c, 0x1c]))
        }
        Codec::Aac(config) if config.is_lc() && config.channels() == 1 => {
            Some(Bytes::from_static(&[0x00, 0xc8, 0x00, 0x80, 0x23, 0x80]))
        }
        // A CELT frame of 20 ms without signal (RFC 6716 3.1).
        Codec::Opus(_) => Some(Bytes::from_static(&[0xf8, 0xff, 0xfe])),
        _ => None,
    }
}
