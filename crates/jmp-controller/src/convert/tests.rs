use jmp_types::resource::{ExporterStatusRecord, GoDuration, LeaseStatus, Metadata, Reference};
use jmp_types::{Selector, resource};

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn selector(text: &str) -> LabelSelector {
    LabelSelector::from(&text.parse::<Selector>().unwrap())
}

fn policy() -> LabelPolicy {
    LabelPolicy {
        hidden: BTreeSet::from(["secret".to_owned()]),
        deprecated: BTreeMap::from([("old".to_owned(), "use new".to_owned())]),
    }
}

fn metadata(name: &str) -> Metadata {
    Metadata {
        name: name.into(),
        namespace: "lab".into(),
        ..Metadata::default()
    }
}

fn waiting() -> resource::Lease {
    let mut lease = resource::Lease {
        metadata: metadata("l1"),
        ..resource::Lease::default()
    };
    lease.spec.client_ref = Reference::new("me");
    lease.spec.selector = selector("old=1,board in (b,a)");
    lease.spec.duration = Some(GoDuration(Duration::from_millis(1500)));
    lease
}

#[test]
fn a_waiting_lease_has_no_effective_times() {
    let found = super::lease(&waiting(), &policy(), at(100));
    assert_eq!(found.name, "namespaces/lab/leases/l1");
    assert_eq!(found.client.as_deref(), Some("namespaces/lab/clients/me"));
    assert_eq!(found.exporter, None);
    assert_eq!(found.exporter_name, None);
    assert_eq!(found.selector, "board in (a,b),old=1");
    let length = found.duration.unwrap();
    assert_eq!((length.seconds, length.nanos), (1, 500_000_000));
    assert_eq!(found.effective_duration, None);
    assert_eq!(found.effective_begin_time, None);
    assert_eq!(found.effective_end_time, None);
    assert_eq!(found.deprecated_labels["old"], "use new");
}

#[test]
fn a_running_lease_grows_and_an_ended_one_stays() {
    let mut lease = waiting();
    lease.status = LeaseStatus {
        begin_time: Some(at(100)),
        exporter_ref: Some(Reference::new("bench")),
        ..LeaseStatus::default()
    };
    let running = super::lease(&lease, &policy(), at(160));
    assert_eq!(running.effective_duration.unwrap().seconds, 60);
    assert_eq!(running.effective_end_time, None);
    assert_eq!(
        running.exporter.as_deref(),
        Some("namespaces/lab/exporters/bench")
    );
    // A clock that was set back must not make it negative.
    let early = super::lease(&lease, &policy(), at(50));
    assert_eq!(early.effective_duration.unwrap().seconds, 0);
    lease.status.end_time = Some(at(130));
    let ended = super::lease(&lease, &policy(), at(160));
    assert_eq!(ended.effective_duration.unwrap().seconds, 30);
    assert_eq!(ended.effective_end_time.unwrap().seconds, 130);
}

#[test]
fn the_empty_selector_has_a_text() {
    let mut lease = waiting();
    lease.spec.selector = LabelSelector::default();
    lease.spec.exporter_ref = Some(Reference::new("bench"));
    let found = super::lease(&lease, &policy(), at(0));
    assert_eq!(found.selector, "<none>");
    assert_eq!(found.exporter_name.as_deref(), Some("bench"));
}

#[test]
fn hidden_and_deprecated_labels_are_shown_on_request_only() {
    let mut exporter = resource::Exporter {
        metadata: metadata("bench"),
        ..resource::Exporter::default()
    };
    for key in ["board", "secret", "old"] {
        exporter.metadata.labels.insert(key.into(), "1".into());
    }
    let plain = super::exporter(&exporter, &policy(), false);
    assert_eq!(plain.labels.keys().collect::<Vec<_>>(), ["board"]);
    assert_eq!(plain.deprecated_labels["old"], "use new");
    let all = super::exporter(&exporter, &policy(), true);
    assert_eq!(all.labels.len(), 3);
    assert_eq!(all.deprecated_labels.len(), 1);
}

#[test]
fn the_status_of_an_exporter_is_a_number_and_enabled_is_always_said() {
    let mut exporter = resource::Exporter {
        metadata: metadata("bench"),
        ..resource::Exporter::default()
    };
    let silent = super::exporter(&exporter, &policy(), false);
    assert_eq!(silent.status, v1::ExporterStatus::Unspecified as i32);
    assert_eq!(silent.enabled, Some(true));
    exporter.spec.enabled = Some(false);
    exporter.status = ExporterStatusRecord {
        exporter_status: "LeaseReady".into(),
        conditions: vec![Condition {
            kind: "Online".into(),
            status: "True".into(),
            reason: "Seen".into(),
            message: String::new(),
            last_transition_time: at(1),
            observed_generation: 3,
        }],
        ..ExporterStatusRecord::default()
    };
    let found = super::exporter(&exporter, &policy(), false);
    assert_eq!(found.status, v1::ExporterStatus::LeaseReady as i32);
    #[expect(deprecated, reason = "what older clients read")]
    let online = found.online;
    assert!(online);
    assert_eq!(found.enabled, Some(false));
}

#[test]
fn instants_survive_the_wire() {
    for nanoseconds in [0_i128, 1, -1, 1_700_000_000_123_456_789, -1_500_000_000] {
        let instant_given = Timestamp::from_nanosecond(nanoseconds).unwrap();
        let wire = timestamp(instant_given);
        assert!((0..1_000_000_000).contains(&wire.nanos));
        assert_eq!(instant(&wire), Some(instant_given));
    }
    for (seconds, nanos) in [(0, -1), (0, 1_000_000_000), (i64::MAX, 0), (i64::MIN, 0)] {
        assert_eq!(instant(&prost_types::Timestamp { seconds, nanos }), None);
    }
}
