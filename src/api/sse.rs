//! The event log as server-sent events (HTML Standard, 9.2).

use std::time::Duration;

use axum::body::Body;
use futures_util::stream;

use super::*;

/// A comment this often tells a proxy and the reader that the line is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Entries sent in one piece.
const BATCH: usize = 100;

struct Reader {
    api: Arc<Api>,
    newest: watch::Receiver<u64>,
    cursor: u64,
}

/// Every entry after `cursor`, and those to come, until the reader leaves or the server stops.
pub(super) fn response(api: Arc<Api>, cursor: u64) -> Response {
    let reader = Reader {
        newest: api.events.newest(),
        api,
        cursor,
    };
    let pieces = stream::unfold(reader, |mut reader| async move {
        let piece = reader.piece().await?;
        Some((Ok::<_, Infallible>(piece), reader))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, Body::from_stream(pieces)).into_response()
}

impl Reader {
    /// The entries after the cursor, once there are any; a comment when none came in time; `None` at the end.
    async fn piece(&mut self) -> Option<Bytes> {
        let cursor = self.cursor;
        let arrived = tokio::time::timeout(KEEP_ALIVE, self.newest.wait_for(|id| *id > cursor));
        tokio::select! {
            () = self.api.stop.cancelled() => return None,
            arrived = arrived => match arrived {
                Err(_elapsed) => return Some(Bytes::from_static(b":\n\n")),
                Ok(Err(_log_is_gone)) => return None,
                Ok(Ok(_)) => {}
            },
        }
        let entries = self.api.events.after(cursor, BATCH);
        self.cursor = entries.last().map_or(cursor, |entry| entry.id);
        let render = |entry: &Entry| {
            let json = serde_json::to_string(entry).expect("an entry has text keys only");
            format!("id: {}\ndata: {json}\n\n", entry.id)
        };
        Some(entries.iter().map(render).collect::<String>().into())
    }
}
