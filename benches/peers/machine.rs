//! What all this ran on.

use std::fs::read_to_string;

use anyhow::{Context, Result};

use crate::bench::Bench;

/// Cores, processor, memory, kernel, file system, in a line.
pub(crate) fn describe(bench: &Bench) -> Result<String> {
    let processor = read_to_string("/proc/cpuinfo")?;
    let cores = processor.matches("model name").count();
    let processor = processor
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let processor = processor.map_or("", |name| name.trim_start_matches(['\t', ' ', ':']));
    let memory = read_to_string("/proc/meminfo")?;
    let memory = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let memory = memory.and_then(|line| line.split_whitespace().next());
    let gigabytes = memory.context("no MemTotal")?.parse::<f64>()? / f64::from(1 << 20);
    let kernel = read_to_string("/proc/sys/kernel/osrelease")?;
    let system = crate::bench::output(
        "",
        std::path::Path::new("stat"),
        &["-f", "-c", "%T", &bench.work().display().to_string()],
    )?;
    Ok(format!(
        "{cores} cores ({processor}), {gigabytes:.0} GiB, Linux {}, {}; servers on cores {}, clients on cores {}; all on loopback and one disk",
        kernel.trim(),
        system.trim(),
        bench.server_cores,
        bench.client_cores
    ))
}

/// How busy it is.
pub(crate) fn load() -> Result<String> {
    let text = read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').next().unwrap_or_default().to_owned())
}
