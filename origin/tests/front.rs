//! Who may connect, how, and how many, over real sockets.

#![allow(clippy::unwrap_used, reason = "what goes wrong here is a failed test")]

mod support;

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use origin::http::Limits;
use rustls::ServerConfig;
use support::{Client, Server, config};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::Command;

/// A server with a certificate for `localhost`, and the file that vouches for it.
async fn over_tls() -> (Server, PathBuf) {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![key.cert.der().clone()],
            key.signing_key.serialize_der().try_into().unwrap(),
        )
        .unwrap();
    let server = Server::over(support::config(), Limits::default(), Some(Arc::new(config))).await;
    let folder = std::env::temp_dir().join(format!(
        "origin-front-{}-{}",
        std::process::id(),
        server.address.port()
    ));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("ca.pem");
    std::fs::write(&path, key.cert.pem()).unwrap();
    (server, path)
}

/// What curl says of a request: status, HTTP version, size.
async fn curl(args: &[&str]) -> String {
    let mut command = Command::new("curl");
    command.args([
        "-sS",
        "--max-time",
        "20",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code} %{http_version} %{size_download}",
    ]);
    let output = command.args(args).output().await.unwrap();
    assert!(
        output.status.success(),
        "curl {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_of_http_and_tls_gets_the_same() {
    let (server, ca) = over_tls().await;
    let mut feed = server.feed("s", "e");
    feed.begin().await;
    feed.to(12, 3).await;
    let ca = ca.to_str().unwrap();
    let url = |path: &str| format!("https://localhost:{}{path}", server.address.port());
    let playlist = url(&format!("{}?_HLS_msn=12&_HLS_part=2", feed.playlist()));
    let media = url(&feed.path("720p/11.m4s"));
    curl(&["--cacert", ca, &playlist]).await;
    let size = curl(&["--cacert", ca, "--http1.1", &media]).await;
    let size = size.rsplit(' ').next().unwrap();
    for (version, flags) in [
        ("2", &["--http2", "--tlsv1.3"][..]),
        ("2", &["--http2", "--tlsv1.2", "--tls-max", "1.2"][..]),
        ("1.1", &["--http1.1", "--tlsv1.3"][..]),
        ("1.1", &["--http1.1", "--tls-max", "1.2"][..]),
    ] {
        let mut args = vec!["--cacert", ca];
        args.extend(flags);
        args.push(&media);
        assert_eq!(
            curl(&args).await,
            format!("200 {version} {size}"),
            "{flags:?}"
        );
    }
    let ranged = curl(&["--cacert", ca, "--http2", "-r", "10-19", &media]).await;
    assert_eq!(ranged, "206 2 10");
    let head = curl(&["--cacert", ca, "--http2", "-I", &media]).await;
    assert!(head.starts_with("200 2 "), "{head}");
    let old = Command::new("curl")
        .args(["-sS", "--cacert", ca, "--tls-max", "1.1", &media])
        .output()
        .await
        .unwrap();
    assert!(!old.status.success(), "nothing older than TLS 1.2");

    // A hold over HTTP/2, and its end.
    let held = url(&format!("{}?_HLS_msn=12&_HLS_part=3", feed.playlist()));
    let args = ["--cacert", ca, "--http2", &held];
    let held = curl(&args);
    let fed = async {
        server.holds(1).await;
        feed.to(12, 4).await;
    };
    let (held, ()) = tokio::join!(held, fed);
    assert!(held.starts_with("200 2 "), "{held}");
    std::fs::remove_dir_all(std::path::Path::new(ca).parent().unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_in_clear_comes_by_prior_knowledge() {
    let server = Server::start().await;
    let feed = server.live().await;
    let url = format!("http://{}{}", server.address, feed.path("720p/11.m4s"));
    let plain = curl(&["--http1.1", &url]).await;
    let size = plain.rsplit(' ').next().unwrap();
    assert_eq!(
        curl(&["--http2-prior-knowledge", &url]).await,
        format!("200 2 {size}")
    );
}

#[tokio::test]
async fn one_address_has_so_many_connections_and_others_have_theirs() {
    let server = Server::with(
        config(),
        Limits {
            connections_per_address: 5,
            ..Limits::default()
        },
    )
    .await;
    let mut mine = Vec::new();
    for _ in 0..5 {
        let mut client = server.client().await;
        assert_eq!(client.get("/live/none/index.m3u8").await.status, 404);
        mine.push(client);
    }
    let mut sixth = TcpStream::connect(server.address).await.unwrap();
    assert!(
        matches!(sixth.read(&mut [0]).await, Ok(0) | Err(_)),
        "closed at once"
    );
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = Client::new(socket.connect(server.address).await.unwrap());
    assert_eq!(other.get("/live/none/index.m3u8").await.status, 404);
    mine.pop();
    loop {
        // The place is free once the server has seen the connection end.
        let mut again = server.client().await;
        again.send("GET", "/live/none/index.m3u8", "").await;
        if again.answer("GET").await.status == 404 {
            break;
        }
    }
}

#[tokio::test]
async fn a_trusted_network_has_no_limit_of_its_own() {
    let limits = Limits {
        connections_per_address: 1,
        held_per_address: 1,
        trusted: vec!["127.0.0.0/8".parse().unwrap()],
        ..Limits::default()
    };
    let server = Server::with(config(), limits).await;
    let mut feed = server.live().await;
    let path = format!("{}?_HLS_msn=12&_HLS_part=3", feed.playlist());
    let mut waiting = Vec::new();
    for _ in 0..20 {
        let mut client = server.client().await;
        client.send("GET", &path, "").await;
        waiting.push(client);
    }
    server.holds(20).await;
    feed.to(12, 4).await;
    for mut client in waiting {
        assert_eq!(client.answer("GET").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_half_open_connections_leaves_a_player_alone() {
    let limits = Limits {
        head: Duration::from_millis(300),
        connections_per_address: 2_000,
        ..Limits::default()
    };
    let server = Server::with(config(), limits).await;
    let mut feed = server.live().await;
    let mut flood = Vec::new();
    for number in 0..1_000 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        if number % 2 == 0 {
            tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET /live/s/e/720p/index.m3u8 HT")
                .await
                .unwrap();
        }
        flood.push(stream);
    }
    let mut player = server.client().await;
    for part in 3..8 {
        player
            .send(
                "GET",
                &format!("{}?_HLS_msn=12&_HLS_part={part}", feed.playlist()),
                "",
            )
            .await;
        feed.to(12, part + 1).await;
        assert_eq!(player.answer("GET").await.status, 200);
    }
    for mut stream in flood {
        assert!(
            matches!(stream.read(&mut [0]).await, Ok(0) | Err(_)),
            "each of them is cut"
        );
    }
}

/// Bytes that the kernel holds for the peers of a port here, by connection.
fn unread(port: u16) -> Vec<u64> {
    let connections = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let local = format!("0100007F:{port:04X}");
    let unread = connections.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let sending = fields[4].split(':').next().unwrap();
        (fields[1] == local).then(|| u64::from_str_radix(sending, 16).unwrap())
    });
    unread.filter(|bytes| *bytes > 0).collect()
}

#[tokio::test]
async fn the_kernel_holds_little_for_a_reader_that_stops_and_nothing_once_it_is_cut() {
    let limits = Limits {
        stall: Duration::from_secs(1),
        ..Limits::default()
    };
    let server = Server::with(config(), limits).await;
    let feed = server.live().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut reader = Client::new(socket.connect(server.address).await.unwrap());
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: a\r\n\r\n",
        feed.path("720p/11.m4s")
    );
    // Much more than a kernel holds, and read at once: what the server left unread would make any close abrupt.
    reader
        .io
        .write_all(request.repeat(40).as_bytes())
        .await
        .unwrap();
    let cut = async || {
        let families = server.registry.gather();
        let cut = families
            .iter()
            .find(|family| family.name() == "headwater_http_cut_connections_total");
        cut.is_some_and(|cut| {
            let reader = |metric: &&prometheus::proto::Metric| {
                metric
                    .get_label()
                    .iter()
                    .any(|label| label.value() == "slow_reader")
            };
            cut.get_metric().iter().filter(reader).count() > 0
        })
    };
    let mut most = 0;
    while !cut().await {
        most = most.max(unread(server.address.port()).into_iter().max().unwrap_or(0));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!((1..=64 << 10).contains(&most), "{most} bytes in the kernel");
    assert_eq!(unread(server.address.port()), [0; 0]);
    // Nothing more than what was under way already.
    let mut rest = Vec::new();
    assert!(reader.io.read_to_end(&mut rest).await.is_err());
    assert!(rest.len() < 64 << 10, "{} bytes", rest.len());
}

/// The child of the test below: a server in a process with few files.
#[tokio::test]
#[ignore = "run by the test below"]
async fn server_with_few_files() {
    let limits = Limits {
        connections: 1_000,
        connections_per_address: 1_000,
        ..Limits::default()
    };
    let server = Server::with(config(), limits).await;
    println!("listening on {}", server.address);
    std::future::pending::<()>().await;
}

/// User and system time of a process, in hundredths of a second.
fn cpu(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test]
async fn a_process_out_of_files_pauses_and_recovers() {
    let mut child = Command::new("prlimit")
        .args(["--nofile=40:40"])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "server_with_few_files",
            "--ignored",
            "--nocapture",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut out = tokio::io::BufReader::new(child.stdout.take().unwrap());
    let address = loop {
        let mut line = String::new();
        tokio::io::AsyncBufReadExt::read_line(&mut out, &mut line)
            .await
            .unwrap();
        if let Some((_, address)) = line.split_once("listening on ") {
            break address.trim().parse::<std::net::SocketAddr>().unwrap();
        }
    };
    // Twice as many as there are files; the rest waits in the kernel's queue.
    let mut crowd = Vec::new();
    for _ in 0..80 {
        crowd.push(Client::new(TcpStream::connect(address).await.unwrap()));
    }
    let mut served = 0;
    for client in &mut crowd {
        client.send("GET", "/live/none/index.m3u8", "").await;
    }
    for client in crowd.iter_mut().take(20) {
        served += usize::from(client.answer("GET").await.status == 404);
    }
    assert_eq!(served, 20, "those who were in first are served");
    let pid = child.id().unwrap();
    let before = cpu(pid);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let spent = cpu(pid) - before;
    assert!(
        spent < 30,
        "{spent} hundredths of a second in one: it spins"
    );
    // As the first leave, the others get their turn.
    let late = crowd.split_off(60);
    drop(crowd);
    for mut client in late {
        assert_eq!(client.answer("GET").await.status, 404);
    }
}
