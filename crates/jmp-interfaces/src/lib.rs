//! The interfaces that drivers share: trait, typed client and client-side logic.
//!
//! One file an interface. No hardware crate is needed here, so clients can use all of it.

pub mod composite;
pub mod flasher;
pub mod network;
pub mod power;
pub mod serial;
pub mod storage_mux;
