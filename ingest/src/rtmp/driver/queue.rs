//! The bounded way from a connection to whoever reads its media.

use std::collections::VecDeque;
use std::time::Duration;

use media::{Event, Format, Gap, TrackId, Tracks};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Bytes that wait for the reader; one unit larger than this waits alone.
const BYTES_MAX: usize = 12 * 1024 * 1024;
/// How long the encoder is made to wait for the reader before media is dropped.
const STALL_MAX: Duration = Duration::from_secs(2);

/// Nobody reads any more.
#[derive(Debug)]
pub(super) struct Abandoned;

/// Sends events on; waits for a slow reader for a while, then drops until it has caught up and a keyframe comes.
#[derive(Debug)]
pub(super) struct Queue {
    events: mpsc::Sender<Event>,
    /// Sizes of the newest events sent, of which the reader has taken all but the last few.
    sizes: VecDeque<usize>,
    bytes: usize,
    /// Where a group of pictures begins, in the tracks as the reader will know them.
    leader: Option<TrackId>,
    dropping: Option<Dropping>,
    dropped: u64,
}

/// What must be said before the media goes on.
#[derive(Debug, Default)]
struct Dropping {
    tracks: Option<Tracks>,
}

impl Queue {
    pub(super) fn new(events: mpsc::Sender<Event>) -> Self {
        Self {
            events,
            sizes: VecDeque::new(),
            bytes: 0,
            leader: None,
            dropping: None,
            dropped: 0,
        }
    }

    /// Units dropped so far.
    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Resolves when nobody reads any more.
    pub(super) async fn abandoned(&self) {
        self.events.closed().await;
    }

    /// Sends `event`, or drops it. Takes two seconds at most.
    pub(super) async fn push(&mut self, event: Event) -> Result<(), Abandoned> {
        if let Event::Tracks(tracks) = &event {
            let video = tracks
                .iter()
                .find(|track| matches!(track.format, Format::Video(_)));
            self.leader = video.or(tracks.first()).map(|track| track.id);
        }
        if let Some(dropping) = &mut self.dropping {
            match &event {
                Event::Tracks(tracks) => dropping.tracks = Some(tracks.clone()),
                Event::Unit(unit)
                    if unit.keyframe && Some(unit.track) == self.leader && self.has_caught_up() =>
                {
                    return self.resume(event).await;
                }
                Event::Unit(_) => self.dropped += 1,
                Event::End => return self.wait_and_send(event).await.map(|_| ()),
                // The gap that will be reported covers it.
                Event::Gap(_) | Event::Segment(_) => {}
            }
            return Ok(());
        }
        if let Some(event) = self.wait_and_send(event).await? {
            let mut dropping = Dropping::default();
            match event {
                Event::Tracks(tracks) => dropping.tracks = Some(tracks),
                Event::Unit(_) => self.dropped += 1,
                Event::Gap(_) | Event::Segment(_) | Event::End => {}
            }
            self.dropping = Some(dropping);
        }
        Ok(())
    }

    /// Goes on after media was dropped. The reader has room, so nothing waits.
    async fn resume(&mut self, unit: Event) -> Result<(), Abandoned> {
        let tracks = self.dropping.take().and_then(|dropping| dropping.tracks);
        let before = tracks
            .map(Event::Tracks)
            .into_iter()
            .chain([Event::Gap(Gap::Dropped)]);
        for event in before.chain([unit]) {
            self.wait_and_send(event).await?;
        }
        Ok(())
    }

    /// Whether the reader has taken all but a little of what was sent.
    fn has_caught_up(&mut self) -> bool {
        self.forget_taken();
        self.sizes.len() * 4 <= self.events.max_capacity() && self.bytes * 4 <= BYTES_MAX
    }

    /// Waits for room and sends; gives the event back when there was none in time.
    async fn wait_and_send(&mut self, event: Event) -> Result<Option<Event>, Abandoned> {
        let size = size_of(&event);
        self.forget_taken();
        // The reader must take this many before the event fits.
        let mut bytes = self.bytes;
        let excess = self.sizes.iter().take_while(|&&taken| {
            let over = bytes > 0 && bytes + size > BYTES_MAX;
            bytes -= taken;
            over
        });
        let room = (self.events.max_capacity() - self.sizes.len() + excess.count()).max(1);
        match timeout(STALL_MAX, self.events.reserve_many(room)).await {
            Err(_) => Ok(Some(event)),
            Ok(Err(_)) => Err(Abandoned),
            Ok(Ok(mut permits)) => {
                if let Some(permit) = permits.next() {
                    permit.send(event);
                    self.sizes.push_back(size);
                    self.bytes += size;
                }
                Ok(None)
            }
        }
    }

    /// Forgets the sizes of what the reader has taken: the channel is in order, so what it holds is the newest.
    fn forget_taken(&mut self) {
        let held = self.events.max_capacity() - self.events.capacity();
        while self.sizes.len() > held {
            self.bytes -= self.sizes.pop_front().unwrap_or(0);
        }
    }
}

/// Bytes that an event holds, beside its place in the channel.
fn size_of(event: &Event) -> usize {
    match event {
        Event::Unit(unit) => unit.data.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
