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

fn files(path: &Path) -> Vec<PathBuf> {
    let list = |dir: &Path| {
        fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
    };
    let all = list(path).chain(list(&path.join("tables")));
    let mut all: Vec<_> = all.filter(|path| path.is_file()).collect();
    all.sort();
    all
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
