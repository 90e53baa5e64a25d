//! Routers: which one is chosen, what they are told to close, what is counted.

use std::sync::Arc;
use std::time::Duration;

use jmp_auth::pki::Authority;
use jmp_controller::clock::Clock;
use jmp_controller::settings::Settings;
use jmp_proto::jmp::v1::router_instruction::Instruction;
use jmp_proto::jmp::v1::router_message::Message;
use jmp_proto::jmp::v1::{RouterLoad, RouterWelcome, TunnelEnded, TunnelUse};
use jmp_proto::jumpstarter::client::v1::UpdateLeaseRequest;
use jmp_proto::v1;
use tonic::Code;

use crate::lab::{Device, Lab, named};
use crate::world::{
    FakeRouter, controller_calls, dial, leased, listen, release, revoke, stream_of,
};

/// A client that dials, and its exporter that takes what it is handed.
struct Pair {
    lab: Lab,
    device: Device,
    token: String,
    lease: String,
    _listening: tonic::Streaming<v1::ListenResponse>,
}

impl Pair {
    async fn new(labels: &[(&str, &str)]) -> Self {
        let lab = Lab::new().await;
        let mut manifest = crate::lab::manifest("Exporter", "bench", serde_json::json!({}));
        manifest["metadata"]["labels"] = serde_json::json!({ "board": "a" });
        for (key, value) in labels {
            manifest["metadata"]["labels"][key] = (*value).into();
        }
        let key = lab.create(manifest).await.token;
        let mut device = lab.start("bench", &key).await;
        let (_, token) = lab.client("me").await;
        let lease = leased(&lab, &mut device, "me", &token, "a").await;
        let listening = listen(&mut device, &lease).await;
        Self {
            lab,
            device,
            token,
            lease,
            _listening: listening,
        }
    }

    async fn dial(&self) -> Result<v1::DialResponse, tonic::Status> {
        let mut client = controller_calls(&self.lab, "Client", "me", &self.token).await;
        Ok(client.dial(dial(&self.lease)).await?.into_inner())
    }

    async fn through(&self) -> String {
        let endpoint = self.dial().await.unwrap().router_endpoint;
        endpoint.split('.').next().unwrap().to_owned()
    }
}

fn tunnels(count: u32) -> RouterLoad {
    RouterLoad {
        tunnels: count,
        ..RouterLoad::default()
    }
}

#[tokio::test(start_paused = true)]
async fn labels_first_then_load_and_the_dead_are_left_out() {
    let pair = Pair::new(&[("site", "north"), ("floor", "2")]).await;
    let lab = &pair.lab;
    let north = FakeRouter::new(lab, "north", &[("site", "north")]).await;
    let second = FakeRouter::new(lab, "second", &[("site", "north"), ("floor", "2")]).await;
    let south = FakeRouter::new(lab, "south", &[("site", "south")]).await;
    north.load(tunnels(0)).await;
    second.load(tunnels(900)).await;
    south.load(tunnels(0)).await;
    assert_eq!(pair.through().await, "second", "most labels in common");
    second
        .load(RouterLoad {
            draining: true,
            ..tunnels(3)
        })
        .await;
    assert_eq!(pair.through().await, "north", "one that drains is left out");
    let twin = FakeRouter::new(lab, "twin", &[("site", "north")]).await;
    north.load(tunnels(5)).await;
    twin.load(tunnels(3)).await;
    // What was given away since the last word counts, so that a burst spreads.
    let mut chosen = Vec::new();
    for _ in 0..4 {
        chosen.push(pair.through().await);
    }
    assert_eq!(chosen, ["twin", "twin", "north", "twin"]);
    drop(twin);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(pair.through().await, "north", "one that left");
    // Connected, but silent for a while.
    tokio::time::sleep(Duration::from_secs(10)).await;
    south.load(tunnels(50)).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(pair.through().await, "south", "one that is not heard of");
    tokio::time::sleep(Duration::from_secs(20)).await;
    let refused = pair.dial().await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    let text = refused.message();
    assert!(text.contains("no router can take the tunnel"), "{text}");
    assert!(text.contains("north") && text.contains("south"), "{text}");
    pair.lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn tunnels_end_with_their_lease_and_a_router_that_comes_back_hears_of_it() {
    let pair = Pair::new(&[]).await;
    let mut router = FakeRouter::new(&pair.lab, "east", &[]).await;
    assert!(!router.welcome.token_keys.is_empty());
    pair.dial().await.unwrap();
    release(&pair.lab, "me", &pair.token, &pair.lease).await;
    let close = router.closing().await;
    let whole = format!("default/{}", pair.lease);
    assert_eq!((close.lease.as_str(), close.stream.as_str()), (&*whole, ""));
    assert!(!close.reason.is_empty());
    let token = router.token.clone();
    drop(router);
    let mut again = FakeRouter::join(&pair.lab, "east", &token, &[])
        .await
        .unwrap();
    assert_eq!(again.closing().await, close);
    // Not for ever: the tokens of its tunnels are not good for longer.
    tokio::time::sleep(Duration::from_secs(33 * 60)).await;
    drop(again);
    let mut late = FakeRouter::join(&pair.lab, "east", &token, &[])
        .await
        .unwrap();
    late.quiet().await;
    pair.lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_second_stream_of_a_router_replaces_the_first() {
    let pair = Pair::new(&[]).await;
    let mut first = FakeRouter::new(&pair.lab, "east", &[]).await;
    let token = first.token.clone();
    let second = FakeRouter::join(&pair.lab, "east", &token, &[])
        .await
        .unwrap();
    let ended = first.ended().await.unwrap();
    assert_eq!(ended.code(), Code::Unavailable);
    assert!(ended.message().contains("replaced"), "{ended:?}");
    second.load(tunnels(1)).await;
    assert_eq!(pair.lab.controller.context().routers.list().len(), 1);
    pair.dial().await.unwrap();
    pair.lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn revocation_ends_open_tunnels_at_once() {
    for (kind, name) in [("client", "me"), ("exporter", "bench")] {
        let pair = Pair::new(&[]).await;
        let mut router = FakeRouter::new(&pair.lab, "east", &[]).await;
        let stream = stream_of(&pair.dial().await.unwrap().router_token);
        let before = tokio::time::Instant::now();
        revoke(&pair.lab, kind, name).await;
        let close = router.closing().await;
        assert!(before.elapsed() < Duration::from_secs(1));
        assert_eq!(close.stream, stream, "{kind}");
        assert!(close.reason.contains("permission denied"), "{close:?}");
        pair.lab.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_rotation_of_ones_own_cuts_nothing_and_an_administrators_does() {
    let mut pair = Pair::new(&[]).await;
    let mut router = FakeRouter::new(&pair.lab, "east", &[]).await;
    let stream = stream_of(&pair.dial().await.unwrap().router_token);
    let mut me = pair.lab.client_with("me", &pair.token).await;
    let parent = "namespaces/default".to_owned();
    let request = jmp_proto::jumpstarter::client::v1::RotateTokenRequest { parent };
    me.rotate_token(request).await.unwrap();
    router.quiet().await;
    pair.dial().await.unwrap();
    for _ in 0..9 {
        tokio::time::sleep(Duration::from_secs(10)).await;
        router.load(tunnels(2)).await;
    }
    router.quiet().await;
    // The old token is no good for anything new by now.
    assert_eq!(
        pair.dial().await.unwrap_err().code(),
        Code::PermissionDenied
    );
    let mut admin = pair.lab.admin().await;
    let request = named("client", "me");
    admin.rotate_credential(request).await.unwrap();
    let closed = [router.closing().await.stream, router.closing().await.stream];
    assert!(closed.contains(&stream), "{closed:?}");
    // The exporter was not concerned.
    pair.device.report(v1::ExporterStatus::LeaseReady).await;
    pair.lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_transfer_ends_the_tunnels_of_the_old_holder_only() {
    let pair = Pair::new(&[]).await;
    let mut router = FakeRouter::new(&pair.lab, "east", &[]).await;
    let old = stream_of(&pair.dial().await.unwrap().router_token);
    let (_, heir) = pair.lab.client("heir").await;
    let mut me = pair.lab.client_with("me", &pair.token).await;
    let lease = jmp_proto::jumpstarter::client::v1::Lease {
        name: format!("namespaces/default/leases/{}", pair.lease),
        client: Some("namespaces/default/clients/heir".into()),
        ..Default::default()
    };
    let request = UpdateLeaseRequest {
        lease: Some(lease),
        update_mask: None,
    };
    me.update_lease(request).await.unwrap();
    let close = router.closing().await;
    assert_eq!((close.stream, close.lease.as_str()), (old, ""));
    assert!(
        pair.dial()
            .await
            .unwrap_err()
            .message()
            .contains("permission denied"),
        "what clients take for a transfer"
    );
    let mut calls = controller_calls(&pair.lab, "Client", "heir", &heir).await;
    calls.dial(dial(&pair.lease)).await.unwrap();
    router.quiet().await;
    pair.lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_revoked_router_is_left() {
    let pair = Pair::new(&[]).await;
    let mut router = FakeRouter::new(&pair.lab, "east", &[]).await;
    revoke(&pair.lab, "router", "east").await;
    let ended = router.ended().await.unwrap();
    assert!(ended.message().contains("revoked"), "{ended:?}");
    let again = FakeRouter::join(&pair.lab, "east", &router.token, &[]).await;
    assert_eq!(again.err().unwrap().code(), Code::PermissionDenied);
    assert!(
        pair.dial()
            .await
            .unwrap_err()
            .message()
            .contains("no router")
    );
    pair.lab.stop().await;
}

fn usage(stream: &str, lease: &str, to_exporter: u64, to_client: u64) -> TunnelUse {
    TunnelUse {
        stream: stream.into(),
        lease: format!("default/{lease}"),
        bytes_to_exporter: to_exporter,
        bytes_to_client: to_client,
        client: "client:default:me".into(),
    }
}

/// An earlier life of the controller may have ended between its writing and its telling.
#[tokio::test(start_paused = true)]
async fn tunnels_that_should_not_be_there_are_closed() {
    let pair = Pair::new(&[]).await;
    let mut router = FakeRouter::new(&pair.lab, "east", &[]).await;
    let load = |usage| RouterLoad {
        r#use: vec![usage],
        ..tunnels(1)
    };
    router.load(load(usage("ours", &pair.lease, 1, 1))).await;
    router.quiet().await;
    router.load(load(usage("left", "long-over", 1, 1))).await;
    let close = router.closing().await;
    assert_eq!((close.stream.as_str(), close.lease.as_str()), ("left", ""));
    assert!(close.reason.contains("has ended"), "{close:?}");
    let other = TunnelUse {
        client: "client:default:before".into(),
        ..usage("theirs", &pair.lease, 1, 1)
    };
    router.load(load(other)).await;
    let close = router.closing().await;
    assert_eq!(close.stream, "theirs");
    assert!(close.reason.contains("transferred"), "{close:?}");
    // One that did not hear it hears it again.
    release(&pair.lab, "me", &pair.token, &pair.lease).await;
    assert_eq!(router.closing().await.stream, "");
    router.load(load(usage("ours", &pair.lease, 2, 2))).await;
    assert_eq!(router.closing().await.stream, "ours");
    pair.lab.stop().await;
}

/// Or between its writing that a token is revoked and its telling.
#[tokio::test(start_paused = true)]
async fn tunnels_of_a_revoked_client_are_closed_by_the_next_life() {
    let pair = Pair::new(&[]).await;
    let mut router = FakeRouter::new(&pair.lab, "east", &[]).await;
    revoke(&pair.lab, "client", "me").await;
    let load = RouterLoad {
        r#use: vec![usage("left", &pair.lease, 1, 1)],
        ..tunnels(1)
    };
    router.load(load).await;
    let close = router.closing().await;
    assert_eq!((close.stream.as_str(), close.lease.as_str()), ("left", ""));
    assert!(close.reason.contains("revoked"), "{close:?}");
    pair.lab.stop().await;
}

/// Clocks are set and certificates end while a router is connected.
#[tokio::test(start_paused = true)]
async fn a_router_hears_the_time_again_and_gets_another_certificate() {
    let now = jmp_types::Timestamp::from_second(crate::lab::START).unwrap();
    let authority = Arc::new(Authority::in_memory(now).unwrap());
    let lab = Lab::signing(Settings::default(), Some(authority)).await;
    let mut router = FakeRouter::new(&lab, "east", &[]).await;
    let first = router.welcome.clone();
    assert!(!first.certificate_chain.is_empty());
    lab.clock.jump(7200);
    tokio::time::sleep(Duration::from_secs(61)).await;
    let Instruction::Welcome(again) = router.instruction().await else {
        panic!("no welcome");
    };
    let seconds = |welcome: &RouterWelcome| welcome.time.as_ref().unwrap().seconds;
    assert!((7260..7270).contains(&(seconds(&again) - seconds(&first))));
    assert_eq!(again.token_keys, first.token_keys);
    assert!(again.certificate_chain.is_empty(), "none is due yet");
    let mut other = None;
    for _ in 0..2000 {
        if let Instruction::Welcome(again) = router.instruction().await {
            other = Some(again.certificate_chain).filter(|chain| !chain.is_empty());
        }
        if other.is_some() {
            break;
        }
    }
    assert_ne!(other, Some(first.certificate_chain));
    let passed = lab.clock.wall().duration_since(now).as_hours();
    assert!((24..28).contains(&passed), "{passed} h");
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn bytes_of_tunnels_are_counted_once_each() {
    let pair = Pair::new(&[]).await;
    let router = FakeRouter::new(&pair.lab, "east", &[]).await;
    let stream = stream_of(&pair.dial().await.unwrap().router_token);
    let load = |usage| RouterLoad {
        r#use: vec![usage],
        ..tunnels(1)
    };
    router.load(load(usage(&stream, &pair.lease, 100, 7))).await;
    router.load(load(usage(&stream, &pair.lease, 150, 7))).await;
    let figures = crate::figures::scrape(&pair.lab).await;
    let to_exporter = r#"jumpstarter_tunnel_bytes_total{namespace="default",client="me",exporter="bench",direction="to_exporter"}"#;
    let to_client = to_exporter.replace("to_exporter", "to_client");
    assert_eq!(figures[to_exporter], 150.0);
    assert_eq!(figures[&to_client], 7.0);
    // The lease ends before its router has told of the last bytes.
    release(&pair.lab, "me", &pair.token, &pair.lease).await;
    let ended = TunnelEnded {
        r#use: Some(usage(&stream, &pair.lease, 1000, 50)),
        reason: String::new(),
    };
    router.say(Message::Ended(ended)).await;
    let figures = crate::figures::scrape(&pair.lab).await;
    assert_eq!(figures[to_exporter], 1000.0);
    assert_eq!(figures[&to_client], 50.0);
    // Nobody can make up a lease.
    router
        .load(load(usage("made-up", "nothing", 9999, 9999)))
        .await;
    let figures = crate::figures::scrape(&pair.lab).await;
    assert_eq!(figures[to_exporter], 1000.0);
    pair.lab.stop().await;
}
