//! Verifies on a running stack that every acknowledged message reaches every socket once and in order. `mf verify`
//! starts it: it checks the arguments before, and removes the users and messages afterwards.

use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::Parser;
use flack_conformance::{
    client::Client,
    contract::Contract,
    delivery::{Plan, Progress, Verdict, verify_as},
    stack::Operator,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

/// In a terminal the line is replaced each second; in a file a line is added after this many seconds.
const FILE_LINE_SECONDS: u32 = 10;
const RUN_FAILED: u8 = 70;
const INTERRUPTED: u8 = 130;

/// Post messages at a rate, receive them on many sockets, and compare both; use it as `mf verify delivery`
#[derive(Debug, Parser)]
struct Arguments {
    /// Address of the stack's public listener
    #[arg(long)]
    url: String,
    /// The beginning of the nicknames of the users that post
    #[arg(long)]
    stem: String,
    #[arg(long)]
    json: bool,
    /// The plan, as JSON
    #[arg(value_parser = |text: &str| serde_json::from_str::<Plan>(text))]
    plan: Plan,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let progress = Progress::default();
    // An ended run drops its processes of faults: a frozen process continues.
    let result = tokio::select! {
        result = run(&arguments, &progress) => result,
        () = show(&progress) => unreachable!("it never returns"),
        interrupted = interrupted() => {
            return interrupted.map_or(ExitCode::from(RUN_FAILED), |()| ExitCode::from(INTERRUPTED));
        }
    };
    clear_line();
    match result {
        Ok(verdict) => {
            if arguments.json {
                println!("{}", verdict.to_json());
            } else {
                println!("{verdict}");
            }
            if verdict.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("the run failed: {error:#}");
            ExitCode::from(RUN_FAILED)
        }
    }
}

async fn run(arguments: &Arguments, progress: &Progress) -> Result<Verdict> {
    let client = Client::new(&arguments.url, Arc::new(Contract::load()?))?;
    verify_as(&client, &Operator::default(), &arguments.plan, &arguments.stem, progress).await
}

/// Shows the progress on standard error; never returns.
async fn show(progress: &Progress) {
    let is_terminal = std::io::stderr().is_terminal();
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks.tick().await;
    for second in 1_u32.. {
        ticks.tick().await;
        for note in progress.take_notes() {
            clear_line();
            eprintln!("{note}");
        }
        if is_terminal {
            clear_line();
            eprint!("{}", progress.line());
            let _ = std::io::stderr().flush();
        } else if second % FILE_LINE_SECONDS == 0 {
            eprintln!("{}", progress.line());
        }
    }
    std::future::pending::<()>().await;
}

fn clear_line() {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
}

async fn interrupted() -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("signals cannot be handled")?;
    let mut terminate = signal(SignalKind::terminate()).context("signals cannot be handled")?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
