//! A small HTTP server for files: GET, HEAD and single ranges.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_RANGE, RANGE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

pub struct HttpServer {
    pub address: SocketAddr,
    /// Method and path with query of each request.
    pub seen: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

pub async fn serve(files: HashMap<&'static str, Bytes>) -> HttpServer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (files, log) = (Arc::new(files), Arc::clone(&seen));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let (files, log) = (Arc::clone(&files), Arc::clone(&log));
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                log.lock()
                    .unwrap()
                    .push(format!("{} {}", request.method(), request.uri()));
                let response = answer(&files, &request);
                async move { Ok::<_, Infallible>(response) }
            });
            connections.spawn(async move {
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    HttpServer {
        address,
        seen,
        _tasks: tasks,
    }
}

fn answer<B>(files: &HashMap<&str, Bytes>, request: &Request<B>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    let Some(data) = files.get(request.uri().path()) else {
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    };
    if request.method() == Method::HEAD {
        response
            .headers_mut()
            .insert("content-length", data.len().into());
        return response;
    }
    let range = request.headers().get(RANGE).map(|range| {
        let range = range.to_str().unwrap().strip_prefix("bytes=").unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let end = end.parse().map_or(data.len(), |end: usize| end + 1);
        start.parse::<usize>().unwrap()..end.min(data.len())
    });
    *response.body_mut() = match range {
        None => Full::new(data.clone()),
        Some(range) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let text = format!("bytes {}-{}/{}", range.start, range.end - 1, data.len());
            response
                .headers_mut()
                .insert(CONTENT_RANGE, text.parse().unwrap());
            Full::new(data.slice(range))
        }
    };
    response
}
