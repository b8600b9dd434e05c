//! Who may publish, and who may administer.
//!
//! Publish keys are kept only as HMAC-SHA256 under a pepper of this installation, so that a copy of the state file
//! is no list of keys. A lookup costs the same for a wrong key and for one that no stream ever had.

use std::collections::HashMap;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use ingest::StreamKey;
use media::StreamId;
use ring::rand::SecureRandom as _;
use ring::{digest, hmac};
use serde::{Deserialize, Serialize};

const STATE_FILE: &str = "streams.json";
const PEPPER_FILE: &str = "pepper";
const TOKEN_FILE: &str = "admin-token";

type KeyHash = [u8; digest::SHA256_OUTPUT_LEN];

/// The streams of this server and the keys that open them.
pub(crate) struct Keys {
    pepper: hmac::Key,
    file: PathBuf,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    by_hash: HashMap<KeyHash, StreamId>,
    /// In order of creation; the newest last.
    streams: Vec<Stream>,
}

struct Stream {
    id: StreamId,
    hash: KeyHash,
    /// Declared in the configuration, so not ours to save or delete.
    declared: bool,
}

/// One minted stream in the state file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    id: String,
    key_hmac_sha256: String,
}

/// Why a stream cannot be made or deleted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("stream {0} exists")]
    Exists(StreamId),
    #[error("there is no stream {0}")]
    Unknown(StreamId),
    #[error("stream {0} is declared in the configuration; remove it there")]
    Declared(StreamId),
    #[error("the state file could not be written: {0}")]
    Save(#[from] std::io::Error),
}

impl Keys {
    /// Opens the keys kept under `data_dir`, creating what is missing, and adds the declared ones.
    pub(crate) fn open(
        data_dir: &Path,
        declared: &[(StreamId, StreamKey)],
    ) -> anyhow::Result<Self> {
        let pepper = secret_file(&data_dir.join(PEPPER_FILE))?;
        let keys = Self {
            pepper: hmac::Key::new(hmac::HMAC_SHA256, pepper.as_bytes()),
            file: data_dir.join(STATE_FILE),
            table: Mutex::default(),
        };
        keys.reload(declared)?;
        Ok(keys)
    }

    /// Reads the state file again and replaces the declared streams; on an error everything stays as it was.
    pub(crate) fn reload(&self, declared: &[(StreamId, StreamKey)]) -> anyhow::Result<()> {
        let mut table = Table::default();
        for (id, key) in declared {
            table.insert(Stream {
                id: id.clone(),
                hash: self.hash(key),
                declared: true,
            });
        }
        let text = match std::fs::read(&self.file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => b"[]".to_vec(),
            Err(error) => {
                return Err(error).with_context(|| format!("reading {}", self.file.display()));
            }
        };
        let place = || {
            format!(
                "{} is not a list of streams; restore or remove it",
                self.file.display()
            )
        };
        for saved in serde_json::from_slice::<Vec<Saved>>(&text).with_context(place)? {
            let id = saved.id.parse::<StreamId>().with_context(place)?;
            let hash = from_hex(&saved.key_hmac_sha256).with_context(place)?;
            if table.stream(&id).is_none() {
                table.insert(Stream {
                    id,
                    hash,
                    declared: false,
                });
            }
        }
        *self.table() = table;
        Ok(())
    }

    /// The stream that `key` opens.
    pub(crate) fn authorize(&self, key: &StreamKey) -> Option<StreamId> {
        let hash = self.hash(key);
        // The table is searched by keyed hash, whose bytes an attacker can neither choose nor learn from timing.
        self.table().by_hash.get(&hash).cloned()
    }

    /// Every stream's id, the newest last.
    pub(crate) fn ids(&self) -> Vec<StreamId> {
        self.table()
            .streams
            .iter()
            .map(|stream| stream.id.clone())
            .collect()
    }

    pub(crate) fn contains(&self, id: &StreamId) -> bool {
        self.table().stream(id).is_some()
    }

    /// Makes a stream and returns its key, which is nowhere kept.
    pub(crate) fn create(&self, id: StreamId) -> Result<StreamKey, Error> {
        let mut table = self.table();
        if table.stream(&id).is_some() {
            return Err(Error::Exists(id));
        }
        self.mint(&mut table, id)
    }

    /// Gives a minted stream a new key, making the stream where there is none. The old key stops at once.
    pub(crate) fn rotate(&self, id: StreamId) -> Result<StreamKey, Error> {
        let mut table = self.table();
        match table.stream(&id) {
            Some(stream) if stream.declared => return Err(Error::Declared(id)),
            Some(_) => table.remove(&id),
            None => {}
        }
        self.mint(&mut table, id)
    }

    /// Forgets a minted stream and its key.
    pub(crate) fn delete(&self, id: &StreamId) -> Result<(), Error> {
        let mut table = self.table();
        match table.stream(id) {
            None => return Err(Error::Unknown(id.clone())),
            Some(stream) if stream.declared => return Err(Error::Declared(id.clone())),
            Some(_) => table.remove(id),
        }
        self.save(&table)
    }

    fn mint(&self, table: &mut Table, id: StreamId) -> Result<StreamKey, Error> {
        let key: StreamKey =
            StreamKey::parse(&random_hex::<16>()).expect("32 hexadecimal digits make a stream key");
        table.insert(Stream {
            id: id.clone(),
            hash: self.hash(&key),
            declared: false,
        });
        if let Err(error) = self.save(table) {
            table.remove(&id);
            return Err(error);
        }
        Ok(key)
    }

    fn save(&self, table: &Table) -> Result<(), Error> {
        let minted = table.streams.iter().filter(|stream| !stream.declared);
        let saved = minted.map(|stream| Saved {
            id: stream.id.to_string(),
            key_hmac_sha256: to_hex(&stream.hash),
        });
        let text =
            serde_json::to_vec_pretty(&saved.collect::<Vec<_>>()).map_err(std::io::Error::other)?;
        write_secret(&self.file, &text).map_err(Error::Save)
    }

    fn hash(&self, key: &StreamKey) -> KeyHash {
        let tag = hmac::sign(&self.pepper, key.expose().as_bytes());
        tag.as_ref().try_into().expect("HMAC-SHA256 is 32 bytes")
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // A panic while the lock was held cannot leave the table half-changed: every change is one insert or remove.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn stream(&self, id: &StreamId) -> Option<&Stream> {
        self.streams.iter().find(|stream| stream.id == *id)
    }

    fn insert(&mut self, stream: Stream) {
        self.by_hash.insert(stream.hash, stream.id.clone());
        self.streams.push(stream);
    }

    fn remove(&mut self, id: &StreamId) {
        self.by_hash.retain(|_, stream| stream != id);
        self.streams.retain(|stream| stream.id != *id);
    }
}

/// The bearer token of the control API.
pub(crate) struct AdminToken(String);

impl AdminToken {
    /// Reads the token kept under `data_dir`; makes one, readable by this user alone, at the first start.
    pub(crate) fn open(data_dir: &Path) -> anyhow::Result<Self> {
        secret_file(&Self::file(data_dir)).map(Self)
    }

    /// Where the token is kept.
    pub(crate) fn file(data_dir: &Path) -> PathBuf {
        data_dir.join(TOKEN_FILE)
    }

    /// The token itself, to show to whoever started the server.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Whether an `Authorization` header carries the token. Compares digests, so that time tells nothing.
    pub(crate) fn admits(&self, authorization: Option<&str>) -> bool {
        let Some((scheme, given)) = authorization.and_then(|value| value.split_once(' ')) else {
            return false;
        };
        let digest = |text: &str| digest::digest(&digest::SHA256, text.as_bytes());
        let (given, own) = (digest(given.trim()), digest(&self.0));
        let differing = given
            .as_ref()
            .iter()
            .zip(own.as_ref())
            .fold(0, |acc, (a, b)| acc | (a ^ b));
        scheme.eq_ignore_ascii_case("bearer") && differing == 0
    }
}

/// The text of a secret file, made with 256 random bits when missing.
fn secret_file(path: &Path) -> anyhow::Result<String> {
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim().len() >= 32 => Ok(text.trim().to_owned()),
        Ok(_) => anyhow::bail!(
            "{} holds no secret of 32 characters or more; remove it",
            path.display()
        ),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let secret = random_hex::<32>();
            write_secret(path, secret.as_bytes())
                .with_context(|| format!("writing {}", path.display()))?;
            Ok(secret)
        }
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// Replaces `path` whole or not at all, readable by this user alone.
fn write_secret(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    std::fs::File::open(folder)?.sync_all()
}

/// `2 * N` hexadecimal digits from the system's random numbers.
pub(crate) fn random_hex<const N: usize>() -> String {
    let mut bytes = [0; N];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .expect("the system has random numbers");
    to_hex(&bytes)
}

fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    bytes
        .iter()
        .flat_map(|byte| {
            [
                DIGITS[usize::from(byte >> 4)],
                DIGITS[usize::from(byte & 15)],
            ]
        })
        .collect()
}

fn from_hex(text: &str) -> Option<KeyHash> {
    let mut bytes = KeyHash::default();
    if text.len() != 2 * bytes.len() || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |at: usize| {
            char::from(digits[at])
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        };
        *byte = digit(0)? << 4 | digit(1)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> StreamId {
        text.parse().unwrap()
    }

    #[test]
    fn a_minted_key_opens_its_stream_across_restarts_and_is_not_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::open(dir.path(), &[]).unwrap();
        let key = keys.create(id("room")).unwrap();
        assert_eq!(keys.authorize(&key), Some(id("room")));
        assert!(matches!(keys.create(id("room")), Err(Error::Exists(_))));

        let again = Keys::open(dir.path(), &[]).unwrap();
        assert_eq!(again.authorize(&key), Some(id("room")));
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            assert!(!text.contains(key.expose()), "the key itself was written");
        }
    }

    #[test]
    fn rotating_a_key_ends_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::open(dir.path(), &[]).unwrap();
        let old = keys.rotate(id("room")).unwrap();
        let new = keys.rotate(id("room")).unwrap();
        assert_eq!(keys.authorize(&old), None);
        assert_eq!(keys.authorize(&new), Some(id("room")));
        keys.delete(&id("room")).unwrap();
        assert_eq!(keys.authorize(&new), None);
        assert!(matches!(keys.delete(&id("room")), Err(Error::Unknown(_))));
    }

    #[test]
    fn a_declared_stream_is_the_configurations_to_change() {
        let dir = tempfile::tempdir().unwrap();
        let key: StreamKey = StreamKey::parse("a-key-of-the-operators-choice").unwrap();
        let keys = Keys::open(dir.path(), &[(id("hall"), key.clone())]).unwrap();
        assert_eq!(keys.authorize(&key), Some(id("hall")));
        assert!(matches!(keys.delete(&id("hall")), Err(Error::Declared(_))));
        assert!(matches!(keys.rotate(id("hall")), Err(Error::Declared(_))));
        keys.reload(&[]).unwrap();
        assert_eq!(keys.authorize(&key), None);
    }

    #[test]
    fn a_broken_state_file_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::open(dir.path(), &[]).unwrap();
        let key = keys.create(id("room")).unwrap();
        std::fs::write(dir.path().join(STATE_FILE), "[{").unwrap();
        assert!(keys.reload(&[]).is_err());
        assert_eq!(
            keys.authorize(&key),
            Some(id("room")),
            "what was loaded stays"
        );
    }

    #[test]
    fn only_the_token_as_a_bearer_is_admitted() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let token = AdminToken::open(dir.path()).unwrap();
        let header = format!("Bearer {}", token.expose());
        assert!(token.admits(Some(&header)));
        assert!(!token.admits(Some(&header[..header.len() - 1])));
        assert!(!token.admits(Some(token.expose())));
        assert!(!token.admits(Some("Bearer ")));
        assert!(!token.admits(None));
        assert_eq!(
            AdminToken::open(dir.path()).unwrap().expose(),
            token.expose()
        );
        let mode = std::fs::metadata(dir.path().join(TOKEN_FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
