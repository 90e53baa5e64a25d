//! Against a real HTTP server, whose answers the path of a request chooses.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper::{Request as Incoming, Response as Answer};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;

/// A request as the server saw it.
#[derive(Debug, Clone)]
struct Seen {
    line: String,
    headers: HeaderMap,
    body: Bytes,
}

struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    _tasks: JoinSet<()>,
}

impl Server {
    /// `elsewhere` is the origin to which `/away` redirects.
    async fn start(elsewhere: Option<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let log = Arc::clone(&log);
                let service = service_fn(move |request: Incoming<hyper::body::Incoming>| {
                    let log = Arc::clone(&log);
                    async move {
                        let (parts, body) = request.into_parts();
                        let body = body.collect().await.map(|body| body.to_bytes());
                        log.lock().unwrap().push(Seen {
                            line: format!("{} {}", parts.method, parts.uri),
                            headers: parts.headers,
                            body: body.unwrap_or_default(),
                        });
                        let path = parts.uri.path().to_owned();
                        Ok::<_, Infallible>(answer(&path, elsewhere).await)
                    }
                });
                connections.spawn(async move {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self {
            address,
            seen,
            _tasks: tasks,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn lines(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|seen| seen.line.clone()).collect()
    }

    fn last(&self) -> Seen {
        self.seen.lock().unwrap().last().unwrap().clone()
    }
}

async fn answer(path: &str, elsewhere: Option<SocketAddr>) -> Answer<Full<Bytes>> {
    let found = |status: u16, location: String| {
        Answer::builder()
            .status(status)
            .header("location", location)
            .body(Full::default())
            .unwrap()
    };
    let away = || format!("http://{}/data", elsewhere.unwrap());
    match path {
        "/data" | "/data%40x" | "/deep/data" => Answer::new(Full::from("content")),
        "/301" | "/302" | "/303" | "/307" | "/308" => found(
            path[1..].parse().unwrap(),
            "/data%40x?signature=s%2F1".into(),
        ),
        "/deep/relative" => found(302, "data".into()),
        "/loop" => found(302, "/loop".into()),
        "/away" => found(307, away()),
        "/nowhere" => found(302, "ftp://127.0.0.1/data".into()),
        "/slow" => {
            tokio::time::sleep(Duration::from_secs(30)).await;
            Answer::new(Full::default())
        }
        "/gzip" => Answer::builder()
            .header("content-encoding", "gzip")
            .body(Full::from(gzip(b"content").await))
            .unwrap(),
        _ => Answer::builder().status(403).body(Full::default()).unwrap(),
    }
}

async fn gzip(data: &'static [u8]) -> Vec<u8> {
    let source: ByteReader = Box::pin(futures::stream::iter([Ok(Bytes::from_static(data))]));
    let encoding = jmp_wire::compression::Encoding::Gzip;
    let chunks: Vec<_> = jmp_wire::compression::encode(encoding, source)
        .try_collect()
        .await
        .unwrap();
    chunks.concat()
}

async fn read(url: &str) -> Result<Vec<u8>> {
    read_with(url, BTreeMap::new()).await
}

async fn read_with(url: &str, headers: BTreeMap<String, String>) -> Result<Vec<u8>> {
    let chunks: Vec<_> = get(url, &headers).await?.try_collect().await?;
    Ok(chunks.concat())
}

fn body(size: usize) -> ByteReader {
    let chunks = vec![3; size];
    let chunks: Vec<_> = chunks
        .chunks(10_000)
        .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
        .collect();
    Box::pin(futures::stream::iter(chunks))
}

#[tokio::test]
async fn redirects_are_followed_with_the_address_untouched() {
    let server = Server::start(None).await;
    for status in [301, 302, 303, 307, 308] {
        let data = read(&server.url(&format!("/{status}?a=%40")))
            .await
            .unwrap();
        assert_eq!(data, b"content");
        let lines = server.lines();
        assert_eq!(
            lines[lines.len() - 2..],
            [
                format!("GET /{status}?a=%40"),
                "GET /data%40x?signature=s%2F1".to_owned()
            ]
        );
        assert!(!server.last().headers.contains_key("referer"));
    }
    assert_eq!(
        read(&server.url("/deep/relative")).await.unwrap(),
        b"content"
    );
    assert_eq!(server.last().line, "GET /deep/data");
    let before = server.lines().len();
    let error = read(&server.url("/loop?secret")).await.unwrap_err();
    assert!(error.message().contains("more than 10 times"), "{error}");
    assert_eq!(server.lines().len() - before, 11);
    let error = read(&server.url("/nowhere?secret")).await.unwrap_err();
    assert!(
        error.message().contains("without a usable Location"),
        "{error}"
    );
    assert!(!error.message().contains("secret"), "{error}");
}

#[tokio::test]
async fn credentials_stay_at_their_origin() {
    let other = Server::start(None).await;
    let server = Server::start(Some(other.address)).await;
    let names = [
        "Authorization",
        "Cookie",
        "X-Amz-Date",
        "x-ms-blob-type",
        "X-Goog-Hash",
    ];
    let mut headers: BTreeMap<_, _> = names
        .map(|name| (name.to_owned(), "secret".to_owned()))
        .into();
    headers.insert("X-Plain".to_owned(), "kept".to_owned());
    read_with(&server.url("/302"), headers.clone())
        .await
        .unwrap();
    assert!(
        names
            .iter()
            .all(|name| server.last().headers.contains_key(*name))
    );
    read_with(&server.url("/away"), headers).await.unwrap();
    let seen = other.last();
    assert!(names.iter().all(|name| !seen.headers.contains_key(*name)));
    assert_eq!(seen.headers["x-plain"], "kept");
}

#[tokio::test]
async fn http_compression_is_undone() {
    let server = Server::start(None).await;
    assert_eq!(read(&server.url("/gzip")).await.unwrap(), b"content");
}

#[tokio::test]
async fn data_is_put_with_its_length_also_after_a_redirect() {
    let server = Server::start(None).await;
    for (path, last) in [
        ("/data?signature=s", "PUT /data?signature=s"),
        ("/307", "PUT /data%40x?signature=s%2F1"),
    ] {
        let sent = put(&server.url(path), &BTreeMap::new(), body(300_000)).await;
        assert_eq!(sent.unwrap(), 300_000);
        let seen = server.last();
        assert_eq!(seen.line, last);
        assert_eq!(seen.headers["content-length"], "300000");
        assert!(!seen.headers.contains_key("transfer-encoding"));
        assert_eq!(seen.body.len(), 300_000);
    }
    assert_eq!(
        put(&server.url("/data"), &BTreeMap::new(), body(0))
            .await
            .unwrap(),
        0
    );
    assert_eq!(server.last().headers["content-length"], "0");
    let error = put(&server.url("/302"), &BTreeMap::new(), body(10))
        .await
        .unwrap_err();
    assert!(error.message().contains("302"), "{error}");
}

#[tokio::test]
async fn refusals_name_no_secret() {
    let server = Server::start(None).await;
    let mut url: Url = server
        .url("/forbidden?signature=topsecret#topsecret")
        .parse()
        .unwrap();
    url.set_username("topsecret").unwrap();
    url.set_password(Some("topsecret")).unwrap();
    let error = read(url.as_str()).await.unwrap_err();
    assert_eq!(
        error.message(),
        format!(
            "Presigned HTTP GET of http://{}/forbidden?[REDACTED] was answered with status 403 \
             Forbidden",
            server.address
        )
    );
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let error = read(&format!("http://{address}/x?topsecret"))
        .await
        .unwrap_err();
    let text = error.message();
    assert_eq!(error.code_name(), "UNKNOWN");
    assert!(
        text.starts_with("Presigned HTTP GET stream failed for "),
        "{text}"
    );
    assert!(
        text.contains("onnection refused") && !text.contains("topsecret"),
        "{text}"
    );
    for (url, text) in [("ftp://x/topsecret", "scheme `ftp`"), ("x y", "not a URL")] {
        let error = read(url).await.unwrap_err();
        assert_eq!(error.code_name(), "INVALID_ARGUMENT");
        assert!(error.message().contains(text) && !error.message().contains("topsecret"));
    }
}

#[tokio::test]
async fn a_transfer_ends_in_time() {
    let server = Server::start(None).await;
    let mut request = Request::new(Method::GET, &server.url("/slow?s"), &BTreeMap::new()).unwrap();
    request.timeout = Duration::from_millis(200);
    let error = request.get().await.map(drop).unwrap_err();
    assert_eq!(error.code_name(), "DEADLINE_EXCEEDED");
    assert!(
        error.message().contains("did not finish in time"),
        "{error}"
    );
}
