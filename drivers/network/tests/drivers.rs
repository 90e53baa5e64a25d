//! Each driver against a real peer, through a session on a real socket.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{Fixture, Plain, echo, free_port, refusal, serve, tcp_server, udp_echo};
use futures::{SinkExt, StreamExt};
use jmp_driver::ErrorKind;
use jmp_interfaces::network::NetworkAddressClient;
use jmp_interfaces::network::behaviour::{Peer, check, noise};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, UnixListener};
use tokio::time::timeout;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn tcp_behaves() {
    let server = tcp_server(echo).await;
    let config = json!({"host": "127.0.0.1", "port": server.address.port()});
    let fixture = Fixture::new(&[("tcp", "TcpNetwork", config)]).await;
    let peer = Peer {
        live: Some(server.live.clone()),
        ..Peer::bytes()
    };
    check(&fixture.device("tcp"), peer).await;
}

#[tokio::test]
async fn unix_behaves() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("peer");
    let server = serve((), UnixListener::bind(&path).unwrap(), Plain, echo);
    let fixture = Fixture::new(&[("unix", "UnixNetwork", json!({"path": path}))]).await;
    let peer = Peer {
        live: Some(server.live.clone()),
        ..Peer::bytes()
    };
    check(&fixture.device("unix"), peer).await;
}

#[tokio::test]
async fn udp_behaves() {
    let server = udp_echo().await;
    let config = json!({"host": "127.0.0.1", "port": server.address.port()});
    let fixture = Fixture::new(&[("udp", "UdpNetwork", config)]).await;
    let peer = Peer {
        largest: 65_507,
        keeps_boundaries: true,
        half_close: false,
        live: None,
    };
    check(&fixture.device("udp"), peer).await;
}

#[tokio::test]
async fn echo_behaves() {
    let fixture = Fixture::new(&[("echo", "EchoNetwork", json!({"ignored": 1}))]).await;
    let peer = Peer {
        keeps_boundaries: true,
        ..Peer::bytes()
    };
    check(&fixture.device("echo"), peer).await;
}

async fn websocket_echo(io: TcpStream) {
    let mut socket = accept_async(io).await.unwrap();
    while let Some(Ok(message)) = socket.next().await {
        if message.is_binary() && socket.send(message).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn websocket_behaves() {
    let server = tcp_server(websocket_echo).await;
    let url = format!("ws://{}/path?query", server.address);
    let fixture = Fixture::new(&[("ws", "WebsocketNetwork", json!({"url": url}))]).await;
    let peer = Peer {
        keeps_boundaries: true,
        live: Some(server.live.clone()),
        ..Peer::bytes()
    };
    check(&fixture.device("ws"), peer).await;
    let address = NetworkAddressClient::new(fixture.device("ws"));
    assert_eq!(address.address().await.unwrap(), url);
}

#[cfg(target_os = "linux")]
mod vsock {
    use super::*;
    use tokio_vsock::{VMADDR_CID_LOCAL, VsockAddr, VsockListener, VsockStream};

    /// The kernel picks one.
    const ANY_PORT: u32 = u32::MAX;

    struct Vsock;

    impl common::AsyncFnAccept<VsockListener> for Vsock {
        type Io = VsockStream;
        async fn accept(&self, listener: &VsockListener) -> VsockStream {
            listener.accept().await.unwrap().0
        }
    }

    /// What kernels without vsock loopback answer, which no package can mend.
    async fn loopback() -> std::io::Result<VsockListener> {
        let listener = VsockListener::bind(VsockAddr::new(VMADDR_CID_LOCAL, ANY_PORT))?;
        let address = listener.local_addr()?;
        let (_, accepted) = tokio::try_join!(VsockStream::connect(address), listener.accept())?;
        drop(accepted);
        Ok(listener)
    }

    /// Without loopback the kernel refuses, with it there is no listener.
    #[tokio::test]
    async fn a_vsock_service_that_is_down_fails_the_stream() {
        let config = json!({"cid": VMADDR_CID_LOCAL, "port": 4_000_000_001_u32});
        let fixture = Fixture::new(&[("vsock", "VsockNetwork", config)]).await;
        let opened = fixture.device("vsock").open_stream("connect").await;
        let error = opened.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Connection);
        let message = error.message();
        assert!(
            message.starts_with("connecting to vsock:1:4000000001: "),
            "{message}"
        );
    }

    #[tokio::test]
    async fn vsock_behaves() {
        let listener = match loopback().await {
            Ok(listener) => listener,
            Err(error) => {
                eprintln!("SKIPPED: this kernel has no vsock loopback: {error}");
                return;
            }
        };
        let port = listener.local_addr().unwrap().port();
        let server = serve((), listener, Vsock, echo);
        let config = json!({"cid": VMADDR_CID_LOCAL, "port": port});
        let fixture = Fixture::new(&[("vsock", "VsockNetwork", config)]).await;
        let peer = Peer {
            live: Some(server.live.clone()),
            ..Peer::bytes()
        };
        check(&fixture.device("vsock"), peer).await;
    }
}

#[tokio::test]
async fn a_tcp_server_may_close_first_and_still_receive() {
    let (received, answer) = tokio::sync::mpsc::unbounded_channel();
    let server = tcp_server(move |mut io: TcpStream| {
        let received = received.clone();
        async move {
            io.write_all(b"bye").await.unwrap();
            io.shutdown().await.unwrap();
            let mut rest = String::new();
            io.read_to_string(&mut rest).await.unwrap();
            received.send(rest).unwrap();
        }
    })
    .await;
    let config = json!({"host": "localhost", "port": server.address.port()});
    let fixture = Fixture::new(&[("tcp", "TcpNetwork", config)]).await;
    let mut stream = fixture.device("tcp").open_stream("connect").await.unwrap();
    let mut greeting = Vec::new();
    while let Some(chunk) = stream.reader.next().await {
        greeting.extend_from_slice(&chunk.unwrap());
    }
    assert_eq!(greeting, b"bye");
    stream
        .writer
        .send(Bytes::from_static(b"late"))
        .await
        .unwrap();
    stream.writer.close().await.unwrap();
    let mut answer = answer;
    let rest = timeout(PATIENCE, answer.recv()).await.unwrap().unwrap();
    assert_eq!(rest, "late");
}

#[tokio::test]
async fn services_that_are_down_fail_the_stream_with_address_and_advice() {
    let port = free_port().await;
    let fixture = Fixture::new(&[
        (
            "tcp",
            "TcpNetwork",
            json!({"host": "127.0.0.1", "port": port}),
        ),
        (
            "unix",
            "UnixNetwork",
            json!({"path": "/nonexistent/socket"}),
        ),
        (
            "ws",
            "WebsocketNetwork",
            json!({"url": format!("ws://127.0.0.1:{port}")}),
        ),
    ])
    .await;
    for (name, address, advice) in [
        (
            "tcp",
            format!("tcp://127.0.0.1:{port}"),
            "is the service running",
        ),
        (
            "unix",
            "unix:/nonexistent/socket".into(),
            "is the service running",
        ),
        (
            "ws",
            format!("ws://127.0.0.1:{port}"),
            "is the service running",
        ),
    ] {
        let opened = fixture.device(name).open_stream("connect").await;
        let error = opened.err().expect("nobody listens");
        assert_eq!(error.kind(), ErrorKind::Connection, "{name}");
        let message = error.message();
        assert!(
            message.starts_with(&format!("connecting to {address}: ")) && message.contains(advice),
            "{message}"
        );
    }
}

#[tokio::test]
async fn a_websocket_handshake_that_is_refused_says_so() {
    let server = tcp_server(|mut io: TcpStream| async move {
        let mut request = [0; 1024];
        let _ = io.read(&mut request).await;
        let _ = io
            .write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
            .await;
    })
    .await;
    let url = format!("ws://{}", server.address);
    let fixture = Fixture::new(&[("ws", "WebsocketNetwork", json!({"url": url}))]).await;
    let opened = fixture.device("ws").open_stream("connect").await;
    let message = opened.err().unwrap().to_string();
    assert!(message.contains("403"), "{message}");
}

#[tokio::test]
async fn websocket_text_and_pings_and_the_end() {
    let server = tcp_server(|io: TcpStream| async move {
        let mut socket = accept_async(io).await.unwrap();
        socket.send(Message::text("grüße")).await.unwrap();
        socket.send(Message::Ping("p".into())).await.unwrap();
        let pong = socket.next().await.unwrap().unwrap();
        assert!(pong.is_pong());
        socket.send(Message::binary("ponged")).await.unwrap();
        socket.close(None).await.unwrap();
        while let Some(Ok(_)) = socket.next().await {}
    })
    .await;
    let url = format!("ws://{}", server.address);
    let fixture = Fixture::new(&[("ws", "WebsocketNetwork", json!({"url": url}))]).await;
    let stream = fixture.device("ws").open_stream("connect").await.unwrap();
    let chunks = stream.reader.map(Result::unwrap).collect::<Vec<_>>();
    let chunks = timeout(PATIENCE, chunks).await.unwrap();
    assert_eq!(chunks, ["grüße".as_bytes(), b"ponged"]);
}

#[tokio::test]
async fn udp_datagrams() {
    let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = peer.local_addr().unwrap();
    let config = json!({"host": "127.0.0.1", "port": address.port().to_string()});
    let fixture = Fixture::new(&[("udp", "UdpNetwork", config)]).await;
    let mut stream = fixture.device("udp").open_stream("connect").await.unwrap();
    let largest = noise(5, 65_507);
    for chunk in [
        Bytes::from_static(b"one"),
        largest.clone(),
        Bytes::from_static(b"two"),
    ] {
        stream.writer.send(chunk).await.unwrap();
    }
    let mut buffer = vec![0; 65_536];
    let (count, from) = peer.recv_from(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..count], b"one");
    assert_eq!(peer.recv(&mut buffer).await.unwrap(), largest.len());
    assert_eq!(peer.recv(&mut buffer).await.unwrap(), 3);
    // An empty datagram has no chunk; it must not look like the end, either.
    for datagram in [&b"three"[..], b"", b"four"] {
        peer.send_to(datagram, from).await.unwrap();
    }
    for expected in ["three", "four"] {
        let chunk = timeout(PATIENCE, stream.reader.next()).await.unwrap();
        assert_eq!(chunk.unwrap().unwrap(), expected);
    }
    // The client's end of input leaves the other direction alone.
    stream.writer.close().await.unwrap();
    peer.send_to(b"five", from).await.unwrap();
    let chunk = timeout(PATIENCE, stream.reader.next()).await.unwrap();
    assert_eq!(chunk.unwrap().unwrap(), "five");
}

#[tokio::test]
async fn udp_needs_no_listener() {
    let port = {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.local_addr().unwrap().port()
    };
    let config = json!({"host": "127.0.0.1", "port": port});
    let fixture = Fixture::new(&[("udp", "UdpNetwork", config)]).await;
    let mut stream = fixture.device("udp").open_stream("connect").await.unwrap();
    stream
        .writer
        .send(Bytes::from_static(b"lost"))
        .await
        .unwrap();
    // The kernel's refusal is in the log before anybody listens.
    let mut log = fixture.client.logs().await.unwrap();
    let line = timeout(PATIENCE, log.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(
        line.message.contains("nobody listens on 127.0.0.1"),
        "{}",
        line.message
    );
    let peer = UdpSocket::bind(("127.0.0.1", port)).await.unwrap();
    stream
        .writer
        .send(Bytes::from_static(b"found"))
        .await
        .unwrap();
    let mut buffer = [0; 16];
    let count = timeout(PATIENCE, peer.recv(&mut buffer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&buffer[..count], b"found");
}

#[tokio::test]
async fn addresses_are_told_unless_forbidden() {
    let fixture = Fixture::new(&[
        (
            "tcp",
            "TcpNetwork",
            json!({"host": "192.0.2.1", "port": 22}),
        ),
        (
            "six",
            "UdpNetwork",
            json!({"host": "::1", "port": 53, "enable_address": true}),
        ),
        (
            "shy",
            "TcpNetwork",
            json!({"host": "a", "port": 1, "enable_address": false}),
        ),
        ("unix", "UnixNetwork", json!({"path": "/a"})),
        ("echo", "EchoNetwork", json!({})),
    ])
    .await;
    let address = async |name: &str| {
        NetworkAddressClient::new(fixture.device(name))
            .address()
            .await
    };
    assert_eq!(address("tcp").await.unwrap(), "tcp://192.0.2.1:22");
    assert_eq!(address("six").await.unwrap(), "udp://[::1]:53");
    let error = address("shy").await.unwrap_err();
    assert_eq!(
        (error.code_name(), error.message()),
        (
            "INVALID_ARGUMENT",
            "enable_address mode is not true in the exporter configuration"
        )
    );
    for name in ["unix", "echo"] {
        let error = address(name).await.unwrap_err();
        assert_eq!(
            (error.code_name(), error.message()),
            ("NOT_FOUND", "method address not found on driver")
        );
    }
}

#[tokio::test]
async fn reports_name_client_and_bus() {
    let fixture = Fixture::new(&[
        ("tcp", "TcpNetwork", json!({"host": "a", "port": 1})),
        ("bus", "DbusNetwork", json!({"kind": "system"})),
    ])
    .await;
    let tcp = fixture.client.device("tcp").unwrap();
    assert_eq!(
        tcp.class(),
        "jumpstarter_driver_network.client.NetworkClient"
    );
    let bus = fixture.client.device("bus").unwrap();
    assert_eq!(
        bus.class(),
        "jumpstarter_driver_network.client.DbusNetworkClient"
    );
    assert_eq!(bus.labels()["jumpstarter.dev/dbusnetwork/kind"], "system");
}

#[tokio::test]
async fn wrong_configurations_say_what_is_wrong() {
    for (class, config, expected) in [
        ("TcpNetwork", json!({"host": "a"}), "key `port` is missing"),
        (
            "TcpNetwork",
            json!({"host": "a", "port": 70000}),
            "`port`: expected an integer from 0 to 65535, found 70000",
        ),
        (
            "UdpNetwork",
            json!({"host": "a", "port": 1, "enable_adress": true}),
            "did you mean `enable_address`?",
        ),
        ("UnixNetwork", json!({}), "key `path` is missing"),
        ("VsockNetwork", json!({"cid": 1}), "key `port` is missing"),
        (
            "DbusNetwork",
            json!({"kind": "sesion"}),
            "`kind`: invalid bus type: sesion; expected `system` or `session`",
        ),
        (
            "WebsocketNetwork",
            json!({"url": "http://a"}),
            "`url`: `http://a` starts with neither ws:// nor wss://",
        ),
        (
            "WebsocketNetwork",
            json!({"url": "a"}),
            "`url`: `a` is no URL: ",
        ),
    ] {
        let message = refusal(class, config).await;
        assert!(message.contains(expected), "{class}: {message}");
    }
}
