//! Client library: connect to an exporter, find its devices, use them.
//!
//! ```no_run
//! use jmp_client::{Client, Dialer};
//! use jmp_interfaces::power::PowerClient;
//!
//! # async fn example() -> jmp_client::Result<()> {
//! let client = Client::connect(Dialer::from_environment()?).await?;
//! let power: PowerClient = client.device("power")?.client()?;
//! power.on().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Start reading at [`client`]; [`dial`] says how connections are made, [`tree`] what a client
//! sees of the devices.

pub mod admin;
pub mod allow;
mod changes;
pub mod client;
pub mod console;
pub mod controller;
mod credentials;
pub mod dial;
mod error;
pub mod forward;
pub mod lease;
pub mod local;
mod remote;
pub mod tree;
pub mod tunnel;

pub use admin::Admin;
pub use allow::AllowList;
pub use changes::Changes;
pub use client::{Client, LogLine, Status};
pub use controller::{Controller, LeaseChange, LeaseFilter, LeaseRequest};
pub use credentials::check_credentials;
pub use dial::{Dial, Dialer, Io, trust_from_environment};
pub use error::{Error, Result};
pub use jmp_driver::{ByteStream, DriverHandle, ResourceHandle};
pub use local::{LocalRecords, LocalSession};
pub use tree::{Device, MethodInfo};
pub use tunnel::{LeaseDial, LeaseSocket};
