//! What is let in: connections, sizes, times.

use std::time::Duration;

use jmp_controller::settings::Settings;
use jmp_proto::health::v1::HealthCheckRequest;
use jmp_proto::health::v1::health_client::HealthClient;
use jmp_proto::jumpstarter::client::v1::client_service_client::ClientServiceClient;
use jmp_proto::v1;
use jmp_wire::connection::Connection;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tonic::Code;

use crate::lab::{Lab, ask, refused};
use crate::world::{controller_calls, register};

#[tokio::test(start_paused = true)]
async fn messages_and_headers_have_a_limit() {
    let lab = Lab::new().await;
    let token = lab.registered("bench", "a").await;
    let mut calls = controller_calls(&lab, "Exporter", "bench", &token).await;
    let mut large = register();
    large
        .labels
        .insert("jumpstarter.dev/x".into(), "x".repeat(3 << 20));
    refused(
        calls.register(large.clone()).await,
        Code::InvalidArgument,
        "at most 524288 are accepted",
    );
    large
        .labels
        .insert("jumpstarter.dev/y".into(), "x".repeat(2 << 20));
    refused(
        calls.register(large).await,
        Code::ResourceExhausted,
        "message length too large",
    );
    // The connection is none the worse.
    calls.register(register()).await.unwrap();
    let long = "x".repeat(100 * 1024);
    let connection = lab
        .connect(&[
            ("authorization", &format!("Bearer {token}")),
            ("jumpstarter-kind", "Exporter"),
            ("jumpstarter-namespace", "default"),
            ("jumpstarter-name", "bench"),
            ("x-long", &long),
        ])
        .await;
    let origin = connection.origin();
    let mut calls =
        v1::controller_service_client::ControllerServiceClient::with_origin(connection, origin);
    calls.register(register()).await.unwrap_err();
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn strangers_may_send_little_and_do_not_stay() {
    let lab = Lab::new().await;
    let (mut me, _) = lab.client("me").await;
    let long = ask(&"a,".repeat(10_000));
    refused(
        me.create_lease(long.clone()).await,
        Code::InvalidArgument,
        "selector",
    );
    let endless = ask(&"a,".repeat(100_000));
    refused(
        me.create_lease(endless).await,
        Code::ResourceExhausted,
        "message length too large",
    );
    let mut strangers = Vec::new();
    for words in [&[][..], &[("authorization", "Bearer a.b.c")]] {
        let connection = lab.connect(words).await;
        let origin = connection.origin();
        let mut calls = ClientServiceClient::with_origin(connection.clone(), origin.clone());
        refused(
            calls.create_lease(long.clone()).await,
            Code::ResourceExhausted,
            "message length too large",
        );
        let mut health = HealthClient::with_origin(connection.clone(), origin);
        let mut watched = health
            .watch(HealthCheckRequest::default())
            .await
            .unwrap()
            .into_inner();
        watched.message().await.unwrap();
        strangers.push((connection, watched));
    }
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert!(strangers.iter().all(|(stranger, _)| !stranger.is_closed()));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(strangers.iter().all(|(stranger, _)| stranger.is_closed()));
    let parent = "namespaces/default".into();
    let list = jmp_proto::jumpstarter::client::v1::ListLeasesRequest {
        parent,
        ..Default::default()
    };
    me.list_leases(list).await.expect("who is known stays");
    lab.stop().await;
}

/// Of those who connect and say nothing, and of those who are too many.
#[tokio::test]
async fn connections_are_bounded() {
    let mut settings = Settings::default();
    settings.limits.handshake = Duration::from_millis(300);
    settings.limits.connections_per_address = 4;
    let lab = Lab::with(settings).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    lab.controller.serve_plain_text(listener);
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut fifth = TcpStream::connect(address).await.unwrap();
    let mut buffer = Vec::new();
    // Closed at once, perhaps by a reset.
    let closed = tokio::time::timeout(Duration::from_millis(150), fifth.read_to_end(&mut buffer));
    let _ = closed.await.expect("the fifth is closed at once");
    for io in &mut silent {
        let closed = tokio::time::timeout(Duration::from_secs(5), io.read_to_end(&mut buffer));
        let _ = closed.await.expect("who says nothing is let go");
    }
    // And there is room again; who speaks stays.
    let io = TcpStream::connect(address).await.unwrap();
    let connection = Connection::handshake(io, "controller", http::HeaderMap::new(), None)
        .await
        .unwrap();
    let origin = connection.origin();
    let mut health = HealthClient::with_origin(connection, origin);
    for _ in 0..2 {
        let check = HealthCheckRequest::default();
        let answer = health.check(check).await.unwrap().into_inner();
        assert_eq!(answer.status, 1);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    drop(health);
    lab.stop().await;
}

#[tokio::test]
async fn a_tls_handshake_has_a_limit_and_plain_text_is_refused() {
    let mut settings = Settings::default();
    settings.limits.handshake = Duration::from_millis(300);
    let lab = Lab::with(settings).await;
    let now = jmp_types::Timestamp::now();
    let authority = jmp_auth::pki::Authority::in_memory(now).unwrap();
    let names = jmp_auth::pki::ServerNames::new(["localhost", "127.0.0.1"]).unwrap();
    let leaf = authority.issue(&names, now).unwrap();
    let certificate = jmp_auth::pki::ServerCertificate::given(leaf);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    lab.controller
        .serve_tls(listener, &std::sync::Arc::new(certificate))
        .unwrap();
    let mut io = TcpStream::connect(address).await.unwrap();
    let mut buffer = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(5), io.read_to_end(&mut buffer));
    let _ = closed.await.expect("who says nothing is let go");
    let io = TcpStream::connect(address).await.unwrap();
    let plain = Connection::handshake(io, "controller", http::HeaderMap::new(), None).await;
    if let Ok(connection) = plain {
        let origin = connection.origin();
        let mut health = HealthClient::with_origin(connection, origin);
        health
            .check(HealthCheckRequest::default())
            .await
            .unwrap_err();
    }
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_nobody_serves_is_said_to_be_so() {
    let lab = Lab::new().await;
    let connection = lab.connect(&[]).await;
    let mut calls = tonic::client::Grpc::with_origin(connection.clone(), connection.origin());
    calls.ready().await.unwrap();
    let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let answer: Result<tonic::Response<()>, _> = calls
        .unary(
            tonic::Request::new(()),
            http::uri::PathAndQuery::from_static(path),
            tonic_prost::ProstCodec::<(), ()>::default(),
        )
        .await;
    refused(answer, Code::Unimplemented, path);
    lab.stop().await;
}
