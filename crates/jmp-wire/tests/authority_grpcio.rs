//! The authority filter before a real C-core client: grpcio, over a unix socket.
//!
//! Needs a Python with grpcio, named by `JMP_TEST_PYTHON` as the project's test command does.

use std::convert::Infallible;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use jmp_wire::authority::AuthorityFilter;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixListener;
use tokio::task::JoinSet;

const DEADLINE: Duration = Duration::from_secs(60);

/// Calls with growing and repeating metadata, so that the dynamic table fills and evicts, from the
/// blocking and from the asyncio client, with payloads of many frames. Prints how many succeeded.
const CLIENT: &str = r#"
import asyncio, sys
import grpc, grpc.aio

target = "unix:" + sys.argv[1]
large = bytes(range(256)) * 400
done = 0

with grpc.insecure_channel(target) as channel:
    echo = channel.unary_unary("/test.Echo/Echo")
    for index in range(300):
        metadata = [(f"x-key-{index % 90}", f"value%{index}" * 3), ("x-bin", b"\xff%d" % index)]
        payload = large if index % 50 == 0 else b"%2F"
        assert echo(payload, metadata=metadata, timeout=20) == payload
        done += 1

async def concurrent():
    async with grpc.aio.insecure_channel(target) as channel:
        echo = channel.unary_unary("/test.Echo/Echo")
        async def call(index):
            assert await echo(large, metadata=[("x-n", f"%{index}")], timeout=20) == large
        await asyncio.gather(*(call(index) for index in range(100)))

asyncio.run(concurrent())
print(done + 100)
"#;

/// Answers every call with its own bytes, as gRPC.
async fn echo(
    request: Request<Incoming>,
) -> Result<Response<impl http_body::Body<Data = Bytes, Error = Infallible>>, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [Ok(Frame::data(body)), Ok(Frame::trailers(trailers))];
    let mut response = Response::new(StreamBody::new(futures::stream::iter(frames)));
    let content_type = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", content_type);
    Ok(response)
}

async fn serve_connection<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static>(io: IO) {
    // How a connection ends is the client's affair.
    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(io), service_fn(echo))
        .await;
}

async fn serve(listener: UnixListener, filtered: bool) {
    let mut connections = JoinSet::new();
    while let Ok((io, _)) = listener.accept().await {
        if filtered {
            connections.spawn(serve_connection(AuthorityFilter::new(io)));
        } else {
            connections.spawn(serve_connection(io));
        }
    }
}

/// Runs the client against a server at `socket`; gives its exit, output and complaints.
async fn run_client(python: &str, socket: &Path, filtered: bool) -> (bool, String, String) {
    let listener = UnixListener::bind(socket).expect("bind");
    let mut server = JoinSet::new();
    server.spawn(serve(listener, filtered));
    let client = tokio::process::Command::new(python)
        .args(["-c", CLIENT])
        .arg(socket)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(DEADLINE, client).await;
    let output = output.expect("in time").expect("python runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.success(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[tokio::test]
async fn c_core_clients_reach_us_over_a_unix_socket() {
    let Ok(python) = std::env::var("JMP_TEST_PYTHON") else {
        assert!(
            std::env::var_os("CI").is_none(),
            "JMP_TEST_PYTHON must name a Python with grpcio"
        );
        eprintln!("SKIPPED: JMP_TEST_PYTHON does not name a Python with grpcio");
        return;
    };
    let directory = tempfile::tempdir().expect("directory");
    // Everything that C-core escapes or leaves as it is.
    let socket = directory.path().join("a b:c@[d]~e%f.sock");

    let (succeeded, output, complaint) = run_client(&python, &socket, true).await;
    assert!(succeeded, "{complaint}");
    assert_eq!(output.trim(), "400");

    // Without the filter the first call fails, so what was just seen is the filter's doing.
    let socket = directory.path().join("unfiltered.sock");
    let (succeeded, _, complaint) = run_client(&python, &socket, false).await;
    assert!(
        !succeeded,
        "C-core has changed: is the filter still needed?"
    );
    assert!(complaint.contains("RST_STREAM"), "{complaint}");
}
