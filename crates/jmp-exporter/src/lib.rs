//! Runs sessions: opens device trees and serves them.
//!
//! Start reading at [`session`]; [`service`] is its gRPC face, [`listen`] its sockets,
//! [`lifecycle`] what happens to it when there are turns and [`hooks`] around them, [`leased`] the
//! same with a controller that hands the turns out.

pub mod hooks;
pub mod leased;
pub mod lifecycle;
mod lines;
pub mod listen;
mod runs;
mod service;
pub mod session;
pub mod status;
mod streams;

pub use hooks::{HookScript, HookScripts};
pub use leased::{
    ControllerOptions, Ended, LeasedExporter, LeasedOptions, LeasedProgress, LeasedShutdown,
};
pub use lifecycle::{Lifecycle, LifecycleOptions, STANDALONE_LEASE, ShutdownHandle};
pub use listen::DirectOptions;
pub use service::PASSPHRASE_KEY;
pub use session::{EndSession, Session, SessionOptions};
pub use status::{StatusBoard, StatusVersion};
