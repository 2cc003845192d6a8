//! What is asked of a system, and what came of it.

use hdrhistogram::Histogram;

/// The order in which keys are touched.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Each at random.
    Uniform,
    /// A few of them most of the time, as in YCSB.
    Zipf,
    /// Each once.
    Sequence,
    /// Each once, in no order; another one for another number.
    Scattered(u32),
}

/// How a key is written.
#[derive(Clone, Copy)]
pub(crate) struct Form {
    /// The bulk string's length and what stands before the number.
    pub(crate) head: &'static str,
    /// Digits of the number.
    pub(crate) digits: usize,
}

/// Ten bytes.
pub(crate) const SHORT: Form = Form {
    head: "$10\r\nk",
    digits: 9,
};
/// Sixteen bytes, as valkey-benchmark writes them.
pub(crate) const NEUTRAL: Form = Form {
    head: "$16\r\nkey:",
    digits: 12,
};

/// The keys of a load.
#[derive(Clone, Copy)]
pub(crate) struct Keys {
    pub(crate) count: u64,
    pub(crate) order: Order,
    pub(crate) form: Form,
}

/// When the next operation is sent.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// As soon as the one before it is answered.
    Closed,
    /// At random times, so many a second, whether or not others are answered (a Poisson process).
    Open(f64),
}

/// What clients do.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) clients: usize,
    /// Operations sent together.
    pub(crate) pipeline: usize,
    /// Share of reads.
    pub(crate) reads: f64,
    pub(crate) keys: Keys,
    /// Bytes of a value.
    pub(crate) value: usize,
    pub(crate) pace: Pace,
    pub(crate) seconds: f64,
    /// By the client that Valkey brings, where it can.
    pub(crate) neutral: bool,
}

/// Latencies in milliseconds.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Latency {
    /// Of a histogram of microseconds.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        let at = |share| histogram.value_at_quantile(share) as f64 / 1000.0;
        Self {
            p50: at(0.5),
            p99: at(0.99),
            max: histogram.max() as f64 / 1000.0,
        }
    }
}

/// An empty histogram of microseconds, exact to three digits.
pub(crate) fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 600_000_000, 3)?)
}

/// What came of a load.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(crate) struct Outcome {
    /// Operations a second.
    pub(crate) rate: f64,
    pub(crate) writes: Latency,
    pub(crate) reads: Latency,
}
