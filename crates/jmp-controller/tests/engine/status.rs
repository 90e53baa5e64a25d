//! The Status stream.

use std::time::Duration;

use jmp_proto::v1;
use jmp_proto::v1::controller_service_client::ControllerServiceClient;
use jmp_wire::connection::Connection;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tonic::Code;

use crate::lab::{Device, Lab, START, ask, named, refused};
use crate::world::{controller_calls, end, leased, register, release, revoke, silent};

#[tokio::test(start_paused = true)]
async fn the_first_message_comes_at_once_and_changes_only_after_that() {
    let lab = Lab::new().await;
    let token = lab.registered("bench", "a").await;
    let mut calls = controller_calls(&lab, "Exporter", "bench", &token).await;
    calls.register(register()).await.unwrap();
    let before = tokio::time::Instant::now();
    let stream = calls.status(v1::StatusRequest {}).await.unwrap();
    let mut stream = stream.into_inner();
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!(first, v1::StatusResponse::default());
    assert!(before.elapsed() < Duration::from_millis(50));
    // Reports and waits change nothing that it says.
    for status in [
        v1::ExporterStatus::Available,
        v1::ExporterStatus::Available,
        v1::ExporterStatus::AfterLeaseHook,
        v1::ExporterStatus::Available,
    ] {
        let report = v1::ReportStatusRequest {
            status: status.into(),
            ..v1::ReportStatusRequest::default()
        };
        calls.report_status(report).await.unwrap();
    }
    silent(&mut stream, Duration::from_secs(600)).await;
    let (mut me, _) = lab.client("me").await;
    me.create_lease(ask("board=a")).await.unwrap();
    let next = stream.message().await.unwrap().unwrap();
    assert!(next.leased);
    assert_eq!(next.client_name.as_deref(), Some("me"));
    silent(&mut stream, Duration::from_secs(60)).await;
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn not_leased_is_said_between_two_leases() {
    let lab = Lab::new().await;
    let mut device = lab.exporter("bench", "a").await;
    let (mut me, token) = lab.client("me").await;
    let first = leased(&lab, &mut device, "me", &token, "a").await;
    me.create_lease(ask("board=a")).await.unwrap();
    release(&lab, "me", &token, &first).await;
    let next = device.status.message().await.unwrap().unwrap();
    assert!(!next.leased, "{next:?}");
    device.report(v1::ExporterStatus::Available).await;
    let next = device.status.message().await.unwrap().unwrap();
    assert!(next.leased && next.lease_name.as_deref() != Some(&first));
    lab.stop().await;
}

/// What the exporter answers to the end of a lease counts, however far away it is: the answer is here
/// before it is known that the exporter has heard.
#[tokio::test(start_paused = true)]
async fn an_exporter_that_is_available_at_once_gets_the_next_lease_at_once() {
    let lab = Lab::new().await;
    let token = lab.registered("bench", "a").await;
    let mut device = far_away(&lab, "bench", &token).await;
    let (_, token) = lab.client("me").await;
    for _ in 0..5 {
        let before = tokio::time::Instant::now();
        let lease = leased(&lab, &mut device, "me", &token, "a").await;
        let waited = before.elapsed();
        assert!(waited < Duration::from_millis(200), "{lease} {waited:?}");
        release(&lab, "me", &token, &lease).await;
        assert!(!device.leased(false).await.leased);
        device.report(v1::ExporterStatus::Available).await;
    }
    lab.stop().await;
}

/// An exporter's process at the end of a slow network.
async fn far_away(lab: &Lab, name: &str, token: &str) -> Device {
    let (ours, near) = tokio::io::duplex(64 * 1024);
    let (far, theirs) = tokio::io::duplex(64 * 1024);
    lab.controller
        .accept_io(theirs, Some([192, 0, 2, 9].into()));
    let (near, far) = (tokio::io::split(near), tokio::io::split(far));
    tokio::spawn(relay(near.0, far.1));
    tokio::spawn(relay(far.0, near.1));
    let words = [
        ("authorization", format!("Bearer {token}")),
        ("jumpstarter-kind", "Exporter".to_owned()),
        ("jumpstarter-namespace", "default".to_owned()),
        ("jumpstarter-name", name.to_owned()),
    ];
    let words = words.map(|(key, value)| {
        let key = http::HeaderName::from_static(key);
        (key, http::HeaderValue::from_str(&value).unwrap())
    });
    let connection = Connection::handshake(ours, "controller", words.into_iter().collect(), None);
    let connection = connection.await.unwrap();
    let origin = connection.origin();
    let mut calls = ControllerServiceClient::with_origin(connection, origin);
    calls.register(register()).await.unwrap();
    let stream = calls.status(v1::StatusRequest {}).await.unwrap();
    let mut status = stream.into_inner();
    status.message().await.unwrap();
    let mut device = Device { calls, status };
    device.report(v1::ExporterStatus::Available).await;
    device
}

async fn relay(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let mut chunk = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        tokio::time::sleep(Duration::from_millis(10)).await;
        if to.write_all(&chunk[..read]).await.is_err() {
            return;
        }
    }
}

/// The process still has the first lease when its stream comes back.
#[tokio::test(start_paused = true)]
async fn not_leased_is_said_between_two_leases_across_a_break_of_the_stream() {
    let lab = Lab::new().await;
    let key = lab.registered("bench", "a").await;
    let mut device = lab.start("bench", &key).await;
    let (mut me, token) = lab.client("me").await;
    let first = leased(&lab, &mut device, "me", &token, "a").await;
    me.create_lease(ask("board=a")).await.unwrap();
    drop(device);
    tokio::time::sleep(Duration::from_secs(1)).await;
    release(&lab, "me", &token, &first).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut calls = controller_calls(&lab, "Exporter", "bench", &key).await;
    let stream = calls.status(v1::StatusRequest {}).await.unwrap();
    let mut stream = stream.into_inner();
    let said = stream.message().await.unwrap().unwrap();
    assert!(!said.leased, "{said:?}");
    let report = v1::ReportStatusRequest {
        status: v1::ExporterStatus::Available.into(),
        ..v1::ReportStatusRequest::default()
    };
    calls.report_status(report).await.unwrap();
    assert!(stream.message().await.unwrap().unwrap().leased);
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_old_stream_that_ends_late_does_not_touch_the_new_one() {
    let lab = Lab::new().await;
    let token = lab.registered("bench", "a").await;
    let mut device = lab.start("bench", &token).await;
    // The same connection may open its stream again.
    let stream = device.calls.status(v1::StatusRequest {}).await.unwrap();
    let mut new = stream.into_inner();
    assert!(!new.message().await.unwrap().unwrap().leased);
    let ended = end(&mut device.status).await.unwrap();
    assert_eq!(ended.code(), Code::Unavailable, "{ended:?}");
    assert!(ended.message().contains("took over"), "{ended:?}");
    assert_eq!(lab.controller.context().exporters.connected(), 1);
    // It is still there, and counts: after a minute without it the exporter would be offline.
    tokio::time::sleep(Duration::from_secs(120)).await;
    let (mut me, _) = lab.client("me").await;
    me.create_lease(ask("board=a")).await.unwrap();
    assert!(new.message().await.unwrap().unwrap().leased);
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn streams_end_with_the_token() {
    let lab = Lab::new().await;
    let token = lab.registered("bench", "a").await;
    let mut device = lab.start("bench", &token).await;
    let (_, client) = lab.client("me").await;
    let lease = leased(&lab, &mut device, "me", &client, "a").await;
    let mut listening = crate::world::listen(&mut device, &lease).await;
    let before = tokio::time::Instant::now();
    revoke(&lab, "exporter", "bench").await;
    for ended in [
        end(&mut device.status).await.unwrap(),
        end(&mut listening).await.unwrap(),
    ] {
        assert_eq!(ended.code(), Code::PermissionDenied, "{ended:?}");
        assert!(ended.message().contains("revoked"), "{ended:?}");
    }
    assert!(before.elapsed() < Duration::from_secs(1));
    let again = device.calls.status(v1::StatusRequest {}).await;
    refused(again, Code::PermissionDenied, "revoked");
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_stream_ends_with_the_exporter() {
    let lab = Lab::new().await;
    let mut device = lab.exporter("bench", "a").await;
    let request = named("exporter", "bench");
    lab.admin().await.delete_resource(request).await.unwrap();
    let ended = end(&mut device.status).await.unwrap();
    assert_eq!(ended.code(), Code::PermissionDenied, "{ended:?}");
    refused(
        device.calls.status(v1::StatusRequest {}).await,
        Code::NotFound,
        "exporter default/bench",
    );
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn streams_end_when_the_controller_drains() {
    let lab = Lab::new().await;
    let mut device = lab.exporter("bench", "a").await;
    let (_, client) = lab.client("me").await;
    let lease = leased(&lab, &mut device, "me", &client, "a").await;
    let mut listening = crate::world::listen(&mut device, &lease).await;
    let before = tokio::time::Instant::now();
    let (_, status, listening) =
        tokio::join!(lab.stop(), end(&mut device.status), end(&mut listening));
    assert_eq!(status.unwrap().code(), Code::Unavailable);
    assert_eq!(listening.unwrap().code(), Code::Unavailable);
    assert!(before.elapsed() < Duration::from_secs(11), "{START}");
}
