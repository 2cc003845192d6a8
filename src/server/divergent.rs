//! Records that a replica must give up when it rejoins, kept in a file before they go: an
//! asynchronous leader may have acknowledged them. It must not know why the histories parted.
//!
//! `divergent/<epoch>-<after>` in the data directory holds the frames of the log after LSN `after`,
//! as they stood in the log (`log::frame` has the format). Nobody reads them but people, and nobody
//! deletes them but people, or the oldest ones when there are more than [`MOST_FILES`].

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use crate::log::{Frame, Log, LogError};
use crate::replication::admin::Divergent;
use crate::replication::{Epoch, Lsn};
use crate::store::Record;

const DIRECTORY: &str = "divergent";
/// Older files are removed when there are more.
const MOST_FILES: usize = 16;
/// Frames are read in pieces of about this size.
const PIECE: usize = 1 << 20;

/// Why they could not be kept. That is told; it is no reason to end, as the same would be found after the
/// next start.
#[derive(Debug, thiserror::Error)]
pub(super) enum DivergentError {
    #[error("reading the records that part from the leader's: {0}")]
    Log(#[from] LogError),
    #[error("keeping the records that part from the leader's in {DIRECTORY}/: {0}")]
    Io(#[from] io::Error),
}

/// Keeps the frames after `after` up to `end`, durably, as far as the log still holds them; `None` if no
/// client wrote any of them. With less than `room` bytes on the disk afterwards nothing is kept.
pub(super) fn keep(
    data: &Path,
    log: &Log,
    after: Lsn,
    end: Lsn,
    room: u64,
) -> Result<Option<Divergent>, DivergentError> {
    let begin = log.locate(after.max(log.oldest()))?.position.lsn;
    if end.since(begin) > room {
        let error = io::Error::from(io::ErrorKind::StorageFull);
        return Err(error.into());
    }
    let mut kept: Option<Kept> = None;
    let copied = copy(data, log, (after, begin, end), &mut kept);
    let finished = copied.and_then(|()| kept.as_ref().map_or(Ok(()), |kept| kept.finish(data)));
    match (finished, kept) {
        (Ok(()), kept) => Ok(kept.map(|kept| kept.told)),
        (Err(error), kept) => {
            // Half of them is of no use to anybody, and takes room.
            if let Some(kept) = kept {
                let _ = fs::remove_file(data.join(&kept.told.file));
            }
            Err(error)
        }
    }
}

/// A file of records, and what is told of it.
struct Kept {
    file: File,
    told: Divergent,
}

impl Kept {
    fn add(&mut self, frame: &Frame) -> io::Result<()> {
        self.file.write_all(&frame.header())?;
        self.file.write_all(&frame.payload())?;
        self.told.bytes += frame.payload().len() as u64;
        self.told.epoch = frame.epoch();
        Ok(())
    }

    fn finish(&self, data: &Path) -> Result<(), DivergentError> {
        self.file.sync_all()?;
        File::open(data.join(DIRECTORY))?.sync_all()?;
        Ok(remove_oldest(data)?)
    }
}

fn copy(
    data: &Path,
    log: &Log,
    (after, begin, end): (Lsn, Lsn, Lsn),
    kept: &mut Option<Kept>,
) -> Result<(), DivergentError> {
    let mut at = begin;
    while at < end {
        let frames = match log.read_from(at, PIECE) {
            Ok(frames) => frames,
            // Trimmed meanwhile.
            Err(LogError::Trimmed { oldest }) if oldest > at => {
                at = oldest;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let Some(last) = frames.last() else { break };
        at = last.end();
        for frame in frames.iter().filter(|frame| frame.end() <= end) {
            if kept.is_none() && written_by_clients(frame) {
                *kept = Some(create(data, frame.epoch(), after)?);
            }
            if let Some(kept) = kept {
                kept.add(frame)?;
            }
        }
    }
    Ok(())
}

fn create(data: &Path, epoch: Epoch, after: Lsn) -> io::Result<Kept> {
    let directory = data.join(DIRECTORY);
    if !directory.is_dir() {
        fs::create_dir(&directory)?;
        File::open(data)?.sync_all()?;
    }
    let file = format!("{DIRECTORY}/{:020}-{:020}", epoch.0, after.0);
    let told = Divergent {
        epoch,
        after,
        bytes: 0,
        file,
    };
    let file = File::create(data.join(&told.file))?;
    Ok(Kept { file, told })
}

fn written_by_clients(frame: &Frame) -> bool {
    let payload = frame.payload();
    let mut rest: &[u8] = &payload;
    while let Ok((record, used)) = Record::decode(rest) {
        if !matches!(record, Record::Barrier { .. }) {
            return true;
        }
        rest = rest.get(used..).unwrap_or_default();
        if rest.is_empty() {
            return false;
        }
    }
    true
}

/// The newest file of an earlier time.
pub(super) fn newest(data: &Path) -> io::Result<Option<Divergent>> {
    let Some(name) = names(data)?.pop() else {
        return Ok(None);
    };
    let file = format!("{DIRECTORY}/{name}");
    let numbers = name.split_once('-');
    let numbers =
        numbers.and_then(|(epoch, after)| Some((epoch.parse().ok()?, after.parse().ok()?)));
    let Some((epoch, after)) = numbers else {
        return Ok(None);
    };
    Ok(Some(Divergent {
        epoch: Epoch(epoch),
        after: Lsn(after),
        bytes: fs::metadata(data.join(&file))?.len(),
        file,
    }))
}

fn names(data: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(data.join(DIRECTORY)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn remove_oldest(data: &Path) -> io::Result<()> {
    let names = names(data)?;
    let surplus = names.len().saturating_sub(MOST_FILES);
    for name in names.iter().take(surplus) {
        fs::remove_file(data.join(DIRECTORY).join(name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::env::RealDisk;
    use crate::log::{LogWriter, Options};

    const SEGMENT: u64 = 1 << 16;

    /// A log of many segments, of which the first ones are gone.
    fn trimmed(dir: &Path) -> (LogWriter, Log) {
        let disk = Arc::new(RealDisk::open(dir).unwrap());
        let options = Options {
            segment_bytes: SEGMENT,
            ..Options::default()
        };
        let (mut writer, log, _) = Log::open(disk, options).unwrap();
        for round in 0..200u64 {
            let mut payload = Vec::new();
            let value = [b'v'; 2000];
            let key = format!("key:{round}");
            let record = Record::Put {
                key: key.as_bytes(),
                value: &value,
                expire_at_ms: 0,
                created: true,
            };
            record.encode(&mut payload);
            let tip = log.tip();
            let frame = Frame::seal(payload, 1, Epoch(1), tip.position.lsn, 0, tip.chain);
            writer.append(std::slice::from_ref(&frame)).unwrap();
        }
        log.trim(Lsn(300_000)).unwrap();
        assert!(log.oldest() > Lsn(7));
        (writer, log)
    }

    #[test]
    fn what_is_left_of_a_trimmed_log_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (_writer, log) = trimmed(&dir.path().join("log"));
        let end = log.tip().position.lsn;
        let kept = keep(dir.path(), &log, Lsn(7), end, u64::MAX)
            .unwrap()
            .unwrap();
        assert_eq!((kept.after, kept.bytes), (Lsn(7), end.since(log.oldest())));
        assert_eq!(newest(dir.path()).unwrap().unwrap().file, kept.file);
    }

    #[test]
    fn a_position_within_a_frame_is_none_to_fail_at() {
        let dir = tempfile::tempdir().unwrap();
        let (_writer, log) = trimmed(&dir.path().join("log"));
        let end = log.tip().position.lsn;
        let after = Lsn(end.0 - 1);
        let kept = keep(dir.path(), &log, after, end, u64::MAX)
            .unwrap()
            .unwrap();
        assert!(kept.bytes > 2000, "{kept:?}");
    }

    #[test]
    fn without_room_nothing_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let (_writer, log) = trimmed(&dir.path().join("log"));
        let end = log.tip().position.lsn;
        keep(dir.path(), &log, Lsn(7), end, 1000).unwrap_err();
        assert_eq!(newest(dir.path()).unwrap(), None);
    }
}
