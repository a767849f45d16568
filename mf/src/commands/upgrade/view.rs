//! What terminals show of upgrades.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use chrono::{DateTime, Utc};
use flack_catalogue::Service;
use tokio::time::sleep;

use super::session::Session;
use crate::failure::Result;
use crate::output::{self, or_dash};
use crate::signals::interrupted;
use crate::upgrade::plan::Intent;
use crate::upgrade::record::{Kind, MemberState, Phase, Record, Side};
use crate::upgrade::store::Listed;

const WATCH_INTERVAL: Duration = Duration::from_secs(1);
const CLEAR_SCREEN: &str = "\x1b[H\x1b[J";

/// Returns the sentence at the end of an upgrade.
pub(super) fn result(record: &Record) -> String {
    let Record { service, from, to, users_saw, .. } = record;
    let reason = record.reason.as_deref().unwrap_or("no reason was recorded");
    let seconds = record.ended.map_or(0.0, |ended| seconds(record.started, ended));
    match record.phase {
        Phase::Done => {
            let replaced = record.names(Side::Old, &[MemberState::Stopped]).len();
            format!("{service} runs version {to}: {replaced} instances replaced in {seconds:.1} s; {users_saw}")
        }
        Phase::Reverted => {
            format!(
                "{service} runs version {from} again, not {to}: {reason}\n{users_saw}; reverted after {seconds:.1} s"
            )
        }
        Phase::Waiting => format!(
            "{service}: version {to} is good so far; {users_saw}. Next: mfupgrade promote {service}, or abort {service}"
        ),
        _ => format!(
            "{service} is held between version {from} and {to}: {reason}\n{users_saw}. The new instances stay in the \
             balancer until mfupgrade promote {service}, or abort {service}"
        ),
    }
}

fn seconds(from: DateTime<Utc>, to: DateTime<Utc>) -> f64 {
    (to - from).to_std().unwrap_or_default().as_secs_f64()
}

/// Shows the upgrades until none runs.
pub(super) async fn watch(session: &Session, service: Option<&Service>) -> Result<ExitCode> {
    let redraw = async {
        let mut shown = String::new();
        loop {
            let listed = session.list(service).await?;
            let text = status(&listed);
            if std::io::stdout().is_terminal() {
                print_line!("{CLEAR_SCREEN}{text}");
            } else if text != shown {
                print_line!("{text}\n");
            }
            shown = text;
            if listed.iter().all(|upgrade| upgrade.record.phase.is_final()) {
                return Ok(ExitCode::SUCCESS);
            }
            sleep(WATCH_INTERVAL).await;
        }
    };
    tokio::select! {
        result = redraw => result,
        () = interrupted() => Ok(ExitCode::SUCCESS),
    }
}

pub(super) fn status(listed: &[Listed]) -> String {
    if listed.is_empty() {
        return "no service was ever upgraded here".to_owned();
    }
    let mut text = String::new();
    for Listed { record, driver } in listed {
        let Record { service, from, to, phase, kind, started, .. } = record;
        let driver = match (driver, phase.is_final()) {
            (_, true) => String::new(),
            (Some(driver), _) => format!(", driven by {}", driver.name),
            (None, _) => format!(", driven by nobody: mfupgrade resume {service}"),
        };
        let started = started.format("%Y-%m-%d %H:%M:%S UTC");
        let _ = writeln!(text, "{service}  {kind} {from} -> {to}  {phase}, started {started}{driver}");
        if let Some(audience) = &record.audience {
            let _ = writeln!(text, "  for {}", audience.describe(record.step));
        }
        if let Some(reason) = &record.reason {
            let _ = writeln!(text, "  {reason}");
        }
        if let Some(compared) = record.comparison {
            let _ = writeln!(
                text,
                "  new: {} requests, {} failed; old: {} requests, {} failed",
                compared.new_requests, compared.new_failed, compared.old_requests, compared.old_failed
            );
        }
        let _ = writeln!(text, "  {}", record.users_saw);
        if !phase.is_final() {
            let mut table = output::table(["  INSTANCE", "VERSION", "SIDE", "STATE", "SINCE"]);
            for member in &record.members {
                table.add_row([
                    format!("  {}", member.name),
                    member.version.clone(),
                    member.side.to_string(),
                    member.state.to_string(),
                    member.since.format("%H:%M:%S").to_string(),
                ]);
            }
            let _ = writeln!(text, "{table}");
        }
    }
    text.trim_end().to_owned()
}

pub(super) fn print_history(records: &[Record]) {
    if records.is_empty() {
        print_line!("no upgrade was ever finished here");
        return;
    }
    let mut table =
        output::table(["STARTED", "SERVICE", "KIND", "FROM", "TO", "RESULT", "SECONDS", "FAILED", "REASON"]);
    for record in records {
        let first_line = |reason: &String| reason.lines().next().map(str::to_owned);
        table.add_row([
            record.started.format("%Y-%m-%d %H:%M:%S").to_string(),
            record.service.clone(),
            record.kind.to_string(),
            record.from.clone(),
            record.to.clone(),
            record.phase.to_string(),
            or_dash(record.ended.map(|ended| format!("{:.1}", seconds(record.started, ended)))),
            format!("{} of {}", record.users_saw.failed, record.users_saw.requests),
            or_dash(record.reason.as_ref().and_then(first_line)),
        ]);
    }
    print_line!("{table}");
}

/// Prints what an upgrade would do.
pub(super) fn print_plan(service: &Service, intent: &Intent, record: Option<&Record>) {
    let Some(record) = record else {
        print_line!("{service}: nothing to replace by version {}", intent.to);
        return;
    };
    let options = &record.options;
    let old = record.names(Side::Old, &[MemberState::Serving]);
    let (old, capacity) = (old.join(", "), record.capacity);
    match (&record.audience, record.kind) {
        (Some(audience), _) => {
            print_line!(
                "{service}: version {} for {}; {old} keep version {}",
                record.to,
                audience.describe(0),
                record.from
            );
        }
        (None, kind) => {
            let health = if kind == Kind::Undo { ", judged by health only" } else { "" };
            print_line!(
                "{service}: {old} would be replaced by version {}, {} at a time, {capacity} to {} run{health}",
                record.to,
                options.batch(),
                capacity + options.batch()
            );
        }
    }
}
