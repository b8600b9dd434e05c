//! What a ladder costs, how it looks and how late it is: a file through a real worker.
//!
//! `cargo bench -p transcoder --bench ladder -- FILE.mp4 [encoded] [live] [FOLDER]` prints processor seconds a minute
//! of media and the most memory held. The file's video has 90 kHz ticks and no edit list. With `encoded` no rung is
//! passed through; with `live` the file is sent in real time and the delay of each rung is printed; into FOLDER go
//! the rungs as raw H.264.

#![expect(clippy::print_stdout, reason = "what a bench is for")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use media::{Codec, Event, Format, Timescale, TrackId};
use support::{Output, Source, WORKER};
use transcoder::{Config, First, Ladder, Pool, Running};

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let (words, paths): (Vec<&str>, Vec<&str>) = arguments
        .iter()
        .map(String::as_str)
        .partition(|argument| ["encoded", "live"].contains(argument));
    let Some(file) = paths.first() else { return };
    let mut config = Config::new(WORKER.into());
    if words.contains(&"encoded") {
        let rungs = [
            (1080, 2_500_000),
            (720, 1_200_000),
            (480, 750_000),
            (360, 400_000),
            (240, 150_000),
        ];
        let rung = |(height, bitrate_bps)| transcoder::ladder::Rung {
            height,
            bitrate_bps,
            frame_rate_max: None,
        };
        config.ladder =
            Ladder::new(rungs.map(rung).to_vec(), false, 128_000).expect("the default rungs");
    }
    let source = Source::read(Path::new(file));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    if words.contains(&"live") {
        return runtime.block_on(live(config, &source));
    }
    config.lag_max = Duration::from_secs(3_600);
    let seconds = source.units.last().map_or(1.0, |unit| {
        f64::from(u32::try_from(unit.dts.ticks()).unwrap_or(u32::MAX))
            / f64::from(unit.dts.scale().hz())
    });
    let output = runtime.block_on(Output::of(config, source.events()));
    let status = &output.status;
    let cost = status.cpu.as_secs_f64() * 60.0 / seconds;
    println!(
        "{file}: {cost:.1} CPU-s/min, {} MB, {}",
        status.memory >> 20,
        output.lists().join(" then ")
    );
    if let Some(folder) = paths.get(1) {
        for track in output.tracks() {
            let (Codec::H264(_), Format::Video(_)) = (&track.codec, track.format) else {
                continue;
            };
            let stream = output.stream(track.name.as_str());
            std::fs::write(
                Path::new(folder).join(format!("{}.264", track.name)),
                stream,
            )
            .expect("space");
        }
    }
}

/// Sends a source in real time and prints how much later each rung's units come out.
#[expect(
    clippy::disallowed_methods,
    reason = "a bench measures time, and joins its task"
)]
async fn live(config: Config, source: &Source) {
    let pool = Pool::new(config);
    let (to, input) = tokio::sync::mpsc::channel(64);
    let (output, mut from) = tokio::sync::mpsc::channel(64);
    let place = pool.admit().expect("room");
    let Running { join, .. } = place.start(
        "bench".parse().expect("an id"),
        First::default(),
        input,
        output,
    );
    let start = Instant::now();
    let events = source.events();
    let due = |unit: &media::AccessUnit| unit.dts.scale().duration(unit.dts.ticks());
    let sent: BTreeMap<i64, Duration> = source
        .units
        .iter()
        .filter(|unit| unit.dts.scale() == Timescale::VIDEO)
        .map(|unit| (unit.pts.ticks(), due(unit)))
        .collect();
    let publisher = tokio::spawn(async move {
        for event in events.into_iter().chain([Event::End]) {
            if let Event::Unit(unit) = &event {
                tokio::time::sleep_until(
                    (start + unit.dts.scale().duration(unit.dts.ticks())).into(),
                )
                .await;
            }
            if to.send(event).await.is_err() {
                return;
            }
        }
    });
    let mut names: BTreeMap<TrackId, String> = BTreeMap::new();
    let mut delays: BTreeMap<TrackId, Vec<Duration>> = BTreeMap::new();
    while let Some(event) = from.recv().await {
        match event {
            Event::Tracks(tracks) => names.extend(
                tracks
                    .iter()
                    .map(|track| (track.id, track.name.to_string())),
            ),
            // The first seconds are judged and caught up with.
            Event::Unit(unit)
                if unit.pts.scale() == Timescale::VIDEO && unit.pts.ticks() > 4 * 90_000 =>
            {
                if let Some(sent) = sent.get(&unit.pts.ticks()) {
                    delays
                        .entry(unit.track)
                        .or_default()
                        .push(start.elapsed().saturating_sub(*sent));
                }
            }
            _ => {}
        }
    }
    publisher.await.expect("the publisher is a simple loop");
    join.await.expect("the supervisor does not panic");
    pool.shutdown().await;
    for (track, mut delays) in delays {
        delays.sort_unstable();
        let at = |part: usize| delays[(delays.len() - 1) * part / 100].as_millis();
        println!("{}: {} ms p50, {} ms p99", names[&track], at(50), at(99));
    }
}
