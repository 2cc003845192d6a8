//! Goal: the engine on disk does what the one in memory does.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    /// Changes of keys, and whether a new generation begins with them.
    Ingest(BTreeMap<u8, Option<Vec<u8>>>, bool),
    Retire,
    Compact,
    Squeeze,
    Reopen,
    Range(u8),
    Checkpoint,
}

fn any_op() -> impl Strategy<Value = Op> {
    let value = proptest::option::weighted(0.7, proptest::collection::vec(any::<u8>(), 0..600));
    let changes = proptest::collection::btree_map(any::<u8>(), value, 0..40);
    prop_oneof![
        8 => (changes, proptest::bool::weighted(0.1)).prop_map(|(c, new)| Op::Ingest(c, new)),
        1 => Just(Op::Retire),
        4 => Just(Op::Compact),
        1 => Just(Op::Squeeze),
        1 => Just(Op::Reopen),
        4 => any::<u8>().prop_map(Op::Range),
        1 => Just(Op::Checkpoint),
    ]
}

fn compare(disk: &dyn Engine, memory: &dyn Engine, from: &[u8]) {
    let meta = memory.meta().unwrap();
    assert_eq!(disk.meta().unwrap(), meta);
    let range = |engine: &dyn Engine| -> Vec<_> {
        let entries = engine.range(meta.generation, from);
        entries.map(Result::unwrap).collect()
    };
    assert_eq!(range(disk), range(memory));
    for key in 0..=255_u8 {
        let get = |engine: &dyn Engine| {
            let mut value = b"before".to_vec();
            let found = engine.get(meta.generation, &[key], &mut value).unwrap();
            (found, value)
        };
        assert_eq!(get(disk), get(memory));
    }
    let sample = disk.sample(meta.generation, 12345).unwrap();
    let sampled = memory.sample(meta.generation, 12345).unwrap();
    assert_eq!(sample.is_some(), sampled.is_some());
    if let Some(key) = sample {
        let mut value = Vec::new();
        assert!(memory.get(meta.generation, &key, &mut value).unwrap());
    }
}

fn run(ops: Vec<Op>) {
    let dir = temp_dir();
    let path = dir.path().join("lsm");
    let mut disk = open_lsm(&path);
    let memory = MemoryEngine::default();
    let mut meta = Meta::default();
    for op in ops {
        match op {
            Op::Ingest(changes, new_generation) => {
                meta.generation += u32::from(new_generation);
                meta.flushed = meta.flushed.advance(1);
                let keys: Vec<_> = changes.keys().map(|key| [*key]).collect();
                let entries = || {
                    let values = changes.values().map(Option::as_deref);
                    keys.iter().map(<[u8; 1]>::as_slice).zip(values)
                };
                disk.ingest(&mut entries(), &meta).unwrap();
                memory.ingest(&mut entries(), &meta).unwrap();
            }
            Op::Retire => {
                disk.retire(meta.generation);
                memory.retire(meta.generation);
            }
            Op::Compact => {
                while disk.compact_step().unwrap() {}
                while memory.compact_step().unwrap() {}
            }
            Op::Squeeze => {
                disk.squeeze().unwrap();
                memory.squeeze().unwrap();
                let stats = disk.stats();
                let live = memory.range(meta.generation, b"").count() as u64;
                assert!(
                    stats.entries <= live + 1 || meta.generation > 0,
                    "{stats:?}"
                );
            }
            Op::Reopen => {
                drop(disk);
                disk = open_lsm(&path);
            }
            Op::Range(from) => compare(&*disk, &memory, &[from]),
            Op::Checkpoint => {
                let copy = temp_dir();
                let copy = copy.path().join("copy");
                disk.checkpoint(&copy).unwrap();
                compare(&*open_lsm(&copy), &memory, b"");
            }
        }
    }
    compare(&*disk, &memory, b"");
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn the_engines_are_alike(ops in proptest::collection::vec(any_op(), 1..60)) {
        run(ops);
    }
}
