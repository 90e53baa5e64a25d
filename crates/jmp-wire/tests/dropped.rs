//! What becomes of a connection whose owner has gone.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use http::HeaderMap;
use hyper::body::Incoming;
use hyper::service::service_fn;
use jmp_wire::connection::{Connection, RpcBody, serve};
use jmp_wire::rpc::{self, StreamAnswer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::task::TaskTracker;

/// A peer that accepts a connection and one request, and then lets nothing in.
async fn stalled(mut io: tokio::io::DuplexStream) -> std::io::Result<()> {
    // Settings that allow no body at all, and their acknowledgement.
    io.write_all(&[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0])
        .await?;
    io.write_all(&[0, 0, 0, 4, 1, 0, 0, 0, 0]).await?;
    // The answer to the first request: `:status` 200, and no more.
    let mut received = vec![0; 24];
    io.read_exact(&mut received).await?;
    // Not before the request: an answer to nothing is an error.
    tokio::time::sleep(Duration::from_millis(200)).await;
    io.write_all(&[0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88]).await?;
    io.read_to_end(&mut received).await?;
    Ok(())
}

#[tokio::test]
async fn a_stalled_connection_ends_with_its_last_handle() {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let peer = tokio::spawn(stalled(theirs));
    let connection = Connection::handshake(ours, "peer", HeaderMap::new(), None)
        .await
        .expect("a connection");
    let mut opened = rpc::open_stream(&connection, HeaderMap::new())
        .await
        .expect("a stream");
    let chunk = bytes::Bytes::from_static(b"cannot leave");
    opened
        .stream
        .writer
        .send(chunk)
        .await
        .expect("room for a chunk");
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(opened);
    drop(connection);
    let ended = tokio::time::timeout(Duration::from_secs(10), peer).await;
    ended
        .expect("the peer sees the end")
        .expect("no panic")
        .expect("no error");
}

/// Sends back what a stream brings.
async fn echo(request: http::Request<Incoming>) -> Result<http::Response<RpcBody>, Infallible> {
    Ok(rpc::stream_response(Ok(StreamAnswer {
        metadata: HeaderMap::new(),
        outbound: rpc::read_frames(request.into_body()),
        ending: Box::pin(async { tonic::Status::ok("") }),
    })))
}

/// Whoever was given a stream need not hold the connection, however long the stream takes.
#[tokio::test(start_paused = true)]
async fn a_stream_keeps_its_connection() {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let peer = tokio::spawn(async move {
        let tasks = TaskTracker::new();
        serve(theirs, service_fn(echo), &tasks, None, pending()).await
    });
    let connection = Connection::handshake(ours, "peer", HeaderMap::new(), None)
        .await
        .expect("a connection");
    let opened = rpc::open_stream(&connection, HeaderMap::new())
        .await
        .expect("a stream");
    drop(connection);
    let mut stream = opened.stream;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(60)).await;
        let chunk = bytes::Bytes::from_static(b"still here");
        stream.writer.send(chunk.clone()).await.expect("is taken");
        let back = stream.reader.next().await.expect("no end");
        assert_eq!(back.expect("no error"), chunk);
    }
    drop(stream);
    let ended = tokio::time::timeout(Duration::from_secs(10), peer).await;
    // How it says that nobody is there any more does not matter.
    let _ = ended.expect("the peer sees the end").expect("no panic");
}
