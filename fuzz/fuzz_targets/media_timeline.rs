//! Any times in any order on three tracks: output times rise, nothing is negative, and no unit moves the output by
//! more than the steps it was allowed.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use media::timeline::{Source, Timeline, Verdict, Wrap};
use media::{Timescale, TrackId};

fn source(kind: u8) -> Source {
    let rate = |hz| Timescale::new(hz).expect("not zero");
    let (scale, output, frame) = match kind & 3 {
        0 => (Timescale::MILLIS, Timescale::VIDEO, None),
        1 => (Timescale::MILLIS, rate(48_000), Some(1024)),
        2 => (Timescale::VIDEO, rate(44_100), Some(2048)),
        _ => (rate(44_056), rate(44_056), Some(1)),
    };
    let wrap = match kind >> 2 & 3 {
        0 => Wrap::Rtmp,
        1 => Wrap::Bits(33),
        2 => Wrap::Bits(kind >> 4),
        _ => Wrap::None,
    };
    Source {
        scale,
        wrap,
        output,
        frame,
    }
}

fuzz_target!(|data: &[u8]| {
    let mut timeline = Timeline::new();
    let mut last = [None; 3];
    let mut at = [0_i64; 3];
    let mut arrival = Duration::ZERO;
    let mut gaps = 0;
    for step in data.chunks_exact(6) {
        let (op, id) = (step[0] >> 4, usize::from(step[0] & 3).min(2));
        let value = i32::from_be_bytes([step[1], step[2], step[3], step[4]]);
        let track = TrackId(u8::try_from(id).expect("0 to 2"));
        // Steps near each other, far from each other, and anywhere.
        at[id] = match op {
            0 => {
                timeline.track(track, source(step[1]));
                continue;
            }
            1..=7 => at[id].wrapping_add(i64::from(value >> 20)),
            8..=11 => at[id].wrapping_add(i64::from(value)),
            12 => at[usize::from(step[1]) % 3],
            _ => i64::from(value) << (step[5] & 31),
        };
        let composition = if op == 13 {
            value
        } else {
            i32::from(step[5].cast_signed()) * 10
        };
        arrival += Duration::from_millis(step[5].into());
        let Verdict::Unit { dts, pts, gap, .. } =
            timeline.push(track, at[id], composition, arrival)
        else {
            continue;
        };
        gaps += u64::from(gap.is_some());
        assert!(dts.ticks() >= 0 && pts.ticks() >= 0);
        assert_eq!(dts.scale(), pts.scale());
        if let Some(last) = last[id].replace(dts) {
            assert!(dts > last, "{last:?} then {dts:?}");
        }
        let distance = pts.since(dts).or(dts.since(pts)).expect("one of them");
        assert!(distance <= Duration::from_secs(10));
    }
    let counted: u64 = timeline
        .repairs()
        .iter()
        .filter(|(kind, _)| ["jump_forward", "jump_back", "reset"].contains(&kind.as_str()))
        .map(|(_, count)| count)
        .sum();
    assert_eq!(gaps, counted);
    let _ = timeline.drift().map(|drift| drift.as_str());
});
