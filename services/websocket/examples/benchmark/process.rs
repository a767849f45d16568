//! Figures of the kernel about a process and the machine.

use std::{fs, num::NonZero, thread::available_parallelism};

use anyhow::Context as _;

/// The unit of CPU times in `/proc`; on Linux always 100.
const TICKS_PER_SECOND: f64 = 100.0;

/// Returns the proportional set size: private memory, and its share of shared memory.
pub fn memory_kib(pid: u32) -> anyhow::Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find(|line| line.starts_with("Pss:")).context("no Pss")?;
    Ok(line.split_whitespace().nth(1).context("no number")?.parse()?)
}

/// Returns the CPU time used so far, in user and kernel mode.
pub fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name is in parentheses and may contain spaces.
    let after_name = text.rsplit_once(')').context("no name")?.1;
    let ticks: Vec<f64> =
        after_name.split_whitespace().skip(11).take(2).filter_map(|number| number.parse().ok()).collect();
    Ok(ticks.iter().sum::<f64>() / TICKS_PER_SECOND)
}

/// Describes the machine and the build, for the header of a result.
pub fn machine() -> String {
    let model = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "{} cores of {}; load of the last minute {}; {}",
        available_parallelism().map_or(0, NonZero::get),
        model.trim_matches([':', ' ', '\t']),
        load.split_whitespace().next().unwrap_or("unknown"),
        if cfg!(debug_assertions) { "DEBUG build: do not use these figures" } else { "release build" },
    )
}
