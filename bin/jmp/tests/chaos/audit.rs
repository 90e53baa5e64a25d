//! Compares what clients were promised with what is on disk and with what the exporters did.

use std::collections::BTreeMap;
use std::path::Path;

use jmp_types::resource::{Exporter, Lease};

use crate::faults::{Fault, Kind, Target};
use crate::ledger::{Book, Break, Outcome, Time, Wanted};

/// What two programs may be apart in noting the same moment.
const SLACK: Time = 1_500;
/// How long before a way was lost a fault may have begun to count as its cause.
const AFTERMATH: Time = 20_000;

/// What a controller left on disk.
#[derive(Debug, Default)]
pub struct Stored {
    pub leases: BTreeMap<String, Lease>,
    pub exporters: BTreeMap<String, Exporter>,
}

/// A line that a driver wrote.
#[derive(Clone, Debug)]
pub struct Executed {
    pub call: String,
    pub lease: String,
    pub at: Time,
}

/// What exporters did, by name, in the order in which they did it.
pub type Executions = BTreeMap<String, Vec<Executed>>;

/// Reads a store that nobody uses.
pub fn read_store(path: &Path) -> Stored {
    jmp_store::inspect(path).expect("the store is whole");
    let mut text = Vec::new();
    jmp_store::dump(path, &mut text).expect("the store can be read");
    let mut stored = Stored::default();
    for line in text
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let line: serde_json::Value = serde_json::from_slice(line).unwrap();
        let object = &line["object"];
        match line["kind"].as_str() {
            Some("Lease") => {
                let lease: Lease = serde_json::from_value(object.clone()).unwrap();
                stored.leases.insert(lease.metadata.name.clone(), lease);
            }
            Some("Exporter") => {
                let exporter: Exporter = serde_json::from_value(object.clone()).unwrap();
                stored
                    .exporters
                    .insert(exporter.metadata.name.clone(), exporter);
            }
            _ => {}
        }
    }
    stored
}

/// Reads what drivers wrote. A line may be cut off where its writer was killed, at the end only.
pub fn read_calls(path: &Path) -> Vec<Executed> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().filter_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let [call, lease, at] = words.as_slice() else {
            return None;
        };
        Some(Executed {
            call: (*call).to_owned(),
            lease: (*lease).to_owned(),
            at: at.parse().ok()?,
        })
    });
    lines.collect()
}

/// Everything that is wrong, in words.
pub fn audit(
    book: &Book,
    stored: &Stored,
    executed: &Executions,
    faults: &[Fault],
    routers: usize,
) -> Vec<String> {
    let mut wrong = book.violations.clone();
    leases(book, stored, &mut wrong);
    exclusive(stored, executed, &mut wrong);
    calls(book, stored, executed, &mut wrong);
    for broken in &book.breaks {
        if is_over(broken, book, stored) {
            continue;
        }
        if broken.what.ends_with("console") && !broken.text.contains("router") {
            wrong.push(format!(
                "{} of lease {} on {} ended without saying where: {}",
                broken.what, broken.lease, broken.exporter, broken.text
            ));
        }
        if !is_killed(broken, faults, routers) {
            wrong.push(format!(
                "{} of lease {} on {} ended without a cause after {} ms: {}",
                broken.what,
                broken.lease,
                broken.exporter,
                broken.at - broken.since,
                broken.text
            ));
        }
    }
    for lost in &book.lost_ways {
        let is_disturbed = faults
            .iter()
            .any(|fault| fault.until > lost.since - AFTERMATH && fault.from < lost.at);
        if !is_over(lost, book, stored) && !is_disturbed {
            wrong.push(format!(
                "no way to {} with lease {} within {} ms: {}",
                lost.exporter,
                lost.lease,
                lost.at - lost.since,
                lost.text
            ));
        }
    }
    wrong
}

/// Acknowledged is on disk.
fn leases(book: &Book, stored: &Stored, wrong: &mut Vec<String>) {
    for (name, entry) in &book.leases {
        let Some(lease) = stored.leases.get(name) else {
            if entry.created == Outcome::Acknowledged {
                wrong.push(format!(
                    "lease {name} was acknowledged and is not in the store"
                ));
            }
            continue;
        };
        if entry.created == Outcome::Refused {
            wrong.push(format!("lease {name} was refused and is in the store"));
        }
        let deleted = entry.deleted.as_ref().map(|deleted| deleted.outcome);
        if deleted == Some(Outcome::Acknowledged) && !lease.status.ended {
            wrong.push(format!(
                "the end of lease {name} was acknowledged, and it goes on"
            ));
        }
        let seconds = lease.spec.duration.map(|duration| duration.0.as_secs());
        if !possible(&entry.durations).any(|value| Some(*value) == seconds) {
            let wanted = &entry.durations;
            wrong.push(format!(
                "lease {name} has duration {seconds:?}, but {wanted:?} was asked for"
            ));
        }
        let owner = &lease.spec.client_ref.name;
        if !possible(&entry.owners).any(|value| value == owner) {
            let wanted = &entry.owners;
            wrong.push(format!(
                "lease {name} is {owner}'s, but {wanted:?} was asked for"
            ));
        }
    }
    for (name, lease) in &stored.leases {
        let ready = lease.conditions_say_why();
        if lease.status.ended && !ready {
            let conditions = &lease.status.conditions;
            wrong.push(format!(
                "lease {name} ended without a cause: {conditions:?}"
            ));
        }
    }
}

/// The last value that was acknowledged, and whatever was not answered.
fn possible<T>(wanted: &[Wanted<T>]) -> impl Iterator<Item = &T> {
    let is = |outcome| move |wanted: &&Wanted<T>| wanted.outcome == outcome;
    let last = wanted.iter().rfind(is(Outcome::Acknowledged));
    last.into_iter()
        .chain(wanted.iter().filter(is(Outcome::Unknown)))
        .map(|wanted| &wanted.value)
}

trait Cause {
    fn conditions_say_why(&self) -> bool;
}

impl Cause for Lease {
    fn conditions_say_why(&self) -> bool {
        self.status.conditions.iter().any(|condition| {
            let is_end = match condition.kind.as_str() {
                "Ready" => condition.status == "False",
                "Unsatisfiable" | "Invalid" => condition.status == "True",
                _ => false,
            };
            is_end && !condition.reason.is_empty()
        })
    }
}

/// One exporter, one lease at a time: on disk, and in what was done.
fn exclusive(stored: &Stored, executed: &Executions, wrong: &mut Vec<String>) {
    let mut by_exporter: BTreeMap<&str, Vec<(Time, Time, &str)>> = BTreeMap::new();
    for (name, lease) in &stored.leases {
        let (Some(exporter), Some(begin)) = (&lease.status.exporter_ref, lease.status.begin_time)
        else {
            continue;
        };
        let end = lease.status.end_time.filter(|_| lease.status.ended);
        let end = end.map_or(Time::MAX, |end| end.as_millisecond());
        let times = (begin.as_millisecond(), end, name.as_str());
        by_exporter.entry(&exporter.name).or_default().push(times);
    }
    for (exporter, mut held) in by_exporter {
        held.sort_unstable();
        for pair in held.windows(2) {
            let ((_, end, one), (begin, _, other)) = (pair[0], pair[1]);
            if begin < end {
                wrong.push(format!(
                    "{exporter} was held by {one} and {other} for {} ms together",
                    end - begin
                ));
            }
        }
    }
    for (exporter, calls) in executed {
        let mut seen: Vec<&str> = Vec::new();
        for call in calls {
            if seen.last() == Some(&call.lease.as_str()) {
                continue;
            }
            if seen.contains(&call.lease.as_str()) {
                wrong.push(format!(
                    "{exporter} served lease {} again (call {}) after another one",
                    call.lease, call.call
                ));
            }
            seen.push(&call.lease);
        }
    }
}

/// An acknowledged call was done once; another one once at most; and nothing else was done.
fn calls(book: &Book, stored: &Stored, executed: &Executions, wrong: &mut Vec<String>) {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for (exporter, calls) in executed {
        for call in calls {
            *counts.entry(&call.call).or_default() += 1;
            match book.calls.get(&call.call) {
                None => wrong.push(format!(
                    "{exporter} did {}, which nobody asked for",
                    call.call
                )),
                Some(entry) if entry.exporter != *exporter => wrong.push(format!(
                    "{exporter} did {}, which was meant for {}",
                    call.call, entry.exporter
                )),
                Some(_) => {}
            }
            let lease = stored.leases.get(&call.lease);
            let end = lease.and_then(|lease| lease.status.end_time.filter(|_| lease.status.ended));
            let end = end.map_or(Time::MAX, |end| end.as_millisecond());
            // The exporter hears of the end a moment later, and of one that came while it was cut
            // off even later.
            if lease.is_none() {
                wrong.push(format!("{exporter} did {} for no lease on disk", call.call));
            } else if call.at > end + AFTERMATH {
                wrong.push(format!(
                    "{exporter} did {} {} ms after its lease {} had ended",
                    call.call,
                    call.at - end,
                    call.lease
                ));
            }
        }
    }
    for (name, entry) in &book.calls {
        let count = counts.get(name.as_str()).copied().unwrap_or_default();
        if count > 1 || (count == 0 && entry.outcome == Outcome::Acknowledged) {
            wrong.push(format!(
                "call {name} of lease {} on {} ({:?}) was done {count} times",
                entry.lease, entry.exporter, entry.outcome
            ));
        }
    }
}

/// Whether the lease was over, or somebody else's, or about to be.
fn is_over(broken: &Break, book: &Book, stored: &Stored) -> bool {
    let at = broken.at + SLACK;
    let entry = book.leases.get(&broken.lease);
    let is_ended = stored.leases.get(&broken.lease).is_some_and(|lease| {
        let end = lease.status.end_time.filter(|_| lease.status.ended);
        end.is_some_and(|end| end.as_millisecond() <= at)
    });
    let is_handed_over = entry.is_some_and(|entry| {
        let later = entry.owners.iter().skip(1);
        later.into_iter().any(|owner| owner.asked <= broken.at)
    });
    let is_released = entry.is_some_and(|entry| {
        let deleted = entry.deleted.as_ref();
        deleted.is_some_and(|deleted| deleted.asked <= broken.at)
    });
    is_ended || is_handed_over || is_released
}

/// Whether the exporter was killed meanwhile, or a router that the stream may have gone through. That a
/// process stood still for some seconds, or a cable was out, is no reason for anything to end, nor is
/// whatever happens to the controller.
fn is_killed(broken: &Break, faults: &[Fault], routers: usize) -> bool {
    let number = broken.exporter.trim_start_matches('e').parse::<usize>();
    let number = number.unwrap_or(usize::MAX);
    let is_meanwhile =
        |fault: &Fault| fault.until >= broken.since - SLACK && fault.from <= broken.at + SLACK;
    // A tunnel goes through the router of its exporter's site, unless that was away or never was.
    let home = number % routers;
    let was_away = faults.iter().any(|fault| {
        (fault.target == Target::Router(home) || fault.target == Target::Controller)
            && fault.until >= broken.since - AFTERMATH
    });
    faults
        .iter()
        .filter(|fault| is_meanwhile(fault))
        .any(|fault| {
            fault.kind == Kind::Kill
                && match fault.target {
                    Target::Exporter(exporter) => exporter == number,
                    Target::Router(router) => router == home || was_away,
                    _ => false,
                }
        })
}
