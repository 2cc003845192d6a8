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

/// Why they could not be kept: then they must not be given up.
#[derive(Debug, thiserror::Error)]
pub(super) enum DivergentError {
    #[error("reading the records that part from the leader's: {0}")]
    Log(#[from] LogError),
    #[error("keeping the records that part from the leader's in {DIRECTORY}/: {0}")]
    Io(#[from] io::Error),
}

/// Keeps the frames after `after` up to `end`, durably; `None` if no client wrote any of them.
pub(super) fn keep(
    data: &Path,
    log: &Log,
    after: Lsn,
    end: Lsn,
) -> Result<Option<Divergent>, DivergentError> {
    let mut kept: Option<(File, Divergent)> = None;
    let mut at = after;
    while at < end {
        let frames = log.read_from(at, PIECE)?;
        let Some(last) = frames.last() else { break };
        at = last.end();
        for frame in frames.iter().filter(|frame| frame.end() <= end) {
            if kept.is_none() && !written_by_clients(frame) {
                continue;
            }
            if kept.is_none() {
                kept = Some(create(data, frame.epoch(), after)?);
            }
            if let Some((file, told)) = &mut kept {
                file.write_all(&frame.header())?;
                file.write_all(&frame.payload())?;
                told.bytes += frame.payload().len() as u64;
                told.epoch = frame.epoch();
            }
        }
    }
    let Some((file, told)) = kept else {
        return Ok(None);
    };
    file.sync_all()?;
    File::open(data.join(DIRECTORY))?.sync_all()?;
    remove_oldest(data)?;
    Ok(Some(told))
}

fn create(data: &Path, epoch: Epoch, after: Lsn) -> io::Result<(File, Divergent)> {
    fs::create_dir_all(data.join(DIRECTORY))?;
    let file = format!("{DIRECTORY}/{:020}-{:020}", epoch.0, after.0);
    let told = Divergent {
        epoch,
        after,
        bytes: 0,
        file,
    };
    Ok((File::create(data.join(&told.file))?, told))
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
