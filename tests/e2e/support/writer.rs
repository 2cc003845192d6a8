//! Clients that write all the time, and remember what was acknowledged to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::client::{connect, connect_within, get_all};
use super::wait::eventually;

/// How to write.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    /// Connections, each with one write under way at a time.
    pub(crate) connections: u64,
    /// Writes a second on each connection, if the store keeps up.
    pub(crate) rate: u64,
    /// Bytes of each value.
    pub(crate) value_bytes: usize,
}

impl Load {
    /// Enough to notice a pause, too little to cause one.
    pub(crate) const LIGHT: Self = Self {
        connections: 4,
        rate: 100,
        value_bytes: 100,
    };
}

/// What became of the writes.
#[derive(Default)]
pub(crate) struct Written {
    /// Keys whose write was acknowledged, with the value.
    pub(crate) acknowledged: Vec<(String, String)>,
    /// Writes that failed: they may be there or not.
    pub(crate) errors: Vec<String>,
    /// The longest time from sending a write to its acknowledgement.
    pub(crate) longest_wait: Duration,
    /// The longest time in which no write of one connection was acknowledged, failed ones included.
    pub(crate) longest_pause: Duration,
}

/// Writers under way. Dropping it stops them.
pub(crate) struct Writer {
    stop: CancellationToken,
    acknowledged: Arc<AtomicU64>,
    tasks: JoinSet<Written>,
}

impl Writer {
    /// Starts to write to the leader behind `host`. Each write is of a new key.
    pub(crate) fn start(host: &str, prefix: &str, load: Load) -> Self {
        let stop = CancellationToken::new();
        let acknowledged = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for connection in 0..load.connections {
            let prefix = format!("{prefix}:{connection}");
            let (stop, acknowledged) = (stop.clone(), Arc::clone(&acknowledged));
            tasks.spawn(write(host.to_owned(), prefix, load, stop, acknowledged));
        }
        Self {
            stop,
            acknowledged,
            tasks,
        }
    }

    /// Writes acknowledged so far.
    pub(crate) fn count(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until `more` writes have been acknowledged from now on.
    pub(crate) async fn acknowledges(&self, more: u64, within: Duration) {
        let goal = self.count() + more;
        eventually(within, "writes are acknowledged", async || {
            let missing = goal.saturating_sub(self.count());
            if missing == 0 {
                Ok(())
            } else {
                Err(format!("{missing} of {more} are missing"))
            }
        })
        .await;
    }

    /// Stops to write.
    pub(crate) async fn stop(mut self) -> Written {
        self.stop.cancel();
        let mut all = Written::default();
        while let Some(written) = self.tasks.join_next().await {
            let written = written.expect("a writer does not panic");
            all.acknowledged.extend(written.acknowledged);
            all.errors.extend(written.errors);
            all.longest_wait = all.longest_wait.max(written.longest_wait);
            all.longest_pause = all.longest_pause.max(written.longest_pause);
        }
        assert!(
            !all.acknowledged.is_empty(),
            "no write was acknowledged: {:?}",
            all.errors
        );
        eprintln!(
            "writer: {} acknowledged, {} failed, longest wait {:?}, longest pause {:?}",
            all.acknowledged.len(),
            all.errors.len(),
            all.longest_wait,
            all.longest_pause
        );
        all
    }
}

impl Written {
    /// Every acknowledged write is at `host`.
    pub(crate) async fn all_at(&self, host: &str) {
        let keys: Vec<String> = self
            .acknowledged
            .iter()
            .map(|(key, _)| key.clone())
            .collect();
        let found = get_all(&mut connect(host).await, &keys)
            .await
            .expect("the store answers");
        let lost: Vec<_> = self
            .acknowledged
            .iter()
            .zip(&found)
            .filter(|((_, value), found)| found.as_ref() != Some(value))
            .map(|((key, _), _)| key)
            .collect();
        assert!(
            lost.is_empty(),
            "{} of {} acknowledged writes are lost or changed, the first ones: {:?}",
            lost.len(),
            keys.len(),
            &lost[..lost.len().min(5)]
        );
    }
}

/// The next write goes out only once the one before was answered; after an error, on a connection
/// that is made anew.
async fn write(
    host: String,
    prefix: String,
    load: Load,
    stop: CancellationToken,
    count: Arc<AtomicU64>,
) -> Written {
    let mut written = Written::default();
    let mut connection: Option<MultiplexedConnection> = None;
    let mut ticks = interval(Duration::from_secs(1) / u32::try_from(load.rate).unwrap_or(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_success = Instant::now();
    for number in 0_u64.. {
        if stop.is_cancelled() {
            break;
        }
        ticks.tick().await;
        let (key, value) = (
            format!("{prefix}:{number}"),
            value(number, load.value_bytes),
        );
        let start = Instant::now();
        match set(&mut connection, &host, &key, &value).await {
            Ok(()) => {
                written.longest_wait = written.longest_wait.max(start.elapsed());
                written.longest_pause = written.longest_pause.max(last_success.elapsed());
                last_success = Instant::now();
                written.acknowledged.push((key, value));
                count.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                written.errors.push(format!("{key}: {error}"));
                connection = None;
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
    written.longest_pause = written.longest_pause.max(last_success.elapsed());
    written
}

async fn set(
    connection: &mut Option<MultiplexedConnection>,
    host: &str,
    key: &str,
    value: &str,
) -> redis::RedisResult<()> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(connect_within(host, Duration::from_secs(3)).await?),
    };
    redis::cmd("SET")
        .arg(key)
        .arg(value)
        .exec_async(connection)
        .await
}

fn value(number: u64, bytes: usize) -> String {
    let mut value = format!("{number}:");
    while value.len() < bytes {
        value.push(char::from(b'a' + (value.len() % 26) as u8));
    }
    value
}

/// Writes `keys` keys named `<prefix>:<n>` in pipelines, on a few connections at once.
pub(crate) async fn fill(host: &str, prefix: &str, keys: u64, value_bytes: usize) {
    const CONNECTIONS: u64 = 4;
    const PIPELINE: u64 = 200;
    let mut tasks = JoinSet::new();
    for part in 0..CONNECTIONS {
        let (host, prefix) = (host.to_owned(), prefix.to_owned());
        tasks.spawn(async move {
            let mut connection = connect(&host).await;
            let (mut next, end) = (part * keys / CONNECTIONS, (part + 1) * keys / CONNECTIONS);
            while next < end {
                let mut pipeline = redis::pipe();
                for number in next..end.min(next + PIPELINE) {
                    let key = format!("{prefix}:{number}");
                    pipeline
                        .cmd("SET")
                        .arg(key)
                        .arg(value(number, value_bytes))
                        .ignore();
                }
                pipeline
                    .exec_async(&mut connection)
                    .await
                    .expect("every write is acknowledged");
                next = end.min(next + PIPELINE);
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("filling the store");
    }
}
