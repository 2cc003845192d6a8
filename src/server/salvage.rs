//! Makes a state of what is left: of the tables that can be read, and of the log after them. What was lost
//! between may leave keys as they were before, or bring deleted ones back; whoever asks for this is told so.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::data_dir::DataDir;
use super::inner::Tip;
use super::peer::{flush, replay};
use super::recover::OpenLog;
use super::state::{budget_at_start, open_with_cache};
use crate::replication::Lsn;
use crate::replication::admin::Settings;
use crate::store::{LsmEngine, Meta, Salvaged, Store};

/// Nobody knows how many keys there are before they are counted; the number must not fall below nothing.
const MANY_KEYS: u64 = 1 << 40;

/// Makes a new state in the place of the current one and brings it to the end of the log. `whole` says that the
/// current one is intact up to there. Tells what became of it.
pub(super) fn state(
    dir: &DataDir,
    settings: &Settings,
    log: &OpenLog,
    whole: Option<Lsn>,
    why: &str,
) -> anyhow::Result<String> {
    let (_, reader, found) = log;
    let old = dir.current_state();
    let (name, path) = new_state(dir)?;
    let old_path = old.as_ref().map(|name| dir.path().join(name));
    let salvaged = match (&old_path, whole) {
        (Some(old), Some(_)) => {
            link(old, &path)?;
            Salvaged::default()
        }
        (Some(old), None) => LsmEngine::salvage(old, &path)?,
        (None, _) => Salvaged::default(),
    };
    let (budget, cache) = budget_at_start(dir, settings)?;
    let mut store = open_with_cache(dir, &path, budget, cache)?;
    // What the tables hold may reach further than the log begins.
    let from = store
        .meta()
        .flushed
        .max(found.oldest)
        .min(found.tip.position.lsn);
    let base = reader.locate(from)?;
    let from = base.position.lsn;
    let mut history = found.history.clone();
    history.truncate(from);
    let meta = Meta {
        flushed: from,
        history,
        chain: base.chain,
        keys: MANY_KEYS,
        generation: store.meta().generation,
        expiring: None,
    };
    store.engine().ingest(&mut std::iter::empty(), &meta)?;
    drop(store);
    store = open_with_cache(dir, &path, budget, cache)?;
    let mut tip = Tip {
        end: from,
        chain: base.chain,
    };
    replay(&mut store, reader, &mut tip, found.tip.position.lsn)?;
    flush(&mut store, reader, tip)?;
    let keys = count(&mut store)?;
    drop(store);
    if let Some(old) = old {
        dir.set_aside(&old, why)?;
    }
    dir.set_current_state(&name)?;
    let Salvaged { entries, lost } = salvaged;
    let bytes = tip.end.since(from);
    let mut told = vec![format!(
        "a state was made of what is left: {keys} keys; from the log come {bytes} bytes of records"
    )];
    if whole.is_none() {
        told.push(format!(
            "from tables that can be read come {entries} entries"
        ));
    }
    told.extend(lost.into_iter().map(|lost| format!("lost: {lost}")));
    Ok(told.join("\n"))
}

/// Counts the keys, as the number in the state is not known, and writes it down.
fn count(store: &mut Store) -> anyhow::Result<u64> {
    let mut meta = store.meta().clone();
    let mut keys = 0;
    for entry in store.engine().range(meta.generation, b"") {
        entry?;
        keys += 1;
    }
    meta.keys = keys;
    store.engine().ingest(&mut std::iter::empty(), &meta)?;
    Ok(keys)
}

fn new_state(dir: &DataDir) -> anyhow::Result<(String, PathBuf)> {
    let names = dir.state_dirs()?;
    let number = |name: &String| name.strip_prefix("state-")?.parse::<u64>().ok();
    let next = names
        .iter()
        .filter_map(number)
        .max()
        .map_or(0, |last| last + 1);
    let name = format!("state-{next:020}");
    let path = dir.path().join(&name);
    Ok((name, path))
}

/// The files of a state in another directory.
fn link(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to.join("tables"))?;
    for below in [".", "tables"] {
        for entry in fs::read_dir(from.join(below)).context("reading the state")? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                fs::hard_link(entry.path(), to.join(below).join(entry.file_name()))?;
            }
        }
    }
    Ok(())
}
