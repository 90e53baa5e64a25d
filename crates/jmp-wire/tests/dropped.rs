//! What becomes of a connection whose owner has gone.

use std::time::Duration;

use futures::SinkExt;
use http::HeaderMap;
use jmp_wire::connection::Connection;
use jmp_wire::rpc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
