//! Brings together what the data directory holds: the state, the log, and whether both are of one history.
//! What can be rebuilt from the rest is rebuilt. Where something that was there is not there any more, it
//! depends on who else has it: see [`Mode`]. Nothing here decides what is damaged; the parts say so.

mod trouble;

use std::path::PathBuf;
use std::sync::Arc;

use super::data_dir::{DataDir, DataDirError};
use super::room;
use super::state::{budget_at_start, open_with_cache};
use crate::env::{Disk, Overlay, RealDisk};
use crate::log::{self, Log, LogError, LogWriter};
use crate::replication::admin::Settings;
use crate::replication::{Epoch, Lsn, Recovered};
use crate::store::{Store, StoreError};

pub(super) use trouble::{LogDamage, Trouble};

/// Why the replica cannot start.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The state.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file system.
    #[error("opening the log's directory: {0}")]
    Io(#[from] std::io::Error),
    /// Something is not there any more that nobody else is known to have.
    #[error(
        "this replica does not start, as it is alone and would lose data: {trouble}. Nothing was changed. If a \
         backup of the volume has the file, put that back; `replica repair --data-dir {}` tells what can be kept, \
         and with `--accept-loss` the replica goes on with that", .path.display()
    )]
    Refused {
        /// What is wrong.
        trouble: Trouble,
        /// The data directory.
        path: PathBuf,
    },
}

/// Who else may have what is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Nobody, as it is started alone, or is the only voter of its store: what would be lost is told, and the
    /// replica does not start.
    Alone,
    /// The leader of its store, sooner or later: it is made whole from that one.
    Replicated,
}

/// What was found.
pub(super) struct Opened {
    pub(super) recovered: Recovered,
    /// CRC chain at the end of the log.
    pub(super) chain: u32,
    /// Time of its last frame.
    pub(super) time_ms: u64,
    pub(super) log: LogWriter,
    pub(super) reader: Log,
    /// `None` if a seed was under way, or the state is to be fetched anew.
    pub(super) store: Option<Store>,
    /// What is wrong with the state.
    pub(super) damage: Option<String>,
    /// What is told until a seed has taken the place of what there was.
    pub(super) message: String,
}

/// A log that was opened.
pub(super) type OpenLog = (LogWriter, Log, log::Recovered);

/// What there is.
pub(super) struct Parts {
    /// The state, or why it cannot be opened.
    pub(super) state: Result<Store, String>,
    pub(super) log: Option<OpenLog>,
    pub(super) trouble: Option<Trouble>,
}

/// Opens everything.
pub(super) fn open(dir: &DataDir, settings: &Settings, mode: Mode) -> Result<Opened, OpenError> {
    let mut parts = look(dir, settings)?;
    if mode == Mode::Alone && dir.forgotten() {
        // It has promised nothing to anybody but itself.
        dir.remember()?;
    }
    let Some(trouble) = parts.trouble.take() else {
        return opened(dir, parts.log, parts.state.ok(), None);
    };
    if mode == Mode::Alone {
        let path = dir.path().to_owned();
        return Err(OpenError::Refused { trouble, path });
    }
    tracing::error!(%trouble, "it is made whole from the leader, once there is one");
    let message = trouble.to_string();
    let opened = without(dir, parts, &trouble)?;
    Ok(Opened { message, ..opened })
}

/// Opens what is left beside the trouble.
fn without(dir: &DataDir, parts: Parts, trouble: &Trouble) -> Result<Opened, OpenError> {
    match trouble {
        Trouble::Seeding { .. } => {
            let log = match parts.log {
                Some(log) => log,
                None => {
                    dir.forget("what it had acknowledged: its log is damaged")?;
                    begin_log(dir, "it is damaged")?
                }
            };
            opened(dir, Some(log), None, None)
        }
        Trouble::Log { .. } => {
            drop(parts);
            dir.forget(&format!("what it had acknowledged: {trouble}"))?;
            // From here on the state is not the one of the log.
            dir.begin_seed()?;
            let log = begin_log(dir, &trouble.to_string())?;
            opened(dir, Some(log), None, None)
        }
        Trouble::State { .. } | Trouble::Gap { .. } | Trouble::Foreign { .. } => {
            let what = trouble.to_string();
            dir.note_damage(&what)?;
            opened(dir, parts.log, None, Some(what))
        }
    }
}

/// Moves the log away and begins an empty one.
pub(super) fn begin_log(dir: &DataDir, why: &str) -> Result<OpenLog, OpenError> {
    if dir.log_path().exists() {
        dir.set_aside("log", why)?;
    }
    dir.forget_log()?;
    let options = log_options(dir, Lsn::ZERO)?;
    Ok(Log::open_noted(log_disk(dir)?, &*home_disk(dir)?, options)?)
}

pub(super) fn log_options(dir: &DataDir, known_durable: Lsn) -> std::io::Result<log::Options> {
    Ok(log::Options {
        segment_bytes: room::segment_bytes(dir.space()?.1),
        known_durable,
        seed: rand::random(),
        owner: dir.id().0,
        ..log::Options::default()
    })
}

/// A replica without a state either waits for a seed, or has a whole log and fetches only the state.
fn opened(
    dir: &DataDir,
    log: Option<OpenLog>,
    store: Option<Store>,
    damage: Option<String>,
) -> Result<Opened, OpenError> {
    let (log, reader, found) = match log {
        Some(log) => log,
        None => open_log(dir, Lsn::ZERO)?,
    };
    let flushed = match &store {
        Some(store) => store.meta().flushed,
        None if damage.is_some() => found.oldest,
        None => Lsn::ZERO,
    };
    let recovered = Recovered {
        hard: dir.hard_state(),
        history: found.history,
        end: found.tip.position.lsn,
        oldest: found.oldest,
        flushed,
        complete: store.is_some() || damage.is_some(),
        adopted: dir.adopted()?.configuration,
        forgotten: dir.forgotten(),
    };
    let damage = match damage {
        None => dir.damage()?.filter(|_| store.is_some()),
        damage => damage,
    };
    Ok(Opened {
        recovered,
        chain: found.tip.chain,
        time_ms: last_time(&reader),
        log,
        reader,
        store,
        damage,
        message: String::new(),
    })
}

/// The time of the log's last frame: 0 if there is none, or it cannot be read, which others tell.
fn last_time(log: &Log) -> u64 {
    let end = log.tip().position.lsn;
    let inside = Lsn(end.0.saturating_sub(1));
    let last = log
        .locate(inside)
        .and_then(|before| log.read_from(before.position.lsn, 1));
    let last = last.unwrap_or_default();
    last.last().map_or(0, crate::log::Frame::time_ms)
}

/// Opens what can be opened, rebuilds what can be rebuilt, and says what is missing.
pub(super) fn look(dir: &DataDir, settings: &Settings) -> Result<Parts, OpenError> {
    let (budget, cache) = budget_at_start(dir, settings)?;
    let seeding = dir.is_seeding()?;
    let mut state = find_state(dir, budget, cache)?;
    let flushed = state.as_ref().ok().map(|store| store.meta().flushed);
    let known = flushed.filter(|_| !seeding).unwrap_or_default();
    let log = match open_log(dir, known) {
        Ok(log) => Ok(log),
        Err(error) => Err(damage_of(error)?),
    };
    let trouble = match &log {
        _ if seeding => Some(Trouble::Seeding { flushed }),
        Err(why) => Some(Trouble::Log {
            why: why.clone(),
            flushed,
        }),
        Ok((_, log, found)) => match &state {
            Ok(store) => disagreement(store, log, found)?,
            Err(why) if found.oldest == Lsn::ZERO => {
                // All that was ever written is in the log.
                dir.note(format!("{why}: the state is made again from the log"));
                state = Ok(begin_state(dir, budget, cache)?);
                None
            }
            Err(why) => Some(Trouble::State {
                why: why.clone(),
                oldest: found.oldest,
                end: found.tip.position.lsn,
            }),
        },
    };
    Ok(Parts {
        state,
        log: log.ok(),
        trouble,
    })
}

/// Whether the state stands somewhere on the log.
fn disagreement(
    store: &Store,
    log: &Log,
    found: &log::Recovered,
) -> Result<Option<Trouble>, OpenError> {
    let (flushed, end) = (store.meta().flushed, found.tip.position.lsn);
    if found.oldest > flushed {
        let oldest = found.oldest;
        return Ok(Some(Trouble::Gap {
            flushed,
            oldest,
            end,
        }));
    }
    let there = match log.locate(flushed) {
        Ok(there) => there,
        Err(error) => {
            return Ok(Some(Trouble::Log {
                why: damage_of(error)?,
                flushed: Some(flushed),
            }));
        }
    };
    let same = there.position.lsn == flushed && there.chain == store.meta().chain;
    Ok((!same).then_some(Trouble::Foreign { flushed, end }))
}

/// The current state. Where nothing says which one that is, the newest that can be opened.
fn find_state(dir: &DataDir, budget: u64, cache: u64) -> Result<Result<Store, String>, OpenError> {
    if let Some(name) = dir.current_state() {
        return open_state(dir, &name, budget, cache);
    }
    let (mut best, mut reasons) = (None::<(String, Store)>, Vec::new());
    for name in dir.state_dirs()? {
        if is_partial(dir, &name) {
            continue;
        }
        match open_state(dir, &name, budget, cache)? {
            Ok(store) => {
                let newer =
                    |(_, best): &(String, Store)| best.meta().flushed < store.meta().flushed;
                if best.as_ref().is_none_or(newer) {
                    best = Some((name, store));
                }
            }
            Err(reason) => reasons.push(reason),
        }
    }
    if let Some((name, store)) = best {
        if dir.was_used() {
            dir.note(format!(
                "nothing says which state is the current one: it is {name}"
            ));
        }
        dir.make_current(&name)?;
        return Ok(Ok(store));
    }
    if reasons.is_empty() {
        return Ok(Ok(begin_state(dir, budget, cache)?));
    }
    Ok(Err(reasons.join("; ")))
}

/// A seed under way.
fn is_partial(dir: &DataDir, name: &str) -> bool {
    let path = dir.path().join(name);
    let in_it = |path: PathBuf| {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        let mut names = entries.map(|entry| entry.file_name());
        names.any(|name| name.to_string_lossy().ends_with(".part"))
    };
    let copied = path.join("seed.json").exists() && !path.join("current").exists();
    copied || in_it(path.join("tables")) || in_it(path)
}

fn open_state(
    dir: &DataDir,
    name: &str,
    budget: u64,
    cache: u64,
) -> Result<Result<Store, String>, OpenError> {
    let path = if dir.is_looked_at() {
        linked(dir, name)?
    } else {
        dir.path().join(name)
    };
    match open_with_cache(dir, &path, budget, cache) {
        Ok(store) => Ok(Ok(store)),
        Err(error) if error.is_damage() => Ok(Err(format!("{name}: {error}"))),
        Err(error) => Err(error.into()),
    }
}

/// The files of a state in another directory: to open it there removes nothing here.
fn linked(dir: &DataDir, name: &str) -> Result<PathBuf, OpenError> {
    let (from, to) = (dir.path().join(name), dir.examined().join(name));
    std::fs::create_dir_all(to.join("tables"))?;
    for below in [".", "tables"] {
        if !from.join(below).is_dir() {
            continue;
        }
        for entry in std::fs::read_dir(from.join(below))? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                std::fs::hard_link(entry.path(), to.join(below).join(entry.file_name()))?;
            }
        }
    }
    Ok(to)
}

/// An empty state, which is the current one then.
fn begin_state(dir: &DataDir, budget: u64, cache: u64) -> Result<Store, OpenError> {
    let names = dir.state_dirs()?;
    let number = |name: &String| name.strip_prefix("state-")?.parse::<u64>().ok();
    let next = names
        .iter()
        .filter_map(number)
        .max()
        .map_or(0, |last| last + 1);
    let name = format!("state-{next:020}");
    let home = if dir.is_looked_at() {
        dir.examined()
    } else {
        dir.path().to_owned()
    };
    let store = open_with_cache(dir, &home.join(&name), budget, cache)?;
    for old in names {
        dir.set_aside(&old, "it cannot be used")?;
    }
    dir.set_current_state(&name)?;
    Ok(store)
}

/// Opens the log of a state that has taken over everything up to `known`.
pub(super) fn open_log(dir: &DataDir, known: Lsn) -> Result<OpenLog, LogError> {
    // A promise is made before the first record comes, and the log before that.
    let expected = known > Lsn::ZERO || dir.hard_state().promised > Epoch::default();
    let opening = |source| LogError::Io {
        action: "open",
        file: "log".to_owned(),
        source,
    };
    let options = log::Options {
        expected,
        ..log_options(dir, known).map_err(opening)?
    };
    let disk = log_disk(dir).map_err(opening)?;
    let home = home_disk(dir).map_err(opening)?;
    let (writer, log, found) = Log::open_noted(disk, &*home, options)?;
    if found.truncated_bytes > 0 {
        tracing::info!(
            bytes = found.truncated_bytes,
            "cut a torn tail, never acknowledged, off the log"
        );
    }
    Ok((writer, log, found))
}

pub(super) fn log_disk(dir: &DataDir) -> std::io::Result<Arc<dyn Disk>> {
    if !dir.is_looked_at() {
        return Ok(Arc::new(RealDisk::open(dir.log_path())?));
    }
    if dir.log_path().is_dir() {
        return Ok(Arc::new(Overlay::new(RealDisk::open(dir.log_path())?)));
    }
    let path = dir.examined().join("log");
    Ok(Arc::new(RealDisk::open(path)?))
}

/// Where it is noted how far the log is durable.
pub(super) fn home_disk(dir: &DataDir) -> std::io::Result<Box<dyn Disk>> {
    let home = RealDisk::open(dir.path())?;
    if dir.is_looked_at() {
        return Ok(Box::new(Overlay::new(home)));
    }
    Ok(Box::new(home))
}

/// What is wrong with the log, if that is why it cannot be opened; what the disk refuses is no damage.
fn damage_of(error: LogError) -> Result<LogDamage, OpenError> {
    let what = error.to_string();
    match error {
        LogError::Damaged {
            at,
            file,
            offset,
            durable,
            what,
        } => Ok(LogDamage {
            what: format!("the log is damaged after LSN {at} ({file}, byte {offset}: {what})"),
            whole: Some(at),
            durable: Some(durable),
        }),
        error if is_no_log(&error) => Ok(LogDamage {
            what,
            whole: None,
            durable: None,
        }),
        error => Err(error.into()),
    }
}

/// Whether it says that there is nothing that a log could be made of.
pub(super) fn is_no_log(error: &LogError) -> bool {
    match error {
        LogError::Unusable(_) => true,
        LogError::Io { source, .. } => crate::env::durable_file::is_damage(source),
        _ => false,
    }
}
