//! WebSocket over TLS.

mod common;

use std::process::Command;
use std::time::Duration;

use common::{Fixture, tcp_server};
use futures::{SinkExt, StreamExt};
use jmp_driver::ErrorKind;
use jmp_interfaces::network::behaviour::noise;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::accept_async;

const PATIENCE: Duration = Duration::from_secs(20);
/// Where the part of the test finds the server.
const PORT: &str = "JMP_TEST_WSS_PORT";

async fn fixture(port: &str) -> Fixture {
    let url = format!("wss://localhost:{port}/");
    Fixture::new(&[("ws", "WebsocketNetwork", json!({"url": url}))]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_the_system_decide() {
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = (directory.path().join("cert"), directory.path().join("key"));
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let acceptor = jmp_wire::tls::server(&certificate, &key).unwrap();
    let server = tcp_server(move |io: TcpStream| {
        let acceptor = acceptor.clone();
        async move {
            // The client that does not trust us fails here.
            let Ok(io) = acceptor.accept(io).await else {
                return;
            };
            let mut socket = accept_async(io).await.unwrap();
            while let Some(Ok(message)) = socket.next().await {
                if message.is_binary() && socket.send(message).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    let port = server.address.port().to_string();

    let opened = fixture(&port)
        .await
        .device("ws")
        .open_stream("connect")
        .await;
    let error = opened.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Connection);
    let start = format!("connecting to wss://localhost:{port}/: ");
    let message = error.message();
    assert!(
        message.starts_with(&start) && message.contains("certificate"),
        "{message}"
    );

    // A process where the system's certificates are those of the server.
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "trusting", "--ignored"])
        .env("SSL_CERT_FILE", &certificate)
        .env(PORT, &port);
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = timeout(PATIENCE, output).await.unwrap().unwrap().unwrap();
    let talk = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && talk.contains("1 passed"),
        "{talk}"
    );
}

#[tokio::test]
#[ignore = "part of another test"]
async fn trusting() {
    let Ok(port) = std::env::var(PORT) else {
        return;
    };
    let fixture = fixture(&port).await;
    let mut stream = fixture.device("ws").open_stream("connect").await.unwrap();
    let data = noise(1, 100_000);
    stream.writer.send(data.clone()).await.unwrap();
    let chunk = timeout(PATIENCE, stream.reader.next()).await.unwrap();
    assert!(chunk.unwrap().unwrap() == data);
}
