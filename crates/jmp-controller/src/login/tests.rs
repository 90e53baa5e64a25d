use std::sync::Arc;

use http_body_util::BodyExt;
use jmp_wire::tls::{self, Trust};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::*;

const PEM: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";

fn settings() -> LoginSettings {
    LoginSettings {
        grpc_endpoint: "controller.lab:8082".into(),
        namespace: "default".into(),
        certificate_authority: PEM.into(),
        pin: Some("sha256:<&>".into()),
        version: "1".into(),
        ..LoginSettings::default()
    }
}

fn peer(text: &str) -> SocketAddr {
    SocketAddr::new(text.parse().unwrap(), 1)
}

fn request(method: Method, path: &str) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().unwrap();
    request
}

async fn body(response: Response<Full<Bytes>>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn the_configuration_is_what_released_clients_read() {
    let service = LoginService::new(&settings());
    let response = service.respond(
        peer("192.0.2.1"),
        &request(Method::GET, "/v1/auth/config?x=1"),
    );
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    let config: Value = serde_json::from_str(&body(response).await).unwrap();
    assert_eq!(config["grpcEndpoint"], "controller.lab:8082");
    assert_eq!(config["namespace"], "default");
    assert_eq!(config["caBundle"], STANDARD.encode(PEM));
    assert_eq!(config["oidc"], Value::Array(vec![]));
    assert_eq!(config["jmp"]["token"], true);
    assert_eq!(config["jmp"]["caPin"], "sha256:<&>");
    assert!(config.get("routerEndpoint").is_none());
}

#[tokio::test]
async fn people_get_a_page_and_monitors_an_answer() {
    let service = LoginService::new(&settings());
    let ask = |path| service.respond(peer("192.0.2.1"), &request(Method::GET, path));
    let page = body(ask("/")).await;
    assert!(page.contains("Jumpstarter") && page.contains("jmp login"));
    assert!(page.contains("sha256:&lt;&amp;&gt;"), "{page}");
    assert_eq!(body(ask("/healthz")).await, "ok\n");
}

#[test]
fn other_methods_and_pages_are_refused() {
    let service = LoginService::new(&settings());
    let status = |method, path| {
        service
            .respond(peer("192.0.2.1"), &request(method, path))
            .status()
    };
    assert_eq!(status(Method::GET, "/v1"), StatusCode::NOT_FOUND);
    assert_eq!(status(Method::GET, "/../etc/passwd"), StatusCode::NOT_FOUND);
    assert_eq!(status(Method::POST, "/"), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(status(Method::HEAD, "/"), StatusCode::OK);
}

#[test]
fn one_address_cannot_keep_the_others_out() {
    let service = LoginService::new(&settings());
    let ask = |address| service.respond(peer(address), &request(Method::GET, "/healthz"));
    let refused = (0..1000)
        .map(|_| ask("192.0.2.1"))
        .find(|response| response.status() == StatusCode::TOO_MANY_REQUESTS)
        .expect("a limit");
    assert!(refused.headers().contains_key(header::RETRY_AFTER));
    assert_eq!(ask("192.0.2.2").status(), StatusCode::OK);
}

/// The endpoint on loopback with a certificate of its own.
struct Running {
    address: SocketAddr,
    trust: Trust,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Running {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["localhost".into()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let (chain, private) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
        std::fs::write(&chain, certificate.pem()).unwrap();
        std::fs::write(&private, key.serialize_pem()).unwrap();
        let acceptor = tls::server(&chain, &private).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let service = Arc::new(LoginService::new(&settings()));
        let until = stop.clone();
        let task = tokio::spawn(async move { serve(listener, &acceptor, service, until).await });
        Self {
            address,
            trust: Trust::Authorities(certificate.pem().into_bytes()),
            stop,
            task,
        }
    }

    async fn connect(&self, protocol: &str) -> tokio_rustls::client::TlsStream<TcpStream> {
        let connector = tls::client_for(&self.trust, vec![protocol.as_bytes().to_vec()]).unwrap();
        let stream = TcpStream::connect(self.address).await.unwrap();
        connector
            .connect(tls::server_name("localhost").unwrap(), stream)
            .await
            .unwrap()
    }

    /// Everything that comes back for these bytes.
    async fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect("http/1.1").await;
        // The server may hang up before it has read everything.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn both_versions_of_http_answer_over_tls() {
    let running = Running::start().await;
    let answer = running
        .exchange(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let stream = hyper_util::rt::TokioIo::new(running.connect("h2").await);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), stream)
            .await
            .unwrap();
    let driving = tokio::spawn(connection);
    let request = Request::get("https://localhost/v1/auth/config")
        .body(Full::<Bytes>::default())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    driving.abort();
    running.stop().await;
}

#[tokio::test]
async fn bad_requests_end_the_connection_and_nothing_else() {
    let running = Running::start().await;
    let mut large = b"GET / HTTP/1.1\r\nhost: localhost\r\nx: ".to_vec();
    large.extend(std::iter::repeat_n(b'a', 64 * 1024));
    let many = b"GET / HTTP/1.1\r\n".repeat(200);
    for bytes in [
        b"\0\0\0\0\r\n\r\n".as_slice(),
        b"GET\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &large,
        &many,
    ] {
        let answer = running.exchange(bytes).await;
        assert!(!answer.contains(" 200 "), "{answer}");
    }
    let posted = running
        .exchange(b"POST /v1/auth/config HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\nconnection: close\r\n\r\nabc")
        .await;
    assert!(posted.starts_with("HTTP/1.1 405 "), "{posted}");
    // Without TLS there is no answer in plain text.
    let mut plain = TcpStream::connect(running.address).await.unwrap();
    plain
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"));
    let answer = running
        .exchange(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .await;
    assert!(answer.contains("jmp login"), "{answer}");
    running.stop().await;
}

#[tokio::test]
async fn idle_connections_do_not_hold_up_the_end() {
    let running = Running::start().await;
    let _silent = TcpStream::connect(running.address).await.unwrap();
    let _secured = running.connect("http/1.1").await;
    tokio::time::timeout(std::time::Duration::from_secs(5), running.stop())
        .await
        .unwrap();
}

/// Those who say nothing have ten seconds each; meanwhile the others get in.
#[tokio::test]
async fn one_host_cannot_take_all_places() {
    let running = Running::start().await;
    let mut held = Vec::new();
    for _ in 0..32 {
        held.push(TcpStream::connect(running.address).await.unwrap());
    }
    let mut next = TcpStream::connect(running.address).await.unwrap();
    let mut answer = Vec::new();
    let closed = next.read_to_end(&mut answer);
    let closed = tokio::time::timeout(std::time::Duration::from_secs(5), closed).await;
    assert!(closed.is_ok(), "it is closed at once");
    held.pop();
    let answer = async {
        loop {
            let mut stream = TcpStream::connect(running.address).await.unwrap();
            // A place is free again as soon as the server has noticed.
            let mut byte = [0];
            let read = stream.read(&mut byte);
            let read = tokio::time::timeout(std::time::Duration::from_millis(100), read).await;
            if read.is_err() {
                return;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(5), answer)
        .await
        .expect("there is room again");
    running.stop().await;
}

#[test]
fn arbitrary_bytes_are_survived() {
    for data in [
        b"".as_slice(),
        b"\0",
        b"\0GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"\x01PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\xff",
        b"\0GET /%00 HTTP/9.9\r\n\r\n",
        b"\x01garbage",
    ] {
        fuzz_login(data);
    }
}
