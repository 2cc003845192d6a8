//! What the operating system says of this process and its container: memory and processor time.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::command::Stats;

/// Use of memory and processor.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    pub(super) resident_bytes: u64,
    pub(super) peak_bytes: u64,
    pub(super) user_ms: u64,
    pub(super) system_ms: u64,
}

/// Clock ticks a second in `/proc`: a constant of the kernel's interface on every platform we run on.
const TICKS_MS: u64 = 10;

/// Counts the commands of each second, until `stop`.
pub(super) async fn measure_rate(stats: Arc<Stats>, rate: Arc<AtomicU64>, stop: CancellationToken) {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    let mut before = stats.commands.get();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = seconds.tick() => {}
        }
        let now = stats.commands.get();
        rate.store(now.saturating_sub(before), Ordering::Relaxed);
        before = now;
    }
}

/// Reads `/proc/self`; zeros where it cannot be read.
pub(super) fn usage() -> Usage {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest)
        .unwrap_or_default();
    let ticks = |index| {
        let field = after_name.split_ascii_whitespace().nth(index);
        field.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0) * TICKS_MS
    };
    Usage {
        resident_bytes: kib_line(&status, "VmRSS:"),
        peak_bytes: kib_line(&status, "VmHWM:"),
        user_ms: ticks(11),
        system_ms: ticks(12),
    }
}

fn kib_line(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_ascii_whitespace().next());
    number
        .and_then(|number| number.parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}

/// Bytes of memory that this process may use: the container's limit (either version of control
/// groups), or else the machine's.
pub(super) fn memory_limit() -> u64 {
    let machine = kib_line(
        &fs::read_to_string("/proc/meminfo").unwrap_or_default(),
        "MemTotal:",
    );
    let limits = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ];
    let read = limits
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok());
    let limit = read
        .filter_map(|text| text.trim().parse::<u64>().ok())
        .min();
    limit.map_or(machine, |limit| limit.min(machine))
}
