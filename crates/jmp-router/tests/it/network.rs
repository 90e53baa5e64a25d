//! Sockets and TLS: peers, metrics and health, and how fast a tunnel is.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use jmp_auth::pki::{Authority, Protocols, ServerCertificate, ServerNames};
use jmp_router::{Keys, Listener, Router, RouterHandle, RouterOptions, Tls};
use jmp_types::Timestamp;
use jmp_wire::connection::Connection;
use jmp_wire::tls::{Trust, client, server_name};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::support::{Peer, bearer, keys, soon, tokens};

/// A router on loopback with TLS, and the certificate to trust.
pub struct Loopback {
    pub router: RouterHandle,
    pub authority: String,
}

impl Loopback {
    pub async fn start() -> Self {
        let now = Timestamp::now();
        let authority = Authority::in_memory(now).expect("authority");
        let names = ServerNames::new(["localhost", "127.0.0.1"]).expect("names");
        let leaf = authority.issue(&names, now).expect("certificate");
        let config = ServerCertificate::given(leaf).server_config(Protocols::Grpc);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let metrics = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let mut options = RouterOptions::new(
            Listener::tcp(listener).expect("address"),
            Tls::Config(config.expect("TLS")),
            Keys::Fixed(keys()),
        );
        options.metrics = Some(metrics);
        Self {
            router: Router::start(options, CancellationToken::new()).expect("starts"),
            authority: authority.certificate_pem().to_owned(),
        }
    }

    pub fn port(&self) -> u16 {
        self.router.local_addr().expect("TCP").port()
    }

    pub async fn peer(&self, token: &str) -> Peer {
        let trust = Trust::Authorities(self.authority.clone().into_bytes());
        let socket = TcpStream::connect(("127.0.0.1", self.port())).await;
        let socket = socket.expect("connected");
        socket.set_nodelay(true).expect("option");
        let name = server_name("localhost").expect("name");
        let io = client(&trust).expect("TLS").connect(name, socket).await;
        let io = io.expect("handshake");
        let connection = Connection::handshake(io, "localhost", HeaderMap::new(), None).await;
        Peer::open(connection.expect("HTTP/2"), bearer(token))
            .await
            .expect("let in")
    }

    async fn get(&self, path: &str) -> String {
        let address = self.router.metrics_addr().expect("metrics");
        let mut socket = TcpStream::connect(address).await.expect("connected");
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        soon(socket.read_to_string(&mut answer))
            .await
            .expect("read");
        answer
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tunnels_over_tls_and_what_the_monitoring_says() {
    let rig = Loopback::start().await;
    let tokens = tokens();
    let mut client = rig.peer(tokens.client.token.expose()).await;
    let mut exporter = rig.peer(tokens.exporter.token.expose()).await;
    client.send("hello").await;
    assert_eq!(exporter.receive(5).await, "hello");
    let metrics = rig.get("/metrics").await;
    for line in [
        "jumpstarter_router_tunnels 1",
        "jumpstarter_router_parked_peers 0",
        "jumpstarter_router_pairings_total 1",
        "jumpstarter_router_bytes_total{direction=\"to_exporter\"} 5",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    assert!(rig.get("/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(rig.get("/readyz").await.starts_with("HTTP/1.1 200"));
    assert!(rig.get("/nothing").await.starts_with("HTTP/1.1 404"));
    client.end();
    exporter.end();
    client.expect(Code::Ok, "").await;
    exporter.expect(Code::Ok, "").await;
    rig.router.begin_drain();
    assert!(rig.get("/readyz").await.starts_with("HTTP/1.1 503"));
    soon(rig.router.drain(Duration::ZERO)).await;
}

/// `cargo test -p jmp-router --release -- --ignored --nocapture speed`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints a figure; meaningful in a release build only"]
async fn speed_of_one_tunnel() {
    let rig = Loopback::start().await;
    let tokens = tokens();
    let client = rig.peer(tokens.client.token.expose()).await;
    let mut exporter = rig.peer(tokens.exporter.token.expose()).await;
    let chunk = Bytes::from(vec![0x5a; 256 * 1024]);
    let chunks = 4 * 1024;
    let before = tokio::time::Instant::now();
    let sending = tokio::spawn(async move {
        for _ in 0..chunks {
            client.send(chunk.clone()).await;
        }
        client
    });
    exporter.discard(chunks as usize * 256 * 1024).await;
    let seconds = before.elapsed().as_secs_f64();
    drop(sending.await.expect("sent"));
    println!("{:.0} MB/s", f64::from(chunks) * 0.262144 / seconds);
}
