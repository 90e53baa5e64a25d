//! Leases and exporters of a controller: `jmp get|create|update|delete|describe`.

pub mod arguments;
pub mod create;
pub mod delete;
pub mod describe;
pub mod get;
pub mod update;
pub mod view;
pub mod waiting;
