//! The ordered, numbered log of what happened on this node, replayable by cursor.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use media::StreamId;
use serde::Serialize;
use tokio::sync::watch;

use crate::clock;

/// Entries kept; older ones are forgotten, which a reader sees as a gap between its cursor and the first `id`.
const KEPT: usize = 10_000;

/// One thing that happened.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Entry {
    /// One more than the entry before.
    pub(crate) id: u64,
    /// RFC 3339, UTC.
    pub(crate) time: String,
    #[serde(flatten)]
    pub(crate) what: What,
    pub(crate) stream: StreamName,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) session: Option<String>,
}

/// The kinds of entries, with what each carries.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", content = "data")]
pub(crate) enum What {
    #[serde(rename = "stream.created")]
    StreamCreated {},
    #[serde(rename = "stream.deleted")]
    StreamDeleted {},
    #[serde(rename = "session.started")]
    SessionStarted {
        protocol: &'static str,
        encoder: Option<String>,
    },
    #[serde(rename = "session.ended")]
    SessionEnded { reason: &'static str, seconds: u64 },
    #[serde(rename = "session.gap")]
    SessionGap { reason: &'static str },
    #[serde(rename = "rungs.changed")]
    RungsChanged { alive: Vec<String> },
    #[serde(rename = "worker.restarted")]
    WorkerRestarted { reason: String },
    #[serde(rename = "publish.refused")]
    PublishRefused { reason: String },
}

/// A stream's id, as JSON text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamName(pub(crate) StreamId);

impl Serialize for StreamName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

/// The log. Appending never waits; readers follow by cursor.
pub(crate) struct Log {
    entries: Mutex<VecDeque<Entry>>,
    newest: watch::Sender<u64>,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self {
            entries: Mutex::default(),
            newest: watch::Sender::new(0),
        }
    }

    pub(crate) fn append(&self, stream: &StreamId, session: Option<&str>, what: What) {
        let mut entries = self.entries();
        let id = *self.newest.borrow() + 1;
        if entries.len() == KEPT {
            entries.pop_front();
        }
        entries.push_back(Entry {
            id,
            time: clock::rfc3339(clock::now()),
            what,
            stream: StreamName(stream.clone()),
            session: session.map(str::to_owned),
        });
        drop(entries);
        self.newest.send_replace(id);
    }

    /// Up to `limit` entries after the one numbered `cursor`, the oldest first.
    pub(crate) fn after(&self, cursor: u64, limit: usize) -> Vec<Entry> {
        let entries = self.entries();
        let first = entries.partition_point(|entry| entry.id <= cursor);
        entries.range(first..).take(limit).cloned().collect()
    }

    /// The number of the newest entry, which changes when one is appended.
    pub(crate) fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    fn entries(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_resumes_from_its_cursor_and_old_entries_go() {
        let log = Log::new();
        let id: StreamId = "room".parse().unwrap();
        for _ in 0..KEPT + 5 {
            log.append(&id, None, What::StreamCreated {});
        }
        let first = log.after(0, 2);
        assert_eq!(
            first.iter().map(|entry| entry.id).collect::<Vec<_>>(),
            [6, 7]
        );
        let last = log.after(KEPT as u64 + 4, 10);
        assert_eq!(
            last.iter().map(|entry| entry.id).collect::<Vec<_>>(),
            [KEPT as u64 + 5]
        );
        assert!(log.after(u64::MAX, 10).is_empty());
    }

    #[test]
    fn an_entry_is_one_flat_object() {
        let log = Log::new();
        let id: StreamId = "room".parse().unwrap();
        log.append(
            &id,
            Some("s1"),
            What::SessionEnded {
                reason: "kicked",
                seconds: 3,
            },
        );
        let json = serde_json::to_value(&log.after(0, 1)[0]).unwrap();
        assert_eq!(json["type"], "session.ended");
        assert_eq!(json["data"]["reason"], "kicked");
        assert_eq!(
            (
                json["id"].as_u64(),
                json["stream"].as_str(),
                json["session"].as_str()
            ),
            (Some(1), Some("room"), Some("s1"))
        );
    }
}
