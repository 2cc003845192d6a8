//! All values of all rounds; kept in a file, so that parts can be measured on their own.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::load::Outcome;

#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Results {
    /// The machine.
    #[serde(default)]
    pub(crate) machine: String,
    /// Names and versions of the systems, by column.
    #[serde(default)]
    pub(crate) titles: BTreeMap<String, String>,
    /// By test and column: a value of each round.
    #[serde(default)]
    pub(crate) values: BTreeMap<String, BTreeMap<String, Vec<f64>>>,
    /// When a case was measured, how often.
    #[serde(default)]
    pub(crate) cases: BTreeMap<String, String>,
    /// Everything else that was measured in a round.
    #[serde(default)]
    pub(crate) details: Vec<Value>,
}

/// Median, least, most.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Results {
    pub(crate) fn read(file: &Path) -> Result<Self> {
        if file.is_file() {
            return Ok(serde_json::from_slice(&std::fs::read(file)?)?);
        }
        Ok(Self::default())
    }

    pub(crate) fn write(&self, file: &Path) -> Result<()> {
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(file, serde_json::to_string_pretty(self)?)?;
        Ok(())
    }

    /// Forgets what an earlier run has found in this test.
    pub(crate) fn forget(&mut self, test: &str) {
        self.values.remove(test);
        self.details.retain(|detail| detail["test"] != test);
    }

    pub(crate) fn add(&mut self, test: &str, column: &str, value: f64) {
        let columns = self.values.entry(test.to_owned()).or_default();
        columns.entry(column.to_owned()).or_default().push(value);
    }

    pub(crate) fn detail(&mut self, test: &str, column: &str, outcome: &Outcome) {
        let detail = json!({"test": test, "column": column, "outcome": outcome});
        self.details.push(detail);
    }

    pub(crate) fn of(&self, test: &str, column: &str) -> Option<Spread> {
        let mut values = self.values.get(test)?.get(column)?.clone();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let upper = *values.get(middle)?;
        let lower = values[(values.len() - 1) / 2];
        Some(Spread {
            median: f64::midpoint(lower, upper),
            least: values[0],
            most: values[values.len() - 1],
        })
    }
}
