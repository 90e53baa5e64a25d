//! What the router counts.

use std::fmt;

use jmp_auth::TunnelRole;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Why a peer was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum RefusalReason {
    Draining,
    NotReady,
    Token,
    TokenUsed,
    Role,
    Closed,
    ParkedLimit,
    Encoding,
    Connections,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    reason: RefusalReason,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabels {
    direction: &'static str,
}

/// The router's metrics; updating them is one atomic operation.
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) tunnels: Gauge,
    pub(crate) parked: Gauge,
    pub(crate) connections: Gauge,
    pub(crate) controller: Gauge,
    pub(crate) pairings: Counter,
    refusals: Family<RefusalLabels, Counter>,
    to_client: Counter,
    to_exporter: Counter,
    unknown: Counter,
}

// === impl Metrics ===

impl Metrics {
    pub(crate) fn new() -> Self {
        let bytes = Family::<DirectionLabels, Counter>::default();
        let towards = |direction| bytes.get_or_create_owned(&DirectionLabels { direction });
        let mut metrics = Self {
            registry: Registry::with_prefix("jumpstarter_router"),
            tunnels: Gauge::default(),
            parked: Gauge::default(),
            connections: Gauge::default(),
            controller: Gauge::default(),
            pairings: Counter::default(),
            refusals: Family::default(),
            to_client: towards("to_client"),
            to_exporter: towards("to_exporter"),
            unknown: towards("unknown"),
        };
        let registry = &mut metrics.registry;
        registry.register(
            "tunnels",
            "Tunnels with both peers",
            metrics.tunnels.clone(),
        );
        registry.register(
            "parked_peers",
            "Peers that wait for their partner",
            metrics.parked.clone(),
        );
        registry.register(
            "connections",
            "Open connections of peers",
            metrics.connections.clone(),
        );
        registry.register(
            "controller_connected",
            "1 while the controller's control service is connected",
            metrics.controller.clone(),
        );
        registry.register(
            "pairings",
            "Tunnels joined since the start",
            metrics.pairings.clone(),
        );
        registry.register(
            "refusals",
            "Peers not let in, by reason",
            metrics.refusals.clone(),
        );
        registry.register("bytes", "Bytes forwarded, by direction", bytes);
        metrics
    }

    pub(crate) fn refused(&self, reason: RefusalReason) {
        self.refusals.get_or_create(&RefusalLabels { reason }).inc();
    }

    /// The counter of bytes delivered to a peer of this role.
    pub(crate) fn bytes_to(&self, role: Option<TunnelRole>) -> Counter {
        match role {
            Some(TunnelRole::Client) => self.to_client.clone(),
            Some(TunnelRole::Exporter) => self.to_exporter.clone(),
            None => self.unknown.clone(),
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.to_client.get() + self.to_exporter.get() + self.unknown.get()
    }

    /// The text that a Prometheus server reads.
    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
