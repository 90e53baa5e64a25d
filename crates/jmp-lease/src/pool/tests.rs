//! Conditions, texts and refusals, one by one.

use std::collections::BTreeMap;
use std::time::Duration;

use jmp_types::Timestamp;
use jmp_types::resource::{
    AccessPolicy, Client, ClientMatch, Device, Exporter, GoDuration, Key, LEASE_ENDED_LABEL, Lease,
    PolicyRule,
};

use super::*;
use crate::status::ExporterStatus;
use crate::time::Moment;

const SECOND: Duration = Duration::from_secs(1);

/// A pool with a clock of its own.
struct Lab {
    pool: Pool,
    clock: Duration,
    names: u32,
}

fn key(name: &str) -> Key {
    Key::new("default", name)
}

fn exporter(name: &str, labels: &[(&str, &str)]) -> Exporter {
    let mut exporter = Exporter::default();
    exporter.metadata.name = name.to_owned();
    exporter.metadata.namespace = "default".to_owned();
    let labels = labels.iter();
    exporter.metadata.labels = labels
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect();
    exporter
}

fn client(name: &str, team: &str) -> Client {
    let mut client = Client::default();
    client.metadata.name = name.to_owned();
    client.metadata.namespace = "default".to_owned();
    client.metadata.labels = [("team".to_owned(), team.to_owned())].into();
    client
}

fn policy(team: &str, priority: i64, most: Option<u64>) -> AccessPolicy {
    let mut policy = AccessPolicy::default();
    policy.metadata.name = format!("for-{team}");
    policy.metadata.namespace = "default".to_owned();
    let mut from = ClientMatch::default();
    from.client_selector.match_labels = [("team".to_owned(), team.to_owned())].into();
    policy.spec.policies.push(PolicyRule {
        description: format!("only team {team}"),
        priority,
        from: vec![from],
        maximum_duration: most.map(|most| GoDuration(Duration::from_secs(most))),
        spot_access: false,
    });
    policy
}

fn seconds(seconds: i64) -> GivenDuration {
    GivenDuration {
        seconds,
        nanoseconds: 0,
    }
}

impl Lab {
    /// Exporters `x0` … with label `a=1`, ready; clients alice (red) and bob (blue).
    fn new(exporters: usize) -> Self {
        let objects = (0..exporters).map(|index| exporter(&format!("x{index}"), &[("a", "1")]));
        let clients = vec![client("alice", "red"), client("bob", "blue")];
        let mut lab = Self {
            pool: Pool::restore(
                Settings::default(),
                objects.collect(),
                clients,
                vec![],
                vec![],
                Lab::time(Duration::ZERO),
            )
            .0,
            clock: Duration::ZERO,
            names: 0,
        };
        for index in 0..exporters {
            lab.start(&format!("x{index}"), 1);
        }
        lab
    }

    fn time(clock: Duration) -> Now {
        Now {
            wall: Timestamp::UNIX_EPOCH + clock,
            monotonic: Moment::since_start(clock),
        }
    }

    fn now(&self) -> Now {
        Self::time(self.clock)
    }

    fn wall(&self, seconds: u64) -> Option<Timestamp> {
        Some(Timestamp::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    fn step(&mut self, event: Event) -> Vec<Effect> {
        self.pool.step(event, self.now())
    }

    fn pass(&mut self, seconds: u64) -> Vec<Effect> {
        self.clock += SECOND * u32::try_from(seconds).unwrap();
        self.step(Event::Tick)
    }

    fn start(&mut self, name: &str, connection: u64) {
        self.step(Event::Registered {
            exporter: key(name),
            labels: BTreeMap::new(),
            devices: vec![Device::default()],
        });
        self.report(name, ExporterStatus::Available, "");
        self.step(Event::Connected {
            exporter: key(name),
            connection,
        });
        self.deliver(name);
    }

    fn report(&mut self, name: &str, status: ExporterStatus, message: &str) -> Vec<Effect> {
        self.step(Event::StatusReported {
            exporter: key(name),
            status,
            message: message.to_owned(),
        })
    }

    fn deliver(&mut self, name: &str) -> Vec<Effect> {
        let exporter = key(name);
        let connection = self.pool.connection(&exporter).unwrap();
        let notice = self.pool.notice(&exporter);
        self.step(Event::NoticeDelivered {
            exporter,
            connection,
            notice,
        })
    }

    fn wanted(&mut self, client: &str) -> NewLease {
        self.names += 1;
        NewLease {
            name: format!("l{}", self.names),
            client: Some(key(client)),
            selector: "a=1".to_owned(),
            duration: Some(seconds(60)),
            ..NewLease::default()
        }
    }

    fn create(&mut self, wanted: NewLease) -> Result<Lease, Refusal> {
        let command = Command::Create(Box::new(wanted));
        let (lease, _) = self.pool.command(command, self.now())?;
        Ok(lease)
    }

    fn lease(&mut self, client: &str) -> Lease {
        let wanted = self.wanted(client);
        self.create(wanted).unwrap()
    }

    fn update(
        &mut self,
        lease: &str,
        change: impl FnOnce(&mut LeaseUpdate),
    ) -> Result<Lease, Refusal> {
        let mut update = LeaseUpdate {
            actor: Actor::Administrator,
            lease: key(lease),
            begin_time: None,
            end_time: None,
            duration: None,
            client: None,
            tags: None,
            context: None,
        };
        change(&mut update);
        let command = Command::Update(Box::new(update));
        Ok(self.pool.command(command, self.now())?.0)
    }

    fn release(&mut self, actor: Actor, lease: &str) -> Result<Lease, Refusal> {
        let command = Command::Release {
            actor,
            lease: key(lease),
            method: "ReleaseLease",
        };
        Ok(self.pool.command(command, self.now())?.0)
    }

    fn refused(&mut self, change: impl FnOnce(&mut NewLease)) -> Refusal {
        let mut wanted = self.wanted("alice");
        change(&mut wanted);
        self.create(wanted).unwrap_err()
    }
}

/// Types, statuses and reasons in their order.
fn conditions(lease: &Lease) -> Vec<String> {
    let all = lease.status.conditions.iter();
    all.map(|one| format!("{}={} {}", one.kind, one.status, one.reason))
        .collect()
}

fn ended(effects: &[Effect]) -> Vec<Lease> {
    let saved = effects.iter().filter_map(|effect| match effect {
        Effect::SaveLease(lease) if lease.status.ended => Some((**lease).clone()),
        _ => None,
    });
    saved.collect()
}

#[test]
fn a_free_exporter_is_assigned_at_once_and_waiting_shows_in_conditions() {
    let mut lab = Lab::new(1);
    let first = lab.lease("alice");
    assert_eq!(conditions(&first), ["Ready=True Ready"]);
    assert_eq!(first.status.begin_time, Some(lab.now().wall));
    let second = lab.lease("bob");
    assert_eq!(conditions(&second), ["Pending=True NotAvailable"]);
    let queue = lab.pool.queue(&key("l2"), lab.now()).unwrap();
    assert_eq!((queue.position, queue.length), (1, 1));
    assert_eq!(queue.estimate, lab.wall(60));
    assert_eq!(queue.candidates[0].client.as_deref(), Some("alice"));
    let shown = lab.pool.present(&key("l2"), lab.now()).unwrap();
    assert_eq!(
        shown.status.conditions[0].message,
        "waiting for the one exporter that fits: x0 is leased by alice until 1970-01-01T00:01:00Z; place 1 of 1"
    );

    // Whoever comes later hears when it is free if those before use all of their time.
    lab.lease("alice");
    let behind = lab.pool.queue(&key("l3"), lab.now()).unwrap();
    assert_eq!((behind.position, behind.length), (2, 2));
    assert_eq!(behind.estimate, lab.wall(120));
    lab.release(Actor::Client(key("alice")), "l3").unwrap();

    let over = lab.release(Actor::Client(key("alice")), "l1").unwrap();
    assert_eq!(conditions(&over), ["Ready=False Released"]);
    assert_eq!(over.metadata.labels[LEASE_ENDED_LABEL], "true");
    assert!(lab.pool.lease(&key("l2")).unwrap().exporter().is_none());
    lab.deliver("x0");
    // It has some time to say that it is available.
    let queue = lab.pool.queue(&key("l2"), lab.now()).unwrap();
    assert_eq!(queue.estimate, lab.wall(2));
    let waiting = lab.pool.present(&key("l2"), lab.now()).unwrap();
    assert_eq!(
        waiting.status.conditions[0].message,
        "waiting for the one exporter that fits: x0 is just coming back from its last lease; place 1 of 1"
    );
    assert!(lab.pool.lease(&key("l2")).unwrap().exporter().is_none());
    lab.report("x0", ExporterStatus::Available, "Available for new lease");
    let second = lab.pool.lease(&key("l2")).unwrap();
    assert_eq!(
        conditions(second),
        ["Pending=True NotAvailable", "Ready=True Ready"]
    );
    let over = ended(&lab.pass(60));
    assert_eq!(
        conditions(&over[0]),
        ["Pending=True NotAvailable", "Ready=False Expired"]
    );
}

#[test]
fn what_nothing_will_do_for_ends_at_once_with_its_reason() {
    let mut lab = Lab::new(1);
    let reason = |lab: &mut Lab, change: &dyn Fn(&mut NewLease)| {
        let mut wanted = lab.wanted("alice");
        change(&mut wanted);
        let lease = lab.create(wanted).unwrap();
        assert!(lease.status.ended, "{lease:?}");
        let last = lease.status.conditions.last().unwrap().clone();
        (last.kind + "/" + &last.reason, last.message)
    };
    let pinned = |name: &str, selector: &str| {
        let (name, selector) = (name.to_owned(), selector.to_owned());
        move |wanted: &mut NewLease| {
            wanted.exporter_name = Some(name.clone());
            wanted.selector = selector.clone();
        }
    };
    let (why, _) = reason(&mut lab, &pinned("x9", ""));
    assert_eq!(why, "Unsatisfiable/ExporterNotFound");
    let (why, _) = reason(&mut lab, &pinned("x0", "a=2"));
    assert_eq!(why, "Unsatisfiable/SelectorMismatch");
    let (why, text) = reason(&mut lab, &|wanted| wanted.selector = "a=2".to_owned());
    assert_eq!(why, "Unsatisfiable/NoAccess");
    assert_eq!(text, "no exporter matches the selector a=2");
    lab.step(Event::PolicyPut(Box::new(policy("blue", 0, None))));
    let (why, text) = reason(&mut lab, &|_| ());
    assert_eq!(why, "Unsatisfiable/NoAccess");
    assert!(text.ends_with("by client alice: only team blue"), "{text}");
    lab.step(Event::PolicyPut(Box::new(policy("red", 0, Some(30)))));
    let (why, text) = reason(&mut lab, &|_| ());
    assert_eq!(why, "Unsatisfiable/DurationTooLong");
    assert!(text.contains("30s at most"), "{text}");
    let mut disabled = exporter("x0", &[("a", "1")]);
    disabled.spec.enabled = Some(false);
    lab.step(Event::ExporterPut(Box::new(disabled)));
    let (why, _) = reason(&mut lab, &|_| ());
    assert_eq!(why, "Unsatisfiable/AllDisabled");
    let (why, _) = reason(&mut lab, &pinned("x0", ""));
    assert_eq!(why, "Unsatisfiable/ExporterDisabled");
    let mut wanted = lab.wanted("alice");
    pinned("x0", "")(&mut wanted);
    wanted.allow_disabled = true;
    wanted.duration = Some(seconds(30));
    assert_eq!(
        conditions(&lab.create(wanted).unwrap()),
        ["Ready=True Ready"]
    );
}

#[test]
fn priority_comes_before_age() {
    let mut lab = Lab::new(1);
    lab.step(Event::PolicyPut(Box::new(policy("red", 1, None))));
    lab.step(Event::PolicyPut(Box::new(policy("blue", 5, None))));
    lab.lease("alice");
    lab.lease("alice");
    lab.pass(1);
    lab.lease("bob");
    lab.pass(60);
    lab.deliver("x0");
    lab.report("x0", ExporterStatus::Available, "");
    assert!(lab.pool.lease(&key("l2")).unwrap().exporter().is_none());
    let bob = lab.pool.lease(&key("l3")).unwrap();
    assert_eq!((bob.exporter(), bob.status.priority), (Some(key("x0")), 5));
}

#[test]
fn senseless_requests_are_refused() {
    let mut lab = Lab::new(1);
    lab.pass(1000);
    type Change = fn(&mut NewLease);
    let cases: [(Change, &str); 18] = [
        (|w| w.duration = None, "duration is required"),
        (
            |w| w.duration = Some(seconds(0)),
            "duration must be positive",
        ),
        (
            |w| w.duration = Some(seconds(-5)),
            "duration must be positive",
        ),
        (
            |w| w.duration = Some(seconds(i64::MAX)),
            "duration is too long",
        ),
        (
            |w| {
                w.begin_time = Some(Timestamp::UNIX_EPOCH + SECOND * 2000);
                w.end_time = Some(Timestamp::UNIX_EPOCH + SECOND * 3000);
            },
            "duration conflicts with begin_time and end_time",
        ),
        (
            |w| {
                w.begin_time = Some(Timestamp::UNIX_EPOCH + SECOND * 3000);
                w.end_time = Some(Timestamp::UNIX_EPOCH + SECOND * 2000);
            },
            "is not after begin_time",
        ),
        (|w| w.end_time = Some(Timestamp::UNIX_EPOCH), "has passed"),
        (|w| w.begin_time = Some(Timestamp::MAX), "end of time"),
        (
            |w| w.selector = String::new(),
            "one of selector and exporter_name",
        ),
        (
            |w| w.selector = "a==1".to_owned(),
            "unsupported operator `==`",
        ),
        (
            |w| w.selector = "a=1,a=2".to_owned(),
            "two different values of `a`",
        ),
        (|w| w.selector = "a in (".to_owned(), "invalid selector"),
        (
            |w| w.name = "Upper".to_owned(),
            "lease_id `Upper` is no valid name",
        ),
        (
            |w| w.tags = [("a/b".to_owned(), String::new())].into(),
            "must not contain `/`",
        ),
        (
            |w| w.tags = [("k8s.io".to_owned(), String::new())].into(),
            "reserved prefix",
        ),
        (
            |w| w.tags = (0..11).map(|n| (format!("t{n}"), String::new())).collect(),
            "too many tags",
        ),
        (
            |w| w.context = [("k".repeat(33), String::new())].into(),
            "invalid context key",
        ),
        (
            |w| w.context = [("k".to_owned(), "v".repeat(65))].into(),
            "longer than 64",
        ),
    ];
    for (change, text) in cases {
        let refusal = lab.refused(change);
        assert_eq!(refusal.kind, RefusalKind::InvalidArgument, "{refusal}");
        assert!(refusal.text.contains(text), "{refusal} lacks {text}");
    }
    lab.lease("alice");
    let name = format!("l{}", lab.names);
    let refusal = lab.refused(|wanted| wanted.name = name);
    assert_eq!(refusal.kind, RefusalKind::AlreadyExists);
    let refusal = lab.refused(|wanted| wanted.client = Some(key("nobody")));
    assert_eq!(refusal.kind, RefusalKind::NotFound);
    lab.pool.settings.max_live_leases = 1;
    let refusal = lab.refused(|_| ());
    assert_eq!(refusal.kind, RefusalKind::ResourceExhausted);
}

#[test]
fn labels_come_from_selector_and_tags_and_cannot_say_that_the_lease_has_ended() {
    let mut lab = Lab::new(1);
    let mut wanted = lab.wanted("alice");
    wanted.selector = format!("a=1,{LEASE_ENDED_LABEL}=true");
    wanted.tags = [("team".to_owned(), "x".to_owned())].into();
    let lease = lab.create(wanted).unwrap();
    let labels: Vec<_> = lease.metadata.labels.into_iter().collect();
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let mut expected = vec![pair("a", "1"), pair("metadata.jumpstarter.dev/team", "x")];
    if lease.status.ended {
        expected.insert(1, pair(LEASE_ENDED_LABEL, "true"));
    }
    assert_eq!(labels, expected);
    let reasons = lease.status.conditions.last().map(|one| one.reason.clone());
    assert_eq!(reasons.as_deref(), Some("NoAccess"));
}

#[test]
fn times_of_a_running_lease_change_as_far_as_they_can() {
    let mut lab = Lab::new(1);
    lab.lease("alice");
    lab.pass(10);
    let begin = lab.wall(50);
    let refusal = lab
        .update("l1", |update| update.begin_time = begin)
        .unwrap_err();
    assert_eq!(
        refusal.text,
        "cannot update BeginTime: lease has already started"
    );
    let end = lab.wall(100);
    let lease = lab.update("l1", |update| update.end_time = end).unwrap();
    assert_eq!(lease.spec.duration, Some(GoDuration(SECOND * 100)));
    let lease = lab
        .update("l1", |update| update.duration = Some(seconds(50)))
        .unwrap();
    assert_eq!(lease.spec.end_time, lab.wall(50));
    assert_eq!(
        lease.status.conditions[0].message,
        "exporter x0 is assigned until 1970-01-01T00:00:50Z"
    );
    let refusal = lab
        .update("l1", |update| update.duration = Some(seconds(5)))
        .unwrap_err();
    assert!(refusal.text.contains("release it instead"), "{refusal}");
    lab.step(Event::PolicyPut(Box::new(policy("red", 0, Some(70)))));
    let refusal = lab
        .update("l1", |update| update.duration = Some(seconds(71)))
        .unwrap_err();
    assert!(refusal.text.contains("too long"), "{refusal}");
    lab.update("l1", |update| update.duration = Some(seconds(70)))
        .unwrap();
    let over = ended(&lab.pass(60));
    assert_eq!(conditions(&over[0]), ["Ready=False Expired"]);
    let refusal = lab
        .update("l1", |update| update.duration = Some(seconds(90)))
        .unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::NotFound);
}

#[test]
fn strangers_are_denied_with_the_texts_that_clients_know() {
    let mut lab = Lab::new(1);
    lab.lease("alice");
    let refusal = lab.release(Actor::Client(key("bob")), "l1").unwrap_err();
    assert_eq!(refusal.text, "ReleaseLease permission denied");
    let bob = Actor::Client(key("bob"));
    let refusal = lab.update("l1", |update| update.actor = bob).unwrap_err();
    assert_eq!(refusal.text, "UpdateLease permission denied");
    let refusal = lab.release(Actor::Exporter(key("x7")), "l1").unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::FailedPrecondition);
    let refusal = lab.pool.dial_gate(&key("l1"), &key("bob")).unwrap_err();
    assert_eq!(refusal.text(), "permission denied");
}

#[test]
fn the_gate_follows_the_reported_status() {
    use ExporterStatus as S;
    let mut lab = Lab::new(1);
    lab.lease("alice");
    let mut gate = |status: S| {
        lab.report("x0", status, "");
        lab.pool.dial_gate(&key("l1"), &key("alice"))
    };
    for open in [
        S::LeaseReady,
        S::BeforeLeaseHook,
        S::AfterLeaseHook,
        S::Unspecified,
    ] {
        assert_eq!(gate(open), Ok(key("x0")));
    }
    let text = "exporter is not ready (status: Available)".to_owned();
    assert_eq!(gate(S::Available), Err(DialRefusal::NotReady(text)));
    assert!(
        gate(S::Offline)
            .unwrap_err()
            .text()
            .contains("exporter is offline")
    );
    assert!(matches!(
        gate(S::BeforeLeaseHookFailed),
        Err(DialRefusal::Unusable(_))
    ));
}

#[test]
fn a_transfer_asks_the_policies_closes_tunnels_and_tells_the_exporter() {
    let mut lab = Lab::new(1);
    lab.lease("alice");
    let update = LeaseUpdate {
        actor: Actor::Client(key("alice")),
        lease: key("l1"),
        begin_time: None,
        end_time: None,
        duration: None,
        client: Some(key("bob")),
        tags: None,
        context: None,
    };
    let command = Command::Update(Box::new(update));
    let (lease, effects) = lab.pool.command(command, lab.now()).unwrap();
    assert_eq!(lease.client(), key("bob"));
    let tells = |effect: &Effect| matches!(effect, Effect::Notify { notice, .. } if notice.client.as_deref() == Some("bob"));
    assert!(effects.iter().any(tells));
    let closes = |effect: &Effect| matches!(effect, Effect::CloseTunnels { .. });
    assert!(effects.iter().any(closes));
    lab.step(Event::PolicyPut(Box::new(policy("blue", 0, None))));
    let back = Some(key("alice"));
    let refusal = lab.update("l1", |update| update.client = back).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::FailedPrecondition);
    let nobody = Some(key("nobody"));
    let refusal = lab
        .update("l1", |update| update.client = nobody)
        .unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::NotFound);
}

#[test]
fn a_reservation_holds_and_only_what_ends_before_it_gets_the_exporter() {
    let mut lab = Lab::new(1);
    let mut wanted = lab.wanted("alice");
    wanted.begin_time = lab.wall(100);
    let reserved = lab.create(wanted).unwrap();
    assert_eq!(conditions(&reserved), Vec::<String>::new());
    assert!(reserved.status.reserved_exporter_ref.is_some());
    let begin = lab.wall(130);
    let refusal = lab.refused(|wanted| wanted.begin_time = begin);
    assert_eq!(refusal.kind, RefusalKind::FailedPrecondition);
    assert!(
        refusal
            .text
            .contains("x0 is taken by client alice (lease l1)"),
        "{refusal}"
    );
    let short = lab.lease("bob");
    assert_eq!(conditions(&short), ["Ready=True Ready"]);
    let name = short.metadata.name;
    let refusal = lab
        .update(&name, |update| update.duration = Some(seconds(101)))
        .unwrap_err();
    assert!(
        refusal.text.contains("reserved for client alice"),
        "{refusal}"
    );
    lab.update(&name, |update| update.duration = Some(seconds(100)))
        .unwrap();
    let mut long = lab.wanted("bob");
    long.duration = Some(seconds(500));
    let long = lab.create(long).unwrap();
    assert_eq!(conditions(&long), ["Pending=True NotAvailable"]);
    lab.pass(100);
    lab.deliver("x0");
    lab.report("x0", ExporterStatus::Available, "");
    let reserved = lab.pool.lease(&key("l1")).unwrap();
    assert_eq!(reserved.exporter(), Some(key("x0")));
    assert_eq!(ended(&lab.pass(60))[0].metadata.name, "l1");
}

#[test]
fn a_window_that_passes_while_waiting_is_no_success() {
    let mut lab = Lab::new(1);
    lab.lease("bob");
    let mut wanted = lab.wanted("alice");
    wanted.end_time = lab.wall(40);
    wanted.duration = Some(seconds(40));
    lab.create(wanted).unwrap();
    let over = ended(&lab.pass(40));
    assert_eq!(
        conditions(&over[0]),
        [
            "Pending=True NotAvailable",
            "Unsatisfiable=True Expired",
            "Ready=False Expired"
        ]
    );
    lab.lease("alice");
    lab.pool.settings.pending_limit = SECOND;
    let mut wanted = lab.wanted("alice");
    wanted.duration = Some(seconds(10_000));
    lab.create(wanted).unwrap();
    let over = ended(&lab.pass(1));
    assert_eq!(
        over[0].status.conditions.last().unwrap().reason,
        "QueueTimeout"
    );
}

#[test]
fn a_hook_cannot_keep_the_exporter() {
    use ExporterStatus as S;
    let mut lab = Lab::new(1);
    lab.lease("alice");
    lab.report("x0", S::BeforeLeaseHookFailed, "exit 3: no power");
    let over = ended(&lab.pass(30));
    let message = &over[0].status.conditions.last().unwrap().message;
    assert!(
        message.contains("beforeLease hook failed: exit 3: no power"),
        "{message}"
    );
    lab.deliver("x0");
    lab.report("x0", S::AfterLeaseHookFailed, "exit 1");
    assert!(!lab.pool.is_available(&key("x0")));
    assert!(
        lab.pool
            .waiting(&key("x0"), lab.now())
            .unwrap()
            .at_most
            .is_some()
    );
    lab.pass(10);
    assert!(lab.pool.is_available(&key("x0")));
    lab.lease("alice");
    lab.report("x0", S::BeforeLeaseHookFailed, "boom");
    let lease = format!("l{}", lab.names);
    let over = lab.release(Actor::Exporter(key("x0")), &lease).unwrap();
    let message = &over.status.conditions.last().unwrap().message;
    assert_eq!(
        message,
        "released by exporter x0: beforeLease hook failed: boom"
    );
    lab.deliver("x0");
    lab.report("x0", S::AfterLeaseHook, "");
    lab.pass(30 * 60);
    let waiting = lab.pool.waiting(&key("x0"), lab.now()).unwrap();
    assert_eq!(waiting.at_most, None);
    assert!(waiting.what.contains("a hook runs"), "{}", waiting.what);
}

#[test]
fn silence_is_offline_after_a_while_and_a_stream_clears_it() {
    let mut lab = Lab::new(1);
    lab.step(Event::Disconnected {
        exporter: key("x0"),
        connection: 1,
    });
    let pending = lab.lease("alice");
    assert_eq!(conditions(&pending), ["Pending=True Offline"]);
    assert!(lab.pool.is_online(&key("x0")));
    lab.pass(60);
    assert!(!lab.pool.is_online(&key("x0")));
    let status = &lab.pool.exporter(&key("x0")).unwrap().status;
    assert_eq!(status.exporter_status, "Offline");
    lab.step(Event::Connected {
        exporter: key("x0"),
        connection: 2,
    });
    lab.step(Event::Disconnected {
        exporter: key("x0"),
        connection: 1,
    });
    assert_eq!(lab.pool.connection(&key("x0")), Some(2));
    assert_eq!(
        lab.pool
            .exporter(&key("x0"))
            .unwrap()
            .status
            .exporter_status,
        ""
    );
    lab.deliver("x0");
    assert!(lab.pool.lease(&key("l1")).unwrap().exporter().is_some());
}

#[test]
fn deletions_end_leases_with_their_cause() {
    let mut lab = Lab::new(2);
    lab.lease("alice");
    lab.lease("bob");
    let over = ended(&lab.step(Event::ExporterDeleted(key("x0"))));
    assert_eq!(
        over[0].status.conditions[0].message,
        "exporter x0 was deleted"
    );
    let over = ended(&lab.step(Event::ClientDeleted(key("bob"))));
    assert_eq!(
        over[0].status.conditions[0].message,
        "client bob was deleted"
    );
    assert_eq!(lab.pool.leases().count(), 0);
}

#[test]
fn cost_does_not_grow_with_the_pool() {
    // Every lease ends and is made again among 2,000 exporters and 300 who wait for another one:
    // were pairs looked at one by one, this would take minutes.
    let mut lab = Lab::new(2000);
    lab.step(Event::ExporterPut(Box::new(exporter(
        "other",
        &[("b", "1")],
    ))));
    for _ in 0..300 {
        let mut wanted = lab.wanted("bob");
        wanted.selector = "b=1".to_owned();
        lab.create(wanted).unwrap();
    }
    for _ in 0..2000 {
        let lease = lab.lease("alice");
        assert!(lease.exporter().is_some());
        lab.release(Actor::Administrator, &lease.metadata.name)
            .unwrap();
    }
}
