//! The record of the background session, written by `jmp local start`; see
//! [`jmp_client::local`].

pub use jmp_client::local::{LocalRecords, LocalSession, find, process_start_time};
