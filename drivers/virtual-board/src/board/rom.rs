//! The boot ROM and the first loader: finds an image or asks for one.

use std::time::Duration;

use super::faults::BootFailure;
use super::image::{HEADER_LENGTH, ImageError, ImageHeader, parse_header};
use super::medium::{Storage, StorageError};
use super::power::Activity;
use super::stage::{Context, Next, Stage, StageKind};

const START: Duration = Duration::from_millis(80);
const MEMORY_TRAINING: Duration = Duration::from_millis(150);
const LOAD: Duration = Duration::from_millis(120);
const RETRY: Duration = Duration::from_secs(1);
const ATTEMPTS: u32 = 3;

pub(super) struct Rom {
    state: State,
}

enum State {
    /// Out of reset, nothing printed yet.
    Reset(Duration),
    /// Looking at the storage, for the nth time.
    Probing(Duration, u32),
    Training(Duration, Box<ImageHeader>),
    Loading(Duration, Box<ImageHeader>),
    /// Nothing to boot from: waits for a card or a key.
    Recovery,
}

impl Rom {
    pub(super) fn new(context: &Context<'_>) -> Self {
        Self {
            state: State::Reset(context.after(START)),
        }
    }

    fn probe(&mut self, attempt: u32, context: &mut Context<'_>) {
        match read_header(context.storage) {
            Ok(header) => {
                context.console.line("mmc0: image found");
                context.console.text(
                    "\nU-Boot SPL 2026.01 (Jan 05 2026 - 10:00:00 +0000)\nDRAM: training ... ",
                );
                self.state = State::Training(context.after(MEMORY_TRAINING), Box::new(header));
            }
            Err(reason) => {
                context.console.line(&format!("mmc0: {reason}"));
                if attempt < ATTEMPTS {
                    self.state = State::Probing(context.after(RETRY), attempt + 1);
                } else {
                    context.console.line("no boot device");
                    context
                        .console
                        .line("ROM recovery: insert a card, or press any key to try again");
                    self.state = State::Recovery;
                }
            }
        }
    }

    fn try_again(&mut self, context: &mut Context<'_>) {
        if matches!(self.state, State::Recovery) {
            context.console.line("trying mmc0 again");
            self.state = State::Probing(context.after(START), 1);
        }
    }
}

impl Stage for Rom {
    fn kind(&self) -> StageKind {
        StageKind::Rom
    }

    fn deadline(&self) -> Option<Duration> {
        match self.state {
            State::Reset(at)
            | State::Probing(at, _)
            | State::Training(at, _)
            | State::Loading(at, _) => Some(at),
            State::Recovery => None,
        }
    }

    fn advance(&mut self, context: &mut Context<'_>) -> Next {
        match std::mem::replace(&mut self.state, State::Recovery) {
            State::Reset(_) if context.boot_failure == Some(BootFailure::Silent) => {
                return Next::Hang;
            }
            State::Reset(_) => {
                context
                    .console
                    .text("\nBROM 2.4 (virtual-board)\nboot source: mmc0\n");
                self.state = State::Probing(context.at, 1);
            }
            State::Probing(_, attempt) => self.probe(attempt, context),
            State::Training(_, _) if context.boot_failure == Some(BootFailure::Memory) => {
                context.console.text(
                    "failed (lane 2: no eye found)\n### ERROR ### Please RESET the board ###\n",
                );
                return Next::Hang;
            }
            State::Training(_, header) => {
                context
                    .console
                    .text("OK, 512 MiB\nTrying to boot from MMC1\n");
                self.state = State::Loading(context.after(LOAD), header);
            }
            State::Loading(_, header) => return Next::UBoot(*header),
            State::Recovery => {}
        }
        Next::Stay
    }

    // While loading, keys stay in the receive buffer: U-Boot counts them as
    // having stopped the countdown, as on a real board.
    fn takes_input(&self) -> bool {
        matches!(self.state, State::Recovery)
    }

    fn input(&mut self, _byte: u8, context: &mut Context<'_>) -> Next {
        self.try_again(context);
        Next::Stay
    }

    fn storage_switched(&mut self, context: &mut Context<'_>) {
        if context.storage.length_as_board().is_ok() {
            self.try_again(context);
        }
    }

    fn activity(&self, _now: Duration) -> Activity {
        Activity::Rom
    }
}

/// Reads the header through the board's side; the error is what the ROM prints.
pub(super) fn read_header(storage: &mut Storage) -> Result<ImageHeader, &'static str> {
    let mut bytes = [0; HEADER_LENGTH];
    let count = storage
        .read_as_board(0, &mut bytes)
        .map_err(|error| match error {
            StorageError::NotAtDut { .. } => "no card detected",
            _ => "read error",
        })?;
    parse_header(&bytes[..count]).map_err(|error| match error {
        ImageError::BadHeaderDigest => "bad image header (digest mismatch)",
        ImageError::UnsupportedFormat { .. } => "image format not supported",
        ImageError::BadText { .. } => "bad image header (text field)",
        _ => "no valid image (bad magic)",
    })
}
