//! `replica repair`: says what is missing in a data directory and what that costs; with `--accept-loss`, brings
//! it into a state that starts. What it gives up is moved aside, never removed.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use super::data_dir::{Access, DataDir};
use super::recover::{self, OpenLog, Parts, Trouble};
use super::salvage;
use crate::log::{self, StateEnd};
use crate::replication::admin::Settings;
use crate::replication::{EpochHistory, Lsn, ReplicaId};
use crate::store::Damage;

/// One thing may come to light only when another is put right.
const ROUNDS: usize = 6;

/// The command line of `replica repair`.
#[derive(Args, Clone, Debug)]
pub struct RepairOptions {
    /// The data directory; no replica may be running on it.
    #[arg(long, env = "REPLICA_DATA_DIR")]
    pub data_dir: PathBuf,
    /// Go on without what is missing: what cannot be used is moved aside, the rest is kept. Only where no
    /// other replica has the data: else start this one, and it is made whole by itself.
    #[arg(long)]
    pub accept_loss: bool,
}

/// Says what is wrong, or puts it right. `false` if something is wrong that was not put right.
pub fn repair(options: &RepairOptions) -> anyhow::Result<bool> {
    let access = if options.accept_loss {
        Access::Use
    } else {
        Access::Look
    };
    let fresh = || ReplicaId(rand::random());
    let mut dir = DataDir::open(&options.data_dir, access, fresh)?;
    if options.accept_loss {
        dir.settle_promises(false, fresh)?;
    }
    let result = if options.accept_loss {
        accept(&dir)
    } else {
        tell(&dir)
    };
    if dir.examined().exists() {
        fs::remove_dir_all(dir.examined()).context("removing what was only looked at")?;
    }
    for name in dir.strangers()? {
        println!("{name} is none of the replica's files: it is left alone");
    }
    result
}

/// Changes nothing.
fn tell(dir: &DataDir) -> anyhow::Result<bool> {
    let parts = recover::look(dir, &Settings::default())?;
    for note in dir.notes() {
        println!("{note}");
    }
    describe(&parts);
    let damages = verified(&parts)?;
    for Damage { file, reason } in &damages {
        println!("wrong: {file} of the state is damaged: {reason}");
    }
    if let Some(trouble) = &parts.trouble {
        println!("wrong: {trouble}");
    }
    if parts.trouble.is_none() && damages.is_empty() {
        println!("nothing is missing that cannot be rebuilt: the replica starts");
        return Ok(true);
    }
    println!(
        "as one of several replicas, start it: it is made whole from the leader, and loses nothing"
    );
    println!(
        "as the only one, put back from a backup what is damaged, or run this with --accept-loss"
    );
    Ok(false)
}

fn describe(parts: &Parts) {
    if let Ok(store) = &parts.state {
        let meta = store.meta();
        println!(
            "state: whole up to LSN {}, {} keys",
            meta.flushed, meta.keys
        );
    }
    if let Some((_, _, found)) = &parts.log {
        println!(
            "log: whole from LSN {} to LSN {}",
            found.oldest, found.tip.position.lsn
        );
    }
}

/// Reads all of the state.
fn verified(parts: &Parts) -> anyhow::Result<Vec<Damage>> {
    match &parts.state {
        Ok(store) => Ok(store.engine().verify(&mut |_| true)?),
        Err(_) => Ok(Vec::new()),
    }
}

/// Puts one thing right after the other.
fn accept(dir: &DataDir) -> anyhow::Result<bool> {
    let settings = Settings::default();
    for _ in 0..ROUNDS {
        let mut parts = recover::look(dir, &settings)?;
        if let Some(trouble) = parts.trouble.take() {
            println!("wrong: {trouble}");
            mend(dir, parts, &trouble)?;
            continue;
        }
        let damages = verified(&parts)?;
        if let Some(Damage { file, reason }) = damages.first() {
            let why = format!("{file} is damaged: {reason}");
            println!("wrong: {why}");
            let log = parts.log.context("a log")?;
            drop(parts.state);
            println!("{}", salvage::state(dir, &settings, &log, None, &why)?);
            continue;
        }
        if dir.damage()?.is_some() {
            dir.forget_damage()?;
        }
        for note in dir.notes() {
            println!("{note}");
        }
        describe(&parts);
        if let Some(path) = dir.kept_in() {
            println!("what could not be used is kept in {}", path.display());
        }
        println!("the replica starts with this");
        return Ok(true);
    }
    anyhow::bail!("there is still something wrong after {ROUNDS} repairs: nothing more is tried")
}

fn mend(dir: &DataDir, parts: Parts, trouble: &Trouble) -> anyhow::Result<()> {
    let settings = Settings::default();
    let why = trouble.to_string();
    let state = parts.state.as_ref().ok();
    let end = state.map(|store| {
        let meta = store.meta();
        (meta.flushed, meta.history.clone(), meta.chain)
    });
    match trouble {
        Trouble::Seeding { .. } => {
            drop(parts);
            begin_log_at(dir, end, &why)?;
            Ok(dir.give_seed_up()?)
        }
        Trouble::Foreign { .. } => {
            drop(parts);
            begin_log_at(dir, end, &why)
        }
        Trouble::Log { .. } => {
            drop(parts);
            dir.forget(&format!("what it had acknowledged: {why}"))?;
            cut_log(dir, end, &why)
        }
        Trouble::State { .. } => {
            let log = parts.log.context("a log")?;
            drop(parts.state);
            println!("{}", salvage::state(dir, &settings, &log, None, &why)?);
            Ok(())
        }
        Trouble::Gap { flushed, .. } => {
            let log = parts.log.context("a log")?;
            drop(parts.state);
            dir.forget(&format!("what it had acknowledged: {why}"))?;
            println!(
                "{}",
                salvage::state(dir, &settings, &log, Some(*flushed), &why)?
            );
            Ok(())
        }
    }
}

/// Moves the log aside and begins one where the state ends.
fn begin_log_at(
    dir: &DataDir,
    end: Option<(Lsn, EpochHistory, u32)>,
    why: &str,
) -> anyhow::Result<()> {
    let (mut writer, _, _): OpenLog = recover::begin_log(dir, why)?;
    if let Some((at, history, chain)) = end {
        writer.reset(at, history, chain)?;
    }
    Ok(())
}

/// Ends the log where it is not what was written any more; where the state is not before that, it begins anew
/// after the state.
fn cut_log(
    dir: &DataDir,
    state: Option<(Lsn, EpochHistory, u32)>,
    why: &str,
) -> anyhow::Result<()> {
    let end = state.clone();
    let end = end.map(|(at, history, chain)| StateEnd { at, history, chain });
    let known = end.as_ref().map_or(Lsn::ZERO, |end| end.at);
    let options = recover::log_options(dir, known)?;
    let home = recover::home_disk(dir)?;
    let accepted = log::accept_loss(recover::log_disk(dir)?, &*home, options, end.as_ref());
    match accepted {
        Err(error) if recover::is_no_log(&error) => begin_log_at(dir, state, why),
        accepted => {
            for name in accepted?.aside {
                dir.set_aside(&format!("log/{name}"), "it is behind the damage")?;
            }
            Ok(())
        }
    }
}
