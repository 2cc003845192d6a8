//! The same loads on 1, 10 and 50 million keys: three replicas that run at the same time, in turn.

use anyhow::Result;

use super::usual;
use crate::bench::{Bench, say};
use crate::client::{self, Control};
use crate::load::{Keys, Load};
use crate::peer::ours;
use crate::rows::{GET_10M, GET_50M, SET_10M, SET_50M};

const MILLIONS: [u64; 3] = [1, 10, 50];

pub(super) fn run(bench: &mut Bench) -> Result<()> {
    bench.room(25)?;
    let usual = usual(bench);
    let mut replicas = Vec::new();
    for millions in MILLIONS {
        let keys = Keys {
            count: bench.scale.many(millions * 1_000_000),
            ..usual.keys
        };
        let replica = ours::alone(bench, &[])?;
        client::fill(replica.port(), keys, 100)?;
        say(&format!("filled one with {} keys", keys.count));
        replicas.push((replica, keys));
    }
    for test in [GET_10M, GET_50M, SET_10M, SET_50M] {
        bench.results.forget(test);
    }
    for round in 0..bench.scale.rounds {
        for (reads, tests) in [(1.0, [GET_10M, GET_50M]), (0.0, [SET_10M, SET_50M])] {
            let mut rates = [0.0; MILLIONS.len()];
            for step in 0..MILLIONS.len() {
                let at = if round % 2 == 0 {
                    step
                } else {
                    MILLIONS.len() - 1 - step
                };
                let (replica, keys) = &replicas[at];
                let load = Load {
                    reads,
                    keys: *keys,
                    ..usual
                };
                let control = Control::timed(load.seconds);
                rates[at] = client::run(replica.port(), false, &load, &control)?.rate;
            }
            for (test, rate) in tests.into_iter().zip(&rates[1..]) {
                bench.results.add(test, "ours", *rate);
                bench.results.add(test, "million", rates[0]);
            }
            say(&format!(
                "{MILLIONS:?} million keys, {reads} reads: {rates:.0?} /s"
            ));
        }
    }
    Ok(())
}
