//! Playlists as they stand in `fixtures/packager`. `UPDATE_GOLDEN=1 cargo test -p packager golden` writes them anew; the
//! difference is for the reviewer to read.

use std::path::Path;
use std::time::Duration;

use media::{Bandwidth, Event, Track};
use packager::{Bounds, Delta, Packager, Window};

use crate::stream::{self, Stream};

fn check(name: &str, text: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fixtures/packager")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert_eq!(String::from_utf8_lossy(text), expected, "{name}");
}

/// A window after the events, less the last `cut` of them.
fn window(events: &[Event], bounds: Bounds, cut: usize) -> Window {
    let config = stream::config();
    let mut window = Window::new(config.clone(), bounds);
    let mut packager = Packager::new(config);
    for event in &events[..events.len() - cut] {
        for chunk in packager.push(event.clone()).unwrap() {
            window.push(chunk);
        }
    }
    window
}

fn media(window: &Window, rendition: &str, delta: Delta) -> Vec<u8> {
    window
        .playlist(rendition, delta)
        .unwrap()
        .to_bytes()
        .to_vec()
}

fn promised() -> Vec<Track> {
    let rates = [
        (1_200_000, 1_500_000),
        (400_000, 500_000),
        (128_000, 140_000),
    ];
    let with = |(track, (average_bps, peak_bps)): (Track, (u32, u32))| Track {
        bandwidth: Some(Bandwidth {
            average_bps,
            peak_bps,
        }),
        ..track
    };
    stream::ladder().into_iter().zip(rates).map(with).collect()
}

#[test]
fn first_part() {
    let events = Stream::new(promised(), 2).events();
    // Half a second in.
    let window = window(&events, stream::bounds(), events.len() - 46);
    check(
        "first-part.multivariant.m3u8",
        &window.multivariant().unwrap(),
    );
    check("first-part.720p.m3u8", &media(&window, "720p", Delta::Full));
    check(
        "first-part.audio.m3u8",
        &media(&window, "audio", Delta::Full),
    );
}

#[test]
fn sliding_window() {
    let bounds = Bounds {
        duration: Duration::from_secs(20),
        ..stream::bounds()
    };
    let events = Stream::new(promised(), 14).events();
    // In the middle of the last segment.
    let window = window(&events, bounds, 150);
    check("sliding.multivariant.m3u8", &window.multivariant().unwrap());
    check("sliding.720p.m3u8", &media(&window, "720p", Delta::Full));
    check(
        "sliding.720p.skip.m3u8",
        &media(&window, "720p", Delta::Skip),
    );
    check("sliding.audio.m3u8", &media(&window, "audio", Delta::Full));
    let iframes = window.iframes("720p").unwrap().to_bytes();
    check("sliding.720p.iframes.m3u8", &iframes);
}

#[test]
fn ended() {
    let events = Stream::new(promised(), 3).events();
    let window = window(&events, stream::bounds(), 0);
    check("ended.360p.m3u8", &media(&window, "360p", Delta::Skip));
    let iframes = window.iframes("360p").unwrap().to_bytes();
    check("ended.360p.iframes.m3u8", &iframes);
}

#[test]
fn discontinuity() {
    let window = window(&stream::with_change(), stream::bounds(), 0);
    check(
        "discontinuity.720p.m3u8",
        &media(&window, "720p", Delta::Full),
    );
    check(
        "discontinuity.audio.m3u8",
        &media(&window, "audio", Delta::Full),
    );
    let iframes = window.iframes("720p").unwrap().to_bytes();
    check("discontinuity.720p.iframes.m3u8", &iframes);
}

#[test]
fn sound_alone() {
    let tracks = vec![stream::aac(0, "audio", 44_100), stream::opus(1, "opus")];
    let events = Stream::new(tracks, 4).events();
    let window = window(&events, stream::bounds(), 40);
    check("sound.multivariant.m3u8", &window.multivariant().unwrap());
    check("sound.opus.m3u8", &media(&window, "opus", Delta::Full));
}

#[test]
fn two_kinds_of_sound() {
    let mut tracks = promised();
    tracks.push(stream::opus(3, "opus"));
    let events = Stream::new(tracks, 4).events();
    let window = window(&events, stream::bounds(), 40);
    check("sounds.multivariant.m3u8", &window.multivariant().unwrap());
}

#[test]
fn pictures_alone() {
    let events = Stream::new(vec![stream::video(0, "v", None)], 4).events();
    let window = window(&events, stream::bounds(), 10);
    check(
        "pictures.multivariant.m3u8",
        &window.multivariant().unwrap(),
    );
}
