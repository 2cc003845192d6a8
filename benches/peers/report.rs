//! The table.

use std::fmt::Write as _;

use crate::peer::{etcd, postgres, valkey};
use crate::results::{Results, Spread};
use crate::rows::{CASES, Goal, OTHER_TITLES, ROWS, Row};

/// A number for people.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        1e6.. => format!("{:.2} M", value / 1e6),
        1e4..1e6 => format!("{:.1} k", value / 1e3),
        100.0..1e4 => format!("{value:.0}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn spread(spread: Spread) -> String {
    let [median, least, most] = [spread.median, spread.least, spread.most].map(number);
    format!("{median} [{least} – {most}]")
}

/// What a column is called.
pub(crate) fn title(results: &Results, column: &str) -> String {
    if let Some(title) = results.titles.get(column) {
        return title.clone();
    }
    if column == "valkey-alone" {
        return format!("{} on one node", title(results, "valkey"));
    }
    let other = OTHER_TITLES.iter().find(|(name, _)| *name == column);
    other.map_or(column, |(_, title)| title).to_owned()
}

/// The number that the goal is about, the goal, and whether it is met.
fn judge(row: &Row, ours: Spread, peer: Option<Spread>) -> (f64, String, &'static str) {
    let ratio = peer.map_or(ours.median, |peer| ours.median / peer.median);
    let verdict = |met| if met { "met" } else { "**missed**" };
    let unit = if row.peer.is_empty() { row.unit } else { "x" };
    let unit = if unit == "x" {
        "x".to_owned()
    } else {
        format!(" {unit}")
    };
    match row.goal {
        Goal::AtLeast(least) => (ratio, format!("≥ {least}{unit}"), verdict(ratio >= least)),
        Goal::AtMost(most) => (ratio, format!("≤ {most}{unit}"), verdict(ratio <= most)),
        Goal::Told => (ratio, "–".to_owned(), ""),
    }
}

/// The whole report, as Markdown.
pub(crate) fn markdown(results: &Results) -> String {
    let mut text = String::from("# Beside others\n\n");
    let _ = writeln!(text, "{}\n", results.machine);
    let _ = writeln!(
        text,
        "Median of the rounds [least – most]; in each round all systems of a test in turn, every other round in swapped order. \
         Ratios are of medians of the same run. Written by `make bench`.\n"
    );
    for (case, about) in CASES {
        let mut rows: Vec<String> = Vec::new();
        let mut told = "";
        for row in ROWS.iter().filter(|row| row.case == case) {
            if let Some(line) = line(results, row, row.test != told) {
                rows.push(line);
                told = row.test;
            }
        }
        if rows.is_empty() {
            continue;
        }
        let when = results.cases.get(case).map_or("", String::as_str);
        let _ = writeln!(text, "## {about}\n\n`CASES={case}`, {when}\n");
        let _ = writeln!(text, "| test | this | beside | | ratio | goal | |");
        let _ = writeln!(text, "| --- | --- | --- | --- | --- | --- | --- |");
        let _ = writeln!(text, "{}\n", rows.join("\n"));
    }
    text + &method(results)
}

/// A row; only the first one of a test says what is the same in all of them.
fn line(results: &Results, row: &Row, first: bool) -> Option<String> {
    let ours = results.of(row.test, "ours")?;
    let peer = results.of(row.test, row.peer);
    if peer.is_none() && !row.peer.is_empty() {
        return None;
    }
    let (ratio, goal, verdict) = judge(row, ours, peer);
    let (name, value, ratio) = match peer {
        Some(peer) => (
            title(results, row.peer),
            spread(peer),
            format!("{ratio:.2}"),
        ),
        None => (String::new(), String::new(), String::new()),
    };
    let unit = if row.unit == "x" {
        String::new()
    } else {
        format!(", {}", row.unit)
    };
    let (test, ours) = if first {
        (format!("{}{unit}", row.test), spread(ours))
    } else {
        (String::new(), String::new())
    };
    Some(format!(
        "| {test} | {ours} | {name} | {value} | {ratio} | {goal} | {verdict} |"
    ))
}

/// Configurations, and what to know of the numbers.
fn method(results: &Results) -> String {
    let name = |column| title(results, column);
    format!(
        "## How\n\n\
         - **{}**: defaults. On two nodes: both vote, `syncReplicas: 1`, so each write is fsynced by both before it is acknowledged.\n\
         - **{}** (and Redis): `{} {}`. On two nodes: a replica with the same options, and `WAITAOF 1 1 0` sent with each batch of writes.\n\
         - **{}**: `{}`; a table of text keys and values, filled; upserts by `pgbench -M prepared`. On two nodes: a standby made by \
         `pg_basebackup`, `synchronous_standby_names`.\n\
         - **{}**: `{}`; {}, `put --target-leader`, 10-byte keys; on \"two nodes\" a cluster of three.\n\
         - Keys of 10 bytes (16 where valkey-benchmark is the client), values of 100 bytes that do not compress, a million keys, \
         all written before the run (etcd: not).\n\
         - Throughput of one node is valkey-benchmark's word, for all that speak its protocol; everything else that speaks it is \
         measured by a client of our own, the same for all.\n\
         - Half load: both get half of what the slower of the two does in a closed loop of 50 clients, at random times (Poisson). Latency counts from the \
         time at which a request was due; pgbench does the same. etcd's tool counts from the sending, which favours it.\n\
         - A seed lasts from the start of the follower's process until all is on its disk and it can be read; of Valkey, until its own log \
         is whole; of PostgreSQL, the time of pg_basebackup, without the start of the standby. Bytes are those that were copied.\n\
         - Memory: INFO's `used_memory` and the kernel's VmRSS, less what they were when empty.\n\
         - Restart: from `kill -9` until a write is taken; a kill leaves the files in the kernel's page cache, which forgets them before the start where it says so.\n\
         - Data of four times the memory: `maxMemory` bounds what we hold; the kernel may hold files below it as far as it has room.\n",
        name("ours"),
        name("valkey"),
        valkey::DURABLE,
        valkey::AT_ONCE,
        name("postgres"),
        postgres::OPTIONS
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" "),
        name("etcd"),
        etcd::OPTIONS,
        etcd::tool_title(),
    )
}
