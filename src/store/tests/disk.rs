//! What happens on disk: crashes, checkpoints, compaction, generations, big values.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::replication::Lsn;

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn key(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

/// The directory is copied, file by file, while flushes go on; an image of which the manifest
/// was replaced meanwhile may lack files and then does not open, as no crash would leave it.
/// Every image that opens is at some F, with exactly the state of that F.
#[test]
fn an_image_of_the_directory_is_at_a_cut_and_never_between() {
    let dir = temp_dir();
    let path = dir.path().join("lsm");
    let mut writer = Writer::new(open_lsm(&path));
    for round in 1..=20_u32 {
        for number in 0..50 {
            writer.put(&key(number), &round.to_le_bytes());
        }
        let job = writer.store.seal(Cut::default()).unwrap();
        let before = dir.path().join("before");
        copy_dir(&path, &before);
        let done = job.run().unwrap();
        // Not finished: what the store was told does not matter.
        let after = dir.path().join("after");
        copy_dir(&path, &after);
        for (image, expected) in [(&before, round - 1), (&after, round)] {
            let mut image_store = Writer::new(open_lsm(image));
            assert_eq!(image_store.store.applied(), Lsn(u64::from(expected) * 50));
            for number in 0..50 {
                let value = (expected > 0).then(|| expected.to_le_bytes().to_vec());
                assert_eq!(image_store.value(&key(number)), value);
            }
            fs::remove_dir_all(image).unwrap();
        }
        writer.store.finish_flush(done).unwrap();
        while writer.store.engine().compact_step().unwrap() {}
    }
}

#[test]
fn files_of_a_flush_that_never_became_current_are_forgotten() {
    let dir = temp_dir();
    let path = dir.path().join("lsm");
    let mut writer = Writer::new(open_lsm(&path));
    writer.put(b"a", b"1");
    writer.flush();
    let current = fs::read(path.join("current")).unwrap();
    let manifest = format!("v{}", u64::from_le_bytes(*current.first_chunk().unwrap()));
    let old_manifest = fs::read(path.join(&manifest)).unwrap();
    writer.put(b"a", b"2");
    writer.put(b"b", b"2");
    writer.flush();
    drop(writer);
    // As if the power had failed before the rename: the new files are there, unreferenced.
    fs::write(path.join("current"), current).unwrap();
    fs::write(path.join(manifest), old_manifest).unwrap();
    let result = LsmEngine::open(&path, &small_tables());
    let mut writer = Writer::new(Arc::new(result.unwrap()));
    assert_eq!(writer.value(b"a"), Some(b"1".to_vec()));
    assert_eq!(writer.value(b"b"), None);
    assert_eq!(writer.store.len(), 1);
    writer.put(b"b", b"3");
    writer.flush();
    let mut writer = Writer::new(Arc::clone(writer.store.engine()));
    assert_eq!(writer.value(b"b"), Some(b"3".to_vec()));
}

/// Ends the other threads of a test even if it fails.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One thread flushes and compacts, the test takes checkpoints: each is the state at its F,
/// which the value of every key tells.
#[test]
fn a_checkpoint_amid_flushes_and_compaction_is_the_state_at_its_cut() {
    let dir = temp_dir();
    let engine = open_lsm(&dir.path().join("lsm"));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut writer = Writer::new(engine.clone());
        // Nothing stays in memory: the engine is read while it changes.
        writer.store.options.memory_bytes = 1;
        let stop = &stop;
        scope.spawn(move || {
            for round in 1_u64.. {
                for number in 0..300 {
                    let expected = (round > 1).then(|| (round - 1).to_le_bytes().to_vec());
                    assert_eq!(writer.value(&key(number)), expected);
                    writer.put(&key(number), &round.to_le_bytes());
                }
                writer.flush();
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let compactor = engine.clone();
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                compactor.compact_step().unwrap();
            }
        });
        let _stop = StopOnDrop(stop);
        for number in 0..30 {
            let copy = dir.path().join(format!("copy{number}"));
            let checkpoint = engine.checkpoint(&copy).unwrap();
            check_checkpoint(&copy, &checkpoint);
            fs::remove_dir_all(copy).unwrap();
        }
    });
}

fn check_checkpoint(copy: &Path, checkpoint: &Checkpoint) {
    for file in &checkpoint.files {
        let size = fs::metadata(copy.join(&file.name)).unwrap().len();
        assert_eq!(size, file.size, "{}", file.name);
    }
    let round = checkpoint.meta.flushed.0 / 300;
    let engine = open_lsm(copy);
    assert_eq!(engine.meta().unwrap(), checkpoint.meta);
    let mut writer = Writer::new(engine);
    for number in 0..300 {
        let expected = (round > 0).then(|| round.to_le_bytes().to_vec());
        assert_eq!(writer.value(&key(number)), expected);
    }
}

/// What the receiver of a copy needs: the files of the list are all there is.
#[test]
fn the_listed_files_are_the_whole_checkpoint() {
    let dir = temp_dir();
    let mut writer = Writer::new(open_lsm(&dir.path().join("lsm")));
    for number in 0..1000 {
        writer.put(&key(number), &[1; 100]);
    }
    writer.flush();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let checkpoint = writer.store.engine().checkpoint(&from).unwrap();
    for file in &checkpoint.files {
        let target = to.join(&file.name);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(from.join(&file.name), target).unwrap();
    }
    drop(writer.store.engine().checkpoint(&from).unwrap_err());
    let engine = open_lsm(&to);
    assert_eq!(contents(&*engine), contents(&**writer.store.engine()));
    drop(engine);
    let missing = checkpoint
        .files
        .iter()
        .find(|file| file.name.starts_with("tables/"));
    fs::remove_file(to.join(&missing.unwrap().name)).unwrap();
    assert!(LsmEngine::open(&to, &small_tables()).is_err());
}

#[test]
fn the_digest_tells_states_apart_and_nothing_else() {
    let dir = temp_dir();
    let path = dir.path().join("lsm");
    let mut writer = Writer::new(open_lsm(&path));
    let mut seen = std::collections::BTreeSet::new();
    let mut digest_of = |writer: &mut Writer| {
        writer.flush();
        let (meta, digest) = digest(&**writer.store.engine()).unwrap();
        assert_eq!(meta.keys, digest.keys);
        (digest, seen.insert(digest.sum))
    };
    assert!(digest_of(&mut writer).1);
    writer.put(b"k1", b"v1");
    let (first, new) = digest_of(&mut writer);
    assert!(new);
    // Computed by another program: replicas of other versions and machines compare theirs.
    assert_eq!(first.sum, GOLDEN);
    writer.put(b"k1", b"v2");
    assert!(digest_of(&mut writer).1);
    writer.put_expiring(b"k1", b"v1", 5);
    assert!(digest_of(&mut writer).1);
    writer.put(b"k", b"1v1");
    writer.delete(b"k1");
    assert!(digest_of(&mut writer).1);
    writer.apply(&Record::Clear);
    assert!(!digest_of(&mut writer).1, "as empty as at first");
    writer.put(b"k1", b"v1");
    assert_eq!(digest_of(&mut writer), (first, false));
    drop(writer);
    assert_eq!(digest(&*open_lsm(&path)).unwrap().1, first);
}

const GOLDEN: u128 = 0xd941_0f78_4232_d27d_63bc_667c_a93a_73e9;

#[test]
fn a_clear_frees_the_disk() {
    let dir = temp_dir();
    let mut writer = Writer::new(open_lsm(&dir.path().join("lsm")));
    for round in 0..5_u8 {
        for number in 0..2000 {
            writer.put(&key(number), &[round; 100]);
        }
        writer.flush();
        while writer.store.engine().compact_step().unwrap() {}
    }
    let full = writer.store.engine().stats();
    assert!(full.disk_bytes > 200_000);
    writer.apply(&Record::Clear);
    writer.put(b"after", b"v");
    for _ in 0..3 {
        writer.flush();
        while writer.store.engine().compact_step().unwrap() {}
    }
    let stats = writer.store.engine().stats();
    // The table that the meta record shares stays until it is compacted.
    assert!(stats.disk_bytes < full.disk_bytes / 2, "{stats:?}");
    assert_eq!(contents(&**writer.store.engine()).len(), 1);
    let files = fs::read_dir(dir.path().join("lsm/tables")).unwrap();
    assert_eq!(files.count() as u64, stats.files);
}

/// 300 flushes without anybody compacting: more than the manifest could count.
#[test]
fn flushes_compact_where_nobody_else_does() {
    let dir = temp_dir();
    let mut writer = Writer::new(open_lsm(&dir.path().join("lsm")));
    for round in 0..300 {
        writer.put(b"same", &key(round));
        writer.put(&key(round), b"v");
        writer.flush();
        assert!(writer.store.engine().stats().backlog < 30);
    }
    assert_eq!(writer.value(b"same"), Some(key(299).to_vec()));
    assert_eq!(contents(&**writer.store.engine()).len(), 301);
    let files = fs::read_dir(dir.path().join("lsm")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    let manifest = names.pop().unwrap();
    assert!(manifest.starts_with('v'), "{manifest}");
    assert_eq!(names, ["current", "manifest.copy", "tables"]);
}

#[test]
fn values_far_beyond_a_block_work() {
    let dir = temp_dir();
    let path = dir.path().join("lsm");
    let mut writer = Writer::new(open_lsm(&path));
    let big: Vec<u8> = (0..20_000_000_u32).map(|number| number as u8).collect();
    writer.put(b"big", &big);
    writer.put(b"small", b"v");
    let longest = vec![b'k'; MAX_KEY];
    writer.put(&longest, &vec![b'v'; 100_000]);
    writer.flush();
    while writer.store.engine().compact_step().unwrap() {}
    drop(writer);
    let mut writer = Writer::new(open_lsm(&path));
    assert_eq!(writer.value(b"big").unwrap(), big);
    assert_eq!(writer.value(b"small"), Some(b"v".to_vec()));
    assert_eq!(writer.value(&longest), Some(vec![b'v'; 100_000]));
}

#[test]
#[ignore = "takes gigabytes"]
fn the_biggest_value_works() {
    let dir = temp_dir();
    let path = dir.path().join("lsm");
    let mut writer = Writer::new(open_lsm(&path));
    let big = vec![b'v'; MAX_VALUE];
    writer.put(b"big", &big);
    writer.put(b"bigger", b"v");
    writer.flush();
    writer.put(b"bigger", b"w");
    writer.flush();
    while writer.store.engine().compact_step().unwrap() {}
    drop(writer);
    let mut writer = Writer::new(open_lsm(&path));
    let found = writer.store.get(b"big").unwrap().value.unwrap();
    assert!(found.value == big);
    assert_eq!(digest(&**writer.store.engine()).unwrap().1.keys, 2);
}

/// A table is damaged: reads of it fail, and say so.
#[test]
fn a_damaged_block_is_an_error() {
    let dir = temp_dir();
    let path = dir.path().join("lsm");
    let mut writer = Writer::new(open_lsm(&path));
    for number in 0..1000 {
        writer.put(&key(number), &[1; 100]);
    }
    writer.flush();
    drop(writer);
    let table = fs::read_dir(path.join("tables")).unwrap().next().unwrap();
    let table = table.unwrap().path();
    let mut bytes = fs::read(&table).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&table, bytes).unwrap();
    let mut store = open_store(open_lsm(&path));
    let failures = (0..1000).filter(|number| store.get(&key(*number)).is_err());
    assert!(failures.count() > 0);
    assert!(digest(&**store.engine()).is_err());
}
