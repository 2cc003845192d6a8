//! Measures the disk of this machine: `cargo test --release --lib log::tests::measure -- --ignored
//! --nocapture`. The directory is taken from `LOG_BENCH_DIR`, or else is a temporary one.

use std::time::{Duration, Instant};

use super::*;

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() - 1) * percent / 100]
}

/// What the disk itself takes: over zeros with O_DSYNC, or growing with fdatasync.
fn plain_writes(bytes: usize, count: usize, over_zeros: bool) -> Duration {
    let root = std::env::var_os("LOG_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let directory = tempfile::tempdir_in(root).unwrap();
    let disk = RealDisk::open(directory.path()).unwrap();
    let file = disk.open("plain", true, over_zeros).unwrap();
    let data = vec![7; bytes.next_multiple_of(4096)];
    if over_zeros {
        file.write_at(&vec![0; data.len() * count], 0).unwrap();
    }
    let mut times = Vec::new();
    for index in 0..count {
        let one = Instant::now();
        file.write_at(&data, (index * data.len()) as u64).unwrap();
        if !over_zeros {
            file.sync().unwrap();
        }
        times.push(one.elapsed());
    }
    percentile(&mut times, 50)
}

#[test]
#[ignore = "measures, proves nothing"]
fn append_and_read() {
    let root = std::env::var_os("LOG_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    for (bytes, count) in [
        (200, 3000),
        (4 << 10, 3000),
        (64 << 10, 1500),
        (1 << 20, 300),
    ] {
        let directory = tempfile::tempdir_in(&root).unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(directory.path()).unwrap());
        let options = Options {
            ready: 2 + (bytes * count) / (64 << 20),
            ..Options::default()
        };
        let (mut writer, log, _) = Log::open(Arc::clone(&disk), options).unwrap();
        let begin = Instant::now();
        while log.prepare().unwrap() {}
        let prepare = begin.elapsed();
        let mut source = Source::new(1);
        let frames: Vec<Frame> = (0..count).map(|_| source.frame_of(bytes)).collect();
        let begin = Instant::now();
        let mut times: Vec<Duration> = Vec::new();
        for frame in &frames {
            let one = Instant::now();
            writer.append(std::slice::from_ref(frame)).unwrap();
            times.push(one.elapsed());
        }
        let total = begin.elapsed();
        let rate = |elapsed: Duration| (bytes * count) as f64 / 1e6 / elapsed.as_secs_f64();
        let begin = Instant::now();
        let mut cursor = log.cursor(Lsn(0)).unwrap();
        while !cursor.read(1 << 20).unwrap().is_empty() {}
        let read = begin.elapsed();
        drop((writer, log));
        let begin = Instant::now();
        Log::open(disk, Options::default()).unwrap();
        let recovery = begin.elapsed();
        let (bare, bare_grown) = (
            plain_writes(bytes, count, true),
            plain_writes(bytes, count, false),
        );
        println!(
            "{bytes:>8} B: append p50 {:?} p99 {:?} {:.0} MB/s; read {:.0} MB/s; recovery {:.0} MB/s; \
             prepare {prepare:?}; plain write p50 {bare:?}, growing with fdatasync p50 {bare_grown:?}",
            percentile(&mut times, 50),
            percentile(&mut times, 99),
            rate(total),
            rate(read),
            rate(recovery),
        );
    }
}
