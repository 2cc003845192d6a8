//! The simulated disk keeps what was synced, and nothing else for sure.

use std::collections::BTreeSet;

use super::*;

#[test]
fn what_was_synced_survives() {
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        let file = disk.open("plain", true, false).unwrap();
        file.write_at(&[7; 3000], 100).unwrap();
        file.sync().unwrap();
        let direct = disk.open("direct", true, true).unwrap();
        direct.write_at(&[8; 3000], 0).unwrap();
        disk.sync_dir().unwrap();
        let found = disk.crash();
        assert_eq!(
            found.contents("plain").unwrap()[100..],
            [7; 3000],
            "seed {seed}"
        );
        assert_eq!(found.contents("direct").unwrap(), [8; 3000], "seed {seed}");
        assert!(file.read_at(&mut [0], 0).is_err(), "the power is lost");
    }
}

#[test]
fn what_was_not_synced_survives_or_not_by_sectors() {
    let mut images = BTreeSet::new();
    let mut names = BTreeSet::new();
    for seed in 0..500 {
        let disk = SimDisk::new(seed);
        let file = disk.open("a", true, false).unwrap();
        disk.sync_dir().unwrap();
        file.write_at(&[7; 1024], 256).unwrap();
        disk.rename("a", "b").unwrap();
        disk.open("c", true, false).unwrap();
        let found = disk.crash();
        let listed = found.list().unwrap();
        let image = found.contents(&listed[0]).unwrap();
        assert!(
            image.iter().all(|byte| [0, 7].contains(byte)),
            "seed {seed}"
        );
        images.insert(image);
        names.insert(listed);
    }
    // Each of the three sectors that the write touches, there or not.
    assert_eq!(images.len(), 8);
    // The rename and the creation, done or not.
    assert_eq!(names.len(), 4);
}

#[test]
fn the_same_seed_gives_the_same_disk() {
    let image = |seed| {
        let disk = SimDisk::new(seed);
        let file = disk.open("a", true, false).unwrap();
        disk.sync_dir().unwrap();
        file.write_at(&[7; 10_000], 0).unwrap();
        disk.crash().contents("a").unwrap()
    };
    for seed in 0..20 {
        assert_eq!(image(seed), image(seed), "seed {seed}");
    }
}

#[test]
fn an_operation_in_which_the_power_goes_is_torn() {
    let mut lengths = BTreeSet::new();
    for seed in 0..100 {
        let disk = SimDisk::new(seed);
        let file = disk.open("a", true, true).unwrap();
        disk.sync_dir().unwrap();
        disk.lose_power_at(disk.operations());
        assert!(file.write_at(&[7; 1024], 0).is_err());
        assert!(disk.list().is_err());
        lengths.insert(disk.crash().contents("a").unwrap().len());
    }
    assert_eq!(lengths, BTreeSet::from([0, 512, 1024]));
}

#[test]
fn faults_are_injected() {
    let disk = SimDisk::new(1);
    let file = disk.open("a", true, true).unwrap();
    disk.fail_at(disk.operations(), io::ErrorKind::Other);
    assert!(file.write_at(b"x", 0).is_err());
    file.write_at(b"x", 0).unwrap();
    disk.set_capacity(100);
    assert_eq!(disk.space().unwrap(), (99, 100));
    let error = file.write_at(&[0; 101], 0).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    disk.flip("a", 0, 0);
    assert_eq!(disk.contents("a").unwrap(), b"y");
}

/// What a kernel does after a failed sync.
#[test]
fn what_a_failed_sync_leaves_is_readable_and_never_durable() {
    for direct in [true, false] {
        let disk = SimDisk::new(1);
        let file = disk.open("a", true, direct).unwrap();
        disk.sync_dir().unwrap();
        let at = disk.operations() + u64::from(!direct);
        disk.fail_with(at, io::ErrorKind::Other, Outcome::Readable);
        let written = file.write_at(b"lost", 0);
        assert!(written.and_then(|()| file.sync()).is_err());
        file.sync().unwrap();
        assert_eq!(disk.contents("a").unwrap(), b"lost");
        file.write_at(b"kept", 4).unwrap();
        file.sync().unwrap();
        let found = disk.crash_with(Survives::Nothing).contents("a").unwrap();
        assert_eq!(found, b"\0\0\0\0kept", "direct {direct}");
        // Written again, it is.
        file.write_at(b"back", 0).unwrap_err();
        let disk = disk.copy();
        let file = disk.open("a", false, false).unwrap();
        file.write_at(b"back", 0).unwrap();
        file.sync().unwrap();
        let found = disk.crash_with(Survives::Nothing).contents("a").unwrap();
        assert_eq!(found, b"backkept");
    }
}

#[test]
fn a_failure_does_what_it_is_told() {
    for (outcome, readable, durable) in [
        (Outcome::Done, "new", "new"),
        (Outcome::Readable, "new", "old"),
        (Outcome::Undone, "old", "old"),
    ] {
        let disk = SimDisk::new(1);
        let file = disk.open("a", true, true).unwrap();
        disk.sync_dir().unwrap();
        file.write_at(b"old", 0).unwrap();
        disk.fail_with(disk.operations(), io::ErrorKind::Other, outcome);
        assert!(file.write_at(b"new", 0).is_err());
        assert_eq!(disk.contents("a").unwrap(), readable.as_bytes());
        let found = disk.crash_with(Survives::Nothing).contents("a").unwrap();
        assert_eq!(found, durable.as_bytes(), "{outcome:?}");
    }
}
