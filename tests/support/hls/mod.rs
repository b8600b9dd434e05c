//! A low-latency HLS player that shows nothing and remembers everything, and what it remembers.

mod cmaf;
mod player;
mod playlist;
mod recording;

pub(crate) use cmaf::{Fragment, Init, Sample, has_parameter_sets, is_idr};
pub(crate) use player::{EVERYTHING, PARTS, Player, Wants, get};
pub(crate) use playlist::{Media, Multivariant, Segment};
pub(crate) use recording::{Kind, Recording, Rendition, State};

/// The path that `uri`, found in the playlist at `base`, names. URIs of the service are relative and carry no scheme.
pub(crate) fn resolve(base: &str, uri: &str) -> String {
    if uri.starts_with('/') {
        return uri.to_owned();
    }
    let folder = base
        .split('?')
        .next()
        .unwrap_or_default()
        .rsplit_once('/')
        .map_or("", |(folder, _)| folder);
    let mut parts: Vec<&str> = folder.split('/').collect();
    for part in uri.split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[test]
fn relative_uris_are_resolved() {
    assert_eq!(
        resolve("/live/a/index.m3u8?x=1", "e/v/index.m3u8"),
        "/live/a/e/v/index.m3u8"
    );
    assert_eq!(
        resolve("/live/a/e/v/index.m3u8", "../audio/index.m3u8"),
        "/live/a/e/audio/index.m3u8"
    );
    assert_eq!(resolve("/live/a/index.m3u8", "/b"), "/b");
}
