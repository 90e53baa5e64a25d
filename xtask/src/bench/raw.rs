//! What the machine gives with nothing of ours in between: loopback TCP, `cp`, and the disk.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::table::median;
use crate::{Outcome, steps};

/// Result of a stop-and-wait echo: one message out, the same message back, then the next.
pub struct Echo {
    /// Median round trip in microseconds.
    pub p50_us: f64,
    /// Payload in one direction, 10^6 bytes a second.
    pub megabytes_per_second: f64,
}

fn io(error: std::io::Error) -> String {
    format!("loopback TCP: {error}")
}

/// Does `work`, and tells with its result what the disk alone took meanwhile, in ms: the slowest hundredth
/// of small writes to a file of `folder` with a sync each, one in every `pause`.
pub fn beside_disk<T>(
    folder: &Path,
    pause: Duration,
    work: impl FnOnce() -> T,
) -> Outcome<(T, f64)> {
    let path = folder.join("disk");
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let file = File::create(&path).map_err(failed)?;
    let stop = AtomicBool::new(false);
    let sample = || -> std::io::Result<Vec<f64>> {
        let mut times = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let begin = Instant::now();
            file.write_all_at(&[0; 4096], 0)?;
            file.sync_data()?;
            times.push(begin.elapsed().as_secs_f64() * 1e3);
            std::thread::sleep(pause.saturating_sub(begin.elapsed()));
        }
        Ok(times)
    };
    let (done, times) = std::thread::scope(|scope| {
        let sampler = scope.spawn(sample);
        let done = work();
        stop.store(true, Ordering::Relaxed);
        (done, sampler.join())
    });
    let times = times.map_err(|_| "the disk was not measured")?;
    let mut times = times.map_err(failed)?;
    times.sort_by(f64::total_cmp);
    let slowest = times.get(times.len() * 99 / 100).copied();
    Ok((done, slowest.unwrap_or(f64::NAN)))
}

/// Echo of `size` bytes over loopback TCP without Nagle's delay.
pub fn tcp_echo(size: usize, rounds: u64) -> Outcome<Echo> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(io)?;
    let address = listener.local_addr().map_err(io)?;
    let server = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut peer, _) = listener.accept()?;
        peer.set_nodelay(true)?;
        let mut buffer = vec![0; size];
        while peer.read_exact(&mut buffer).is_ok() {
            peer.write_all(&buffer)?;
        }
        Ok(())
    });
    let mut stream = TcpStream::connect(address).map_err(io)?;
    stream.set_nodelay(true).map_err(io)?;
    let (mut buffer, begin) = (vec![7; size], Instant::now());
    let mut trips = Vec::new();
    for _ in 0..rounds {
        let sent = Instant::now();
        stream
            .write_all(&buffer)
            .and_then(|()| stream.read_exact(&mut buffer))
            .map_err(io)?;
        trips.push(sent.elapsed().as_secs_f64() * 1e6);
    }
    let seconds = begin.elapsed().as_secs_f64();
    drop(stream);
    let _ = server.join();
    Ok(Echo {
        p50_us: median(trips),
        megabytes_per_second: size as f64 * rounds as f64 / seconds / 1e6,
    })
}

/// A server that sends as many bytes as the first eight it receives say (little endian), then closes.
pub struct Source {
    port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Source {
    /// Listens on an ephemeral port.
    pub fn start() -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(io)?;
        let port = listener.local_addr().map_err(io)?.port();
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            for peer in listener.incoming().map_while(Result::ok) {
                if stopping.load(Ordering::SeqCst) {
                    return;
                }
                // One client after the other; a client that leaves early ends only its own turn.
                let _ = feed(peer);
            }
        });
        Ok(Self {
            port,
            stop,
            thread: Some(thread),
        })
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Reads `bytes` straight from the server; 10^6 bytes a second.
    pub fn one_way(&self, bytes: u64) -> Outcome<f64> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).map_err(io)?;
        stream.write_all(&bytes.to_le_bytes()).map_err(io)?;
        let (mut buffer, mut left, begin) = (vec![0; 65536], bytes, Instant::now());
        while left > 0 {
            match stream.read(&mut buffer).map_err(io)? {
                0 => return Err("loopback TCP: ended early".into()),
                read => left = left.saturating_sub(read as u64),
            }
        }
        Ok(bytes as f64 / begin.elapsed().as_secs_f64() / 1e6)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn feed(mut peer: TcpStream) -> std::io::Result<()> {
    let mut wanted = [0; 8];
    peer.read_exact(&mut wanted)?;
    let (block, mut left) = (vec![0x5a; 1 << 18], u64::from_le_bytes(wanted));
    while left > 0 {
        let size = block.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        peer.write_all(&block[..size])?;
        left -= size as u64;
    }
    peer.shutdown(Shutdown::Write)
}

/// Writes a file that does not compress to nothing, and leaves it in the page cache.
pub fn write_image(path: &Path, mebibytes: u64) -> Outcome {
    let fail = |error: std::io::Error| format!("cannot write {}: {error}", path.display());
    let mut file = File::create(path).map_err(fail)?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut block = vec![0_u8; 1 << 20];
    for _ in 0..mebibytes {
        for word in block.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        file.write_all(&block).map_err(fail)?;
    }
    Ok(())
}

/// `cp --reflink=never`; 10^6 bytes a second.
pub fn copy(from: &Path, to: &Path) -> Outcome<f64> {
    let size = std::fs::metadata(from)
        .map_err(|error| error.to_string())?
        .len();
    let begin = Instant::now();
    steps::must_succeed(Command::new("cp").arg("--reflink=never").arg(from).arg(to))?;
    let seconds = begin.elapsed().as_secs_f64();
    std::fs::remove_file(to).map_err(|error| error.to_string())?;
    Ok(size as f64 / seconds / 1e6)
}
