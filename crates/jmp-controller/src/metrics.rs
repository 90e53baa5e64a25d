//! Figures for Prometheus (facts: controller 6.5, and our own).

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use jmp_lease::pool::Counts;
use jmp_types::resource::{Exporter, Lease};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Series of one family that callers can multiply; what comes later is counted under `other`.
const SERIES: usize = 10_000;
const OTHER: &str = "other";

/// The figures.
pub struct Metrics {
    registry: Mutex<Registry>,
    acquisitions: Family<ResultLabel, Counter>,
    queue: Histogram,
    leases: Family<StateLabel, Gauge>,
    exporters: Family<StatusLabel, Gauge>,
    routers: Gauge,
    lease_seconds: Family<HolderLabels, Counter<f64, AtomicU64>>,
    tag_seconds: Family<TagLabels, Counter<f64, AtomicU64>>,
    tunnel_bytes: Family<TunnelLabels, Counter>,
    calls: Family<CallLabels, Counter>,
    call_time: Family<MethodLabel, Histogram, fn() -> Histogram>,
    connections: Gauge,
    series: Mutex<std::collections::HashSet<u64>>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StatusLabel {
    status: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct HolderLabels {
    namespace: String,
    client: String,
    exporter: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TagLabels {
    namespace: String,
    key: String,
    value: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TunnelLabels {
    namespace: String,
    client: String,
    exporter: String,
    direction: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CallLabels {
    method: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct MethodLabel {
    method: &'static str,
}

// === impl Metrics ===

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

fn call_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.0005, 4.0, 9))
}

impl Metrics {
    /// All figures at zero.
    #[must_use]
    pub fn new() -> Self {
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("jumpstarter")),
            acquisitions: Family::default(),
            queue: Histogram::new(exponential_buckets(0.01, 4.0, 12)),
            leases: Family::default(),
            exporters: Family::default(),
            routers: Gauge::default(),
            lease_seconds: Family::default(),
            tag_seconds: Family::default(),
            tunnel_bytes: Family::default(),
            calls: Family::default(),
            call_time: Family::new_with_constructor(call_histogram),
            connections: Gauge::default(),
            series: Mutex::default(),
        };
        metrics.register();
        // Both are there from the beginning, as with the released controller.
        for result in ["success", "failure"] {
            drop(metrics.acquisitions.get_or_create(&ResultLabel { result }));
        }
        metrics
    }

    fn register(&self) {
        let mut registry = lock(&self.registry);
        let registry = &mut *registry;
        registry.register(
            "lease_acquisitions",
            "Leases that got an exporter, or never will",
            self.acquisitions.clone(),
        );
        registry.register_with_unit(
            "lease_queue",
            "Time from the request, or the begin, of a lease to its exporter",
            Unit::Seconds,
            self.queue.clone(),
        );
        registry.register("leases", "Leases that have not ended", self.leases.clone());
        registry.register("exporters", "Exporters by status", self.exporters.clone());
        registry.register("routers", "Routers that can be used", self.routers.clone());
        registry.register_with_unit(
            "lease_held",
            "Time that leases held exporters, counted when they end",
            Unit::Seconds,
            self.lease_seconds.clone(),
        );
        registry.register_with_unit(
            "lease_held_by_tag",
            "Time that leases with that tag held exporters, counted when they end",
            Unit::Seconds,
            self.tag_seconds.clone(),
        );
        registry.register_with_unit(
            "tunnel",
            "Bytes through routers",
            Unit::Bytes,
            self.tunnel_bytes.clone(),
        );
        registry.register("rpc_calls", "Calls that have ended", self.calls.clone());
        registry.register_with_unit(
            "rpc",
            "Time until the answer to a call began",
            Unit::Seconds,
            self.call_time.clone(),
        );
        registry.register("connections", "Open connections", self.connections.clone());
    }

    pub(crate) fn acquired(&self, waited: Duration) {
        let result = "success";
        self.acquisitions
            .get_or_create(&ResultLabel { result })
            .inc();
        self.queue.observe(waited.as_secs_f64());
    }

    pub(crate) fn failed(&self) {
        let result = "failure";
        self.acquisitions
            .get_or_create(&ResultLabel { result })
            .inc();
    }

    /// Counts the time that an ended lease held its exporter.
    pub(crate) fn ended(&self, lease: &Lease) {
        let (Some(begin), Some(end), Some(exporter)) = (
            lease.status.begin_time,
            lease.status.end_time,
            &lease.status.exporter_ref,
        ) else {
            return;
        };
        let seconds = end.duration_since(begin).as_secs_f64().max(0.0);
        let namespace = &lease.metadata.namespace;
        let client = self.bounded(&lease.spec.client_ref.name);
        let exporter = self.bounded(&exporter.name);
        self.lease_seconds
            .get_or_create(&HolderLabels {
                namespace: namespace.clone(),
                client,
                exporter,
            })
            .inc_by(seconds);
        for (key, value) in &lease.spec.tags {
            let both = self.bounded(&format!("{key}={value}"));
            let labels = if both == OTHER {
                TagLabels {
                    namespace: namespace.clone(),
                    key: OTHER.to_owned(),
                    value: OTHER.to_owned(),
                }
            } else {
                TagLabels {
                    namespace: namespace.clone(),
                    key: key.clone(),
                    value: value.clone(),
                }
            };
            self.tag_seconds.get_or_create(&labels).inc_by(seconds);
        }
    }

    pub(crate) fn forwarded(&self, ends: &crate::routers::Ends, to_exporter: u64, to_client: u64) {
        for (direction, bytes) in [("to_exporter", to_exporter), ("to_client", to_client)] {
            if bytes > 0 {
                self.tunnel_bytes
                    .get_or_create(&TunnelLabels {
                        namespace: ends.namespace.clone(),
                        client: self.bounded(&ends.client),
                        exporter: self.bounded(&ends.exporter),
                        direction,
                    })
                    .inc_by(bytes);
            }
        }
    }

    pub(crate) fn called(&self, method: &'static str, code: &'static str, took: Duration) {
        self.calls.get_or_create(&CallLabels { method, code }).inc();
        self.call_time
            .get_or_create(&MethodLabel { method })
            .observe(took.as_secs_f64());
    }

    pub(crate) fn connection_opened(&self) {
        self.connections.inc();
    }

    pub(crate) fn connection_closed(&self) {
        self.connections.dec();
    }

    /// All figures in the text format of OpenMetrics.
    #[must_use]
    pub fn text(
        &self,
        counts: &Counts,
        exporters: &[std::sync::Arc<Exporter>],
        routers: usize,
    ) -> String {
        for (state, number) in [
            ("scheduled", counts.scheduled),
            ("waiting", counts.waiting),
            ("active", counts.active),
        ] {
            self.leases
                .get_or_create(&StateLabel { state })
                .set(gauge(number));
        }
        self.exporters.clear();
        for exporter in exporters {
            let status = match exporter.status.exporter_status.as_str() {
                "" => "Unspecified",
                known => known,
            };
            let status = status.to_owned();
            self.exporters.get_or_create(&StatusLabel { status }).inc();
        }
        self.routers.set(gauge(routers));
        let mut text = String::new();
        let registry = lock(&self.registry);
        if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &registry) {
            text.clear();
            let _ = writeln!(text, "# cannot write the figures: {error}");
        }
        text
    }

    /// The value, or `other` once there are too many different ones.
    fn bounded(&self, value: &str) -> String {
        use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(value);
        let mut series = lock(&self.series);
        if series.contains(&hash) || series.len() < SERIES && series.insert(hash) {
            value.to_owned()
        } else {
            OTHER.to_owned()
        }
    }
}

fn gauge(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
