//! The publishes that are live now.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use media::{StreamId, Utc};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::meter::Meter;

/// One publish, from its acceptance to its end.
pub(crate) struct Session {
    /// The session's id, which is the epoch in the names of its media.
    pub(crate) id: String,
    pub(crate) protocol: &'static str,
    pub(crate) encoder: Option<String>,
    pub(crate) started: Utc,
    /// Cancelled to disconnect the publisher.
    pub(crate) kick: CancellationToken,
    pub(crate) input: Mutex<Input>,
    pub(crate) transcoder: watch::Receiver<transcoder::Status>,
}

/// What is known of the publisher's media.
#[derive(Default)]
pub(crate) struct Input {
    pub(crate) meter: Meter,
    /// What the protocol wants its operator to know, in plain words.
    pub(crate) warnings: Vec<String>,
}

impl Session {
    pub(crate) fn input(&self) -> MutexGuard<'_, Input> {
        self.input.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The live sessions by stream: at most one each.
#[derive(Default)]
pub(crate) struct Sessions {
    live: Mutex<HashMap<StreamId, Slot>>,
}

enum Slot {
    /// Accepted, its pieces not started yet.
    Claimed,
    Live(Arc<Session>),
}

/// The right to publish on a stream; given back when dropped.
pub(crate) struct Claim {
    sessions: Arc<Sessions>,
    id: StreamId,
}

impl Sessions {
    /// Takes the stream for one publisher, or `None` while another has it.
    pub(crate) fn claim(self: &Arc<Self>, id: &StreamId) -> Option<Claim> {
        let mut live = self.live();
        if live.contains_key(id) {
            return None;
        }
        live.insert(id.clone(), Slot::Claimed);
        Some(Claim {
            sessions: self.clone(),
            id: id.clone(),
        })
    }

    pub(crate) fn get(&self, id: &StreamId) -> Option<Arc<Session>> {
        match self.live().get(id) {
            Some(Slot::Live(session)) => Some(session.clone()),
            _ => None,
        }
    }

    /// Every live session with its stream.
    pub(crate) fn all(&self) -> Vec<(StreamId, Arc<Session>)> {
        let live = self.live();
        let sessions = live.iter().filter_map(|(id, slot)| match slot {
            Slot::Live(session) => Some((id.clone(), session.clone())),
            Slot::Claimed => None,
        });
        sessions.collect()
    }

    fn live(&self) -> MutexGuard<'_, HashMap<StreamId, Slot>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// Shows the session to everyone else.
    pub(crate) fn publish(&self, session: Arc<Session>) {
        self.sessions
            .live()
            .insert(self.id.clone(), Slot::Live(session));
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.sessions.live().remove(&self.id);
    }
}
