//! The life of sessions, without media.

use std::sync::Weak;

use super::*;

fn origin(config: Config) -> Origin {
    Origin::new(config, &Registry::new())
}

fn id(text: &str) -> StreamId {
    text.parse().unwrap()
}

fn packaging(epoch: &str) -> packager::Config {
    let Config { segment, part, .. } = Config::default();
    packager::Config {
        epoch: epoch.to_owned(),
        segment,
        part,
    }
}

impl Origin {
    /// A session whose packager is `package`.
    pub(crate) fn start_with<P>(&self, id: &StreamId, package: P) -> mpsc::Sender<Event>
    where
        P: FnMut(Event) -> Result<Vec<Chunk>, packager::Error> + Send + 'static,
    {
        let (sender, events) = mpsc::channel(1);
        let (origin, id) = (self.clone(), id.clone());
        let session = self.open(&id, packaging("e"));
        self.inner
            .tasks
            .spawn(async move { origin.run(id, session, events, package).await });
        sender
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_its_own_stream_and_is_counted() {
    let origin = origin(Config::default());
    let healthy = origin.start(id("healthy"), "e".to_owned());
    let broken = origin.start_with(&id("broken"), |_| panic!("a bug, on purpose"));
    let session = origin.newest("broken").unwrap();
    let mut index = session.index.subscribe();
    let gone = Arc::downgrade(&session);
    drop(session);
    broken.send(Event::Tracks(Arc::from([]))).await.unwrap();
    broken.closed().await;
    assert_eq!(
        index
            .wait_for(|index| index.over != Over::Live)
            .await
            .unwrap()
            .over,
        Over::Broken
    );
    drop(index);
    assert_eq!(origin.live(&id("broken")), None);
    assert!(Weak::upgrade(&gone).is_none(), "its memory is free");
    assert_eq!(origin.metrics().stream_panics.get(), 1);
    healthy.send(Event::End).await.unwrap();
    assert!(origin.live(&id("healthy")).is_some());
}

#[tokio::test(start_paused = true)]
async fn an_ended_stream_stays_for_its_grace() {
    let origin = origin(Config::default());
    let events = origin.start(id("s"), "e".to_owned());
    assert_eq!(
        origin
            .live(&id("s"))
            .map(|live| (live.playable, live.ended)),
        Some((false, false))
    );
    events.send(Event::End).await.unwrap();
    events.closed().await;
    tokio::time::sleep(Duration::from_secs(599)).await;
    assert_eq!(origin.live(&id("s")).map(|live| live.ended), Some(true));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(origin.live(&id("s")), None);
    assert!(origin.streams().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_published_over_and_over_keeps_few_older_sessions() {
    let origin = origin(Config::default());
    let mut events = Vec::new();
    for epoch in 0..100 {
        events.push(origin.start(id("s"), format!("e{epoch}")));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(events[98].is_closed() && !events[99].is_closed());
    assert_eq!(origin.streams()["s"].sessions.len(), SESSIONS_MAX);
    assert!(origin.session("s", "e84").is_some() && origin.session("s", "e83").is_none());
    assert_eq!(origin.live(&id("s")).unwrap().epoch, "e99");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(origin.streams()["s"].sessions.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_epoch_that_comes_again_replaces_the_session_that_had_it() {
    let origin = origin(Config::default());
    let first = origin.start(id("s"), "e".to_owned());
    let _second = origin.start(id("s"), "e".to_owned());
    first.closed().await;
    assert_eq!(origin.streams()["s"].sessions.len(), 1);
    assert!(!origin.live(&id("s")).unwrap().ended);
}

#[tokio::test(start_paused = true)]
async fn refused_events_do_not_end_a_stream() {
    let origin = origin(Config::default());
    let events = origin.start_with(&id("s"), |event| match event {
        Event::End => Ok(vec![Chunk::End]),
        _ => Err(packager::Error::Tracks),
    });
    for _ in 0..1000 {
        events.send(Event::Tracks(Arc::from([]))).await.unwrap();
    }
    assert!(!origin.live(&id("s")).unwrap().ended);
}

#[tokio::test(start_paused = true)]
async fn closing_ends_all_streams_and_waits_for_none() {
    let origin = origin(Config::default());
    let live = origin.start(id("live"), "e".to_owned());
    let ended = origin.start(id("ended"), "e".to_owned());
    drop(ended);
    let before = Instant::now();
    origin.close().await;
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert!(live.is_closed());
    assert!(origin.streams().is_empty());
}

#[test]
fn the_delay_of_a_part_counts_from_its_first_unit() {
    let scale = media::Timescale::VIDEO;
    let part = |index: u32, start: i64, opens: Option<i64>| Part {
        rendition: "v".parse().unwrap(),
        segment: 7,
        index,
        start: Timestamp::new(start, scale),
        duration: 22_500,
        independent: true,
        keyframe_bytes: None,
        data: Bytes::from_static(b"x"),
        opens: opens.map(|utc| packager::Opening {
            discontinuity: 0,
            utc: Utc::from_unix_micros(utc),
            init: Arc::from("i"),
        }),
    };
    let mut progress = Progress::default();
    let second = part(1, 180_000 + 22_500, None);
    assert_eq!(
        progress.delay(&second, Utc::from_unix_micros(5)),
        None,
        "without a mark there is no time outside"
    );
    progress.part(&part(0, 180_000, Some(1_000_000)));
    progress.part(&second);
    // Its first unit came at 1.25 s.
    let at = |micros| progress.delay(&second, Utc::from_unix_micros(micros));
    assert_eq!(at(1_530_000), Some(Duration::from_millis(280)));
    assert_eq!(
        at(1_000_000),
        Some(Duration::ZERO),
        "a clock that is set back is no delay"
    );
}
