//! valkey-benchmark (or redis-benchmark): the client that favours nobody, closed loops only.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::bench::{Bench, find, output};
use crate::load::{Latency, Load, Outcome};
use crate::peer::valkey;

pub(crate) struct Neutral {
    program: PathBuf,
    port: u16,
    counted: Counted,
}

impl Neutral {
    pub(crate) fn new(port: u16) -> Option<Self> {
        let names = ["valkey-benchmark", "redis-benchmark"];
        let program = names
            .iter()
            .find_map(|name| find(name, &valkey::folders()))?;
        Some(Self {
            program,
            port,
            counted: Counted::default(),
        })
    }

    pub(crate) fn run(&mut self, bench: &Bench, load: &Load) -> Result<Outcome> {
        let reads = load.reads > 0.0;
        let (program, port) = (&self.program, self.port);
        self.counted.run(load, |requests| {
            let test = if reads { "get" } else { "set" };
            let arguments = [
                format!("-p {port} -t {test} -n {requests} -c {} ", load.clients),
                format!("-P {} -d {} ", load.pipeline, load.value),
                format!("-r {} --csv", load.keys.count),
            ]
            .concat();
            let arguments: Vec<&str> = arguments.split(' ').collect();
            let text = output(&bench.client_cores, program, &arguments)?;
            let line = text.lines().last().context("no result")?;
            let field = |index| -> Result<f64> {
                let field = line.split(',').nth(index).context("too few fields")?;
                Ok(field.trim_matches('"').parse()?)
            };
            let latency = Latency {
                p50: field(4)?,
                p99: field(6)?,
                max: field(7)?,
            };
            let none = Latency::default();
            Ok(Outcome {
                rate: field(1)?,
                writes: if reads { none } else { latency },
                reads: if reads { latency } else { none },
            })
        })
    }
}

/// For clients that take a number of requests instead of a time: finds the number for that time.
#[derive(Default)]
pub(crate) struct Counted {
    rates: HashMap<String, f64>,
}

impl Counted {
    pub(crate) fn run(
        &mut self,
        load: &Load,
        run: impl Fn(usize) -> Result<Outcome>,
    ) -> Result<Outcome> {
        let kind = format!("{}/{}/{}", load.clients, load.pipeline, load.reads);
        let rate = match self.rates.get(&kind) {
            Some(rate) => *rate,
            // A first guess, not measured; small, as one client may be slow.
            None => run(1000 + 20 * load.clients * load.pipeline)?.rate,
        };
        let outcome = run((rate * load.seconds) as usize + load.clients)?;
        self.rates.insert(kind, outcome.rate);
        Ok(outcome)
    }
}
