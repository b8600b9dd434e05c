//! Configuration: defaults, then the file, then the environment, then flags, laid over each other and parsed once.
//! Every mistake is reported together, each with the place it stands in.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ingest::StreamKey;
use media::StreamId;
use origin::http::Network;
use toml::de::{DeTable, DeValue};

use crate::cli::Settings;

/// Everything the server needs to know, checked.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) data_dir: PathBuf,
    pub(crate) streams: Vec<(StreamId, StreamKey)>,
    pub(crate) rtmp: Option<SocketAddr>,
    pub(crate) rtmps: Option<SocketAddr>,
    pub(crate) http: Option<SocketAddr>,
    pub(crate) https: Option<SocketAddr>,
    pub(crate) ops: SocketAddr,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) segment: Duration,
    pub(crate) part: Duration,
    pub(crate) dvr: Duration,
    pub(crate) ladder: transcoder::Ladder,
    pub(crate) max_streams: Option<NonZeroU32>,
    pub(crate) window_bytes: usize,
    pub(crate) trusted: Vec<Network>,
    pub(crate) ready_file: Option<PathBuf>,
    /// The test publisher's stream, when there is one; never written down anywhere.
    pub(crate) demo: Option<(StreamId, StreamKey)>,
}

impl Config {
    /// Every stream that is not the state file's.
    pub(crate) fn declared(&self) -> Vec<(StreamId, StreamKey)> {
        self.streams.iter().chain(&self.demo).cloned().collect()
    }
}

/// Where the certificate and its key are.
#[derive(Clone, Debug)]
pub(crate) struct TlsFiles {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// Every mistake found in the configuration.
#[derive(Debug)]
pub(crate) struct Mistakes(Vec<String>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration has mistakes:")?;
        for mistake in &self.0 {
            write!(f, "\n  {mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

const ENV_PREFIX: &str = "HEADWATER_";
const KEY_FORM: &str = "a key is 16 to 128 characters of A-Z a-z 0-9 _ -";
const DEFAULT_FILE: &str = "headwater.toml";

/// The single-valued settings and their defaults; an empty default means none.
const DEFAULTS: [(&str, &str); 16] = [
    ("data_dir", "headwater-data"),
    ("rtmp", "0.0.0.0:1935"),
    ("rtmps", "off"),
    ("http", "0.0.0.0:8080"),
    ("https", "off"),
    ("ops", "127.0.0.1:9180"),
    ("tls_cert", ""),
    ("tls_key", ""),
    ("segment", "2000"),
    ("part", "250"),
    ("dvr", "7200000"),
    ("ladder", "default"),
    ("max_streams", ""),
    ("window_memory", "512"),
    ("trusted", ""),
    ("ready_file", ""),
];

/// Reads and checks the configuration as it stands in `settings`, the environment and the file.
///
/// # Errors
/// All mistakes at once.
pub(crate) fn load(settings: &Settings) -> Result<Config, Mistakes> {
    let environment = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        let key = name.strip_prefix(ENV_PREFIX)?.to_ascii_lowercase();
        Some((key, value.to_string_lossy().into_owned()))
    });
    let mut layers = Layers::default();
    layers.environment(environment.collect());
    let file = settings
        .config
        .clone()
        .or_else(|| layers.take_config_path());
    let named = file.is_some();
    let file = file.unwrap_or_else(|| DEFAULT_FILE.into());
    if named || file.exists() {
        match std::fs::read_to_string(&file) {
            Ok(text) => layers.file(&file, &text),
            Err(error) => layers.mistakes.push(format!("{}: {error}", file.display())),
        }
    }
    layers.flags(settings);
    layers.parse()
}

/// A value as somebody wrote it, and where.
#[derive(Clone)]
struct Written {
    text: String,
    place: String,
}

/// The sources, the strongest last; within a key the strongest has replaced the others.
#[derive(Default)]
struct Layers {
    file: BTreeMap<String, Written>,
    environment: BTreeMap<String, Written>,
    flags: BTreeMap<String, Written>,
    file_streams: Vec<Written>,
    environment_streams: Vec<Written>,
    flag_streams: Vec<Written>,
    mistakes: Vec<String>,
}

impl Layers {
    fn environment(&mut self, variables: Vec<(String, String)>) {
        for (key, text) in variables {
            let place = format!("environment {ENV_PREFIX}{}", key.to_ascii_uppercase());
            if key == "stream" {
                let one = |text: &str| Written {
                    text: text.trim().to_owned(),
                    place: place.clone(),
                };
                self.environment_streams = text.split(',').map(one).collect();
            } else if key == "config" || is_setting(&key) {
                self.environment.insert(key, Written { text, place });
            } else if key != "log" {
                self.mistakes
                    .push(format!("{place}: no such setting{}", nearest(&key)));
            }
        }
    }

    fn take_config_path(&mut self) -> Option<PathBuf> {
        self.environment
            .remove("config")
            .map(|written| written.text.into())
    }

    fn file(&mut self, path: &Path, text: &str) {
        let table = match DeTable::parse(text) {
            Ok(table) => table,
            Err(error) => {
                let line = error.span().map_or(1, |span| line_of(text, span.start));
                self.mistakes.push(format!(
                    "{} line {line}: {}",
                    path.display(),
                    error.message()
                ));
                return;
            }
        };
        for (key, value) in table.get_ref() {
            let place = format!(
                "{} line {}: {}",
                path.display(),
                line_of(text, key.span().start),
                key.get_ref()
            );
            let key = key.get_ref().as_ref();
            if key == "stream" {
                self.file_stream_list(path, text, value.get_ref(), &place);
            } else if !is_setting(key) {
                self.mistakes
                    .push(format!("{place}: no such setting{}", nearest(key)));
            } else if let Some(text) = scalar(value.get_ref()) {
                self.file.insert(key.to_owned(), Written { text, place });
            } else {
                self.mistakes.push(format!(
                    "{place}: expected one value, such as {key} = \"…\""
                ));
            }
        }
    }

    /// `[[stream]]` tables with `id` and `key`, or `stream = ["ID=KEY", …]`.
    fn file_stream_list(&mut self, path: &Path, text: &str, list: &DeValue<'_>, place: &str) {
        let DeValue::Array(list) = list else {
            self.mistakes.push(format!(
                "{place}: expected [[stream]] tables with id and key"
            ));
            return;
        };
        for item in list {
            let place = format!(
                "{} line {}: stream",
                path.display(),
                line_of(text, item.span().start)
            );
            match item.get_ref() {
                DeValue::String(pair) => self.file_streams.push(Written {
                    text: pair.to_string(),
                    place,
                }),
                DeValue::Table(table) => {
                    let field =
                        |name: &str| table.get(name).and_then(|value| scalar(value.get_ref()));
                    for key in table
                        .keys()
                        .filter(|key| !matches!(key.get_ref().as_ref(), "id" | "key"))
                    {
                        let line = line_of(text, key.span().start);
                        let name = key.get_ref();
                        let known = "a stream has id and key";
                        self.mistakes.push(format!(
                            "{} line {line}: stream.{name}: {known}",
                            path.display()
                        ));
                    }
                    match (field("id"), field("key")) {
                        (Some(id), Some(key)) => {
                            self.file_streams.push(Written {
                                text: format!("{id}={key}"),
                                place,
                            });
                        }
                        _ => self
                            .mistakes
                            .push(format!("{place}: needs id = \"…\" and key = \"…\"")),
                    }
                }
                _ => self
                    .mistakes
                    .push(format!("{place}: expected a table with id and key")),
            }
        }
    }

    fn flags(&mut self, settings: &Settings) {
        for (key, text) in settings.given() {
            let place = format!("flag --{}", key.replace('_', "-"));
            self.flags.insert(
                key.to_owned(),
                Written {
                    text: text.to_owned(),
                    place,
                },
            );
        }
        let one = |text: &String| Written {
            text: text.clone(),
            place: "flag --stream".to_owned(),
        };
        self.flag_streams = settings.stream.iter().map(one).collect();
    }

    fn parse(mut self) -> Result<Config, Mistakes> {
        let streams = self.streams();
        let config = Config {
            data_dir: self.value("data_dir", |text| Ok(PathBuf::from(text))),
            streams,
            rtmp: self.value("rtmp", listener),
            rtmps: self.value("rtmps", listener),
            http: self.value("http", listener),
            https: self.value("https", listener),
            ops: self.value("ops", address),
            tls: self.tls(),
            segment: self.value("segment", |text| millis(text, 500, 10_000)),
            part: self.value("part", |text| millis(text, 100, 5_000)),
            dvr: self.value("dvr", |text| millis(text, 10_000, 7 * 86_400_000)),
            ladder: self.value("ladder", ladder),
            max_streams: self.value("max_streams", |text| optional(text, stream_count)),
            window_bytes: self.value("window_memory", |text| Ok(count(text, 16, 1 << 20)? << 20)),
            trusted: self.value("trusted", networks),
            ready_file: self.value("ready_file", |text| {
                optional(text, |text| Ok(PathBuf::from(text)))
            }),
            demo: None,
        };
        if config.part * 2 > config.segment {
            let (part, segment) = (self.written("part"), self.written("segment"));
            let mend = "a part is at most half a segment";
            self.mistakes.push(format!(
                "{}: {} and {}: {}: {mend}",
                part.place, part.text, segment.place, segment.text
            ));
        }
        for key in ["rtmps", "https"] {
            let asked = self.written(key);
            if config.tls.is_none() && asked.text != "off" {
                self.mistakes
                    .push(format!("{}: needs tls_cert and tls_key", asked.place));
            }
        }
        if self.mistakes.is_empty() {
            Ok(config)
        } else {
            Err(Mistakes(self.mistakes))
        }
    }

    /// The strongest source's text for a single-valued setting.
    fn written(&self, key: &str) -> Written {
        let layer = [&self.flags, &self.environment, &self.file]
            .into_iter()
            .find_map(|layer| layer.get(key));
        layer.cloned().unwrap_or_else(|| {
            let (_, text) = DEFAULTS
                .iter()
                .find(|(name, _)| *name == key)
                .expect("only settings are asked for");
            Written {
                text: (*text).to_owned(),
                place: format!("default {key}"),
            }
        })
    }

    /// Parses the strongest text; a mistake is noted and the default stands in so that parsing can go on.
    fn value<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> T {
        let written = self.written(key);
        parse(&written.text).unwrap_or_else(|problem| {
            self.mistakes
                .push(format!("{}: {:?}: {problem}", written.place, written.text));
            let (_, default) = DEFAULTS
                .iter()
                .find(|(name, _)| *name == key)
                .expect("only settings are asked for");
            parse(default).expect("every default parses")
        })
    }

    fn streams(&mut self) -> Vec<(StreamId, StreamKey)> {
        let sources = [
            &self.flag_streams,
            &self.environment_streams,
            &self.file_streams,
        ];
        let strongest = sources
            .into_iter()
            .find(|list| !list.is_empty())
            .cloned()
            .unwrap_or_default();
        let mut streams: Vec<(StreamId, StreamKey)> = Vec::new();
        for Written { text, place } in strongest {
            // The text holds a secret: no message repeats it.
            let Some((id, key)) = text.split_once('=') else {
                self.mistakes.push(format!("{place}: expected ID=KEY"));
                continue;
            };
            match (
                id.parse::<StreamId>(),
                StreamKey::parse(key).ok_or(KEY_FORM),
            ) {
                (Ok(id), Ok(_)) if streams.iter().any(|(other, _)| *other == id) => {
                    self.mistakes
                        .push(format!("{place}: stream {id} is declared twice"));
                }
                (Ok(id), Ok(key)) => streams.push((id, key)),
                (Err(problem), _) => self.mistakes.push(format!("{place}: {id:?}: {problem}")),
                (Ok(id), Err(problem)) => self
                    .mistakes
                    .push(format!("{place}: the key of {id}: {problem}")),
            }
        }
        streams
    }

    fn tls(&mut self) -> Option<TlsFiles> {
        let (cert, key) = (self.written("tls_cert"), self.written("tls_key"));
        match (cert.text.is_empty(), key.text.is_empty()) {
            (false, false) => Some(TlsFiles {
                cert: cert.text.into(),
                key: key.text.into(),
            }),
            (true, true) => None,
            (false, true) => {
                self.mistakes
                    .push(format!("{}: needs tls_key too", cert.place));
                None
            }
            (true, false) => {
                self.mistakes
                    .push(format!("{}: needs tls_cert too", key.place));
                None
            }
        }
    }
}

fn is_setting(key: &str) -> bool {
    DEFAULTS.iter().any(|(name, _)| *name == key)
}

/// " (did you mean …?)" for a key that shares its beginning with a setting.
fn nearest(key: &str) -> String {
    let shared = |name: &str| {
        name.bytes()
            .zip(key.bytes())
            .take_while(|(a, b)| a == b)
            .count()
    };
    let names = DEFAULTS.iter().map(|(name, _)| *name).chain(["stream"]);
    match names.max_by_key(|name| shared(name)) {
        Some(name) if shared(name) >= 3 => format!(" (did you mean {name}?)"),
        _ => String::new(),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text
        .bytes()
        .take(offset)
        .filter(|byte| *byte == b'\n')
        .count()
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    }
}

fn listener(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "off" {
        Ok(None)
    } else {
        address(text).map(Some)
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "expected an address and port, such as 0.0.0.0:8080 or [::]:8080".to_owned())
}

fn count(text: &str, min: usize, max: usize) -> Result<usize, String> {
    let number = text
        .parse()
        .ok()
        .filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| format!("expected a whole number from {min} to {max}"))
}

fn stream_count(text: &str) -> Result<NonZeroU32, String> {
    text.parse()
        .map_err(|_| "expected a whole number from 1 up".to_owned())
}

fn millis(text: &str, min: u64, max: u64) -> Result<Duration, String> {
    let number = text
        .parse()
        .ok()
        .filter(|number| (min..=max).contains(number));
    number
        .map(Duration::from_millis)
        .ok_or_else(|| format!("expected milliseconds from {min} to {max}"))
}

fn optional<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if text.is_empty() {
        Ok(None)
    } else {
        parse(text).map(Some)
    }
}

/// Networks with commas between them.
fn networks(text: &str) -> Result<Vec<Network>, String> {
    let named = text
        .split(',')
        .map(str::trim)
        .filter(|text| !text.is_empty());
    named
        .map(|text| text.parse().map_err(|error| format!("{text}: {error}")))
        .collect()
}

fn ladder(text: &str) -> Result<transcoder::Ladder, String> {
    if let Some(ladder) = transcoder::Ladder::named(text) {
        return Ok(ladder);
    }
    let file = std::fs::read_to_string(text);
    let file = file.map_err(|error| format!("no ladder has this name, and as a file: {error}"))?;
    toml::from_str(&file).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
