//! The thread that brings a follower's state forward by what is committed, and a new leader's by its
//! whole log. It decides nothing: how far is the core's word.

use std::sync::Arc;
use std::time::Duration;

use super::ahead;
use super::inner::{Inner, Tip};
use super::node::Node;
use crate::log::{Frame, Log, LogError};
use crate::replication::{Input, Lsn};
use crate::store::{Record, Store, StoreError};

/// Frames are fetched in pieces of about this size.
const PIECE: usize = 1 << 20;

/// Why the state could not be brought forward: the process must end.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApplyError {
    #[error("reading the log to apply it: {0}")]
    Log(#[from] LogError),
    #[error("a frame of the log at {0} holds records that cannot be read: {1}")]
    Record(Lsn, String),
    #[error("applying a record: {0}")]
    Store(#[from] StoreError),
}

/// Where to go on, and up to where.
struct Span {
    from: Lsn,
    to: Lsn,
    generation: u64,
    frames: Option<Vec<Frame>>,
}

/// Runs until `stop` is cancelled.
pub(super) fn run(
    node: &Arc<Node>,
    log: &Log,
    stop: &tokio_util::sync::CancellationToken,
) -> Result<(), ApplyError> {
    while !stop.is_cancelled() {
        let span = node.wait(&node.apply, Duration::from_millis(500), span);
        let Some(span) = span else { continue };
        let frames = match span.frames {
            Some(frames) => frames,
            None => match log.read_from(span.from, PIECE) {
                Ok(frames) => frames,
                // The log was cut or reset since: look again.
                Err(_) if node.with(|inner| inner.rewinds != span.generation) => continue,
                Err(error) => return Err(error.into()),
            },
        };
        for frame in frames {
            if frame.end() > span.to {
                break;
            }
            apply(node, &frame, span.generation)?;
        }
    }
    Ok(())
}

fn span(inner: &mut Inner) -> Option<Span> {
    if inner.accepting || inner.store.is_none() || inner.stalls_applier() {
        return None;
    }
    // A leader that is about to append its barrier needs all of its log.
    let leading = inner.core.leading().is_some();
    let to = if leading {
        inner.tip.end
    } else {
        inner.core.commit()
    };
    let from = inner.applied.end;
    if from >= to {
        return None;
    }
    let frames = inner
        .tail
        .after(from, PIECE)
        .filter(|frames| !frames.is_empty());
    Some(Span {
        from,
        to,
        generation: inner.rewinds,
        frames,
    })
}

/// Applies one frame under the lock, so that nobody sees a part of it.
pub(super) fn apply(node: &Node, frame: &Frame, generation: u64) -> Result<(), ApplyError> {
    node.with(|inner| {
        if inner.rewinds != generation || inner.applied.end != frame.start() {
            return Ok(());
        }
        let Some(store) = &mut inner.store else {
            return Ok(());
        };
        let leads = inner.core.leading().is_some();
        apply_records(store, frame, leads)?;
        inner.applied = Tip {
            end: frame.end(),
            chain: frame.chain(),
        };
        inner.gate.applied(frame.end(), &mut inner.to_wake);
        if leads {
            inner.uncommitted.push(inner.applied);
            inner.uncommitted.committed(inner.core.released());
            node.work.notify_one(); // the barrier may be waiting for this
        } else {
            node.drive(inner, Input::Applied(frame.end()));
            node.judge(inner);
            node.acknowledge.notify_one();
        }
        Ok(())
    })
}

/// Applies the records of the frame that comes next; `ahead` of being committed, as the case may be.
pub(super) fn apply_records(
    store: &mut Store,
    frame: &Frame,
    ahead: bool,
) -> Result<(), ApplyError> {
    let payload = frame.payload();
    let mut rest: &[u8] = &payload;
    let mut lsn = frame.start();
    let mut records = 0_usize;
    while !rest.is_empty() {
        if records.is_multiple_of(ahead::STEP) {
            ahead::look_at_records(store, rest);
        }
        records += 1;
        let (record, used) =
            Record::decode(rest).map_err(|error| ApplyError::Record(lsn, error.to_string()))?;
        lsn = lsn.advance(used as u64);
        if ahead {
            store.apply_ahead(&record, lsn)?;
        } else {
            store.apply(&record, lsn)?;
        }
        rest = rest.get(used..).unwrap_or_default();
    }
    Ok(())
}
