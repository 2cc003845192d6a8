//! How keys lie in the tree: the meta record first, then the generations one after the other.

use std::ops::Range;

/// Where the [`Meta`](crate::store::Meta) record is. It sorts before everything else.
pub(super) const META: &[u8] = &[0];

/// First byte of the keys of entries.
const ENTRY: u8 = 1;

/// Bytes before the caller's key.
pub(super) const PREFIX: usize = 5;

fn append(into: &mut Vec<u8>, generation: u32, key: &[u8]) {
    into.push(ENTRY);
    into.extend_from_slice(&generation.to_be_bytes());
    into.extend_from_slice(key);
}

/// The key of an entry.
pub(super) fn entry(generation: u32, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PREFIX + key.len());
    append(&mut bytes, generation, key);
    bytes
}

/// The first key after those of a generation.
pub(super) fn end(generation: u32) -> Vec<u8> {
    match generation.checked_add(1) {
        Some(next) => entry(next, b""),
        None => vec![ENTRY + 1],
    }
}

/// All keys of the generations below this one.
pub(super) fn below(generation: u32) -> Range<Vec<u8>> {
    entry(0, b"")..entry(generation, b"")
}

/// The generation of an entry's key; `None` if it is not the key of an entry.
pub(super) fn generation(key: &[u8]) -> Option<u32> {
    match key {
        [ENTRY, a, b, c, d, ..] => Some(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_by_generation_after_the_meta_record() {
        let keys = [
            META.to_vec(),
            entry(0, b""),
            entry(0, b"\xff\xff"),
            end(0),
            entry(1, b"a"),
            entry(256, b""),
            entry(u32::MAX, b"\xff"),
            end(u32::MAX),
        ];
        assert!(keys.is_sorted());
        assert_eq!(entry(258, b"k"), b"\x01\0\0\x01\x02k");
        assert_eq!(generation(&entry(258, b"k")), Some(258));
        assert_eq!(generation(META), None);
    }
}
