//! `replica load`: writes at a steady rate, and tells each second how it went. It connects again
//! after an error, as a well-behaved client does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::connection::Connection;
use crate::resp::reply::Reply;

/// Writes keys at a steady rate and prints what was acknowledged.
#[derive(Args, Clone, Debug)]
pub struct LoadOptions {
    /// Address of the leader.
    #[arg(long, env = "REPLICA_ADDRESS", default_value = "127.0.0.1:6379")]
    pub addr: String,
    /// Writes a second, if the replica keeps up.
    #[arg(long, default_value_t = 100)]
    pub rate: u32,
    /// Seconds to write for.
    #[arg(long, default_value_t = 10)]
    pub seconds: u32,
    /// Connections that share the rate; each has one write under way at most.
    #[arg(long, default_value_t = 8)]
    pub connections: u32,
    /// Bytes of a value.
    #[arg(long, default_value_t = 100)]
    pub size: usize,
    /// What the keys begin with.
    #[arg(long, default_value = "load")]
    pub prefix: String,
}

#[derive(Debug, Default)]
struct Tally {
    acknowledged: u64,
    errors: u64,
    longest: Duration,
}

/// Runs it.
pub async fn load(options: LoadOptions) -> anyhow::Result<()> {
    let options = Arc::new(options);
    let second = Arc::new(Mutex::new(Tally::default()));
    let next = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let mut writers = JoinSet::new();
    for _ in 0..options.connections.max(1) {
        let (options, second, next) = (options.clone(), second.clone(), next.clone());
        writers.spawn(async move { writes(&options, &second, &next, start).await });
    }
    let mut total = Tally::default();
    let mut ended = false;
    for told in 1.. {
        let beat = Duration::from_secs(told).saturating_sub(start.elapsed());
        tokio::select! {
            () = tokio::time::sleep(beat) => {}
            () = async { while writers.join_next().await.is_some() {} } => ended = true,
        }
        let tally = std::mem::take(&mut *second.lock());
        if !ended || tally.acknowledged + tally.errors > 0 {
            tell(&format!("{told:>4} s"), &tally);
        }
        total.add(&tally);
        if ended {
            break;
        }
    }
    tell(" total", &total);
    Ok(())
}

/// One connection's share: it takes the next number when that is due, until the time is over.
async fn writes(options: &LoadOptions, tally: &Mutex<Tally>, next: &AtomicU64, start: Instant) {
    let value = "x".repeat(options.size);
    let mut connection = None;
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let due = Duration::from_secs_f64(number as f64 / f64::from(options.rate.max(1)));
        let end = Duration::from_secs(u64::from(options.seconds));
        if due >= end || start.elapsed() >= end {
            return;
        }
        tokio::time::sleep(due.saturating_sub(start.elapsed())).await;
        let began = Instant::now();
        let key = format!("{}:{number}", options.prefix);
        let written = write(&mut connection, &options.addr, &key, &value).await;
        let mut tally = tally.lock();
        match written {
            Ok(()) => tally.acknowledged += 1,
            Err(error) => {
                tally.errors += 1;
                connection = None;
                eprintln!("write {number}: {error}");
            }
        }
        tally.longest = tally.longest.max(began.elapsed());
    }
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.acknowledged += other.acknowledged;
        self.errors += other.errors;
        self.longest = self.longest.max(other.longest);
    }
}

fn tell(when: &str, tally: &Tally) {
    println!(
        "{when}  acknowledged {:>6}  errors {:>3}  longest wait {:>5} ms",
        tally.acknowledged,
        tally.errors,
        tally.longest.as_millis()
    );
}

async fn write(
    connection: &mut Option<Connection>,
    address: &str,
    key: &str,
    value: &str,
) -> std::io::Result<()> {
    let open = match connection {
        Some(open) => open,
        None => connection.insert(Connection::open(address).await?),
    };
    match open.call(&["SET", key, value]).await? {
        Reply::Simple(_) => Ok(()),
        Reply::Error(text) => Err(std::io::Error::other(
            String::from_utf8_lossy(&text).into_owned(),
        )),
        other => Err(std::io::Error::other(format!("unexpected reply {other:?}"))),
    }
}
