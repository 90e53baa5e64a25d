//! What happens to the lab, and when.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::lab::Lab;
use crate::ledger::{Time, now};
use crate::random::Random;
use crate::worker::Crew;

/// To whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    Controller,
    Router(usize),
    Exporter(usize),
    /// A `jmp shell` process.
    Shell,
    /// A client that uses the library.
    Worker(usize),
}

/// What.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// kill -9; started again.
    Kill,
    /// SIGSTOP, later SIGCONT.
    Stop,
    /// The cable pulled, later plugged in again.
    Cut,
}

/// One fault.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    kind: Kind,
    target: Target,
    after: Duration,
    length: Duration,
}

/// One fault that happened.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub kind: Kind,
    pub target: Target,
    pub from: Time,
    pub until: Time,
}

/// The faults of a round.
#[derive(Debug, Default)]
pub struct FaultLog(Mutex<Vec<Fault>>);

/// When faults begin.
const WINDOW: std::ops::Range<u64> = 500..12_000;
/// How long a process is stopped: shorter than what peers take for its end (40 s).
const STOPPED: std::ops::Range<u64> = 300..4_000;
/// How long a cable is out: the same.
const UNPLUGGED: std::ops::Range<u64> = 500..6_000;
/// Faults of a round.
const COUNT: std::ops::Range<u64> = 5..10;

/// The faults of a round: in turn of the controller, of routers, of exporters and of clients alone, and
/// everything at once.
pub fn plan(round: u64, random: &mut Random, lab: &Lab, workers: usize) -> Vec<Plan> {
    let routers: Vec<Target> = (0..lab.routers.len()).map(Target::Router).collect();
    let exporters: Vec<Target> = (0..lab.exporters.len()).map(Target::Exporter).collect();
    let mut clients = vec![Target::Shell, Target::Shell];
    clients.extend((0..workers).map(Target::Worker));
    let mut targets = vec![Target::Controller];
    match round % 6 {
        0 => {}
        1 => targets = routers,
        2 => targets = exporters,
        3 => targets = clients,
        _ => {
            targets.push(Target::Controller);
            targets.extend(routers);
            targets.extend(exporters);
            targets.extend(clients);
        }
    }
    let mut kinds = vec![Kind::Kill, Kind::Kill, Kind::Stop];
    if lab.has_cables() {
        kinds.push(Kind::Cut);
    }
    let count = random.within(COUNT);
    let mut plans: Vec<Plan> = (0..count)
        .map(|number| {
            let target = *random.pick(&targets);
            // Every round has a kill at least.
            let kind = match (number, target) {
                (0, _) | (_, Target::Worker(_)) => Kind::Kill,
                _ => *random.pick(&kinds),
            };
            Plan {
                kind,
                target,
                after: random.milliseconds(WINDOW),
                length: match kind {
                    Kind::Cut => random.milliseconds(UNPLUGGED),
                    _ => random.milliseconds(STOPPED),
                },
            }
        })
        .collect();
    plans.sort_by_key(|plan| plan.after);
    plans
}

/// Lets them happen; returns when the last one is over.
pub async fn happen(plans: &[Plan], lab: &Arc<Lab>, crew: &Arc<Crew>, log: &Arc<FaultLog>) {
    let mut under_way = JoinSet::new();
    for plan in plans.iter().copied() {
        let (lab, crew, log) = (Arc::clone(lab), Arc::clone(crew), Arc::clone(log));
        under_way.spawn(async move {
            tokio::time::sleep(plan.after).await;
            let from = now();
            if plan.carry_out(&lab, &crew).await {
                log.0.lock().unwrap().push(Fault {
                    kind: plan.kind,
                    target: plan.target,
                    from,
                    until: now(),
                });
            }
        });
    }
    while let Some(done) = under_way.join_next().await {
        done.unwrap();
    }
}

// === impl FaultLog ===

impl FaultLog {
    pub fn all(&self) -> Vec<Fault> {
        self.0.lock().unwrap().clone()
    }
}

// === impl Plan ===

impl Plan {
    /// Whether it could be.
    async fn carry_out(&self, lab: &Lab, crew: &Crew) -> bool {
        match (self.kind, self.target) {
            (Kind::Kill, Target::Worker(number)) => crew.crash(number),
            (Kind::Kill, Target::Shell) => lab.shell.signal(Signal::KILL),
            (Kind::Kill, target) => lab.part(target).signal(Signal::KILL),
            (Kind::Stop, Target::Shell) => {
                let stopped = lab.shell.signal(Signal::STOP);
                tokio::time::sleep(self.length).await;
                lab.shell.signal(Signal::CONT);
                stopped
            }
            (Kind::Stop, target) => {
                let stopped = lab.part(target).signal(Signal::STOP);
                tokio::time::sleep(self.length).await;
                // Whoever was killed and started again meanwhile does not mind.
                lab.part(target).signal(Signal::CONT);
                stopped
            }
            (Kind::Cut, target) => {
                let place = lab.place(target);
                place.cut();
                tokio::time::sleep(self.length).await;
                place.mend();
                true
            }
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (after, length) = (self.after.as_secs_f64(), self.length.as_secs_f64());
        write!(formatter, "{after:.1} s {:?} {:?}", self.kind, self.target)?;
        match self.kind {
            Kind::Kill => Ok(()),
            _ => write!(formatter, " for {length:.1} s"),
        }
    }
}
