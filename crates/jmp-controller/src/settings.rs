//! What an administrator can choose, with the defaults.

use std::time::Duration;

use jmp_wire::connection::KeepAlive;

use crate::convert::LabelPolicy;

/// Settings of a controller.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Public address, `host:port`: what credentials name.
    pub endpoint: String,
    /// The namespace of those who name none.
    pub namespace: String,
    /// How long tokens of clients and exporters are good.
    pub token_lifetime: Duration,
    /// How long ended leases are kept.
    pub lease_retention: Duration,
    /// How long audit records are kept.
    pub audit_retention: Duration,
    /// Tags that a lease may have.
    pub maximum_tags: usize,
    /// Labels that are hidden or going away.
    pub labels: LabelPolicy,
    /// How long a Dial may wait for its exporter.
    pub dial_wait: Duration,
    /// How long the process that already acts as an exporter has to show that it lives when
    /// another one comes with the same credential.
    pub takeover_wait: Duration,
    /// How long calls may go on after the controller was told to stop.
    pub drain: Duration,
    /// Bounds on what peers can make the controller hold.
    pub limits: Limits,
    /// A planted bug: callers are answered before what they changed is on disk.
    #[cfg(feature = "planted-bugs")]
    pub answer_before_save: bool,
}

/// Bounds on what peers can make the controller hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at one time.
    pub connections: usize,
    /// Connections at one time from one address.
    pub connections_per_address: usize,
    /// How long a TLS handshake may take.
    pub handshake: Duration,
    /// Size of a message of exporters, administrators and routers, bytes.
    pub message: usize,
    /// The same for what clients ask for.
    pub request: usize,
    /// The same for those without a good token: messages are read before it is found out who calls.
    pub stranger_message: usize,
    /// How long a connection may stay on which nobody has shown a good token.
    pub stranger: Duration,
    /// Failed authentications of one address within a minute, after which it has to wait.
    pub failures_per_minute: u32,
    /// Liveness probes of connections.
    pub keep_alive: KeepAlive,
    /// Changes that may wait for the engine.
    pub mailbox: usize,
}

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self {
            endpoint: "localhost:8082".into(),
            namespace: "default".into(),
            token_lifetime: Duration::from_secs(365 * 24 * 3600),
            lease_retention: Duration::from_secs(30 * 24 * 3600),
            audit_retention: Duration::from_secs(365 * 24 * 3600),
            maximum_tags: 10,
            labels: LabelPolicy::default(),
            dial_wait: Duration::from_secs(30),
            takeover_wait: Duration::from_secs(5),
            drain: Duration::from_secs(10),
            limits: Limits::default(),
            #[cfg(feature = "planted-bugs")]
            answer_before_save: false,
        }
    }
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 32_768,
            connections_per_address: 16_384,
            handshake: Duration::from_secs(10),
            message: 4 * 1024 * 1024,
            request: 128 * 1024,
            stranger_message: 4 * 1024,
            stranger: Duration::from_secs(60),
            failures_per_minute: 60,
            keep_alive: KeepAlive {
                interval: Duration::from_secs(20),
                timeout: Duration::from_secs(20),
            },
            mailbox: 4096,
        }
    }
}
