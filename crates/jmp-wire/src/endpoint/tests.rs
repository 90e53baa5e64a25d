//! Connections to real TLS servers on loopback.

use std::convert::Infallible;

use http::{Request, Response};
use hyper::body::Incoming;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use tokio::net::TcpListener;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::*;
use crate::connection::{RpcBody, TCP_KEEP_ALIVE, serve};

/// A server that answers each call with its authorization as the status text.
struct Server {
    port: u16,
    certificate: String,
    _task: AbortOnDropHandle<()>,
}

impl Server {
    async fn start(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut parameters = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        change(&mut parameters);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap().pem();
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let acceptor = tls::server(
            &place("certificate", &certificate),
            &place("key", &key.serialize_pem()),
        )
        .unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            let tasks = TaskTracker::new();
            while let Ok((io, _)) = listener.accept().await {
                let (acceptor, tasks) = (acceptor.clone(), tasks.clone());
                tasks.clone().spawn(async move {
                    let Ok(io) = acceptor.accept(io).await else {
                        return;
                    };
                    let service = hyper::service::service_fn(answer);
                    let _ = serve(io, service, &tasks, None, std::future::pending()).await;
                });
            }
        });
        Self {
            port,
            certificate,
            _task: AbortOnDropHandle::new(task),
        }
    }

    async fn connect(&self, host: &str, trust: ServerTrust) -> Result<Connection, ConnectError> {
        let endpoint: Endpoint = format!("{host}:{}", self.port).parse().unwrap();
        let credentials = Credentials {
            kind: CallerKind::Exporter,
            namespace: "lab".into(),
            name: "bench".into(),
            token: "s3cret\n".into(),
        };
        Connector::new(trust)
            .connect(&endpoint, credentials.metadata().unwrap(), TCP_KEEP_ALIVE)
            .await
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<RpcBody>, Infallible> {
    let shown: Vec<_> = [
        "authorization",
        "jumpstarter-kind",
        "jumpstarter-namespace",
        "jumpstarter-name",
    ]
    .iter()
    .map(|key| request.headers().get(*key).unwrap().to_str().unwrap())
    .collect();
    Ok(Status::aborted(shown.join(" ")).into_http())
}

fn authority(parameters: &mut CertificateParams) {
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
}

async fn call(connection: &Connection) -> Status {
    let response = connection
        .request("/x/Y", Request::new(RpcBody::empty()))
        .await
        .unwrap();
    Status::from_header_map(response.headers()).unwrap()
}

#[tokio::test]
async fn pinned_certificates_are_accepted_even_as_authorities() {
    for change in [|_: &mut CertificateParams| {}, authority] {
        let server = Server::start(change).await;
        let trust = ServerTrust::Authorities(server.certificate.clone().into());
        let connection = server.connect("localhost", trust).await.unwrap();
        let status = call(&connection).await;
        assert_eq!(status.message(), "Bearer s3cret Exporter lab bench");
    }
}

#[tokio::test]
async fn presented_certificates_are_trusted_for_their_host_only() {
    for change in [|_: &mut CertificateParams| {}, authority] {
        let server = Server::start(change).await;
        server
            .connect("localhost", ServerTrust::Presented)
            .await
            .unwrap();
        let refused = server.connect("127.0.0.1", ServerTrust::Presented).await;
        let ConnectFailure::Certificate(text) = refused.unwrap_err().reason else {
            panic!()
        };
        assert!(text.contains("another host name"), "{text}");
    }
}

#[tokio::test]
async fn strangers_and_expired_certificates_are_refused() {
    let server = Server::start(|_| {}).await;
    let other = Server::start(|_| {}).await;
    let trust = ServerTrust::Authorities(other.certificate.clone().into());
    let error = server.connect("localhost", trust).await.unwrap_err();
    assert!(error.to_string().contains("set `tls.ca`"), "{error}");

    for change in [|_: &mut CertificateParams| {}, authority] {
        let server = Server::start(|parameters| {
            change(parameters);
            parameters.not_after = rcgen::date_time_ymd(2020, 1, 1);
        })
        .await;
        let trust = ServerTrust::Authorities(server.certificate.clone().into());
        for trust in [trust, ServerTrust::Presented] {
            let error = server.connect("localhost", trust).await.unwrap_err();
            assert!(error.to_string().contains("expired"), "{error}");
        }
    }
}

#[tokio::test]
async fn failures_say_what_failed() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let closed: Endpoint = listener.local_addr().unwrap().to_string().parse().unwrap();
    drop(listener);
    let connect = async |endpoint: Endpoint| {
        Connector::new(ServerTrust::Presented)
            .connect(&endpoint, HeaderMap::new(), TCP_KEEP_ALIVE)
            .await
            .unwrap_err()
            .reason
    };
    assert!(matches!(connect(closed).await, ConnectFailure::Tcp(_)));
    let unknown = "no-such-host.invalid:1".parse().unwrap();
    assert!(matches!(connect(unknown).await, ConnectFailure::Lookup(_)));
}

#[test]
fn endpoints() {
    for (text, shown) in [
        ("lab.example", "lab.example:443"),
        ("lab.example:8082", "lab.example:8082"),
        ("grpcs://lab.example:1/", "lab.example:1"),
        ("[::1]:2", "[::1]:2"),
        ("::1", "[::1]:443"),
        ("10.0.0.1", "10.0.0.1:443"),
    ] {
        let endpoint: Endpoint = text.parse().unwrap();
        assert_eq!(endpoint.to_string(), shown, "{text}");
    }
    for text in ["", ":1", "a:0", "a:65536", "a:b", "a b:1", "a/b"] {
        assert!(text.parse::<Endpoint>().is_err(), "{text}");
    }
}

#[test]
fn configured_trust() {
    let configured = |insecure, ca| ServerTrust::configured(insecure, ca, Trust::System);
    assert_eq!(configured(true, Some("x")), Ok(ServerTrust::Presented));
    assert_eq!(configured(false, Some(" ")), Ok(ServerTrust::System));
    assert_eq!(configured(false, None), Ok(ServerTrust::System));
    for wrong in ["%", "aGVsbG8="] {
        let error = configured(false, Some(wrong)).unwrap_err();
        assert!(error.to_string().contains("tls.ca"), "{error}");
    }
}

#[test]
fn secrets_are_not_shown() {
    let credentials = Credentials {
        kind: CallerKind::Client,
        namespace: String::new(),
        name: "me".into(),
        token: "a\nb".into(),
    };
    assert!(!format!("{credentials:?}").contains("a\\nb"));
    assert_eq!(credentials.metadata(), Err(CredentialsError("token")));
    let sent = bearer("x").unwrap();
    assert!(sent[header::AUTHORIZATION].is_sensitive());
}
