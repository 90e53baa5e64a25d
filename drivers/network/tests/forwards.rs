//! Local ports, sockets and WebSockets that lead to a device.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use bytes::Bytes;
use common::{Fixture, echo, free_port, program, skipped, tcp_server};
use futures::{SinkExt, StreamExt};
use jmp_client::forward::{Forward, Novnc};
use jmp_interfaces::network::behaviour::noise;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

const PATIENCE: Duration = Duration::from_secs(20);

/// A TCP echo behind a session.
async fn behind_a_session() -> (Fixture, common::Server<std::net::SocketAddr>) {
    let server = tcp_server(echo).await;
    let config = json!({"host": "127.0.0.1", "port": server.address.port()});
    let fixture = Fixture::new(&[("net", "TcpNetwork", config)]).await;
    (fixture, server)
}

async fn exchange(
    io: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin),
    data: &[u8],
) {
    let (mut reader, mut writer) = tokio::io::split(io);
    let mut received = vec![0; data.len()];
    let both = async { tokio::try_join!(writer.write_all(data), reader.read_exact(&mut received)) };
    timeout(PATIENCE, both).await.unwrap().unwrap();
    assert!(received == data);
}

/// Ends the output, then expects the end of the input.
async fn finish(io: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin)) {
    io.shutdown().await.unwrap();
    let mut rest = Vec::new();
    timeout(PATIENCE, io.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    assert!(rest.is_empty());
}

#[tokio::test]
async fn tcp_carries_both_ways_and_half_closes() {
    let (fixture, mut server) = behind_a_session().await;
    let forward = Forward::new(fixture.device("net"))
        .listen_tcp("127.0.0.1", 0)
        .await
        .unwrap();
    assert!(forward.local_addr().ip().is_loopback());
    let mut first = TcpStream::connect(forward.local_addr()).await.unwrap();
    let mut second = TcpStream::connect(forward.local_addr()).await.unwrap();
    exchange(&mut first, &noise(1, 1024 * 1024)).await;
    exchange(&mut second, b"other").await;
    assert_eq!(*server.live.borrow(), 2);
    finish(&mut first).await;
    exchange(&mut second, b"still there").await;
    drop(forward);
    let ended = timeout(PATIENCE, second.read(&mut [0; 1])).await.unwrap();
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    timeout(PATIENCE, server.live.wait_for(|count| *count == 0))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_device_that_is_down_ends_the_connection_and_not_the_forward() {
    let port = free_port().await;
    let config = json!({"host": "127.0.0.1", "port": port});
    let fixture = Fixture::new(&[("net", "TcpNetwork", config)]).await;
    let forward = Forward::new(fixture.device("net"))
        .listen_tcp("localhost", 0)
        .await
        .unwrap();
    for _ in 0..2 {
        let mut local = TcpStream::connect(forward.local_addr()).await.unwrap();
        let ended = timeout(PATIENCE, local.read(&mut [0; 1])).await.unwrap();
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    }
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port))
        .await
        .unwrap();
    let mut local = TcpStream::connect(forward.local_addr()).await.unwrap();
    let (mut peer, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    peer.write_all(b"up").await.unwrap();
    drop(peer);
    let mut received = String::new();
    timeout(PATIENCE, local.read_to_string(&mut received))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(received, "up");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_their_turn() {
    let (fixture, server) = behind_a_session().await;
    let forward = Forward::new(fixture.device("net")).max_connections(1);
    let forward = forward.listen_tcp("127.0.0.1", 0).await.unwrap();
    let mut first = TcpStream::connect(forward.local_addr()).await.unwrap();
    exchange(&mut first, b"first").await;
    let mut second = TcpStream::connect(forward.local_addr()).await.unwrap();
    second.write_all(b"second").await.unwrap();
    let early = timeout(Duration::from_millis(200), second.read(&mut [0; 6])).await;
    assert!(early.is_err() && *server.live.borrow() == 1);
    finish(&mut first).await;
    drop(first);
    let mut received = [0; 6];
    timeout(PATIENCE, second.read_exact(&mut received))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&received, b"second");
}

#[tokio::test]
async fn unix_sockets_are_private_and_go_away() {
    let (fixture, _server) = behind_a_session().await;
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let chosen = fixture.path("chosen");
    for path in [None, Some(chosen.as_path())] {
        let forward = Forward::new(fixture.device("net"))
            .listen_unix(path)
            .unwrap();
        let socket = forward.path().to_owned();
        assert_eq!(mode(&socket), 0o600);
        if path.is_none() {
            let directory = socket.parent().unwrap();
            assert_eq!(mode(directory), 0o700);
            let name = directory.file_name().unwrap().to_str().unwrap();
            assert!(name.starts_with("jumpstarter-") && socket.ends_with("socket"));
        }
        let mut local = UnixStream::connect(&socket).await.unwrap();
        exchange(&mut local, &noise(2, 100_000)).await;
        finish(&mut local).await;
        drop(forward);
        assert!(!socket.exists());
    }
    std::fs::write(&chosen, "mine").unwrap();
    let error = Forward::new(fixture.device("net"))
        .listen_unix(Some(&chosen))
        .unwrap_err();
    assert!(error.to_string().contains("remove it first"), "{error}");
    assert_eq!(std::fs::read_to_string(&chosen).unwrap(), "mine");
}

#[tokio::test]
async fn another_method_can_be_forwarded() {
    let (fixture, _server) = behind_a_session().await;
    let forward = Forward::new(fixture.device("net")).method("nosuch");
    let error = forward.open().await.err().unwrap();
    assert_eq!(error.message(), "method nosuch not found on driver");
}

#[tokio::test]
async fn novnc_speaks_websocket() {
    let (fixture, mut server) = behind_a_session().await;
    let forward = Forward::new(fixture.device("net"));
    let novnc = Novnc::listen(forward, "127.0.0.1", 0).await.unwrap();
    let port = novnc.local_addr().port();
    for (encrypt, digit) in [(true, 1), (false, 0)] {
        let expected = format!(
            "https://novnc.com/noVNC/vnc.html?encrypt={digit}&autoconnect=1&reconnect=1\
             &host=127.0.0.1&port={port}"
        );
        assert_eq!(novnc.url(encrypt), expected);
    }
    let mut request = format!("ws://127.0.0.1:{port}/websockify")
        .into_client_request()
        .unwrap();
    let offered = HeaderValue::from_static("base64, binary");
    request
        .headers_mut()
        .insert("sec-websocket-protocol", offered);
    let io = TcpStream::connect(novnc.local_addr()).await.unwrap();
    let (mut browser, response) = client_async(request, io).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "binary");
    browser
        .send(Message::Ping("are you there".into()))
        .await
        .unwrap();
    let pong = timeout(PATIENCE, browser.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(pong, Message::Pong("are you there".into()));
    for message in [Message::binary("binary"), Message::text("text")] {
        let data = message.clone().into_data();
        browser.send(message).await.unwrap();
        let answer = timeout(PATIENCE, browser.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(answer, Message::Binary(data));
    }
    let data = noise(3, 1024 * 1024);
    browser.send(Message::Binary(data.clone())).await.unwrap();
    let mut received = Vec::new();
    while received.len() < data.len() {
        let answer = timeout(PATIENCE, browser.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        received.extend_from_slice(&answer.into_data());
    }
    assert!(received == data);
    // The browser leaves, and so does the connection to the device.
    browser.close(None).await.unwrap();
    while let Some(Ok(_)) = timeout(PATIENCE, browser.next()).await.unwrap() {}
    timeout(PATIENCE, server.live.wait_for(|count| *count == 0))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn novnc_closes_when_the_device_does() {
    let server = tcp_server(|mut io: TcpStream| async move {
        io.write_all(b"RFB 003.008\n").await.unwrap();
    })
    .await;
    let config = json!({"host": "127.0.0.1", "port": server.address.port()});
    let fixture = Fixture::new(&[("net", "TcpNetwork", config)]).await;
    let forward = Forward::new(fixture.device("net"));
    let novnc = Novnc::listen(forward, "127.0.0.1", 0).await.unwrap();
    let io = TcpStream::connect(novnc.local_addr()).await.unwrap();
    let (mut browser, response) = client_async("ws://127.0.0.1/", io).await.unwrap();
    assert!(!response.headers().contains_key("sec-websocket-protocol"));
    let mut messages = Vec::new();
    while let Some(Ok(message)) = timeout(PATIENCE, browser.next()).await.unwrap() {
        messages.push(message);
    }
    assert_eq!(
        messages[0],
        Message::binary(Bytes::from_static(b"RFB 003.008\n"))
    );
    assert!(messages[1].is_close(), "{messages:?}");
}

#[tokio::test]
async fn novnc_serves_the_websockets_package_of_python() {
    let Some(python) = python() else { return };
    let (fixture, _server) = behind_a_session().await;
    let forward = Forward::new(fixture.device("net"));
    let novnc = Novnc::listen(forward, "127.0.0.1", 0).await.unwrap();
    let script = "
import asyncio, sys, websockets
async def main():
    async with websockets.connect(sys.argv[1], subprotocols=['binary']) as socket:
        await (await socket.ping())
        await socket.send(b'from python')
        print(await socket.recv(), socket.subprotocol)
asyncio.run(main())
";
    let output = tokio::process::Command::new(python)
        .args(["-c", script, &format!("ws://{}", novnc.local_addr())])
        .kill_on_drop(true)
        .output();
    let output = timeout(PATIENCE, output).await.unwrap().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "b'from python' binary",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A Python with the package websockets.
fn python() -> Option<std::path::PathBuf> {
    let python = match std::env::var_os("JMP_TEST_PYTHON") {
        Some(python) => python.into(),
        None => program("python3", "python3")?,
    };
    let imported = std::process::Command::new(&python)
        .args(["-c", "import websockets"])
        .stderr(std::process::Stdio::null())
        .status();
    if imported.is_ok_and(|status| status.success()) {
        return Some(python);
    }
    skipped("no Python package websockets; set JMP_TEST_PYTHON to a Python that has it");
    None
}
