//! The worker process: one stream's decoder, scalers and encoders, behind a socket and inside a sandbox.
//!
//! Its standard input is one end of a socket pair: commands come in, messages go out; its log is standard error. The
//! thread that reads the socket never waits for the others, so the worker ends at once when its supervisor does.

mod audio;
mod escape;
mod measure;
mod rung;
mod video;

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use media::{AccessUnit, Event, Format, Timescale, Timestamp, Track, TrackId};
use nix::sys::resource::{UsageWho, getrusage};

use crate::ffmpeg;
use crate::ipc::{self, Command, Failed, Message, Ready, Report};
use crate::sandbox::{self, Closed};

/// Commands that may wait for a thread. The supervisor sends less ahead than this; when it is full, the socket is
/// not read.
const QUEUE: usize = 2_048;
/// How often progress is reported.
const REPORT: Duration = Duration::from_millis(100);

/// Runs a worker on standard input until its supervisor hangs up. What the hidden command `worker` calls, before
/// anything else in the process has started a thread.
#[must_use]
pub fn main() -> ExitCode {
    let output = match sandbox::close_files()
        .map_err(Error::from)
        .and_then(|()| Ok(Output::new(socket()?)))
    {
        Ok(output) => output,
        Err(error) => {
            eprintln!(
                "a worker is started by its supervisor, with a socket as standard input: {error}"
            );
            return ExitCode::from(2);
        }
    };
    match run(&output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.send(&Message::Failed(Failed {
                reason: error.to_string(),
            }));
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Closes the sandbox around this process and then tries to get out of it: what was tried, and whether it was denied.
///
/// # Errors
/// When the sandbox cannot be closed, in words.
pub fn try_to_escape() -> Result<Vec<(&'static str, bool)>, String> {
    sandbox::enter(512 << 20).map_err(|error| error.to_string())?;
    Ok(escape::attempts())
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the socket: {0}")]
    Socket(#[from] std::io::Error),
    #[error("the supervisor's words: {0}")]
    Command(#[from] ipc::Error),
    #[error("the supervisor's first words are not a setup")]
    NoSetup,
    #[error("the sandbox: {0}")]
    Sandbox(#[from] sandbox::Error),
    #[error("libav: {0}")]
    Libav(#[from] ffmpeg::Error),
    #[error("a thread has ended: {0}")]
    Thread(&'static str),
}

fn socket() -> std::io::Result<UnixStream> {
    let file = std::io::stdin().as_fd().try_clone_to_owned()?;
    let socket = UnixStream::from(file);
    // Fails for anything that is not a socket.
    socket.local_addr()?;
    Ok(socket)
}

fn run(output: &Arc<Output>) -> Result<(), Error> {
    let mut input = Input {
        reader: ipc::Reader::new(),
    };
    let Some(Command::Setup(setup)) = input.next()? else {
        return Err(Error::NoSetup);
    };
    ffmpeg::load()?;
    let closed = sandbox::enter(setup.memory_max)?;
    let nanos = setup.measure.then(measure::nanos).transpose()?;
    output.send(&Message::Ready(Ready {
        fully: closed == Closed::Fully,
        nanos,
    }));

    let progress = Arc::new(Progress::default());
    let (video, commands) = sync_channel(QUEUE);
    let pictures = {
        let (output, progress) = (Arc::clone(output), Arc::clone(&progress));
        thread("pictures", move || {
            video::run(&commands, &output, &progress)
        })?
    };
    let (audio, commands) = sync_channel(QUEUE);
    let sound = {
        let (output, progress) = (Arc::clone(output), Arc::clone(&progress));
        thread("sound", move || audio::run(&commands, &output, &progress))?
    };
    {
        let (output, progress) = (Arc::clone(output), Arc::clone(&progress));
        thread("report", move || {
            loop {
                thread::sleep(REPORT);
                output.send(&Message::Report(progress.report()));
            }
        })?;
    }
    let mut tracks = Kinds {
        video: None,
        audio: None,
        scale: Timescale::VIDEO,
    };
    while let Some(command) = input.next()? {
        let end = matches!(command, Command::Event(Event::End));
        route(command, &mut tracks, &video, &audio)?;
        if end {
            drop((video, audio));
            pictures.join().map_err(|_| Error::Thread("pictures"))?;
            sound.join().map_err(|_| Error::Thread("sound"))?;
            output.send(&Message::Report(progress.report()));
            return Ok(());
        }
    }
    // The supervisor is gone, or wants this worker gone: nobody waits for what is still in work.
    std::process::exit(0)
}

/// Starts a thread.
///
/// # Errors
/// When the machine gives no memory for it, or the sandbox does not.
fn thread(
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> Result<thread::JoinHandle<()>, ffmpeg::Error> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(work);
    thread.map_err(|error| {
        eprintln!("a thread for {name}: {error}");
        ffmpeg::Error::Memory
    })
}

/// Which of the publisher's tracks is what.
struct Kinds {
    video: Option<TrackId>,
    audio: Option<TrackId>,
    /// The timescale of the sound.
    scale: Timescale,
}

fn route(
    command: Command,
    kinds: &mut Kinds,
    video: &SyncSender<video::Input>,
    audio: &SyncSender<audio::Input>,
) -> Result<(), Error> {
    let to_video = |input| video.send(input).map_err(|_| Error::Thread("pictures"));
    let to_audio = |input| audio.send(input).map_err(|_| Error::Thread("sound"));
    match command {
        Command::Setup(_) => Err(Error::NoSetup),
        Command::Job(job) => {
            to_audio(audio::Input::Job(job.sound))?;
            to_video(video::Input::Job(job))
        }
        Command::Event(Event::Tracks(tracks)) => {
            for track in tracks.iter() {
                match track.format {
                    Format::Video(_) if kinds.video.is_none_or(|id| id == track.id) => {
                        kinds.video = Some(track.id);
                        to_video(video::Input::Source(track.codec.clone()))?;
                    }
                    Format::Audio(_) if kinds.audio.is_none_or(|id| id == track.id) => {
                        kinds.audio = Some(track.id);
                        kinds.scale = track.timescale;
                        to_audio(audio::Input::Source(track.codec.clone(), track.timescale))?;
                    }
                    _ => {}
                }
            }
            Ok(())
        }
        Command::Fill(fill) => {
            let track = TrackId(fill.track);
            let scale = if Some(track) == kinds.video {
                Timescale::VIDEO
            } else {
                kinds.scale
            };
            let at = Timestamp::new(fill.at, scale);
            let data = bytes::Bytes::new();
            let unit = AccessUnit {
                track,
                dts: at,
                pts: at,
                duration: fill.duration,
                keyframe: false,
                data,
            };
            match Some(track) == kinds.video {
                true => to_video(video::Input::Unit(unit)),
                false => to_audio(audio::Input::Unit(unit)),
            }
        }
        Command::Event(Event::Segment(mark)) => to_video(video::Input::Mark(mark)),
        Command::Event(Event::Unit(unit)) if Some(unit.track) == kinds.video => {
            to_video(video::Input::Unit(unit))
        }
        Command::Event(Event::Unit(unit)) if Some(unit.track) == kinds.audio => {
            to_audio(audio::Input::Unit(unit))
        }
        Command::Event(_) => Ok(()),
    }
}

/// Commands from standard input.
struct Input {
    reader: ipc::Reader<Command>,
}

impl Input {
    /// The next command; nothing when the supervisor has hung up.
    fn next(&mut self) -> Result<Option<Command>, Error> {
        let mut stdin = std::io::stdin().lock();
        let mut chunk = [0; 1 << 16];
        loop {
            if let Some(command) = self.reader.next()? {
                return Ok(Some(command));
            }
            let length = match stdin.read(&mut chunk) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            if length == 0 {
                return Ok(None);
            }
            self.reader.buffer.extend_from_slice(&chunk[..length]);
        }
    }
}

/// The way out, shared by all threads.
struct Output {
    way: Mutex<Way>,
}

struct Way {
    socket: UnixStream,
    buffer: BytesMut,
    /// The tracks that are open.
    tracks: Vec<Track>,
}

impl Output {
    fn new(socket: UnixStream) -> Arc<Self> {
        Arc::new(Self {
            way: Mutex::new(Way {
                socket,
                buffer: BytesMut::new(),
                tracks: Vec::new(),
            }),
        })
    }

    /// Sends one message. The process ends when nobody listens any more.
    fn send(&self, message: &Message) {
        self.way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .send(message);
    }

    /// Ends the process, which is of no more use: its supervisor starts another.
    fn fail(&self, what: &str, error: &dyn std::fmt::Display) -> ! {
        let reason = format!("{what}: {error}");
        eprintln!("{reason}");
        self.send(&Message::Failed(Failed { reason }));
        std::process::exit(1)
    }

    fn unit(&self, unit: AccessUnit) {
        self.send(&Message::Event(Event::Unit(unit)));
    }

    /// Announces a track; its units may follow.
    fn open(&self, track: Track) {
        let mut way = self.way.lock().unwrap_or_else(PoisonError::into_inner);
        way.tracks.retain(|open| open.id != track.id);
        way.tracks.push(track);
        way.announce();
    }

    /// Says that a track is complete.
    fn close(&self, id: TrackId) {
        let mut way = self.way.lock().unwrap_or_else(PoisonError::into_inner);
        way.tracks.retain(|open| open.id != id);
        way.announce();
    }
}

impl Way {
    fn send(&mut self, message: &Message) {
        self.buffer.clear();
        ipc::encode(message, &mut self.buffer);
        if self.socket.write_all(&self.buffer).is_err() {
            std::process::exit(0);
        }
    }

    fn announce(&mut self) {
        let tracks = self.tracks.clone().into();
        self.send(&Message::Event(Event::Tracks(tracks)));
    }
}

/// What the threads count for the report.
#[derive(Default)]
struct Progress {
    units: AtomicU64,
    reached: AtomicI64,
    damaged: AtomicU64,
    dropped: AtomicU64,
    repeated: AtomicU64,
}

impl Progress {
    fn report(&self) -> Report {
        let (cpu, memory) = used();
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Report {
            units: read(&self.units),
            reached: self.reached.load(Ordering::Relaxed),
            cpu_micros: cpu,
            damaged: read(&self.damaged),
            dropped: read(&self.dropped),
            repeated: read(&self.repeated),
            memory,
        }
    }
}

/// Processor time in microseconds, and the most memory held in bytes, of this process.
fn used() -> (u64, u64) {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        return (0, 0);
    };
    let micros = |time: nix::sys::time::TimeVal| {
        let micros = time
            .tv_sec()
            .saturating_mul(1_000_000)
            .saturating_add(time.tv_usec());
        u64::try_from(micros).unwrap_or(0)
    };
    // The kernel counts memory in kilobytes.
    let memory = u64::try_from(usage.max_rss()).unwrap_or(0) * 1024;
    (
        micros(usage.user_time()) + micros(usage.system_time()),
        memory,
    )
}

/// Counts one more, and says how many there were.
fn count(counter: &AtomicU64) -> u64 {
    counter.fetch_add(1, Ordering::Relaxed)
}
