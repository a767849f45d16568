//! What a terminal shows of parts: the table, the conditions of a step, its plan, and its result.

use std::process::ExitCode;
use std::time::Duration;

use flack_handover::guards::{Guard, Measurements, Shadow, unmet};
use flack_handover::operator::{Outcome, Step};
use flack_handover::{Entry, Part, Record, Side, Stage};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::session::Session;
use crate::failure::Result;
use crate::migrate::driver::{CLOSED_MAX, Report};
use crate::migrate::next::{Next, change, next};
use crate::migrate::observation::{Allowed, Observation};
use crate::migrate::plan::plan;
use crate::output::{or_dash, print_json, table};
use crate::signals::interrupted;

const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Prints the table of parts.
pub(super) async fn show(session: &Session, parts: &[Part]) -> Result<ExitCode> {
    let mut observations = Vec::new();
    for part in parts {
        observations.push(session.observe(*part).await?);
    }
    if session.options.json {
        let parts: Vec<Value> = observations.iter().map(|it| part_as_json(it, session.options.allowed)).collect();
        print_json(&parts);
    } else {
        print_line!("{}", lines(&observations, session.options.allowed).join("\n"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the table whenever it has changed, until Ctrl-C.
pub(super) async fn watch(session: &Session, parts: &[Part]) -> Result<ExitCode> {
    let mut before = Vec::new();
    let watching = async {
        loop {
            let mut observations = Vec::new();
            for part in parts {
                observations.push(session.observe(*part).await?);
            }
            let lines = lines(&observations, session.options.allowed);
            if lines != before {
                print_line!("{} UTC\n{}\n", chrono::Utc::now().format("%T"), lines.join("\n"));
                before = lines;
            }
            sleep(WATCH_INTERVAL).await;
        }
    };
    tokio::select! {
        result = watching => result,
        () = interrupted() => Ok(ExitCode::SUCCESS),
    }
}

fn lines(observations: &[Observation], allowed: Allowed) -> Vec<String> {
    let mut table = table([
        "PART", "OWNER", "STAGE", "EPOCH", "COPIED", "LAG", "VERIFIED", "DIFFER", "SHADOW", "READS", "NEXT", "BACK",
    ]);
    let mut notes = Vec::new();
    for observation in observations {
        let (part, record) = (observation.entry.part, observation.record());
        let following = observation.replica.as_ref().and_then(|replica| replica.following.as_ref());
        let measured = observation.measurements(allowed);
        let verified = measured.verified.filter(|_| part.has_data());
        let shadow = match measured.shadow {
            Shadow::Compared { reads, mismatches } if reads > 0 => Some(format!("{mismatches}/{reads}")),
            _ => None,
        };
        let (forward, back) = steps(observation, &measured);
        let copied = following.map(|it| match (it.is_copied, it.rows_to_copy) {
            (true, _) => "all".to_owned(),
            (false, rows) => format!("{}/{rows}", it.rows_copied),
        });
        table.add_row([
            part.to_string(),
            observation.entry.owner().to_owned(),
            record.stage.to_string(),
            record.epoch.to_string(),
            or_dash(copied),
            or_dash(following.and_then(|it| it.lag_ms).map(|ms| format!("{ms} ms"))),
            or_dash(verified.map(|verified| format!("{} s ago", verified.age_seconds))),
            or_dash(verified.map(|verified| verified.rows_different)),
            or_dash(shadow),
            format!("{} %", record.read_percent),
            forward.as_ref().map_or("-", |it| it.name).to_owned() + forward.as_ref().map_or("", Possible::mark),
            back.as_ref().map_or("-", |it| it.name).to_owned() + back.as_ref().map_or("", Possible::mark),
        ]);
        let reasons = [&forward, &back].into_iter().flatten().filter(|step| !step.why_not.is_empty());
        for step in reasons {
            notes.push(format!("{part}: {} is not ready: {}", step.name, step.why_not.join("; ")));
        }
        notes.extend(observation.hindrances().into_iter().map(|note| format!("{part}: {note}")));
        if record.stage.is_switching() {
            notes.push(format!(
                "{part}: an attempt to change the owner is in progress. If its terminal was killed: mfmigrate {part} \
                 resume, or abort"
            ));
        }
    }
    let mut lines: Vec<String> = table.to_string().lines().map(|line| line.trim_end().to_owned()).collect();
    if !notes.is_empty() {
        lines.push(String::new());
        lines.extend(notes);
    }
    lines
}

/// A step that comes next on the way to a side, and what it waits for. `--to` waits; of the steps, only a change of
/// the owner insists.
struct Possible {
    name: &'static str,
    why_not: Vec<String>,
}

impl Possible {
    const fn mark(&self) -> &'static str {
        if self.why_not.is_empty() { "" } else { " (no)" }
    }
}

/// Returns the next step to the service, and the next one to the monolith.
fn steps(observation: &Observation, measured: &Measurements) -> (Option<Possible>, Option<Possible>) {
    let (part, record) = (observation.entry.part, observation.record());
    if !part.has_data() {
        let step = |name| Some(Possible { name, why_not: Vec::new() });
        return match record.owner {
            Side::Monolith => (step("cutover"), None),
            Side::Service => (None, step("rollback")),
        };
    }
    let verification = observation.replica.as_ref().and_then(|replica| replica.verification.as_ref());
    let to = |side: Side| {
        let (name, why_not) = match next(record, side, measured, verification) {
            Next::Done => return None,
            Next::Unfinished => ("resume", Vec::new()),
            Next::Run(step) => (name(step), Vec::new()),
            Next::Compare | Next::CompareTouched => ("verify", Vec::new()),
            Next::Wait(why_not) | Next::Refused(why_not) => (name(waiting_for(record, side, measured)), why_not),
        };
        Some(Possible { name, why_not })
    };
    let retire = (record.stage == Stage::CutOver).then_some(Possible { name: "retire", why_not: Vec::new() });
    (to(Side::Service).or(retire), to(Side::Monolith))
}

/// Returns the step whose conditions a part waits for.
fn waiting_for(record: Record, to: Side, measured: &Measurements) -> Step {
    match record.stage {
        Stage::Following => Step::Verify,
        _ if record.shadow_percent == 0 && measured.shadow != Shadow::Omitted => Step::Shadow(100),
        _ if record.read_percent < 100 => Step::Shift(100),
        _ => change(to),
    }
}

const fn name(step: Step) -> &'static str {
    match step {
        Step::Follow => "follow",
        Step::Verify => "verify",
        Step::Shadow(_) => "shadow",
        Step::Shift(_) => "shift",
        Step::CutOver => "cutover",
        Step::RollBack => "rollback",
        Step::Retire => "retire",
        Step::Resume => "resume",
        Step::Abort => "abort",
    }
}

/// Returns what a step does, for the line of its progress.
pub(super) fn activity(step: Step) -> String {
    match step {
        Step::Follow => "starting to follow the owner".to_owned(),
        Step::Verify => "recording that both sides are equal".to_owned(),
        Step::Shadow(percent) => format!("repeating {percent} % of the reads at the other side"),
        Step::Shift(percent) => format!("moving the reads of {percent} % of the users"),
        Step::CutOver | Step::RollBack => "changing the owner".to_owned(),
        Step::Retire => "ending the following".to_owned(),
        Step::Resume => "completing the attempt".to_owned(),
        Step::Abort => "undoing the attempt".to_owned(),
    }
}

/// Returns how a step ended, in words.
pub(super) fn result(part: Part, step: Step, report: &Report) -> String {
    let pause = report.pause.map(|pause| format!("; writes waited at most {} ms", pause.as_millis()));
    let problem = report.problem.as_ref().map(|problem| format!(" ({problem})")).unwrap_or_default();
    match report.outcome {
        Outcome::Done => format!("{} done{}", name(step), pause.unwrap_or_default()),
        Outcome::Undone(reason) => format!("the attempt was undone, the owner is as before: {reason}{problem}"),
        Outcome::GuardsUnmet => format!("{} is not possible; nothing has changed", name(step)),
        Outcome::Refused(refusal) => format!("{} is refused: {refusal}", name(step)),
        Outcome::Superseded => "another terminal has changed the record meanwhile".to_owned(),
        Outcome::NotOpenYet => {
            format!("the owner of {part} has changed, but it does not accept writes yet{problem}. See mfmigrate")
        }
    }
}

pub(super) fn print_report(part: Part, step: Step, report: &Report, entry: &Entry) {
    print_json(&json!({
        "part": part, "step": name(step), "outcome": report.outcome, "record": entry,
        "pause_ms": report.pause.map(|pause| pause.as_millis()), "problem": report.problem,
    }));
}

/// Prints the first rows that differ, and the last reads whose answers did.
pub(super) fn print_differences(observation: &Observation) {
    for example in observation.owner.iter().flat_map(|owner| &owner.shadow.examples) {
        print_line!("  read with another answer: {example}");
    }
    let verification = observation.replica.as_ref().and_then(|replica| replica.verification.as_ref());
    for row in verification.iter().flat_map(|verification| &verification.differences) {
        let value = |side: &Option<Value>| side.as_ref().map_or_else(|| "no such row".to_owned(), Value::to_string);
        print_line!(
            "  {} {}\n    owner:   {}\n    replica: {}",
            row.table,
            row.key,
            value(&row.owner),
            value(&row.replica)
        );
    }
}

/// Prints the conditions of a step with their values, and its changes. Returns 1 if it is not possible now.
pub(super) async fn print_plan(session: &Session, part: Part, step: Step) -> Result<ExitCode> {
    let observation = session.observe(part).await?;
    let (record, measured) = (observation.record(), observation.measurements(session.options.allowed));
    let (lines, outcome) = plan(part, step, record);
    let guards: &[Guard] = match step {
        Step::CutOver | Step::RollBack => &Guard::ALL,
        Step::Verify => &[Guard::SidesAreEqual],
        _ => &[],
    };
    let is_met = |guard: &Guard| guard.is_met(&record, &measured);
    let is_possible = outcome == Outcome::Done && guards.iter().all(is_met);
    if session.options.json {
        let guards = guards.iter().map(|guard| {
            json!({"guard": guard.to_string(), "is_met": is_met(guard), "text": guard.describe(&record, &measured)})
        });
        let lines = lines.iter().map(|line| json!({"actor": line.actor, "action": line.action}));
        print_json(&json!({
            "part": part, "step": name(step), "is_possible": is_possible,
            "guards": guards.collect::<Vec<_>>(), "plan": lines.collect::<Vec<_>>(),
        }));
    } else {
        print_line!("{part} is at the stage {}, its owner is {}", record.stage, observation.entry.owner());
        if let Outcome::Refused(refusal) = outcome {
            print_line!("{} is not possible: {refusal}", name(step));
        }
        for guard in guards {
            let mark = if is_met(guard) { "ok" } else { "NO" };
            print_line!("  {mark} {guard:<20} {}", guard.describe(&record, &measured));
        }
        for name in &observation.behind {
            print_line!("     {name} has not acknowledged the stage");
        }
        for (number, line) in (1..).zip(&lines) {
            print_line!("  {number}  {:<10} {}", line.actor, line.action);
        }
        if matches!(step, Step::CutOver | Step::RollBack) && !lines.is_empty() {
            print_line!(
                "Before line 6, every problem and Ctrl-C undo the attempt, and so do {} ms with a closed fence: {} \
                 stays the owner.",
                CLOSED_MAX.as_millis(),
                observation.entry.owner()
            );
        }
    }
    Ok(if is_possible { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints what comes next on the way to a side, with the conditions of the change of owner.
pub(super) async fn print_way(session: &Session, part: Part, to: Side) -> Result<()> {
    let observation = session.observe(part).await?;
    if observation.record().owner == to {
        print_line!("{part} belongs to {} already", to.service_name(part));
        return Ok(());
    }
    if !part.has_data() {
        print_line!("{part} has no data: only its route moves to {}", to.service_name(part));
        return Ok(());
    }
    let (record, measured) = (observation.record(), observation.measurements(session.options.allowed));
    let (forward, back) = steps(&observation, &measured);
    if let Some(step) = if to == Side::Service { forward } else { back } {
        print_line!("{part} is at the stage {}; next: {}", record.stage, step.name);
    }
    for guard in unmet(&record, &measured) {
        print_line!("  NO {guard:<20} {}", guard.describe(&record, &measured));
    }
    Ok(())
}

fn part_as_json(observation: &Observation, allowed: Allowed) -> Value {
    let measured = observation.measurements(allowed);
    let (forward, back) = steps(observation, &measured);
    let possible = |step: Option<Possible>| {
        step.map(|step| json!({"step": step.name, "is_possible": step.why_not.is_empty(), "why_not": step.why_not}))
    };
    json!({
        "part": observation.entry.part,
        "owner": observation.entry.owner(),
        "record": observation.entry,
        "measured": measured,
        "next": possible(forward),
        "back": possible(back),
        "not_acknowledged_by": observation.behind,
        "replica": observation.replica,
        "shadow": observation.owner.as_ref().map(|owner| &owner.shadow),
        "problems": observation.problems,
    })
}
