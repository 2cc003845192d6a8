//! `replica load`: writes at a steady rate, and tells each second how it went. It connects again
//! after an error, as a well-behaved client does.

use std::time::{Duration, Instant};

use clap::Args;

use super::connection::Connection;
use crate::resp::reply::Reply;

/// Writes keys at a steady rate and prints what was acknowledged.
#[derive(Args, Clone, Debug)]
pub struct LoadOptions {
    /// Address of the leader.
    #[arg(long, env = "REPLICA_ADDRESS", default_value = "127.0.0.1:6379")]
    pub addr: String,
    /// Writes a second.
    #[arg(long, default_value_t = 100)]
    pub rate: u32,
    /// Seconds to write for.
    #[arg(long, default_value_t = 10)]
    pub seconds: u32,
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
    let value = "x".repeat(options.size);
    let mut connection = None;
    let (mut total, mut second) = (Tally::default(), Tally::default());
    let start = Instant::now();
    let mut told = 0;
    for number in 0..u64::from(options.rate) * u64::from(options.seconds) {
        let due = Duration::from_secs_f64(number as f64 / f64::from(options.rate.max(1)));
        tokio::time::sleep(due.saturating_sub(start.elapsed())).await;
        let began = Instant::now();
        let key = format!("{}:{number}", options.prefix);
        let written = write(&mut connection, &options.addr, &key, &value).await;
        if let Err(error) = written {
            second.errors += 1;
            connection = None;
            eprintln!("write {number}: {error}");
        } else {
            second.acknowledged += 1;
        }
        second.longest = second.longest.max(began.elapsed());
        if start.elapsed().as_secs() > told {
            told = start.elapsed().as_secs();
            tell(&format!("{told:>4} s"), &second);
            total.add(&std::mem::take(&mut second));
        }
    }
    total.add(&second);
    tell(" total", &total);
    Ok(())
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
