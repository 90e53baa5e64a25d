//! Who is not let in, and who has to go.

use std::time::Duration;

use http::HeaderValue;
use jmp_auth::{TunnelEnds, TunnelIssuer, TunnelKeys};
use jmp_proto::health::v1::HealthCheckRequest;
use jmp_proto::health::v1::health_check_response::ServingStatus;
use jmp_proto::health::v1::health_client::HealthClient;
use jmp_types::Timestamp;
use tokio::time::Instant;
use tonic::Code;

use crate::support::{LEASE, Peer, Rig, bearer, keys, refused, soon, tokens};

/// A token as a shipped controller makes it, for both ends: HS256 over fixed claims.
fn shipped_token() -> String {
    use base64::Engine;
    let encode = |data: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(data);
    let now = Timestamp::now().as_second();
    let claims = serde_json::json!({
        "iss": "https://jumpstarter.dev/stream", "aud": ["https://jumpstarter.dev/router"],
        "sub": "8a9d5c1e-0000-4000-8000-000000000001", "iat": now, "nbf": now, "exp": now + 1800,
        "jti": "8a9d5c1e-0000-4000-8000-000000000002",
    });
    let input = format!(
        "{}.{}",
        encode(br#"{"alg":"HS256","typ":"JWT"}"#),
        encode(claims.to_string().as_bytes())
    );
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &keys().expose()[0]);
    let signature = ring::hmac::sign(&key, input.as_bytes());
    format!("{input}.{}", encode(signature.as_ref()))
}

#[tokio::test]
async fn shipped_tokens_without_roles_join_their_two_holders() {
    let rig = Rig::new();
    let token = shipped_token();
    let first = rig.peer(&token).await.expect("parked");
    let mut second = rig.peer(&token).await.expect("joined");
    first.send("as ever").await;
    assert_eq!(second.receive(7).await, "as ever");
    let third = rig.peer(&token).await;
    refused(third, Code::Unauthenticated, "used before");
}

#[tokio::test]
async fn each_token_is_good_for_one_use_and_one_side() {
    let rig = Rig::new();
    let pair = tokens();
    let client = rig.peer(pair.client.token.expose()).await.expect("parked");
    // The same token cannot be its own partner.
    let again = rig.peer(pair.client.token.expose()).await;
    refused(again, Code::PermissionDenied, "another client");
    drop(client);
    rig.until(|stats| stats.parked == 0).await;
    let again = rig.peer(pair.client.token.expose()).await;
    refused(again, Code::Unauthenticated, "used before");
    let exporter = rig.peer(pair.exporter.token.expose()).await;
    assert!(exporter.is_ok());
}

#[tokio::test]
async fn bad_tokens_and_bad_calls_are_refused_with_their_codes() {
    let rig = Rig::new();
    let connection = rig.connect().await;
    let foreign = TunnelKeys::from_secrets([b"somebody else's"]).expect("keys");
    let ends = TunnelEnds {
        lease: LEASE,
        client: "c",
        exporter: "e",
    };
    let foreign = TunnelIssuer::new(foreign.into());
    let foreign = foreign.issue(ends, Timestamp::now()).expect("tokens");
    let old = Timestamp::from_second(1_700_000_000).expect("time");
    let expired = TunnelIssuer::new(keys().into())
        .issue(ends, old)
        .expect("tokens");
    for (token, text) in [
        (foreign.client.token.expose(), "signature"),
        (expired.client.token.expose(), "token is expired"),
        ("garbage", "malformed"),
    ] {
        let peer = Peer::open(connection.clone(), bearer(token)).await;
        refused(peer, Code::Unauthenticated, text);
    }
    let none = Peer::open(connection.clone(), http::HeaderMap::new()).await;
    refused(none, Code::Unauthenticated, "authorization");
    let mut compressed = bearer(tokens().client.token.expose());
    compressed.insert("grpc-encoding", HeaderValue::from_static("gzip"));
    let compressed = Peer::open(connection.clone(), compressed).await;
    refused(compressed, Code::Unimplemented, "gzip");
    // The connection has outlived all of that.
    let good = Peer::open(connection, bearer(tokens().client.token.expose())).await;
    assert!(good.is_ok());
}

#[tokio::test]
async fn waiting_peers_are_capped_by_identity_and_in_total() {
    let rig = Rig::with(|options| {
        options.limits.parked_per_owner = 2;
        options.limits.parked = 3;
    });
    let connection = rig.connect().await;
    let open = async |token: &jmp_auth::IssuedToken| {
        Peer::open(connection.clone(), bearer(token.token.expose())).await
    };
    let pairs: Vec<_> = (0..5).map(|_| tokens()).collect();
    let _one = open(&pairs[0].client).await.expect("in");
    let two = open(&pairs[1].client).await.expect("in");
    let over = open(&pairs[2].client).await;
    refused(over, Code::ResourceExhausted, "this identity");
    let _three = open(&pairs[3].exporter).await.expect("in");
    let over = open(&pairs[4].exporter).await;
    refused(over, Code::ResourceExhausted, "the router's limit");
    // A refusal uses no token up; a place that is free again can be taken.
    drop(two);
    rig.until(|stats| stats.parked == 2).await;
    open(&pairs[2].client).await.expect("in");
}

#[tokio::test(start_paused = true)]
async fn a_parked_peer_lives_as_long_as_its_token() {
    let rig = Rig::new();
    let mut waiting = rig
        .peer(tokens().client.token.expose())
        .await
        .expect("parked");
    let before = Instant::now();
    let ending = tokio::time::timeout(Duration::from_secs(3600), waiting.ending());
    let status = ending.await.expect("within the hour");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    let waited = before.elapsed().as_secs();
    assert!((1780..=1800).contains(&waited), "{waited} s");
    rig.until(|stats| stats.parked == 0).await;
}

#[tokio::test(start_paused = true)]
async fn idle_connections_have_to_go_and_busy_ones_stay() {
    let rig = Rig::new();
    let idle = rig.connect().await;
    let busy = rig.connect().await;
    let _waiting = Peer::open(busy.clone(), bearer(tokens().client.token.expose())).await;
    // Never says a word of HTTP/2.
    let silent = rig.dialer.dial("silent").await.expect("accepted");
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(idle.is_closed());
    assert!(!busy.is_closed());
    let mut silent = silent;
    let mut rest = Vec::new();
    use tokio::io::AsyncReadExt;
    soon(silent.read_to_end(&mut rest)).await.expect("closed");
}

#[tokio::test]
async fn connections_are_limited() {
    let rig = Rig::with(|options| options.limits.connections = 1);
    let _one = rig.peer(tokens().client.token.expose()).await.expect("in");
    let io = rig.dialer.dial("two").await.expect("accepted");
    let second =
        jmp_wire::connection::Connection::handshake(io, "router", http::HeaderMap::new(), None);
    if let Ok(connection) = soon(second).await {
        let peer = Peer::open(connection, bearer(tokens().client.token.expose())).await;
        assert_eq!(peer.err().expect("refused").code(), Code::Unavailable);
    }
}

/// Nobody has to show a token for a health check.
#[tokio::test(start_paused = true)]
async fn health_checks_are_small_and_short_and_few() {
    let rig = Rig::with(|options| options.limits.watchers = 2);
    let connection = rig.connect().await;
    let origin = connection.origin();
    let mut health = HealthClient::with_origin(connection.clone(), origin);
    let long = HealthCheckRequest {
        service: "x".repeat(100_000),
    };
    let refused = soon(health.check(long)).await.expect_err("too long");
    assert!(refused.message().contains("too large"), "{refused:?}");
    // A request that never comes to its end: the head of a message, and not all of it.
    let (_sender, pieces) = tokio::sync::mpsc::channel::<bytes::Bytes>(1);
    _sender.send(vec![0, 0, 0, 0, 9, 1].into()).await.unwrap();
    let body = futures::stream::unfold(pieces, |mut pieces| async {
        let piece = pieces.recv().await?;
        let frame = http_body::Frame::data(piece);
        Some((Ok::<_, std::convert::Infallible>(frame), pieces))
    });
    let request = http::Request::post("/")
        .header("content-type", "application/grpc")
        .body(jmp_wire::connection::RpcBody::new(
            http_body_util::StreamBody::new(body),
        ))
        .unwrap();
    let answer = connection.request("/grpc.health.v1.Health/Check", request);
    let answer = soon(answer).await.expect("an answer");
    assert_eq!(answer.headers()["grpc-status"], "4");
    let mut watch = async || health.watch(HealthCheckRequest::default()).await;
    let (one, _two) = (watch().await.unwrap(), watch().await.unwrap());
    let third = watch().await.expect_err("too many");
    assert_eq!(third.code(), Code::ResourceExhausted);
    drop(one);
    tokio::time::sleep(Duration::from_secs(1)).await;
    watch().await.expect("a place is free again");
}

#[tokio::test]
async fn one_host_cannot_take_all_connections() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let rig = Rig::with(|options| {
        options.listener = jmp_router::Listener::tcp(listener).unwrap();
        options.limits.connections_per_address = 2;
    });
    let connect = async || tokio::net::TcpStream::connect(address).await.unwrap();
    use tokio::io::AsyncReadExt;
    let (_one, two) = (connect().await, connect().await);
    let mut third = connect().await;
    let mut rest = Vec::new();
    // Closed, perhaps by a reset.
    let _ = soon(third.read_to_end(&mut rest)).await;
    drop(two);
    soon(async {
        loop {
            let mut next = connect().await;
            let closed = next.read_u8();
            let closed = tokio::time::timeout(Duration::from_millis(100), closed).await;
            if closed.is_err() || closed.is_ok_and(|read| read.is_ok()) {
                break;
            }
        }
    })
    .await;
    drop(rig);
}

#[tokio::test]
async fn the_standard_health_check_tells_readiness() {
    let rig = Rig::new();
    let connection = rig.connect().await;
    let origin = connection.origin();
    let mut health = HealthClient::with_origin(connection, origin);
    let ask = |service: &str| HealthCheckRequest {
        service: service.into(),
    };
    let answer = soon(health.check(ask(""))).await.expect("answer");
    assert_eq!(answer.get_ref().status(), ServingStatus::Serving);
    let unknown = soon(health.check(ask("nobody")))
        .await
        .expect_err("unknown");
    assert_eq!(unknown.code(), Code::NotFound);
    let watched = soon(health.watch(ask("jumpstarter.v1.RouterService"))).await;
    let mut watched = watched.expect("answer").into_inner();
    let first = soon(watched.message()).await.expect("answer").expect("one");
    assert_eq!(first.status(), ServingStatus::Serving);
    rig.router.begin_drain();
    let second = soon(watched.message()).await.expect("answer").expect("one");
    assert_eq!(second.status(), ServingStatus::NotServing);
}
