//! Segments that are written with zeros ahead of use, piece by piece.

use super::*;

const LARGE: Options = Options {
    segment_bytes: 1 << 20,
    ..SMALL
};

/// Whether there is a segment that was begun, or trimmed.
fn has_spare(disk: &SimDisk) -> bool {
    let names = disk.list().unwrap();
    names.iter().any(|name| name.starts_with("spare-"))
}

fn opened(disk: &SimDisk) -> (LogWriter, Log) {
    let (writer, log, _) = Log::open(Arc::new(disk.clone()), LARGE).unwrap();
    (writer, log)
}

#[test]
fn a_segment_is_prepared_piece_by_piece_beside_its_writer() {
    let disk = SimDisk::new(31);
    let (mut writer, log) = opened(&disk);
    let mut source = Source::new(31);
    let mut frames = Vec::new();
    let mut pieces = 0;
    while log.prepare().unwrap() {
        let ready = log.reserve() == 1;
        assert_eq!(has_spare(&disk), !ready, "only a whole one is ready");
        frames.push(source.frame_of(1000));
        writer.append(&frames[frames.len() - 1..]).unwrap();
        pieces += 1;
    }
    assert!(pieces > 2, "{pieces} pieces");
    assert_eq!((log.reserve(), contents(&log)), (1, frames));
}

#[test]
fn what_was_begun_goes_with_a_reset_a_crash_or_a_failure() {
    let disk = SimDisk::new(32);
    let (mut writer, log) = opened(&disk);
    assert!(log.prepare().unwrap());
    assert!(has_spare(&disk));
    writer.reset(Lsn(7), EpochHistory::default(), 0).unwrap();
    assert!(!has_spare(&disk));

    // What was begun before is not gone on with.
    assert!(log.prepare().unwrap());
    assert_eq!(log.reserve(), 0);
    let crashed = disk.crash();
    let (_, log) = opened(&crashed);
    assert!(!has_spare(&crashed));

    assert!(log.prepare().unwrap());
    crashed.fail_at(crashed.operations(), io::ErrorKind::StorageFull);
    log.prepare().unwrap_err();
    assert!(!has_spare(&crashed));
    while log.prepare().unwrap() {}
    assert_eq!(log.reserve(), 1);
}
