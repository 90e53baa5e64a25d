//! The storage of the board and the multiplexer in front of it.

use std::fs::File;
use std::io;

/// Something that bytes can be read from at an offset: the card in the slot.
pub trait Medium {
    /// Reads into `buffer` from `offset` on and returns how many bytes were
    /// read; 0 at and after the end.
    ///
    /// # Errors
    /// Whatever reading the underlying storage gives.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// How many bytes the medium holds; 0 when that cannot be found out.
    fn len(&self) -> u64;

    /// Whether it holds nothing.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Which side of the multiplexer the storage is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MuxSide {
    /// The exporter host, which can then write an image.
    #[default]
    Host,
    /// The board ("device under test"), which can then boot.
    Dut,
    /// Neither.
    Off,
}

/// Why one side cannot read the storage now.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The host asked while the storage was not connected to it.
    #[error(
        "the host cannot {operation} the storage: it is connected to {side}; switch it to the host first"
    )]
    NotAtHost {
        /// What the host wanted to do, as a verb.
        operation: &'static str,
        /// Where the storage is.
        side: MuxSide,
    },
    /// The board asked while the storage was not connected to it.
    #[error("the board cannot read the storage: it is connected to {side}")]
    NotAtDut {
        /// Where the storage is.
        side: MuxSide,
    },
    /// More was to be written than the storage holds.
    #[error(
        "{needed} bytes do not fit on the storage, which holds {capacity}: use a smaller image or raise `storage_size`"
    )]
    TooSmall {
        /// Bytes that were to be stored.
        needed: u64,
        /// Bytes that the storage holds.
        capacity: u64,
    },
    /// The medium itself failed.
    #[error("reading the storage at byte {offset} failed")]
    Read {
        /// Where.
        offset: u64,
        /// Why.
        source: io::Error,
    },
}

/// The medium behind the multiplexer. Every read goes through one of the two
/// sides, so that the exclusivity cannot be forgotten.
pub(super) struct Storage {
    medium: Box<dyn Medium + Send>,
    side: MuxSide,
    /// Counts the moves of the multiplexer: who started reading before one and
    /// goes on after it must not take the medium for the same.
    generation: u64,
}

// === impl MuxSide ===

impl std::fmt::Display for MuxSide {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Host => "the host",
            Self::Dut => "the board (DUT)",
            Self::Off => "neither side (off)",
        })
    }
}

// === impl Storage ===

impl Storage {
    pub(super) fn new(medium: Box<dyn Medium + Send>) -> Self {
        Self {
            medium,
            side: MuxSide::default(),
            generation: 0,
        }
    }

    pub(super) fn side(&self) -> MuxSide {
        self.side
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn switch(&mut self, side: MuxSide) {
        if side != self.side {
            self.side = side;
            self.generation += 1;
        }
    }

    pub(super) fn replace(&mut self, medium: Box<dyn Medium + Send>) {
        self.medium = medium;
        self.generation += 1;
    }

    pub(super) fn check_host(&self, operation: &'static str) -> Result<(), StorageError> {
        match self.side {
            MuxSide::Host => Ok(()),
            side => Err(StorageError::NotAtHost { operation, side }),
        }
    }

    pub(super) fn read_as_host(
        &mut self,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, StorageError> {
        self.check_host("read")?;
        self.read(offset, buffer)
    }

    pub(super) fn read_as_board(
        &mut self,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<usize, StorageError> {
        self.length_as_board()?;
        self.read(offset, buffer)
    }

    pub(super) fn length_as_board(&self) -> Result<u64, StorageError> {
        match self.side {
            MuxSide::Dut => Ok(self.medium.len()),
            side => Err(StorageError::NotAtDut { side }),
        }
    }

    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, StorageError> {
        let mut filled = 0;
        while filled < buffer.len() {
            let position = offset.saturating_add(filled as u64);
            match self.medium.read_at(position, &mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(StorageError::Read {
                        offset: position,
                        source,
                    });
                }
            }
        }
        Ok(filled)
    }
}

// === impl Medium ===

impl Medium for Vec<u8> {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let start = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(self.len());
        let count = buffer.len().min(self.len() - start);
        buffer[..count].copy_from_slice(&self[start..start + count]);
        Ok(count)
    }

    fn len(&self) -> u64 {
        Vec::len(self) as u64
    }
}

impl Medium for File {
    // Not seek-and-read: the host writes through a handle that may share the cursor.
    #[cfg(unix)]
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        match std::os::unix::fs::FileExt::read_at(self, buffer, offset) {
            // The system refuses offsets that no file can reach.
            Err(error)
                if error.kind() == io::ErrorKind::InvalidInput && offset >= Medium::len(self) =>
            {
                Ok(0)
            }
            result => result,
        }
    }

    #[cfg(windows)]
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(self, buffer, offset)
    }

    fn len(&self) -> u64 {
        self.metadata().map_or(0, |metadata| metadata.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_and_a_vector_read_alike() {
        let bytes: Vec<u8> = (0..=255).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        for (offset, length) in [(0, 10), (250, 10), (256, 1), (u64::MAX >> 1, 4), (7, 0)] {
            let mut from_vector = vec![0; length];
            let mut from_file = vec![0; length];
            let count = bytes.clone().read_at(offset, &mut from_vector).unwrap();
            assert_eq!(
                Medium::read_at(&mut file, offset, &mut from_file).unwrap(),
                count
            );
            assert_eq!(from_file, from_vector);
        }
        assert_eq!(Medium::len(&file), Medium::len(&bytes));
    }

    #[test]
    fn only_one_side_reads() {
        let mut storage = Storage::new(Box::new(vec![1, 2, 3]));
        let mut buffer = [0; 8];
        for side in [MuxSide::Host, MuxSide::Dut, MuxSide::Off] {
            storage.switch(side);
            assert_eq!(
                storage.read_as_host(0, &mut buffer).is_ok(),
                side == MuxSide::Host
            );
            assert_eq!(
                storage.read_as_board(0, &mut buffer).is_ok(),
                side == MuxSide::Dut
            );
        }
        insta::assert_snapshot!(storage.check_host("write to").unwrap_err(),
            @"the host cannot write to the storage: it is connected to neither side (off); switch it to the host first");
    }
}
