//! hls.js in headless Chromium.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::program::run;
use super::tools;

/// For one answer; the browser may have to start first.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with one page.
#[derive(Debug)]
pub(crate) struct Browser {
    _child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
    last: u64,
}

impl Browser {
    pub(crate) async fn start() -> Self {
        let mut command = Command::new("node");
        command
            .arg(driver())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        // In a group of its own the browser would outlive a test that is killed.
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let stdin = child.stdin.take().expect("piped");
        let stdout = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut browser = Self {
            _child: child,
            stdin,
            stdout,
            last: 0,
        };
        let ready = browser.line().await;
        assert_eq!(ready["ready"], true, "{ready}");
        browser
    }

    /// Plays a multivariant playlist in a page of another origin, with these settings of hls.js.
    pub(crate) async fn open(&mut self, url: &str, config: Value) {
        self.ask(json!({ "do": "open", "url": url, "config": config }))
            .await;
    }

    /// Opens a page of the server's own.
    pub(crate) async fn visit(&mut self, url: &str) {
        self.ask(json!({ "do": "visit", "url": url })).await;
    }

    /// What plays now, and what happened so far.
    pub(crate) async fn stats(&mut self) -> Value {
        self.ask(json!({ "do": "stats" })).await
    }

    /// Bytes a second that the page may load; 0 for no limit.
    pub(crate) async fn throttle(&mut self, bytes: u32) {
        self.ask(json!({ "do": "throttle", "bytes": bytes })).await;
    }

    /// The value of an expression in the page.
    pub(crate) async fn eval(&mut self, script: &str) -> Value {
        self.ask(json!({ "do": "eval", "script": script })).await
    }

    pub(crate) async fn shot(&mut self, path: &Path) {
        self.ask(json!({ "do": "shot", "path": path })).await;
    }

    /// Looks again and again until `done`; fails the test with the last look after `limit`.
    pub(crate) async fn until(
        &mut self,
        limit: Duration,
        what: &str,
        mut done: impl FnMut(&Value) -> bool,
    ) -> Value {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            let stats = self.stats().await;
            if done(&stats) {
                return stats;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "waited {limit:?} for {what}: {stats}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn ask(&mut self, mut request: Value) -> Value {
        self.last += 1;
        request["id"] = self.last.into();
        self.stdin
            .write_all(format!("{request}\n").as_bytes())
            .await
            .unwrap();
        let mut answer = self.line().await;
        assert!(answer["error"].is_null(), "{request}: {answer}");
        assert_eq!(answer["id"], self.last, "{answer}");
        answer["result"].take()
    }

    async fn line(&mut self) -> Value {
        let line = tokio::time::timeout(PATIENCE, self.stdout.next_line())
            .await
            .expect("an answer of the browser");
        serde_json::from_str(&line.unwrap().expect("the browser runs")).unwrap()
    }
}

/// The driver beside its packages, installed from the lock file once for each version of it.
fn driver() -> PathBuf {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/web");
    let files = ["package.json", "package-lock.json", ".npmrc", "driver.mjs"];
    let folder = tools::kept_for(&files.map(|file| sources.join(file)), "web", |fresh| {
        std::fs::create_dir(fresh).unwrap();
        for file in files {
            std::fs::copy(sources.join(file), fresh.join(file)).unwrap();
        }
        run(std::process::Command::new("npm")
            .args(["ci", "--no-audit", "--no-fund", "--loglevel=error"])
            .current_dir(fresh));
    });
    folder.join("driver.mjs")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::ledger::{Picture, Source};
    use crate::support::program::ffmpeg;
    use crate::support::shelf::Shelf;

    /// The driver against HLS that is not ours: ffmpeg's, as files.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn hls_js_plays_what_ffmpeg_wrote() {
        let dir = tempfile::tempdir().unwrap();
        let clip = Source::new(Picture::new(320, 180, 30), 6);
        let hls = [
            "-f",
            "hls",
            "-hls_time",
            "2",
            "-hls_segment_type",
            "fmp4",
            "-hls_playlist_type",
            "vod",
            "-master_pl_name",
            "index.m3u8",
        ];
        run(ffmpeg()
            .arg("-i")
            .arg(clip.flv())
            .args(["-c", "copy"])
            .args(hls)
            .arg(dir.path().join("media.m3u8")));
        let shelf = Shelf::start(dir.path()).await;
        let mut browser = Browser::start().await;
        browser
            .open(&format!("http://{}/index.m3u8", shelf.at), json!({}))
            .await;
        let stats = browser
            .until(PATIENCE, "two seconds of pictures", |stats| {
                stats["time"].as_f64() > Some(2.0)
            })
            .await;
        assert_eq!(
            (
                stats["width"].as_u64(),
                stats["fatal"].as_array().map(Vec::len)
            ),
            (Some(320), Some(0)),
            "{stats}"
        );
        assert!(stats["decoded"].as_u64() > Some(30), "{stats}");
        let shot = dir.path().join("page.png");
        browser.shot(&shot).await;
        assert!(std::fs::metadata(shot).unwrap().len() > 1000);
        assert_eq!(browser.eval("document.title").await, "player");
    }
}
