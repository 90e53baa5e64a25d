//! What a login endpoint says about its controller (facts: controller 6.4).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use jmp_auth::pki::{AuthorityPin, PinError, pinned_client_config};
use jmp_wire::endpoint::Endpoint;
use jmp_wire::tls::{self, TlsConnector};
use rustls::CertificateError;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use super::target::Target;
use crate::error::CliError;

/// How long asking may take as a whole.
const LIMIT: Duration = Duration::from_secs(30);
/// The longest answer in bytes.
const LONGEST: usize = 256 * 1024;

/// How the certificate of the login endpoint is checked.
#[derive(Debug, Clone)]
pub enum Trust {
    /// By authorities, those of the system or of a bundle.
    Authorities(tls::Trust),
    /// By the authority that has this pin.
    Pin(AuthorityPin),
    /// Not at all, but for the host name.
    Anybody,
}

/// What there is to know.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// The controller, `host:port`.
    pub endpoint: String,
    /// The namespace of those who name none.
    pub namespace: Option<String>,
    /// Base64 of a PEM bundle, for `tls.ca`.
    pub authority: Option<String>,
    /// Somebody else who may issue tokens.
    pub issuer: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    grpc_endpoint: Option<String>,
    namespace: Option<String>,
    ca_bundle: Option<String>,
    oidc: Option<Vec<Issuer>>,
}

#[derive(Deserialize)]
struct Issuer {
    issuer: Option<String>,
}

/// Asks the login endpoint.
///
/// # Errors
///
/// What is in the way, each with what to do about it.
pub async fn ask(target: &Target, trust: &Trust) -> Result<Answer, CliError> {
    match tokio::time::timeout(LIMIT, ask_anyhow_long(target, trust)).await {
        Ok(answer) => answer,
        Err(_) => Err(CliError::new(format!(
            "cannot log in at {}: no answer within {} s",
            target.endpoint,
            LIMIT.as_secs()
        ))
        .with_hint("check host and port, and that no firewall is in the way")),
    }
}

async fn ask_anyhow_long(target: &Target, trust: &Trust) -> Result<Answer, CliError> {
    let (endpoint, stream) = match (tcp(&target.endpoint).await, &target.second) {
        (Ok(stream), _) => (&target.endpoint, stream),
        (Err(error), None) => return Err(error),
        (Err(error), Some(second)) => match tcp(second).await {
            Ok(stream) => (second, stream),
            Err(_) => return Err(error),
        },
    };
    if target.plain {
        return request(stream, target).await;
    }
    let (stream, presented) = secure(endpoint, stream, trust, b"http/1.1").await?;
    let mut answer = request(stream, target).await?;
    // An endpoint that sends no bundle has proved its authority all the same.
    answer.authority = answer.authority.or(presented);
    Ok(answer)
}

/// The authority with this pin that the server at `endpoint` presents, for `tls.ca`.
///
/// # Errors
///
/// When it cannot be reached, or presents another one.
pub async fn authority(endpoint: &Endpoint, pin: AuthorityPin) -> Result<String, CliError> {
    let asking = async {
        let stream = tcp(endpoint).await?;
        let (_, presented) = secure(endpoint, stream, &Trust::Pin(pin), b"h2").await?;
        Ok(presented.unwrap_or_default())
    };
    let limited = tokio::time::timeout(LIMIT, asking).await;
    limited.unwrap_or_else(|_| {
        Err(CliError::new(format!(
            "{endpoint} did not answer within {} s",
            LIMIT.as_secs()
        )))
    })
}

async fn tcp(endpoint: &Endpoint) -> Result<TcpStream, CliError> {
    let found = tokio::net::lookup_host((endpoint.host(), endpoint.port()));
    let found = found.await.map_err(|error| {
        CliError::new(format!(
            "cannot log in at {endpoint}: the name cannot be looked up: {error}"
        ))
        .with_hint("check the host name for a typing error")
    })?;
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in found {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(
        CliError::new(format!("cannot log in at {endpoint}: {failure}")).with_hint(
            "check host and port; the login endpoint of `jmp controller run` is at port 8086 unless it was \
             told otherwise, and ports 443 and 8086 are tried when none is given",
        ),
    )
}

/// TLS, and the authority that fits the pin if there is one.
async fn secure(
    endpoint: &Endpoint,
    stream: TcpStream,
    trust: &Trust,
    protocol: &[u8],
) -> Result<
    (
        impl AsyncRead + AsyncWrite + Unpin + Send + use<>,
        Option<String>,
    ),
    CliError,
> {
    let failed = |error: io::Error| refused(endpoint, &error);
    let name = tls::server_name(endpoint.host()).map_err(failed)?;
    let protocols = vec![protocol.to_vec()];
    let connector = match trust {
        Trust::Authorities(trust) => tls::client_for(trust, protocols).map_err(|error| {
            CliError::new(format!("the trusted certificates cannot be used: {error}"))
        })?,
        Trust::Pin(pin) => {
            let config = pinned_client_config(*pin, protocols)
                .map_err(|error| CliError::new(error.to_string()))?;
            TlsConnector::from(Arc::new(config))
        }
        Trust::Anybody => {
            let first = tcp(endpoint).await?;
            let presented = tls::presented_client(first, name.clone())
                .await
                .map_err(failed)?;
            let mut config = presented.config().as_ref().clone();
            config.alpn_protocols = protocols;
            TlsConnector::from(Arc::new(config))
        }
    };
    let stream = connector.connect(name, stream).await.map_err(failed)?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let presented = match trust {
        Trust::Pin(pin) => pin.find(chain).ok().map(|found| bundle(found)),
        _ => None,
    };
    Ok((stream, presented))
}

/// A certificate as `tls.ca` has it: base64 of PEM.
fn bundle(certificate: &[u8]) -> String {
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let text = STANDARD.encode(certificate);
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    STANDARD.encode(pem)
}

/// Why the handshake failed, for people.
fn refused(endpoint: &Endpoint, error: &io::Error) -> CliError {
    let reason = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(reason)) = reason else {
        return CliError::new(format!(
            "cannot log in at {endpoint}: the TLS handshake failed: {error}"
        ))
        .with_hint("is this the port of a login endpoint? That of `jmp controller run` is 8086");
    };
    let told = |text: &str| CliError::new(format!("cannot log in at {endpoint}: {text}"));
    match reason {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            told("nobody that is trusted has issued its certificate").with_hint(
                "a controller with an authority of its own prints the pin of that at its start: add \
                 --ca-pin sha256:… with it",
            )
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            told(&format!("its certificate is for another host ({reason})")).with_hint(
                "use a name that it is for, or start the controller with --name HOST to add this one",
            )
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            told("its certificate has expired")
                .with_hint("renew it, and check the clocks of both machines")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            told("its certificate is not valid yet").with_hint("check the clocks of both machines")
        }
        CertificateError::Other(other) => match other.0.downcast_ref::<PinError>() {
            Some(mismatch) => told(&mismatch.to_string())
                .with_hint("nothing was sent to that server; do not use -k instead"),
            None => told(&format!("its certificate is not accepted: {reason}")),
        },
        _ => told(&format!("its certificate is not accepted: {reason}")),
    }
}

async fn request(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    target: &Target,
) -> Result<Answer, CliError> {
    let url = target.url();
    let broken = |error: &dyn std::fmt::Display| {
        CliError::new(format!("asking {url} failed: {error}"))
            .with_hint("is this the port of a login endpoint? That of `jmp controller run` is 8086")
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(&error))?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let request = Request::get("/v1/auth/config")
        .header(header::HOST, target.endpoint.to_string())
        .header(header::ACCEPT, "application/json")
        .header(
            header::USER_AGENT,
            concat!("jmp/", env!("CARGO_PKG_VERSION")),
        )
        .body(Empty::<Bytes>::new())
        .map_err(|error| broken(&error))?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| broken(&error))?;
    let status = response.status();
    if status != StatusCode::OK {
        let hint = match status {
            StatusCode::NOT_FOUND => {
                "this is a web server, but no login endpoint of a controller; check host and port"
            }
            StatusCode::TOO_MANY_REQUESTS => "wait a little and try again",
            _ => {
                "ask whoever runs that server, or configure the client without it: `jmp config client create`"
            }
        };
        return Err(CliError::new(format!("{url} answered {status}")).with_hint(hint));
    }
    let body = Limited::new(response.into_body(), LONGEST);
    let body = body
        .collect()
        .await
        .map_err(|error| broken(&error))?
        .to_bytes();
    read(&body, &url)
}

fn read(body: &[u8], url: &str) -> Result<Answer, CliError> {
    let hint = "this is no login endpoint of a controller, or of one that is too new or too old";
    let body: Body = serde_json::from_slice(body).map_err(|error| {
        CliError::new(format!("the answer of {url} cannot be read: {error}")).with_hint(hint)
    })?;
    let filled = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
    let endpoint = filled(body.grpc_endpoint).ok_or_else(|| {
        CliError::new(format!(
            "the answer of {url} names no controller (`grpcEndpoint`)"
        ))
        .with_hint(hint)
    })?;
    let issuers = body.oidc.unwrap_or_default();
    Ok(Answer {
        endpoint,
        namespace: filled(body.namespace),
        authority: filled(body.ca_bundle),
        issuer: issuers.into_iter().find_map(|issuer| issuer.issuer),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_leniently_and_refused_clearly() {
        let full = br#"{"grpcEndpoint":"lab:8082","namespace":"lab","caBundle":"UEVN",
            "oidc":[{"issuer":"https://dex","clientId":"c","audiences":[]}],"jmp":{"token":true}}"#;
        let answer = read(full, "u").expect("an answer");
        assert_eq!(answer.endpoint, "lab:8082");
        assert_eq!(answer.namespace.as_deref(), Some("lab"));
        assert_eq!(answer.authority.as_deref(), Some("UEVN"));
        assert_eq!(answer.issuer.as_deref(), Some("https://dex"));
        let least = read(br#"{"grpcEndpoint":"lab","oidc":null}"#, "u").expect("an answer");
        assert!(least.namespace.is_none() && least.authority.is_none());
        for wrong in ["", "<html>", "{}", r#"{"grpcEndpoint":""}"#] {
            assert!(read(wrong.as_bytes(), "u").is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_certificate_becomes_a_bundle() {
        let text = STANDARD.decode(bundle(&[7; 100])).expect("base64");
        let text = String::from_utf8(text).expect("PEM is a text");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.first(), Some(&"-----BEGIN CERTIFICATE-----"));
        assert_eq!(lines[1].len(), 64);
        assert_eq!(lines.last(), Some(&"-----END CERTIFICATE-----"));
    }
}
