//! The controller: leases, exporters, clients and administrators over the pure scheduler and a store.
//!
//! Start reading at [`Controller`]; [`engine`] is the one task that decides and writes, [`view`] is what
//! everybody reads, [`context::Context`] is what services work with.

pub mod admin_service;
pub mod audit;
pub mod authentication;
pub mod client_service;
pub mod clock;
pub mod context;
pub mod controller;
pub mod controller_service;
pub mod convert;
pub mod credentials;
pub mod engine;
pub mod exporter_sessions;
pub mod fuzz;
pub mod health;
pub mod lease_service;
pub mod limits;
pub mod login;
pub mod manifest;
pub mod metrics;
pub mod names;
pub mod page;
pub mod probe;
pub mod router_control;
pub mod routers;
pub mod selection;
pub mod server;
pub mod settings;
mod upkeep;
pub mod view;

pub use controller::{Controller, Parts};
