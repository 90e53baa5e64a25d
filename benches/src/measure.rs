//! The client's side of the measurements.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use jmp_client::{AllowList, ByteStream, Client, Dialer, DriverHandle};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::Outcome;
use crate::devices::CHUNK;

/// Prints all figures as one JSON object.
pub async fn measure(socket: &Path, quick: bool) -> Outcome {
    let rounds = if quick { 300 } else { 5000 };
    let bulk: u64 = if quick { 64 << 20 } else { 2 << 30 };
    let client = Client::connect_with(Dialer::unix(socket), &AllowList::Unsafe).await?;
    let device = |name: &str| client.device(name)?.handle();
    let call = call_latency(&device("power")?, rounds).await?;
    let small = echo_latency(&device("echo")?, 64, rounds).await?;
    let large = echo_latency(&device("echo")?, 64 * 1024, rounds / 5).await?;
    let raw = tcp_echo_latency(64 * 1024, rounds / 5).await?;
    let up = upload(&device("sink")?, bulk).await?;
    let down = download(&device("source")?, bulk).await?;
    let figures = json!({
        "call_p50_seconds": call.as_secs_f64(),
        "echo_64_p50_seconds": small.as_secs_f64(),
        "echo_64k_bytes_per_second": 64.0 * 1024.0 / large.as_secs_f64(),
        "tcp_echo_64k_bytes_per_second": 64.0 * 1024.0 / raw.as_secs_f64(),
        "upload_bytes_per_second": bulk as f64 / up.as_secs_f64(),
        "download_bytes_per_second": bulk as f64 / down.as_secs_f64(),
        "resident_bytes": resident_memory()?,
    });
    println!("{figures}");
    Ok(())
}

/// Memory of this process, in bytes.
pub fn resident_memory() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kibibytes: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .ok_or("no VmRSS in /proc/self/status")?
        .parse()?;
    Ok(kibibytes * 1024)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

async fn call_latency(handle: &DriverHandle, rounds: usize) -> Outcome<Duration> {
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let start = Instant::now();
        handle.call::<()>("on", ()).await?;
        times.push(start.elapsed());
    }
    Ok(median(times))
}

async fn echo_latency(handle: &DriverHandle, size: usize, rounds: usize) -> Outcome<Duration> {
    let ByteStream {
        mut reader,
        mut writer,
    } = handle.open_stream("connect").await?;
    let chunk = Bytes::from(vec![7; size]);
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let start = Instant::now();
        writer.send(chunk.clone()).await?;
        let mut left = size;
        while left > 0 {
            let part = reader.next().await.ok_or("the echo ended early")??;
            left -= part.len();
        }
        times.push(start.elapsed());
    }
    Ok(median(times))
}

/// The same over a plain socket to a thread that does nothing else: what the machine can do.
async fn tcp_echo_latency(size: usize, rounds: usize) -> Outcome<Duration> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = tokio::task::spawn_blocking(move || -> std::io::Result<()> {
        use std::io::{Read, Write};
        let listener = listener.into_std()?;
        listener.set_nonblocking(false)?;
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = stream.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            stream.write_all(&buffer[..count])?;
        }
    });
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let chunk = vec![7; size];
    let mut answer = vec![0; size];
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let start = Instant::now();
        stream.write_all(&chunk).await?;
        stream.read_exact(&mut answer).await?;
        times.push(start.elapsed());
    }
    drop(stream);
    server.await??;
    Ok(median(times))
}

async fn upload(handle: &DriverHandle, bytes: u64) -> Outcome<Duration> {
    let ByteStream {
        mut reader,
        mut writer,
    } = handle.open_stream("connect").await?;
    let chunk = Bytes::from(vec![7; CHUNK]);
    let start = Instant::now();
    for _ in 0..bytes / CHUNK as u64 {
        writer.feed(chunk.clone()).await?;
    }
    writer.close().await?;
    // The sink answers once it has everything.
    reader.next().await.ok_or("the sink did not answer")??;
    Ok(start.elapsed())
}

async fn download(handle: &DriverHandle, bytes: u64) -> Outcome<Duration> {
    let ByteStream {
        mut reader,
        writer: _writer,
    } = handle.open_stream("connect").await?;
    let start = Instant::now();
    let mut left = bytes;
    while left > 0 {
        let chunk = reader.next().await.ok_or("the source ended early")??;
        left = left.saturating_sub(chunk.len() as u64);
    }
    Ok(start.elapsed())
}
