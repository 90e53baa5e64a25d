//! Stored objects as clients see them (facts: controller 4.2).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use jmp_proto::jumpstarter::client::v1 as client;
use jmp_proto::jumpstarter::v1;
use jmp_types::Timestamp;
use jmp_types::resource::{Condition, Exporter, LabelSelector, Lease};

use crate::names::Collection;

/// What stands for the selector that has no condition.
pub const EMPTY_SELECTOR: &str = "<none>";

/// Labels that people should not see, or should stop using.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelPolicy {
    /// Labels that are left out of answers unless the caller asks for them.
    pub hidden: BTreeSet<String>,
    /// Labels that are going away, each with what to tell those who use it. They are left out, too.
    pub deprecated: BTreeMap<String, String>,
}

// === impl LabelPolicy ===

impl LabelPolicy {
    /// The deprecated ones among `keys`, with their texts.
    fn warnings<'a>(&self, keys: impl Iterator<Item = &'a String>) -> HashMap<String, String> {
        keys.filter_map(|key| {
            let text = self.deprecated.get(key)?;
            Some((key.clone(), text.clone()))
        })
        .collect()
    }

    fn shows(&self, key: &str) -> bool {
        !self.hidden.contains(key) && !self.deprecated.contains_key(key)
    }
}

/// An exporter; `show_hidden` is the caller's wish to see every label.
#[must_use]
pub fn exporter(object: &Exporter, policy: &LabelPolicy, show_hidden: bool) -> client::Exporter {
    let labels = &object.metadata.labels;
    #[expect(deprecated, reason = "clients before 0.7 know nothing but `online`")]
    client::Exporter {
        name: Collection::Exporters.name(&object.key()),
        labels: labels
            .iter()
            .filter(|(key, _)| show_hidden || policy.shows(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
        online: object
            .status
            .conditions
            .iter()
            .any(|condition| condition.kind == "Online" && condition.is_true()),
        status: exporter_status(&object.status.exporter_status).into(),
        status_message: object.status.status_message.clone(),
        enabled: Some(object.is_enabled()),
        deprecated_labels: policy.warnings(labels.keys()),
    }
}

/// The word that objects carry, as a number. Empty and unknown words are `Unspecified`, which
/// counts as available with exporters that never report.
#[must_use]
pub fn exporter_status(word: &str) -> v1::ExporterStatus {
    use v1::ExporterStatus as Status;
    match word {
        "Offline" => Status::Offline,
        "Available" => Status::Available,
        "BeforeLeaseHook" => Status::BeforeLeaseHook,
        "LeaseReady" => Status::LeaseReady,
        "AfterLeaseHook" => Status::AfterLeaseHook,
        "BeforeLeaseHookFailed" => Status::BeforeLeaseHookFailed,
        "AfterLeaseHookFailed" => Status::AfterLeaseHookFailed,
        _ => Status::Unspecified,
    }
}

/// A lease as it is at `now`, with the warnings for the labels that its selector asks for.
#[must_use]
pub fn lease(object: &Lease, policy: &LabelPolicy, now: Timestamp) -> client::Lease {
    let selector = &object.spec.selector;
    let status = &object.status;
    client::Lease {
        name: Collection::Leases.name(&object.key()),
        selector: selector_text(selector),
        duration: object.spec.duration.map(|length| duration(length.0)),
        effective_duration: status
            .begin_time
            .map(|begin| duration(between(begin, status.end_time.unwrap_or(now)))),
        begin_time: object.spec.begin_time.map(timestamp),
        effective_begin_time: status.begin_time.map(timestamp),
        end_time: object.spec.end_time.map(timestamp),
        effective_end_time: status.end_time.map(timestamp),
        client: Some(Collection::Clients.name(&object.client())),
        exporter: object
            .exporter()
            .map(|exporter| Collection::Exporters.name(&exporter)),
        conditions: status.conditions.iter().map(condition).collect(),
        exporter_name: object
            .spec
            .exporter_ref
            .as_ref()
            .map(|reference| reference.name.clone()),
        tags: object.spec.tags.clone().into_iter().collect(),
        allow_disabled: object.spec.allow_disabled,
        context: object.spec.context.clone().into_iter().collect(),
        deprecated_labels: policy.warnings(
            selector.match_labels.keys().chain(
                selector
                    .match_expressions
                    .iter()
                    .map(|requirement| &requirement.key),
            ),
        ),
    }
}

/// The text of a selector, `<none>` for the empty one.
#[must_use]
pub fn selector_text(selector: &LabelSelector) -> String {
    if selector.is_empty() {
        EMPTY_SELECTOR.to_owned()
    } else {
        selector.to_string()
    }
}

/// One entry of `conditions`.
#[must_use]
pub fn condition(object: &Condition) -> v1::Condition {
    let time = timestamp(object.last_transition_time);
    v1::Condition {
        r#type: Some(object.kind.clone()),
        status: Some(object.status.clone()),
        observed_generation: Some(i64::try_from(object.observed_generation).unwrap_or(i64::MAX)),
        last_transition_time: Some(v1::Time {
            seconds: Some(time.seconds),
            nanos: Some(time.nanos),
        }),
        reason: Some(object.reason.clone()),
        message: Some(object.message.clone()),
    }
}

/// An instant on the wire.
#[must_use]
pub fn timestamp(instant: Timestamp) -> prost_types::Timestamp {
    // The wire wants nanoseconds that count upwards, also before 1970.
    let nanoseconds = instant.as_nanosecond();
    prost_types::Timestamp {
        seconds: i64::try_from(nanoseconds.div_euclid(1_000_000_000)).unwrap_or(i64::MAX),
        nanos: i32::try_from(nanoseconds.rem_euclid(1_000_000_000)).unwrap_or(0),
    }
}

/// An instant from the wire; `None` when there is no such instant.
#[must_use]
pub fn instant(wire: &prost_types::Timestamp) -> Option<Timestamp> {
    if !(0..1_000_000_000).contains(&wire.nanos) {
        return None;
    }
    Timestamp::new(wire.seconds, wire.nanos).ok()
}

/// A length of time on the wire.
#[must_use]
pub fn duration(length: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(length.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(length.subsec_nanos()).unwrap_or(0),
    }
}

/// From `begin` to `end`, nothing when that is negative.
#[must_use]
pub fn between(begin: Timestamp, end: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(begin)).unwrap_or_default()
}

#[cfg(test)]
#[path = "convert/tests.rs"]
mod tests;
