//! Figures on a real disk: `cargo test --release --lib store::tests::bench -- --ignored --nocapture`.

use std::sync::Arc;
use std::time::Instant;

use super::*;

const KEYS: u64 = 3_000_000;

/// 10 bytes, in no order.
fn key(number: u64) -> [u8; 10] {
    let mut key = *b"k000000000";
    let mut rest = number.wrapping_mul(0x9e37_79b1) % 1_000_000_000;
    for digit in key[1..].iter_mut().rev() {
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    key
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// CPU time of this thread: what counts on a busy machine.
fn cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn timed<T>(what: &str, count: u64, work: impl FnOnce() -> T) -> T {
    let (start, cpu) = (Instant::now(), cpu_ns());
    let result = work();
    let (took, cpu) = (start.elapsed(), cpu_ns() - cpu);
    println!(
        "{what:<36} {:>9.1} ms, of CPU {:>9.1} ms, {:>7} ns each",
        took.as_secs_f64() * 1e3,
        cpu as f64 / 1e6,
        cpu / count
    );
    result
}

fn put(store: &mut Store, number: u64, value: &[u8]) -> std::time::Duration {
    let record = Record::Put {
        key: &key(number),
        value,
        expire_at_ms: 0,
        created: true,
    };
    let lsn = store.applied().advance(1);
    let start = Instant::now();
    store.apply(&record, lsn).unwrap();
    start.elapsed()
}

/// What it costs to be able to take changes back: the same keys are written again and again, in groups that are
/// committed together, by turns so and so.
#[test]
#[ignore = "a measurement"]
fn changes_that_can_be_taken_back() {
    const SOME: u64 = 300_000;
    const GROUP: u64 = 64;
    let options = StoreOptions {
        memory_bytes: 1 << 30,
        ..StoreOptions::default()
    };
    let mut store = Store::open(Arc::new(MemoryEngine::default()), options).unwrap();
    (0..SOME).for_each(|number| _ = put(&mut store, number, &[b'v'; 100]));
    for round in 0..10_u8 {
        let ahead = round % 2 == 1;
        let what = if ahead { "ahead" } else { "committed" };
        timed(what, SOME, || {
            for number in 0..SOME {
                let key = key(number * 7 % SOME);
                let record = Record::Put {
                    key: &key,
                    value: &[round; 100],
                    expire_at_ms: 0,
                    created: false,
                };
                let lsn = store.applied().advance(1);
                if ahead {
                    store.apply_ahead(&record, lsn).unwrap();
                    if number % GROUP == 0 {
                        store.committed(lsn);
                    }
                } else {
                    store.apply(&record, lsn).unwrap();
                }
            }
        });
    }
}

#[test]
#[ignore = "a measurement"]
fn three_million_keys() {
    let dir =
        tempfile::tempdir_in(std::env::var("BENCH_DIR").unwrap_or_else(|_| "/tmp".into())).unwrap();
    let path = dir.path().join("lsm");
    let options = LsmOptions::default();
    let engine = Arc::new(LsmEngine::open(&path, &options).unwrap());
    let store_options = StoreOptions {
        memory_bytes: 2 << 30,
        ..StoreOptions::default()
    };
    let mut store = Store::open(engine.clone(), store_options).unwrap();
    let before = resident_kib();
    let slowest = timed("apply", KEYS, || {
        let applied = (0..KEYS).map(|number| put(&mut store, number, &[b'v'; 100]));
        applied.max().unwrap()
    });
    println!("slowest apply {slowest:?}");
    let resident = (resident_kib() - before) * 1024;
    println!(
        "memory {} B a key, counted {}",
        resident / KEYS,
        store.bytes() as u64 / KEYS
    );
    timed("get, unflushed", KEYS, || {
        for number in 0..KEYS {
            assert!(store.get(&key(number)).unwrap().value.is_some());
        }
    });
    let job = timed("seal", 1, || store.seal(Cut::default()).unwrap());
    let done = timed("flush", KEYS, || job.run().unwrap());
    timed("finish", 1, || store.finish_flush(done).unwrap());
    let mut slowest = std::time::Duration::ZERO;
    timed("settle", KEYS, || {
        loop {
            let start = Instant::now();
            let more = store.settle();
            slowest = slowest.max(start.elapsed());
            if !more {
                break;
            }
        }
    });
    println!("slowest settle {slowest:?}");
    timed("get, cached", KEYS, || {
        for number in 0..KEYS {
            assert!(store.get(&key(number)).unwrap().value.is_some());
        }
    });
    timed("get, absent", 300_000, || {
        for number in KEYS..KEYS + 300_000 {
            assert!(store.get(&key(number)).unwrap().value.is_none());
        }
    });
    timed("apply, overwritten", KEYS, || {
        (0..KEYS).for_each(|number| _ = put(&mut store, number * 7 % KEYS, &[b'x'; 100]));
    });
    let job = store.seal(Cut::default()).unwrap();
    (0..KEYS / 3).for_each(|number| _ = put(&mut store, number * 11 % KEYS, &[b'y'; 100]));
    let done = timed("flush, overwritten", KEYS, || job.run().unwrap());
    store.finish_flush(done).unwrap();
    timed("settle, overwritten", KEYS, || while store.settle() {});
    let mut slowest = std::time::Duration::ZERO;
    timed("apply in 32 flushes, all overwritten", KEYS, || {
        for number in 0..KEYS {
            slowest = slowest.max(put(&mut store, number * 7 % KEYS, &[b'w'; 100]));
            if number % (KEYS / 32) == 0 {
                let done = store.seal(Cut::default()).unwrap().run().unwrap();
                store.finish_flush(done).unwrap();
                while store.settle() {}
                while engine.compact_step().unwrap() {}
            }
        }
    });
    println!("slowest apply {slowest:?}, {:?}", engine.stats());
    let copy = dir.path().join("copy");
    timed("checkpoint", 1, || engine.checkpoint(&copy).unwrap());
    timed("digest", KEYS, || digest(&*engine).unwrap());
    drop(store);
    drop(engine);
    let engine = timed("open", 1, || {
        Arc::new(LsmEngine::open(&path, &options).unwrap())
    });
    let mut store = Store::open(engine, store_options).unwrap();
    timed("get, from the engine", 300_000, || {
        for number in 0..300_000 {
            assert!(store.get(&key(number * 10)).unwrap().value.is_some());
        }
    });
    timed("get, absent", 300_000, || {
        for number in KEYS..KEYS + 300_000 {
            assert!(store.get(&key(number)).unwrap().value.is_none());
        }
    });
}
