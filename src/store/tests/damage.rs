//! What becomes of damage on disk: an error where it is read, never a wrong value; and the verification
//! finds it.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;

const KEYS: u32 = 3000;

fn key(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

fn value(number: u32, round: u32) -> Vec<u8> {
    format!("{round}:{number:0>60}").into_bytes()
}

/// A tree of several tables, with what is in it.
fn filled(path: &Path) -> BTreeMap<u32, Vec<u8>> {
    let mut writer = Writer::new(open_lsm(path));
    let mut expected = BTreeMap::new();
    for round in 1..=3 {
        for number in (0..KEYS).step_by(round as usize) {
            writer.put(&key(number), &value(number, round));
            expected.insert(number, value(number, round));
        }
        writer.flush();
        if round == 2 {
            while writer.store.engine().compact_step().unwrap() {}
        }
    }
    expected
}

/// The files that hold something that is nowhere else: the manifest has a copy.
fn files(path: &Path) -> Vec<PathBuf> {
    let list = |dir: &Path| {
        fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
    };
    let all = list(path).chain(list(&path.join("tables")));
    let mut all: Vec<_> = all.filter(|path| path.is_file()).collect();
    all.retain(|path| !path.ends_with(COPY));
    all.sort();
    all
}

const COPY: &str = "manifest.copy";

/// Goal: a manifest, or what names it, that is damaged or gone costs nothing.
/// Method: each is spoiled in every way, with the copy there; and the copy, with them there.
#[test]
fn a_damaged_manifest_is_restored_from_its_copy() {
    let dir = temp_dir();
    let path = dir.path().join("lsm");
    let expected = filled(&path);
    let small = |file: &PathBuf| !file.starts_with(path.join("tables"));
    let files = files(&path).into_iter().filter(small);
    for file in files.chain([path.join(COPY)]).collect::<Vec<_>>() {
        let intact = fs::read(&file).unwrap();
        for spoil in 0..5 {
            let mut bytes = intact.clone();
            let len = bytes.len();
            match spoil {
                0 => bytes.clear(),
                1 => bytes.truncate(len / 2),
                2 => bytes[0] ^= 1,
                3 => bytes[len / 2] ^= 1,
                _ => bytes[len - 1] ^= 1,
            }
            fs::write(&file, &bytes).unwrap();
            let read = read_everything(&path, &expected);
            assert_eq!(read, Some((0, vec![])), "{file:?} {spoil}");
        }
        fs::remove_file(&file).unwrap();
        let read = read_everything(&path, &expected);
        assert_eq!(read, Some((0, vec![])), "{file:?} is gone");
    }
}

/// Goal: a table that is not the one that was written is noticed before anything is read of it.
/// Method: one is cut, emptied, removed, replaced by another, made a directory: it is not opened.
#[test]
fn a_table_that_is_cut_or_another_one_is_not_opened() {
    let dir = temp_dir();
    let (path, other) = (dir.path().join("lsm"), dir.path().join("other"));
    filled(&path);
    filled(&other);
    let tables = |path: &Path| {
        let mut files = files(path);
        files.retain(|file| file.starts_with(path.join("tables")));
        files
    };
    let stranger = fs::read(&tables(&other)[0]).unwrap();
    for file in tables(&path) {
        let intact = fs::read(&file).unwrap();
        let half = &intact[..intact.len() / 2];
        for bytes in [Some(&stranger[..]), Some(half), Some(&[][..]), None] {
            match bytes {
                Some(bytes) => fs::write(&file, bytes).unwrap(),
                None => fs::remove_file(&file).unwrap(),
            }
            let error = LsmEngine::open(&path, &small_tables()).err().unwrap();
            assert!(error.is_damage(), "{file:?}: {error}");
        }
        fs::create_dir(&file).unwrap();
        let error = LsmEngine::open(&path, &small_tables()).err().unwrap();
        assert!(error.is_damage(), "{file:?}: {error}");
        fs::remove_dir(&file).unwrap();
        fs::write(&file, &intact).unwrap();
    }
    assert!(LsmEngine::open(&path, &small_tables()).is_ok());
}

/// Goal: of a tree that is damaged everything is saved that can be read.
/// Method: a table is removed, or a block of one is flipped: what the others hold is in the new tree, with no
/// value that was never written, and what is lost is told.
#[test]
fn what_can_be_read_is_salvaged() {
    let dir = temp_dir();
    let path = dir.path().join("lsm");
    let expected = filled(&path);
    let whole = dir.path().join("whole");
    let saved = LsmEngine::salvage(&path, &whole).unwrap();
    assert_eq!((saved.entries, saved.lost), (u64::from(KEYS), vec![]));
    assert_eq!(read_everything(&whole, &expected), Some((0, vec![])));
    let written = |number: u32, stored: &[u8]| {
        let mut rounds = (1..=3).map(|round| value(number, round));
        rounds.any(|value| stored.ends_with(&value))
    };
    let tables = files(&path).into_iter();
    for (nth, file) in tables
        .filter(|file| file.starts_with(path.join("tables")))
        .enumerate()
    {
        let intact = fs::read(&file).unwrap();
        for removed in [false, true] {
            if removed {
                fs::remove_file(&file).unwrap();
            } else {
                let mut bytes = intact.clone();
                bytes[100] ^= 1;
                fs::write(&file, bytes).unwrap();
            }
            let target = dir.path().join(format!("saved-{nth}-{removed}"));
            let saved = LsmEngine::salvage(&path, &target).unwrap();
            assert!(!saved.lost.is_empty(), "{file:?}");
            let engine = LsmEngine::open(&target, &small_tables()).unwrap();
            let mut found = 0;
            for entry in engine.range(0, b"") {
                let (key, stored) = entry.unwrap();
                let number = u32::from_be_bytes(key.as_slice().try_into().unwrap());
                assert!(written(number, &stored), "{number}");
                found += 1;
            }
            assert_eq!(found, saved.entries);
            assert!(found > 0, "{file:?}: {:?}", saved.lost);
            fs::write(&file, &intact).unwrap();
        }
    }
}

fn verified(engine: &dyn Engine) -> Vec<Damage> {
    engine.verify(&mut |_| true).unwrap()
}

/// Opens the tree and reads everything in every way: an error, or what was written. How many reads
/// failed, and what the verification says; `None` if it cannot even be opened.
fn read_everything(path: &Path, expected: &BTreeMap<u32, Vec<u8>>) -> Option<(usize, Vec<Damage>)> {
    let engine = Arc::new(LsmEngine::open(path, &small_tables()).ok()?);
    let mut store = Store::open(
        Arc::clone(&engine) as Arc<dyn Engine>,
        StoreOptions::default(),
    )
    .ok()?;
    let mut failed = 0;
    for number in 0..KEYS {
        match store.get(&key(number)) {
            Ok(found) => {
                let found = found.value.map(|entry| entry.value);
                assert_eq!(found, expected.get(&number).map(Vec::as_slice), "{number}");
            }
            Err(error) => {
                assert!(error.is_damage(), "{error}");
                failed += 1;
            }
        }
    }
    let mut entries = engine.range(0, b"").map_while(Result::ok);
    let right = entries.all(|(key, stored)| {
        let number = u32::from_be_bytes(key.as_slice().try_into().unwrap());
        stored.ends_with(&expected[&number])
    });
    assert!(right, "the range shows a wrong value");
    Some((failed, verified(&*engine)))
}

/// Goal: a flipped bit is an error where it is read, never a wrong value.
/// Method: bits all over the files are flipped, one at a time; then everything is read.
#[test]
fn a_flipped_bit_never_becomes_a_wrong_value() {
    let seed = std::env::var("TEST_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(rand::random::<u64>);
    println!("TEST_SEED={seed}");
    let mut rng = SmallRng::seed_from_u64(seed);
    let dir = temp_dir();
    let path = dir.path().join("lsm");
    let expected = filled(&path);
    let (failed, damages) = read_everything(&path, &expected).unwrap();
    assert_eq!((failed, damages), (0, vec![]));
    let (mut refused, mut errors) = (0, 0);
    fs::remove_file(path.join(COPY)).unwrap();
    for file in files(&path) {
        let intact = fs::read(&file).unwrap();
        let flips = if file.starts_with(path.join("tables")) {
            3
        } else {
            25
        };
        for _ in 0..flips {
            let mut bytes = intact.clone();
            let at = rng.random_range(0..bytes.len());
            bytes[at] ^= 1 << rng.random_range(0..8);
            fs::write(&file, &bytes).unwrap();
            // With a copy of the manifest, damage to it is put right.
            let _ = fs::remove_file(path.join(COPY));
            // A failed assertion inside the tree is a crash, not a wrong value, and none of ours.
            let read = AssertUnwindSafe(|| read_everything(&path, &expected));
            match catch_unwind(read) {
                Ok(Some((failed, damages))) => {
                    let name = file.file_name().unwrap().to_string_lossy().into_owned();
                    let found = damages.iter().any(|damage| damage.file.ends_with(&name));
                    assert!(found, "{name} at {at}: {damages:?}");
                    errors += usize::from(failed > 0);
                }
                Ok(None) => refused += 1,
                Err(panic) => {
                    let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                    assert!(
                        !text.contains("assertion `left == right`"),
                        "{file:?} at {at}: {text}"
                    );
                }
            }
        }
        fs::write(&file, &intact).unwrap();
    }
    println!("{refused} times the tree was not opened, {errors} times reads failed");
    assert!(refused > 0 && errors > 0);
}

/// Verifying goes on beside flushes and compactions without a false alarm, and ends when told to.
#[test]
fn verification_beside_changes_raises_no_false_alarm() {
    let dir = temp_dir();
    let path = dir.path().join("lsm");
    let engine = open_lsm(&path);
    let mut writer = Writer::new(Arc::clone(&engine) as Arc<dyn Engine>);
    writer.put(b"k", b"v");
    writer.flush();
    let mut pieces = 0;
    engine
        .verify(&mut |_| {
            pieces += 1;
            false
        })
        .unwrap();
    assert_eq!(pieces, 1);
    std::thread::scope(|scope| {
        let verifying =
            scope.spawn(|| (0..20).flat_map(|_| verified(&*engine)).collect::<Vec<_>>());
        for round in 0..u32::MAX {
            writer.put(&key(round % 100), &value(round, round));
            writer.flush();
            while writer.store.engine().compact_step().unwrap() {}
            if verifying.is_finished() {
                break;
            }
        }
        assert_eq!(verifying.join().unwrap(), []);
    });
}
