//! Things that are made once and kept between runs, outside the sources: encoded clips, foreign tools.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::program::run;

/// The pinned release of a package whose wheel carries a static ffmpeg 9.
const IMAGEIO_FFMPEG: &str = "imageio-ffmpeg==0.8.1";

/// The file or folder `name`, made by `make` when it is not there yet. Safe among tests that run as many processes.
pub(crate) fn kept(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("e2e");
    fs::create_dir_all(&root).unwrap();
    let place = root.join(name);
    if !place.exists() {
        let lock = File::create(root.join(format!("{name}.lock"))).unwrap();
        lock.lock().unwrap();
        if !place.exists() {
            // What a killed run left half made.
            let fresh = root.join(format!("new-{name}"));
            let _ = fs::remove_dir_all(&fresh);
            let _ = fs::remove_file(&fresh);
            make(&fresh);
            fs::rename(&fresh, &place).unwrap();
        }
    }
    place
}

/// The folder `name`, made anew whenever one of `sources` has changed.
pub(crate) fn kept_for(sources: &[PathBuf], name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let mut hash = DefaultHasher::new();
    for source in sources {
        fs::read(source).unwrap().hash(&mut hash);
    }
    kept(&format!("{name}-{:016x}", hash.finish()), make)
}

/// An ffmpeg that speaks enhanced RTMP: version 9, from the Python package index.
pub(crate) fn ffmpeg9() -> PathBuf {
    let venv = kept("imageio-ffmpeg", |fresh| {
        run(Command::new("python3").args(["-m", "venv"]).arg(fresh));
        run(Command::new(fresh.join("bin/python")).args([
            "-m",
            "pip",
            "install",
            "--quiet",
            IMAGEIO_FFMPEG,
        ]));
    });
    let libraries = fs::read_dir(venv.join("lib")).unwrap();
    let mut binaries = libraries.map(|python| {
        python
            .unwrap()
            .path()
            .join("site-packages/imageio_ffmpeg/binaries")
    });
    let binaries = binaries
        .find(|path| path.exists())
        .expect("the wheel has binaries");
    let mut files = fs::read_dir(binaries)
        .unwrap()
        .map(|file| file.unwrap().path());
    let is_ffmpeg = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("ffmpeg-"))
    };
    files.find(is_ffmpeg).expect("the wheel has an ffmpeg")
}

#[test]
fn what_is_kept_is_made_once() {
    let name = format!("kept-test-{}", std::process::id());
    let mut made = 0;
    for _ in 0..2 {
        let place = kept(&name, |path| {
            made += 1;
            fs::write(path, "x").unwrap();
        });
        assert_eq!(fs::read(&place).unwrap(), b"x");
    }
    assert_eq!(made, 1);
}
