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
//! | `recovery` | opens a log after whatever happened: what was torn is cut, what is damaged is not |
//!
#![doc = include_str!("format.md")]
//!
//! # After a crash
//!
//! Recovery stops at the first frame that is not valid, at the LSN *H*. If the log was known to be durable
//! beyond *H*, then acknowledged records are damaged: [`LogError::Damaged`], nothing is cut. Otherwise what
//! follows was never acknowledged, and is cut. That the log was durable beyond *H* is known from
//!
//! - a later frame, or mark, whose `durable` is greater than *H*: it was written after that became durable;
//! - a later segment that begins after *H*;
//! - the owner: [`Options::known_durable`], the LSN that its store holds.
//!
//! So damage to the very last batch, if nothing was written after it, looks like a batch that a crash tore,
//! and is cut. [`LogWriter::mark_durable`] closes the gap; the owner calls it when the log falls idle and
//! before it ends. What remains is a crash within the moments after a batch, together with damage to just
//! that batch.

mod cut;
mod error;
mod frame;
mod maintain;
mod reader;
mod recovery;
mod scan;
mod segment;
mod shared;
#[cfg(test)]
mod tests;
mod writer;

pub use cut::SavedTail;
pub use error::LogError;
pub use frame::{Frame, FrameError, Tip};
pub use reader::Cursor;
pub use recovery::Recovered;
pub use shared::{Log, Options};
pub use writer::LogWriter;
