//! Damage to the files of a log that was acknowledged: it is noticed, or it does no harm. What
//! cannot be told from a torn write is the last batch, and only if nothing was written after it.

use super::*;

/// A log of several segments and batches.
struct Example {
    disk: SimDisk,
    batches: Vec<Vec<Frame>>,
}

impl Example {
    fn new(mark: bool) -> Self {
        let disk = SimDisk::new(30);
        let mut source = Source::new(30);
        let (mut writer, log, _) = open(&disk);
        let mut batches = Vec::new();
        for index in 0..14 {
            let batch: Vec<Frame> = (0..=index % 3).map(|_| source.frame_of(300)).collect();
            writer.append(&batch).unwrap();
            batches.push(batch);
            if index == 5 {
                log.prepare().unwrap();
            }
        }
        if mark {
            writer.mark_durable().unwrap();
        }
        Self { disk, batches }
    }

    fn frames(&self) -> Vec<Frame> {
        self.batches.concat()
    }

    fn all_but_the_last_batch(&self) -> Vec<Frame> {
        self.batches[..self.batches.len() - 1].concat()
    }

    /// Opens each of many damaged copies, and says in how many the last batch was cut off. Any
    /// other cut is a failure.
    fn count_cuts(&self, damaged: impl Iterator<Item = SimDisk>, options: Options) -> usize {
        let frames = self.frames();
        let kept = self.all_but_the_last_batch();
        let mut cuts = 0;
        for (index, disk) in damaged.enumerate() {
            // What the store has taken over is looked at only when it is read.
            let opened = Log::open(Arc::new(disk), options);
            let found = opened.and_then(|(_, log, _)| log.read_from(log.oldest(), usize::MAX));
            match found.map(plain) {
                Ok(found) if found == frames => {}
                Ok(found) => {
                    assert!(frames.starts_with(&found), "damage {index}");
                    assert!(found.starts_with(&kept), "damage {index}");
                    cuts += 1;
                }
                Err(LogError::Damaged { .. }) => {}
                Err(error) => panic!("damage {index}: {error}"),
            }
        }
        cuts
    }

    /// Copies with one bit turned over, for every byte of every file.
    fn flips(&self) -> impl Iterator<Item = SimDisk> {
        let names = self.disk.list().unwrap().into_iter();
        let bytes = names.flat_map(|name| {
            let length = self.disk.contents(&name).unwrap().len() as u64;
            (0..length).map(move |at| (name.clone(), at))
        });
        bytes.map(|(name, at)| {
            let copy = self.disk.copy();
            copy.flip(&name, at, (at % 8) as u32);
            copy
        })
    }
}

#[test]
fn a_flipped_bit_costs_no_more_than_the_last_batch() {
    let example = Example::new(false);
    let cuts = example.count_cuts(example.flips(), SMALL);
    let last: usize = example
        .batches
        .last()
        .unwrap()
        .iter()
        .map(Frame::wire_len)
        .sum();
    // Just the bytes of that batch: neither the padding around it nor anything else.
    assert_eq!(cuts, last);
}

#[test]
fn a_flipped_bit_costs_nothing_under_a_mark() {
    let example = Example::new(true);
    assert_eq!(example.count_cuts(example.flips(), SMALL), 0);
}

#[test]
fn a_flipped_bit_costs_nothing_that_the_store_knows_of() {
    let example = Example::new(false);
    let known_durable = example.frames().last().unwrap().end();
    let options = Options {
        known_durable,
        ..SMALL
    };
    assert_eq!(example.count_cuts(example.flips(), options), 0);
}

#[test]
fn a_lost_file_is_noticed() {
    for mark in [false, true] {
        let example = Example::new(mark);
        let names = example.disk.list().unwrap();
        assert!(names.len() > 3);
        // The first looks trimmed; the last is known to the owner only.
        for name in &names[1..names.len() - 1] {
            let copy = example.disk.copy();
            copy.remove(name).unwrap();
            let error = open_error(&copy, SMALL);
            assert!(matches!(error, LogError::Damaged { .. }), "{name}: {error}");
        }
        let copy = example.disk.copy();
        copy.remove(names.last().unwrap()).unwrap();
        let known_durable = example.frames().last().unwrap().end();
        let options = Options {
            known_durable,
            ..SMALL
        };
        assert!(matches!(
            open_error(&copy, options),
            LogError::Damaged { .. }
        ));
    }
}

#[test]
fn a_file_that_is_cut_short_leaves_what_came_before() {
    let disk = SimDisk::new(31);
    let mut source = Source::new(31);
    let (mut writer, _, _) = open(&disk);
    // One batch, so that nothing in it is known to be durable.
    let frames: Vec<Frame> = (0..8).map(|_| source.frame_of(300)).collect();
    writer.append(&frames).unwrap();
    let name = segment::name(1);
    let length = disk.contents(&name).unwrap().len() as u64;
    let mut ends = vec![512];
    ends.extend(
        frames
            .iter()
            .map(|frame| 512 + frame.tip().position.lsn.0 / 300 * 368),
    );
    for cut in 512..length {
        let copy = disk.copy();
        copy.open(&name, false, false)
            .unwrap()
            .set_len(cut)
            .unwrap();
        let (mut writer, log, _) = open(&copy);
        // Padding behind a frame may be missing.
        let whole = ends.iter().filter(|end| **end <= cut + 4).count() - 1;
        assert_eq!(contents(&log), frames[..whole], "cut at {cut}");
        // And the log goes on.
        let next = Source::after(cut, writer.tip()).frame_of(600);
        writer.append(std::slice::from_ref(&next)).unwrap();
        let (_, log, _) = open(&copy.crash());
        assert_eq!(contents(&log).last(), Some(&next), "cut at {cut}");
    }
    // The header is durable before anything else: without it, it is damage.
    for cut in 0..36 {
        let copy = disk.copy();
        copy.open(&name, false, false)
            .unwrap()
            .set_len(cut)
            .unwrap();
        assert!(
            matches!(open_error(&copy, SMALL), LogError::Damaged { .. }),
            "cut at {cut}"
        );
    }
}

#[test]
fn damage_is_left_alone_and_explained() {
    let example = Example::new(false);
    let disk = example.disk.copy();
    disk.flip(&segment::name(1), 600, 0);
    let before: Vec<_> = disk
        .list()
        .unwrap()
        .iter()
        .map(|name| disk.contents(name))
        .collect();
    let error = open_error(&disk, SMALL);
    let expected = "the log is damaged after LSN 0 (log-0000000001, byte 512: what is there is not what was \
        written), though it was durable up to LSN 7500; nothing was cut: seed this replica anew from \
        another one, or give up the 7500 bytes of records in between";
    assert_eq!(error.to_string(), expected);
    let after: Vec<_> = disk
        .list()
        .unwrap()
        .iter()
        .map(|name| disk.contents(name))
        .collect();
    assert_eq!(before, after);
}

#[test]
fn what_a_recycled_file_held_is_never_found_again() {
    let disk = SimDisk::new(32);
    let mut source = Source::new(32);
    let (mut writer, log, _) = open(&disk);
    for _ in 0..30 {
        writer.append(&[source.frame_of(100)]).unwrap();
        log.prepare().unwrap();
        log.trim(source.tip.position.lsn).unwrap();
    }
    // The log begins anew below what the files held, and is written into them again.
    writer.truncate(log.oldest()).unwrap();
    let mut other = Source::after(33, writer.tip());
    let mut frames = Vec::new();
    for _ in 0..30 {
        let frame = other.frame_in(Epoch(2), 100);
        writer.append(std::slice::from_ref(&frame)).unwrap();
        frames.push(frame);
        let (_, reopened, recovered) = open(&disk.copy());
        assert_eq!(recovered.truncated_bytes, 0);
        assert_eq!(contents(&reopened), frames);
    }
}

#[test]
fn a_value_that_looks_like_a_frame_is_none() {
    let disk = SimDisk::new(34);
    let (mut writer, _, _) = open(&disk);
    // Someone stores frames of the future that claim to be durable, as they look on the wire.
    let forged = Frame::seal(&b"x"[..], 1, Epoch(9), Lsn(500), 0, 0).with_durable(Lsn(900));
    let payload = [&forged.header()[..], &forged.payload()].concat().repeat(5);
    let frame = Frame::seal(payload, 1, Epoch(1), Lsn(0), 0, 0);
    writer.append(&[frame]).unwrap();
    // The frame is damaged, and it was the last.
    disk.flip(&segment::name(1), 512 + 63, 0);
    let (_, log, _) = open(&disk);
    assert!(contents(&log).is_empty());
}

#[test]
fn a_segment_says_that_all_before_it_was_durable() {
    let example = Example::new(false);
    let names = example.disk.list().unwrap();
    let [.., before, last] = &names[..] else {
        panic!("{names:?}");
    };
    // Only the header of the last segment is left, and the batch before it is damaged.
    let disk = example.disk.copy();
    disk.open(last, false, false).unwrap().set_len(512).unwrap();
    let (_, log, _) = open(&disk.copy());
    let (offset, end) = {
        let view = log.0.view.read();
        let segment = &view.segments[view.segments.len() - 2];
        (segment.end.offset, segment.end.lsn)
    };
    disk.flip(before, offset - 8, 0);
    assert!(
        matches!(open_error(&disk, SMALL), LogError::Damaged { durable, .. } if durable == end)
    );
}

#[test]
fn a_torn_batch_never_comes_back() {
    let options = Options {
        segment_bytes: 64 << 10,
        ..SMALL
    };
    let open = |disk: &SimDisk| Log::open(Arc::new(disk.clone()), options).unwrap();
    let disk = SimDisk::new(35);
    let mut source = Source::new(35);
    let (mut writer, _, _) = open(&disk);
    // The first ends with a page, so that writing it again does not touch the second.
    let [first, second] = [source.frame_of(8192 - 512 - 64), source.frame_of(600)];
    writer.append(&[first.clone(), second]).unwrap();
    // The first frame was torn, the second was not.
    disk.flip(&segment::name(1), 1000, 0);
    let (mut writer, _, recovered) = open(&disk);
    let torn = (recovered.tip, recovered.truncated_bytes);
    assert_eq!(torn, (Tip::default(), 8192 - 512 + 664));
    // The leader sends the first one again, and just that.
    writer.append(std::slice::from_ref(&first)).unwrap();
    let (_, log, recovered) = open(&disk.crash());
    assert_eq!(recovered.tip, first.tip());
    assert_eq!(contents(&log), [first]);
}

#[test]
fn a_frame_of_another_history_does_not_continue_the_log() {
    let disk = SimDisk::new(36);
    let mut source = Source::new(36);
    let (mut writer, _, _) = open(&disk);
    let first = source.frame_of(64);
    writer.append(std::slice::from_ref(&first)).unwrap();
    // Whole, of this segment, at the right place and LSN, but after another frame than this one.
    let other = Frame::seal(&b"other"[..], 1, Epoch(1), Lsn(64), 0, first.chain() ^ 1);
    let salt = segment::salt(SMALL.seed, 1);
    let bytes = [&other.header_in(salt, Lsn(64))[..], &other.payload()].concat();
    let file = disk.open(&segment::name(1), false, true).unwrap();
    file.write_at(&bytes, 512 + 128).unwrap();
    let (_, log, recovered) = open(&disk);
    assert_eq!(contents(&log), [first]);
    assert_eq!(recovered.truncated_bytes, 72);
}
