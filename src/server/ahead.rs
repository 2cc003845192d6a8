//! Looks keys of the next commands, or records, up together, before any of them is executed: the processor
//! then waits for the memory of several at once, and not for one after the other. Decides nothing.

use std::hint::black_box;

use crate::resp::{Decoded, Decoder};
use crate::store::{Record, Store};

/// Commands that are looked ahead: of more, the first would be out of the caches again.
pub(super) const STEP: usize = 16;
/// Bytes that are looked at: a long command that is not all there is not parsed again and again.
const REACH: usize = 8 << 10;

/// Looks up what may be the keys of commands in `input`: the first argument of each. Where that is
/// no key, nothing is lost but a little time.
pub(super) fn look(store: &Store, decoder: &mut Decoder, input: &[u8]) {
    let mut hashes = [0; STEP];
    let mut found = 0;
    let mut rest = input.get(..REACH).unwrap_or(input);
    while found < STEP
        && let Ok(Decoded::Command { args, consumed }) = decoder.decode(rest)
    {
        hashes[found] = store.hash(args.at(1));
        found += 1;
        rest = rest.get(consumed..).unwrap_or_default();
    }
    touch(store, hashes.iter().take(found));
    *decoder = Decoder::default();
}

/// The same for the records that are next in the payload of a frame.
pub(super) fn look_at_records(store: &Store, payload: &[u8]) {
    let mut hashes = [0; STEP];
    let mut found = 0;
    let mut rest = payload;
    while found < STEP
        && !rest.is_empty()
        && let Ok((record, used)) = Record::decode(rest)
    {
        if let Record::Put { key, .. } | Record::Delete { key } = record {
            hashes[found] = store.hash(key);
            found += 1;
        }
        rest = rest.get(used..).unwrap_or_default();
    }
    touch(store, hashes.iter().take(found));
}

fn touch<'a>(store: &Store, hashes: impl Iterator<Item = &'a u64>) {
    for hash in hashes {
        black_box(store.touch(*hash));
    }
}
