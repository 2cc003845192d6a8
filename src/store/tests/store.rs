//! Behaviours of the store that a random test would rarely meet.

use std::sync::Arc;

use super::*;
use crate::replication::Lsn;

fn writer() -> Writer {
    Writer::new(Arc::new(MemoryEngine::default()))
}

#[test]
fn the_store_and_its_jobs_move_between_threads() {
    fn sent<T: Send>() {}
    sent::<Store>();
    sent::<FlushJob>();
    sent::<ExpiryFill>();
    sent::<Garbage>();
}

#[test]
fn keys_and_values_beyond_the_limits_are_refused() {
    let mut writer = writer();
    let longest = vec![b'k'; MAX_KEY];
    writer.put(&longest, b"v");
    let too_long = vec![b'k'; MAX_KEY + 1];
    let record = Record::Delete { key: &too_long };
    let result = writer.store.apply(&record, Lsn(9));
    assert!(matches!(result, Err(StoreError::KeyTooLong(_))));
    assert_eq!(writer.store.applied(), Lsn(1));
    assert_eq!(writer.store.get(&too_long).unwrap().value, None);
    assert!(check_size(b"", &vec![0; MAX_VALUE + 1]).is_err());
}

#[test]
fn a_deletion_tells_its_lsn_until_it_is_flushed() {
    let mut writer = writer();
    writer.put(b"k", b"v");
    writer.delete(b"k");
    assert_eq!(writer.store.get(b"k").unwrap().lsn, Lsn(2));
    assert_eq!(writer.store.get(b"other").unwrap().lsn, Lsn::ZERO);
    writer.flush();
    assert_eq!(writer.store.get(b"k").unwrap().lsn, Lsn::ZERO);
    writer.apply(&Record::Clear);
    assert_eq!(writer.store.get(b"other").unwrap().lsn, Lsn(3));
}

#[test]
fn memory_stays_within_the_budget() {
    let engine = Arc::new(MemoryEngine::default());
    let options = StoreOptions {
        memory_bytes: 1 << 20,
        flush_bytes: 100 << 10,
        stall_bytes: 300 << 10,
        seed: 0,
    };
    let mut writer = Writer::new(engine);
    writer.store.options = options;
    for number in 0..50_000_u32 {
        writer.put(&number.to_be_bytes(), &[7; 50]);
        if writer.store.should_flush() {
            writer.flush();
            while writer.store.evict() {}
        }
        assert!(writer.store.bytes() < 1_100_000);
        assert!(!writer.store.write_stall());
    }
    assert!(writer.store.bytes() > 900_000);
    for number in 0..50_000_u32 {
        assert_eq!(writer.value(&number.to_be_bytes()), Some(vec![7; 50]));
        assert!(writer.store.bytes() < 1_100_000);
    }
}

#[test]
fn a_value_too_big_for_the_cache_is_read_all_the_same() {
    let mut writer = writer();
    writer.store.options.memory_bytes = 10_000;
    writer.put(b"big", &[1; 5000]);
    writer.flush();
    let mut reopened = Writer::new(Arc::clone(writer.store.engine()));
    reopened.store.options.memory_bytes = 10_000;
    assert_eq!(reopened.value(b"big"), Some(vec![1; 5000]));
    assert!(reopened.store.is_cold(b"big"));
    let warm = reopened.store.warmer().read([&b"big"[..]]).unwrap();
    reopened.store.take_warm(warm);
    assert!(reopened.store.is_cold(b"big"));
}

/// Data of four times the budget: every key is there with its value, whether it is read under the lock
/// or before, and memory stays within bounds.
#[test]
fn data_of_four_times_the_budget_is_all_there() {
    const KEYS: u32 = 50_000;
    const BUDGET: usize = 1 << 20;
    let value = |number: u32| format!("{number:0>100}").into_bytes();
    let dir = temp_dir();
    let mut writer = Writer::new(open_lsm(&dir.path().join("lsm")));
    writer.store.options = StoreOptions {
        memory_bytes: BUDGET,
        flush_bytes: BUDGET / 8,
        stall_bytes: BUDGET / 8 * 3,
        seed: 0,
    };
    let bounded = |store: &Store| assert!(store.bytes() < BUDGET + BUDGET / 10);
    for number in 0..KEYS {
        writer.put(&number.to_be_bytes(), &value(number));
        if writer.store.should_flush() {
            writer.flush();
            while writer.store.engine().compact_step().unwrap() {}
        }
        bounded(&writer.store);
    }
    writer.flush();
    assert!(writer.store.engine().stats().disk_bytes > 4 * BUDGET as u64);
    assert!(!writer.store.holds_everything());
    for start in (0..KEYS).step_by(100) {
        let keys: Vec<_> = (start..start + 100).map(u32::to_be_bytes).collect();
        let cold = keys.iter().filter(|key| writer.store.is_cold(&key[..]));
        let warm = writer.store.warmer().read(cold.map(|key| &key[..]));
        writer.store.take_warm(warm.unwrap());
        bounded(&writer.store);
        let before = writer.store.cache_stats().fetched;
        for number in start..start + 100 {
            assert_eq!(writer.value(&number.to_be_bytes()), Some(value(number)));
        }
        assert_eq!(writer.store.cache_stats().fetched, before, "all were warm");
    }
    let stats = writer.store.cache_stats();
    assert!(
        stats.warmed > u64::from(KEYS / 2) && stats.evicted > u64::from(KEYS),
        "{stats:?}"
    );
    for number in (0..KEYS).rev() {
        assert_eq!(writer.value(&number.to_be_bytes()), Some(value(number)));
        bounded(&writer.store);
    }
}

#[test]
fn of_starting_a_flush_and_cancelling_it_one_succeeds() {
    let mut writer = writer();
    writer.put(b"a", b"1");
    let job = writer.store.seal(Cut::default()).unwrap();
    assert!(writer.store.seal(Cut::default()).is_none());
    writer.put(b"b", b"1");
    assert_eq!(writer.store.reset(), Lsn::ZERO);
    assert!(matches!(job.run(), Err(StoreError::FlushCancelled)));
    assert!(writer.store.is_empty());

    writer.put(b"a", b"1");
    let job = writer.store.seal(Cut::default()).unwrap();
    writer.put(b"b", b"1");
    let done = job.run().unwrap();
    assert!(writer.store.abort_flush().is_err());
    assert_eq!(writer.store.reset(), Lsn(1));
    assert_eq!(writer.value(b"a"), Some(b"1".to_vec()));
    assert_eq!(writer.value(b"b"), None);
    writer.store.finish_flush(done).unwrap();
    assert_eq!(writer.store.meta().flushed, Lsn(1));
    assert_eq!(writer.store.len(), 1);
}

/// A seed replaces a store while a flush of it runs; the new one is at its first flush, too.
#[test]
fn a_flush_of_another_store_is_refused() {
    let (mut old, mut new) = (writer(), writer());
    old.put(b"a", b"1");
    new.put(b"b", b"1");
    let stray = old.store.seal(Cut::default()).unwrap().run().unwrap();
    let job = new.store.seal(Cut::default()).unwrap();
    let result = new.store.finish_flush(stray);
    assert!(matches!(result, Err(StoreError::FlushCancelled)));
    new.store.finish_flush(job.run().unwrap()).unwrap();
    assert_eq!(new.store.meta().flushed, Lsn(1));
    assert_eq!(new.value(b"b"), Some(b"1".to_vec()));
}

/// The flush that runs when everything is cleared finishes under the `Clear`: its entries must
/// not come to light when that is flushed, too.
#[test]
fn what_was_flushed_under_a_clear_stays_hidden() {
    let mut writer = writer();
    writer.put(b"old", b"1");
    let job = writer.store.seal(Cut::default()).unwrap();
    writer.apply(&Record::Clear);
    writer.put(b"new", b"2");
    let done = job.run().unwrap();
    writer.store.finish_flush(done).unwrap();
    let job = writer.store.seal(Cut::default()).unwrap();
    let done = job.run().unwrap();
    writer.store.finish_flush(done).unwrap();
    assert_eq!(writer.value(b"old"), None);
    assert_eq!(writer.value(b"new"), Some(b"2".to_vec()));
}

/// What the index learns from changes that are given up counts for nothing.
#[test]
fn a_reset_brings_expiries_back() {
    let mut first = writer();
    first.put_expiring(b"k", b"v", 5);
    first.flush();
    let mut writer = Writer::new(Arc::clone(first.store.engine()));
    // Not in memory, so the index keeps the old expiry until it is due.
    writer.apply(&Record::Put {
        key: b"k",
        value: b"w",
        expire_at_ms: 0,
        created: false,
    });
    let mut fill = writer.store.expiry_fill().unwrap();
    while let Some(found) = fill.step(1).unwrap() {
        writer.store.add_expiries(found);
    }
    assert!(writer.store.expired(9, 10).unwrap().is_empty());
    assert!(writer.store.expiry.is_empty());
    writer.store.reset();
    assert_eq!(writer.store.expired(9, 10).unwrap(), [b"k"]);
}

#[test]
fn scans_that_were_forgotten_are_told_so() {
    let mut writer = writer();
    for number in 0..100_u8 {
        writer.put(&[number], b"");
    }
    let (first, _) = writer.store.scan(0, 10, 0).unwrap();
    assert!(first != 0 && first < 1 << 53);
    for _ in 0..200 {
        let (other, _) = writer.store.scan(0, 10, 0).unwrap();
        assert_ne!(other, first);
    }
    let result = writer.store.scan(first, 10, 0);
    assert!(matches!(result, Err(StoreError::UnknownCursor(_))));
    assert!(writer.store.scan(12345, 10, 0).is_err());
    let (cursor, _) = writer.store.scan(0, 10, 0).unwrap();
    writer.store.reset();
    assert!(writer.store.scan(cursor, 10, 0).is_err());
}

#[test]
fn a_random_key_is_any_key() {
    let mut writer = writer();
    assert_eq!(writer.store.random_key(1, 0).unwrap(), None);
    let mut seen = std::collections::BTreeSet::new();
    for number in 0..20_u8 {
        writer.put(&[number], b"");
        if number == 10 {
            writer.flush();
        }
    }
    for random in 0..1000 {
        seen.extend(writer.store.random_key(random, 0).unwrap());
    }
    assert_eq!(seen.len(), 20);
    for number in 0..19_u8 {
        writer.delete(&[number]);
    }
    for random in 0..100 {
        assert_eq!(writer.store.random_key(random, 0).unwrap(), Some(vec![19]));
    }
}

#[test]
fn a_rewritten_expiry_leaves_no_hint_behind() {
    let mut writer = writer();
    for at in 1..1000 {
        writer.put_expiring(b"k", b"v", at);
    }
    assert_eq!(writer.store.expiry.len(), 1);
    assert!(writer.store.expired(998, 10).unwrap().is_empty());
    assert_eq!(writer.store.expired(999, 10).unwrap(), [b"k"]);
    writer.put(b"k", b"v");
    assert!(writer.store.expiry.is_empty());
    assert!(writer.store.expired(u64::MAX, 10).unwrap().is_empty());
}

/// A page that was read before is all that a step of a scan needs, and is of use once.
#[test]
fn a_scan_takes_its_page_from_what_was_read_without_the_lock() {
    let mut writer = writer();
    for key in 0..300_u32 {
        writer.put(&key.to_be_bytes(), b"v");
    }
    writer.flush();
    let (mut cursor, mut seen) = (0, Vec::new());
    loop {
        let reader = writer.store.page_reader(cursor, 20);
        if let Some(reader) = reader {
            writer.store.take_page(reader.read().unwrap());
            assert!(
                writer.store.page_reader(cursor, 20).is_none(),
                "it is there"
            );
        }
        let (next, keys) = writer.store.scan(cursor, 20, 0).unwrap();
        seen.extend(keys);
        cursor = next;
        if next == 0 {
            break;
        }
    }
    assert_eq!(seen.len(), 300);
    assert_eq!(writer.store.cache_stats().walked, 0);
}

/// A store in which nothing expires need not be looked through when it is opened.
#[test]
fn who_knows_that_nothing_expires_does_not_look_for_it() {
    let mut writer = writer();
    let reopen = |writer: &mut Writer, step: &dyn Fn(&mut Writer)| {
        step(writer);
        writer.flush();
        *writer = Writer::new(Arc::clone(writer.store.engine()));
        let fill = writer.store.expiry_fill();
        let (looked, mut found) = (fill.is_some(), 0);
        if let Some(mut fill) = fill {
            while let Some(expiries) = fill.step(10).unwrap() {
                found += expiries.hints.len();
                writer.store.add_expiries(expiries);
            }
            writer.store.expiries_filled(&fill);
        }
        (looked, found)
    };
    let plain = |writer: &mut Writer| writer.put(b"a", b"");
    let expires = |writer: &mut Writer| writer.put_expiring(b"b", b"", 9);
    assert_eq!(reopen(&mut writer, &plain), (false, 0));
    assert_eq!(reopen(&mut writer, &expires), (true, 1));
    assert_eq!(reopen(&mut writer, &plain), (true, 1));
    let gone = |writer: &mut Writer| writer.delete(b"b");
    assert_eq!(reopen(&mut writer, &gone), (false, 0));
}

/// Works a fill off.
fn fill(writer: &mut Writer) {
    if let Some(mut fill) = writer.store.expiry_fill() {
        while let Some(found) = fill.step(10).unwrap() {
            writer.store.add_expiries(found);
        }
        writer.store.expiries_filled(&fill);
    }
}

#[test]
fn what_a_clear_removed_does_not_come_back_into_the_index_of_expiries() {
    let mut writer = writer();
    writer.put_expiring(b"a", b"", 9);
    writer.put_expiring(b"b", b"", 9);
    writer.flush();
    // A crash, after which the log is gone over.
    let mut writer = Writer::new(Arc::clone(writer.store.engine()));
    let mut early = writer.store.expiry_fill().unwrap();
    let found = early.step(1).unwrap().unwrap();
    writer.store.add_expiries(found);
    assert_eq!(writer.store.expiring(), 1);
    writer.apply(&Record::Clear);
    // What was looked for before goes on, and another one begins.
    let found = early.step(10).unwrap().unwrap();
    writer.store.add_expiries(found);
    writer.store.expiries_filled(&early);
    fill(&mut writer);
    assert_eq!(writer.store.expiring(), 0);
    writer.put_expiring(b"c", b"", 9);
    assert_eq!(writer.store.expiring(), 1);
    // The `Clear` was not committed: what it removed is looked for anew.
    writer.store.reset();
    writer.store.expiries_filled(&early);
    assert!(writer.store.expiry_fill().is_some());
    fill(&mut writer);
    assert!(writer.store.expiring() >= 2);
    assert_eq!(writer.store.expired(9, 9).unwrap().len(), 2);
}

#[test]
fn who_walks_over_keys_meets_none_that_has_expired() {
    for flushed in [false, true] {
        let mut writer = writer();
        for number in 0..100_u8 {
            writer.put_expiring(&[number], b"", u64::from(number % 3) * 10);
        }
        if flushed {
            writer.flush();
        }
        for (now, left) in [(9, 100), (10, 67), (19, 67), (20, 34)] {
            let mut found = std::collections::BTreeSet::new();
            let mut cursor = 0;
            loop {
                // As a page that is read beforehand, and not.
                if let Some(reader) = writer.store.page_reader(cursor, 7)
                    && now % 2 == 0
                {
                    writer.store.take_page(reader.read().unwrap());
                }
                let (next, keys) = writer.store.scan(cursor, 7, now).unwrap();
                found.extend(keys);
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
            assert_eq!(found.len(), left, "at {now}");
            for random in 0..50 {
                let key = writer.store.random_key(random, now).unwrap().unwrap();
                assert!(found.contains(&key), "at {now}");
            }
        }
    }
    let mut writer = writer();
    writer.put_expiring(b"a", b"", 9);
    assert_eq!(writer.store.random_key(1, 9).unwrap(), None);
}

#[test]
fn what_is_not_committed_is_taken_back_with_a_flush_that_waits_for_it() {
    let mut writer = writer();
    writer.put_expiring(b"old", b"1", 9);
    writer.put(b"gone", b"1");
    writer.flush();
    let committed = writer.store.applied();
    let put = |key: &'static [u8], created| Record::Put {
        key,
        value: b"2",
        expire_at_ms: 0,
        created,
    };
    let ahead = [
        put(b"old", false),
        put(b"new", true),
        Record::Delete { key: b"gone" },
    ];
    let mut at = committed;
    for record in &ahead {
        at = at.advance(1);
        writer.store.apply_ahead(record, at).unwrap();
    }
    let job = writer.store.seal(Cut::default()).unwrap();
    for record in [put(b"old", false), Record::Clear, put(b"new", true)] {
        at = at.advance(1);
        writer.store.apply_ahead(&record, at).unwrap();
    }
    assert!(!writer.store.take_back(committed), "its job is held");
    assert_eq!((writer.store.len(), writer.store.applied()), (1, at));
    drop(job);
    assert!(writer.store.take_back(committed));
    assert_eq!((writer.store.len(), writer.store.applied()), (2, committed));
    assert!(!writer.store.is_flushing());
    for key in [&b"old"[..], b"gone"] {
        assert_eq!(writer.store.get(key).unwrap().value.unwrap().value, b"1");
    }
    assert_eq!(writer.store.get(b"new").unwrap().value, None);
    assert_eq!(writer.store.expired(9, 9).unwrap(), [b"old".to_vec()]);
    assert!(
        !writer.store.take_back(Lsn(committed.0 - 1)),
        "that is flushed"
    );
}

#[test]
fn what_can_be_taken_back_is_bounded_and_counts() {
    let mut writer = writer();
    writer.store.options.memory_bytes = 8 << 20;
    let before = writer.store.bytes();
    let value = vec![7; 10_000];
    let put = |created| Record::Put {
        key: b"k",
        value: &value,
        expire_at_ms: 0,
        created,
    };
    let mut at = Lsn::ZERO;
    let mut write = |writer: &mut Writer, times: u64| {
        for _ in 0..times {
            at = at.advance(1);
            writer.store.apply_ahead(&put(at == Lsn(1)), at).unwrap();
        }
        at
    };
    let end = write(&mut writer, 30);
    assert!(writer.store.bytes() > before + 300_000, "it counts");
    assert!(writer.store.take_back(Lsn(20)), "{end}");
    let end = {
        let mut at = Lsn(20);
        for _ in 0..200 {
            at = at.advance(1);
            writer.store.apply_ahead(&put(false), at).unwrap();
        }
        at
    };
    assert!(writer.store.bytes() < before + (2 << 20));
    assert!(!writer.store.take_back(Lsn(20)), "that is too much");
    assert!(writer.store.take_back(Lsn(end.0 - 10)));
    writer.store.committed(Lsn(end.0 - 10));
    assert_eq!(writer.store.reset(), Lsn::ZERO);
    assert!(!writer.store.take_back(Lsn(1)), "it is not there");
}
