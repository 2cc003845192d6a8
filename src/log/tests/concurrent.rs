//! Readers, the writer and the maintenance at the same time, as in a replica.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;

const FRAMES: usize = 3000;

/// Reads on until the log's end after the writer is done; begins again where the log does when it
/// has fallen behind. Says how many frames it saw.
fn follow(log: &Log, done: &AtomicBool) -> usize {
    let mut seen = 0;
    let mut cursor = log.cursor(log.oldest());
    let mut last: Option<Tip> = None;
    loop {
        let finished = done.load(Ordering::Acquire);
        let frames = match cursor.and_then(|mut cursor| {
            let frames = cursor.read(20_000)?;
            Ok((cursor, frames))
        }) {
            Ok((next, frames)) => {
                cursor = Ok(next);
                frames
            }
            // Trimmed, or cut off.
            Err(LogError::Trimmed { .. } | LogError::NotAFrame { .. }) => {
                last = None;
                cursor = log.cursor(log.oldest());
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        if frames.is_empty() && finished {
            return seen;
        }
        for frame in frames {
            assert!(last.is_none_or(|tip| frame.continues(&tip)));
            last = Some(frame.tip());
            seen += 1;
        }
    }
}

fn run(seed: u64, work: impl FnOnce(&mut LogWriter, &Log, &mut Source)) {
    let disk = SimDisk::new(seed);
    let (mut writer, log, _) = open(&disk);
    let done = AtomicBool::new(false);
    let mut source = Source::new(seed);
    thread::scope(|scope| {
        let readers = [(); 3].map(|()| scope.spawn(|| follow(&log, &done)));
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                log.prepare().unwrap();
                log.trim(Lsn(log.tip().position.lsn.0.saturating_sub(30_000)))
                    .unwrap();
                thread::yield_now();
            }
        });
        work(&mut writer, &log, &mut source);
        done.store(true, Ordering::Release);
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
    let expected = contents(&log);
    let (_, reopened, recovered) = open(&disk.crash());
    assert_eq!(recovered.tip, source.tip);
    assert_eq!(contents(&reopened), expected);
}

#[test]
fn readers_see_every_frame_while_segments_come_and_go() {
    run(40, |writer, _, source| {
        for _ in 0..FRAMES {
            writer.append(&[source.frame_of(200)]).unwrap();
        }
    });
}

#[test]
fn readers_are_told_of_cuts() {
    run(41, |writer, log, source| {
        for round in 1..=100 {
            for _ in 0..20 {
                writer
                    .append(&[source.frame_in(Epoch(round), 200)])
                    .unwrap();
            }
            let to = Lsn(log.tip().position.lsn.0 - 1000).max(log.oldest());
            let to = log.locate(to).unwrap().position.lsn;
            writer.truncate(to).unwrap();
            source.tip = writer.tip();
        }
    });
}
