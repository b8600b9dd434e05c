//! FLV and E-RTMP tags: whatever is in them, the events keep their order.
//!
//! Each tag is one byte of kind (modulo 3: audio, video, data), two of milliseconds since the one before, two of
//! length, and its body.
#![no_main]

use std::collections::HashMap;
use std::time::Duration;

use bytes::{Buf, Bytes};
use ingest::flv::Demuxer;
use libfuzzer_sys::fuzz_target;
use media::{Event, Format, Tracks};

#[derive(Default)]
struct Order {
    tracks: Option<Tracks>,
    last: HashMap<media::TrackId, media::Timestamp>,
    fresh: bool,
    ended: bool,
}

impl Order {
    fn check(&mut self, event: &Event) {
        assert!(!self.ended, "nothing after the end");
        match event {
            Event::Tracks(tracks) => {
                assert!((1..=2).contains(&tracks.len()));
                let of = |tracks: &Tracks| {
                    tracks.iter().find(|track| matches!(track.format, Format::Video(_))).map(|track| track.codec.clone())
                };
                let before = self.tracks.replace(tracks.clone());
                self.fresh |= before.is_none_or(|before| of(&before) != of(tracks));
            }
            Event::Unit(unit) => {
                let tracks = self.tracks.as_ref().expect("tracks before units");
                let track = tracks.iter().find(|track| track.id == unit.track).expect("a track that was announced");
                assert_eq!(track.timescale, unit.dts.scale());
                assert_eq!(track.timescale, unit.pts.scale());
                assert!(!unit.data.is_empty());
                if matches!(track.format, Format::Video(_)) {
                    assert!(unit.keyframe || !self.fresh, "a new picture starts with a keyframe");
                    self.fresh = false;
                }
                if let Some(last) = self.last.insert(unit.track, unit.dts) {
                    assert!(last < unit.dts, "{last:?} before {:?}", unit.dts);
                }
            }
            Event::Gap(_) => {}
            Event::Segment(_) => panic!("only the segmenter cuts"),
            Event::End => self.ended = true,
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let mut rest = Bytes::copy_from_slice(data);
    let mut demuxer = Demuxer::new(120);
    let mut order = Order::default();
    let mut timestamp = u32::MAX - 1000;
    let mut arrival = Duration::ZERO;
    while rest.len() >= 5 {
        let kind = rest.get_u8();
        let step = rest.get_u16();
        timestamp = timestamp.wrapping_add(step.into());
        arrival += Duration::from_millis(step.into());
        let length = usize::from(rest.get_u16()).min(rest.len());
        let body = rest.split_to(length);
        let taken = match kind % 3 {
            0 => demuxer.audio(timestamp, body, arrival),
            1 => demuxer.video(timestamp, body, arrival),
            _ => {
                demuxer.data(&body);
                Ok(())
            }
        };
        while let Some(event) = demuxer.poll() {
            order.check(&event);
        }
        if taken.is_err() {
            break;
        }
    }
    demuxer.end();
    while let Some(event) = demuxer.poll() {
        order.check(&event);
    }
    assert!(order.ended);
});
