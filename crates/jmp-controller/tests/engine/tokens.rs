//! Who calls: metadata, clocks, failed attempts.

use std::time::Duration;

use http::HeaderMap;
use jmp_controller::settings::Settings;
use jmp_proto::v1;
use jmp_proto::v1::controller_service_client::ControllerServiceClient;
use jmp_wire::connection::Connection;
use tonic::{Code, Request, Response, Status};

use crate::lab::{Lab, refused};
use crate::world::{controller_calls, end, leased, listen, register};

type Headers = Vec<(&'static str, String)>;

/// Calls that carry these headers, each of them as often as it is there.
struct Calls {
    calls: ControllerServiceClient<Connection>,
    headers: Headers,
}

impl Calls {
    async fn new(lab: &Lab, address: [u8; 4], headers: &[(&'static str, String)]) -> Self {
        let (ours, theirs) = tokio::io::duplex(65536);
        lab.controller.accept_io(theirs, Some(address.into()));
        let connection = Connection::handshake(ours, "controller", HeaderMap::new(), None)
            .await
            .unwrap();
        let origin = connection.origin();
        Self {
            calls: ControllerServiceClient::with_origin(connection, origin),
            headers: headers.to_vec(),
        }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        for (key, value) in &self.headers {
            request.metadata_mut().append(*key, value.parse().unwrap());
        }
        request
    }

    async fn register(&mut self) -> Result<Response<v1::RegisterResponse>, Status> {
        let request = self.request(register());
        self.calls.register(request).await
    }
}

const HOME: [u8; 4] = [192, 0, 2, 7];

#[tokio::test(start_paused = true)]
async fn metadata_must_be_right() {
    let lab = Lab::new().await;
    let token = lab.registered("bench", "a").await;
    let other = lab.registered("other", "b").await;
    let (_, client) = lab.client("me").await;
    let bearer = format!("Bearer {token}");
    let good: [(&'static str, &str); 4] = [
        ("authorization", bearer.as_str()),
        ("jumpstarter-kind", "Exporter"),
        ("jumpstarter-namespace", "default"),
        ("jumpstarter-name", "bench"),
    ];
    let with = |change: &[(&'static str, Option<&str>)]| {
        let mut headers: Headers = good
            .iter()
            .filter(|(key, _)| !change.iter().any(|(changed, _)| changed == key))
            .map(|(key, value)| (*key, (*value).to_owned()))
            .collect();
        for (key, value) in change {
            headers.extend(value.map(|value| (*key, value.to_owned())));
        }
        headers
    };
    let others = format!("Bearer {other}");
    let clients = format!("Bearer {client}");
    let invalid = Code::InvalidArgument;
    let cases: Vec<(Headers, Code, &str)> = vec![
        (with(&[("authorization", None)]), Code::Unauthenticated, ""),
        (with(&[("authorization", Some("Basic abc"))]), invalid, ""),
        (
            with(&[
                ("authorization", Some(&bearer)),
                ("authorization", Some(&bearer)),
            ]),
            invalid,
            "",
        ),
        (
            with(&[("authorization", Some("Bearer garbage"))]),
            Code::Unknown,
            "malformed",
        ),
        (
            with(&[("jumpstarter-kind", None)]),
            invalid,
            "jumpstarter-kind",
        ),
        (
            with(&[
                ("jumpstarter-kind", Some("Exporter")),
                ("jumpstarter-kind", Some("Exporter")),
            ]),
            invalid,
            "jumpstarter-kind",
        ),
        (with(&[("jumpstarter-kind", Some("exporter"))]), invalid, ""),
        (
            with(&[("jumpstarter-kind", Some("Client"))]),
            invalid,
            "object kind mismatch",
        ),
        (
            with(&[("jumpstarter-namespace", None)]),
            invalid,
            "jumpstarter-namespace",
        ),
        (
            with(&[
                ("jumpstarter-namespace", Some("default")),
                ("jumpstarter-namespace", Some("lab")),
            ]),
            invalid,
            "jumpstarter-namespace",
        ),
        (
            with(&[("jumpstarter-namespace", Some("lab"))]),
            Code::NotFound,
            "lab/bench",
        ),
        (
            with(&[("jumpstarter-name", None)]),
            invalid,
            "jumpstarter-name",
        ),
        (
            with(&[
                ("jumpstarter-name", Some("bench")),
                ("jumpstarter-name", Some("bench")),
            ]),
            invalid,
            "jumpstarter-name",
        ),
        (
            with(&[("jumpstarter-name", Some("other"))]),
            Code::PermissionDenied,
            "permission denied for exporter default/other",
        ),
        (
            with(&[("authorization", Some(&others))]),
            Code::PermissionDenied,
            "permission denied for exporter default/bench",
        ),
        (
            with(&[("authorization", Some(&clients))]),
            Code::PermissionDenied,
            "permission denied for exporter default/bench",
        ),
    ];
    for (headers, code, text) in cases {
        let answer = Calls::new(&lab, HOME, &headers).await.register().await;
        let Err(status) = answer else {
            panic!("accepted: {headers:?}");
        };
        assert_eq!(status.code(), code, "{headers:?}: {status:?}");
        assert!(status.message().contains(text), "{headers:?}: {status:?}");
        for secret in [&token, &other, &client] {
            assert!(!status.message().contains(secret.as_str()));
        }
    }
    let good = with(&[]);
    let answer = Calls::new(&lab, HOME, &good).await.register().await;
    answer.unwrap();
    lab.stop().await;
}

#[tokio::test(start_paused = true)]
async fn clocks_an_hour_apart_are_named() {
    let settings = Settings {
        token_lifetime: Duration::from_secs(1800),
        ..Settings::default()
    };
    let lab = Lab::with(settings).await;
    let token = lab.registered("bench", "a").await;
    let mut calls = controller_calls(&lab, "Exporter", "bench", &token).await;
    calls.register(register()).await.unwrap();
    lab.clock.jump(-3600);
    refused(
        calls.register(register()).await,
        Code::Unknown,
        "compare the clocks of the hosts",
    );
    lab.clock.jump(3600);
    calls.register(register()).await.unwrap();
    lab.clock.jump(3600);
    refused(
        calls.register(register()).await,
        Code::Unknown,
        "token is expired",
    );
    lab.stop().await;
}

/// It could neither report nor listen, but would be leased for ever.
#[tokio::test(start_paused = true)]
async fn an_exporter_whose_token_ended_is_not_there() {
    let settings = Settings {
        token_lifetime: Duration::from_secs(3600),
        ..Settings::default()
    };
    let lab = Lab::with(settings).await;
    let mut device = lab.exporter("bench", "a").await;
    let (_, token) = lab.client("me").await;
    let lease = leased(&lab, &mut device, "me", &token, "a").await;
    let mut listening = listen(&mut device, &lease).await;
    tokio::time::sleep(Duration::from_secs(3640)).await;
    let ended = async { (end(&mut device.status).await, end(&mut listening).await) };
    let ended = tokio::time::timeout(Duration::from_secs(10), ended).await;
    let (status, listening) = ended.expect("both streams end");
    for status in [status, listening] {
        let status = status.expect("a status");
        assert_eq!(status.code(), Code::Unknown);
        assert!(status.message().contains("token is expired"), "{status:?}");
    }
    tokio::time::sleep(Duration::from_secs(90)).await;
    let view = &lab.controller.context().view;
    let key = jmp_types::resource::Key::new("default", "bench");
    let found = view.get::<jmp_types::resource::Exporter>(&key).unwrap();
    assert_eq!(found.status.exporter_status, "Offline");
    lab.stop().await;
}

/// Many exporters share one address: some of them have bad tokens, and none of the others is hurt.
#[tokio::test(start_paused = true)]
async fn failed_attempts_hurt_only_those_who_fail() {
    for address in [HOME, [127, 0, 0, 1]] {
        let settings = Settings {
            token_lifetime: Duration::from_secs(3600),
            ..Settings::default()
        };
        let lab = Lab::with(settings).await;
        let old = lab.registered("old", "b").await;
        lab.clock.jump(4000);
        let fresh = lab
            .controller
            .context()
            .ensure_credential::<jmp_types::resource::Exporter>("bench")
            .await
            .unwrap();
        let bearer = format!("Bearer {}", fresh.token.expose());
        let headers = |token: &str| {
            vec![
                ("authorization", token.to_owned()),
                ("jumpstarter-kind", "Exporter".to_owned()),
                ("jumpstarter-namespace", "default".to_owned()),
                ("jumpstarter-name", "bench".to_owned()),
            ]
        };
        let connect = async |token: &str| Calls::new(&lab, address, &headers(token)).await;
        let mut guessing = connect("Bearer eyJh.eyJh.c2ln").await;
        let mut stopped = 0;
        for _ in 0..200 {
            let status = guessing.register().await.unwrap_err();
            stopped += u32::from(status.code() == Code::ResourceExhausted);
        }
        assert!(stopped > 100, "{stopped}");
        let mut good = connect(&bearer).await;
        for _ in 0..50 {
            let report = v1::ReportStatusRequest {
                status: v1::ExporterStatus::Available.into(),
                ..v1::ReportStatusRequest::default()
            };
            let report = good.request(report);
            good.calls.report_status(report).await.unwrap();
        }
        // And one whose token has ended still hears that, so that it gets a new one.
        let mut expired = connect(&format!("Bearer {old}")).await;
        refused(expired.register().await, Code::Unknown, "token is expired");
        tokio::time::sleep(Duration::from_secs(60)).await;
        let mut guessing = connect("Bearer eyJh.eyJh.c2ln").await;
        let status = guessing.register().await.unwrap_err();
        assert_eq!(status.code(), Code::Unknown);
        lab.stop().await;
    }
}
