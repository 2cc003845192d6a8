//! What may be missing at a start, or may not be what was written, in words for people.

use std::fmt;

use crate::replication::Lsn;

/// What is missing, or is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server) enum Trouble {
    /// A seed was begun and not installed.
    Seeding {
        /// Where the state of before it is.
        flushed: Option<Lsn>,
    },
    /// The state cannot be opened, and the log begins after it.
    State {
        /// Why.
        why: String,
        /// Where the log begins.
        oldest: Lsn,
        /// Where it ends.
        end: Lsn,
    },
    /// The log begins after the state.
    Gap {
        /// Where the state is.
        flushed: Lsn,
        /// Where the log begins.
        oldest: Lsn,
        /// Where it ends.
        end: Lsn,
    },
    /// State and log are of different histories.
    Foreign {
        /// Where the state is.
        flushed: Lsn,
        /// Where the log ends.
        end: Lsn,
    },
    /// The log is damaged.
    Log {
        /// How.
        why: LogDamage,
        /// Where the state is, if there is a whole one.
        flushed: Option<Lsn>,
    },
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seeding { flushed } => {
                f.write_str("a seed from another replica was begun and not finished, and the log went for it")?;
                match flushed {
                    Some(at) => write!(f, "; what is left is the state of before, at LSN {at}"),
                    None => f.write_str("; nothing is left of the state of before"),
                }
            }
            Self::State { why, oldest, end } => write!(
                f,
                "the state on disk is damaged ({why}), and the log reaches back to LSN {oldest} only: what was \
                 not written again since would be lost; the {} bytes of records after that are whole",
                end.since(*oldest)
            ),
            Self::Gap {
                flushed,
                oldest,
                end,
            } => write!(
                f,
                "the log begins at LSN {oldest} and the state ends at LSN {flushed}: the {} bytes of records \
                 between them are missing; the {} bytes after that are whole",
                oldest.since(*flushed),
                end.since(*oldest)
            ),
            Self::Foreign { flushed, end } => write!(
                f,
                "the state, at LSN {flushed}, does not stand on the log, which ends at LSN {end}: one of the \
                 two is of another history"
            ),
            Self::Log { why, flushed } => {
                f.write_str(&why.what)?;
                let whole = why.whole.max(*flushed);
                let whole = whole.unwrap_or_default();
                match why.durable.filter(|durable| *durable > whole) {
                    Some(durable) => write!(
                        f,
                        "; {} bytes of records, after LSN {whole} up to LSN {durable} at least, would be lost",
                        durable.since(whole)
                    ),
                    None => write!(f, "; whatever was written after LSN {whole} would be lost"),
                }
            }
        }
    }
}

/// How a log is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server) struct LogDamage {
    /// For people.
    pub(in crate::server) what: String,
    /// The end of what is whole: nothing is, if that cannot be told.
    pub(in crate::server) whole: Option<Lsn>,
    /// Up to here it was durable, as far as is known.
    pub(in crate::server) durable: Option<Lsn>,
}
