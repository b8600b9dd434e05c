use bytes::Bytes;
use media::bitstream::h264;
use media::{Timescale, TrackId};

use super::*;
use crate::Ladder;
use crate::fixtures;

const SEGMENT: Duration = Duration::from_secs(2);
const PART: Duration = Duration::from_millis(250);

fn judge(config: h264::Config, change: impl Fn(&mut Video)) -> Result<Judge, Reason> {
    let mut video = config.video();
    change(&mut video);
    let top = Ladder::default().plan(&video, &[]).remove(0);
    Judge::new(&Codec::H264(config), &video, &top, SEGMENT, PART)
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
fn verdict(count: i64, step: i64, group: i64, bytes: usize) -> Result<bool, Reason> {
    let mut judge = judge(fixtures::h264(720), |_| {})?;
    for n in 0..count {
        judge.watch(&picture(n * step, n * step, n % group == 0, bytes))?;
    }
    Ok(judge.is_decided())
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
}

#[test]
fn one_whole_group_decides() {
    assert_eq!(verdict(60, 33, 60, 4_000), Ok(false));
    assert_eq!(verdict(61, 33, 60, 4_000), Ok(true));
    assert_eq!(verdict(1_000, 33, 60, 4_000), Ok(true));
}

#[test]
fn what_breaks_it() {
    assert_eq!(verdict(75, 33, 1_000, 4_000), Err(Reason::Group));
    // 4 Mbit/s are more than 2.5 times 1.2 Mbit/s.
    assert_eq!(verdict(61, 33, 60, 16_500), Err(Reason::BitRate));
    // A little more than 2.5 times is too much in the long run only.
    assert_eq!(verdict(61, 33, 60, 13_500), Ok(true));
    assert_eq!(verdict(301, 33, 60, 13_500), Err(Reason::BitRate));
    assert_eq!(verdict(61, 33, 60, 12_000), Ok(true));
    assert_eq!(verdict(300, 10, 100, 1_000), Err(Reason::FrameRate));
    assert_eq!(verdict(10, 300, 3, 1_000), Err(Reason::Pause));
}

#[test]
fn it_is_watched_after_the_verdict() {
    let mut judge = judge(fixtures::h264(720), |_| {}).expect("allowed");
    for n in 0..100 {
        assert_eq!(
            judge.watch(&picture(n * 33, n * 33, n % 30 == 0, 4_000)),
            Ok(())
        );
    }
    assert!(judge.is_decided());
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
