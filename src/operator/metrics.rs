//! Metrics of the operator, in Prometheus' text form.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::supervisor::Supervisor;
use crate::replication::admin::Role;

/// A label for what went wrong, was written, or was the cause.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct What {
    /// Which.
    what: String,
}

/// All of them.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Reconciles.
    pub reconciles: Counter,
    /// Reconciles that failed, by why.
    errors: Family<What, Counter>,
    /// How long reconciles take, in seconds.
    duration: Histogram,
    /// Writes to the API server, by what was written: `status`, `register`, `role`, a kind.
    writes: Family<What, Counter>,
    /// Leaders chosen, by cause.
    promotions: Family<What, Counter>,
    /// 1 on the operator Pod that is at work.
    pub leading: Gauge,
}

impl Metrics {
    /// Metrics at zero; `supervisor` is asked for the replicas' at each scrape.
    pub fn new(supervisor: Arc<Supervisor>) -> Self {
        let mut registry = Registry::with_prefix("replicated_store_operator");
        let reconciles = Counter::default();
        let errors = Family::<What, Counter>::default();
        let duration = Histogram::new(exponential_buckets(0.001, 2.0, 14));
        let writes = Family::<What, Counter>::default();
        let promotions = Family::<What, Counter>::default();
        let leading = Gauge::default();
        registry.register(
            "build",
            "Version of the operator",
            Info::new([("version", VERSION)]),
        );
        registry.register("reconciles", "Reconciles", reconciles.clone());
        registry.register(
            "reconcile_errors",
            "Reconciles that failed, by why",
            errors.clone(),
        );
        registry.register(
            "reconcile_seconds",
            "Duration of reconciles",
            duration.clone(),
        );
        registry.register(
            "writes",
            "Writes to the API server, by what",
            writes.clone(),
        );
        registry.register("promotions", "Leaders chosen, by cause", promotions.clone());
        registry.register("leading", "1 on the Pod that is at work", leading.clone());
        registry.register_collector(Box::new(Replicas(supervisor)));
        Self {
            registry,
            reconciles,
            errors,
            duration,
            writes,
            promotions,
            leading,
        }
    }

    /// A reconcile has ended.
    pub fn reconciled(&self, took: Duration, error: Option<&'static str>) {
        self.reconciles.inc();
        self.duration.observe(took.as_secs_f64());
        if let Some(what) = error {
            self.errors.get_or_create(&label(what)).inc();
        }
    }

    /// Something was written.
    pub fn wrote(&self, what: &str) {
        self.writes.get_or_create(&label(what)).inc();
    }

    /// A leader was chosen.
    pub fn promoted(&self, cause: &str) {
        self.promotions.get_or_create(&label(cause)).inc();
    }

    /// As text.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn label(what: &str) -> What {
    What {
        what: what.to_owned(),
    }
}

/// The replicas' state at the moment of the scrape: exact, where the status is rounded.
#[derive(Debug)]
struct Replicas(Arc<Supervisor>);

type Labels = [(&'static str, String); 3];
/// Labels, whether it is heard, and lag in bytes and seconds of one that follows.
type Row = (Labels, bool, Option<(u64, f64)>);

impl Replicas {
    fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for (store, heard) in self.0.all() {
            let leader = heard
                .values()
                .find(|it| it.connected && it.status.role == Role::Leader);
            for (ordinal, it) in &heard {
                let labels = [
                    ("namespace", store.namespace.clone()),
                    ("store", store.name.clone()),
                    ("replica", format!("{}-{ordinal}", store.name)),
                ];
                let followers = leader.iter().flat_map(|leader| &leader.status.followers);
                let lag = followers
                    .filter(|follower| follower.id == it.status.id)
                    .map(|follower| (follower.lag_bytes, follower.lag_seconds))
                    .next();
                rows.push((labels, it.connected, lag));
            }
        }
        rows
    }
}

impl Collector for Replicas {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let rows = self.rows();
        let mut up = encoder.encode_descriptor(
            "replica_up",
            "Whether the operator hears the replica",
            None,
            MetricType::Gauge,
        )?;
        for (labels, connected, _) in &rows {
            ConstGauge::new(i64::from(*connected)).encode(up.encode_family(labels)?)?;
        }
        let mut bytes = encoder.encode_descriptor(
            "replica_lag_bytes",
            "Bytes of log that a follower is behind",
            None,
            MetricType::Gauge,
        )?;
        for (labels, _, lag) in &rows {
            if let Some((lag, _)) = lag {
                ConstGauge::new(*lag as i64).encode(bytes.encode_family(labels)?)?;
            }
        }
        let mut seconds = encoder.encode_descriptor(
            "replica_lag_seconds",
            "Age of the oldest record that a follower has not applied",
            None,
            MetricType::Gauge,
        )?;
        for (labels, _, lag) in &rows {
            if let Some((_, lag)) = lag {
                ConstGauge::new(*lag).encode(seconds.encode_family(labels)?)?;
            }
        }
        Ok(())
    }
}
