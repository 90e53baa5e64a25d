//! Project tasks: `cargo xtask help`.

mod bench;
mod compatibility;
mod environment;
mod interop;
mod licences;
mod rules;
mod setup;
mod steps;
mod test;

use std::process::ExitCode;

/// What a task returns: an error is a text for the person at the terminal.
type Outcome<T = ()> = Result<T, String>;

const HELP: &str = "\
Usage: cargo xtask <task> [options]

  setup                      Install what the tests need: Debian packages (as root) and the Python environment
  test [--quick] [--release] Build, test, check everything; `--quick` leaves out interop, clippy and docs
  interop [--local|--distributed] [--upstream] [--release] [pytest arguments]
                             Run the interop suites on our `jmp`, or validate the local one on the released packages
  compatibility [result.xml …]
                             Write docs/compatibility.md from the last interop results
  rules                      Check bans, licences and the arrows between crates
  bench [--quick] [--local|--lab] [--jmp PATH]
                             Measure ours (or another build of it), PyPI 0.9.0 and the raw limit; one table
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (task, options) = match arguments.split_first() {
        Some((task, options)) => (task.as_str(), options),
        None => ("help", &[] as &[String]),
    };
    let outcome = match task {
        "setup" => only_flags(options, &[]).and_then(|()| setup::run().map(drop)),
        "test" => only_flags(options, &["--quick", "--release"]).and_then(|()| test::run(options)),
        "interop" => interop::run(options),
        "compatibility" => compatibility::run(options),
        "rules" => only_flags(options, &[]).and_then(|()| rules::run()),
        "bench" => bench::run(options),
        bench::MEASURE => bench::measure_here(options),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        other => Err(format!("unknown task `{other}`\n\n{HELP}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Refuses options that a task does not know, so that a typing mistake is not a silent no.
fn only_flags(options: &[String], known: &[&str]) -> Outcome {
    match options.iter().find(|o| !known.contains(&o.as_str())) {
        Some(option) => Err(format!(
            "unknown option `{option}`; known: {}",
            known.join(" ")
        )),
        None => Ok(()),
    }
}

/// Whether a flag was given.
fn has(options: &[String], flag: &str) -> bool {
    options.iter().any(|o| o == flag)
}
