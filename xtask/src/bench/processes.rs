//! Whole processes: a session held open, programs run many times inside it, memory.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

use super::table::median;
use crate::environment::captured;
use crate::{Outcome, bench};

/// Time and memory of one program over several runs.
pub struct Usage {
    /// Median wall time in milliseconds, start to end.
    pub median_ms: f64,
    /// Largest resident set of any run.
    pub peak_mib: f64,
}

/// `jmp shell` around a program that waits until we close its input.
pub struct Session {
    child: Child,
    folder: PathBuf,
    config: PathBuf,
    environment: BTreeMap<String, String>,
}

impl Session {
    /// Starts `jmp shell --exporter-config CONFIG` and waits until its child runs.
    pub fn open(jmp: &Path, config: &Path, folder: &Path) -> Outcome<Self> {
        fs::create_dir_all(folder)
            .map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
        let seen = folder.join("environment");
        let _ = fs::remove_file(&seen);
        let script = format!(
            "env -0 > '{0}.new' && mv '{0}.new' '{0}'; exec cat > /dev/null",
            seen.display()
        );
        let log = fs::File::create(folder.join("log")).map_err(|error| error.to_string())?;
        let errors = log.try_clone().map_err(|error| error.to_string())?;
        let spawned = Command::new(jmp)
            .args(["shell", "--exporter-config"])
            .arg(config)
            .args(["--", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(errors)
            .spawn();
        let child = spawned.map_err(|error| format!("cannot run {}: {error}", jmp.display()))?;
        let mut session = Self {
            child,
            folder: folder.into(),
            config: config.into(),
            environment: BTreeMap::new(),
        };
        session.environment = session.wait_for(&seen)?;
        Ok(session)
    }

    fn wait_for(&mut self, seen: &Path) -> Outcome<BTreeMap<String, String>> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !seen.exists() {
            let ended = self
                .child
                .try_wait()
                .map_err(|error| error.to_string())?
                .is_some();
            if ended || Instant::now() > deadline {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                return Err(format!(
                    "`jmp shell` did not start its child: {}",
                    log.trim()
                ));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let text = fs::read_to_string(seen).map_err(|error| error.to_string())?;
        Ok(text
            .split('\0')
            .filter_map(|entry| entry.split_once('='))
            .map(|(k, v)| (k.into(), v.into()))
            .collect())
    }

    /// Gives a command the environment of the session's child.
    pub fn enter(&self, command: &mut Command) {
        command
            .env_clear()
            .envs(&self.environment)
            .env("TERM", "dumb");
    }

    /// The exporter's process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where its log is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it serves.
    pub fn config(&self) -> PathBuf {
        self.config.clone()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let deadline = Instant::now() + Duration::from_secs(15);
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Runs a program `runs` times inside a session.
///
/// # Errors
/// As [`repeated_with`].
pub fn repeated(
    session: &Session,
    program: &Path,
    arguments: &[&str],
    runs: usize,
) -> Outcome<Usage> {
    repeated_with(|command| session.enter(command), program, arguments, runs)
}

/// Runs a program `runs` times, with what `enter` adds.
///
/// It happens in a small process of its own, because the peak memory of children is kept per parent.
///
/// # Errors
/// When a run fails.
pub fn repeated_with(
    enter: impl FnOnce(&mut Command),
    program: &Path,
    arguments: &[&str],
    runs: usize,
) -> Outcome<Usage> {
    let me = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(me);
    enter(&mut command);
    let text = captured(
        command
            .args([bench::MEASURE, &runs.to_string()])
            .arg(program)
            .args(arguments),
    )?;
    let mut numbers = text.split_whitespace().filter_map(|word| word.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(median_ms), Some(peak_mib)) => Ok(Usage {
            median_ms,
            peak_mib,
        }),
        _ => Err(format!("unexpected answer `{}`", text.trim())),
    }
}

/// The hidden task behind [`repeated`]: prints the median time in ms and the peak memory in MiB.
///
/// # Errors
/// When a run fails: a failing program's time means nothing.
pub fn measure_here(arguments: &[String]) -> Outcome {
    let [runs, program, rest @ ..] = arguments else {
        return Err("usage: RUNS PROGRAM [ARGUMENT]…".into());
    };
    let runs: usize = runs
        .parse()
        .map_err(|_| format!("`{runs}` is not a number"))?;
    let mut times = Vec::with_capacity(runs);
    // The first run warms the page cache and does not count.
    for _ in 0..=runs {
        let begin = Instant::now();
        let output = Command::new(program)
            .args(rest)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .output();
        times.push(begin.elapsed().as_secs_f64() * 1e3);
        let output = output.map_err(|error| format!("cannot run {program}: {error}"))?;
        if !output.status.success() {
            return Err(format!(
                "{program} failed ({}): {}",
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            ));
        }
    }
    times.remove(0);
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(|error| error.to_string())?;
    println!("{} {}", median(times), usage.max_rss() as f64 / 1024.0);
    Ok(())
}

/// Resident memory of a process and of its descendants that serve (not of what runs inside the session), in MiB.
pub fn memory(process: u32) -> Outcome<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))
        .map_err(|error| format!("exporter is gone: {error}"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .ok_or("no VmRSS")?;
    let kibibytes: f64 = line
        .split_whitespace()
        .next()
        .and_then(|n| n.parse().ok())
        .ok_or("no VmRSS")?;
    Ok(kibibytes / 1024.0)
}
