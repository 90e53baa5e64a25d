//! The board itself, as a pure state machine: no clock, no threads, no input
//! or output apart from the [`Medium`] it boots from.
//!
//! The shell around it (a driver, a test) owns time and bytes:
//!
//! 1. call [`Board::step`] with the time since the board was created and what
//!    happened (power, console bytes, mux, or only the passing of time);
//! 2. hand the [`Output`]s on;
//! 3. sleep until [`Board::next_deadline`] or the next input, whichever comes
//!    first. Nothing ever needs to be polled.
//!
//! Invariants, each held by a property test: no input panics; the output of
//! one step and the memory kept between steps are bounded; time never runs
//! backwards; the same seed and inputs give the same transcript however the
//! steps are cut; the storage is readable by one side at a time.
//!
//! Start reading at `machine.rs`, then follow a boot: `rom.rs`, `uboot.rs`,
//! `linux.rs`. `image.rs` documents what a card must hold to boot.

mod command_line;
mod config;
mod console;
mod digest;
mod environment;
mod faults;
mod image;
mod kernel_log;
mod line_editor;
mod linux;
mod linux_commands;
mod linux_login;
mod machine;
mod medium;
mod power;
mod random;
mod rom;
mod stage;
#[cfg(test)]
mod tests;
mod uboot;
mod uboot_commands;

pub use config::{BoardConfig, ConfigError, FaultsConfig, Password};
pub use console::Output;
pub use faults::{FlashAttempt, FlashFault};
pub use image::{
    HEADER_LENGTH, ImageError, ImageHeader, ImageOptions, build_image, parse_header, write_image,
};
pub use machine::{Board, Input, MAXIMUM_STEP_OUTPUT};
pub use medium::{Medium, MuxSide, StorageError};
pub use power::Measurement;
pub use random::SplitMix64;
pub use stage::StageKind;
