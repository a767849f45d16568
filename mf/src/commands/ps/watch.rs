//! `mf ps --watch`: draws the table again each second, until Ctrl-C.

use std::collections::{BTreeMap, VecDeque};
use std::io::{IsTerminal, Write, stdout};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::metrics::Metrics;
use super::view::{self, View};
use crate::failure::Result;
use crate::runtime::Runtime;
use crate::signals::interrupted;
use crate::stack::Stack;

const REDRAW_INTERVAL: Duration = Duration::from_secs(1);
/// The p99 is that of the requests since this many redraws.
const WINDOW_REDRAWS: usize = 10;

/// The alternate screen without a cursor and without line wrap, as `top` uses it; the terminal is restored on drop.
struct Screen;

impl Screen {
    fn open() -> Option<Self> {
        stdout().is_terminal().then(|| {
            write("\x1b[?1049h\x1b[?25l\x1b[?7l");
            Self
        })
    }

    fn draw(lines: &[String]) {
        // Each line is overwritten and its rest deleted: a cleared screen would flicker.
        let lines = lines.join("\x1b[K\r\n");
        write(&format!("\x1b[H{lines}\x1b[K\r\n\x1b[J"));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        write("\x1b[?7h\x1b[?25h\x1b[?1049l");
    }
}

fn write(text: &str) {
    let mut out = stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Draws until Ctrl-C. Into a file or a pipe it prints one table after the other.
pub(super) async fn run(stack: &Stack, runtime: &Runtime, lines: impl Fn(&View) -> Vec<String>) -> Result<()> {
    let screen = Screen::open();
    let mut earlier = VecDeque::new();
    let mut ticks = interval(REDRAW_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let drawing = async {
        loop {
            ticks.tick().await;
            let mut view = view::collect(stack, runtime).await?;
            set_p99(&mut view, &mut earlier);
            let mut lines = lines(&view);
            if screen.is_some() {
                lines.extend([String::new(), format!("{} UTC  Ctrl-C ends", chrono::Utc::now().format("%T"))]);
                Screen::draw(&lines);
            } else {
                print_line!("{}\n", lines.join("\n"));
            }
        }
    };
    tokio::select! {
        result = drawing => result,
        () = interrupted() => Ok(()),
    }
}

/// Replaces the p99 since the start by that of the last seconds.
fn set_p99(view: &mut View, earlier: &mut VecDeque<BTreeMap<String, Metrics>>) {
    let oldest = earlier.front();
    for row in &mut view.processes {
        let before = oldest.and_then(|metrics| metrics.get(&row.name));
        row.p99_seconds = before.and_then(|before| row.metrics.p99_seconds_since(Some(before)));
    }
    let now = view.processes.iter().map(|row| (row.name.clone(), row.metrics.clone())).collect();
    earlier.push_back(now);
    if earlier.len() > WINDOW_REDRAWS {
        earlier.pop_front();
    }
}
