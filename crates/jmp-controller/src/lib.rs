//! The controller: leases, exporters, clients and administrators over the pure scheduler and a store.
//!
//! Start reading at [`Controller`]; [`engine`] is the one task that decides and writes, [`view`] is what
//! everybody reads, [`context::Context`] is what services work with.

pub mod authentication;
pub mod clock;
pub mod context;
pub mod convert;
pub mod engine;
pub mod exporter_sessions;
pub mod limits;
pub mod login;
pub mod manifest;
pub mod metrics;
pub mod names;
pub mod page;
pub mod probe;
pub mod routers;
pub mod settings;
pub mod view;
