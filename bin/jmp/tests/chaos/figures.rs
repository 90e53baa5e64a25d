//! What the rounds amount to.

use std::collections::BTreeMap;
use std::fmt;

use crate::faults::{Fault, Kind, Target};
use crate::ledger::{Book, Outcome, Time};

/// Sums over rounds.
#[derive(Debug, Default)]
pub struct Figures {
    pub rounds: u64,
    faults: BTreeMap<(Kind, &'static str), u64>,
    leases: usize,
    transfers: u64,
    shells: u64,
    acknowledged: usize,
    unanswered: usize,
    lines: u64,
    streams: usize,
    breaks: usize,
    lost_ways: usize,
    /// Consoles that were open before and after a kill -9 of the controller.
    pub survivors: usize,
    recoveries: Vec<Time>,
}

// === impl Figures ===

impl Figures {
    pub fn add(&mut self, book: &Book, leases: usize, faults: &[Fault], recoveries: &[Time]) {
        self.rounds += 1;
        for fault in faults {
            let target = match fault.target {
                Target::Controller => "controller",
                Target::Router(_) => "router",
                Target::Exporter(_) => "exporter",
                Target::Shell => "jmp shell",
                Target::Worker(_) => "client",
            };
            *self.faults.entry((fault.kind, target)).or_default() += 1;
        }
        self.leases += leases;
        self.transfers += book.transfers;
        self.shells += book.shells;
        let count = |outcome| {
            let calls = book.calls.values();
            calls.filter(|call| call.outcome == outcome).count()
        };
        self.acknowledged += count(Outcome::Acknowledged);
        self.unanswered += count(Outcome::Unknown);
        self.lines += book.streams.iter().map(|stream| stream.lines).sum::<u64>();
        self.streams += book.streams.len();
        self.breaks += book.breaks.len();
        self.lost_ways += book.lost_ways.len();
        let kills = faults
            .iter()
            .filter(|fault| (fault.kind, fault.target) == (Kind::Kill, Target::Controller));
        for kill in kills {
            let streams = book.streams.iter();
            let lived = |since, until| since < kill.from && until > kill.until + 500;
            self.survivors += streams
                .filter(|stream| lived(stream.since, stream.until))
                .count();
        }
        self.recoveries.extend(recoveries);
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "rounds: {}", self.rounds)?;
        let faults = self.faults.iter();
        let faults: Vec<String> = faults
            .map(|((kind, target), count)| format!("{kind:?} {target} {count}"))
            .collect();
        writeln!(formatter, "faults: {}", faults.join(", "))?;
        writeln!(
            formatter,
            "leases: {}, of these handed over: {}; jmp shell processes: {}",
            self.leases, self.transfers, self.shells
        )?;
        writeln!(
            formatter,
            "driver calls: {} acknowledged, {} not answered; consoles: {} with {} lines, {} of them open \
             through a kill -9 of the controller; ended by a fault or the end of a lease: {}; no way to an \
             exporter: {}",
            self.acknowledged,
            self.unanswered,
            self.streams,
            self.lines,
            self.survivors,
            self.breaks,
            self.lost_ways
        )?;
        let mut times = self.recoveries.clone();
        times.sort_unstable();
        let seconds = |time: Option<&Time>| *time.unwrap_or(&0) as f64 / 1000.0;
        write!(
            formatter,
            "from the last fault until an exporter served a new lease: p50 {:.1} s, p99 {:.1} s, max {:.1} s",
            seconds(times.get(times.len() / 2)),
            seconds(times.get(times.len() * 99 / 100)),
            seconds(times.last())
        )
    }
}
