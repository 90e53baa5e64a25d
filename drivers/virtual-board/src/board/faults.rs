//! Things that go wrong on purpose, the same way for the same seed.

use super::config::FaultsConfig;
use super::random::SplitMix64;

/// The running state of the faults: one independent sequence for each, so that
/// for example a noisy line does not change which boots fail.
pub(super) struct Faults {
    config: FaultsConfig,
    boots: SplitMix64,
    serial: SplitMix64,
    flashes: SplitMix64,
}

/// How a boot goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BootFailure {
    /// Nothing at all on the console.
    Silent,
    /// The memory cannot be trained.
    Memory,
    /// The kernel does not find its root file system.
    Kernel,
}

/// One attempt to write to the storage, as the fault generator decided it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlashAttempt {
    fails_at: Option<u64>,
}

/// An injected failure of writing to the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "writing the storage at byte {offset} failed (fault injected by `faults.flash_fails`); flash again"
)]
pub struct FlashFault {
    /// How many bytes were written before it.
    pub offset: u64,
}

// === impl Faults ===

impl Faults {
    pub(super) fn new(config: FaultsConfig) -> Self {
        Self {
            boots: SplitMix64::for_purpose(config.seed, 1),
            serial: SplitMix64::for_purpose(config.seed, 2),
            flashes: SplitMix64::for_purpose(config.seed, 3),
            config,
        }
    }

    /// Decides about the boot that begins now.
    pub(super) fn boot(&mut self) -> Option<BootFailure> {
        let fails = self.boots.chance(self.config.does_not_boot);
        let kind = self.boots.next_below(3);
        fails.then_some(match kind {
            0 => BootFailure::Silent,
            1 => BootFailure::Memory,
            _ => BootFailure::Kernel,
        })
    }

    /// Flips a bit in some of the bytes that go to the console.
    pub(super) fn garble(&mut self, bytes: &mut [u8]) {
        if self.config.garbles_serial <= 0.0 {
            return;
        }
        for byte in bytes {
            let hit = self.serial.chance(self.config.garbles_serial);
            let bit = self.serial.next_below(8);
            if hit {
                *byte ^= 1 << bit;
            }
        }
    }

    /// Decides about the write that begins now. Without a known length it
    /// fails, if at all, in the first 64 KiB.
    pub(super) fn flash(&mut self, length: Option<u64>) -> FlashAttempt {
        let fails = self.flashes.chance(self.config.flash_fails);
        let offset = self.flashes.next_below(length.unwrap_or(64 << 10));
        FlashAttempt {
            fails_at: fails.then_some(offset),
        }
    }
}

// === impl FlashAttempt ===

impl FlashAttempt {
    /// How many of `length` bytes that are to be written at `offset` still get
    /// written. Fewer than `length` means that [`FlashAttempt::check`] fails after them.
    pub fn writable(&self, offset: u64, length: u64) -> u64 {
        self.fails_at
            .map_or(length, |at| at.saturating_sub(offset).min(length))
    }

    /// Whether the write may go on once `written` bytes are stored.
    ///
    /// # Errors
    /// The injected fault, from its offset on.
    pub fn check(&self, written: u64) -> Result<(), FlashFault> {
        match self.fails_at {
            Some(offset) if written >= offset => Err(FlashFault { offset }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn always(seed: u64) -> Faults {
        Faults::new(FaultsConfig {
            seed,
            does_not_boot: 1.0,
            garbles_serial: 1.0,
            flash_fails: 1.0,
        })
    }

    #[test]
    fn without_faults_nothing_happens() {
        let mut faults = Faults::new(FaultsConfig::default());
        let mut bytes = *b"login: ";
        faults.garble(&mut bytes);
        assert_eq!(&bytes, b"login: ");
        assert_eq!(faults.boot(), None);
        let attempt = faults.flash(Some(100));
        assert_eq!(
            (attempt.check(u64::MAX), attempt.writable(40, 60)),
            (Ok(()), 60)
        );
    }

    #[test]
    fn the_same_seed_repeats_and_every_kind_of_failure_occurs() {
        let (mut one, mut two) = (always(9), always(9));
        let boots: Vec<_> = (0..50).map(|_| one.boot().unwrap()).collect();
        assert_eq!(
            boots,
            (0..50).map(|_| two.boot().unwrap()).collect::<Vec<_>>()
        );
        for kind in [
            BootFailure::Silent,
            BootFailure::Memory,
            BootFailure::Kernel,
        ] {
            assert!(boots.contains(&kind), "{kind:?} never drawn");
        }
        assert_eq!(one.flash(Some(1000)), two.flash(Some(1000)));
    }

    #[test]
    fn a_failing_flash_stops_within_the_length() {
        let mut faults = always(4);
        for _ in 0..100 {
            let attempt = faults.flash(Some(1000));
            let fault = attempt.check(1000).unwrap_err();
            assert!(fault.offset < 1000);
            assert_eq!(attempt.writable(0, 1000), fault.offset);
            assert_eq!(attempt.writable(fault.offset + 1, 10), 0);
            assert!(fault.offset == 0 || attempt.check(fault.offset - 1).is_ok());
        }
    }
}
