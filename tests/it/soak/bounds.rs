//! What a replica may take, with the reason for each part; and that nothing grows while a process lives.

use std::collections::BTreeMap;

use super::samples::Sample;

const MB: u64 = 1 << 20;

/// Memory that the data may take.
pub(super) const BUDGET: u64 = 16 * MB;
/// Log that is kept for others.
pub(super) const RETENTION: u64 = 32 * MB;
/// Each replica's disk.
pub(super) const DISK: u64 = 1024 * MB;

/// Memory beside the budget, but for the program itself, which is mapped from its file.
const BESIDE: u64 = 4 * MB // the log's newest frames, for followers
    + 5 * MB // what the writer gathers, and writes at a time
    + 8 * 3 * MB / 2 // clients: a value in, a value out, and the room that doubled
    + 4 * 4 * MB / 2 // four streams of a seed, of which each has pieces on the way
    + 8 * MB; // tables that are written and merged: blocks, filters, indexes
/// jemalloc has four sizes to each doubling, so that at most a fifth of what it gives out is not used (its
/// manual, "size classes"); what was freed it keeps for a second, which is in the rest.
const GAPS: f64 = 1.25;
/// Files of the log on a disk of this size.
const SEGMENT: u64 = DISK / 32;
/// The one that is written, two that are ready, two that wait for it, and what is kept only in part.
const SEGMENTS: u64 = 6;
/// Tables of this size, of which the second level has four before it gives some to the last one: what is
/// there twice is less than that, however much data there is.
const TABLE: u64 = DISK / 64;
/// Tables that were not merged yet: four or five flushes, each of what may wait for one.
const UNMERGED: u64 = 20 * MB;
/// The last level has everything once, and what was deleted since it was written; its blocks are not full.
const LAST: f64 = 1.25;
/// Twenty of the process and its log, as many sockets of clients, peers and the operator, and tables: those
/// that are not merged yet, before and after a merge, and a seed's.
const FILES: u64 = 100;
/// Nine of the replica, four of its allocator; those that wait for the disk: for each client, and for each
/// stream of a seed four.
const THREADS: u64 = 9 + 4 + 9 + 4 * 4 + 6;

/// What goes beyond what a replica may take; empty if nothing does.
pub(super) fn broken(samples: &[Sample], segment: u64) -> Vec<String> {
    let mut broken = Vec::new();
    for sample in samples {
        let data = BUDGET + BUDGET / 20 + BESIDE;
        let rss = sample.program + (data as f64 * GAPS) as u64;
        let last = (sample.most_live as f64 * LAST) as u64;
        let tables = last + 4 * TABLE + UNMERGED;
        // A merge writes anew before it lets go of what was: at worst the second level, with what it meets in
        // the last one.
        let merging = tables + 8 * TABLE;
        for (what, found, most) in [
            ("rss", sample.rss, rss),
            ("tables", sample.tables, merging),
            // Whoever is being seeded, or seeds somebody, has a second state for a while.
            ("state", sample.state, merging + tables),
            ("log", sample.log, RETENTION + SEGMENTS * segment),
            ("files", sample.files, FILES),
            ("threads", sample.threads, THREADS),
        ] {
            if found > most {
                broken.push(format!("{what} {found}, and at most {most}: {sample:?}"));
            }
        }
    }
    broken
}

/// Segments are as large as the disk allows; without a disk of its own a replica has the largest.
pub(super) fn segment(own_disk: bool) -> u64 {
    if own_disk { SEGMENT } else { 64 * MB }
}

/// Samples of a process from which on it is said to have lived long.
const LONG: usize = 200;
/// What the memory of a process may grow by from the second third of its life to the last, as a part and
/// in bytes: it still fills gaps.
const GROWTH: f64 = 0.1;
const GROWTH_BYTES: u64 = 2 * MB;

/// Of processes that lived long: what grew from the second third of their lives to the last.
pub(super) fn grown(samples: &[Sample]) -> Vec<String> {
    let mut lives: BTreeMap<u32, Vec<&Sample>> = BTreeMap::new();
    for sample in samples {
        lives.entry(sample.pid).or_default().push(sample);
    }
    lives.retain(|_, life| life.len() >= LONG);
    let mut grown = Vec::new();
    for (pid, life) in &lives {
        let third = life.len() / 3;
        let (second, last) = (&life[third..2 * third], &life[2 * third..]);
        let rss = [second, last].map(|some| median(some, |sample| sample.rss));
        let files = [second, last].map(|some| median(some, |sample| sample.files));
        println!(
            "process {pid} of replica-{} lived for {} samples: rss from {} to {} MB, files from {} to {}",
            life[0].replica,
            life.len(),
            rss[0] / MB,
            rss[1] / MB,
            files[0],
            files[1]
        );
        if rss[1] > (rss[0] as f64 * (1.0 + GROWTH)) as u64 + GROWTH_BYTES {
            grown.push(format!("memory of process {pid}: {rss:?}"));
        }
        if files[1] > files[0] + 4 {
            grown.push(format!("open files of process {pid}: {files:?}"));
        }
    }
    grown
}

fn median(samples: &[&Sample], of: impl Fn(&Sample) -> u64) -> u64 {
    let mut all: Vec<u64> = samples.iter().map(|sample| of(sample)).collect();
    all.sort_unstable();
    all[all.len() / 2]
}
