//! What the processes said: from their files, in the order of time, one readable line each.

mod line;
mod read;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use line::Line;

use crate::failure::{Failure, Result};
use crate::home::Home;

const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Whose lines are wanted: services or instances; nobody named means everybody.
#[derive(Debug, Default, Clone)]
pub struct Filter {
    pub names: Vec<String>,
    /// As they were written, as JSON.
    pub raw: bool,
}

impl Filter {
    fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|wanted| wanted == name || wanted == service_of(name))
    }
}

/// `users` of `users-1`.
fn service_of(name: &str) -> &str {
    match name.rsplit_once('-') {
        Some((service, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => service,
        _ => name,
    }
}

/// The last lines of one log, rendered, for a message about it.
pub fn tail(path: &Path, count: usize) -> Vec<String> {
    let lines = read::last(path, count).unwrap_or_default();
    line::parse_all("", &lines).iter().map(Line::message).collect()
}

/// The last lines of all wanted logs together.
pub fn show(home: &Home, filter: &Filter, count: usize) -> Result<()> {
    let files = files(home);
    for wanted in &filter.names {
        if !files.keys().any(|name| wanted == name || wanted == service_of(name)) {
            let known: Vec<&str> = files.keys().map(String::as_str).collect();
            return Err(Failure::usage(format!("there is no log of `{wanted}`. Logs: {}", known.join(", "))));
        }
    }
    let mut lines: Vec<Line> = Vec::new();
    for (name, path) in files.iter().filter(|(name, _)| filter.wants(name)) {
        lines.extend(line::parse_all(name, &read::last(path, count).unwrap_or_default()));
    }
    lines.sort_by_key(|line| line.time);
    let surplus = lines.len().saturating_sub(count);
    print(&lines[surplus..], filter.raw);
    Ok(())
}

/// What is written from now on, until the reader goes away. New processes are followed from their first line.
pub async fn follow(home: &Home, filter: &Filter) -> Result<()> {
    let mut followed: BTreeMap<String, read::Follower> = BTreeMap::new();
    for (name, path) in files(home) {
        followed.insert(name, read::Follower::at_end(path));
    }
    loop {
        tokio::time::sleep(LOOK_AGAIN).await;
        for (name, path) in files(home) {
            followed.entry(name).or_insert_with(|| read::Follower::at_start(path));
        }
        let mut lines: Vec<Line> = Vec::new();
        for (name, follower) in followed.iter_mut().filter(|(name, _)| filter.wants(name)) {
            lines.extend(line::parse_all(name, &follower.new_lines()));
        }
        lines.sort_by_key(|line| line.time);
        if !print(&lines, filter.raw) {
            return Ok(());
        }
    }
}

fn files(home: &Home) -> BTreeMap<String, PathBuf> {
    fs::read_dir(home.logs())
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            Some((entry.file_name().to_str()?.strip_suffix(".log")?.to_owned(), entry.path()))
        })
        .collect()
}

/// False when nobody reads any more, as after `| head`.
fn print(lines: &[Line], raw: bool) -> bool {
    let mut output = std::io::stdout().lock();
    lines.iter().all(|line| {
        if raw { writeln!(output, "{}", line.json()) } else { writeln!(output, "{}", line.text()) }.is_ok()
    }) && output.flush().is_ok()
}
