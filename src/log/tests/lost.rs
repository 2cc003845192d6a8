//! Pieces of a log that are gone after the end of a process: deleted, emptied, cut, zeroed or replaced.
//! Whatever was acknowledged is there, or it is told that it is not.

use super::*;
use crate::env::sim_disk::Survives;
use crate::log::watermark;

const OPTIONS: Options = Options {
    segment_bytes: 8192,
    ready: 1,
    expected: true,
    follows: true,
    ..SMALL
};

fn start(disk: &SimDisk) -> Result<(LogWriter, Log, Recovered), LogError> {
    start_at(disk, Lsn::ZERO)
}

/// With a state that has everything up to here.
fn start_at(disk: &SimDisk, state: Lsn) -> Result<(LogWriter, Log, Recovered), LogError> {
    let options = Options {
        known_durable: state,
        ..OPTIONS
    };
    Log::open_noted(Arc::new(disk.clone()), disk, options)
}

/// A log of several segments, the last of them prepared and half full, and what is in it.
fn example(seed: u64) -> (SimDisk, Vec<Frame>) {
    let disk = SimDisk::new(seed);
    let mut source = Source::new(seed);
    let first = Options {
        expected: false,
        ..OPTIONS
    };
    let home = Arc::new(disk.clone());
    let (mut writer, log, _) = Log::open_noted(home, &disk, first).unwrap();
    let mut frames = Vec::new();
    for index in 0..9 {
        let batch = [source.frame_of(900), source.frame_of(1100)];
        if index > 0 {
            log.prepare().unwrap();
        }
        writer.append(&batch).unwrap();
        writer.note_durable().unwrap();
        if index == 4 {
            log.settle().unwrap();
        }
        frames.extend(batch);
    }
    (disk, frames)
}

fn segments(disk: &SimDisk) -> Vec<String> {
    let names = disk.list().unwrap().into_iter();
    names
        .filter(|name| segment::number_of(name).is_some())
        .collect()
}

/// A way to spoil a file.
type Harm = fn(&SimDisk, &str, &[u8]);

fn put(disk: &SimDisk, name: &str, bytes: &[u8]) {
    let file = disk.open(name, true, true).unwrap();
    file.set_len(0).unwrap();
    file.write_at(bytes, 0).unwrap();
}

/// Where the frames in a segment end.
fn used(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1
}

const HARMS: [(&str, Harm); 9] = [
    ("deleted", |disk, name, _| disk.remove(name).unwrap()),
    ("emptied", |disk, name, _| put(disk, name, &[])),
    ("zeroed", |disk, name, bytes| {
        put(disk, name, &vec![0; bytes.len()]);
    }),
    ("cut to half", |disk, name, bytes| {
        put(disk, name, &bytes[..used(bytes) / 2]);
    }),
    ("cut behind the header", |disk, name, bytes| {
        put(disk, name, &bytes[..512]);
    }),
    ("half zeroed", |disk, name, bytes| {
        let half = used(bytes) / 2;
        put(
            disk,
            name,
            &[&bytes[..half], &vec![0; bytes.len() - half]].concat(),
        );
    }),
    ("overwritten", |disk, name, bytes| {
        put(disk, name, &vec![b'x'; bytes.len()]);
    }),
    ("another segment", |disk, name, _| {
        let other = disk.contents(&segments(disk)[0]).unwrap();
        put(disk, name, &other);
    }),
    ("of another log", |disk, name, _| {
        let other = example(51).0.contents(name).unwrap();
        put(disk, name, &other);
    }),
];

/// Each file in each way, and everything at once.
fn damaged() -> Vec<(String, SimDisk)> {
    let (whole, _) = example(50);
    let names = segments(&whole);
    assert!(names.len() > 3);
    let mut damaged = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let bytes = whole.contents(name).unwrap();
        for (what, harm) in HARMS {
            if index > 0 || what != "another segment" {
                let disk = whole.copy();
                harm(&disk, name, &bytes);
                damaged.push((format!("{name} {what}"), disk));
            }
        }
    }
    for what in ["all", "all with the note"] {
        let disk = whole.copy();
        let names = disk.list().unwrap().into_iter();
        for name in names.filter(|name| what != "all" || name != watermark::NAME) {
            disk.remove(&name).unwrap();
        }
        damaged.push((format!("deleted {what}"), disk));
    }
    damaged
}

fn lost(damage: &LogError) -> Lost {
    damage.lost().unwrap_or_else(|| panic!("{damage}"))
}

#[test]
fn nothing_that_was_acknowledged_goes_unnoticed() {
    let (whole, frames) = example(50);
    assert_eq!(contents(&start(&whole.copy()).unwrap().1), frames);
    for (what, disk) in damaged() {
        let before = disk.copy();
        let damage = start(&disk).err().unwrap_or_else(|| panic!("{what}"));
        let lost = lost(&damage);
        let end = frames.last().unwrap().end();
        if what != "deleted all with the note" {
            assert!(lost.from < end && end <= lost.to, "{what}: {damage}");
        }
        for name in before.list().unwrap() {
            assert_eq!(before.contents(&name), disk.contents(&name), "{what}");
        }
    }
}

#[test]
fn a_first_segment_that_the_state_needs_is_missed() {
    let (disk, frames) = example(50);
    disk.remove(&segments(&disk)[0]).unwrap();
    let oldest = frames[1].end();
    let damage = start_at(&disk, frames[0].end()).unwrap_err();
    let missing = Lost {
        from: frames[0].end(),
        to: frames.last().unwrap().end(),
    };
    assert_eq!(lost(&damage), missing);
    let (_, log, _) = start_at(&disk, oldest).unwrap();
    assert_eq!(log.oldest(), oldest);
}

/// What is before the state is needed by others only: it is let go where it cannot be read.
#[test]
fn an_old_segment_that_cannot_be_read_is_let_go() {
    let (disk, frames) = example(50);
    let names = segments(&disk);
    for name in &names[..2] {
        let disk = disk.copy();
        disk.flip(name, 9, 3);
        let open = || start_at(&disk, frames[13].end());
        let (_, log, _) = open().unwrap();
        assert!(log.oldest() > Lsn::ZERO && log.oldest() <= frames[13].end());
        let kept = frames.iter().filter(|frame| frame.start() >= log.oldest());
        assert!(contents(&log).iter().eq(kept));
        assert!(!segments(&disk).contains(name));
        assert_eq!(open().unwrap().1.oldest(), log.oldest());
    }
}

#[test]
fn a_loss_can_be_accepted() {
    let (_, frames) = example(50);
    for state in [0, 3, 16] {
        let state = match state {
            0 => StateEnd::default(),
            count => StateEnd {
                at: frames[count - 1].end(),
                history: EpochHistory::default(),
                chain: frames[count - 1].chain(),
            },
        };
        let options = Options {
            known_durable: state.at,
            ..OPTIONS
        };
        for (what, disk) in damaged() {
            let what = format!("{what}, state at {}", state.at);
            let open = |disk: &SimDisk| Log::open_noted(Arc::new(disk.clone()), disk, options);
            let Err(damage) = open(&disk.copy()) else {
                // What is spoiled is not needed.
                let accepted = accept_loss(Arc::new(disk.clone()), &disk, options, Some(&state));
                assert_eq!(accepted.unwrap().lost, None, "{what}");
                continue;
            };
            for operation in 0.. {
                let disk = disk.copy();
                disk.lose_power_at(operation);
                let accepted = accept_loss(Arc::new(disk.clone()), &disk, options, Some(&state));
                let done = accepted.is_ok();
                let disk = disk.crash();
                let accepted = match accepted {
                    Ok(accepted) => accepted,
                    Err(_) => {
                        accept_loss(Arc::new(disk.clone()), &disk, options, Some(&state)).unwrap()
                    }
                };
                assert!(
                    accepted.oldest <= state.at && state.at <= accepted.end,
                    "{what}"
                );
                assert!(
                    accepted.end >= lost(&damage).from || accepted.end == state.at,
                    "{what}"
                );
                let (mut writer, log, _) = open(&disk).unwrap();
                assert_eq!(
                    (log.oldest(), log.tip().position.lsn),
                    (accepted.oldest, accepted.end)
                );
                let kept = contents(&log);
                let from = frames
                    .iter()
                    .skip_while(|frame| frame.start() < log.oldest());
                assert!(kept.iter().eq(from.take(kept.len())), "{what}");
                let batch = Source::after(53, writer.tip()).batch();
                writer.append(&batch).unwrap();
                writer.note_durable().unwrap();
                let (_, log, _) = open(&disk).unwrap();
                assert_eq!(contents(&log), [kept, batch].concat(), "{what}");
                if done {
                    break;
                }
            }
        }
    }
}

/// A machine that ends takes the last notes with it: what goes unnoticed then is younger than the last
/// one that was made durable.
#[test]
fn after_a_loss_of_power_no_more_than_the_last_moment_goes_unnoticed() {
    let (whole, frames) = example(50);
    let settled = frames[9].end();
    let crashed = whole.crash_with(Survives::Nothing);
    let names = segments(&crashed);
    for name in &names[1..] {
        let bytes = crashed.contents(name).unwrap();
        for (what, harm) in HARMS {
            let disk = crashed.copy();
            harm(&disk, name, &bytes);
            match start(&disk) {
                Ok((_, log, _)) => {
                    assert!(log.tip().position.lsn >= settled, "{name} {what}");
                    assert!(frames.starts_with(&contents(&log)), "{name} {what}");
                }
                Err(damage) => assert!(lost(&damage).to >= settled),
            }
        }
    }
}

/// A note that cannot be read is as good as none.
#[test]
fn a_damaged_note_costs_nothing() {
    let (whole, frames) = example(50);
    for (what, harm) in HARMS.into_iter().take(7) {
        let disk = whole.copy();
        harm(
            &disk,
            watermark::NAME,
            &disk.contents(watermark::NAME).unwrap(),
        );
        let (_, log, _) = start(&disk).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(contents(&log), frames, "{what}");
        // And there is one again.
        disk.remove(segments(&disk).last().unwrap()).unwrap();
        assert!(start(&disk).is_err(), "{what}");
    }
}

/// A disk that is full has no room for the first note: the log is opened all the same.
#[test]
fn a_full_disk_is_no_reason_not_to_start() {
    let disk = SimDisk::new(55);
    let mut source = Source::new(55);
    let (mut writer, _, _) = open(&disk);
    writer.append(&[source.frame_of(900)]).unwrap();
    disk.set_capacity(4096);
    let (writer, log, _) = start(&disk).unwrap();
    assert_eq!(log.tip(), source.tip);
    let _ = writer.note_durable();
}

/// A log of the release before has no notes and no salts: it is opened as it is.
#[test]
fn a_log_without_notes_takes_them_on() {
    let disk = SimDisk::new(54);
    let mut source = Source::new(54);
    let (mut writer, _, _) = open(&disk);
    writer.append(&[source.frame_of(900)]).unwrap();
    drop(writer);
    let (_, log, _) = start(&disk).unwrap();
    assert_eq!(log.tip(), source.tip);
    put(&disk, &segments(&disk)[0], &[]);
    assert!(start(&disk).is_err());
}
