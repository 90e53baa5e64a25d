//! Resources behind an HTTP address: the exporter performs the request itself.
//!
//! Redirects are followed by hand so that the percent-encoding of signed addresses stays as it
//! is and credentials do not travel to another origin (facts: protocol 4.4).

use std::collections::BTreeMap;
use std::io::SeekFrom;
use std::sync::OnceLock;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use jmp_wire::stream::ByteReader;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Client, Method, Response, StatusCode, Url};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use crate::error::{Error, ErrorKind, Result};

/// Longest time a transfer may take, as upstream's.
const TIMEOUT: Duration = Duration::from_secs(7200);
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_REDIRECTS: usize = 10;

/// Reads the body of a GET request.
pub(super) async fn get(url: &str, headers: &BTreeMap<String, String>) -> Result<ByteReader> {
    let mut request = Request::new(Method::GET, url, headers)?;
    let response = request.send(|| async { Ok(None) }).await?;
    let shown = request.shown();
    Ok(response
        .bytes_stream()
        .map_err(move |error| std::io::Error::from(broken(&Method::GET, &shown, &error)))
        .boxed())
}

/// Sends all data of `body` with a PUT request. The data is spooled to a file first: object
/// stores want its length in advance, and a redirect needs it a second time.
pub(super) async fn put(
    url: &str,
    headers: &BTreeMap<String, String>,
    mut body: ByteReader,
) -> Result<u64> {
    let mut request = Request::new(Method::PUT, url, headers)?;
    let mut spool = tokio::fs::File::from_std(tempfile::tempfile()?);
    let mut length = 0;
    while let Some(chunk) = body.try_next().await? {
        length += chunk.len() as u64;
        spool.write_all(&chunk).await?;
    }
    spool.flush().await?;
    let spool = &spool;
    let response = request
        .send(|| async move {
            let mut file = spool.try_clone().await?;
            file.seek(SeekFrom::Start(0)).await?;
            Ok(Some((file, length)))
        })
        .await?;
    drop(response);
    Ok(length)
}

struct Request {
    method: Method,
    url: Url,
    headers: HeaderMap,
}

// === impl Request ===

impl Request {
    fn new(method: Method, url: &str, headers: &BTreeMap<String, String>) -> Result<Self> {
        let url: Url = url.parse().map_err(|error| {
            Error::invalid_argument(format!("presigned address is not a URL: {error}"))
        })?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Error::invalid_argument(format!(
                "presigned address has scheme `{}`; http and https can be used",
                url.scheme()
            )));
        }
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let header = HeaderName::try_from(name)
                .ok()
                .zip(HeaderValue::try_from(value).ok())
                .ok_or_else(|| {
                    Error::invalid_argument(format!("presigned request header `{name}` is invalid"))
                })?;
            map.append(header.0, header.1);
        }
        Ok(Self {
            method,
            url,
            headers: map,
        })
    }

    /// The address without its query, which may be a signature.
    fn shown(&self) -> String {
        shown(&self.url)
    }

    async fn send<F, B>(&mut self, body: F) -> Result<Response>
    where
        F: Fn() -> B,
        B: Future<Output = std::io::Result<Option<(tokio::fs::File, u64)>>>,
    {
        for _ in 0..=MAX_REDIRECTS {
            let mut request = client()?
                .request(self.method.clone(), self.url.clone())
                .headers(self.headers.clone());
            if let Some((file, length)) = body().await? {
                let stream = tokio_util::io::ReaderStream::with_capacity(file, 64 * 1024);
                request = request
                    .header(reqwest::header::CONTENT_LENGTH, length)
                    .body(reqwest::Body::wrap_stream(stream));
            }
            let response = request
                .send()
                .await
                .map_err(|error| broken(&self.method, &self.shown(), &error))?;
            match self.redirect(&response)? {
                Some(target) => self.follow(target),
                None if response.status().is_success() => return Ok(response),
                None => {
                    return Err(Error::other(format!(
                        "Presigned HTTP {} of {} was answered with status {}",
                        self.method,
                        self.shown(),
                        response.status()
                    )));
                }
            }
        }
        Err(Error::other(format!(
            "Presigned HTTP {} was redirected more than {MAX_REDIRECTS} times, last to {}",
            self.method,
            self.shown()
        )))
    }

    fn redirect(&self, response: &Response) -> Result<Option<Url>> {
        let status = response.status();
        let repeats_method = matches!(
            status,
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
        );
        let changes_method = matches!(
            status,
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER
        );
        if !(repeats_method || changes_method && self.method == Method::GET) {
            return Ok(None);
        }
        let location = response.headers().get(LOCATION);
        let target = location
            .and_then(|location| location.to_str().ok())
            .and_then(|location| self.url.join(location).ok())
            .filter(|target| matches!(target.scheme(), "http" | "https"));
        match target {
            Some(target) => Ok(Some(target)),
            None => Err(Error::other(format!(
                "Presigned HTTP {} of {} was redirected ({status}) without a usable Location",
                self.method,
                self.shown()
            ))),
        }
    }

    fn follow(&mut self, target: Url) {
        if target.origin() != self.url.origin() {
            let secret = |name: &HeaderName| {
                let name = name.as_str();
                matches!(name, "authorization" | "cookie" | "proxy-authorization")
                    || ["x-amz-", "x-ms-", "x-goog-"]
                        .iter()
                        .any(|prefix| name.starts_with(prefix))
            };
            let dropped: Vec<_> = self
                .headers
                .keys()
                .filter(|name| secret(name))
                .cloned()
                .collect();
            for name in dropped {
                self.headers.remove(name);
            }
        }
        self.url = target;
    }
}

fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    let query = url.query().is_some();
    shown.set_query(None);
    shown.set_fragment(None);
    // Credentials can stand in an address, too.
    let _ = shown.set_password(None);
    let _ = shown.set_username("");
    if query {
        format!("{shown}?[REDACTED]")
    } else {
        shown.to_string()
    }
}

fn client() -> Result<&'static Client> {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    if let Some(client) = CLIENT.get() {
        return Ok(client);
    }
    jmp_wire::tls::install_provider();
    let client = Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TIMEOUT)
        .build()
        .map_err(|error| Error::other(format!("HTTP client: {}", causes(&error))))?;
    Ok(CLIENT.get_or_init(|| client))
}

fn broken(method: &Method, shown: &str, error: &reqwest::Error) -> Error {
    let (kind, what) = if error.is_timeout() {
        (ErrorKind::Timeout, "did not finish in time")
    } else {
        (ErrorKind::Other, "stream failed")
    };
    Error::new(
        kind,
        format!(
            "Presigned HTTP {method} {what} for {shown}: {}",
            causes(error)
        ),
    )
}

/// The chain of causes without the address, which `reqwest` would print with its query.
fn causes(error: &reqwest::Error) -> String {
    let mut causes = Vec::new();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        causes.push(cause.to_string());
        source = cause.source();
    }
    if causes.is_empty() {
        "the request was not completed".into()
    } else {
        causes.join(": ")
    }
}
