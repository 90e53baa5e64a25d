//! Dial: the gate, the queue, and what ends the wait.

use std::time::Duration;

use jmp_proto::v1;
use jmp_proto::v1::controller_service_client::ControllerServiceClient;
use jmp_wire::connection::Connection;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::lab::{Lab, ask, refused};
use crate::world::{FakeRouter, controller_calls, dial, leased, listen, release, revoke};

/// An exporter's calls over a connection that can be cut without an end.
pub async fn freezable(
    lab: &Lab,
    name: &str,
    token: &str,
) -> (ControllerServiceClient<Connection>, CancellationToken) {
    let (ours, mut near) = tokio::io::duplex(65536);
    let (mut far, theirs) = tokio::io::duplex(65536);
    let frozen = CancellationToken::new();
    let stop = frozen.clone();
    tokio::spawn(async move {
        let copy = tokio::io::copy_bidirectional(&mut near, &mut far);
        tokio::select! {
            _ = copy => {}
            () = stop.cancelled() => tokio::time::sleep(Duration::from_secs(3600)).await,
        }
    });
    lab.controller.accept_io(theirs, None);
    let mut metadata = http::HeaderMap::new();
    for (key, value) in [
        ("authorization", format!("Bearer {token}")),
        ("jumpstarter-kind", "Exporter".into()),
        ("jumpstarter-namespace", "default".into()),
        ("jumpstarter-name", name.to_owned()),
    ] {
        metadata.insert(key, value.parse().unwrap());
    }
    let connection = Connection::handshake(ours, "controller", metadata, None)
        .await
        .unwrap();
    let origin = connection.origin();
    (
        ControllerServiceClient::with_origin(connection, origin),
        frozen,
    )
}

#[tokio::test(start_paused = true)]
async fn every_gate_has_its_words() {
    let lab = Lab::new().await;
    let _router = FakeRouter::new(&lab, "east", &[]).await;
    let mut device = lab.exporter("bench", "a").await;
    let (mut me, token) = lab.client("me").await;
    let (_, stranger) = lab.client("stranger").await;
    let lease = leased(&lab, &mut device, "me", &token, "a").await;
    let mut client = controller_calls(&lab, "Client", "me", &token).await;
    let mut other = controller_calls(&lab, "Client", "stranger", &stranger).await;
    refused(
        client.dial(dial("")).await,
        Code::Unknown,
        "empty lease name",
    );
    refused(
        client.dial(dial("nothing")).await,
        Code::Unknown,
        "lease nothing is not active",
    );
    refused(
        other.dial(dial(&lease)).await,
        Code::Unknown,
        "permission denied",
    );
    refused(
        device.calls.dial(dial(&lease)).await,
        Code::InvalidArgument,
        "object kind mismatch",
    );
    let waiting = me.create_lease(ask("board=a")).await.unwrap().into_inner();
    let waiting = waiting.name.rsplit('/').next().unwrap().to_owned();
    refused(
        client.dial(dial(&waiting)).await,
        Code::Unknown,
        "lease not active",
    );
    for (status, text) in [
        (
            v1::ExporterStatus::BeforeLeaseHookFailed,
            "BeforeLeaseHookFailed",
        ),
        (
            v1::ExporterStatus::AfterLeaseHookFailed,
            "AfterLeaseHookFailed",
        ),
        (v1::ExporterStatus::Offline, "exporter is offline"),
    ] {
        device.report(status).await;
        let before = tokio::time::Instant::now();
        refused(
            client.dial(dial(&lease)).await,
            Code::FailedPrecondition,
            text,
        );
        assert!(before.elapsed() < Duration::from_secs(1));
    }
    device.report(v1::ExporterStatus::LeaseReady).await;
    let _listening = listen(&mut device, &lease).await;
    for status in [
        v1::ExporterStatus::LeaseReady,
        v1::ExporterStatus::BeforeLeaseHook,
        v1::ExporterStatus::AfterLeaseHook,
    ] {
        device.report(status).await;
        client.dial(dial(&lease)).await.unwrap();
    }
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_exporter_that_has_not_taken_the_lease_is_waited_for() {
    let lab = Lab::new().await;
    let router = FakeRouter::new(&lab, "east", &[]).await;
    let mut device = lab.exporter("bench", "a").await;
    let (mut me, token) = lab.client("me").await;
    let made = me.create_lease(ask("board=a")).await.unwrap().into_inner();
    let lease = made.name.rsplit('/').next().unwrap().to_owned();
    let mut client = controller_calls(&lab, "Client", "me", &token).await;
    let before = tokio::time::Instant::now();
    refused(
        client.dial(dial(&lease)).await,
        Code::FailedPrecondition,
        "exporter is not ready (status: Available)",
    );
    let took = before.elapsed();
    assert!(took >= Duration::from_secs(30) && took < Duration::from_secs(31));
    router.load(jmp_proto::jmp::v1::RouterLoad::default()).await;
    let dialing = tokio::spawn(async move { client.dial(dial(&lease)).await });
    device.leased(true).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!dialing.is_finished());
    device.report(v1::ExporterStatus::LeaseReady).await;
    let name = made.name.rsplit('/').next().unwrap();
    let mut listening = listen(&mut device, name).await;
    listening.message().await.unwrap().unwrap();
    dialing.await.unwrap().unwrap();
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nobody_listens_and_too_many_wait() {
    let lab = Lab::new().await;
    let _router = FakeRouter::new(&lab, "east", &[]).await;
    let mut device = lab.exporter("bench", "a").await;
    let (_, token) = lab.client("me").await;
    let lease = leased(&lab, &mut device, "me", &token, "a").await;
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let mut client = controller_calls(&lab, "Client", "me", &token).await;
        let request = dial(&lease);
        waiting.push(tokio::spawn(async move { client.dial(request).await }));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut client = controller_calls(&lab, "Client", "me", &token).await;
    refused(
        client.dial(dial(&lease)).await,
        Code::ResourceExhausted,
        &lease,
    );
    for dialing in waiting {
        refused(
            dialing.await.unwrap(),
            Code::Unavailable,
            &format!("exporter is not listening on lease {lease}"),
        );
    }
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn no_router_is_said() {
    let lab = Lab::new().await;
    let mut device = lab.exporter("bench", "a").await;
    let (_, token) = lab.client("me").await;
    let lease = leased(&lab, &mut device, "me", &token, "a").await;
    let mut client = controller_calls(&lab, "Client", "me", &token).await;
    refused(
        client.dial(dial(&lease)).await,
        Code::Unavailable,
        "no router is connected",
    );
    lab.stop().await;
}

/// While it waits for its exporter.
#[tokio::test(start_paused = true)]
async fn a_dial_ends_with_its_lease_its_token_and_its_controller() {
    let lab = Lab::new().await;
    let _router = FakeRouter::new(&lab, "east", &[]).await;
    let mut device = lab.exporter("bench", "a").await;
    let (_, token) = lab.client("me").await;
    let lease = leased(&lab, &mut device, "me", &token, "a").await;
    let start = |lease: String| {
        let client = controller_calls(&lab, "Client", "me", &token);
        async {
            let mut client = client.await;
            let dialing = tokio::spawn(async move { client.dial(dial(&lease)).await });
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(!dialing.is_finished());
            (dialing, tokio::time::Instant::now())
        }
    };
    let (dialing, before) = start(lease.clone()).await;
    release(&lab, "me", &token, &lease).await;
    refused(dialing.await.unwrap(), Code::Unknown, "not active");
    assert!(before.elapsed() < Duration::from_secs(1));

    device.leased(false).await;
    device.report(v1::ExporterStatus::Available).await;
    let lease = leased(&lab, &mut device, "me", &token, "a").await;
    let (dialing, before) = start(lease.clone()).await;
    revoke(&lab, "client", "me").await;
    refused(dialing.await.unwrap(), Code::PermissionDenied, "revoked");
    assert!(before.elapsed() < Duration::from_secs(1));
    // What nobody waits for is not handed out.
    let mut listening = listen(&mut device, &lease).await;
    crate::world::silent(&mut listening, Duration::from_secs(1)).await;
    lab.stop().await;

    let lab = Lab::new().await;
    let _router = FakeRouter::new(&lab, "east", &[]).await;
    let mut device = lab.exporter("bench", "a").await;
    let (_, token) = lab.client("me").await;
    let lease = leased(&lab, &mut device, "me", &token, "a").await;
    let mut client = controller_calls(&lab, "Client", "me", &token).await;
    let dialing = tokio::spawn(async move { client.dial(dial(&lease)).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = tokio::time::Instant::now();
    let (_, answer) = tokio::join!(lab.stop(), dialing);
    refused(answer.unwrap(), Code::Unavailable, "stopping");
    assert!(before.elapsed() < Duration::from_secs(11));
}
