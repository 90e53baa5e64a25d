//! Figures of the Rust client for `cargo xtask bench`: `jmp-bench-client MEASURE COUNT`, one number on standard output.
//!
//! It runs inside a session of the bench's exporter (`JUMPSTARTER_HOST`); `benches/upstream.py` is the same for Python.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use jmp_client::{AllowList, ByteStream, Client, Dialer, DriverHandle};
use jmp_driver::NodeSpec;
use jmp_exporter::{Session, SessionOptions};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const USAGE: &str =
    "usage: jmp-bench-client call|echo64|echo64k|oneway|transfer|sessions|leases COUNT";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [measure, count] = arguments.as_slice() else {
        eprintln!("{USAGE}");
        return ExitCode::FAILURE;
    };
    match figure(measure, count).await {
        Ok(figure) => {
            println!("{figure}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("jmp-bench-client {measure} {count}: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn figure(measure: &str, count: &str) -> Outcome<f64> {
    let count: u64 = count.parse()?;
    match measure {
        "call" => call(count).await,
        "echo64" => Ok(echo(64, count).await?.p50_us),
        "echo64k" => Ok(echo(65536, count).await?.megabytes_per_second),
        "oneway" | "transfer" => one_way(count).await,
        "sessions" => sessions(count).await,
        "leases" => leases(count).await,
        _ => Err(USAGE.into()),
    }
}

async fn client() -> Outcome<Client> {
    Ok(Client::connect_with(Dialer::from_environment()?, &AllowList::parse("UNSAFE")).await?)
}

async fn device(name: &str) -> Outcome<DriverHandle> {
    Ok(client().await?.device(name)?.handle()?)
}

/// Median time of `power.on`, in microseconds.
async fn call(count: u64) -> Outcome<f64> {
    let power = device("power").await?;
    let mut times = Vec::new();
    for _ in 0..count {
        let begin = Instant::now();
        power.call::<()>("on", ()).await?;
        times.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    Ok(median(times))
}

struct Echo {
    p50_us: f64,
    megabytes_per_second: f64,
}

/// One message out, the same bytes back, then the next.
async fn echo(size: usize, count: u64) -> Outcome<Echo> {
    let mut stream = device("echo").await?.open_stream("connect").await?;
    let payload = Bytes::from(vec![7; size]);
    let (mut times, begin) = (Vec::new(), Instant::now());
    for _ in 0..count {
        let sent = Instant::now();
        stream.writer.send(payload.clone()).await?;
        receive(&mut stream, size as u64).await?;
        times.push(sent.elapsed().as_secs_f64() * 1e6);
    }
    let megabytes = size as f64 * count as f64 / 1e6;
    Ok(Echo {
        p50_us: median(times),
        megabytes_per_second: megabytes / begin.elapsed().as_secs_f64(),
    })
}

/// Reads `bytes` from the bench's byte source through the exporter; 10^6 bytes a second.
async fn one_way(bytes: u64) -> Outcome<f64> {
    let mut stream = device("source").await?.open_stream("connect").await?;
    let begin = Instant::now();
    stream
        .writer
        .send(Bytes::copy_from_slice(&bytes.to_le_bytes()))
        .await?;
    receive(&mut stream, bytes).await?;
    Ok(bytes as f64 / begin.elapsed().as_secs_f64() / 1e6)
}

/// Connects, reads the tree, makes a call, lets go; as often as asked. Returns connections a second.
async fn sessions(count: u64) -> Outcome<f64> {
    let begin = Instant::now();
    for _ in 0..count {
        device("power").await?.call::<()>("on", ()).await?;
    }
    Ok(count as f64 / begin.elapsed().as_secs_f64())
}

/// Opens and closes whole sessions in this process, ten drivers each. Returns by how many MiB the
/// process grew between the first tenth and the end.
async fn leases(count: u64) -> Outcome<f64> {
    let driver = NodeSpec::Driver {
        type_name: "jumpstarter_driver_power.driver.MockPower".into(),
        config: serde_json::Value::Null,
        description: None,
        methods_description: BTreeMap::new(),
        children: Vec::new(),
    };
    let root = NodeSpec::Group {
        description: None,
        children: (0..10)
            .map(|number| (format!("power{number}"), driver.clone()))
            .collect(),
    };
    let registry = driver_all::registry();
    let mut early = 0.0;
    for number in 0..count {
        let session = Session::open(&registry, &root, SessionOptions::default()).await?;
        session.start_local();
        session.close().await;
        if number == count / 10 {
            early = resident_mebibytes()?;
        }
    }
    Ok(resident_mebibytes()? - early)
}

fn resident_mebibytes() -> Outcome<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kibibytes: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .ok_or("no VmRSS in /proc/self/status")?
        .parse()?;
    Ok(kibibytes / 1024.0)
}

async fn receive(stream: &mut ByteStream, bytes: u64) -> Outcome<()> {
    let mut left = bytes;
    while left > 0 {
        let chunk = stream
            .reader
            .next()
            .await
            .ok_or("the stream ended early")??;
        left = left.saturating_sub(chunk.len() as u64);
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
