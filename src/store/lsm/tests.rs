//! The engine on a real disk: what is swept, what is kept, and its pace.

use super::*;

fn ingest(engine: &LsmEngine, key: u32) {
    let key = key.to_be_bytes();
    let mut changes = [(&key[..], Some(&b"value"[..]))].into_iter();
    engine.ingest(&mut changes, &Meta::default()).unwrap();
}

fn open(dir: &Path) -> LsmEngine {
    let options = LsmOptions {
        l0_tables: 2,
        ..LsmOptions::default()
    };
    LsmEngine::open(dir, &options).unwrap()
}

/// How many tables there are on disk.
fn files(dir: &Path) -> usize {
    table_ids(&dir.join("tables")).unwrap().len()
}

#[test]
fn sweeping_removes_what_nobody_uses_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    (0..3).for_each(|key| ingest(&engine, key));
    let mut pinned = engine.range(0, b"");
    assert!(pinned.next().is_some());
    let before = engine.view();
    while engine.compact_step().unwrap() {}
    assert_ne!(before.id, engine.view().id);
    let orphan = dir.path().join("tables/4711");
    std::fs::write(&orphan, b"half a table").unwrap();
    engine.sweep().unwrap();
    assert!(!orphan.exists());
    assert_eq!(pinned.map(Result::unwrap).count(), 2);
    assert_eq!(engine.range(0, b"").map(Result::unwrap).count(), 3);
    drop((before, engine));
    assert_eq!(open(dir.path()).range(0, b"").count(), 3);
}

/// The files of an installation that went through but for its last sync are those of another
/// engine's, put in under this one.
#[test]
fn a_manifest_whose_installation_failed_after_the_renaming_is_kept() {
    let ours = tempfile::tempdir().unwrap();
    let engine = open(ours.path());
    ingest(&engine, 1);
    let theirs = tempfile::tempdir().unwrap();
    let copy = theirs.path().join("copy");
    let checkpoint = engine.checkpoint(&copy).unwrap();
    ingest(&open(&copy), 2);
    let before: Vec<_> = checkpoint.files.iter().map(|file| &file.name).collect();
    for name in ["tables/1", "v2", "current"] {
        assert!(name == "current" || !before.iter().any(|file| *file == name));
        let (from, to) = (copy.join(name), ours.path().join(name));
        std::fs::copy(from, to.with_extension("new")).unwrap();
        std::fs::rename(to.with_extension("new"), to).unwrap();
    }
    let failed = StoreError::Io(std::io::Error::other("the last sync failed"));
    let error = engine.swept(engine.settled::<()>(Err(failed))).unwrap_err();
    assert!(matches!(error, StoreError::Unsettled(_)), "{error}");
    let change = [(&b"key"[..], Some(&b"value"[..]))];
    let more = engine.ingest(&mut change.into_iter(), &Meta::default());
    assert!(matches!(more, Err(StoreError::Unsettled(_))), "{more:?}");
    assert!(engine.compact_step().is_err() && engine.squeeze().is_err());
    drop(engine);
    let engine = open(ours.path());
    assert_eq!(engine.range(0, b"").map(Result::unwrap).count(), 2);
    ingest(&engine, 3);
}

#[test]
fn files_go_when_the_last_reader_has_gone() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path());
    let files = || files(dir.path());
    (0..3).for_each(|key| ingest(&engine, key));
    let reader = engine.range(0, b"");
    while engine.compact_step().unwrap() {}
    assert!(files() as u64 > engine.stats().files);
    drop(reader);
    engine.compact_step().unwrap();
    assert_eq!(files() as u64, engine.stats().files);
}

/// Ingestions that overlap, of about 40 MB together: more than a second's work at the pace of an
/// engine that has little to do.
fn large(dir: &Path) -> LsmEngine {
    let engine = LsmEngine::open(dir, &LsmOptions::default()).unwrap();
    let value = vec![7; 10_000];
    for round in 0..4_u32 {
        let keys: Vec<_> = (0..1000_u32)
            .map(|key| (key * 4 + round).to_be_bytes())
            .collect();
        let mut changes = keys.iter().map(|key| (&key[..], Some(&value[..])));
        engine.ingest(&mut changes, &Meta::default()).unwrap();
    }
    engine
}

#[test]
fn a_compaction_keeps_to_its_pace_unless_somebody_waits() {
    let dir = tempfile::tempdir().unwrap();
    let engine = large(dir.path());
    let begun = std::time::Instant::now();
    assert!(engine.compact_step().unwrap());
    // 40 MB at 64 MB a second, as four ingestions wait.
    assert!(begun.elapsed().as_millis() > 400, "{:?}", begun.elapsed());
    assert_eq!(engine.range(0, b"").map(Result::unwrap).count(), 4000);
}

#[test]
fn a_compaction_that_is_interrupted_ends_soon_and_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let engine = large(dir.path());
    let files = || files(dir.path());
    let before = files();
    std::thread::scope(|scope| {
        let compaction = scope.spawn(|| engine.compact_step());
        while files() == before && !compaction.is_finished() {
            std::thread::yield_now();
        }
        engine.interrupt();
        let error = compaction.join().unwrap().unwrap_err();
        assert!(error.to_string().contains("is being closed"), "{error}");
    });
    assert_eq!(engine.range(0, b"").map(Result::unwrap).count(), 4000);
    drop(engine);
    let engine = open(dir.path());
    assert_eq!(engine.range(0, b"").map(Result::unwrap).count(), 4000);
    assert_eq!(files(), before);
}
