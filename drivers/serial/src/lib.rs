//! Serial ports
//!
//! The hardware side starts at [`device`]: it opens what a pyserial [`url`] names as one [`port::Port`].
//! [`pace`] slows a writer down to a number of characters per second.

pub mod device;
pub mod hardware;
pub mod loopback;
pub mod pace;
pub mod port;
pub mod rfc2217;
mod spy;
mod tty;
pub mod url;
