//! What people see while a stack starts: moving lines in a terminal, plain ones in a file. On standard error, so that
//! standard output holds results only.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

const TICK: Duration = Duration::from_millis(100);
const NAME_WIDTH: usize = 12;

#[derive(Debug)]
pub struct Progress {
    lines: Option<MultiProgress>,
}

#[derive(Debug)]
pub struct Step {
    name: String,
    began: Instant,
    line: Option<ProgressBar>,
}

impl Progress {
    pub fn new() -> Self {
        Self { lines: std::io::stderr().is_terminal().then(MultiProgress::new) }
    }

    /// Begins a step. When it is dropped without an end, its line goes away: what failed is told by the failure.
    pub fn step(&self, name: &str, doing: &str) -> Step {
        let line = self.lines.as_ref().map(|lines| {
            let style = ProgressStyle::with_template("{spinner} {prefix} {msg} {elapsed:.dim}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            let line = lines
                .add(ProgressBar::new_spinner().with_style(style).with_prefix(format!("{name:NAME_WIDTH$}")));
            line.set_message(doing.to_owned());
            line.enable_steady_tick(TICK);
            line
        });
        Step { name: name.to_owned(), began: Instant::now(), line }
    }

    pub fn say(&self, text: &str) {
        match &self.lines {
            Some(lines) => drop(lines.println(text)),
            None => eprintln!("{text}"),
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Step {
    pub fn doing(&self, what: &str) {
        if let Some(line) = &self.line {
            line.set_message(what.to_owned());
        }
    }

    pub fn done(mut self, result: &str) {
        let text =
            format!("{:NAME_WIDTH$} {result} ({:.1} s)", self.name, self.began.elapsed().as_secs_f64());
        match self.line.take() {
            Some(line) => {
                line.set_style(
                    ProgressStyle::with_template("✓ {msg}")
                        .unwrap_or_else(|_| ProgressStyle::default_spinner()),
                );
                line.finish_with_message(text);
            }
            None => eprintln!("{text}"),
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(line) = &self.line {
            line.finish_and_clear();
        }
    }
}
