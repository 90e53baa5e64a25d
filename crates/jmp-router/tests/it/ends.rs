//! How tunnels end other than well.

use std::time::Duration;

use jmp_router::Closing;
use tokio::time::Instant;
use tonic::Code;

use crate::support::{LEASE, Peer, Rig, bearer, refused, tokens, tokens_for};

#[tokio::test]
async fn a_survivor_is_told_at_once_which_side_went() {
    let rig = Rig::new();
    // The call is cancelled.
    let (client, mut exporter) = rig.pair().await;
    let before = Instant::now();
    let connection = client.connection.clone();
    client.send("last words").await;
    assert_eq!(exporter.receive(10).await, "last words");
    drop(client);
    exporter
        .expect(Code::Unavailable, "the client left the tunnel")
        .await;
    drop(connection);
    // The connection is lost.
    let (mut client, mut exporter) = rig.pair().await;
    exporter.connection = None;
    client.send("x").await;
    assert_eq!(exporter.receive(1).await, "x");
    drop(exporter);
    client
        .expect(Code::Unavailable, "the exporter left the tunnel")
        .await;
    assert!(before.elapsed() < Duration::from_secs(5));
    rig.until(|stats| stats.tunnels == 0).await;
}

#[tokio::test]
async fn a_peer_that_goes_after_its_half_close_is_missed_too() {
    let rig = Rig::new();
    let (mut client, mut exporter) = rig.pair().await;
    client.send("goaway").await;
    client.end();
    assert_eq!(exporter.receive(6).await, "goaway");
    exporter.send("data").await;
    assert_eq!(client.receive(4).await, "data");
    drop(client);
    exporter
        .expect(Code::Unavailable, "the client left the tunnel")
        .await;
}

#[tokio::test]
async fn what_was_sent_before_a_loss_arrives_before_the_news() {
    let rig = Rig::new();
    let tokens = tokens();
    let client = rig
        .peer(tokens.client.token.expose())
        .await
        .expect("parked");
    for _ in 0..50 {
        client.send(vec![7; 10_000]).await;
    }
    let mut exporter = rig
        .peer(tokens.exporter.token.expose())
        .await
        .expect("joined");
    assert_eq!(exporter.receive(1).await, vec![7]);
    drop(client);
    exporter.expect(Code::Unavailable, "the client").await;
    // What had not left the client yet is gone with it.
    assert!(exporter.rest().len() > 300_000, "{}", exporter.rest().len());
}

#[tokio::test(start_paused = true)]
async fn a_survivor_that_does_not_read_is_cut_off_after_a_while() {
    let rig = Rig::new();
    let tokens = tokens();
    let (client, cable) = rig.cable(tokens.client.token.expose()).await;
    let exporter = rig.peer(tokens.exporter.token.expose()).await;
    let mut exporter = exporter.expect("joined");
    while tokio::time::timeout(
        Duration::from_secs(2),
        client.try_send(vec![1; 64 * 1024].into()),
    )
    .await
    .is_ok()
    {}
    drop(cable);
    let before = Instant::now();
    while rig.router.stats().tunnels > 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(before.elapsed() < Duration::from_secs(60));
    }
    assert!(before.elapsed() >= Duration::from_secs(9));
    let status = exporter.status().await;
    assert!(status.message().contains("CANCEL"), "{status:?}");
}

#[tokio::test]
async fn closing_by_lease_ends_tunnels_parked_peers_and_later_ones() {
    let rig = Rig::new();
    let (mut client, mut exporter) = rig.pair().await;
    let waiting = tokens();
    let mut parked = rig.peer(waiting.client.token.expose()).await.expect("in");
    let unused = tokens();
    let other = tokens_for("default/other");
    let mut spared = rig.peer(other.client.token.expose()).await.expect("in");
    let closing = Closing {
        lease: LEASE.into(),
        reason: "the lease has expired".into(),
        ..Closing::default()
    };
    assert_eq!(rig.router.close_tunnels(&closing), 2);
    for peer in [&mut client, &mut exporter, &mut parked] {
        peer.expect(Code::PermissionDenied, "the lease has expired")
            .await;
    }
    for token in [&waiting.exporter, &unused.client] {
        let late = rig.peer(token.token.expose()).await;
        refused(late, Code::PermissionDenied, "the lease has expired");
    }
    let partner = rig.peer(other.exporter.token.expose()).await.expect("in");
    partner.send("ok").await;
    assert_eq!(spared.receive(2).await, "ok");
    // A token issued later is for a lease that lives again, by transfer for example.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(rig.peer(tokens().client.token.expose()).await.is_ok());
}

#[tokio::test]
async fn closing_by_stream_ends_that_one() {
    let rig = Rig::new();
    let (mut one, exporter) = rig.pair().await;
    let (two, mut three) = {
        let tokens = tokens();
        let two = rig.peer(tokens.client.token.expose()).await.expect("in");
        let three = rig.peer(tokens.exporter.token.expose()).await.expect("in");
        let closing = Closing {
            stream: tokens.stream,
            reason: "revoked".into(),
            ..Closing::default()
        };
        assert_eq!(rig.router.close_tunnels(&closing), 1);
        (two, three)
    };
    three.expect(Code::PermissionDenied, "revoked").await;
    drop(two);
    exporter.send("on").await;
    assert_eq!(one.receive(2).await, "on");
}

#[tokio::test(start_paused = true)]
async fn draining_refuses_waits_tells_and_ends_everything() {
    let rig = Rig::with(|options| options.grace = Duration::from_secs(15));
    let (mut client, mut exporter) = rig.pair().await;
    let parked = tokens();
    let mut waiting = rig.peer(parked.client.token.expose()).await.expect("in");
    let spare = rig.connect().await;
    let before = Instant::now();
    rig.stop.cancel();
    waiting.expect(Code::Unavailable, "draining").await;
    let late = Peer::open(spare, bearer(parked.exporter.token.expose())).await;
    refused(late, Code::Unavailable, "draining");
    client.send("still open").await;
    assert_eq!(exporter.receive(10).await, "still open");
    client.expect(Code::Unavailable, "shutting down").await;
    exporter.expect(Code::Unavailable, "shutting down").await;
    let waited = before.elapsed();
    assert!(waited >= Duration::from_secs(15), "{waited:?}");
    rig.router.stopped().await;
    assert!(before.elapsed() < Duration::from_secs(60));
    assert!(rig.dialer.dial("late").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_drain_without_tunnels_is_quick() {
    let rig = Rig::new();
    let (mut client, mut exporter) = rig.pair().await;
    let before = Instant::now();
    client.end();
    exporter.end();
    let router = rig.router;
    let draining = router.drain(Duration::from_secs(300));
    tokio::join!(
        draining,
        client.expect(Code::Ok, ""),
        exporter.expect(Code::Ok, "")
    );
    assert!(before.elapsed() < Duration::from_secs(20));
}
