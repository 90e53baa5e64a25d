//! Hashing what is on the card, a piece per step.

use sha2::{Digest, Sha256};

use super::medium::{Storage, StorageError};

/// How much one step hashes: a few milliseconds of work, some twenty where the
/// processor has no instructions for it.
pub(super) const CHUNK: u64 = 4 << 20;
const BUFFER: usize = 256 << 10;

/// A running SHA-256 over a range of the storage.
pub(super) struct DigestJob {
    hasher: Sha256,
    offset: u64,
    end: u64,
    generation: u64,
}

pub(super) enum Progress {
    More,
    Done([u8; 32]),
}

impl DigestJob {
    /// Over bytes `offset..end`, or as many of them as there are.
    pub(super) fn new(storage: &Storage, offset: u64, end: u64) -> Self {
        Self {
            hasher: Sha256::new(),
            offset,
            end,
            generation: storage.generation(),
        }
    }

    /// Hashes the next chunk.
    ///
    /// # Errors
    /// Those of reading, and [`StorageError::NotAtDut`] also when the storage
    /// went away and came back in between.
    pub(super) fn advance(&mut self, storage: &mut Storage) -> Result<Progress, StorageError> {
        if storage.generation() != self.generation {
            return Err(StorageError::NotAtDut {
                side: storage.side(),
            });
        }
        let mut buffer = vec![0; BUFFER];
        let stop = self.end.min(self.offset.saturating_add(CHUNK));
        while self.offset < stop {
            let wanted = (stop - self.offset).min(BUFFER as u64) as usize;
            let count = storage.read_as_board(self.offset, &mut buffer[..wanted])?;
            self.hasher.update(&buffer[..count]);
            self.offset += count as u64;
            if count < wanted {
                self.end = self.offset;
                break;
            }
        }
        if self.offset < self.end {
            return Ok(Progress::More);
        }
        Ok(Progress::Done(self.hasher.clone().finalize().into()))
    }
}

/// Lower-case hexadecimal, as `sha256sum` prints it.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::medium::MuxSide;

    #[test]
    fn chunks_add_up_to_the_whole_and_stop_at_the_end() {
        let bytes: Vec<u8> = (0..5u32 << 20).map(|index| (index >> 5) as u8).collect();
        let mut storage = Storage::new(Box::new(bytes.clone()));
        storage.switch(MuxSide::Dut);
        let mut job = DigestJob::new(&storage, 512, u64::MAX);
        assert!(matches!(job.advance(&mut storage), Ok(Progress::More)));
        let Ok(Progress::Done(digest)) = job.advance(&mut storage) else {
            panic!("not done")
        };
        assert_eq!(digest, <[u8; 32]>::from(Sha256::digest(&bytes[512..])));
    }

    #[test]
    fn a_moved_mux_ends_the_job_even_when_it_came_back() {
        let mut storage = Storage::new(Box::new(vec![0; 10]));
        storage.switch(MuxSide::Dut);
        let mut job = DigestJob::new(&storage, 0, 10);
        storage.switch(MuxSide::Host);
        storage.switch(MuxSide::Dut);
        assert!(matches!(
            job.advance(&mut storage),
            Err(StorageError::NotAtDut { .. })
        ));
    }
}
