//! `cargo xtask bench`: one table from one run; ours beside PyPI 0.9.0 and beside the raw limit of the machine.
//!
//! Whole processes, memory, the raw limits and the upstream figures are measured here. Figures of the Rust client
//! library come from the program `jmp-bench-client` (folder `benches/`), called as `jmp-bench-client MEASURE COUNT` inside a session;
//! it prints one number. `benches/upstream.py` takes the same arguments for the Python client.
//! The distributed mode is played by `jmp-bench-lab` around the real controller and router ([`lab`], [`scale`]).

mod lab;
mod processes;
mod raw;
mod scale;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use processes::{Session, memory, repeated};
use table::{Row, Table, Unit};

use crate::environment::{captured, cargo, interop_python, jmp, root, target};
use crate::{Outcome, steps};

/// Hidden task: runs a program many times in this process and prints times and peak memory as JSON.
pub const MEASURE: &str = "__measure";
pub use processes::measure_here;

const MIB: f64 = 1024.0 * 1024.0;

/// How much to measure; `--quick` is for trying the bench itself, its figures are rough.
struct Effort {
    runs: usize,
    upstream_runs: usize,
    calls: u64,
    upstream_calls: u64,
    file_mib: u64,
    upstream_file_mib: u64,
    flat_bytes: u64,
    flat_sessions: u64,
}

const FULL: Effort = Effort {
    runs: 100,
    upstream_runs: 7,
    calls: 20_000,
    upstream_calls: 2_000,
    file_mib: 1024,
    upstream_file_mib: 128,
    flat_bytes: 4 << 30,
    flat_sessions: 10_000,
};

const QUICK: Effort = Effort {
    runs: 15,
    upstream_runs: 3,
    calls: 2_000,
    upstream_calls: 300,
    file_mib: 128,
    upstream_file_mib: 16,
    flat_bytes: 256 << 20,
    flat_sessions: 300,
};

/// One side of the comparison: its programs and an open session.
struct Side {
    jmp: PathBuf,
    j: PathBuf,
    /// What measures with the client library: a program and its first arguments.
    library: Vec<PathBuf>,
    session: Session,
}

/// Builds in release mode, measures, prints the table.
///
/// # Errors
/// When nothing of ours can be measured. A missed target is a verdict, not an error.
pub fn run(options: &[String]) -> Outcome {
    let Options {
        quick,
        program: other,
        parts,
    } = parse(options)?;
    let effort = if quick { QUICK } else { FULL };
    let given = other.is_some();
    let program = match other {
        Some(path) => path,
        None => {
            steps::must_succeed(Command::new(cargo()).current_dir(root()).args([
                "build",
                "--release",
                "--bin",
                "jmp",
            ]))?;
            jmp(true)
        }
    };
    let scratch = target().join("bench");
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(&scratch)
        .map_err(|error| format!("cannot create {}: {error}", scratch.display()))?;
    let mut table = Table::default();
    if parts != Parts::Lab {
        local(&mut table, &effort, program.clone(), &scratch)?;
    }
    if parts != Parts::Local {
        // Another build of ours may have its player beside it.
        let mut player = program.with_file_name("jmp-bench-lab");
        if !given || !player.exists() {
            build_library()?;
            player = target().join("release/jmp-bench-lab");
        }
        let site = scale::Site {
            jmp: &program,
            player: &player,
            scratch: &scratch,
        };
        let effort = if quick { scale::QUICK } else { scale::FULL };
        scale::rows(&mut table, &effort, &site);
    }
    table.print();
    let _ = fs::remove_dir_all(&scratch);
    Ok(())
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Parts {
    All,
    /// Sessions without a controller.
    Local,
    /// The distributed mode.
    Lab,
}

struct Options {
    quick: bool,
    program: Option<PathBuf>,
    parts: Parts,
}

/// `--quick`, `--local` or `--lab` for a part, and `--jmp PATH` for a build that exists already.
fn parse(options: &[String]) -> Outcome<Options> {
    let mut parsed = Options {
        quick: false,
        program: None,
        parts: Parts::All,
    };
    let mut rest = options.iter();
    while let Some(option) = rest.next() {
        match option.as_str() {
            "--quick" => parsed.quick = true,
            "--local" => parsed.parts = Parts::Local,
            "--lab" => parsed.parts = Parts::Lab,
            "--jmp" => {
                let path = rest.next().ok_or("--jmp needs a path")?;
                let path = fs::canonicalize(path).map_err(|error| format!("{path}: {error}"))?;
                parsed.program = Some(path);
            }
            other => {
                return Err(format!(
                    "unknown option `{other}`; known: --quick --local --lab --jmp PATH"
                ));
            }
        }
    }
    Ok(parsed)
}

/// Sessions without a controller.
fn local(table: &mut Table, effort: &Effort, program: PathBuf, scratch: &Path) -> Outcome {
    let source = raw::Source::start()?;
    let config = configuration(scratch, source.port())?;
    let ours = our_side(program, scratch, &config)?;
    let theirs = their_side(scratch, &config);
    if let Err(message) = &theirs {
        println!("bench: no upstream figures: {message}");
    }
    let theirs = theirs.ok();
    whole_processes(table, effort, &ours, theirs.as_ref());
    library(table, effort, &ours, theirs.as_ref(), &source);
    files(table, effort, &ours, theirs.as_ref(), scratch);
    footprint(table, effort, &ours, theirs.as_ref());
    Ok(())
}

/// Builds the programs of `benches/`.
fn build_library() -> Outcome {
    steps::must_succeed(Command::new(cargo()).current_dir(root()).args([
        "build",
        "--release",
        "--package",
        "jmp-bench",
    ]))
}

/// Ten drivers; `source` sends as many bytes as the eight it is sent say (little endian).
fn configuration(scratch: &Path, source: u16) -> Outcome<PathBuf> {
    let mut text = String::from(
        "apiVersion: jumpstarter.dev/v1alpha1\nkind: ExporterConfig\nmetadata:\n  namespace: default\n  name: bench\nendpoint: \"\"\ntoken: \"\"\nexport:\n",
    );
    for (name, driver) in [
        ("power", "power.driver.MockPower"),
        ("echo", "network.driver.EchoNetwork"),
        ("storage", "opendal.driver.MockStorageMux"),
        ("flasher", "opendal.driver.MockFlasher"),
        ("power2", "power.driver.SyncMockPower"),
        ("echo2", "network.driver.EchoNetwork"),
    ] {
        text.push_str(&format!(
            "  {name}:\n    type: jumpstarter_driver_{driver}\n"
        ));
    }
    for (name, driver, config) in [
        (
            "source",
            "network.driver.TcpNetwork",
            format!("{{host: 127.0.0.1, port: {source}}}"),
        ),
        (
            "serial",
            "pyserial.driver.PySerial",
            "{url: \"loop://\"}".into(),
        ),
        (
            "files",
            "opendal.driver.Opendal",
            "{scheme: memory, kwargs: {}}".into(),
        ),
        (
            "shell",
            "shell.driver.Shell",
            "{methods: {hello: \"echo hello\"}}".into(),
        ),
    ] {
        text.push_str(&format!(
            "  {name}:\n    type: jumpstarter_driver_{driver}\n    config: {config}\n"
        ));
    }
    let path = scratch.join("bench.yaml");
    fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    Ok(path)
}

fn our_side(program: PathBuf, scratch: &Path, config: &Path) -> Outcome<Side> {
    let j = scratch.join("j");
    std::os::unix::fs::symlink(&program, &j)
        .map_err(|error| format!("cannot link {}: {error}", j.display()))?;
    let library = if root().join("benches/Cargo.toml").exists() {
        build_library()?;
        vec![target().join("release/jmp-bench-client")]
    } else {
        Vec::new()
    };
    let session = Session::open(&program, config, &scratch.join("ours"))?;
    Ok(Side {
        jmp: program,
        j,
        library,
        session,
    })
}

fn their_side(scratch: &Path, config: &Path) -> Outcome<Side> {
    let python = interop_python();
    let folder = python
        .parent()
        .filter(|f| f.join("jmp").exists())
        .ok_or("run `cargo xtask setup` first")?;
    let session = Session::open(&folder.join("jmp"), config, &scratch.join("theirs"))?;
    let library = vec![
        python.clone(),
        "-B".into(),
        root().join("benches/upstream.py"),
    ];
    Ok(Side {
        jmp: folder.join("jmp"),
        j: folder.join("j"),
        library,
        session,
    })
}

fn whole_processes(table: &mut Table, effort: &Effort, ours: &Side, theirs: Option<&Side>) {
    let power = |side: &Side, runs| repeated(&side.session, &side.j, &["power", "on"], runs);
    let help = |side: &Side, runs| repeated(&side.session, &side.jmp, &["--help"], runs);
    for (name, measure, time, memory, ratio) in [
        (
            "`j power on`",
            &power as &dyn Fn(&Side, usize) -> _,
            10.0,
            None,
            Some(100.0),
        ),
        ("`jmp --help`", &help, 5.0, Some(15.0), None),
    ] {
        let mine = measure(ours, effort.runs);
        let other = theirs.map(|side| measure(side, effort.upstream_runs));
        let pick = |f: fn(&processes::Usage) -> f64| {
            (
                mine.as_ref().map(f).map_err(Clone::clone),
                other.as_ref().and_then(|o| o.as_ref().ok()).map(f),
            )
        };
        let (value, upstream) = pick(|u| u.median_ms);
        table.push(
            Row::lower(format!("{name}, whole process"), Unit::Milliseconds, value)
                .upstream(upstream)
                .at_most(time)
                .times(ratio),
        );
        let (value, upstream) = pick(|u| u.peak_mib);
        let row =
            Row::lower(format!("{name}, peak memory"), Unit::Mebibytes, value).upstream(upstream);
        table.push(match memory {
            Some(limit) => row.at_most(limit),
            None => row,
        });
    }
}

/// Calls the client library of one side.
fn library_figure(side: &Side, measure: &str, count: u64) -> Outcome<f64> {
    let (first, rest) = side
        .library
        .split_first()
        .ok_or("no `jmp-bench-client` in benches/ yet")?;
    let mut command = Command::new(first);
    side.session.enter(&mut command);
    let text = captured(command.args(rest).args([measure, &count.to_string()]))?;
    text.trim()
        .parse()
        .map_err(|_| format!("{measure}: `{}` is not a number", text.trim()))
}

fn library(
    table: &mut Table,
    effort: &Effort,
    ours: &Side,
    theirs: Option<&Side>,
    source: &raw::Source,
) {
    let mine = |measure: &str, count| library_figure(ours, measure, count);
    let other =
        |measure: &str, count| theirs.and_then(|side| library_figure(side, measure, count).ok());
    table.push(
        Row::lower(
            "driver call, unix socket, p50",
            Unit::Microseconds,
            mine("call", effort.calls),
        )
        .upstream(other("call", effort.upstream_calls))
        .at_most(120.0)
        .times(Some(10.0)),
    );
    table.push(
        Row::lower(
            "64 B stream echo, p50",
            Unit::Microseconds,
            mine("echo64", effort.calls),
        )
        .upstream(other("echo64", effort.upstream_calls))
        .raw(raw::tcp_echo(64, effort.calls).map(|r| r.p50_us))
        .at_most(100.0),
    );
    table.push(
        Row::higher(
            "64 KiB stop-and-wait echo",
            Unit::MegabytesPerSecond,
            mine("echo64k", effort.calls / 4),
        )
        .upstream(other("echo64k", effort.upstream_calls))
        .raw(raw::tcp_echo(65536, effort.calls / 4).map(|r| r.megabytes_per_second))
        .share_of_raw(0.25)
        .times(Some(6.0)),
    );
    let bytes = effort.flat_bytes / 4;
    table.push(
        Row::higher(
            "one-way stream",
            Unit::MegabytesPerSecond,
            mine("oneway", bytes),
        )
        .upstream(other("oneway", bytes / 16))
        .raw(source.one_way(bytes))
        .at_least(1000.0),
    );
}

fn files(table: &mut Table, effort: &Effort, ours: &Side, theirs: Option<&Side>, scratch: &Path) {
    let image = scratch.join("image.bin");
    let value = raw::write_image(&image, effort.file_mib).and_then(|()| {
        let copies = (0..3)
            .map(|_| raw::copy(&image, &scratch.join("copy.bin")))
            .collect::<Outcome<Vec<_>>>()?;
        let arguments = ["storage", "write-local-file", &image.to_string_lossy()];
        let usage = repeated(&ours.session, &ours.j, &arguments, 3);
        Ok((table::median(copies), usage))
    });
    let (raw, mine) = match value {
        Ok((raw, usage)) => (
            Ok(raw),
            usage.map(|u| effort.file_mib as f64 * MIB / 1e3 / u.median_ms),
        ),
        Err(message) => (Err(message.clone()), Err(message)),
    };
    let upstream = theirs.and_then(|side| {
        let small = scratch.join("small.bin");
        raw::write_image(&small, effort.upstream_file_mib).ok()?;
        let mut command = Command::new(&side.library[0]);
        side.session.enter(&mut command);
        command.args(&side.library[1..]).arg("file").arg(&small);
        captured(&mut command).ok()?.trim().parse().ok()
    });
    let name = format!("{} MiB warm file, `write-local-file`", effort.file_mib);
    table.push(
        Row::higher(name, Unit::MegabytesPerSecond, mine)
            .upstream(upstream)
            .raw(raw)
            .share_of_raw(0.3)
            .times(Some(30.0)),
    );
}

fn footprint(table: &mut Table, effort: &Effort, ours: &Side, theirs: Option<&Side>) {
    let idle = memory(ours.session.id());
    let transfer =
        library_figure(ours, "transfer", effort.flat_bytes).and_then(|_| memory(ours.session.id()));
    let sessions = library_figure(ours, "sessions", effort.flat_sessions)
        .and_then(|_| memory(ours.session.id()));
    let after = transfer.clone();
    // A fresh session: the one above has served every measurement so far.
    let fresh = || {
        let folder = ours.session.folder().with_file_name("fresh");
        let session = Session::open(&ours.jmp, &ours.session.config(), &folder)?;
        memory(session.id())
    };
    table.push(
        Row::lower("exporter at rest, ten drivers", Unit::Mebibytes, fresh())
            .upstream(theirs.and_then(|side| memory(side.session.id()).ok()))
            .at_most(15.0),
    );
    let size = fs::metadata(&ours.jmp)
        .map(|m| m.len() as f64 / MIB)
        .map_err(|error| error.to_string());
    table.push(Row::lower("binary `jmp`", Unit::Mebibytes, size).at_most(40.0));
    let growth = |after: Outcome<f64>, before: &Outcome<f64>| Ok(after? - before.clone()?);
    let transfer_name = format!("growth over a {} MiB transfer", effort.flat_bytes >> 20);
    table.push(Row::lower(transfer_name, Unit::Mebibytes, growth(transfer, &idle)).at_most(4.0));
    let leases = library_figure(ours, "leases", effort.flat_sessions);
    let leases_name = format!("growth over {} sessions", effort.flat_sessions);
    table.push(Row::lower(leases_name, Unit::Mebibytes, leases).at_most(4.0));
    let sessions_name = format!("growth over {} connections", effort.flat_sessions);
    table.push(Row::lower(sessions_name, Unit::Mebibytes, growth(sessions, &after)).at_most(4.0));
}
