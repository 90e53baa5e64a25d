//! The interfaces that drivers share: trait, typed client and client-side logic.
//!
//! One file an interface. No hardware crate is needed here, so clients can use all of it.

pub mod composite;
pub mod flasher;
pub mod network;
pub mod opendal;
pub mod power;
#[cfg(feature = "progress-bar")]
pub mod progress;
pub mod resource;
pub mod serial;
pub mod storage_mux;
