//! What serving costs, beside nginx; and what ten thousand held reloads cost.
//!
//! `cargo bench -p origin --bench serving [-- requests | held [CONNECTIONS]]`. Needs `wrk` and `nginx`. The server,
//! and whatever loads it, are processes of their own: open files are counted per process, and so is CPU time.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a program for the terminal"
)]
#![allow(clippy::disallowed_methods, reason = "it measures time")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use origin::Config;
use origin::http::Limits;
use packager::Bounds;
use support::{Client, PART_FRAMES, PARTS, Server};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["serve", threads, pace] => serve(threads.parse().unwrap(), *pace == "live"),
        ["load", address, count, seconds] => {
            load(address, count.parse().unwrap(), seconds.parse().unwrap())
        }
        ["requests"] => requests(),
        ["held"] => held(10_000),
        ["held", connections] => held(connections.parse().unwrap()),
        _ => {
            requests();
            held(10_000);
        }
    }
}

fn micros() -> u64 {
    u64::try_from(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_micros(),
    )
    .unwrap()
}

/// Two rungs of which the upper makes parts of 62 kB and segments of 500 kB, at the pace of life or standing still.
fn serve(threads: usize, live: bool) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let config = Config {
            window: Bounds {
                duration: Duration::from_secs(12),
                bytes: 256 << 20,
            },
            ..Config::default()
        };
        let limits = Limits {
            connections_per_address: 20_000,
            held_per_address: 20_000,
            ..Limits::default()
        };
        let server = Server::with(config, limits).await;
        let mut feed = server.feed("s", "e");
        feed.sizes = [10_400, 2_000];
        feed.begin().await;
        feed.to(19, 4).await;
        server
            .get(&format!("{}?_HLS_msn=19&_HLS_part=3", feed.playlist()))
            .await;
        println!("{}", server.address);
        if !live {
            std::future::pending::<()>().await;
        }
        let mut beat = tokio::time::interval(Duration::from_millis(40));
        for frame in 4 * PART_FRAMES + 1.. {
            beat.tick().await;
            if frame % PART_FRAMES == 0 {
                let part = frame / PART_FRAMES - 1;
                println!("{} {}", part + 19 * PARTS, micros());
            }
            feed.frame().await;
        }
    });
}

/// Holds `count` reloads, each of the part after the last, and prints when each answer was there.
fn load(address: &str, count: usize, seconds: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let address = address.parse().unwrap();
    runtime.block_on(async {
        let mut clients = Vec::new();
        for number in 0..count {
            let socket = TcpSocket::new_v4().unwrap();
            let last = u8::try_from(2 + number % 16).unwrap();
            socket
                .bind((std::net::Ipv4Addr::new(127, 0, 0, last), 0).into())
                .unwrap();
            let mut client = Client::new(socket.connect(address).await.unwrap());
            // The head of a request is due at once.
            assert_eq!(client.get("/live/s/e/720p/index.m3u8").await.status, 200);
            clients.push(client);
        }
        let deadline = tokio::time::Instant::now() + Duration::from_secs(seconds);
        let mut tasks = Vec::new();
        for mut client in clients {
            tasks.push(support::spawn(async move {
                let first = client.get("/live/s/e/720p/index.m3u8").await;
                let mut hints = first
                    .text()
                    .lines()
                    .filter_map(|line| line.strip_prefix("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\""));
                let mut names = hints
                    .next()
                    .unwrap()
                    .split('.')
                    .map(|name| name.parse::<u64>().unwrap_or(0));
                let mut part = names.next().unwrap() * PARTS + names.next().unwrap();
                let mut stream = client.io.into_inner();
                let mut answers = Vec::new();
                loop {
                    let (msn, index) = (part / PARTS, part % PARTS);
                    let reload = reload(&mut stream, msn, index);
                    let Ok(status) = tokio::time::timeout_at(deadline, reload).await else {
                        break;
                    };
                    answers.push((part, if status == 200 { micros() } else { 0 }));
                    part += 1;
                }
                answers
            }));
        }
        let mut out = String::new();
        for task in tasks {
            for (part, time) in task.await.unwrap() {
                writeln!(out, "{part} {time}").unwrap();
            }
        }
        print!("{out}");
    });
}

/// A blocking reload as cheap for the client as can be: what it costs is taken from the server's share of the machine.
async fn reload(stream: &mut TcpStream, msn: u64, part: u64) -> u16 {
    let request = format!(
        "GET /live/s/e/720p/index.m3u8?_HLS_msn={msn}&_HLS_part={part} HTTP/1.1\r\nHost: origin.test\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut start = [0; 1024];
    stream.readable().await.unwrap();
    let mut length = stream.read(&mut start).await.unwrap();
    let text = std::str::from_utf8(&start[..length]).unwrap();
    let head = text.find("\r\n\r\n").unwrap() + 4;
    let status = text[9..12].parse().unwrap();
    let body = text
        .split("content-length: ")
        .nth(1)
        .unwrap()
        .split('\r')
        .next()
        .unwrap();
    let whole = head + body.parse::<usize>().unwrap();
    let mut rest = [0; 8192];
    while length < whole {
        length += stream.read(&mut rest).await.unwrap();
    }
    status
}

struct Process {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Process {
    fn of(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    fn own(args: &[&str]) -> Self {
        Self::of(Command::new(std::env::current_exe().unwrap()).args(args))
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn rest(mut self) -> String {
        let mut out = String::new();
        self.out.read_to_string(&mut out).unwrap();
        self.child.wait().unwrap();
        out
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU seconds that a process used, all its threads.
fn cpu(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    // utime and stime, in hundredths of a second.
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn memory(pid: u32, field: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .unwrap();
    line.trim_start_matches(':')
        .trim()
        .trim_end_matches(" kB")
        .parse::<f64>()
        .unwrap()
        / 1024.0
}

/// Requests and bytes per CPU second of process `pid`, loaded by wrk.
fn wrk(url: &str, fields: &[&str], pid: u32) -> (f64, f64) {
    let mut command = Command::new("wrk");
    command.args(["-t1", "-c32", "-d4s", url]);
    for field in fields {
        command.args(["-H", field]);
    }
    let before = cpu(pid);
    let out = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let used = cpu(pid) - before;
    assert!(
        !out.contains("Non-2xx") && !out.contains("Socket errors"),
        "{out}"
    );
    let line = out
        .lines()
        .find(|line| line.contains(" requests in "))
        .unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    let requests: f64 = words[0].parse().unwrap();
    let read = words[4];
    let unit = read.len() - 2;
    let scale = match &read[unit..] {
        "GB" => f64::from(1 << 30),
        "MB" => f64::from(1 << 20),
        _ => 1024.0,
    };
    (
        requests / used,
        read[..unit].parse::<f64>().unwrap() * scale * 8.0 / 1e9 / used,
    )
}

struct Nginx {
    process: Process,
    folder: PathBuf,
    worker: u32,
}

impl Nginx {
    fn start(files: &[(&str, &[u8])], sendfile: bool) -> (Self, String) {
        let folder =
            std::env::temp_dir().join(format!("origin-bench-{}-{sendfile}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for (name, content) in files {
            fs::write(folder.join(name), content).unwrap();
        }
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let send = if sendfile {
            "sendfile on; tcp_nopush on;"
        } else {
            "sendfile off; output_buffers 2 512k;"
        };
        let root = folder.display();
        let conf = format!(
            "daemon off; master_process on; worker_processes 1; pid {root}/pid; error_log {root}/error;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; {send} keepalive_requests 1000000000; open_file_cache max=100;\n\
             types {{ application/vnd.apple.mpegurl m3u8; video/mp4 m4s; }}\n\
             client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3;\n\
             uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;\n\
             server {{ listen {free}; root {root}; }} }}\n"
        );
        fs::write(folder.join("conf"), conf).unwrap();
        let process = Process::of(
            Command::new("nginx")
                .arg("-c")
                .arg(folder.join("conf"))
                .stderr(Stdio::null()),
        );
        let worker = loop {
            let children = format!("/proc/{0}/task/{0}/children", process.child.id());
            let children = fs::read_to_string(children).unwrap_or_default();
            if let (Some(worker), Ok(_)) = (
                children.split_whitespace().next(),
                std::net::TcpStream::connect(free),
            ) {
                break worker.parse().unwrap();
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        (
            Self {
                process,
                folder,
                worker,
            },
            format!("http://{free}/"),
        )
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its worker goes with it only when it is asked to stop.
        let pid = self.process.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let _ = self.process.child.wait();
        let _ = fs::remove_dir_all(Path::new(&self.folder));
    }
}

fn fetch(address: &str, path: &str) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let stream = TcpStream::connect(address).await.unwrap();
        let answer = Client::new(stream).get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        answer.body.to_vec()
    })
}

fn requests() {
    let mut server = Process::own(&["serve", "1", "still"]);
    let address = server.line();
    let pid = server.child.id();
    let base = "/live/s/e/720p/";
    let paths = ["index.m3u8", "18.3.m4s", "18.m4s"];
    let contents: Vec<Vec<u8>> = paths
        .iter()
        .map(|path| fetch(&address, &format!("{base}{path}")))
        .collect();
    let files: Vec<(&str, &[u8])> = paths
        .into_iter()
        .zip(contents.iter().map(Vec::as_slice))
        .collect();
    let (with, sendfile) = Nginx::start(&files, true);
    let (without, memory) = Nginx::start(&files, false);
    println!(
        "per CPU second, HTTP/1.1 on loopback    | this            | nginx sendfile  | nginx memory    | ratios"
    );
    for (path, content) in &files {
        let ours = wrk(&format!("http://{address}{base}{path}"), &[], pid);
        let sendfile = wrk(&format!("{sendfile}{path}"), &[], with.worker);
        let memory = wrk(&format!("{memory}{path}"), &[], without.worker);
        let cell = |(requests, bits): (f64, f64)| format!("{requests:>7.0} {bits:>5.1} Gb");
        println!(
            "{:<12} {:>7} bytes               | {} | {} | {} | {:.2} {:.2}",
            path,
            content.len(),
            cell(ours),
            cell(sendfile),
            cell(memory),
            ours.0 / sendfile.0,
            ours.0 / memory.0,
        );
    }
    let gzip = wrk(
        &format!("http://{address}{base}index.m3u8"),
        &["Accept-Encoding: gzip"],
        pid,
    );
    println!("index.m3u8, gzip                        | {:>7.0}", gzip.0);
}

fn held(connections: usize) {
    let mut server = Process::own(&["serve", "2", "live"]);
    let address = server.line();
    let pid = server.child.id();
    let empty = memory(pid, "VmRSS");
    let half = (connections / 2).to_string();
    let before = (Instant::now(), cpu(pid));
    let loaders: Vec<Process> = (0..2)
        .map(|_| Process::own(&["load", &address, &half, "20"]))
        .collect();
    let mut most: f64 = 0.0;
    let answers: Vec<String> = std::thread::scope(|scope| {
        let loaders: Vec<_> = loaders
            .into_iter()
            .map(|loader| scope.spawn(|| loader.rest()))
            .collect();
        while loaders.iter().any(|loader| !loader.is_finished()) {
            most = most.max(memory(pid, "VmRSS"));
            std::thread::sleep(Duration::from_millis(200));
        }
        loaders
            .into_iter()
            .map(|loader| loader.join().unwrap())
            .collect()
    });
    let spent = cpu(pid) - before.1;
    let used = spent / before.0.elapsed().as_secs_f64();
    server.child.kill().unwrap();
    let mut printed = String::new();
    server.out.read_to_string(&mut printed).unwrap();
    let ready: BTreeMap<u64, u64> = printed
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(part, time)| (part.parse().unwrap(), time.parse().unwrap()))
        .collect();
    let mut waves: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut errors = 0;
    for line in answers.iter().flat_map(|answers| answers.lines()) {
        let (part, time) = line.split_once(' ').unwrap();
        let (part, time): (u64, u64) = (part.parse().unwrap(), time.parse().unwrap());
        if time == 0 {
            errors += 1;
        } else if let Some(ready) = ready.get(&part) {
            waves
                .entry(part)
                .or_default()
                .push(time.saturating_sub(*ready));
        }
    }
    // Only waves that everyone took part in.
    let mut all = Vec::new();
    let mut last = Vec::new();
    for wave in waves
        .into_values()
        .filter(|wave| wave.len() == connections / 2 * 2)
    {
        last.push(*wave.iter().max().unwrap());
        all.extend(wave);
    }
    all.sort_unstable();
    last.sort_unstable();
    let at = |sorted: &[u64], percent: usize| {
        let micros = sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)));
        Duration::from_micros(micros.copied().unwrap_or_default())
    };
    println!(
        "{connections} held reloads, a part each 240 ms, {} whole waves, {errors} errors",
        last.len()
    );
    println!(
        "  part ready -> answer:      p50 {:?}, p99 {:?}",
        at(&all, 50),
        at(&all, 99)
    );
    println!(
        "  part ready -> last answer: p50 {:?}, p99 {:?}",
        at(&last, 50),
        at(&last, 99)
    );
    let lines: usize = answers.iter().map(|answers| answers.lines().count()).sum();
    let each = spent * 1e6 / f64::from(u32::try_from(lines.max(1)).unwrap());
    println!("  server: {each:.1} us of CPU an answer, {lines} answers");
    println!(
        "  server: {used:.2} cores, {most:.0} MB ({empty:.0} MB before, {:.1} KiB a connection)",
        (most - empty) * 1024.0 / f64::from(u32::try_from(connections).unwrap())
    );
}
