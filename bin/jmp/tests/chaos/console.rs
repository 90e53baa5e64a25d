//! An open console: numbered lines to the exporter and back, none of which may be missing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jmp_driver::DriverHandle;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

/// Between two lines.
const PACE: Duration = Duration::from_millis(20);
/// `NNNNNNNN\n`.
const LINE: usize = 9;
/// How long the last lines may take to come back, faults of the network included.
const REST_LIMIT: Duration = Duration::from_secs(40);

/// How a console ended.
#[derive(Debug)]
pub enum End {
    /// Everything that was sent came back; that many lines.
    Whole(u64),
    /// It said that it ended, after that many lines without a gap.
    Broken(u64, String),
    /// What came back is not what was sent.
    Wrong(String),
    /// It never opened.
    Closed(String),
}

/// Keeps a console open until `stop`.
pub async fn console(handle: &DriverHandle, stop: &CancellationToken) -> End {
    let stream = match handle.open_stream("connect").await {
        Ok(stream) => stream,
        Err(error) => return End::Closed(error.to_string()),
    };
    let (mut reader, mut writer) = tokio::io::split(stream.into_io());
    let (sent, received) = (AtomicU64::new(0), AtomicU64::new(0));
    let writing = async {
        while !stop.is_cancelled() {
            let line = format!("{:08}\n", sent.load(Ordering::Relaxed));
            if let Err(error) = writer.write_all(line.as_bytes()).await {
                return Err(error.to_string());
            }
            if let Err(error) = writer.flush().await {
                return Err(error.to_string());
            }
            sent.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(PACE).await;
        }
        Ok(())
    };
    let reading = async {
        let mut line = [0; LINE];
        loop {
            if let Err(error) = reader.read_exact(&mut line).await {
                return End::Broken(received.load(Ordering::Relaxed), error.to_string());
            }
            let expected = format!("{:08}\n", received.load(Ordering::Relaxed));
            if line != expected.as_bytes() {
                let found = String::from_utf8_lossy(&line);
                return End::Wrong(format!("expected {expected:?}, found {found:?}"));
            }
            received.fetch_add(1, Ordering::Relaxed);
        }
    };
    let mut reading = std::pin::pin!(reading);
    let written = tokio::select! {
        end = &mut reading => return end,
        written = writing => written,
    };
    let rest = async {
        while written.is_ok() && received.load(Ordering::Relaxed) < sent.load(Ordering::Relaxed) {
            tokio::select! {
                end = &mut reading => return Some(end),
                // Looks again; the reader goes on.
                () = tokio::time::sleep(PACE) => {}
            }
        }
        match written {
            Ok(()) => None,
            // The reader says why.
            Err(_) => Some((&mut reading).await),
        }
    };
    match tokio::time::timeout(REST_LIMIT, rest).await {
        Ok(None) => End::Whole(received.load(Ordering::Relaxed)),
        Ok(Some(end)) => end,
        Err(_) => End::Wrong(format!(
            "{} lines were sent, {} came back, and the stream is open",
            sent.load(Ordering::Relaxed),
            received.load(Ordering::Relaxed)
        )),
    }
}
