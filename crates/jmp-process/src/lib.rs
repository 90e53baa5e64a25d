//! Child processes that die with their owner, pseudo terminals, raw terminals.
//!
//! # Supervised children
//!
//! [`Command`] starts a program that cannot outlive the process that started it, not even when
//! that process is killed with SIGKILL. Three processes take part:
//!
//! ```text
//! owner ──control socket── supervisor ── command ── whatever it starts
//! ```
//!
//! The supervisor is this very executable with a hidden first argument; `main` hands over to
//! [`maybe_run_supervisor`] before it does anything else. It holds one end of a socket whose
//! other end only the owner has. The kernel closes that end however the owner ends, and the
//! supervisor then sends SIGTERM to everything below it, SIGKILL after the grace time, and
//! leaves when the last one is gone. It is a child subreaper, so a grandchild that detached
//! itself (`setsid`, double fork) is still below it. Should the supervisor be the one that is
//! killed, the command gets SIGKILL by its parent-death signal, and the owner kills its group.
//!
//! The command itself runs in a session of its own, on a pseudo terminal if so asked. It is
//! started through a second short stage of the same executable, because creating a session
//! between fork and exec takes unsafe code in the forking process and none in a fresh one. The
//! standard streams travel as descriptors over the control socket, so nothing is ever
//! inheritable by a child that is started at the same time elsewhere in the owner.
//!
//! # Terminals
//!
//! [`RawTerminal`] puts the terminal into raw mode and back; [`StdinReader`] reads standard
//! input byte by byte without blocking a thread and without leaving `O_NONBLOCK` behind;
//! [`Foreground`] runs a program in the foreground for `jmp shell`.
//!
//! Linux is what is exercised. Elsewhere there is no subreaper and no `/proc`: there the
//! supervisor ends the process group only.

mod child;
mod command;
mod descendants;
mod error;
mod foreground;
mod launch;
mod link;
mod pty;
mod status;
mod stdin;
mod supervisor;
mod terminal;
#[cfg(feature = "testing")]
pub mod testing;

pub use child::Child;
pub use command::{ChildStderr, ChildStdin, ChildStdout, Command, Output, Stdio};
pub use command::{DEFAULT_GRACE, set_supervisor_executable};
pub use error::SpawnError;
pub use foreground::{Foreground, ForegroundChild};
pub use pty::{Pty, WindowSize};
pub use rustix::process::Signal;
pub use status::ExitStatus;
pub use stdin::StdinReader;
pub use supervisor::maybe_run_supervisor;
pub use terminal::{RawTerminal, is_terminal, window_size};
