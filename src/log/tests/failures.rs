//! A call fails, and the log goes on: in this process, or in the next one on the same kernel, which may
//! read what is not on the disk.

use super::*;
use crate::env::sim_disk::{Outcome, Survives};

/// A preparation whose directory is not synced leaves a file without a header among the segments.
#[test]
fn a_segment_that_was_named_and_not_synced_hides_nothing() {
    for outcome in [Outcome::Undone, Outcome::Done] {
        for batches in [1, 2, 5] {
            let disk = SimDisk::new(40);
            let mut source = Source::new(40);
            let (mut writer, log, _) = open(&disk);
            let mut frames = vec![source.frame_of(3000)];
            writer.append(&frames).unwrap();
            // It is filled, renamed, and then the directory cannot be synced.
            let before = disk.operations();
            let probe = disk.copy();
            open(&probe).1.prepare().unwrap();
            assert!(log_numbers(&probe).len() == 2, "{:?}", probe.list());
            disk.fail_with(before + 3, io::ErrorKind::Other, outcome);
            assert!(log.prepare().is_err());
            for _ in 0..batches {
                let frame = source.frame_of(3000);
                writer.append(std::slice::from_ref(&frame)).unwrap();
                frames.push(frame);
            }
            for disk in [disk.copy(), disk.crash()] {
                let (_, log, recovered) = open(&disk);
                assert_eq!(recovered.tip, source.tip, "{outcome:?}, {batches}");
                assert_eq!(contents(&log), frames);
            }
        }
    }
}

fn log_numbers(disk: &SimDisk) -> Vec<u64> {
    let names = disk.list().unwrap();
    names
        .iter()
        .filter_map(|name| segment::number_of(name))
        .collect()
}

/// A trim that is not synced is not followed by another that is: a crash must not leave a hole.
#[test]
fn a_trim_that_failed_leaves_no_hole() {
    let fail = |disk: &SimDisk, after: u64| {
        let at = disk.operations() + after;
        disk.fail_with(at, io::ErrorKind::Other, Outcome::Undone);
    };
    for (seed, second) in (0..40).flat_map(|seed| (0..4).map(move |second| (seed, second))) {
        let disk = SimDisk::new(seed);
        let mut source = Source::new(41);
        let (mut writer, log, _) = open(&disk);
        for _ in 0..6 {
            writer.append(&[source.frame_of(3000)]).unwrap();
        }
        fail(&disk, 1);
        assert!(log.trim(Lsn(3000)).is_err());
        fail(&disk, second);
        let _ = log.trim(Lsn(6000));
        let (_, log, recovered) = open(&disk.crash());
        assert_eq!(recovered.tip, source.tip, "seed {seed}, {second}");
        assert!(log.oldest() <= Lsn(6000));
        contents(&log);
    }
}

/// The base of a segment is the end of the one before it, which is not read at the start.
#[test]
fn a_log_is_cut_where_an_unread_segment_ends() {
    let disk = SimDisk::new(42);
    let mut source = Source::new(42);
    let large = Options {
        segment_bytes: 64 << 10,
        ..SMALL
    };
    let (mut writer, log, _) = Log::open(Arc::new(disk.clone()), large).unwrap();
    // The first one is left early for one that is prepared.
    let mut frames = vec![source.frame_of(700)];
    writer.append(&frames).unwrap();
    log.prepare().unwrap();
    for _ in 0..6 {
        let frame = source.frame_of(700);
        writer.append(std::slice::from_ref(&frame)).unwrap();
        frames.push(frame);
    }
    drop((writer, log));
    let options = Options {
        known_durable: Lsn(700),
        ..large
    };
    let reopen = |disk: &SimDisk| Log::open(Arc::new(disk.clone()), options);
    let (mut writer, _, recovered) = reopen(&disk).unwrap();
    assert_eq!(recovered.tip, source.tip);
    writer.truncate(Lsn(700)).unwrap();
    frames.truncate(1);
    let mut source = Source::after(43, writer.tip());
    for _ in 0..3 {
        let frame = source.frame_in(Epoch(2), 300);
        writer.append(std::slice::from_ref(&frame)).unwrap();
        frames.push(frame);
        let (_, log, recovered) = reopen(&disk.copy()).unwrap();
        assert_eq!(recovered.tip, source.tip);
        assert_eq!(contents(&log), frames);
    }
}

/// Frames that a failed write left in the kernel's cache are believed only once they are on the disk.
#[test]
fn what_a_failed_write_left_is_durable_once_it_is_read() {
    for large in [false, true] {
        let disk = SimDisk::new(44);
        let mut source = Source::new(44);
        let (mut writer, log, _) = open(&disk);
        let first = source.frame_of(700);
        writer.append(std::slice::from_ref(&first)).unwrap();
        if large {
            log.prepare().unwrap();
        }
        // In the segment that is being written, or the first batch of the next one.
        let second = source.frame_of(if large { 3400 } else { 700 });
        disk.fail_with(disk.operations(), io::ErrorKind::Other, Outcome::Readable);
        assert!(writer.append(std::slice::from_ref(&second)).is_err());
        drop((writer, log));

        let (mut writer, log, recovered) = open(&disk);
        assert_eq!(recovered.tip, second.tip(), "it can be read");
        let third = source.frame_of(100);
        writer.append(std::slice::from_ref(&third)).unwrap();
        let expected = [first, second, third];
        assert_eq!(contents(&log), expected);
        let (_, log, _) = open(&disk.crash_with(Survives::Nothing));
        assert_eq!(contents(&log), expected);
    }
}

/// What was cut off as torn stays away, also if the zeros did not come to the disk at first.
#[test]
fn a_torn_tail_is_cut_off_for_good() {
    for outcome in [Outcome::Readable, Outcome::Undone, Outcome::Done] {
        for failing in 0..12 {
            let disk = SimDisk::new(45);
            let options = Options {
                segment_bytes: 64 << 10,
                ..SMALL
            };
            let open = |disk: &SimDisk| Log::open(Arc::new(disk.clone()), options);
            let mut source = Source::new(45);
            let (mut writer, _, _) = open(&disk).unwrap();
            let [first, second] = [source.frame_of(8192 - 512 - 64), source.frame_of(600)];
            writer.append(&[first.clone(), second]).unwrap();
            disk.flip(&segment::name(1), 1000, 0);
            disk.fail_with(disk.operations() + failing, io::ErrorKind::Other, outcome);
            if open(&disk).is_err() {
                open(&disk).unwrap();
            }
            let disk = disk.crash_with(Survives::Nothing);
            let (mut writer, _, _) = open(&disk).unwrap();
            writer.append(std::slice::from_ref(&first)).unwrap();
            let (_, log, _) = open(&disk.crash()).unwrap();
            assert_eq!(contents(&log), [first], "{outcome:?}, {failing}");
        }
    }
}

/// Headers of frames that somebody stores as a value, made for the very segment that they are in as far
/// as its number tells: with a torn batch around them they must not count as frames of this log.
#[test]
fn a_value_made_for_its_segment_is_no_frame_in_a_torn_batch() {
    let disk = SimDisk::new(46);
    let (mut writer, _, _) = open(&disk);
    let forged = Frame::seal(&b"x"[..], 1, Epoch(9), Lsn(500), 0, 0);
    let payload = [
        &forged.header_in(1, Lsn(900))[..],
        &forged.payload(),
        &forged.header_in(2, Lsn(900))[..],
    ];
    let frame = Frame::seal(payload.concat(), 1, Epoch(1), Lsn(0), 0, 0);
    writer.append(&[frame]).unwrap();
    disk.flip(&segment::name(1), 512 + 63, 0);
    let (_, log, _) = open(&disk);
    assert!(contents(&log).is_empty());
}
