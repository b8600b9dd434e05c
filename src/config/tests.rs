use super::*;

const KEY: &str = "0123456789abcdef";

fn load_from(
    file: &str,
    environment: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Result<Config, Mistakes> {
    let mut layers = Layers::default();
    layers.environment(
        environment
            .iter()
            .map(|(key, text)| ((*key).to_owned(), (*text).to_owned()))
            .collect(),
    );
    layers.file(Path::new("headwater.toml"), file);
    for (key, text) in flags {
        let place = format!("flag --{key}");
        layers.flags.insert(
            (*key).to_owned(),
            Written {
                text: (*text).to_owned(),
                place,
            },
        );
    }
    layers.parse()
}

fn mistakes(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Vec<String> {
    load_from(file, environment, flags)
        .expect_err("has mistakes")
        .0
}

#[test]
fn flags_win_over_the_environment_over_the_file_over_defaults() {
    let file = "http = \"127.0.0.1:1\"\nops = \"127.0.0.1:1\"\nrtmp = \"127.0.0.1:1\"";
    let environment = [("http", "127.0.0.1:2"), ("ops", "127.0.0.1:2")];
    let config = load_from(file, &environment, &[("http", "127.0.0.1:3")]).unwrap();
    assert_eq!(config.http.unwrap().port(), 3);
    assert_eq!(config.ops.port(), 2);
    assert_eq!(config.rtmp.unwrap().port(), 1);
    assert_eq!(config.segment, Duration::from_secs(2));
    assert_eq!(config.rtmps, None);
}

#[test]
fn every_mistake_is_named_with_its_place() {
    let file = "segment = 2000\nsegmnt = 1\npart = \"fast\"\n";
    let found = mistakes(
        file,
        &[("ops", "nowhere"), ("htp", "x")],
        &[("max_streams", "0")],
    );
    let has = |parts: &[&str]| {
        assert!(
            found
                .iter()
                .any(|line| parts.iter().all(|part| line.contains(part))),
            "{parts:?} in {found:#?}"
        );
    };
    has(&["headwater.toml line 2", "segmnt", "did you mean segment?"]);
    has(&["headwater.toml line 3", "part", "milliseconds"]);
    has(&["environment HEADWATER_OPS", "address and port"]);
    has(&["environment HEADWATER_HTP", "no such setting"]);
    has(&["flag --max_streams", "whole number"]);
    assert_eq!(found.len(), 5, "{found:#?}");
}

#[test]
fn a_file_that_is_not_toml_names_its_line() {
    let found = mistakes("http = \"127.0.0.1:1\"\nops = = 3\n", &[], &[]);
    assert!(
        found
            .iter()
            .any(|line| line.starts_with("headwater.toml line 2")),
        "{found:?}"
    );
}

#[test]
fn streams_come_from_tables_or_pairs_and_the_strongest_source_wins() {
    let tables = format!(
        "[[stream]]\nid = \"a\"\nkey = \"{KEY}\"\n[[stream]]\nid = \"b\"\nkey = \"{KEY}1\"\n"
    );
    let ids = |config: Config| {
        config
            .streams
            .iter()
            .map(|(id, _)| id.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(load_from(&tables, &[], &[]).unwrap()), ["a", "b"]);
    let environment = format!("c={KEY}, d={KEY}2");
    assert_eq!(
        ids(load_from(&tables, &[("stream", &environment)], &[]).unwrap()),
        ["c", "d"]
    );
}

#[test]
fn a_mistake_in_a_stream_never_repeats_its_key() {
    let secret = "short-secret";
    let file = format!("stream = [\"a={secret}\", \"{secret}\", \"b/c={KEY}\"]\n[x]\n");
    let found = mistakes(&file, &[], &[]);
    assert_eq!(found.len(), 4, "{found:#?}");
    assert!(
        found
            .iter()
            .all(|line| !line.contains(secret) && !line.contains(KEY)),
        "{found:#?}"
    );
}

#[test]
fn tls_listeners_need_a_certificate() {
    let found = mistakes("https = \"0.0.0.0:8443\"", &[], &[("tls_cert", "cert.pem")]);
    assert!(
        found
            .iter()
            .any(|line| line.contains("https") && line.contains("tls_cert and tls_key")),
        "{found:?}"
    );
    assert!(
        found
            .iter()
            .any(|line| line.contains("flag --tls_cert: needs tls_key")),
        "{found:?}"
    );
}

#[test]
fn a_part_longer_than_half_a_segment_is_refused() {
    let found = mistakes("segment = 1000\npart = 501", &[], &[]);
    assert!(
        found[0].contains("line 2") && found[0].contains("half a segment"),
        "{found:?}"
    );
    assert!(load_from("segment = 1000\npart = 500", &[], &[]).is_ok());
}
