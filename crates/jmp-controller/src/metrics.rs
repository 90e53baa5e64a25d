//! Figures for Prometheus (facts: controller 6.5, and our own).

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use jmp_lease::pool::Counts;
use jmp_types::resource::{Exporter, Lease};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::CounterWithExemplar;
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
    acquisitions: Family<ResultLabel, CounterWithExemplar<ExemplarLabels>>,
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
    holders: Bound,
    tags: Bound,
    tunnels: Bound,
}

/// Keeps the series of one family from growing without end.
#[derive(Debug, Default)]
struct Bound(Mutex<std::collections::HashSet<u64>>);

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// Whose lease it was that was counted last.
#[derive(Clone, Debug, PartialEq, Eq, EncodeLabelSet)]
struct ExemplarLabels {
    client: String,
    lease_id: String,
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
            holders: Bound::default(),
            tags: Bound::default(),
            tunnels: Bound::default(),
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

    pub(crate) fn acquired(&self, client: &str, lease: &str, waited: Duration) {
        self.count("success", client, lease);
        self.queue.observe(waited.as_secs_f64());
    }

    pub(crate) fn failed(&self, client: &str, lease: &str) {
        self.count("failure", client, lease);
    }

    fn count(&self, result: &'static str, client: &str, lease: &str) {
        let labels = ExemplarLabels::new(client, lease);
        self.acquisitions
            .get_or_create(&ResultLabel { result })
            .inc_by(1, Some(labels), None);
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
        let [namespace, client, exporter] = self.holders.admit([
            &lease.metadata.namespace,
            &lease.spec.client_ref.name,
            &exporter.name,
        ]);
        self.lease_seconds
            .get_or_create(&HolderLabels {
                namespace,
                client,
                exporter,
            })
            .inc_by(seconds);
        for (key, value) in &lease.spec.tags {
            let [namespace, key, value] = self.tags.admit([&lease.metadata.namespace, key, value]);
            self.tag_seconds
                .get_or_create(&TagLabels {
                    namespace,
                    key,
                    value,
                })
                .inc_by(seconds);
        }
    }

    pub(crate) fn forwarded(&self, ends: &crate::routers::Ends, to_exporter: u64, to_client: u64) {
        let [namespace, client, exporter] =
            self.tunnels
                .admit([&ends.namespace, &ends.client, &ends.exporter]);
        for (direction, bytes) in [("to_exporter", to_exporter), ("to_client", to_client)] {
            if bytes > 0 {
                self.tunnel_bytes
                    .get_or_create(&TunnelLabels {
                        namespace: namespace.clone(),
                        client: client.clone(),
                        exporter: exporter.clone(),
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
        // Held to the end: two that ask at one time must not mix their figures.
        let registry = lock(&self.registry);
        for (state, number) in [
            ("scheduled", counts.scheduled),
            ("waiting", counts.waiting),
            ("active", counts.active),
        ] {
            self.leases
                .get_or_create(&StateLabel { state })
                .set(gauge(number));
        }
        for (status, number) in by_status(exporters) {
            self.exporters
                .get_or_create(&StatusLabel { status })
                .set(gauge(number));
        }
        self.routers.set(gauge(routers));
        let mut text = String::new();
        if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &registry) {
            text.clear();
            let _ = writeln!(text, "# cannot write the figures: {error}");
        }
        text
    }
}

// === impl ExemplarLabels ===

impl ExemplarLabels {
    /// Names and values together are at most 128 characters long in OpenMetrics; the lease comes first.
    fn new(client: &str, lease: &str) -> Self {
        const ROOM: usize = 128 - "client".len() - "lease_id".len();
        let lease_id: String = lease.chars().take(ROOM).collect();
        let left = ROOM - lease_id.chars().count();
        Self {
            client: client.chars().take(left).collect(),
            lease_id,
        }
    }
}

// === impl Bound ===

impl Bound {
    /// The labels, or `other` for each once there are too many different series.
    fn admit<const N: usize>(&self, labels: [&str; N]) -> [String; N] {
        use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(labels);
        let mut known = lock(&self.0);
        if known.contains(&hash) || known.len() < SERIES && known.insert(hash) {
            labels.map(str::to_owned)
        } else {
            labels.map(|_| OTHER.to_owned())
        }
    }
}

/// How many exporters have which status. Every status is there, so that none vanishes from a chart.
fn by_status(exporters: &[std::sync::Arc<Exporter>]) -> std::collections::BTreeMap<String, usize> {
    let mut counts: std::collections::BTreeMap<String, usize> = jmp_lease::ExporterStatus::ALL
        .into_iter()
        .map(|status| (status.stored_name().to_owned(), 0))
        .collect();
    for exporter in exporters {
        let status = match exporter.status.exporter_status.as_str() {
            "" => "Unspecified",
            known => known,
        };
        *counts.entry(status.to_owned()).or_default() += 1;
    }
    counts
}

fn gauge(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exemplars_fit_into_what_open_metrics_allows() {
        let metrics = Metrics::new();
        metrics.acquired("me", "l1", Duration::ZERO);
        metrics.failed(&"ä".repeat(200), &"x".repeat(90));
        let text = metrics.text(&Counts::default(), &[], 0);
        let line = |result: &str| {
            let name = format!("jumpstarter_lease_acquisitions_total{{result=\"{result}\"}} ");
            let line = text.lines().find(|line| line.starts_with(&name));
            line.expect("a counter").to_owned()
        };
        assert!(
            line("success").contains(r#"# {client="me",lease_id="l1"} 1"#),
            "{text}"
        );
        let long = line("failure");
        assert!(long.contains(&"x".repeat(90)), "{long}");
        assert_eq!(long.matches('ä').count(), 128 - 14 - 90);
    }

    /// A client that gives every lease a tag of its own makes no series without end, and spoils the
    /// figures of nobody else.
    #[test]
    fn tags_make_a_bounded_number_of_series() {
        let metrics = Metrics::new();
        let mut lease = Lease::default();
        lease.metadata.namespace = "default".into();
        lease.spec.client_ref.name = "me".into();
        let begin = jmp_types::Timestamp::UNIX_EPOCH;
        lease.status.begin_time = Some(begin);
        lease.status.end_time = begin.checked_add(Duration::from_secs(10)).ok();
        lease.status.exporter_ref = Some(jmp_types::resource::Reference::new("bench"));
        for number in 0..SERIES + 500 {
            lease.spec.tags = [("build".to_owned(), number.to_string())].into();
            metrics.ended(&lease);
        }
        lease.spec.client_ref.name = "late".into();
        metrics.ended(&lease);
        let text = metrics.text(&Counts::default(), &[], 0);
        let tags: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("jumpstarter_lease_held_by_tag_seconds_total{"))
            .collect();
        assert_eq!(tags.len(), SERIES + 1);
        let rest = r#"{namespace="other",key="other",value="other"} 5010.0"#;
        assert!(tags.iter().any(|line| line.ends_with(rest)));
        let late =
            r#"_held_seconds_total{namespace="default",client="late",exporter="bench"} 10.0"#;
        assert!(text.contains(late), "{text}");
    }
}
