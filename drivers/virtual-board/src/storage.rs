//! The card of the board behind its multiplexer, from the host's side.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use jmp_driver::{ByteReader, Driver, Error, ErrorKind, Interface, OpenContext, Resource, Result};
use jmp_interfaces::storage_mux::{
    StorageMux, StorageMuxFlasher, storage_mux_flasher_interface, storage_mux_interface,
};
use tokio::sync::{Mutex, RwLock};
use tokio::task::JoinHandle;

use crate::actor::BoardHandle;
use crate::board::{Board, FlashAttempt, MuxSide, StorageError};
use crate::driver::NoConfig;

/// Bytes that are written to or read from the file at once.
const BLOCK: usize = 1 << 20;

/// The storage of a virtual board: `host`, `dut`, `off`, `write`, `read`.
pub struct VirtualBoardStorage {
    card: Card,
    /// Held while somebody writes.
    writer: Mutex<()>,
}

/// The file that is the card, and the order of those who use it.
#[derive(Clone)]
pub(crate) struct Card {
    board: BoardHandle,
    file: Arc<File>,
    /// Shared by whoever accesses the file as the host, exclusive to whoever moves the
    /// multiplexer: no access of the host overlaps one of the board.
    gate: Arc<RwLock<()>>,
}

/// A write that is going on.
struct Writing {
    card: Card,
    attempt: FlashAttempt,
    moves: u64,
    /// Where the next block goes.
    end: u64,
    /// The block on its way to the file, while the next one is collected.
    block: Option<JoinHandle<std::io::Result<()>>>,
}

// === impl Card ===

impl Card {
    pub(crate) fn new(board: BoardHandle, file: File) -> Self {
        Self {
            board,
            file: Arc::new(file),
            gate: Arc::new(RwLock::new(())),
        }
    }

    /// Moves the multiplexer, after the blocks that are on their way.
    pub(crate) async fn switch(&self, side: MuxSide) -> Result<()> {
        let _moving = self.gate.write().await;
        self.board.run(move |run| run.switch_storage(side)).await
    }

    /// Brings the board into its first state, the storage to the host.
    pub(crate) async fn reset(&self) -> Result<()> {
        let _moving = self.gate.write().await;
        self.board.run(|run| run.reset()).await
    }

    async fn begin_write(&self) -> Result<Writing> {
        let _access = self.gate.read().await;
        let (attempt, moves) = self
            .board
            .run(|run| {
                let moves = run.moves();
                let board = run.board();
                board.check_host_access("write to")?;
                Ok((board.flash_attempt(None), moves))
            })
            .await?
            .map_err(storage_error)?;
        self.file.set_len(0)?;
        Ok(Writing {
            card: self.clone(),
            attempt,
            moves,
            end: 0,
            block: None,
        })
    }

    /// Refuses the host's access unless the storage is still where it was `moves` moves ago.
    async fn check(
        &self,
        moves: Option<u64>,
        check: impl FnOnce(&mut Board) -> Result<(), StorageError> + Send + 'static,
    ) -> Result<()> {
        let checked = self.board.run(move |run| {
            let moved = moves.is_some_and(|moves| moves != run.moves());
            (moved, check(run.board()))
        });
        let (moved, checked) = checked.await?;
        checked.map_err(storage_error)?;
        if moved {
            return Err(Error::device(
                "the storage was moved to another side while it was written; write it again",
            ));
        }
        Ok(())
    }

    /// The whole card as a stream of blocks.
    fn reader(&self) -> ByteReader {
        let card = self.clone();
        Box::pin(futures::stream::try_unfold(0, move |offset: u64| {
            let card = card.clone();
            async move {
                let block = card.read_block(offset).await?;
                let end = offset + block.len() as u64;
                Ok((!block.is_empty()).then_some((block, end)))
            }
        }))
    }

    async fn read_block(&self, offset: u64) -> Result<Bytes> {
        let access = Arc::clone(&self.gate).read_owned().await;
        self.check(None, |board| board.check_host_access("read"))
            .await?;
        let file = Arc::clone(&self.file);
        let read = tokio::task::spawn_blocking(move || {
            let mut block = vec![0; BLOCK];
            let mut filled = 0;
            while filled < BLOCK {
                match file.read_at(&mut block[filled..], offset + filled as u64) {
                    Ok(0) => break,
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            block.truncate(filled);
            drop(access);
            Ok(Bytes::from(block))
        });
        finished(read.await, "reading the storage file")
    }
}

// === impl Writing ===

impl Writing {
    /// Writes everything that `reader` gives, one block behind it.
    async fn run(mut self, mut reader: ByteReader) -> Result<()> {
        let (mut chunks, mut length) = (Vec::new(), 0);
        while let Some(chunk) = reader.next().await {
            let chunk = chunk.map_err(|error| {
                let read = self.end + length;
                Error::from(error).context(format!("the image broke off after {read} bytes"))
            })?;
            length += chunk.len() as u64;
            chunks.push(chunk);
            if length >= BLOCK as u64 {
                self.write(std::mem::take(&mut chunks), length).await?;
                length = 0;
            }
        }
        self.write(chunks, length).await?;
        self.settle().await
    }

    /// Starts writing a block of `length` bytes once the one before it is done.
    async fn write(&mut self, chunks: Vec<Bytes>, length: u64) -> Result<()> {
        self.settle().await?;
        let access = Arc::clone(&self.card.gate).read_owned().await;
        let (start, end) = (self.end, self.end + length);
        self.card
            .check(Some(self.moves), move |board| board.check_host_write(end))
            .await?;
        let allowed = self.attempt.writable(start, length);
        let file = Arc::clone(&self.card.file);
        self.block = Some(tokio::task::spawn_blocking(move || {
            let written = write_chunks(&file, start, &chunks, start + allowed);
            drop(access);
            written
        }));
        self.end = end;
        if let Err(fault) = self.attempt.check(end) {
            self.settle().await?;
            return Err(Error::device(fault.to_string()));
        }
        Ok(())
    }

    async fn settle(&mut self) -> Result<()> {
        match self.block.take() {
            Some(block) => finished(block.await, "writing the storage file"),
            None => Ok(()),
        }
    }
}

/// Writes `chunks` one after the other from `offset` on, but nothing at or after `end`.
fn write_chunks(file: &File, mut offset: u64, chunks: &[Bytes], end: u64) -> std::io::Result<()> {
    for chunk in chunks {
        let length = (end - offset).min(chunk.len() as u64);
        file.write_all_at(&chunk[..length as usize], offset)?;
        offset += length;
    }
    Ok(())
}

/// What a blocking task gave, with what it was about.
fn finished<T>(
    result: Result<std::io::Result<T>, tokio::task::JoinError>,
    what: &str,
) -> Result<T> {
    match result {
        Ok(result) => result.map_err(|error| Error::from(error).context(what)),
        Err(error) => Err(Error::other(format!("{what} failed: {error}"))),
    }
}

fn storage_error(error: StorageError) -> Error {
    let kind = match &error {
        StorageError::Read { .. } => ErrorKind::FileAccess,
        _ => ErrorKind::Device,
    };
    Error::new(kind, error.to_string()).with_source(error)
}

// === impl VirtualBoardStorage ===

impl VirtualBoardStorage {
    pub(crate) fn new(card: Card) -> Self {
        Self {
            card,
            writer: Mutex::new(()),
        }
    }
}

impl StorageMux for VirtualBoardStorage {
    async fn host(&self) -> Result<()> {
        self.card.switch(MuxSide::Host).await
    }

    async fn dut(&self) -> Result<()> {
        self.card.switch(MuxSide::Dut).await
    }

    async fn off(&self) -> Result<()> {
        self.card.switch(MuxSide::Off).await
    }

    async fn write(&self, source: Resource) -> Result<()> {
        let Ok(_writing) = self.writer.try_lock() else {
            return Err(Error::device(
                "somebody else is writing the storage; write again when that is done",
            ));
        };
        let writing = self.card.begin_write().await?;
        writing.run(source.into_reader().await?).await
    }

    async fn read(&self, target: Resource) -> Result<()> {
        // Before anything is sent, so that the caller gets an error and not an empty image.
        self.card
            .check(None, |board| board.check_host_access("read"))
            .await?;
        target.write_from(self.card.reader()).await?;
        Ok(())
    }
}

impl StorageMuxFlasher for VirtualBoardStorage {}

impl Driver for VirtualBoardStorage {
    const TYPES: &'static [&'static str] =
        &["jumpstarter_driver_virtual_board.driver.VirtualBoardStorage"];
    const SUMMARY: &'static str = "Storage of a virtual board";
    type Config = NoConfig;

    async fn open(_: NoConfig, _: OpenContext) -> Result<Self> {
        Err(crate::driver::only_inside_a_board())
    }

    fn interfaces() -> Vec<Interface<Self>> {
        vec![storage_mux_flasher_interface(), storage_mux_interface()]
    }
}
