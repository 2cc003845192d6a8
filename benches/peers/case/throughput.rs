//! Closed loops: how much there is to have.

use anyhow::Result;

use super::usual;
use crate::bench::{Bench, say};
use crate::client;
use crate::load::{Load, NEUTRAL, SHORT};
use crate::peer::System;
use crate::peer::etcd::Etcd;
use crate::peer::ours::Ours;
use crate::peer::postgres::Postgres;
use crate::peer::valkey::{self, Valkey};
use crate::rounds::{Test, alternate, rate};
use crate::rows::*;

type Systems = Vec<Box<dyn System>>;

/// Those that speak the Redis protocol, one node each, filled.
fn alone(bench: &Bench) -> Result<Systems> {
    let ours = Ours::alone(bench)?;
    let valkey = Valkey::alone(bench, &valkey::valkey()?, "valkey")?;
    let mut ports = vec![ours.door.port, valkey.door.port];
    let mut systems: Systems = vec![Box::new(ours), Box::new(valkey)];
    if let Some(redis) = valkey::redis().filter(|_| bench.has("redis")) {
        let redis = Valkey::alone(bench, &redis, "redis")?;
        ports.push(redis.door.port);
        systems.push(Box::new(redis));
    }
    say("filling them");
    for port in ports {
        client::fill(port, bench.keys(NEUTRAL), 100)?;
    }
    Ok(systems)
}

/// As valkey-benchmark does it.
fn neutral(bench: &Bench, clients: usize, pipeline: usize, reads: f64) -> Load {
    Load {
        clients,
        pipeline,
        reads,
        keys: bench.keys(NEUTRAL),
        neutral: true,
        ..usual(bench)
    }
}

fn test(name: &'static str, load: Load) -> Test {
    let value = rate;
    Test { name, load, value }
}

pub(super) fn set(bench: &mut Bench) -> Result<()> {
    let mut systems = alone(bench)?;
    let rows = bench.keys(SHORT).count;
    if bench.has("postgres") {
        systems.push(Box::new(Postgres::alone(bench, rows)?));
    }
    if bench.has("etcd") {
        systems.push(Box::new(Etcd::start(bench, 1)?));
    }
    let tests = [
        test(SET_50, neutral(bench, 50, 1, 0.0)),
        test(SET_500, neutral(bench, 500, 1, 0.0)),
        test(SET_PIPE, neutral(bench, 50, 16, 0.0)),
    ];
    alternate(bench, &mut systems, &tests)
}

pub(super) fn get(bench: &mut Bench) -> Result<()> {
    let mut systems = alone(bench)?;
    let tests = [
        test(GET_50, neutral(bench, 50, 1, 1.0)),
        test(GET_PIPE, neutral(bench, 50, 16, 1.0)),
    ];
    alternate(bench, &mut systems, &tests)
}

pub(super) fn pair(bench: &mut Bench) -> Result<()> {
    let flavour = valkey::valkey()?;
    let ours = Ours::pair(bench)?;
    let valkey = Valkey::pair(bench, &flavour)?;
    let single = Valkey::alone(bench, &flavour, "valkey-alone")?;
    say("filling them");
    for door in [&ours.door, &valkey.door, &single.door] {
        door.fill(bench.keys(SHORT), 100)?;
    }
    let mut systems: Systems = vec![Box::new(ours), Box::new(valkey), Box::new(single)];
    if bench.has("postgres") {
        let rows = bench.keys(SHORT).count;
        systems.push(Box::new(Postgres::pair(bench, rows)?));
    }
    if bench.has("etcd") {
        systems.push(Box::new(Etcd::start(bench, 3)?));
    }
    let with = |clients, pipeline| Load {
        clients,
        pipeline,
        ..usual(bench)
    };
    let tests = [
        test(PAIR_50, with(50, 1)),
        test(PAIR_500, with(500, 1)),
        test(PAIR_PIPE, with(50, 16)),
        test(PAIR_1, with(1, 1)),
    ];
    alternate(bench, &mut systems, &tests)
}
