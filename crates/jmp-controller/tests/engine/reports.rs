//! Register, Unregister and ReportStatus.

use std::time::Duration;

use jmp_proto::jumpstarter::client::v1::GetExporterRequest;
use jmp_proto::v1;
use jmp_types::resource::{Exporter, Key};
use tonic::Code;

use crate::lab::{Lab, ask, refused};
use crate::world::{controller_calls, leased, register};

fn report(status: v1::ExporterStatus, release: bool) -> v1::ReportStatusRequest {
    v1::ReportStatusRequest {
        status: status.into(),
        message: Some("said".into()),
        release_lease: Some(release),
    }
}

#[tokio::test(start_paused = true)]
async fn a_report_can_release_the_lease() {
    let lab = Lab::new().await;
    let mut device = lab.exporter("bench", "a").await;
    let (mut me, token) = lab.client("me").await;
    let lease = leased(&lab, &mut device, "me", &token, "a").await;
    let failed = report(v1::ExporterStatus::BeforeLeaseHookFailed, true);
    let before = tokio::time::Instant::now();
    device.calls.report_status(failed.clone()).await.unwrap();
    assert!(!device.leased(false).await.leased);
    // Not by the limit that such a lease has anyway.
    assert!(before.elapsed() < Duration::from_secs(1));
    // Repeated, as after a lost answer, it does no harm; neither does it without a lease.
    device.calls.report_status(failed).await.unwrap();
    let get = crate::lab::get(&format!("namespaces/default/leases/{lease}"));
    let over = me.get_lease(get).await.unwrap().into_inner();
    assert!(over.effective_end_time.is_some());
    // The next lease is not hit by a report about the last one.
    device.report(v1::ExporterStatus::Available).await;
    me.create_lease(ask("board=a")).await.unwrap();
    assert!(device.leased(true).await.leased);
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn registration_takes_labels_of_the_process_only() {
    let lab = Lab::new().await;
    let token = lab.registered("bench", "a").await;
    let mut calls = controller_calls(&lab, "Exporter", "bench", &token).await;
    let mut wanted = register();
    wanted.labels = [
        ("jumpstarter.dev/zone".to_owned(), "x".to_owned()),
        ("board".to_owned(), "stolen".to_owned()),
    ]
    .into();
    let made = calls.register(wanted).await.unwrap().into_inner();
    let key = Key::new("default", "bench");
    let view = &lab.controller.context().view;
    let found = view.get::<Exporter>(&key).unwrap();
    assert_eq!(made.uuid, found.metadata.uid);
    assert_eq!(found.metadata.labels["board"], "a");
    assert_eq!(found.metadata.labels["jumpstarter.dev/zone"], "x");
    calls.register(register()).await.unwrap();
    let found = view.get::<Exporter>(&key).unwrap();
    assert!(!found.metadata.labels.contains_key("jumpstarter.dev/zone"));
    let reason = v1::UnregisterRequest {
        reason: "Exporter shutdown".into(),
    };
    calls.unregister(reason).await.unwrap();
    let (mut me, _) = lab.client("me").await;
    let get = GetExporterRequest {
        name: "namespaces/default/exporters/bench".into(),
        ..GetExporterRequest::default()
    };
    let seen = me.get_exporter(get).await.unwrap().into_inner();
    assert_eq!(seen.status(), v1::ExporterStatus::Offline);
    assert!(
        seen.status_message.contains("Exporter shutdown"),
        "{seen:?}"
    );
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_too_much_is_refused() {
    let lab = Lab::new().await;
    let token = lab.registered("bench", "a").await;
    let mut calls = controller_calls(&lab, "Exporter", "bench", &token).await;
    let mut many = register();
    many.reports = vec![many.reports[0].clone(); 5000];
    refused(
        calls.register(many).await,
        Code::InvalidArgument,
        "5000 devices; at most 4096",
    );
    let mut many = register();
    for number in 0..300 {
        let key = format!("jumpstarter.dev/{number}");
        many.labels.insert(key, String::new());
    }
    refused(
        calls.register(many).await,
        Code::InvalidArgument,
        "300 labels",
    );
    let unknown = v1::ReportStatusRequest {
        status: 77,
        ..v1::ReportStatusRequest::default()
    };
    refused(
        calls.report_status(unknown).await,
        Code::InvalidArgument,
        "unknown exporter status 77",
    );
    let mut long = report(v1::ExporterStatus::Available, false);
    long.message = Some("ä".repeat(100_000));
    calls.report_status(long).await.unwrap();
    let view = &lab.controller.context().view;
    let found = view.get::<Exporter>(&Key::new("default", "bench")).unwrap();
    assert!(found.status.status_message.len() <= 16 * 1024);
    // One exporter that reports without end is slowed down, with the code that makes it try again.
    let mut slowed = None;
    for _ in 0..2000 {
        let sent = report(v1::ExporterStatus::Available, false);
        if let Err(status) = calls.report_status(sent).await {
            slowed = Some(status);
            break;
        }
    }
    let slowed = slowed.expect("a limit");
    assert_eq!(slowed.code(), Code::Unavailable);
    assert!(slowed.message().contains("too many calls"), "{slowed:?}");
    tokio::time::sleep(Duration::from_secs(10)).await;
    let sent = report(v1::ExporterStatus::Available, false);
    calls.report_status(sent).await.unwrap();
    lab.stop().await;
}
