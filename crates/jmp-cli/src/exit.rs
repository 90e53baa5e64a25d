//! Exit codes, the same in all commands.

/// Success.
pub const OK: u8 = 0;
/// Something failed while the command ran.
pub const FAILURE: u8 = 1;
/// The command line made no sense (`jmp`), or the command was interrupted.
pub const USAGE: u8 = 2;
/// A program could be found but not run.
pub const NOT_EXECUTABLE: u8 = 126;
/// A program could not be found.
pub const NOT_FOUND: u8 = 127;
