//! Encoders as people run them, sending a clip that was encoded before: the machine's time is the server's.

use std::path::Path;
use std::process::Command;

use crate::support::program::quiet_ffmpeg;
use crate::support::tools;

/// Debian's ffmpeg sends the clip in real time; `more` stands before the URL.
pub(crate) fn ffmpeg_copy(clip: &Path, more: &[&str], url: &str) -> Command {
    copy("ffmpeg".as_ref(), clip, more, url)
}

/// The same by ffmpeg 9, which knows enhanced RTMP.
pub(crate) fn ffmpeg9_copy(clip: &Path, more: &[&str], url: &str) -> Command {
    copy(&tools::ffmpeg9(), clip, more, url)
}

fn copy(program: &Path, clip: &Path, more: &[&str], url: &str) -> Command {
    let mut command = quiet_ffmpeg(program);
    command
        .arg("-re")
        .arg("-i")
        .arg(clip)
        .args(["-c", "copy", "-f", "flv"])
        .args(more)
        .arg(url);
    command
}

/// GStreamer's `rtmp2sink` sends the H.264 and AAC of an MP4 clip in real time.
pub(crate) fn gstreamer(clip: &Path, url: &str) -> Command {
    let mut command = Command::new("gst-launch-1.0");
    command
        .arg("-q")
        .arg("filesrc")
        .arg(format!("location={}", clip.display()));
    // The sink keeps the time: a muxer that is fed in real time makes up timestamps when the machine is busy.
    command
        .args("! qtdemux name=in flvmux name=out streamable=true ! rtmp2sink sync=true".split(' '));
    command.arg(format!("location={url}"));
    command.args("in.video_0 ! queue ! h264parse ! out.".split(' '));
    command.args("in.audio_0 ! queue ! aacparse ! out.".split(' '));
    command
}
