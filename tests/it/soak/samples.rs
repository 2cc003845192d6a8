//! What the processes take, looked at every few seconds: memory, disk, open files, threads.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::super::support::request;
use super::load::Gauges;

/// A replica's process.
#[derive(Clone)]
pub(super) struct Process {
    pub(super) replica: usize,
    pub(super) pid: u32,
    pub(super) dir: PathBuf,
    pub(super) admin: String,
}

/// What one took at a moment; sizes are bytes.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) replica: usize,
    pub(super) pid: u32,
    pub(super) at: Duration,
    pub(super) rss: u64,
    /// Of that, what is mapped from files: the program.
    pub(super) program: u64,
    pub(super) files: u64,
    pub(super) threads: u64,
    /// The data directory but for the log, and the log.
    pub(super) state: u64,
    pub(super) log: u64,
    /// Of that, the state that is in use.
    pub(super) tables: u64,
    /// What clients have stored, and the most of it so far: what is deleted is merged away later.
    pub(super) live: u64,
    pub(super) most_live: u64,
    /// What the replica says: memory of the data, verifications, entries that are on disk only.
    pub(super) memory: u64,
    pub(super) scrubs: u64,
    pub(super) evicted: u64,
}

/// A thread that takes samples.
pub(super) struct Watch {
    pub(super) processes: Arc<Mutex<Vec<Process>>>,
    pub(super) samples: Arc<Mutex<Vec<Sample>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(super) fn start(begin: Instant, every: Duration, gauges: &Arc<Gauges>) -> Self {
        let (processes, samples) = (Arc::<Mutex<Vec<Process>>>::default(), Arc::default());
        let stop = Arc::new(AtomicBool::new(false));
        let (all, sink, stopped) = (
            Arc::clone(&processes),
            Arc::clone(&samples),
            Arc::clone(&stop),
        );
        let gauges = Arc::clone(gauges);
        let thread = std::thread::spawn(move || {
            let mut most = 0;
            while !stopped.load(Ordering::Relaxed) {
                let now = all.lock().clone();
                for process in now {
                    let live = gauges.live.load(Ordering::Relaxed);
                    most = live.max(most);
                    // One that is being stopped, or loses its disk, is left out.
                    if let Some(sample) = sample(&process, begin.elapsed(), (live, most)) {
                        let sink: &Mutex<Vec<Sample>> = &sink;
                        sink.lock().push(sample);
                    }
                }
                // The samples' pace, not a wait for anything.
                std::thread::sleep(every);
            }
        });
        Self {
            processes,
            samples,
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn sample(process: &Process, at: Duration, live: (u64, u64)) -> Option<Sample> {
    let proc = PathBuf::from(format!("/proc/{}", process.pid));
    let status = fs::read_to_string(proc.join("status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let (code, metrics) = request(&process.admin, "GET", "/metrics", "").ok()?;
    let metric = |name: &str| {
        let name = format!("replicated_store_{name} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&name))?;
        line.parse::<f64>().ok().map(|value| value as u64)
    };
    let mut seen = HashSet::new();
    let log = room(&process.dir.join("log"), &mut seen).ok()?;
    let tables = current(&process.dir).map_or(0, |dir| room(&dir, &mut seen).unwrap_or(0));
    let rest = room(&process.dir, &mut seen).ok()?;
    (code == 200).then_some(())?;
    Some(Sample {
        replica: process.replica,
        pid: process.pid,
        at,
        rss: field("VmRSS:")? << 10,
        program: field("RssFile:")? << 10,
        files: fs::read_dir(proc.join("fd")).ok()?.count() as u64,
        threads: field("Threads:")?,
        state: tables + rest,
        log,
        tables,
        live: live.0,
        most_live: live.1,
        memory: metric("memory_bytes")?,
        scrubs: metric("scrubs_total")?,
        evicted: metric("evicted_entries_total")?,
    })
}

/// The directory of the state that is in use.
fn current(dir: &Path) -> Option<PathBuf> {
    let content = fs::read(dir.join("current")).ok()?;
    let content = String::from_utf8_lossy(&content);
    let name = content.split('"').find(|part| part.starts_with("state-"))?;
    Some(dir.join(name))
}

/// Bytes of the blocks of all files below, of which none counts twice.
fn room(dir: &Path, seen: &mut HashSet<u64>) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // Files come and go meanwhile.
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() {
            sum += room(&entry.path(), seen).unwrap_or(0);
        } else if seen.insert(meta.ino()) {
            sum += meta.blocks() * 512;
        }
    }
    Ok(sum)
}
