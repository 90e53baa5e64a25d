//! Devices for programs that know nothing of Jumpstarter: local ports and sockets, ssh, D-Bus
//! and web viewers.
//!
//! ```no_run
//! use jmp_client::forward::{Forward, Ssh};
//! use jmp_client::{Client, Dialer};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect(Dialer::from_environment()?).await?;
//! let device = client.device("ssh")?.handle()?;
//! let port = Forward::new(device).listen_tcp("127.0.0.1", 0).await?;
//! let status = Ssh::new(port.local_addr())
//!     .user("root")
//!     .args(["uname", "-a"])
//!     .run()
//!     .await?;
//! println!("{status}");
//! # Ok(())
//! # }
//! ```

pub use jmp_interfaces::network::dbus::{BusKind, Dbus};
pub use jmp_interfaces::network::forward::{Forward, TcpPortForward, UnixPortForward};
pub use jmp_interfaces::network::novnc::Novnc;
pub use jmp_interfaces::network::ssh::Ssh;
