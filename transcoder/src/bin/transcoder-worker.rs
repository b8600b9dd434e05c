//! The worker alone, for the tests and benches of this crate: what `headwater worker` is. With the argument `escape`
//! it tries to leave its sandbox and says how that went.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() != Some("escape") {
        return transcoder::worker::main();
    }
    match transcoder::worker::try_to_escape() {
        Ok(attempts) => {
            for (attempt, denied) in attempts {
                eprintln!("{attempt}: {}", if denied { "denied" } else { "done" });
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
