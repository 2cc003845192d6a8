//! What clients ask, and the history of it.

use std::time::Duration;

/// Names an operation.
pub(crate) type OpId = usize;

/// Values that are set are multiples of this, so an increment shows which one it started from.
pub(crate) const STRIDE: u64 = 1 << 20;

/// What a client asks for; keys are single bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Get(u8),
    Set(u8, u64),
    Incr(u8),
}

impl Command {
    pub(crate) fn key(self) -> u8 {
        match self {
            Self::Get(key) | Self::Set(key, _) | Self::Incr(key) => key,
        }
    }
}

/// An operation as its client saw it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Op {
    pub(crate) client: usize,
    pub(crate) command: Command,
    pub(crate) asked: Duration,
    /// When the answer came; `None` if none did: it may have happened, or may yet.
    pub(crate) answered: Option<Duration>,
    pub(crate) result: Option<u64>,
    /// It was refused: it has not happened, and never will.
    pub(crate) refused: bool,
}
