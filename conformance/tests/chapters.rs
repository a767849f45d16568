//! The commands in `docs/migration`, in the order of the chapters, on a stack of their own. Their output is compared by
//! its words: other words may be between them, and a number stands for any number.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use flack_conformance::{
    cases,
    load::Load,
    stack::{Stack, Stage, text},
    suite::{self, World},
};

/// The fixture has executed it.
const START: &str = "mfup --detach --stage monolith";
/// A condition such as the lag of the last 10 s is met some time after the step before.
const CONDITIONS_TIMEOUT: Duration = Duration::from_mins(1);
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Before each request: a saturated machine lags.
const PAUSE: Duration = Duration::from_millis(50);
/// A busy machine does not meet the default.
const MAX_LAG: [&str; 2] = ["--max-lag", "1500"];

fn main() -> ExitCode {
    suite::main_in_order(&[("monolith", || Stack::start(Stage::Monolith, ""))], |_| {
        cases![every_command_of_the_chapters_prints_what_they_show]
    })
}

/// A command, and what it prints.
struct Example {
    place: String,
    command: String,
    lines: Vec<String>,
}

async fn every_command_of_the_chapters_prints_what_they_show(World { client, stack }: World) -> Result<()> {
    let author = client.person("reader").await?;
    let load = Load::mixed(&client, 2, &author, PAUSE);
    let operator = stack.operator();
    for Example { place, command, lines } in examples()? {
        if command == START {
            continue;
        }
        let arguments = command.strip_prefix("mf").context("a command of mf")?;
        let mut arguments: Vec<&str> = arguments.split_whitespace().collect();
        if arguments.first() == Some(&"migrate") {
            arguments.extend(MAX_LAG);
        }
        let began = Instant::now();
        loop {
            let printed = text(&operator.in_background(&arguments).await?);
            let Some(missing) = lines.iter().find(|line| !printed.lines().any(|printed| matches(line, printed))) else {
                break;
            };
            // What only shows may be repeated until it shows what is expected.
            let only_shows = arguments.contains(&"--dry-run") || arguments.len() <= 2 + MAX_LAG.len();
            if !only_shows || began.elapsed() > CONDITIONS_TIMEOUT {
                bail!("{place}: {command}: no line like `{missing}` in:\n{printed}");
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
    load.end_without_failure()
}

/// Whether the words of a line are among those of the printed one, in this order.
fn matches(line: &str, printed: &str) -> bool {
    let mut printed = printed.split_whitespace().map(word);
    line.split_whitespace().map(word).all(|expected| printed.any(|word| word == expected))
}

/// Returns a word without punctuation; a number as `0`.
fn word(text: &str) -> String {
    let text = text.trim_matches(|character: char| ",.;:()".contains(character));
    if text.parse::<f64>().is_ok() { "0".to_owned() } else { text.to_owned() }
}

fn examples() -> Result<Vec<Example>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/migration");
    let mut chapters: Vec<PathBuf> =
        fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    chapters.sort();
    let mut examples: Vec<Example> = Vec::new();
    for chapter in chapters {
        let text = fs::read_to_string(&chapter)?;
        let name = chapter.file_name().unwrap_or_default().to_string_lossy();
        let mut is_example = false;
        for (number, line) in (1..).zip(text.lines()) {
            if line == "```" {
                is_example = !is_example;
                continue;
            }
            if !is_example {
                continue;
            }
            if let Some(command) = line.strip_prefix("$ bin/") {
                let place = format!("{name}:{number}");
                examples.push(Example { place, command: command.to_owned(), lines: Vec::new() });
            } else {
                let example = examples.last_mut().with_context(|| format!("{name}:{number}: no command before it"))?;
                example.lines.push(line.to_owned());
            }
        }
    }
    Ok(examples)
}
