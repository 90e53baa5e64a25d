//! Exporters behind a controller that does what the test wants, with the real router and client.

mod real;
mod support;

use std::time::Duration;

use jmp_interfaces::power::PowerClient;
use jmp_lease::{ExporterStatus, OnFailure};
use tonic::Code;

use support::{Lab, Setup, echo, hook, refusals, talk};

#[tokio::test]
async fn one_lease_after_the_other() {
    let mut lab = Lab::start(Setup::default()).await;
    let (_, message) = lab.desk.reported(0, ExporterStatus::Available).await;
    assert_eq!(message, "Exporter registered and available");
    let sent = lab.desk.script().metadata.clone();
    for (key, value) in [
        ("authorization", "Bearer t0ken"),
        ("jumpstarter-kind", "Exporter"),
        ("jumpstarter-namespace", "lab"),
        ("jumpstarter-name", "bench"),
    ] {
        assert_eq!(sent[key], value);
    }

    lab.desk.lease("a", "me");
    let (_, message) = lab.desk.reported(0, ExporterStatus::LeaseReady).await;
    assert_eq!(message, "Ready for commands");
    let client = lab.client("a").await;
    let power: PowerClient = client.device("power").unwrap().client().unwrap();
    power.on().await.unwrap();
    let first = client.device("power").unwrap().uuid();

    // Without a word that the first one is over.
    lab.desk.lease("b", "you");
    lab.desk.reported(3, ExporterStatus::LeaseReady).await;
    let second = lab.client("b").await;
    assert_ne!(second.device("power").unwrap().uuid(), first, "new drivers");
    power.on().await.unwrap_err();

    lab.desk.unlease();
    lab.desk.reported(4, ExporterStatus::Available).await;
    assert_eq!(
        lab.desk.statuses(),
        [
            "AVAILABLE",
            "LEASE_READY",
            "AVAILABLE",
            "LEASE_READY",
            "AVAILABLE"
        ]
    );
    assert_eq!(lab.shut_down(false).await.code, 143);
    let script = lab.desk.script();
    assert_eq!(script.reports.last().unwrap().0, ExporterStatus::Offline);
    assert_eq!(script.unregistered, ["Exporter shutdown"]);
    assert_eq!(script.released, Vec::<String>::new());
}

#[tokio::test]
async fn a_killed_controller_ends_no_session() {
    let mut lab = Lab::start(Setup::default()).await;
    lab.desk.lease("a", "me");
    lab.desk.reported(0, ExporterStatus::LeaseReady).await;
    let client = lab.client("a").await;
    let mut stream = echo(&client).await;
    talk(&mut stream, "before").await;
    lab.kill_controller().await;
    for word in ["one", "two", "three"] {
        talk(&mut stream, word).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    lab.restart_controller().await;
    // The same lease: heard, listened for, and reported again; and not taken for a new process.
    let second = lab.client("a").await;
    lab.desk.reported(2, ExporterStatus::LeaseReady).await;
    assert_eq!(lab.desk.script().registrations, 1);
    talk(&mut stream, "after").await;
    talk(&mut echo(&second).await, "second").await;
    lab.desk.unlease();
    lab.desk.reported(3, ExporterStatus::Available).await;
    let again = |script: &support::Script| (script.registrations == 2).then_some(());
    lab.desk.until("registered again", again).await;
    lab.shut_down(false).await;
}

#[tokio::test]
async fn what_was_missed_is_made_up_for() {
    let after = hook("while [ ! -e $D/go ]; do sleep 0.02; done", OnFailure::Warn);
    let mut lab = Lab::start(Setup {
        after,
        ..Setup::default()
    })
    .await;
    lab.desk.lease("a", "me");
    lab.desk.reported(0, ExporterStatus::LeaseReady).await;
    let client = lab.client("a").await;
    lab.kill_controller().await;
    client.end_session().await.unwrap().unwrap();
    std::fs::write(lab.directory.path().join("go"), "").unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    lab.desk.unlease();
    lab.restart_controller().await;
    lab.desk.reported(2, ExporterStatus::Available).await;
    let statuses = lab.desk.statuses();
    let expected = ["AVAILABLE", "LEASE_READY", "AFTER_LEASE_HOOK", "AVAILABLE"];
    assert_eq!(
        statuses[..4],
        expected,
        "in order, none is lost: {statuses:?}"
    );
    lab.desk.lease("b", "me");
    lab.desk.reported(4, ExporterStatus::LeaseReady).await;
    lab.shut_down(false).await;
}

#[tokio::test]
async fn a_lost_listen_stream_is_opened_again() {
    let lab = Lab::start(Setup::default()).await;
    lab.desk.lease("a", "me");
    lab.desk.reported(0, ExporterStatus::LeaseReady).await;
    lab.listening("a").await;
    // The stream ends with OK, as it does when another one takes over.
    lab.desk.script().listens.clear();
    talk(&mut echo(&lab.client("a").await).await, "x").await;
    assert_eq!(lab.desk.script().listened, 2);
    assert_eq!(lab.desk.script().status_streams, 1);
}

#[tokio::test]
async fn a_failed_hook_warns_with_its_own_words() {
    let before = hook("echo no cable; exit 3", OnFailure::Warn);
    let lab = Lab::start(Setup {
        before,
        ..Setup::default()
    })
    .await;
    lab.desk.lease("a", "me");
    let (_, message) = lab.desk.reported(0, ExporterStatus::LeaseReady).await;
    assert_eq!(
        message,
        "[HOOK_WARNING] beforeLease hook failed: exit status 3; it printed last:\nno cable"
    );
    let seen = lab.client("a").await.status().await.unwrap().unwrap();
    assert_eq!(seen.message, message);
}

#[tokio::test]
async fn a_failed_hook_gives_the_lease_back() {
    let before = hook("echo no cable; exit 3", OnFailure::EndLease);
    let lab = Lab::start(Setup {
        before,
        ..Setup::default()
    })
    .await;
    lab.desk.lease("a", "me");
    let failed = ExporterStatus::BeforeLeaseHookFailed;
    let (at, message) = lab.desk.reported(0, failed).await;
    assert!(message.contains("no cable"), "{message}");
    lab.desk.reported(at, ExporterStatus::Available).await;
    assert_eq!(lab.desk.script().released, ["a"]);
    // Still the same lease: not again.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(lab.desk.statuses().len(), at + 2);
    lab.desk.lease("b", "me");
    lab.desk.reported(at + 2, failed).await;
}

#[tokio::test]
async fn old_controllers_are_told_of_the_release_in_a_status() {
    let lab = Lab::start(Setup {
        refusals: refusals([("ReleaseLease", Code::Unimplemented, "what?")]),
        ..Setup::default()
    })
    .await;
    lab.desk.lease("a", "me");
    lab.desk.reported(0, ExporterStatus::LeaseReady).await;
    lab.client("a").await.end_session().await.unwrap().unwrap();
    let told = |script: &support::Script| {
        let reports: Vec<_> = script.reports.iter().map(|r| (r.0.name(), r.2)).collect();
        (reports.len() == 5).then_some(reports)
    };
    assert_eq!(
        lab.desk.until("release", told).await,
        [
            ("AVAILABLE", false),
            ("LEASE_READY", false),
            ("AVAILABLE", false),
            ("AFTER_LEASE_HOOK", true),
            ("AVAILABLE", false)
        ]
    );
}

#[tokio::test]
async fn a_failed_hook_can_end_the_exporter() {
    let before = hook("exit 3", OnFailure::Exit);
    let mut lab = Lab::start(Setup {
        before,
        ..Setup::default()
    })
    .await;
    lab.desk.lease("a", "me");
    lab.desk.reported(0, ExporterStatus::Offline).await;
    let released = |script: &support::Script| (script.released == ["a"]).then_some(());
    lab.desk.until("released", released).await;
    lab.desk.unlease();
    assert_eq!(lab.finished().await.code, 1);
    assert!(lab.desk.statuses().contains(&"BEFORE_LEASE_HOOK_FAILED"));
    assert_eq!(lab.desk.script().unregistered.len(), 1);
}

#[tokio::test]
async fn a_shutdown_cleans_up_and_says_goodbye() {
    let after = hook("echo $LEASE_NAME $CLIENT_NAME > $D/after", OnFailure::Warn);
    let mut lab = Lab::start(Setup {
        after,
        ..Setup::default()
    })
    .await;
    lab.desk.lease("a", "me");
    lab.desk.reported(0, ExporterStatus::LeaseReady).await;
    let client = lab.client("a").await;
    // A transfer: the session goes on for another client.
    lab.desk.lease("a", "you");
    talk(&mut echo(&client).await, "still there").await;
    assert_eq!(lab.shut_down(false).await.code, 143);
    assert_eq!(lab.file("after"), "a you\n");
    assert_eq!(
        lab.desk.statuses(),
        ["AVAILABLE", "LEASE_READY", "AFTER_LEASE_HOOK", "OFFLINE"]
    );
    assert_eq!(lab.desk.script().unregistered.len(), 1);
}

#[tokio::test]
async fn a_graceful_shutdown_waits_for_the_lease() {
    let mut lab = Lab::start(Setup::default()).await;
    lab.desk.lease("a", "me");
    lab.desk.reported(0, ExporterStatus::LeaseReady).await;
    lab.exporter.shutdown_handle().request(true, 129).await;
    talk(&mut echo(&lab.client("a").await).await, "still there").await;
    lab.desk.unlease();
    assert_eq!(lab.finished().await.code, 129);
}

#[tokio::test]
async fn the_first_lease_may_be_the_last() {
    let mut lab = Lab::start(Setup {
        exit_on_lease_end: true,
        ..Setup::default()
    })
    .await;
    lab.desk.lease("a", "me");
    lab.desk.reported(0, ExporterStatus::LeaseReady).await;
    lab.desk.unlease();
    assert_eq!(lab.finished().await.code, 0);
    assert_eq!(lab.desk.script().unregistered.len(), 1);
}

#[tokio::test]
async fn refusals_at_the_start_end_the_exporter() {
    for (call, code, text, expected) in [
        (
            "Register",
            Code::Unknown,
            "token is expired by 2h",
            "get a new one",
        ),
        ("Register", Code::Unauthenticated, "no", "check `token`"),
        (
            "Status",
            Code::AlreadyExists,
            "another process",
            "another process",
        ),
    ] {
        let mut lab = Lab::start(Setup {
            refusals: refusals([(call, code, text)]),
            ..Setup::default()
        })
        .await;
        let ended = lab.finished().await;
        assert_eq!(ended.code, 1);
        let reason = ended.refused.unwrap();
        assert!(reason.contains(expected), "{reason}");
        // The other process may be at work.
        assert_eq!(lab.desk.statuses(), Vec::<&str>::new());
        assert_eq!(lab.desk.script().unregistered.len(), 0);
    }
    let mut lab = Lab::start(Setup {
        stranger: true,
        ..Setup::default()
    })
    .await;
    let reason = lab.finished().await.refused.unwrap();
    assert!(reason.contains("set `tls.ca`"), "{reason}");
}

#[tokio::test]
async fn refusals_later_are_waited_out() {
    let mut lab = Lab::start(Setup::default()).await;
    lab.desk.lease("a", "me");
    lab.desk.reported(0, ExporterStatus::LeaseReady).await;
    let client = lab.client("a").await;
    let mut stream = echo(&client).await;
    lab.kill_controller().await;
    lab.desk.script().refusals = refusals(
        ["Register", "Status", "Listen", "ReportStatus"]
            .map(|call| (call, Code::Unauthenticated, "token is expired")),
    );
    lab.restart_controller().await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    talk(&mut stream, "still there").await;
    lab.desk.script().refusals.clear();
    lab.desk.reported(2, ExporterStatus::LeaseReady).await;
    talk(&mut echo(&lab.client("a").await).await, "again").await;
}

#[tokio::test]
async fn devices_that_do_not_open_are_told_and_given_back() {
    let lab = Lab::start(Setup::default()).await;
    lab.desk.reported(0, ExporterStatus::Available).await;
    let broken = lab.directory.path().join("broken");
    std::fs::write(&broken, "").unwrap();
    lab.desk.lease("a", "me");
    let failed = ExporterStatus::BeforeLeaseHookFailed;
    let (at, message) = lab.desk.reported(0, failed).await;
    assert!(message.contains("the mirror is broken"), "{message}");
    let released = |script: &support::Script| (script.released == ["a"]).then_some(());
    lab.desk.until("released", released).await;
    std::fs::remove_file(&broken).unwrap();
    lab.desk.unlease();
    lab.desk.reported(at, ExporterStatus::Available).await;
    lab.desk.lease("b", "me");
    lab.desk.reported(at, ExporterStatus::LeaseReady).await;
}

#[tokio::test]
async fn a_router_takes_its_own_streams_along_only() {
    let mut lab = Lab::start(Setup::default()).await;
    lab.desk.lease("a", "me");
    lab.desk.reported(0, ExporterStatus::LeaseReady).await;
    let client = lab.client("a").await;
    let mut stream = echo(&client).await;
    talk(&mut stream, "x").await;
    let closing = jmp_router::Closing {
        lease: "a".into(),
        reason: "a test".into(),
        ..jmp_router::Closing::default()
    };
    assert_eq!(lab.router.close_tunnels(&closing), 1);
    use futures::StreamExt;
    let end = tokio::time::timeout(support::LIMIT, stream.reader.next()).await;
    assert!(!matches!(end.expect("an end"), Some(Ok(_))));
    // Tokens of the same second are closed, too.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    talk(&mut echo(&lab.client("a").await).await, "new").await;
    assert_eq!(lab.desk.statuses(), ["AVAILABLE", "LEASE_READY"]);
    // Nobody ever comes through this one; it must not hold anything up.
    lab.ghost("a").await;
    let parked = async {
        while lab.router.stats().parked == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(support::LIMIT, parked).await.unwrap();
    let start = std::time::Instant::now();
    lab.shut_down(false).await;
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
}
