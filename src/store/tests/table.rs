//! Goal: two tables among which entries move show what two maps show, and take hardly more memory.
//!
//! Method: random operations on entries of a few shards only, with values of lengths that change, some of
//! them long; after each, every key is looked up, and at last both tables are emptied.

use std::collections::BTreeMap;
use std::hash::BuildHasher;

use proptest::prelude::*;

use super::super::draft::Draft;
use super::super::table::{Common, Hand, SHARDS, Table, shard_of};
use super::cases;
use crate::replication::Lsn;

const KEYS: usize = 150;

#[derive(Clone, Debug)]
enum Op {
    Put(usize, usize, usize),
    /// Several keys get values of one length.
    Fill(usize, usize, usize),
    Remove(usize, usize),
    Visit(usize, usize),
    Evict(usize, usize),
    /// Every entry of the second table goes, those whose key leaves this rest of three to the first one.
    Move(usize),
}

fn any_op() -> impl Strategy<Value = Op> {
    let len = prop_oneof![
        12 => 0..300_usize,
        2 => 300..5000_usize,
        1 => 5000..70_000_usize,
    ];
    prop_oneof![
        20 => (0..2_usize, 0..KEYS, len).prop_map(|(table, key, len)| Op::Put(table, key, len)),
        3 => (0..2_usize, 0..KEYS, 0..200_usize).prop_map(|(table, key, len)| Op::Fill(table, key, len)),
        10 => (0..2_usize, 0..KEYS).prop_map(|(table, key)| Op::Remove(table, key)),
        2 => (0..2_usize, 0..KEYS).prop_map(|(table, key)| Op::Visit(table, key)),
        2 => (0..2_usize, 1..3000_usize).prop_map(|(table, steps)| Op::Evict(table, steps)),
        1 => (0..4_usize).prop_map(Op::Move),
    ]
}

/// A length, and an LSN that tells what is in the value.
type Model = BTreeMap<usize, (usize, Lsn)>;

struct Tables {
    keys: Vec<(u64, Vec<u8>)>,
    both: [Table; 2],
    models: [Model; 2],
    hands: [Hand; 2],
    lsn: Lsn,
}

fn value(len: usize, lsn: Lsn) -> Vec<u8> {
    (0..len).map(|at| (at as u64 * 7 + lsn.0) as u8).collect()
}

impl Tables {
    fn new() -> Self {
        let common = Common::default();
        let few = [0, SHARDS / 2, SHARDS - 1];
        let keys = (0_u32..).map(|number| {
            let key = number.to_string().into_bytes();
            (common.hasher.hash_one(&key[..]), key)
        });
        let keys = keys.filter(|(hash, _)| few.contains(&shard_of(*hash)));
        Self {
            keys: keys.take(KEYS).collect(),
            both: [Table::new(common.clone()), Table::new(common)],
            models: Default::default(),
            hands: Default::default(),
            lsn: Lsn::ZERO,
        }
    }

    fn put(&mut self, table: usize, key: usize, len: usize) {
        self.lsn = self.lsn.advance(1);
        let (hash, bytes) = &self.keys[key];
        let value = value(len, self.lsn);
        let replaced = self.both[table].insert(*hash, &Draft::put(bytes, &value, 0, self.lsn));
        let old = self.models[table].insert(key, (len, self.lsn));
        assert_eq!(replaced, old.is_some());
    }

    fn has(&self, table: usize, key: usize) -> bool {
        let (hash, bytes) = &self.keys[key];
        self.both[table].find(*hash, bytes).is_some()
    }

    fn evict(&mut self, table: usize, steps: usize) {
        let (before, mut evicted) = (self.models[table].len(), 0);
        for _ in 0..steps {
            evicted += usize::from(self.both[table].evict_step(&mut self.hands[table]));
        }
        let mut model = std::mem::take(&mut self.models[table]);
        model.retain(|key, _| self.has(table, *key));
        assert_eq!(before - model.len(), evicted);
        self.models[table] = model;
    }

    fn move_all(&mut self, rest: usize) {
        for shard in 0..SHARDS {
            let drained = self.both[1].drain_shard(shard);
            let mut wanted = Vec::new();
            for (handle, entry) in drained.iter() {
                let key = self
                    .keys
                    .iter()
                    .position(|key| key.1 == entry.key())
                    .unwrap();
                let moved = self.models[1].remove(&key).unwrap();
                if key % 3 == rest || rest == 3 {
                    wanted.push((self.keys[key].0, handle));
                    self.models[0].insert(key, moved);
                }
            }
            self.both[0].absorb(drained, &wanted);
        }
        assert_eq!((self.both[1].len(), self.both[1].bytes()), (0, 0));
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Put(table, key, len) => self.put(table, key, len),
            Op::Fill(table, key, len) => {
                (0..KEYS / 3).for_each(|more| self.put(table, (key + more) % KEYS, len));
            }
            Op::Remove(table, key) => {
                let (hash, bytes) = &self.keys[key];
                let removed = self.both[table].remove(*hash, bytes);
                assert_eq!(removed, self.models[table].remove(&key).is_some());
            }
            Op::Visit(table, key) => {
                let (hash, bytes) = &self.keys[key];
                if let Some(slot) = self.both[table].find(*hash, bytes) {
                    self.both[table].visit(slot);
                }
            }
            Op::Evict(table, steps) => self.evict(table, steps),
            Op::Move(rest) => self.move_all(rest),
        }
    }

    fn check(&self) {
        for (table, model) in self.both.iter().zip(&self.models) {
            assert_eq!(table.len(), model.len());
            assert_eq!(table.slots().count(), model.len());
            assert_eq!(table.bytes(), table.recount());
            let mut live = 0;
            for (key, (hash, bytes)) in self.keys.iter().enumerate() {
                let found = table.find(*hash, bytes).map(|slot| table.at(slot));
                let expected = model.get(&key);
                assert_eq!(found.is_some(), expected.is_some());
                if let (Some(entry), Some((len, lsn))) = (found, expected) {
                    assert!(table.touch(*hash).is_some());
                    assert_eq!((entry.key(), entry.lsn()), (&bytes[..], *lsn));
                    assert_eq!(entry.value().unwrap().value, value(*len, *lsn));
                    live += len + bytes.len();
                }
            }
            // A quarter may be garbage; the last chunk of each shard may be empty for the most part.
            let most = live / 3 * 4 + 3 * (8 << 10) + KEYS * 100;
            assert!(table.bytes() < most, "{} for {live}", table.bytes());
        }
    }
}

proptest! {
    #![proptest_config(cases(32))]

    #[test]
    fn tables_show_what_maps_show(ops in prop::collection::vec(any_op(), 1..200)) {
        let mut tables = Tables::new();
        for op in &ops {
            tables.apply(op);
            tables.check();
        }
        for table in 0..2 {
            for key in 0..KEYS {
                tables.apply(&Op::Remove(table, key));
            }
            tables.check();
            prop_assert_eq!(tables.both[table].bytes(), 0);
        }
    }
}
