//! An RFC 2217 client: a serial port of another computer, reached over TCP.
//!
//! RFC 2217 puts the control of a serial port (baud rate, modem lines, break) into a telnet connection as the
//! subnegotiations of one telnet option, and the port's bytes into that connection's data.
//!
//! Where to start reading: [`codec`] turns bytes into telnet events and back, `negotiation` decides which telnet
//! options are agreed on, `session` is the state machine with both buffers and without a socket, `connection` drives
//! it over a socket, and [`client`] is what the driver uses.
//!
//! Invariants: no background task exists, so whoever reads, writes or controls drives the connection; memory is
//! bounded whatever the peer sends; every step that waits for an answer has a deadline.

pub mod client;
pub mod codec;
mod connection;
mod negotiation;
pub mod protocol;
mod session;

pub use client::{Rfc2217Client, Rfc2217Control};
pub use session::fuzz_rfc2217;
