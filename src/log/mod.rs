//! The replicated log on disk.
//!
//! It must not know what the records mean, nor who else holds a copy.
//!
//! One thread owns the [`LogWriter`]; any number of others read, prepare and trim through the
//! [`Log`]. Everything that readers see is durable.
//!
//! | file | what is in it |
//! |---|---|
//! | `frame` | the unit of everything: sealing, checking, the wire |
//! | `segment` | names and headers of the files |
//! | `scan` | reads the frames of a file in blocks |
//! | `shared` | what the writer and the readers share: where each frame is |
//! | `writer` | append |
//! | `cut` | truncate and reset: what takes frames away, safe against a crash in the middle |
//! | `maintain` | prepares files ahead of use and trims what is not needed any more |
//! | `reader` | streams from any position |
//! | `watermark` | how far the log was durable, noted apart from it |
//! | `found` | what is in the files, and whether that is all that was durable once |
//! | `recovery` | opens a log after whatever happened: what was torn is cut, what is damaged is not |
//! | `salvage` | goes on without what is missing, and sets aside what that gives up |
//!
#![doc = include_str!("format.md")]
//!
//! # After a crash
//!
//! Recovery stops at the first frame that is not valid, at the LSN *H*. If the log was known to be durable
//! beyond *H*, then acknowledged records are damaged, or gone with the file that they were in:
//! [`LogError::Damaged`], nothing is cut. Otherwise what follows was never acknowledged, and is cut. That
//! the log was durable beyond *H* is known from
//!
//! - a later frame, or mark, whose `durable` is greater than *H*: it was written after that became durable;
//! - a later segment that begins after *H*;
//! - the owner: [`Options::known_durable`], the LSN that its store holds;
//! - the watermark, a file apart from the log: [`LogWriter::note_durable`] writes to it after each batch,
//!   without a sync, [`Log::settle`] syncs it a few times a second.
//!
//! So whatever becomes of the files of a log whose process ended, however it did, is noticed. If the machine
//! ended with it, the watermark may be as old as the last `settle`: then what goes unnoticed is damage to
//! nothing but the batches of that last moment, and only if the very file was spoiled that was written last,
//! with nothing left in it of a later batch. [`LogWriter::mark_durable`] closes that gap, too; the owner
//! calls it when the log falls idle and before it ends.
//!
//! What can be read is not therefore on the disk: a write that failed leaves its pages in the kernel's cache,
//! as clean ones. So what is found beyond the last known durable position is written again before it is
//! believed.
//!
//! [`accept_loss`] lets a damaged log go on without what is missing.

mod cut;
mod error;
mod found;
mod frame;
mod maintain;
mod reader;
mod recovery;
mod salvage;
mod scan;
mod segment;
mod shared;
#[cfg(test)]
mod tests;
mod watermark;
mod writer;

pub use cut::SavedTail;
pub use error::{LogError, Loss, Lost};
pub use frame::{Frame, FrameError, Tip};
pub use reader::Cursor;
pub use recovery::Recovered;
pub use salvage::{Accepted, StateEnd, accept_loss};
pub use shared::{Log, Options};
pub use writer::LogWriter;
