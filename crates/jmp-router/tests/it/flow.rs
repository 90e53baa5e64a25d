//! What goes in comes out: order, bytes, back-pressure.

use bytes::Bytes;
use proptest::prelude::*;
use std::time::Duration;
use tonic::Code;

use crate::support::{Peer, Rig, bearer, soon, tokens};
use jmp_router::{FRAME_SIZE, SEND_BUFFER, STREAM_WINDOW};

#[tokio::test]
async fn either_side_may_come_first_and_the_first_has_its_headers_at_once() {
    for client_first in [true, false] {
        let rig = Rig::new();
        let tokens = tokens();
        let (one, two) = (tokens.client.token, tokens.exporter.token);
        let (first, second) = if client_first { (one, two) } else { (two, one) };
        // Opening returns with the response's headers, so this proves the flush.
        let mut first = rig.peer(first.expose()).await.expect("parked");
        assert_eq!(first.headers["grpc-accept-encoding"], "identity");
        assert_eq!(rig.router.stats().parked, 1);
        first.send("early").await;
        let mut second = rig.peer(second.expose()).await.expect("joined");
        assert_eq!(second.receive(5).await, "early");
        second.send("answer").await;
        assert_eq!(first.receive(6).await, "answer");
        let stats = rig.router.stats();
        assert_eq!((stats.tunnels, stats.parked, stats.pairings), (1, 0, 1));
        assert_eq!(stats.bytes_forwarded, 11);
    }
}

#[tokio::test]
async fn half_close_ends_one_direction_only_and_both_end_with_ok() {
    let rig = Rig::new();
    let (mut client, mut exporter) = rig.pair().await;
    client.send("goaway").await;
    client.end();
    assert_eq!(exporter.receive(6).await, "goaway");
    for _ in 0..3 {
        exporter.send("more").await;
        assert_eq!(client.receive(4).await, "more");
    }
    let early = tokio::time::timeout(Duration::from_millis(50), exporter.ending()).await;
    assert!(
        early.is_err(),
        "the half-close was passed on as an end: {early:?}"
    );
    exporter.end();
    client.expect(Code::Ok, "").await;
    exporter.expect(Code::Ok, "").await;
    rig.until(|stats| stats.tunnels == 0).await;
}

#[tokio::test]
async fn many_tunnels_share_two_connections() {
    let rig = Rig::new();
    let (left, right) = (rig.connect().await, rig.connect().await);
    let mut pairs = Vec::new();
    for _ in 0..40 {
        let tokens = tokens();
        let client = bearer(tokens.client.token.expose());
        let exporter = bearer(tokens.exporter.token.expose());
        let client = Peer::open(left.clone(), client).await.expect("parked");
        let exporter = Peer::open(right.clone(), exporter).await.expect("joined");
        pairs.push((client, exporter));
    }
    for (number, (client, exporter)) in pairs.iter_mut().enumerate() {
        let text = format!("tunnel {number:04}");
        client.send(text.clone()).await;
        exporter.send(text.clone()).await;
        assert_eq!(exporter.receive(text.len()).await, text);
        assert_eq!(client.receive(text.len()).await, text);
    }
    assert_eq!(rig.router.stats().tunnels, 40);
}

/// Sends until nothing more is taken; returns how much was.
async fn fill(peer: &Peer) -> usize {
    let chunk = Bytes::from(vec![0x5a; 64 * 1024]);
    let mut sent = 0;
    loop {
        let sending = peer.try_send(chunk.clone());
        match tokio::time::timeout(Duration::from_secs(2), sending).await {
            Ok(taken) => taken.expect("call runs"),
            Err(_) => return sent,
        }
        sent += chunk.len();
    }
}

#[tokio::test(start_paused = true)]
async fn a_stalled_reader_lets_no_more_in_than_the_cap_and_holds_up_nobody_else() {
    let rig = Rig::new();
    let (left, right) = (rig.connect().await, rig.connect().await);
    let mut stalled = Vec::new();
    for _ in 0..3 {
        let tokens = tokens();
        let client = bearer(tokens.client.token.expose());
        let exporter = bearer(tokens.exporter.token.expose());
        let client = Peer::open(left.clone(), client).await.expect("parked");
        let exporter = Peer::open(right.clone(), exporter).await.expect("joined");
        stalled.push((client, exporter));
    }
    // The two ends have buffers of their own: a window, 1 MiB to send, a chunk or two.
    let ends = jmp_wire::connection::BULK.stream as usize + 2 * 1024 * 1024;
    let cap = STREAM_WINDOW as usize + SEND_BUFFER + 2 * FRAME_SIZE as usize;
    let taken = fill(&stalled[0].0).await;
    assert!(
        taken > STREAM_WINDOW as usize,
        "{taken}: the window is not used"
    );
    assert!(
        taken < cap + ends,
        "{taken} bytes were taken, {cap} is the cap"
    );
    assert!(fill(&stalled[1].0).await > STREAM_WINDOW as usize);
    // The third tunnel of the same connections is not held up by the two.
    let (client, exporter) = &mut stalled[2];
    client.send("still here").await;
    assert_eq!(exporter.receive(10).await, "still here");
    // What was held is delivered, all of it.
    let (client, exporter) = &mut stalled[0];
    client.end();
    let received = exporter.receive(taken).await;
    assert!(received.iter().all(|byte| *byte == 0x5a));
    exporter.end();
    exporter.expect(Code::Ok, "").await;
    assert_eq!(exporter.rest().len() % (64 * 1024), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_chunking_arrives_as_the_same_bytes(
        out in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40_000), 0..12),
        back in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3_000), 0..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let rig = Rig::new();
            let (client, exporter) = rig.pair().await;
            let exchange = |mut peer: Peer, chunks: Vec<Vec<u8>>| async move {
                let sends: Vec<_> = chunks.into_iter().map(|chunk| peer.try_send(chunk.into())).collect();
                let sending = async move {
                    for send in sends {
                        send.await.expect("call runs");
                    }
                };
                peer.end();
                let (status, ()) = tokio::join!(peer.status(), sending);
                assert_eq!(status.code(), Code::Ok, "{status:?}");
                peer.rest().to_vec()
            };
            let (got_back, got_out) = soon(async {
                tokio::join!(exchange(client, out.clone()), exchange(exporter, back.clone()))
            }).await;
            assert_eq!(got_out, out.concat());
            assert_eq!(got_back, back.concat());
        });
    }
}
