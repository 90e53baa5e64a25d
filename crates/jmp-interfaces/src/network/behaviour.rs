//! What every network driver has to do, as one suite for their tests.
//!
//! The driver under test leads to a peer that echoes: bytes as they come, until the end of its
//! input, which it answers by the end of its output.

use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use jmp_driver::{ByteReader, ByteStream, ByteWriter, DriverHandle};
use tokio::sync::watch;

/// Longest wait for anything here.
const PATIENCE: Duration = Duration::from_secs(20);
/// Streams in the test of many at once.
const MANY: usize = 50;

/// What kind of network it is.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Largest chunk that the network carries.
    pub largest: usize,
    /// Each chunk arrives as it was sent.
    pub keeps_boundaries: bool,
    /// The end of the input is passed on and answered.
    pub half_close: bool,
    /// How many connections the peer has at the moment, if it knows.
    pub live: Option<watch::Receiver<usize>>,
}

// === impl Peer ===

impl Peer {
    /// A peer with half-close and without boundaries, such as TCP.
    pub fn bytes() -> Self {
        Self {
            largest: 1024 * 1024,
            keeps_boundaries: false,
            half_close: true,
            live: None,
        }
    }
}

/// Runs the whole suite on the stream `connect`.
///
/// # Panics
///
/// With the first thing that is not as it should be.
pub async fn check(device: &DriverHandle, peer: Peer) {
    step("two streams are independent", independent(device, &peer)).await;
    step("an echo is intact", intact(device, &peer)).await;
    step("many streams at once", many(device, &peer)).await;
    if peer.keeps_boundaries {
        step("boundaries are kept", boundaries(device)).await;
    }
    if peer.half_close {
        step("half-close", half_close(device)).await;
    }
    if let Some(live) = peer.live {
        step(
            "dropping a stream ends the connection",
            dropped(device, live),
        )
        .await;
    }
}

async fn step(name: &str, test: impl Future<Output = ()>) {
    if tokio::time::timeout(PATIENCE, test).await.is_err() {
        panic!("{name}: not finished after {} s", PATIENCE.as_secs());
    }
}

async fn open(device: &DriverHandle) -> ByteStream {
    match device.open_stream("connect").await {
        Ok(stream) => stream,
        Err(error) => panic!("connect: {error}"),
    }
}

/// Bytes without a pattern, the same ones for the same seed.
pub fn noise(seed: u64, length: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

async fn send(writer: &mut ByteWriter, data: Bytes) {
    if let Err(error) = writer.send(data).await {
        panic!("sending: {error}");
    }
}

/// Receives as many bytes as expected.
async fn expect(reader: &mut ByteReader, expected: &Bytes) {
    let mut received = Vec::with_capacity(expected.len());
    while received.len() < expected.len() {
        match reader.next().await {
            Some(Ok(chunk)) => received.extend_from_slice(&chunk),
            Some(Err(error)) => panic!("receiving: {error}"),
            None => panic!("end after {} of {} bytes", received.len(), expected.len()),
        }
    }
    assert!(
        received == *expected,
        "{} bytes came back different",
        expected.len()
    );
}

async fn echo(stream: &mut ByteStream, data: Bytes) {
    let sending = send(&mut stream.writer, data.clone());
    futures::join!(sending, expect(&mut stream.reader, &data));
}

async fn independent(device: &DriverHandle, peer: &Peer) {
    let (mut first, mut second) = (open(device).await, open(device).await);
    let (left, right) = (noise(1, 100), noise(2, 100));
    send(&mut first.writer, left.clone()).await;
    send(&mut second.writer, right.clone()).await;
    expect(&mut second.reader, &right).await;
    expect(&mut first.reader, &left).await;
    drop(first);
    echo(&mut second, noise(3, peer.largest.min(1000))).await;
}

async fn intact(device: &DriverHandle, peer: &Peer) {
    let mut stream = open(device).await;
    let sizes = [
        1, 2, 127, 1024, 4095, 65_507, 65_536, 65_537, 300_000, 1_048_576,
    ];
    for (seed, size) in sizes.into_iter().enumerate() {
        if size <= peer.largest {
            echo(&mut stream, noise(seed as u64, size)).await;
        }
    }
}

async fn many(device: &DriverHandle, peer: &Peer) {
    let streams = (0..MANY).map(|number| async move {
        let mut stream = open(device).await;
        for round in 0..3 {
            // Datagrams beyond the peer's receive buffer would be lost, rightly.
            let largest = if peer.keeps_boundaries {
                1000
            } else {
                peer.largest
            };
            let size = (number * 301 + 1).min(largest);
            echo(&mut stream, noise((number * 3 + round) as u64, size)).await;
        }
    });
    futures::future::join_all(streams).await;
}

async fn boundaries(device: &DriverHandle) {
    let mut stream = open(device).await;
    let chunks: Vec<_> = (1..20).map(|size| noise(size as u64, size)).collect();
    for chunk in &chunks {
        send(&mut stream.writer, chunk.clone()).await;
    }
    for chunk in &chunks {
        match stream.reader.next().await {
            Some(Ok(received)) => assert_eq!(received, chunk),
            other => panic!("expected a chunk, got {other:?}"),
        }
    }
}

async fn half_close(device: &DriverHandle) {
    let ByteStream {
        mut reader,
        mut writer,
    } = open(device).await;
    let data = noise(9, 200_000);
    let sending = async {
        send(&mut writer, data.clone()).await;
        if let Err(error) = writer.close().await {
            panic!("half-close: {error}");
        }
    };
    futures::join!(sending, expect(&mut reader, &data));
    match reader.next().await {
        None => {}
        Some(other) => panic!("expected the end, got {other:?}"),
    }
}

async fn dropped(device: &DriverHandle, mut live: watch::Receiver<usize>) {
    let mut stream = open(device).await;
    echo(&mut stream, noise(4, 10)).await;
    if live.wait_for(|count| *count >= 1).await.is_err() {
        panic!("the peer is gone");
    }
    drop(stream);
    if live.wait_for(|count| *count == 0).await.is_err() {
        panic!("the peer is gone");
    }
}
