//! The Listen stream and its queue.

use std::time::Duration;

use jmp_proto::v1;
use tonic::Code;

use crate::lab::{Lab, refused};
use crate::world::{
    FakeRouter, controller_calls, dial, end, leased, listen, release, silent, stream_of,
};

#[tokio::test(start_paused = true)]
async fn only_the_exporter_of_the_lease_listens() {
    let lab = Lab::new().await;
    let mut device = lab.exporter("bench", "a").await;
    let mut other = lab.exporter("other", "b").await;
    let (_, token) = lab.client("me").await;
    let lease = leased(&lab, &mut device, "me", &token, "a").await;
    let ask = |name: &str| v1::ListenRequest {
        lease_name: name.into(),
    };
    refused(
        device.calls.listen(ask("")).await,
        Code::Unknown,
        "empty lease name",
    );
    refused(
        device.calls.listen(ask("nothing")).await,
        Code::Unknown,
        "lease default/nothing not found",
    );
    refused(
        other.calls.listen(ask(&lease)).await,
        Code::Unknown,
        "permission denied",
    );
    let mut client = controller_calls(&lab, "Client", "me", &token).await;
    refused(
        client.listen(ask(&lease)).await,
        Code::InvalidArgument,
        "object kind mismatch",
    );
    // One that has ended is not refused: shipped exporters would give up (facts: controller 4.4).
    release(&lab, "me", &token, &lease).await;
    let mut late = listen(&mut device, &lease).await;
    silent(&mut late, Duration::from_secs(5)).await;
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_stream_supersedes_and_nothing_waits_in_the_old_queue() {
    let lab = Lab::new().await;
    let _router = FakeRouter::new(&lab, "east", &[]).await;
    let mut device = lab.exporter("bench", "a").await;
    let (_, token) = lab.client("me").await;
    let lease = leased(&lab, &mut device, "me", &token, "a").await;
    let mut old = listen(&mut device, &lease).await;
    let mut new = listen(&mut device, &lease).await;
    assert!(end(&mut old).await.is_none(), "ends with OK");
    let mut client = controller_calls(&lab, "Client", "me", &token).await;
    let answer = client.dial(dial(&lease)).await.unwrap().into_inner();
    let handed = new.message().await.unwrap().unwrap();
    assert_eq!(handed.router_endpoint, answer.router_endpoint);
    assert_eq!(
        stream_of(&handed.router_token),
        stream_of(&answer.router_token)
    );
    assert_ne!(handed.router_token, answer.router_token);
    lab.stop().await;
}

/// A Dial that came before waits, and survives a change of the listener.
#[tokio::test(start_paused = true)]
async fn tokens_are_handed_to_whoever_listens_next() {
    let lab = Lab::new().await;
    let _router = FakeRouter::new(&lab, "east", &[]).await;
    let mut device = lab.exporter("bench", "a").await;
    let (_, token) = lab.client("me").await;
    let lease = leased(&lab, &mut device, "me", &token, "a").await;
    drop(listen(&mut device, &lease).await);
    let mut dialing = Vec::new();
    for _ in 0..5 {
        let mut client = controller_calls(&lab, "Client", "me", &token).await;
        let request = dial(&lease);
        dialing.push(tokio::spawn(async move { client.dial(request).await }));
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    let mut listening = listen(&mut device, &lease).await;
    let mut handed = Vec::new();
    for _ in 0..5 {
        let next = listening.message().await.unwrap().unwrap();
        handed.push(stream_of(&next.router_token));
    }
    for answer in dialing {
        let answer = answer.await.unwrap().unwrap().into_inner();
        let stream = stream_of(&answer.router_token);
        handed.retain(|other| *other != stream);
    }
    assert!(handed.is_empty(), "{handed:?}");
    silent(&mut listening, Duration::from_secs(60)).await;
    lab.stop().await;
}

/// The connection of the listener is dead, though nobody noticed: the token goes to the next one.
#[tokio::test(start_paused = true)]
async fn a_token_taken_by_a_dead_connection_is_handed_out_again() {
    let lab = Lab::new().await;
    let _router = FakeRouter::new(&lab, "east", &[]).await;
    let key = lab.registered("bench", "a").await;
    let mut device = lab.start("bench", &key).await;
    let (_, token) = lab.client("me").await;
    let lease = leased(&lab, &mut device, "me", &token, "a").await;
    // A peer that reads and writes nothing any more, with a pipe that takes what is sent to it.
    let (frozen, thaw) = crate::dial::freezable(&lab, "bench", &key).await;
    let mut calls = frozen;
    let request = v1::ListenRequest {
        lease_name: lease.clone(),
    };
    let _held = calls.listen(request).await.unwrap().into_inner();
    thaw.cancel();
    let mut client = controller_calls(&lab, "Client", "me", &token).await;
    let request = dial(&lease);
    let dialing = tokio::spawn(async move { client.dial(request).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!dialing.is_finished(), "handed to nobody");
    let mut listening = listen(&mut device, &lease).await;
    let handed = listening.message().await.unwrap().unwrap();
    let answer = dialing.await.unwrap().unwrap().into_inner();
    assert_eq!(
        stream_of(&handed.router_token),
        stream_of(&answer.router_token)
    );
    lab.stop().await;
}

/// The process died with a tunnel that it had taken: its client is alone at the router until the next process
/// of that exporter gets the tunnel, too.
#[tokio::test(start_paused = true)]
async fn a_token_taken_by_a_process_that_died_goes_to_the_next_one() {
    let lab = Lab::new().await;
    let _router = FakeRouter::new(&lab, "east", &[]).await;
    let key = lab.registered("bench", "a").await;
    let mut device = lab.start("bench", &key).await;
    let (_, token) = lab.client("me").await;
    let lease = leased(&lab, &mut device, "me", &token, "a").await;
    let mut listening = listen(&mut device, &lease).await;
    let mut client = controller_calls(&lab, "Client", "me", &token).await;
    let answer = client.dial(dial(&lease)).await.unwrap().into_inner();
    let taken = listening.message().await.unwrap().unwrap();
    // Only its stream was lost: it has the tunnel, and must not get it twice.
    drop(listening);
    let mut listening = listen(&mut device, &lease).await;
    silent(&mut listening, Duration::from_secs(5)).await;
    drop((listening, device));
    let mut next = lab.start("bench", &key).await;
    let mut listening = listen(&mut next, &lease).await;
    let again = listening.message().await.unwrap().unwrap();
    assert_eq!(again.router_token, taken.router_token);
    assert_eq!(
        stream_of(&again.router_token),
        stream_of(&answer.router_token)
    );
    silent(&mut listening, Duration::from_secs(5)).await;
    // Much later nobody waits there any more.
    drop((listening, next));
    tokio::time::sleep(Duration::from_secs(120)).await;
    let mut late = lab.start("bench", &key).await;
    let mut listening = listen(&mut late, &lease).await;
    silent(&mut listening, Duration::from_secs(5)).await;
    lab.stop().await;
}
