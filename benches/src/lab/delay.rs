//! A slow network: a TCP proxy that hands everything on a while later, in both directions.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Bytes under way in one direction: far more than any window, so that only the windows limit.
const CAPACITY: usize = 256 << 20;
const READ: usize = 256 * 1024;

/// A proxy; dropping it ends its connections.
pub struct Proxy {
    port: u16,
    _tasks: JoinSet<()>,
}

// === impl Proxy ===

impl Proxy {
    /// Listens on a port of its own for connections to `target`; each direction takes `delay`.
    pub async fn start(target: String, delay: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let target = target.clone();
                connections.spawn(async move {
                    let _ = join(near, &target, delay).await;
                });
            }
        });
        Ok(Self {
            port,
            _tasks: tasks,
        })
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }
}

async fn join(near: TcpStream, target: &str, delay: Duration) -> io::Result<()> {
    let far = TcpStream::connect(target).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (near_reader, near_writer) = near.into_split();
    let (far_reader, far_writer) = far.into_split();
    tokio::try_join!(
        carry(near_reader, far_writer, delay),
        carry(far_reader, near_writer, delay)
    )?;
    Ok(())
}

type Late = (Instant, Bytes, OwnedSemaphorePermit);

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) -> io::Result<()> {
    let (sender, mut receiver) = mpsc::unbounded_channel::<Late>();
    let room = Arc::new(Semaphore::new(CAPACITY));
    let reading = async move {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(READ);
            if from.read_buf(&mut buffer).await? == 0 {
                return io::Result::Ok(());
            }
            let chunk = buffer.split().freeze();
            let size = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
            let room = Arc::clone(&room).acquire_many_owned(size);
            let room = room.await.map_err(io::Error::other)?;
            let due = Instant::now() + delay;
            if sender.send((due, chunk, room)).is_err() {
                return Ok(());
            }
        }
    };
    let writing = async move {
        while let Some((due, chunk, _room)) = receiver.recv().await {
            tokio::time::sleep_until(due).await;
            to.write_all(&chunk).await?;
        }
        to.shutdown().await
    };
    tokio::try_join!(reading, writing)?;
    Ok(())
}
