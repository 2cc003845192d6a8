//! What becomes of the pieces of a damaged log: they are set aside under other names, for people, when
//! the log goes on without what is missing because somebody has said so.

use std::io;
use std::sync::Arc;

use super::cut;
use super::error::{LogError, Lost};
use super::recovery::{Opening, copy};
use super::segment;
use super::shared::Options;
use super::watermark;
use crate::env::{Disk, is_full};
use crate::replication::{EpochHistory, Lsn};

/// Where the owner's state ends.
#[derive(Clone, Debug, Default)]
pub struct StateEnd {
    /// The last record in it.
    pub at: Lsn,
    /// The epochs up to there.
    pub history: EpochHistory,
    /// Chain of the frame that ends there.
    pub chain: u32,
}

/// What [`accept_loss`] has left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// The log begins here now.
    pub oldest: Lsn,
    /// And ends here.
    pub end: Lsn,
    /// What was given up; `None` if nothing was missing.
    pub lost: Option<Lost>,
    /// Files of the log's directory with what was found behind the damage.
    pub aside: Vec<String>,
}

/// Lets a damaged log go on without what is missing: with what is intact from its beginning on, or, if
/// that does not reach to the end of the owner's `state`, with nothing after that state. What it
/// gives up is not deleted but set aside. The next start finds a whole log.
///
/// A log that is not damaged is left as it is. After a crash in the midst of it the log is as damaged
/// as before, or done with.
pub fn accept_loss(
    disk: Arc<dyn Disk>,
    home: &dyn Disk,
    options: Options,
    state: Option<&StateEnd>,
) -> Result<Accepted, LogError> {
    let opening = Opening::look(disk, Some(home), options)?;
    let damage = match opening.found.judge(&opening.files, &opening.known) {
        Ok(torn) => {
            let (_, log, recovered) = opening.finish(torn)?;
            return Ok(Accepted {
                oldest: log.oldest(),
                end: recovered.tip.position.lsn,
                ..Accepted::default()
            });
        }
        Err(damage) => damage,
    };
    let Some(missing) = damage.lost() else {
        return Err(damage);
    };
    let (oldest, tip) = (opening.found.view.oldest(), opening.found.view.tip);
    let reaches = state.is_none_or(|state| {
        let from = !options.follows || oldest <= state.at;
        from && state.at <= tip.position.lsn
    });
    let disk = &*opening.disk;
    let mut accepted = Accepted::default();
    let first = opening.found.view.segments.front().map(|it| it.number);
    let kept = first.filter(|_| reaches && damage.is_of_this_log());
    let tip = if let Some(first) = kept {
        let last = &opening.files[opening.found.last];
        let offset = opening.found.end().offset;
        accepted.aside = set_aside(disk, |number| number < first)?;
        accepted
            .aside
            .extend(copy_aside(disk, last.number, offset)?);
        accepted
            .aside
            .extend(set_aside(disk, |number| number > last.number)?);
        cut::end(disk, last.number, offset)?;
        accepted.oldest = oldest;
        tip
    } else {
        accepted.aside = set_aside(disk, |_| true)?;
        let number = opening.files.last().map_or(0, |file| file.number) + 1;
        let nothing = StateEnd::default();
        let state = state.unwrap_or(&nothing);
        let (at, chain, history) = (state.at, state.chain, &state.history);
        let seed = opening.options.seed;
        cut::begin(disk, number, seed, at, chain, history.clone())?;
        accepted.oldest = at;
        cut::tip_at(at, chain, history)
    };
    accepted.end = tip.position.lsn;
    let lost = Lost {
        from: accepted.end,
        to: missing.to.max(accepted.end),
    };
    accepted.lost = Some(lost);
    if let Some(watermark) = &opening.watermark {
        let set = watermark.set(tip);
        set.map_err(LogError::io("write", watermark::NAME))?;
    }
    Ok(accepted)
}

/// Renames segments, durably, and says what they are called now.
fn set_aside(disk: &dyn Disk, which: impl Fn(u64) -> bool) -> Result<Vec<String>, LogError> {
    let names = cut::list(disk)?;
    let mut aside = Vec::new();
    for name in &names {
        let Some(number) = segment::number_of(name).filter(|number| which(*number)) else {
            continue;
        };
        let to = segment::aside_name(number);
        // Each by itself and the oldest first: after a crash, what is left must not look like the
        // beginning of a whole log.
        let renamed = disk.rename(name, &to).and_then(|()| disk.sync_dir());
        renamed.map_err(LogError::io("rename", name))?;
        aside.push(to);
    }
    Ok(aside)
}

/// Copies a segment, if there is anything from `offset` on, and room for it.
fn copy_aside(disk: &dyn Disk, number: u64, offset: u64) -> Result<Vec<String>, LogError> {
    let (name, to) = (segment::name(number), segment::aside_name(number));
    let copied = || -> io::Result<bool> {
        let file = disk.open(&name, false, false)?;
        let len = file.len()?;
        if !has_content(&*file, offset, len)? {
            return Ok(false);
        }
        let aside = disk.open(&to, true, false)?;
        aside.set_len(0)?;
        match copy(&*file, &*aside, 0, len).and_then(|()| aside.sync()) {
            Err(error) if is_full(&error) => {
                disk.remove(&to)?;
                return Ok(false);
            }
            done => done?,
        }
        disk.sync_dir()?;
        Ok(true)
    };
    let copied = copied().map_err(LogError::io("copy", &name))?;
    Ok(copied.then_some(to).into_iter().collect())
}

fn has_content(file: &dyn crate::env::File, mut offset: u64, len: u64) -> io::Result<bool> {
    let mut block = vec![0; 1 << 20];
    while offset < len {
        let read = file.read_at(&mut block, offset)?;
        if block[..read].iter().any(|byte| *byte != 0) {
            return Ok(true);
        }
        if read == 0 {
            break;
        }
        offset += read as u64;
    }
    Ok(false)
}
