use bytes::Bytes;
use media::bitstream::h264;
use media::{Bandwidth, Format, Timescale, TrackId};

use super::*;
use crate::Ladder;
use crate::fixtures;

const SEGMENT: Duration = Duration::from_secs(2);
const PART: Duration = Duration::from_millis(250);

fn judge(config: h264::Config, change: impl Fn(&mut Video)) -> Result<Judge, Reason> {
    let mut video = config.video();
    change(&mut video);
    declared(config, video, None)
}

/// The verdict on a configuration whose publisher says its bit rate.
fn declared(config: h264::Config, video: Video, average_bps: Option<u32>) -> Result<Judge, Reason> {
    let top = Ladder::default().plan(&video, &[]).remove(0);
    let track = Track {
        id: TrackId(0),
        name: "video".parse().expect("a name"),
        codec: Codec::H264(config),
        format: Format::Video(video),
        timescale: Timescale::VIDEO,
        bandwidth: average_bps.map(|average_bps| Bandwidth {
            average_bps,
            peak_bps: average_bps,
        }),
    };
    Judge::new(&track, &video, &top, SEGMENT, PART)
}

fn picture(pts: i64, dts: i64, keyframe: bool, bytes: usize) -> AccessUnit {
    let at = |millis: i64| Timestamp::new(millis * 90, Timescale::VIDEO);
    let data = Bytes::from(vec![0; bytes]);
    AccessUnit {
        track: TrackId(0),
        dts: at(dts),
        pts: at(pts),
        duration: 0,
        keyframe,
        data,
    }
}

/// The verdict on `count` pictures, one each `step` milliseconds, a keyframe each `group`.
fn verdict(count: i64, step: i64, group: i64, bytes: usize) -> Result<(), Reason> {
    let mut judge = judge(fixtures::h264(720), |_| {})?;
    for n in 0..count {
        judge.watch(&picture(n * step, n * step, n % group == 0, bytes))?;
    }
    Ok(())
}

#[test]
fn the_configuration_alone_can_refuse() {
    let refuse = |change: &dyn Fn(&mut Video)| judge(fixtures::h264(720), change).err();
    assert_eq!(refuse(&|_| {}), None);
    assert_eq!(
        refuse(&|video| video.sample_aspect = Rational::new(4, 3).expect("not zero")),
        Some(Reason::Aspect)
    );
    assert_eq!(
        refuse(&|video| video.frame_rate = Rational::new(120, 1)),
        Some(Reason::FrameRate)
    );
    assert_eq!(
        refuse(&|video| video.frame_rate = Rational::new(60, 1)),
        None
    );
    assert_eq!(
        refuse(&|video| (video.width, video.height) = (3840, 2160)),
        Some(Reason::Size)
    );
    assert_eq!(
        refuse(&|video| video.frame_rate = Rational::new(3, 1)),
        Some(Reason::Pause)
    );
    let says = |bps| declared(fixtures::h264(720), fixtures::h264(720).video(), Some(bps)).err();
    assert_eq!(says(3_000_000), None);
    assert_eq!(says(3_100_000), Some(Reason::BitRate));
}

#[test]
fn what_breaks_it() {
    assert_eq!(verdict(75, 33, 1_000, 4_000), Err(Reason::Group));
    // 4 Mbit/s are more than 2.5 times 1.2 Mbit/s.
    assert_eq!(verdict(181, 33, 60, 16_500), Err(Reason::BitRate));
    // Much more is too much at once, a little more than 2.5 times in the long run only.
    assert_eq!(verdict(61, 33, 60, 19_000), Err(Reason::BitRate));
    assert_eq!(verdict(61, 33, 60, 13_500), Ok(()));
    assert_eq!(verdict(301, 33, 60, 13_500), Err(Reason::BitRate));
    assert_eq!(verdict(61, 33, 60, 12_000), Ok(()));
    assert_eq!(verdict(300, 10, 100, 1_000), Err(Reason::FrameRate));
    assert_eq!(verdict(10, 300, 3, 1_000), Err(Reason::Pause));
}

#[test]
fn a_gap_is_no_pause_and_an_open_group_is_told() {
    let mut judge = judge(fixtures::h264(720), |_| {}).expect("allowed");
    for n in 0..100 {
        assert_eq!(
            judge.watch(&picture(n * 33, n * 33, n % 30 == 0, 4_000)),
            Ok(())
        );
    }
    // After a gap, time may have passed.
    judge.forget();
    assert_eq!(judge.watch(&picture(9_000, 9_000, true, 4_000)), Ok(()));
    // A picture after the keyframe in decode order and before it in presentation.
    assert_eq!(
        judge.watch(&picture(8_990, 9_033, false, 4_000)),
        Err(Reason::Open)
    );
}

#[test]
fn a_picture_made_up_is_a_pause() {
    let mut judge = judge(fixtures::h264(720), |_| {}).expect("allowed");
    assert_eq!(judge.watch(&picture(0, 0, false, 0)), Err(Reason::Pause));
}
