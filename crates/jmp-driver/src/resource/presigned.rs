//! Resources behind an HTTP address: the exporter performs the request itself.
//!
//! Redirects are followed by hand so that the percent-encoding of signed addresses stays as it
//! is and credentials do not travel to another origin (facts: protocol 4.4). Texts begin as those
//! of 0.9.0 do; no query, user name or password of an address gets into them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::sync::OnceLock;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use jmp_wire::stream::ByteReader;
use reqwest::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Client, Method, Response, StatusCode, Url};

use super::file::{read_file, write_file};
use crate::error::{Error, ErrorKind, Result};

/// Longest time a transfer may take, as on 0.9.0.
const TIMEOUT: Duration = Duration::from_secs(7200);
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_REDIRECTS: usize = 10;

/// Reads the body of a GET request. Content encodings of HTTP are undone.
pub(super) async fn get(url: &str, headers: &BTreeMap<String, String>) -> Result<ByteReader> {
    Request::new(Method::GET, url, headers)?.get().await
}

/// Sends all data of `body` with a PUT request. Returns the bytes sent.
///
/// The data is spooled to a file first: object stores want its length in advance, and a redirect
/// needs it a second time.
pub(super) async fn put(
    url: &str,
    headers: &BTreeMap<String, String>,
    body: ByteReader,
) -> Result<u64> {
    Request::new(Method::PUT, url, headers)?.put(body).await
}

struct Request {
    method: Method,
    url: Url,
    headers: HeaderMap,
    timeout: Duration,
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
            timeout: TIMEOUT,
        })
    }

    async fn get(mut self) -> Result<ByteReader> {
        let response = self.send(None).await?;
        Ok(response
            .bytes_stream()
            .map_err(move |error| std::io::Error::from(self.broken(&error)))
            .boxed())
    }

    async fn put(mut self, body: ByteReader) -> Result<u64> {
        let spool = tempfile::tempfile()
            .map_err(|error| Error::from(error).context("spooling for a presigned PUT"))?;
        let (spool, length) = write_file(spool, body).await?;
        self.headers
            .insert(CONTENT_LENGTH, HeaderValue::from(length));
        self.send(Some(&spool)).await?;
        Ok(length)
    }

    /// Sends the request wherever redirects lead, with the whole of `body` each time.
    async fn send(&mut self, body: Option<&File>) -> Result<Response> {
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send_once(body).await?;
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

    async fn send_once(&self, body: Option<&File>) -> Result<Response> {
        let mut request = client()?
            .request(self.method.clone(), self.url.clone())
            .headers(self.headers.clone())
            .timeout(self.timeout);
        if let Some(file) = body {
            let mut file = file.try_clone()?;
            file.seek(SeekFrom::Start(0))?;
            request = request.body(reqwest::Body::wrap_stream(read_file(file)));
        }
        request.send().await.map_err(|error| self.broken(&error))
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
            let dropped: Vec<_> = self
                .headers
                .keys()
                .filter(|name| belongs_to_origin(name.as_str()))
                .cloned()
                .collect();
            for name in dropped {
                self.headers.remove(name);
            }
        }
        self.url = target;
    }

    /// The address without its query, which may be a signature, and without credentials.
    fn shown(&self) -> String {
        let mut shown = self.url.clone();
        shown.set_query(None);
        shown.set_fragment(None);
        // Both fail only for addresses without a host, which http does not have.
        let _ = shown.set_password(None);
        let _ = shown.set_username("");
        if self.url.query().is_some() {
            format!("{shown}?[REDACTED]")
        } else {
            shown.to_string()
        }
    }

    fn broken(&self, error: &reqwest::Error) -> Error {
        let (kind, what) = if error.is_timeout() {
            (ErrorKind::Timeout, "did not finish in time")
        } else {
            (ErrorKind::Other, "stream failed")
        };
        Error::new(
            kind,
            format!(
                "Presigned HTTP {} {what} for {}: {}",
                self.method,
                self.shown(),
                causes(error)
            ),
        )
    }
}

/// Headers that hold credentials or name the host.
fn belongs_to_origin(name: &str) -> bool {
    matches!(name, "authorization" | "cookie" | "proxy-authorization")
        || name == HOST.as_str()
        || ["x-amz-", "x-ms-", "x-goog-"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

fn client() -> Result<&'static Client> {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    if let Some(client) = CLIENT.get() {
        return Ok(client);
    }
    jmp_wire::tls::install_provider();
    let client = Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        // A header that is added when following a redirect would carry the query along.
        .referer(false)
        .connect_timeout(CONNECT_TIMEOUT)
        .build()
        .map_err(|error| Error::other(format!("HTTP client: {}", causes(&error))))?;
    Ok(CLIENT.get_or_init(|| client))
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

#[cfg(test)]
mod tests;
