//! Who may lease what: policies, and what a lease that nothing will do for is told.

use std::collections::BTreeMap;
use std::time::Duration;

use jmp_types::resource::{AccessPolicy, PolicyRule};

use super::leases::Ending;
use super::space::{Entry, Space};
use super::station::Station;
use super::time;

/// Longest list of descriptions (facts: controller 3.2).
const DESCRIPTIONS: usize = 4096;

/// With what right a client has an exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) spot: bool,
    pub(super) priority: i64,
}

/// What the policies say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Granted(Grant),
    /// Only for so long.
    TooLong(Duration),
    Denied,
}

/// What one rule says.
fn by_rule(rule: &PolicyRule, labels: &BTreeMap<String, String>, wanted: Duration) -> Access {
    let named = rule.from.iter();
    if !named
        .into_iter()
        .any(|one| one.client_selector.matches(labels))
    {
        return Access::Denied;
    }
    match rule.maximum_duration {
        Some(most) if wanted > most.0 => Access::TooLong(most.0),
        _ => Access::Granted(Grant {
            spot: rule.spot_access,
            priority: rule.priority,
        }),
    }
}

/// The better of two: ordinary before spot, then the higher priority; then the longer time.
fn better(one: Access, other: Access) -> Access {
    match (one, other) {
        (Access::Granted(a), Access::Granted(b)) => {
            let rank = |grant: &Grant| (!grant.spot, grant.priority);
            Access::Granted(if rank(&b) > rank(&a) { b } else { a })
        }
        (Access::Granted(_), _) => one,
        (_, Access::Granted(_)) => other,
        (Access::TooLong(a), Access::TooLong(b)) => Access::TooLong(a.max(b)),
        (Access::TooLong(_), Access::Denied) => one,
        _ => other,
    }
}

// === impl Space ===

impl Space {
    /// What the policies about an exporter say to a client that wants it for that long. Without any
    /// policy in the namespace everybody may have everything.
    pub(super) fn access(&self, station: &Station, client: &str, wanted: Duration) -> Access {
        if self.policies.is_empty() {
            return Access::Granted(Grant {
                spot: false,
                priority: 0,
            });
        }
        let Some(client) = self.clients.get(client) else {
            return Access::Denied;
        };
        let about = station.policies.iter();
        about
            .filter_map(|name| self.policies.get(name))
            .flat_map(|policy: &AccessPolicy| &policy.spec.policies)
            .map(|rule| by_rule(rule, &client.metadata.labels, wanted))
            .fold(Access::Denied, better)
    }

    /// Whether any exporter may ever do for a lease; if not, how it ends (facts: controller 3.2).
    pub(super) fn verdict(&self, entry: &Entry) -> Option<Ending> {
        let spec = &entry.lease.spec;
        if let Some(pin) = entry.pin() {
            if let Some(ending) = self.pinned_verdict(entry, pin) {
                return Some(ending);
            }
        } else if spec.selector.is_empty() {
            let message = "a lease needs a selector or the name of an exporter".to_owned();
            return Some(Ending::Invalid("InvalidSelector", message));
        }
        let wanted = time::requested(&entry.lease);
        let (mut matching, mut enabled) = (0_usize, 0_usize);
        let mut access = Access::Denied;
        for station in self.candidates(entry) {
            if !spec.selector.matches(&station.object.metadata.labels) {
                continue;
            }
            matching += 1;
            if !entry.wants(station) {
                continue;
            }
            enabled += 1;
            access = better(access, self.access(station, entry.client(), wanted));
            if matches!(access, Access::Granted(_)) {
                return None;
            }
        }
        if matching > 0 && enabled == 0 {
            let message = format!(
                "all {matching} exporters that match the selector {} are disabled",
                spec.selector
            );
            return Some(Ending::Unsatisfiable("AllDisabled", message));
        }
        if let Access::TooLong(most) = access {
            let message = format!(
                "a lease of {} is too long: the policies allow {} at most",
                time::shown_duration(wanted),
                time::shown_duration(most)
            );
            return Some(Ending::Unsatisfiable("DurationTooLong", message));
        }
        let message = self.no_access(entry, enabled);
        Some(Ending::Unsatisfiable("NoAccess", message))
    }

    fn pinned_verdict(&self, entry: &Entry, pin: &str) -> Option<Ending> {
        let Some(station) = self.stations.get(pin) else {
            let message = format!("there is no exporter {pin}");
            return Some(Ending::Unsatisfiable("ExporterNotFound", message));
        };
        let selector = &entry.lease.spec.selector;
        if !selector.matches(&station.object.metadata.labels) {
            let message = format!("exporter {pin} does not match the selector {selector}");
            return Some(Ending::Unsatisfiable("SelectorMismatch", message));
        }
        if !station.object.is_enabled() && !entry.lease.spec.allow_disabled {
            let message = format!("exporter {pin} is disabled");
            return Some(Ending::Unsatisfiable("ExporterDisabled", message));
        }
        None
    }

    /// Why nobody lets the client through: what the rules that are for others say about themselves.
    fn no_access(&self, entry: &Entry, matching: usize) -> String {
        let selector = &entry.lease.spec.selector;
        if matching == 0 {
            return format!("no exporter matches the selector {selector}");
        }
        let labels = self
            .clients
            .get(entry.client())
            .map(|client| &client.metadata.labels);
        let mut names: Vec<&String> = self
            .candidates(entry)
            .filter(|station| entry.wants(station))
            .flat_map(|station| &station.policies)
            .collect();
        names.sort();
        names.dedup();
        let mut descriptions: Vec<&str> = Vec::new();
        let rules = names
            .into_iter()
            .filter_map(|name| self.policies.get(name))
            .flat_map(|policy| &policy.spec.policies);
        for rule in rules {
            let lets = |labels| {
                let mut from = rule.from.iter();
                from.any(|one| one.client_selector.matches(labels))
            };
            let said = rule.description.as_str();
            if !said.is_empty() && !descriptions.contains(&said) && !labels.is_some_and(lets) {
                descriptions.push(said);
            }
        }
        let head = format!(
            "none of the {matching} matching exporters may be leased by client {}",
            entry.client()
        );
        if descriptions.is_empty() {
            return head;
        }
        let all = descriptions.join("; ");
        format!("{head}: {}", super::validate::cut(&all, DESCRIPTIONS))
    }
}
