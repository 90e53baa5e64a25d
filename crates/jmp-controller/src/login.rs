//! The login endpoint: what somebody needs to know before they have a configuration.
//!
//! `GET /v1/auth/config` tells where the controller is and whom to trust (facts: controller 6.4),
//! `/` tells people what this is, `/healthz` tells monitors that it is there. Nothing secret is
//! served and no input is read but method and path: a token that a person was given is checked by
//! the controller itself.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use jmp_auth::peer_network;
use serde::Serialize;

use crate::limits::{Rate, RateLimiter};

mod server;

pub use server::{fuzz_login, serve};

/// Requests of one peer.
const RATE: Rate = Rate {
    per_second: 10.0,
    burst: 60.0,
};
/// How many peers are told apart.
const PEERS: usize = 4096;

/// What the endpoint tells.
#[derive(Clone, Debug, Default)]
pub struct LoginSettings {
    /// Public address of the controller, `host:port`.
    pub grpc_endpoint: String,
    /// Public address of a router, when it is one and always the same.
    pub router_endpoint: Option<String>,
    /// The namespace of those who name none.
    pub namespace: String,
    /// PEM of the authority to trust; empty for public ones.
    pub certificate_authority: String,
    /// What to compare the authority with before trusting it, as printed at start.
    pub pin: Option<String>,
    /// Version of this program.
    pub version: String,
}

/// The answers, made once.
#[derive(Debug)]
pub struct LoginService {
    config: Bytes,
    page: Bytes,
    peers: RateLimiter<IpAddr>,
}

/// `GET /v1/auth/config`
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Config<'a> {
    grpc_endpoint: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    router_endpoint: Option<&'a str>,
    namespace: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_bundle: Option<String>,
    /// No other issuers yet; clients take the first one.
    oidc: [(); 0],
    /// Our own additions, which released clients pass over.
    jmp: Additions<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Additions<'a> {
    /// A token of the controller's own will do.
    token: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_pin: Option<&'a str>,
    version: &'a str,
}

// === impl LoginService ===

impl LoginService {
    /// Makes the answers.
    #[must_use]
    pub fn new(settings: &LoginSettings) -> Self {
        let pem = &settings.certificate_authority;
        let config = Config {
            grpc_endpoint: &settings.grpc_endpoint,
            router_endpoint: settings.router_endpoint.as_deref(),
            namespace: &settings.namespace,
            ca_bundle: (!pem.is_empty()).then(|| STANDARD.encode(pem)),
            oidc: [],
            jmp: Additions {
                token: true,
                ca_pin: settings.pin.as_deref(),
                version: &settings.version,
            },
        };
        Self {
            // Structures of texts always become JSON.
            config: serde_json::to_vec(&config).unwrap_or_default().into(),
            page: page(settings).into(),
            peers: RateLimiter::new(RATE, PEERS),
        }
    }

    /// The answer to one request of `peer`. The body of the request is never read.
    pub fn respond<B>(&self, peer: SocketAddr, request: &Request<B>) -> Response<Full<Bytes>> {
        if let Err(wait) = self.peers.take(peer_network(peer.ip())) {
            return too_many(wait);
        }
        let path = request.uri().path();
        let found = match path {
            "/" => Some(("text/html; charset=utf-8", self.page.clone())),
            "/v1/auth/config" => Some(("application/json", self.config.clone())),
            "/healthz" => Some(("text/plain; charset=utf-8", Bytes::from_static(b"ok\n"))),
            _ => None,
        };
        let Some((kind, body)) = found else {
            return plain(
                StatusCode::NOT_FOUND,
                "nothing here: the pages are /, /v1/auth/config and /healthz\n",
            );
        };
        match *request.method() {
            // To HEAD the server leaves the body out and keeps its length.
            Method::GET | Method::HEAD => answer(StatusCode::OK, kind, body),
            _ => {
                let mut refused = plain(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "this page can only be read: use GET\n",
                );
                let allow = HeaderValue::from_static("GET, HEAD");
                refused.headers_mut().insert(header::ALLOW, allow);
                refused
            }
        }
    }
}

fn too_many(wait: Duration) -> Response<Full<Bytes>> {
    let mut refused = plain(
        StatusCode::TOO_MANY_REQUESTS,
        "too many requests from this address: wait a little\n",
    );
    let seconds = HeaderValue::from(wait.as_secs().saturating_add(1));
    refused.headers_mut().insert(header::RETRY_AFTER, seconds);
    refused
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    answer(
        status,
        "text/plain; charset=utf-8",
        Bytes::from_static(text.as_bytes()),
    )
}

fn answer(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'"),
    );
    response
}

/// For people who put the address into a browser.
fn page(settings: &LoginSettings) -> String {
    let pin = settings.pin.as_deref().map_or_else(String::new, |pin| {
        format!(
            "<p>Its certificate authority has the pin <code>{}</code>.</p>\n",
            escaped(pin)
        )
    });
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\
         <title>Jumpstarter</title>\
         <style>body{{font-family:sans-serif;max-width:40em;margin:3em auto;padding:0 1em}}\
         code{{background:#eee;padding:.1em .3em}}</style></head>\n<body>\n\
         <h1>Jumpstarter</h1>\n\
         <p>This host lends devices under test. The controller listens on \
         <code>{}</code>.</p>\n{pin}\
         <p>To use it, ask its administrator for a token and for the pin, and run</p>\n\
         <pre><code>jmp login NAME@HOST:PORT{}</code></pre>\n\
         <p>with your client's name and the address of this page. The token is asked for. Compare the pin: \
         this page is only as trustworthy as the connection that it came over.</p>\n\
         </body>\n</html>\n",
        escaped(&settings.grpc_endpoint),
        settings
            .pin
            .as_deref()
            .map_or_else(String::new, |pin| format!(" --ca-pin {}", escaped(pin)))
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests;
