//! The task of a hub: moves bytes while the device is open, and opens it again after a suspension.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::channel::mpsc;
use futures::{FutureExt, SinkExt, StreamExt};
use jmp_wire::stream::{ByteReader, ByteStream, ByteWriter};
use tokio_util::sync::CancellationToken;

use super::state::{CHUNK, Ended, Phase, Shared};

/// How long the device is left unread for the sake of a reader whose backlog is full.
pub(super) const PATIENCE: Duration = Duration::from_millis(250);

/// Serves a console until the device is lost or `stop` fires; then all its streams have ended.
pub(super) async fn run(
    shared: Arc<Shared>,
    device: Option<ByteStream>,
    mut writes: mpsc::Receiver<Bytes>,
    stop: CancellationToken,
) {
    let mut end = End {
        shared: &shared,
        reason: Ended::Lost(io::ErrorKind::Other, "its driver panicked".to_owned()),
    };
    end.reason = serve(&shared, device, &mut writes, &stop).await;
    if let (Ended::Lost(_, text), Some(log)) = (&end.reason, &shared.options.log) {
        let name = &shared.options.name;
        log.warning(format!(
            "{name} was lost: {text}; the next connection opens it again"
        ));
    }
    // Writers notice before readers do, so that nobody writes into the void after the end.
    drop(writes);
}

/// Ends the streams whatever becomes of the task.
struct End<'a> {
    shared: &'a Shared,
    reason: Ended,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.shared.end(&self.reason);
    }
}

async fn serve(
    shared: &Shared,
    mut device: Option<ByteStream>,
    writes: &mut mpsc::Receiver<Bytes>,
    stop: &CancellationToken,
) -> Ended {
    let mut suspensions = shared.suspensions.subscribe();
    loop {
        if let Some(device) = device.take() {
            let ended = tokio::select! {
                biased;
                () = stop.cancelled() => Some(Ended::Quietly),
                _ = suspensions.wait_for(|count| *count > 0) => None,
                ended = relay(shared, device, writes) => Some(ended),
            };
            if let Some(ended) = ended {
                return ended;
            }
        }
        shared.phase.send_replace(Phase::Suspended);
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ended::Quietly,
            _ = suspensions.wait_for(|count| *count == 0) => {}
        }
        let opened = tokio::select! {
            biased;
            () = stop.cancelled() => return Ended::Quietly,
            opened = (shared.opener)() => opened,
        };
        match opened {
            Ok(opened) => device = Some(opened),
            Err(error) => return Ended::lost(&error),
        }
        shared.phase.send_replace(Phase::Open);
    }
}

async fn relay(shared: &Shared, device: ByteStream, writes: &mut mpsc::Receiver<Bytes>) -> Ended {
    let mut read = pin!(read(shared, device.reader));
    tokio::select! {
        ended = &mut read => ended,
        ended = write(shared, device.writer, writes) => {
            // A device that takes no more may have left last words.
            let _ = read.now_or_never();
            ended
        }
    }
}

async fn read(shared: &Shared, mut reader: ByteReader) -> Ended {
    while let Some(chunk) = reader.next().await {
        let mut chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => return Ended::lost(&error),
        };
        while !chunk.is_empty() {
            let piece = chunk.split_to(chunk.len().min(CHUNK));
            make_room(shared, piece.len()).await;
            shared.deliver(&piece);
        }
        // A device in memory may never make anybody wait.
        tokio::task::consume_budget().await;
    }
    Ended::Quietly
}

/// Waits until every reader has room for `length` bytes, or has used up the patience of the
/// others.
async fn make_room(shared: &Shared, length: usize) {
    let room = async {
        while shared.would_lose(length) {
            shared.progress.notified().await;
        }
    };
    if shared.would_lose(length) && tokio::time::timeout(PATIENCE, room).await.is_err() {
        shared.give_up(length);
    }
}

async fn write(
    shared: &Shared,
    mut writer: ByteWriter,
    writes: &mut mpsc::Receiver<Bytes>,
) -> Ended {
    while let Some(chunk) = writes.next().await {
        shared.sending(&chunk);
        if let Err(error) = writer.send(chunk).await {
            return Ended::lost(&error);
        }
    }
    Ended::Quietly
}
