//! Truncate, reset and trim.

use super::*;

#[test]
fn truncation_reaches_over_segments_and_the_log_goes_on() {
    for prepare in [true, false] {
        let disk = SimDisk::new(9);
        let mut source = Source::new(9);
        let (mut writer, log, _) = open(&disk);
        let frames: Vec<Frame> = (0..20).map(|_| source.frame_of(700)).collect();
        for frame in &frames {
            writer.append(std::slice::from_ref(frame)).unwrap();
            if prepare {
                log.prepare().unwrap();
            }
        }
        let mut ahead = log.cursor(lsn(&frames[15])).unwrap();
        let mut behind = log.cursor(lsn(&frames[3])).unwrap();
        assert!(matches!(
            writer.truncate(Lsn(701)),
            Err(LogError::NotAFrame { .. })
        ));
        for kept in [11, 7, 4] {
            writer.truncate(lsn(&frames[kept - 1])).unwrap();
            assert_eq!(contents(&log), frames[..kept]);
            assert_eq!(writer.tip(), frames[kept - 1].tip());
            let (_, reopened, _) = open(&disk.copy());
            assert_eq!(contents(&reopened), frames[..kept]);
        }
        let mut other = Source::after(10, writer.tip());
        let new = [
            other.frame_in(Epoch(2), 5000),
            other.frame_in(Epoch(2), 300),
        ];
        writer.append(&new).unwrap();
        assert_eq!(log.history(), *writer.history());
        assert_eq!(log.history().last(), Epoch(2));
        assert!(matches!(ahead.read(1), Err(LogError::NotAFrame { .. })));
        assert_eq!(plain(behind.read(usize::MAX).unwrap()), new);
        let (_, log, _) = open(&disk.crash());
        assert_eq!(contents(&log), [&frames[..4], &new].concat());
    }
}

#[test]
fn a_log_can_be_cut_down_to_nothing() {
    let disk = SimDisk::new(11);
    let mut source = Source::new(11);
    let (mut writer, log, _) = open(&disk);
    // The first segment stays empty: one that is prepared is better.
    log.prepare().unwrap();
    writer.append(&source.batch()).unwrap();
    writer.truncate(Lsn(0)).unwrap();
    assert_eq!((writer.tip(), log.tip()), (Tip::default(), Tip::default()));
    let mut other = Source::new(12);
    let batch = other.batch();
    writer.append(&batch).unwrap();
    let (_, log, _) = open(&disk.crash());
    assert_eq!(contents(&log), batch);
}

#[test]
fn what_was_cut_off_can_be_saved() {
    let disk = SimDisk::new(13);
    let mut source = Source::new(13);
    let (mut writer, log, _) = open(&disk);
    let frames: Vec<Frame> = (0..20).map(|_| source.frame_of(700)).collect();
    writer.append(&frames).unwrap();
    let saved = log.save_tail(lsn(&frames[11]), "lost").unwrap();
    let expected = SavedTail {
        frames: 8,
        records: 8,
        bytes: 5600,
    };
    assert_eq!(saved, expected);
    let mut bytes = Bytes::from(disk.crash().contents("lost").unwrap());
    for frame in &frames[12..] {
        let (found, length) = Frame::decode(&bytes).unwrap();
        assert_eq!(&found.with_durable(Lsn(0)), frame);
        bytes = bytes.slice(length..);
    }
    assert!(bytes.is_empty());
}

#[test]
fn a_reset_log_begins_where_it_is_told() {
    let disk = SimDisk::new(14);
    let mut source = Source::new(14);
    let (mut writer, log, _) = open(&disk);
    writer
        .append(&(0..20).map(|_| source.frame_of(700)).collect::<Vec<_>>())
        .unwrap();
    let mut cursor = log.cursor(Lsn(700)).unwrap();
    let mut history = EpochHistory::default();
    history.append(Epoch(3), Lsn(0));
    history.append(Epoch(5), Lsn(5000));
    // Begins at the end, so it is not part of what comes before.
    let mut with_next = history.clone();
    with_next.append(Epoch(6), Lsn(6000));
    writer.reset(Lsn(6000), with_next, 77).unwrap();
    let at = log.tip();
    assert_eq!(
        (at.position.epoch, at.position.lsn, at.chain),
        (Epoch(5), Lsn(6000), 77)
    );
    assert_eq!(log.history(), history);
    assert!(matches!(
        cursor.read(1),
        Err(LogError::Trimmed { oldest: Lsn(6000) })
    ));
    let frame = Source::after(15, at).frame_in(Epoch(7), 100);
    writer.append(std::slice::from_ref(&frame)).unwrap();
    let (_, log, recovered) = open(&disk.crash());
    assert_eq!((recovered.oldest, recovered.tip), (Lsn(6000), frame.tip()));
    assert_eq!(contents(&log), [frame]);
}

#[test]
fn trimmed_segments_are_used_again() {
    let disk = SimDisk::new(16);
    let mut source = Source::new(16);
    let (mut writer, log, _) = open(&disk);
    let mut frames = Vec::new();
    for _ in 0..200 {
        let frame = source.frame_of(700);
        writer.append(std::slice::from_ref(&frame)).unwrap();
        frames.push(frame);
        log.prepare().unwrap();
        log.trim(Lsn(frames.len().saturating_sub(10) as u64 * 700))
            .unwrap();
        assert!(disk.list().unwrap().len() <= 6, "{:?}", disk.list());
    }
    let oldest = log.oldest();
    assert!(Lsn(185 * 700) <= oldest && oldest <= Lsn(190 * 700));
    assert!(
        matches!(log.read_from(Lsn(0), 1), Err(LogError::Trimmed { oldest: found })
        if found == oldest)
    );
    assert!(matches!(log.locate(Lsn(0)), Err(LogError::Trimmed { .. })));
    assert!(matches!(
        writer.truncate(Lsn(0)),
        Err(LogError::Trimmed { .. })
    ));
    assert!(matches!(
        writer.truncate(Lsn(100_000)),
        Err(LogError::Trimmed { .. })
    ));
    let expected = &frames[(oldest.0 / 700) as usize..];
    assert_eq!(contents(&log), expected);
    let (_, log, recovered) = open(&disk.crash());
    assert_eq!((recovered.oldest, recovered.tip), (oldest, source.tip));
    assert_eq!(contents(&log), expected);
}

#[test]
fn a_reader_keeps_what_it_has_open_from_being_written_over() {
    let disk = SimDisk::new(17);
    let mut source = Source::new(17);
    let (mut writer, log, _) = open(&disk);
    let spares = || {
        let names = disk.list().unwrap();
        names.iter().filter(|name| segment::is_spare(name)).count()
    };
    // Each is as large as a segment takes.
    for _ in 0..3 {
        writer.append(&[source.frame_of(3400)]).unwrap();
    }
    let mut cursor = log.cursor(Lsn(0)).unwrap();
    log.trim(Lsn(3400)).unwrap();
    assert_eq!(spares(), 0, "it is open");
    assert!(matches!(cursor.read(1), Err(LogError::Trimmed { .. })));
    log.trim(Lsn(6800)).unwrap();
    assert_eq!(spares(), 1, "nobody has it open");
    open(&disk);
    assert_eq!(spares(), 0, "a new start does not know what is in it");
}
