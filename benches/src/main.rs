//! Measures the client library against a session in another process.
//!
//! `jmp-bench serve SOCKET` serves echo, sink and source devices; `jmp-bench measure SOCKET`
//! prints figures as one JSON object. `cargo xtask bench` runs both and makes the table.

mod devices;
mod measure;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["serve", socket] => multi_threaded(devices::serve(Path::new(socket))),
        ["measure", socket] => single_threaded(measure::measure(Path::new(socket), false)),
        ["measure", socket, "--quick"] => {
            single_threaded(measure::measure(Path::new(socket), true))
        }
        ["sessions", count] => multi_threaded(devices::sessions(count)),
        _ => Err("usage: jmp-bench serve SOCKET | measure SOCKET [--quick] | sessions COUNT".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("jmp-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What a measurement returns.
type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// The runtime of `jmp shell` and `jmp run`.
fn multi_threaded(work: impl Future<Output = Outcome>) -> Outcome {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(work)
}

/// The runtime of `j`.
fn single_threaded(work: impl Future<Output = Outcome>) -> Outcome {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}
