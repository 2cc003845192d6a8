//! The log as its owner uses it, on a simulated disk with segments of a page.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::env::{Disk, RealDisk, SimDisk};
use crate::replication::{Epoch, EpochHistory, Lsn};

mod concurrent;
mod crash;
mod damage;
mod failures;
mod lives;
mod lost;
mod measure;
mod shorten;

const SMALL: Options = Options {
    segment_bytes: 4096,
    ready: 1,
    spares: 1,
    known_durable: Lsn::ZERO,
    follows: false,
    expected: false,
    seed: 7,
    owner: 3,
};

fn open(disk: &SimDisk) -> (LogWriter, Log, Recovered) {
    Log::open(Arc::new(disk.clone()), SMALL).unwrap()
}

fn open_error(disk: &SimDisk, options: Options) -> LogError {
    Log::open(Arc::new(disk.clone()), options).err().unwrap()
}

/// Makes frames that follow one another, with random payloads.
struct Source {
    rng: SmallRng,
    tip: Tip,
}

impl Source {
    fn new(seed: u64) -> Self {
        Self::after(seed, Tip::default())
    }

    fn after(seed: u64, tip: Tip) -> Self {
        let rng = SmallRng::seed_from_u64(seed);
        Self { rng, tip }
    }

    fn frame_of(&mut self, bytes: usize) -> Frame {
        let epoch = self.tip.position.epoch.max(Epoch(1));
        self.frame_in(epoch, bytes)
    }

    fn frame_in(&mut self, epoch: Epoch, bytes: usize) -> Frame {
        let mut payload = vec![0; bytes];
        self.rng.fill(&mut payload[..]);
        let Tip { position, chain } = self.tip;
        let frame = Frame::seal(payload, 1, epoch, position.lsn, 7, chain);
        self.tip = frame.tip();
        frame
    }

    /// One to three frames, now and then of a new epoch, now and then large.
    fn batch(&mut self) -> Vec<Frame> {
        let count = self.rng.random_range(1..=3);
        let mut epoch = self.tip.position.epoch.max(Epoch(1));
        if self.rng.random_bool(0.1) {
            epoch = epoch.next();
        }
        let batch = (0..count).map(|_| {
            let longest = if self.rng.random_bool(0.1) { 6000 } else { 700 };
            let bytes = self.rng.random_range(1..longest);
            self.frame_in(epoch, bytes)
        });
        batch.collect()
    }
}

fn lsn(frame: &Frame) -> Lsn {
    frame.end()
}

/// Everything in a log, without what is local in each frame.
fn contents(log: &Log) -> Vec<Frame> {
    let frames = log.read_from(log.oldest(), usize::MAX).unwrap();
    plain(frames)
}

fn plain(frames: Vec<Frame>) -> Vec<Frame> {
    frames
        .into_iter()
        .map(|frame| frame.with_durable(Lsn::ZERO))
        .collect()
}

#[test]
fn a_new_log_is_empty_and_stays_so() {
    let disk = SimDisk::new(1);
    for _ in 0..2 {
        let (writer, log, recovered) = open(&disk);
        assert_eq!(writer.tip(), Tip::default());
        assert_eq!(recovered.tip, Tip::default());
        assert_eq!((recovered.oldest, recovered.truncated_bytes), (Lsn(0), 0));
        assert!(log.read_from(Lsn(0), 1).unwrap().is_empty());
        assert!(matches!(
            log.read_from(Lsn(1), 1),
            Err(LogError::NotAFrame { .. })
        ));
    }
}

proptest! {
    #[test]
    fn what_was_appended_is_read_from_every_position(
        seed: u64, batches in 1_usize..30, prepare: bool, max in 1_usize..10_000
    ) {
        let disk = SimDisk::new(seed);
        let mut source = Source::new(seed);
        let (mut writer, log, _) = open(&disk);
        let mut frames = Vec::new();
        for _ in 0..batches {
            let batch = source.batch();
            writer.append(&batch).unwrap();
            frames.extend(batch);
            if prepare {
                log.prepare().unwrap();
            }
        }
        prop_assert_eq!(writer.tip(), source.tip);
        let history = writer.history().clone();
        for crashed in [false, true] {
            let log = if crashed {
                let (_, log, recovered) = open(&disk.crash());
                prop_assert_eq!(recovered.tip, source.tip);
                prop_assert_eq!(&recovered.history, &history);
                prop_assert_eq!(recovered.truncated_bytes, 0);
                log
            } else {
                log.clone()
            };
            prop_assert_eq!(&contents(&log), &frames);
            prop_assert_eq!(&log.history(), &history);
            check_positions(&log, &frames, max);
        }
    }
}

fn check_positions(log: &Log, frames: &[Frame], max: usize) {
    for (index, frame) in frames.iter().enumerate() {
        let found = plain(log.read_from(frame.start(), max).unwrap());
        assert_eq!(found, frames[index..index + found.len()]);
        let sizes: Vec<usize> = found.iter().map(Frame::wire_len).collect();
        let (_, before) = sizes.split_last().unwrap();
        assert!(before.iter().sum::<usize>() < max);
        assert_eq!(log.locate(frame.end()).unwrap(), frame.tip());
        if frame.end().since(frame.start()) > 1 {
            let inside = frame.start().advance(1);
            assert_eq!(log.locate(inside).unwrap().position.lsn, frame.start());
            assert!(matches!(
                log.read_from(inside, 1),
                Err(LogError::NotAFrame { .. })
            ));
        }
    }
}

#[test]
fn a_cursor_follows_the_writer() {
    let disk = SimDisk::new(2);
    let mut source = Source::new(2);
    let (mut writer, log, _) = open(&disk);
    let mut cursor = log.cursor(Lsn(0)).unwrap();
    for _ in 0..100 {
        let batch = source.batch();
        writer.append(&batch).unwrap();
        assert_eq!(plain(cursor.read(usize::MAX).unwrap()), batch);
        assert!(cursor.read(usize::MAX).unwrap().is_empty());
        assert_eq!(cursor.at(), source.tip.position.lsn);
    }
}

#[test]
fn frames_say_what_was_durable_before_their_batch() {
    let disk = SimDisk::new(3);
    let mut source = Source::new(3);
    let (mut writer, log, _) = open(&disk);
    let batches: Vec<_> = (0..3)
        .map(|_| [source.frame_of(100), source.frame_of(100)])
        .collect();
    for batch in &batches {
        // What another log knew does not count in this one.
        writer
            .append(&batch.clone().map(|frame| frame.with_durable(Lsn(9999))))
            .unwrap();
    }
    let durable = log.read_from(Lsn(0), usize::MAX).unwrap();
    let durable: Vec<u64> = durable.iter().map(|frame| frame.durable().0).collect();
    assert_eq!(durable, [0, 0, 200, 200, 400, 400]);
}

#[test]
fn whole_pages_are_written() {
    let disk = SimDisk::new(21);
    let (mut writer, _, _) = Log::open(Arc::new(disk.clone()), Options::default()).unwrap();
    let mut source = Source::new(21);
    for bytes in [1, 3000, 5000, 100_000] {
        writer.append(&[source.frame_of(bytes)]).unwrap();
        let name = segment::name(1);
        assert_eq!(disk.contents(&name).unwrap().len() % 4096, 0);
    }
}

#[test]
fn a_stored_frame_bears_the_salt_of_its_segment() {
    let disk = SimDisk::new(22);
    let (mut writer, _, _) = open(&disk);
    let mut source = Source::new(22);
    writer
        .append(&[source.frame_of(3000), source.frame_of(3000)])
        .unwrap();
    for number in [1, 2] {
        let bytes = Bytes::from(disk.contents(&segment::name(number)).unwrap()).slice(512..);
        for other in 0..5 {
            let found = Frame::decode_salted(&bytes, segment::salt(SMALL.seed, other));
            assert_eq!(found.is_ok(), other == number, "{found:?}");
            let found = Frame::decode_salted(&bytes, other as u32);
            assert!(found.is_err(), "its number is known to everybody");
        }
    }
}

#[test]
fn a_batch_is_one_write() {
    let disk = SimDisk::new(4);
    let mut source = Source::new(4);
    let (mut writer, log, _) = open(&disk);
    writer.append(&[source.frame_of(3000)]).unwrap();
    log.prepare().unwrap();
    let before = disk.operations();
    // It does not fit behind the first, so it begins the segment that is ready, header and all.
    writer
        .append(&[
            source.frame_of(500),
            source.frame_of(1000),
            source.frame_of(1000),
        ])
        .unwrap();
    assert_eq!(disk.operations() - before, 1);
}

#[test]
fn frames_larger_than_a_segment_and_a_write_are_taken() {
    let disk = SimDisk::new(5);
    let mut source = Source::new(5);
    let (mut writer, log, _) = open(&disk);
    let sizes = [10, 9_000_000, 10, 4_194_304, 5000, 10];
    let frames = sizes.map(|bytes| source.frame_of(bytes));
    writer.append(&frames).unwrap();
    assert_eq!(contents(&log), frames);
    let (_, log, _) = open(&disk.crash());
    assert_eq!(contents(&log), frames);
}

#[test]
fn what_does_not_continue_the_log_is_refused() {
    let disk = SimDisk::new(6);
    let mut source = Source::new(6);
    let (mut writer, _, _) = open(&disk);
    let first = source.frame_in(Epoch(2), 10);
    writer.append(std::slice::from_ref(&first)).unwrap();
    let Tip { position, chain } = writer.tip();
    let seal = |epoch, start, chain| Frame::seal(&b"x"[..], 1, Epoch(epoch), start, 0, chain);
    for wrong in [
        first.clone(),
        seal(2, position.lsn, chain ^ 1),
        seal(2, position.lsn.advance(1), chain),
        seal(1, position.lsn, chain),
    ] {
        let result = writer.append(&[wrong]);
        assert!(
            matches!(result, Err(LogError::Discontinuous { .. })),
            "{result:?}"
        );
    }
    // Nothing has happened.
    writer.append(&[source.frame_in(Epoch(2), 10)]).unwrap();
}

#[test]
fn a_failed_write_poisons_the_writer_and_nobody_else() {
    let disk = SimDisk::new(7);
    let mut source = Source::new(7);
    let (mut writer, log, _) = open(&disk);
    let first = source.frame_of(100);
    writer.append(std::slice::from_ref(&first)).unwrap();
    disk.fail_at(disk.operations(), io::ErrorKind::Other);
    let next = [source.frame_of(100)];
    assert!(matches!(writer.append(&next), Err(LogError::Io { .. })));
    assert!(matches!(writer.append(&next), Err(LogError::Poisoned)));
    assert!(matches!(writer.truncate(Lsn(0)), Err(LogError::Poisoned)));
    assert!(matches!(writer.mark_durable(), Err(LogError::Poisoned)));
    let reset = writer.reset(Lsn(0), EpochHistory::default(), 0);
    assert!(matches!(reset, Err(LogError::Poisoned)));
    assert_eq!(contents(&log), [first]);
}

#[test]
fn a_full_disk_poisons_only_the_append_that_hits_it() {
    let disk = SimDisk::new(8);
    let mut source = Source::new(8);
    let (mut writer, log, _) = open(&disk);
    writer.append(&[source.frame_of(100)]).unwrap();
    disk.set_capacity(8192);
    assert!(!log.prepare().unwrap(), "there is no room to prepare");
    let error = writer.append(&[source.frame_of(9000)]).unwrap_err();
    assert!(
        matches!(&error, LogError::Io { source, .. }
        if source.kind() == io::ErrorKind::StorageFull),
        "{error}"
    );
    let (_, log, _) = open(&disk.crash());
    assert_eq!(log.tip().position.lsn, Lsn(100));
}

#[test]
fn what_the_store_has_taken_over_is_not_read_at_the_start() {
    let disk = SimDisk::new(18);
    let mut source = Source::new(18);
    let (mut writer, _, _) = open(&disk);
    let frames: Vec<Frame> = (0..40).map(|_| source.frame_of(700)).collect();
    for frame in &frames {
        writer.append(std::slice::from_ref(frame)).unwrap();
    }
    let options = Options {
        known_durable: Lsn(20 * 700),
        ..SMALL
    };
    let (mut writer, log, recovered) = Log::open(Arc::new(disk.copy()), options).unwrap();
    assert_eq!((recovered.oldest, recovered.tip), (Lsn(0), source.tip));
    assert_eq!(contents(&log), frames);
    check_positions(&log, &frames, 5000);
    writer.truncate(lsn(&frames[6])).unwrap();
    assert_eq!(contents(&log), frames[..7]);
    let batch = Source::after(19, writer.tip()).batch();
    writer.append(&batch).unwrap();
    assert_eq!(contents(&log), [&frames[..7], &batch].concat());

    // Damage in there is found by whoever reads it.
    disk.flip(&segment::name(1), 2000, 0);
    let (_, log, _) = Log::open(Arc::new(disk.copy()), options).unwrap();
    let result = log.read_from(Lsn(0), usize::MAX);
    assert!(
        matches!(result, Err(LogError::Damaged { at: Lsn(700), .. })),
        "{result:?}"
    );
    assert!(matches!(
        open_error(&disk, SMALL),
        LogError::Damaged { at: Lsn(700), .. }
    ));
}

#[test]
fn real_files_work_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(directory.path()).unwrap());
    let mut source = Source::new(20);
    let (mut writer, log, _) = Log::open(Arc::clone(&disk), SMALL).unwrap();
    let mut frames = Vec::new();
    for _ in 0..40 {
        let batch = source.batch();
        writer.append(&batch).unwrap();
        frames.extend(batch);
        log.prepare().unwrap();
    }
    writer.truncate(lsn(&frames[50])).unwrap();
    log.trim(lsn(&frames[20])).unwrap();
    let expected = contents(&log);
    drop((writer, log));
    let (_, log, _) = Log::open(disk, SMALL).unwrap();
    assert_eq!(contents(&log), expected);
    assert_eq!(expected.last().unwrap(), &frames[50]);
}
