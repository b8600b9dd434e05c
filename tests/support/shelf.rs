//! Files over HTTP with CORS, for players that are tried on something that is not ours.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Serves the files of one folder until dropped.
#[derive(Debug)]
pub(crate) struct Shelf {
    pub(crate) at: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Shelf {
    pub(crate) async fn start(folder: &Path) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let at = listener.local_addr().unwrap();
        let folder = folder.to_owned();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, folder.clone()));
            }
        });
        Self { at, _tasks: tasks }
    }
}

/// One request, one file, and the connection is over.
async fn serve(stream: TcpStream, folder: PathBuf) {
    let mut stream = BufReader::new(stream);
    let mut request = String::new();
    let _ = stream.read_line(&mut request).await;
    let mut line = String::from("x");
    while !line.trim().is_empty() {
        line.clear();
        if !matches!(stream.read_line(&mut line).await, Ok(1..)) {
            break;
        }
    }
    let target = request.split(' ').nth(1).unwrap_or_default();
    let name = target
        .split('?')
        .next()
        .unwrap_or_default()
        .trim_start_matches('/');
    let answer = match std::fs::read(folder.join(name)) {
        Ok(body) => {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nAccess-Control-Allow-Origin: *\r\nConnection: close\r\n\r\n",
                body.len()
            );
            [head.into_bytes(), body].concat()
        }
        Err(_) => {
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec()
        }
    };
    let _ = stream.write_all(&answer).await;
    let _ = stream.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::hls::{Kind, Player, Wants};
    use crate::support::ledger::{Picture, Source, offsets};
    use crate::support::program::{ffmpeg, run};
    use std::time::Duration;

    /// Our own player on HLS that ffmpeg wrote: an ended playlist without parts, read to its last picture.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn our_player_reads_what_ffmpeg_wrote() {
        let dir = tempfile::tempdir().unwrap();
        let picture = Picture::new(320, 180, 30);
        let clip = Source::new(picture, 6);
        let mut command = ffmpeg();
        command.arg("-i").arg(clip.flv()).args([
            "-map",
            "0:v",
            "-map",
            "0:a",
            "-c",
            "copy",
            "-f",
            "hls",
            "-hls_time",
            "2",
        ]);
        command.args([
            "-hls_segment_type",
            "fmp4",
            "-hls_playlist_type",
            "vod",
            "-var_stream_map",
            "v:0,agroup:a a:0,agroup:a",
        ]);
        command
            .args([
                "-hls_fmp4_init_filename",
                "init-%v.mp4",
                "-hls_segment_filename",
            ])
            .arg(dir.path().join("%v-%d.m4s"));
        run(command
            .args(["-master_pl_name", "index.m3u8"])
            .arg(dir.path().join("media-%v.m3u8")));
        let shelf = Shelf::start(dir.path()).await;
        let wants = Wants {
            parts: true,
            extras: false,
            only: &[],
        };
        let recording = Player::start(shelf.at, "/index.m3u8", wants)
            .ended(Duration::from_secs(20))
            .await;
        let video = recording.of_kind(Kind::Video).next().expect("a variant");
        let sound = recording.of_kind(Kind::Sound).next().expect("a sound");
        let view = recording.view(video);
        view.report(1).assert_clean("through our player", 180);
        assert_eq!(offsets(&view, &recording.sound(sound), picture).len(), 6);
    }
}
