//! What people see while a stack starts: spinners in a terminal, plain lines in a file. On standard error, because
//! standard output is for results.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use flack_supervisor::Ended;
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
    #[expect(clippy::new_without_default, reason = "it depends on the terminal")]
    pub fn new() -> Self {
        Self { lines: std::io::stderr().is_terminal().then(MultiProgress::new) }
    }

    /// Begins a step. If it is dropped before `done`, its line disappears: the failure is reported at the end.
    pub fn step(&self, name: &str, activity: &str) -> Step {
        let line = self.lines.as_ref().map(|lines| {
            let style = style("{spinner} {prefix} {msg} {elapsed:.dim}");
            let line =
                lines.add(ProgressBar::new_spinner().with_style(style).with_prefix(format!("{name:NAME_WIDTH$}")));
            line.set_message(activity.to_owned());
            line.enable_steady_tick(TICK);
            line
        });
        Step { name: name.to_owned(), began: Instant::now(), line }
    }

    pub fn print(&self, text: &str) {
        match &self.lines {
            Some(lines) => drop(lines.println(text)),
            None => eprintln!("{text}"),
        }
    }

    /// Prints how a process ended.
    pub fn print_ended(&self, ended: &Ended) {
        self.print(&format!("{:NAME_WIDTH$} {}", ended.name, ended.outcome));
    }
}

impl Step {
    pub fn update(&self, activity: &str) {
        if let Some(line) = &self.line {
            line.set_message(activity.to_owned());
        }
    }

    pub fn done(mut self, result: &str) {
        let text = format!("{:NAME_WIDTH$} {result} ({:.1} s)", self.name, self.began.elapsed().as_secs_f64());
        match self.line.take() {
            Some(line) => {
                line.set_style(style("✓ {msg}"));
                line.finish_with_message(text);
            }
            None => eprintln!("{text}"),
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(line) = &self.line {
            line.finish_and_clear();
        }
    }
}
