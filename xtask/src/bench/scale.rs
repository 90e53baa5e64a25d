//! Rows of the distributed mode: scale, leases, tunnels.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::lab::Lab;
use super::processes::repeated_with;
use super::raw::beside_disk;
use super::table::{Row, Table, Unit};
use crate::Outcome;
use crate::environment::captured;

/// How much to measure.
pub struct Effort {
    exporters: usize,
    idle: Duration,
    leases: usize,
    ended: usize,
    bytes: u64,
    calls: u64,
    runs: usize,
}

/// Exporters that can be leased; a device is free whenever fewer leases than that are under way.
const PLAYING: usize = 60;
/// Leases a minute.
const RATE: &str = "1000";
/// Tunnels at one time, and the leases they belong to.
const TUNNELS: (usize, usize) = (500, 10);
const MINUTE: Duration = Duration::from_secs(60);
/// Minutes of leases, of which that one counts in which the disk was quickest: a disk that hesitates
/// for half a second once is in the slowest hundredth of a minute's leases.
const TRIES: usize = 3;
/// Pause between looks at the disk: the rate of the leases.
const DISK: Duration = Duration::from_millis(60);

pub const FULL: Effort = Effort {
    exporters: 10_000,
    idle: Duration::from_secs(60),
    leases: 1000,
    ended: 100_000,
    bytes: 4 << 30,
    calls: 5000,
    runs: 20,
};

pub const QUICK: Effort = Effort {
    exporters: 2_000,
    idle: Duration::from_secs(30),
    leases: 200,
    ended: 20_000,
    bytes: 512 << 20,
    calls: 1000,
    runs: 7,
};

/// The programs, and where to work.
pub struct Site<'a> {
    pub jmp: &'a Path,
    pub player: &'a Path,
    pub scratch: &'a Path,
}

// === impl Site ===

impl Site<'_> {
    fn lab(&self, name: &str, seed: &[&str]) -> Outcome<Lab> {
        let folder = self.scratch.join(name);
        let _ = fs::remove_dir_all(&folder);
        Lab::start(self.jmp, self.player, &folder, seed)
    }
}

/// Measures all; a part that cannot be measured leaves a row that says so.
pub fn rows(table: &mut Table, effort: &Effort, site: &Site) {
    type Part = fn(&mut Table, &Effort, &Site) -> Outcome;
    for (name, part) in [
        ("controller and router at rest", at_rest as Part),
        ("tunnels", tunnels),
        ("leases", ended_leases),
        ("crowd", crowd),
    ] {
        // What an earlier part left to be written would be waited for by the controller's own writes.
        let _ = Command::new("sync").status();
        if let Err(message) = part(table, effort, site) {
            table.push(Row::lower(name, Unit::Milliseconds, Err(message)));
        }
    }
}

fn at_rest(table: &mut Table, _: &Effort, site: &Site) -> Outcome {
    let lab = site.lab("rest", &[])?;
    lab.memory()?;
    // The router has joined by then, and both have done what a start takes.
    std::thread::sleep(Duration::from_secs(5));
    let memory = lab.memory().map(|(controller, router)| controller + router);
    let row = Row::lower("controller + router at rest", Unit::Mebibytes, memory);
    table.push(row.at_most(30e6 / 1024.0 / 1024.0));
    Ok(())
}

fn tunnels(table: &mut Table, effort: &Effort, site: &Site) -> Outcome {
    let playing = PLAYING.to_string();
    let lab = site.lab("tunnels", &["--exporters", "1000", "--playing", &playing])?;
    let exporters = lab.player(&["exporters", "--playing", &playing])?;
    exporters.wait_for("online", MINUTE)?;
    table.push(
        Row::lower(
            "`jmp get exporters`, 1,000 rows",
            Unit::Milliseconds,
            listing(&lab, effort, site),
        )
        .at_most(150.0),
    );
    let calls = effort.calls.to_string();
    table.push(
        Row::lower(
            "driver call through a tunnel, p50",
            Unit::Milliseconds,
            lab.value(&["tunnel", "call", &calls]),
        )
        .at_most(0.5),
    );
    let bytes = effort.bytes.to_string();
    let relay = captured(Command::new(site.player).args(["relay", &bytes])).and_then(|text| {
        let value = text.trim().strip_prefix("value ").map(str::parse);
        value.and_then(Result::ok).ok_or("no value".into())
    });
    for measure in ["receive", "send"] {
        table.push(
            Row::higher(
                format!("one tunnel with TLS, {measure}"),
                Unit::MegabytesPerSecond,
                lab.value(&["tunnel", measure, &bytes]),
            )
            .raw(relay.clone())
            .share_of_raw(0.4)
            .at_least(400.0),
        );
    }
    let bytes = (effort.bytes / 4).to_string();
    for measure in ["receive", "send"] {
        table.push(
            Row::higher(
                format!("one tunnel at 100 ms round trip, {measure}"),
                Unit::MegabytesPerSecond,
                lab.value(&["tunnel", "--rtt", "100", measure, &bytes]),
            )
            .at_least(100.0),
        );
    }
    many_tunnels(table, &lab)
}

fn listing(lab: &Lab, effort: &Effort, site: &Site) -> Outcome<f64> {
    let config = lab.client_config()?;
    let config = config.to_string_lossy();
    let arguments = ["get", "exporters", "--client-config", &config];
    let rows = captured(Command::new(site.jmp).args(arguments))?;
    let rows = rows
        .lines()
        .filter(|line| line.contains("exporter-"))
        .count();
    if rows != 1000 {
        return Err(format!("{rows} rows"));
    }
    Ok(repeated_with(|_| {}, site.jmp, &arguments, effort.runs)?.median_ms)
}

fn many_tunnels(table: &mut Table, lab: &Lab) -> Outcome {
    let (count, leases) = (TUNNELS.0.to_string(), TUNNELS.1.to_string());
    let mut player = lab.player(&["tunnels", "--count", &count, "--leases", &leases])?;
    let open = player.wait_for("open", MINUTE);
    let memory = open.and_then(|_| {
        std::thread::sleep(Duration::from_secs(5));
        Ok(lab.memory()?.1)
    });
    player.release();
    let alive = player.wait_for("alive", MINUTE);
    let name = format!("router with {count} tunnels, all of them carrying");
    let memory = memory.and_then(|memory| match alive? {
        alive if alive == TUNNELS.0 as f64 => Ok(memory),
        alive => Err(format!("{alive} of {count} tunnels carry bytes")),
    });
    table.push(Row::lower(name, Unit::Mebibytes, memory).at_most(500.0));
    Ok(())
}

/// What a lease costs the controller, without ended leases in the store and with many.
fn ended_leases(table: &mut Table, effort: &Effort, site: &Site) -> Outcome {
    let (playing, count) = (PLAYING.to_string(), (effort.leases / 2).to_string());
    let ended = effort.ended.to_string();
    let cost = |name: &str, ended: &str| -> Outcome<f64> {
        let seed = [
            "--exporters",
            "1000",
            "--playing",
            &playing,
            "--ended",
            ended,
        ];
        let lab = site.lab(name, &seed)?;
        let exporters = lab.player(&["exporters", "--playing", &playing])?;
        exporters.wait_for("online", MINUTE)?;
        // The first ones warm it up.
        lab.play(&["leases", "--count", "50", "--per-minute", RATE])?;
        let before = lab.processor_time()?;
        lab.play(&["leases", "--count", &count, "--per-minute", RATE])?;
        let cost = (lab.processor_time()? - before) * 1e3;
        Ok(cost / (effort.leases / 2) as f64)
    };
    let none = cost("fresh", "0");
    let many = cost("ended", &ended);
    table.push(
        Row::lower(
            format!("controller's processor time per lease, {ended} ended ones"),
            Unit::Milliseconds,
            many.clone(),
        )
        .raw(none.clone()),
    );
    let ratio = many.and_then(|many| Ok(many / none?));
    table.push(Row::lower("… beside none", Unit::Times, ratio).at_most(1.25));
    Ok(())
}

/// What was said in the minute of leases in which the disk was quickest, and what that took, ms.
fn quickest_minute(
    lab: &Lab,
    effort: &Effort,
    site: &Site,
) -> Outcome<(BTreeMap<String, f64>, f64)> {
    let count = effort.leases.to_string();
    let play = || lab.play(&["leases", "--count", &count, "--per-minute", RATE]);
    let minute = |_| {
        let (leases, disk) = beside_disk(site.scratch, DISK, play)?;
        let leases = leases?;
        eprintln!("disk alone p99 {disk:.1} ms, leases {leases:.1?}");
        Ok((leases, disk))
    };
    let minutes: Outcome<Vec<_>> = (0..TRIES).map(minute).collect();
    let quickest = minutes?.into_iter().min_by(|a, b| a.1.total_cmp(&b.1));
    quickest.ok_or_else(|| "no minute was played".into())
}

fn crowd(table: &mut Table, effort: &Effort, site: &Site) -> Outcome {
    let (playing, all) = (PLAYING.to_string(), effort.exporters.to_string());
    let idle = (effort.exporters - PLAYING).to_string();
    let mut lab = site.lab("crowd", &["--exporters", &all, "--playing", &playing])?;
    let exporters = lab.player(&["exporters", "--playing", &playing, "--idle", &idle])?;
    let first = exporters.wait_for("online", MINUTE * 5)?;
    eprintln!("{all} exporters connected in {first:.1} s");
    // The last ones have told what they have to tell by then.
    std::thread::sleep(Duration::from_secs(10));
    let memory = lab.memory().map(|(controller, _)| controller);
    table.push(
        Row::lower(
            format!("controller with {all} exporters"),
            Unit::Mebibytes,
            memory,
        )
        .at_most(1e9 / 1024.0 / 1024.0),
    );
    let before = lab.processor_time()?;
    std::thread::sleep(effort.idle);
    let used = lab.processor_time()? - before;
    table.push(
        Row::lower(
            format!("… of one core over {} s, idle", effort.idle.as_secs()),
            Unit::Percent,
            Ok(used / effort.idle.as_secs_f64() * 100.0),
        )
        .at_most(10.0),
    );
    let quickest = quickest_minute(&lab, effort, site);
    let figure = |name: &str| {
        let (leases, _) = quickest.as_ref().map_err(Clone::clone)?;
        leases.get(name).copied().ok_or(format!("no `{name}`"))
    };
    let disk = quickest.as_ref().map(|(_, disk)| *disk);
    table.push(
        Row::higher(
            "leases acquired, connected, released",
            Unit::PerMinute,
            figure("per_minute"),
        )
        // The last one has to come to its end, too.
        .at_least(0.95 * 1000.0),
    );
    table.push(
        Row::lower(
            "… request to Ready, p99",
            Unit::Milliseconds,
            figure("ready_p99"),
        )
        .raw(disk.map_err(Clone::clone))
        .at_most(100.0),
    );
    table.push(Row::lower(
        "… request to first driver call, p99",
        Unit::Milliseconds,
        figure("used_p99"),
    ));
    let begin = std::time::Instant::now();
    lab.kill_controller();
    lab.start_controller()?;
    let back = exporters.wait_for("online", MINUTE * 2);
    let back = back.map(|_| begin.elapsed().as_secs_f64());
    table.push(
        Row::lower(
            format!("{all} exporters back after kill -9 and restart"),
            Unit::Seconds,
            back,
        )
        .at_most(30.0),
    );
    eprintln!("simulator: {:.0} MiB", exporters.memory()?);
    Ok(())
}
