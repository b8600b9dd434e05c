//! What a viewer asks for: a path and a query have one reading, and it is one of plain names.
#![no_main]

use libfuzzer_sys::fuzz_target;
use origin::{Directives, Skip, Target};

/// The one spelling of what was read.
fn spell(directives: Directives) -> String {
    let mut pairs = Vec::new();
    pairs.extend(directives.msn.map(|msn| format!("_HLS_msn={msn}")));
    pairs.extend(directives.part.map(|part| format!("_HLS_part={part}")));
    pairs.extend(directives.skip.map(|skip| match skip {
        Skip::Yes => "_HLS_skip=YES".to_owned(),
        Skip::V2 => "_HLS_skip=v2".to_owned(),
    }));
    pairs.join("&")
}

fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    !name.is_empty() && !name.starts_with('.') && name.bytes().all(plain)
}

fuzz_target!(|request: &str| {
    let (path, query) = match request.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (request, None),
    };
    if let Some(target) = Target::parse(path) {
        let again = match &target {
            Target::Multivariant { stream } => {
                assert!(is_plain(stream));
                format!("/live/{stream}/index.m3u8")
            }
            Target::File { stream, path } => {
                assert!(is_plain(stream));
                assert_eq!(path.split('/').filter(|name| is_plain(name)).count(), 3);
                assert_eq!(path.split('/').count(), 3);
                format!("/live/{stream}/{path}")
            }
        };
        assert_eq!(Target::parse(&again).as_ref(), Some(&target));
    }
    if let Ok(directives) = Directives::parse(query) {
        assert_eq!(Directives::parse(Some(&spell(directives))), Ok(directives));
        // Nothing but the order and a token may differ.
        let query = query.unwrap_or_default();
        let mut pairs: Vec<&str> = query.split('&').filter(|pair| pair.split('=').next() != Some("token")).collect();
        pairs.retain(|pair| !pair.is_empty());
        pairs.sort_unstable();
        assert_eq!(pairs.join("&"), spell(directives));
        assert_eq!(directives.is_empty(), pairs.is_empty());
    }
});
