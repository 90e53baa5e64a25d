//! The kinds of configuration file.

pub mod access;
pub mod client;
pub mod common;
pub mod export;
pub mod exporter;
pub mod user;
