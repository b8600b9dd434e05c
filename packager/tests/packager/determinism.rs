//! Same events in, same bytes out.

use std::collections::BTreeMap;

use media::Event;
use packager::{Chunk, Packager};
use proptest::prelude::*;

use crate::stream::{self, Stamp, Stream};

/// What a chunk is called and what it holds, for those chunks that are objects or text.
fn products(chunks: &[Chunk]) -> BTreeMap<String, String> {
    let mut products = BTreeMap::new();
    for chunk in chunks {
        let name = match chunk {
            Chunk::Init(init) => format!("{}/{}", init.rendition, init.name),
            Chunk::Part(part) => format!("{}/{}.{}", part.rendition, part.segment, part.index),
            Chunk::Segment(segment) => format!("{}/{}", segment.rendition, segment.number),
            Chunk::Renditions(_) | Chunk::End => continue,
        };
        let bytes = match chunk {
            Chunk::Init(init) => init.data.to_vec(),
            Chunk::Part(part) => part.data.to_vec(),
            _ => Vec::new(),
        };
        let before = products.insert(name, format!("{chunk:?} {bytes:?}"));
        assert_eq!(before, None, "a name is made once");
    }
    products
}

fn push(packager: &mut Packager, events: &[Event]) -> Vec<Chunk> {
    let chunks = events
        .iter()
        .map(|event| packager.push(event.clone()).unwrap());
    chunks.flatten().collect()
}

fn streams() -> impl Strategy<Value = Stream> {
    let rate = prop::sample::select(vec![(25, 1), (30, 1), (60, 1), (24_000, 1_001), (2, 1)]);
    let stamp = prop_oneof![
        Just(Stamp::Exact),
        Just(Stamp::Millis),
        (1_i64..600).prop_map(Stamp::Jitter),
    ];
    (rate, stamp, 0_usize..3, 2_u64..6, 1_u64..1_000_000).prop_map(
        |(rate, stamp, reorder, segments, first_number)| Stream {
            rate,
            // Pictures must keep their order.
            stamp: if rate.0 / rate.1 > 30 {
                Stamp::Exact
            } else {
                stamp
            },
            reorder,
            first_number,
            ..Stream::new(
                vec![
                    stream::video(0, "720p", Some(rate)),
                    stream::aac(1, "audio", 44_100),
                    stream::opus(2, "other"),
                ],
                segments,
            )
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Invariant 1: one packager sees everything, another is given the tracks and then only what comes from some
    /// event on. From the next mark's segment on they made the same.
    #[test]
    fn a_packager_that_starts_late_makes_the_same_bytes(stream in streams(), from in 0.0_f64..1.0) {
        let config = stream::config();
        let events = stream.events();
        let (tracks, rest) = events.split_at(1);
        let whole = products(&stream::package(&config, &events));

        let at = (from * rest.len() as f64) as usize;
        let mut late = Packager::new(config);
        let mut chunks = push(&mut late, tracks);
        chunks.extend(push(&mut late, &rest[at..]));
        let late = products(&chunks);

        let first = rest[at..].iter().find_map(|event| match event {
            Event::Segment(mark) => Some(mark.number),
            _ => None,
        });
        let number = |name: &str| {
            let file = name.split('/').nth(1).unwrap();
            file.split('.').next().unwrap().parse::<u64>().ok()
        };
        let expected: BTreeMap<_, _> = whole
            .into_iter()
            .filter(|(name, _)| number(name).is_none_or(|n| first.is_some_and(|first| n >= first)))
            .collect();
        prop_assert_eq!(late, expected);
    }
}

/// The same, over a change of codec: the late one is told of the tracks as they are then.
#[test]
fn a_packager_that_starts_after_a_change_makes_the_same_bytes() {
    let config = stream::config();
    let events = stream::with_change();
    let whole = products(&stream::package(&config, &events));
    let tracks = events
        .iter()
        .rposition(|event| matches!(event, Event::Tracks(_)))
        .unwrap();
    let late = products(&push(&mut Packager::new(config), &events[tracks..]));
    assert!(late.len() > 20);
    for (name, product) in late {
        assert_eq!(whole.get(&name), Some(&product));
    }
}
