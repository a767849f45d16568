//! The logs of all processes: read from their files or from Docker, sorted by time, one readable line per entry.

mod level;
mod line;
mod read;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::StreamExt as _;
use futures::stream::SelectAll;

pub use level::Level;
pub use line::Line;
use line::Parser;

use crate::failure::Result;
use crate::home::Home;
use crate::runtime::Containers;
use crate::suggestion;

const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How soon the log of a new container is followed.
const LIST_INTERVAL: Duration = Duration::from_secs(1);
/// Lines that a search shows unless a number is given: the newest ones.
pub const FOUND_LINES_MAX: usize = 100_000;

/// Which lines are shown.
#[derive(Debug, Default, Clone)]
pub struct Filter {
    /// Services or instances; empty means all.
    pub names: Vec<String>,
    /// This level and the more severe ones.
    pub level: Option<Level>,
    /// Only lines from this time on.
    pub since: Option<DateTime<Utc>>,
    /// Only lines that contain this text, as they are shown or as they are in the log.
    pub text: Option<String>,
}

/// How lines are printed.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    /// JSON instead of text.
    pub json: bool,
    pub colors: bool,
}

impl Format {
    /// Returns text, with colors if standard output is a terminal and `NO_COLOR` is not set (<https://no-color.org>).
    pub fn for_terminal() -> Self {
        let is_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { json: false, colors: std::io::stdout().is_terminal() && !is_refused }
    }
}

impl Filter {
    fn selects(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|wanted| wanted == name || wanted == service_of(name))
    }

    fn matches(&self, line: &Line) -> bool {
        self.level.is_none_or(|level| line.level <= level)
            && self.since.is_none_or(|since| line.time >= since)
            && self.text.as_ref().is_none_or(|text| line.contains(text))
    }

    /// Returns a failure for a name without a log.
    fn check_names<'a>(&self, logs: impl Iterator<Item = &'a String> + Clone) -> Result<()> {
        let is_known = |wanted: &&String| logs.clone().any(|name| *wanted == name || *wanted == service_of(name));
        let Some(unknown) = self.names.iter().find(|wanted| !is_known(wanted)) else { return Ok(()) };
        let hint = suggestion::among(unknown, "logs", logs.map(String::as_str));
        Err(failure!(Usage, "there is no log of `{unknown}`; {hint}"))
    }
}

/// Returns `users` for `users-1`.
pub fn service_of(name: &str) -> &str {
    match name.rsplit_once('-') {
        Some((service, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => service,
        _ => name,
    }
}

/// Returns the last lines of one log, formatted.
pub fn tail(path: &Path, count: usize) -> Vec<String> {
    formatted(&read::last(path, count).unwrap_or_default())
}

/// Formats the lines of one log.
pub fn formatted(lines: &[String]) -> Vec<String> {
    line::parse_all("", lines, Utc::now()).iter().map(Line::message).collect()
}

/// Prints the last lines of the selected logs, merged. Searches all that the logs contain.
pub fn show(home: &Home, filter: &Filter, format: Format, count: usize) -> Result<()> {
    let files = files(home);
    filter.check_names(files.keys())?;
    let mut found = Found::default();
    for (name, path) in files.iter().filter(|(name, _)| filter.selects(name)) {
        let mut search = Search::new(name, filter, count);
        // A log that was removed meanwhile has no lines.
        let _ = read::each(path, |text| search.push(text));
        found.add(search.end(read::written(path)));
    }
    found.print(format, count);
    Ok(())
}

/// The same for containers.
pub async fn show_containers(containers: &Containers, filter: &Filter, format: Format, count: usize) -> Result<()> {
    let names = containers.with_logs().await?;
    filter.check_names(names.iter())?;
    let is_search = filter.level.is_some() || filter.text.is_some() || filter.since.is_some();
    let mut found = Found::default();
    for name in names.iter().filter(|name| filter.selects(name)) {
        let tail = (!is_search).then_some(count);
        let mut lines = std::pin::pin!(containers.lines(name, tail, false, filter.since).await?);
        let mut search = Search::new(name, filter, count);
        while let Some(line) = lines.next().await {
            search.push(&line?);
        }
        found.add(search.end(Utc::now()));
    }
    found.print(format, count);
    Ok(())
}

/// The search in one log.
struct Search<'a> {
    parser: Parser<'a>,
    filter: &'a Filter,
    count: usize,
    /// The last matching lines.
    last: VecDeque<Line>,
    /// The number of all matching lines.
    found: usize,
}

impl<'a> Search<'a> {
    fn new(name: &'a str, filter: &'a Filter, count: usize) -> Self {
        Self { parser: Parser::new(name), filter, count, last: VecDeque::new(), found: 0 }
    }

    fn push(&mut self, text: &str) {
        let mut lines = Vec::new();
        self.parser.push(text, &mut |line| lines.push(line));
        self.receive(lines);
    }

    /// Ends the search in a log that was written last at this time.
    fn end(mut self, written: DateTime<Utc>) -> Self {
        let mut lines = Vec::new();
        self.parser.end(written, &mut |line| lines.push(line));
        self.receive(lines);
        self
    }

    fn receive(&mut self, lines: Vec<Line>) {
        for line in lines.into_iter().filter(|line| self.filter.matches(line)) {
            self.found += 1;
            self.last.push_back(line);
            if self.last.len() > self.count {
                self.last.pop_front();
            }
        }
    }
}

/// The result of the searches in all logs.
#[derive(Default)]
struct Found {
    lines: Vec<Line>,
    count: usize,
}

impl Found {
    fn add(&mut self, search: Search<'_>) {
        self.lines.extend(search.last);
        self.count += search.found;
    }

    /// Prints the newest lines, the oldest of them first.
    fn print(mut self, format: Format, count: usize) {
        self.lines.sort_by_key(|line| line.time);
        let surplus = self.lines.len().saturating_sub(count);
        print(&self.lines[surplus..], format);
        let found = self.count;
        if count == FOUND_LINES_MAX && found > count {
            eprintln!(
                "mf: only the newest {count} of {found} lines are shown. Narrow the search: --since, --grep, --level."
            );
        }
    }
}

/// Prints new lines until standard output is closed. Logs of new processes are printed from their first line.
pub async fn follow(home: &Home, filter: &Filter, format: Format) -> Result<()> {
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
        for (name, follower) in followed.iter_mut().filter(|(name, _)| filter.selects(name)) {
            lines.extend(line::parse_all(name, &follower.new_lines(), Utc::now()));
        }
        lines.retain(|line| filter.matches(line));
        lines.sort_by_key(|line| line.time);
        if !print(&lines, format) {
            return Ok(());
        }
    }
}

/// The same for containers.
pub async fn follow_containers(containers: &Containers, filter: &Filter, format: Format) -> Result<()> {
    let mut followed: BTreeSet<String> = BTreeSet::new();
    let mut lines = SelectAll::new();
    let mut is_first = true;
    let mut list = tokio::time::interval(LIST_INTERVAL);
    loop {
        tokio::select! {
            _ = list.tick() => {
                let running = containers.list().await?.into_iter().map(|process| process.name);
                let running: BTreeSet<String> = running.filter(|name| filter.selects(name)).collect();
                for name in running.iter().filter(|name| !followed.contains(*name)) {
                    // The log of a container that was started since then is new.
                    let tail = if is_first { Some(0) } else { None };
                    let name = name.clone();
                    let added = containers.lines(&name, tail, true, None).await?;
                    lines.push(Box::pin(added.map(move |line| (name.clone(), line))));
                }
                (followed, is_first) = (running, false);
            }
            // A log ends when its container does.
            Some((name, Ok(line))) = lines.next() => {
                let mut parsed = line::parse_all(&name, &[line], Utc::now());
                parsed.retain(|line| filter.matches(line));
                if !print(&parsed, format) {
                    return Ok(());
                }
            }
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
fn print(lines: &[Line], format: Format) -> bool {
    let mut output = std::io::BufWriter::new(std::io::stdout().lock());
    let mut print = |line: &Line| {
        if format.json { writeln!(output, "{}", line.json()) } else { writeln!(output, "{}", line.text(format.colors)) }
    };
    lines.iter().all(|line| print(line).is_ok()) && output.flush().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search_in(text: &str, filter: &Filter, count: usize) -> (Vec<String>, usize) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("users-1.log");
        fs::write(&path, text).expect("written");
        let mut search = Search::new("users-1", filter, count);
        read::each(&path, |text| search.push(text)).expect("it is there");
        let Search { last, found, .. } = search.end(read::written(&path));
        (last.iter().map(Line::message).collect(), found)
    }

    fn line(minute: usize, level: &str, message: &str) -> String {
        format!(
            r#"{{"timestamp":"2026-11-21T20:{minute:02}:00Z","level":"{level}","fields":{{"message":"{message}"}}}}"#
        ) + "\n"
    }

    #[test]
    fn a_search_covers_the_whole_log_and_returns_the_newest_lines() {
        let early = line(0, "INFO", "needle 1") + &line(1, "INFO", "needle 2");
        let text = early + &line(2, "INFO", "hay").repeat(90_000) + &line(3, "INFO", "needle 3");
        let filter = Filter { text: Some("needle".to_owned()), ..Filter::default() };
        assert!(text.len() > 5_000_000);
        assert_eq!(search_in(&text, &filter, 2), (vec!["INFO  needle 2".to_owned(), "INFO  needle 3".to_owned()], 3));
    }

    #[test]
    fn lines_are_selected_by_level_and_time() {
        let text = line(0, "ERROR", "a") + &line(1, "INFO", "b") + &line(2, "WARN", "c") + &line(3, "ERROR", "d");
        let level = Some(Level::Warn);
        let since = Some(DateTime::parse_from_rfc3339("2026-11-21T20:01:00Z").expect("a time").to_utc());
        let of = |filter: Filter| search_in(&text, &filter, 10).0;
        assert_eq!(of(Filter { level, ..Filter::default() }), ["ERROR a", "WARN  c", "ERROR d"]);
        assert_eq!(of(Filter { since, ..Filter::default() }), ["INFO  b", "WARN  c", "ERROR d"]);
        assert_eq!(of(Filter { level, since, ..Filter::default() }), ["WARN  c", "ERROR d"]);
    }
}
