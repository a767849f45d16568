//! The logs of all processes: read from their files, sorted by time, one readable line per entry.

mod line;
mod read;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use line::Line;

use crate::failure::Result;
use crate::home::Home;

const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Which lines are shown.
#[derive(Debug, Default, Clone)]
pub struct Filter {
    /// Services or instances; empty means all.
    pub names: Vec<String>,
    /// JSON instead of text.
    pub json: bool,
}

impl Filter {
    fn matches(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|wanted| wanted == name || wanted == service_of(name))
    }
}

/// Returns `users` for `users-1`.
fn service_of(name: &str) -> &str {
    match name.rsplit_once('-') {
        Some((service, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => service,
        _ => name,
    }
}

/// Returns the last lines of one log, formatted.
pub fn tail(path: &Path, count: usize) -> Vec<String> {
    let lines = read::last(path, count).unwrap_or_default();
    line::parse_all("", &lines).iter().map(Line::message).collect()
}

/// Prints the last lines of the selected logs, merged.
pub fn show(home: &Home, filter: &Filter, count: usize) -> Result<()> {
    let files = files(home);
    for wanted in &filter.names {
        if !files.keys().any(|name| wanted == name || wanted == service_of(name)) {
            let known: Vec<&str> = files.keys().map(String::as_str).collect();
            return Err(failure!(Usage, "there is no log of `{wanted}`; logs are {}", known.join(", ")));
        }
    }
    let mut lines: Vec<Line> = Vec::new();
    for (name, path) in files.iter().filter(|(name, _)| filter.matches(name)) {
        lines.extend(line::parse_all(name, &read::last(path, count).unwrap_or_default()));
    }
    lines.sort_by_key(|line| line.time);
    let surplus = lines.len().saturating_sub(count);
    print(&lines[surplus..], filter.json);
    Ok(())
}

/// Prints new lines until standard output is closed. Logs of new processes are printed from their first line.
pub async fn follow(home: &Home, filter: &Filter) -> Result<()> {
    let mut followed: BTreeMap<String, read::Follower> = BTreeMap::new();
    for (name, path) in files(home) {
        followed.insert(name, read::Follower::at_end(path));
    }
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        for (name, path) in files(home) {
            followed.entry(name).or_insert_with(|| read::Follower::at_start(path));
        }
        let mut lines: Vec<Line> = Vec::new();
        for (name, follower) in followed.iter_mut().filter(|(name, _)| filter.matches(name)) {
            lines.extend(line::parse_all(name, &follower.new_lines()));
        }
        lines.sort_by_key(|line| line.time);
        if !print(&lines, filter.json) {
            return Ok(());
        }
    }
}

fn files(home: &Home) -> BTreeMap<String, PathBuf> {
    fs::read_dir(home.logs())
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.strip_suffix(".log")?.to_owned(), entry.path())))
        .collect()
}

/// Returns false if standard output is closed, as by `| head`.
fn print(lines: &[Line], json: bool) -> bool {
    let mut output = std::io::stdout().lock();
    lines.iter().all(|line| {
        if json { writeln!(output, "{}", line.json()) } else { writeln!(output, "{}", line.text()) }.is_ok()
    }) && output.flush().is_ok()
}
