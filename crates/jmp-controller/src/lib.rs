//! The controller: leases, exporters, clients and administrators over the pure scheduler and a store.

pub mod convert;
pub mod limits;
pub mod login;
pub mod manifest;
pub mod names;
pub mod page;
