//! Leases and exporters as tables and as data (facts: command line 1.4 and 1.5).

use jmp_client::lease::{Standing, condition, end, short_name, standing};
use jmp_proto::jumpstarter::client::v1 as wire;
use jmp_proto::v1::{Condition, ExporterStatus};
use jmp_types::Timestamp;
use serde_json::{Map, Value, json};

/// What a controller calls an empty selector.
const NO_SELECTOR: &str = "<none>";

/// A time as people read it, in their own zone.
#[must_use]
pub fn local_time(time: Timestamp) -> String {
    let zoned = time.to_zoned(jiff::tz::TimeZone::system());
    zoned.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// `1d 3h 5m`, without parts that are zero; seconds only below a minute.
#[must_use]
pub fn span(seconds: i64) -> String {
    if seconds < 60 {
        return format!("{}s", seconds.max(0));
    }
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3600 % 24, "h"),
        (seconds / 60 % 60, "m"),
    ];
    let parts = parts.into_iter().filter(|(count, _)| *count > 0);
    let texts: Vec<String> = parts
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    texts.join(" ")
}

/// A protobuf time.
#[must_use]
pub fn timestamp(time: &prost_types::Timestamp) -> Option<Timestamp> {
    Timestamp::new(time.seconds, time.nanos).ok()
}

fn rfc3339(time: Option<&prost_types::Timestamp>) -> Value {
    time.and_then(timestamp)
        .map_or(Value::Null, |time| time.to_string().into())
}

fn seconds(duration: Option<&prost_types::Duration>) -> Value {
    duration.map_or(Value::Null, |duration| {
        #[expect(clippy::cast_precision_loss, reason = "shown to people and scripts")]
        let whole = duration.seconds as f64;
        (whole + f64::from(duration.nanos) / 1e9).into()
    })
}

fn sorted(map: &std::collections::HashMap<String, String>) -> Value {
    let mut pairs: Vec<_> = map.iter().collect();
    pairs.sort();
    let pairs = pairs
        .into_iter()
        .map(|(key, value)| (key.clone(), value.as_str().into()));
    Value::Object(pairs.collect::<Map<_, _>>())
}

/// `k=v,k=v`, sorted.
#[must_use]
pub fn pairs(map: &std::collections::HashMap<String, String>) -> String {
    let mut texts: Vec<String> = map
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    texts.sort();
    texts.join(",")
}

fn namespace(path: &str) -> &str {
    path.split('/').nth(1).unwrap_or_default()
}

/// A lease as data.
#[must_use]
pub fn lease_json(lease: &wire::Lease) -> Value {
    let optional = |text: &Option<String>| {
        text.as_deref()
            .filter(|text| !text.is_empty())
            .map_or(Value::Null, |text| short_name(text).into())
    };
    let conditions = lease.conditions.iter().map(condition_json);
    json!({
        "namespace": namespace(&lease.name),
        "name": short_name(&lease.name),
        "selector": lease.selector,
        "exporter_name": optional(&lease.exporter_name),
        "tags": sorted(&lease.tags),
        "context": sorted(&lease.context),
        "duration": seconds(lease.duration.as_ref()),
        "effective_duration": seconds(lease.effective_duration.as_ref()),
        "begin_time": rfc3339(lease.begin_time.as_ref()),
        "end_time": rfc3339(lease.end_time.as_ref()),
        "client": optional(&lease.client),
        "exporter": optional(&lease.exporter),
        "conditions": conditions.collect::<Value>(),
        "effective_begin_time": rfc3339(lease.effective_begin_time.as_ref()),
        "effective_end_time": rfc3339(lease.effective_end_time.as_ref()),
        "deprecated_labels": sorted(&lease.deprecated_labels),
    })
}

fn condition_json(condition: &Condition) -> Value {
    json!({
        "type": condition.r#type(),
        "status": condition.status(),
        "observedGeneration": condition.observed_generation().to_string(),
        "reason": condition.reason(),
        "message": condition.message(),
    })
}

/// The headings of [`lease_row`].
pub const LEASE_HEADINGS: [&str; 8] = [
    "NAME",
    "SELECTOR",
    "STATUS",
    "EXPIRES AT",
    "REMAINING",
    "CLIENT",
    "EXPORTER",
    "TAGS",
];

/// One row of a table of leases.
#[must_use]
pub fn lease_row(lease: &wire::Lease, now: Timestamp) -> Vec<String> {
    let end =
        end(lease).filter(|_| lease.effective_begin_time.is_some() || lease.begin_time.is_some());
    let remaining = end.map(|end| match end.as_second() - now.as_second() {
        left if left <= 0 => "expired".to_owned(),
        left => span(left),
    });
    let short = |text: &Option<String>| short_name(text.as_deref().unwrap_or_default()).to_owned();
    let selector = Some(lease.selector.as_str()).filter(|text| *text != NO_SELECTOR);
    vec![
        short_name(&lease.name).to_owned(),
        selector.unwrap_or_default().to_owned(),
        state(lease),
        end.map(local_time).unwrap_or_default(),
        remaining.unwrap_or_default(),
        short(&lease.client),
        short(&lease.exporter),
        pairs(&lease.tags),
    ]
}

/// What the controller says about where a lease stands.
#[must_use]
pub fn message(lease: &wire::Lease) -> String {
    let last = lease.conditions.last();
    last.map(|condition| condition.message().to_owned())
        .unwrap_or_default()
}

/// One word for where a lease stands: `Ready`, or the reason why not.
#[must_use]
pub fn state(lease: &wire::Lease) -> String {
    match standing(lease) {
        Standing::Ready => "Ready".to_owned(),
        Standing::Over(reason, _) => reason,
        Standing::AskAgain(_) => "NoExporter".to_owned(),
        Standing::Waiting(_) => match condition(lease, "Pending") {
            Some(pending) => pending.reason().to_owned(),
            None if lease.begin_time.is_some() => "Scheduled".to_owned(),
            None => "Pending".to_owned(),
        },
    }
}

/// The word for an exporter's status.
#[must_use]
pub fn exporter_status(exporter: &wire::Exporter) -> &'static str {
    match ExporterStatus::try_from(exporter.status) {
        Ok(ExporterStatus::Unspecified) => "UNSPECIFIED",
        Ok(ExporterStatus::Offline) => "OFFLINE",
        Ok(ExporterStatus::Available) => "AVAILABLE",
        Ok(ExporterStatus::BeforeLeaseHook) => "BEFORE_LEASE_HOOK",
        Ok(ExporterStatus::LeaseReady) => "LEASE_READY",
        Ok(ExporterStatus::AfterLeaseHook) => "AFTER_LEASE_HOOK",
        Ok(ExporterStatus::BeforeLeaseHookFailed) => "BEFORE_LEASE_HOOK_FAILED",
        Ok(ExporterStatus::AfterLeaseHookFailed) => "AFTER_LEASE_HOOK_FAILED",
        Err(_) => "UNKNOWN",
    }
}

/// Which columns of exporters were asked for beyond the name and the labels.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExporterColumns {
    /// `ENABLED`.
    pub enabled: bool,
    /// `ONLINE`.
    pub online: bool,
    /// `STATUS`.
    pub status: bool,
    /// Who leases it.
    pub leases: bool,
    /// What it says about itself.
    pub message: bool,
}

// === impl ExporterColumns ===

impl ExporterColumns {
    /// The headings of [`Self::row`].
    #[must_use]
    pub fn headings(self) -> Vec<&'static str> {
        let mut headings = vec!["NAME"];
        let mut add = |wanted: bool, names: &[&'static str]| {
            if wanted {
                headings.extend_from_slice(names);
            }
        };
        add(self.enabled, &["ENABLED"]);
        add(self.online, &["ONLINE"]);
        add(self.status, &["STATUS"]);
        add(true, &["LABELS"]);
        add(self.leases, &["LEASED BY", "LEASE STATUS", "RELEASE TIME"]);
        add(self.message, &["MESSAGE"]);
        headings
    }

    /// One row of a table of exporters.
    #[must_use]
    pub fn row(self, exporter: &wire::Exporter, lease: Option<&wire::Lease>) -> Vec<String> {
        let yes = |value: bool| if value { "yes" } else { "no" }.to_owned();
        let mut row = vec![short_name(&exporter.name).to_owned()];
        let mut add = |wanted: bool, texts: Vec<String>| {
            if wanted {
                row.extend(texts);
            }
        };
        add(self.enabled, vec![yes(exporter.enabled.unwrap_or(true))]);
        #[expect(deprecated, reason = "what shipped clients show")]
        add(self.online, vec![yes(exporter.online)]);
        add(self.status, vec![exporter_status(exporter).to_owned()]);
        add(true, vec![pairs(&exporter.labels)]);
        add(self.leases, lease_cells(lease));
        add(self.message, vec![exporter.status_message.clone()]);
        row
    }

    /// The same as data; keys that were not asked for are absent.
    #[must_use]
    pub fn json(self, exporter: &wire::Exporter, lease: Option<&wire::Lease>) -> Value {
        let mut value = json!({
            "namespace": namespace(&exporter.name),
            "name": short_name(&exporter.name),
            "labels": sorted(&exporter.labels),
        });
        if self.online {
            #[expect(deprecated, reason = "what shipped clients show")]
            let online = exporter.online;
            value["online"] = online.into();
        }
        if self.status {
            value["status"] = exporter.status.into();
        }
        if self.message {
            value["status_message"] = exporter.status_message.as_str().into();
        }
        if self.enabled {
            value["enabled"] = exporter.enabled.unwrap_or(true).into();
        }
        if self.leases {
            value["lease"] = lease.map_or(Value::Null, lease_json);
        }
        value["deprecated_labels"] = sorted(&exporter.deprecated_labels);
        value
    }
}

fn lease_cells(lease: Option<&wire::Lease>) -> Vec<String> {
    let Some(lease) = lease else {
        return vec![String::new(), "Available".to_owned(), String::new()];
    };
    let status = match standing(lease) {
        Standing::Ready => "In-Use".to_owned(),
        Standing::Waiting(_) => "Waiting".to_owned(),
        Standing::Over(reason, _) => reason,
        Standing::AskAgain(_) => "Waiting".to_owned(),
    };
    let client = lease.client.as_deref().unwrap_or_default();
    vec![
        short_name(client).to_owned(),
        status,
        end(lease).map(local_time).unwrap_or_default(),
    ]
}

/// Says for each deprecated label what the administrator wants said.
pub fn warn_of_deprecated(labels: &std::collections::HashMap<String, String>) {
    let mut texts: Vec<_> = labels.iter().collect();
    texts.sort();
    for (label, message) in texts {
        crate::output::warn(&format!("label `{label}`: {message}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        let cases = [
            (-1, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3660, "1h 1m"),
            (97_500, "1d 3h 5m"),
            (86_400, "1d"),
        ];
        for (seconds, text) in cases {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn columns_and_cells_agree() {
        let all = ExporterColumns {
            enabled: true,
            online: true,
            status: true,
            leases: true,
            message: true,
        };
        for columns in [ExporterColumns::default(), all] {
            let row = columns.row(&wire::Exporter::default(), None);
            assert_eq!(row.len(), columns.headings().len());
        }
        assert_eq!(
            lease_row(&wire::Lease::default(), Timestamp::UNIX_EPOCH).len(),
            LEASE_HEADINGS.len()
        );
    }

    #[test]
    fn a_lease_as_data_has_the_keys_of_shipped_clients() {
        let lease = wire::Lease {
            name: "namespaces/default/leases/a".into(),
            client: Some("namespaces/default/clients/me".into()),
            duration: Some(prost_types::Duration {
                seconds: 1800,
                nanos: 0,
            }),
            ..Default::default()
        };
        let value = lease_json(&lease);
        assert_eq!(value["name"], "a");
        assert_eq!(value["client"], "me");
        assert_eq!(value["duration"], 1800.0);
        assert_eq!(value["exporter_name"], Value::Null);
    }
}
