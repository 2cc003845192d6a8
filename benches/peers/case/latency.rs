//! Open loops: how long clients wait while nobody is at his limit. Both get the same rate: half of
//! what the slower one does in a closed loop of fifty clients.

use anyhow::Result;

use super::usual;
use crate::bench::{Bench, say};
use crate::client;
use crate::load::{Load, Outcome, Pace, SHORT};
use crate::peer::System;
use crate::peer::etcd::Etcd;
use crate::peer::ours::Ours;
use crate::peer::postgres::Postgres;
use crate::peer::valkey::{self, Valkey};
use crate::rounds::{Test, alternate};
use crate::rows::*;

/// Measures one number of both at half load.
fn at_half(
    bench: &mut Bench,
    name: &'static str,
    load: Load,
    value: fn(&Outcome) -> f64,
    systems: &mut [Box<dyn System>],
) -> Result<()> {
    let mut least = f64::INFINITY;
    for system in systems.iter_mut() {
        let rate = system.run(bench, &load)?.rate;
        say(&format!(
            "{name}: {} does {rate:.0} /s at most",
            system.column()
        ));
        least = least.min(rate);
    }
    let load = Load {
        pace: Pace::Open(least / 2.0),
        ..load
    };
    alternate(bench, systems, &[Test { name, load, value }])
}

/// One node of ours and of Valkey, filled.
fn two(bench: &Bench) -> Result<[Box<dyn System>; 2]> {
    let ours = Ours::alone(bench)?;
    let valkey = Valkey::alone(bench, &valkey::valkey()?, "valkey")?;
    for port in [ours.door.port, valkey.door.port] {
        client::fill(port, bench.keys(SHORT), 100)?;
    }
    Ok([Box::new(ours), Box::new(valkey)])
}

pub(super) fn writes(bench: &mut Bench) -> Result<()> {
    let load = usual(bench);
    let p99 = |outcome: &Outcome| outcome.writes.p99;
    at_half(bench, HALF, load, p99, &mut two(bench)?)?;
    let rows = load.keys.count;
    if bench.has("postgres") {
        let ours = Ours::pair(bench)?;
        client::fill(ours.door.port, load.keys, 100)?;
        let mut both: [Box<dyn System>; 2] =
            [Box::new(ours), Box::new(Postgres::pair(bench, rows)?)];
        at_half(bench, HALF_POSTGRES, load, p99, &mut both)?;
    }
    if bench.has("etcd") {
        let ours = Ours::pair(bench)?;
        client::fill(ours.door.port, load.keys, 100)?;
        let mut both: [Box<dyn System>; 2] = [Box::new(ours), Box::new(Etcd::start(bench, 3)?)];
        at_half(bench, HALF_ETCD, load, p99, &mut both)?;
    }
    Ok(())
}

pub(super) fn mix(bench: &mut Bench) -> Result<()> {
    let load = Load {
        reads: 0.95,
        ..usual(bench)
    };
    at_half(
        bench,
        MIX,
        load,
        |outcome| outcome.reads.p99,
        &mut two(bench)?,
    )
}
