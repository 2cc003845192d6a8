//! What the random test of the store does, and what a map shows.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::replication::Lsn;

/// What expires by then is not found by those who walk.
pub(super) const NOW: u64 = 3;

#[derive(Clone, Debug)]
pub(super) enum Op {
    Put(u8, usize, u64),
    Delete(u8),
    Clear,
    Barrier,
    Get(u8),
    /// Some keys are read without the lock.
    Warm(u8),
    TakeWarm,
    Seal,
    Run,
    DropJob,
    Finish,
    Settle,
    Abort,
    Evict,
    Reset,
    Reopen,
    Compact,
    Scan(usize),
    /// What the next scan will read is read without the lock.
    ReadPage(usize),
    TakePage,
    RepeatScan,
    RandomKey(u64),
    Expired(u64),
    Checkpoint,
    /// From now on what is applied is committed at once, or not.
    Ahead(bool),
    /// Some of what is not committed is.
    Commit(usize),
    /// Some of what is not is taken back.
    TakeBack(usize),
}

pub(super) fn any_op() -> impl Strategy<Value = Op> {
    let expiry = prop_oneof![3 => Just(0_u64), 1 => 1..10_u64];
    prop_oneof![
        30 => (0..60_u8, 0..200_usize, expiry).prop_map(|(key, len, at)| Op::Put(key, len, at)),
        12 => (0..60_u8).prop_map(Op::Delete),
        2 => Just(Op::Clear),
        1 => Just(Op::Barrier),
        12 => (0..60_u8).prop_map(Op::Get),
        6 => (0..60_u8).prop_map(Op::Warm),
        6 => Just(Op::TakeWarm),
        6 => Just(Op::Seal),
        6 => Just(Op::Run),
        1 => Just(Op::DropJob),
        6 => Just(Op::Finish),
        4 => Just(Op::Settle),
        2 => Just(Op::Abort),
        2 => Just(Op::Evict),
        2 => Just(Op::Reset),
        2 => Just(Op::Reopen),
        4 => Just(Op::Compact),
        8 => (1..20_usize).prop_map(Op::Scan),
        4 => (1..20_usize).prop_map(Op::ReadPage),
        4 => Just(Op::TakePage),
        2 => Just(Op::RepeatScan),
        2 => any::<u64>().prop_map(Op::RandomKey),
        3 => (0..12_u64).prop_map(Op::Expired),
        1 => Just(Op::Checkpoint),
        3 => any::<bool>().prop_map(Op::Ahead),
        6 => (0..20_usize).prop_map(Op::Commit),
        6 => (0..20_usize).prop_map(Op::TakeBack),
    ]
}

/// A value, its expiry and the LSN of its record; `None` for what was deleted.
pub(super) type State = BTreeMap<Vec<u8>, (Option<(Vec<u8>, u64)>, Lsn)>;

#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    pub(super) state: State,
    pub(super) at: Lsn,
}

impl Snapshot {
    pub(super) fn live(&self) -> impl Iterator<Item = (&Vec<u8>, &(Vec<u8>, u64))> {
        let entries = self.state.iter();
        entries.filter_map(|(key, (value, _))| Some((key, value.as_ref()?)))
    }

    /// Those that have not expired.
    pub(super) fn shown(&self) -> impl Iterator<Item = &Vec<u8>> {
        let live = self.live();
        let shown = live.filter(|(_, (_, at))| *at == 0 || *at > NOW);
        shown.map(|(key, _)| key)
    }

    pub(super) fn len(&self) -> u64 {
        self.live().count() as u64
    }
}
