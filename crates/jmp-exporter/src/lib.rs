//! Runs sessions: opens device trees and serves them.
//!
//! Start reading at [`session`]; [`service`] is its gRPC face, [`listen`] its sockets.

pub mod listen;
mod service;
pub mod session;
pub mod status;
mod streams;

pub use listen::DirectOptions;
pub use service::PASSPHRASE_KEY;
pub use session::{EndSession, Session, SessionOptions};
pub use status::{StatusBoard, StatusVersion};
