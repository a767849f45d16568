//! One terminal: it executes steps of parts, or all of them one after the other.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use flack_handover::guards::unmet;
use flack_handover::operator::{Outcome, Step, StepRefusal};
use flack_handover::{Part, Record, Side, Stage};
use tokio::time::sleep;

use super::{What, view};
use crate::failure::Result;
use crate::launch::{Launcher, instances_of};
use crate::migrate::driver::{Driver, KillBefore, Report};
use crate::migrate::next::{Next, change, next};
use crate::migrate::observation::{Allowed, Observation};
use crate::migrate::records::Records;
use crate::migrate::sides::Sides;
use crate::progress::Progress;
use crate::registry::Registry;
use crate::runtime::{self, Runtime, compose};
use crate::signals::interrupted;
use crate::stack::Stack;

/// The interval in which conditions are measured again.
const MEASURE_INTERVAL: Duration = Duration::from_millis(500);
/// How often a change of owner that was undone is tried again.
const CHANGE_ATTEMPTS_MAX: u32 = 3;
/// A balancer writes its acknowledgement within some milliseconds.
const ROUTE_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Options {
    pub(super) dry_run: bool,
    pub(super) allowed: Allowed,
    pub(super) timeout: Duration,
    pub(super) json: bool,
    pub(super) kill_before: Option<KillBefore>,
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) options: Options,
    stack: Stack,
    runtime: Runtime,
    records: Records,
    registry: Registry,
    progress: Progress,
}

impl Session {
    pub(super) async fn open(options: Options) -> Result<Self> {
        let (home, runtime) = runtime::require().await?;
        let stack = runtime.stack(&home).await?;
        let (records, registry) = (Records::open(&stack).await?, stack.registry().await?);
        Ok(Self { options, stack, runtime, records, registry, progress: Progress::new() })
    }

    pub(super) async fn observe(&self, part: Part) -> Result<Observation> {
        let sides = Sides::of(&self.stack, part)?;
        // In a box, because the future is large.
        Box::pin(Observation::of(part, &self.records, &self.registry, sides.as_ref())).await
    }

    /// Executes one step of a part.
    pub(super) async fn execute(&self, part: Part, what: What) -> Result<ExitCode> {
        if !part.has_data() {
            let to = match what {
                What::Cutover => Side::Service,
                What::Rollback => Side::Monolith,
                _ => return Err(failure!(Usage, "{part} has no data: its steps are cutover and rollback")),
            };
            return self.all_to(vec![part], to).await;
        }
        let (_, entry) = self.records.read(part).await?;
        let record = entry.record;
        let step = match what {
            What::Pause => return self.pause(part, record, true).await,
            What::Resume if !record.stage.is_switching() && record.stage.is_followed() => {
                let code = self.pause(part, record, false).await?;
                // Directly after a change, the new owner may not have opened its fence yet.
                if record.marker.is_none() || self.options.dry_run {
                    return Ok(code);
                }
                Step::Resume
            }
            What::Verify if !self.options.dry_run && record.stage.is_followed() => {
                self.compare(part, record).await?;
                Step::Verify
            }
            ref what => what.step().ok_or_else(|| failure!(Usage, "{what:?} is no step of a part"))?,
        };
        if self.options.dry_run {
            return view::print_plan(self, part, step).await;
        }
        match &what {
            What::Follow => self.start_service(part).await?,
            What::Retire { yes_retire, drop } if record.stage == Stage::CutOver || *drop => {
                confirm(part, yes_retire.as_deref())?;
                if record.stage == Stage::Retired {
                    return self.discard(part).await;
                }
            }
            _ => {}
        }
        let report = self.run(part, step).await?;
        let code = self.print(part, step, &report).await?;
        let drops = matches!(what, What::Retire { drop: true, .. }) && report.outcome == Outcome::Done;
        if drops { self.discard(part).await } else { Ok(code) }
    }

    /// Deletes the monolith's rows of a retired part, as soon as its processes know that they do not follow any more.
    async fn discard(&self, part: Part) -> Result<ExitCode> {
        let Some(sides) = Sides::of(&self.stack, part)? else { return Ok(ExitCode::SUCCESS) };
        let began = Instant::now();
        while let Err(problem) = sides.discard(Side::Monolith).await {
            if began.elapsed() > ROUTE_TIMEOUT {
                return Err(failure!(Unavailable, "the old rows of {part} are not deleted: {problem}"));
            }
            sleep(MEASURE_INTERVAL).await;
        }
        if !self.options.json {
            print_line!("{part}: the monolith's old rows are deleted");
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Executes all steps of parts, until `to` owns each.
    pub(super) async fn all_to(&self, parts: Vec<Part>, to: Side) -> Result<ExitCode> {
        for part in parts {
            if self.options.dry_run {
                view::print_way(self, part, to).await?;
                continue;
            }
            let moved = if part.has_data() { self.part_to(part, to).await? } else { self.route_to(part, to).await? };
            if !moved {
                return Ok(ExitCode::FAILURE);
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Returns whether `to` owns the part afterwards.
    async fn part_to(&self, part: Part, to: Side) -> Result<bool> {
        let line = self.progress.step(part.service().name, "reading its state");
        let (mut waiting_since, mut waited_for) = (Instant::now(), Vec::new());
        let mut attempts = 0;
        // A step handles it by itself.
        let mut signal = Box::pin(interrupted());
        loop {
            let observation = self.observe(part).await?;
            let record = observation.record();
            let measured = observation.measurements(self.options.allowed);
            let verification = observation.replica.as_ref().and_then(|replica| replica.verification.as_ref());
            let step = match next(record, to, &measured, verification) {
                Next::Done => {
                    line.done(&format!("belongs to {}", to.service_name(part)));
                    return Ok(true);
                }
                Next::Unfinished => {
                    return Err(failure!(
                        TryAgain,
                        "another attempt to change the owner of {part} is in progress. If its terminal was killed: \
                         mfmigrate {part} resume, or mfmigrate {part} abort"
                    ));
                }
                Next::Refused(reasons) => {
                    self.progress.print(&format!("{part}: {}", reasons.join("; ")));
                    view::print_differences(&observation);
                    return Ok(false);
                }
                Next::Wait(reasons) => {
                    let hindrances = observation.hindrances();
                    line.update(&format!("waiting: {}", [&reasons[..], &hindrances].concat().join("; ")));
                    // Progress begins the time again.
                    if reasons != waited_for {
                        (waiting_since, waited_for) = (Instant::now(), reasons);
                    } else if waiting_since.elapsed() > self.options.timeout {
                        let seconds = self.options.timeout.as_secs();
                        let reasons = [waited_for, hindrances].concat().join("\n  ");
                        self.progress.print(&format!("{part} has waited {seconds} s for this:\n  {reasons}"));
                        return Ok(false);
                    }
                    tokio::select! {
                        () = sleep(MEASURE_INTERVAL) => continue,
                        () = &mut signal => {
                            return Err(failure!(Interrupted, "interrupted; {part} stays at its stage. See mfmigrate"));
                        }
                    }
                }
                Next::Compare | Next::CompareTouched => {
                    line.update("comparing both sides");
                    match self.compare(part, record).await {
                        Err(failure) if waiting_since.elapsed() > self.options.timeout => return Err(failure),
                        // A busy side may have answered too late.
                        Err(failure) => line.update(&failure.message),
                        Ok(()) => {}
                    }
                    continue;
                }
                Next::Run(step) => step,
            };
            line.update(&view::activity(step));
            if step == Step::Follow {
                self.start_service(part).await?;
            }
            let report = self.run(part, step).await?;
            self.progress.print(&format!("{part}: {}", view::result(part, step, &report)));
            match report.outcome {
                Outcome::Done | Outcome::NotOpenYet => {}
                Outcome::GuardsUnmet if step == change(to) => sleep(MEASURE_INTERVAL).await,
                Outcome::Undone(reason) if step == change(to) && attempts + 1 < CHANGE_ATTEMPTS_MAX => {
                    if reason == flack_handover::operator::UndoReason::Aborted {
                        return Ok(false);
                    }
                    attempts += 1;
                }
                _ => return Ok(false),
            }
        }
    }

    /// Moves the route of a part without data: one change of its record.
    async fn route_to(&self, part: Part, to: Side) -> Result<bool> {
        let line = self.progress.step(part.service().name, "moving its route");
        let (revision, entry) = self.records.read(part).await?;
        if entry.record.owner != to {
            self.start_service(part).await?;
            let record = Record { epoch: entry.record.epoch + 1, ..Record::initial(to) };
            if self.records.put(part, record, revision).await?.is_none() {
                return Err(failure!(TryAgain, "another terminal has changed the record of {part}"));
            }
        }
        let began = Instant::now();
        loop {
            let behind = self.observe(part).await?.behind;
            if behind.is_empty() {
                line.done(&format!("goes to {}", to.service_name(part)));
                return Ok(true);
            }
            if began.elapsed() > ROUTE_TIMEOUT {
                self.progress.print(&format!("{part}: not acknowledged yet by {}", behind.join(", ")));
                return Ok(false);
            }
            sleep(MEASURE_INTERVAL).await;
        }
    }

    async fn run(&self, part: Part, step: Step) -> Result<Report> {
        let sides = Sides::of(&self.stack, part)?;
        let driver = Driver {
            part,
            records: &self.records,
            registry: &self.registry,
            sides: sides.as_ref(),
            home: &self.stack.home,
            allowed: self.options.allowed,
            kill_before: self.options.kill_before.as_ref(),
        };
        driver.execute(step).await.map_err(|mut failure| {
            failure.message = format!(
                "{}\nIf an attempt to change the owner has begun (mfmigrate shows it): mfmigrate {part} resume, \
                 or abort",
                failure.message
            );
            failure
        })
    }

    /// Compares the sides when the copy is complete, and waits for the result: of all rows the first time, then of
    /// those that were touched since.
    async fn compare(&self, part: Part, record: Record) -> Result<()> {
        let Some(sides) = Sides::of(&self.stack, part)? else { return Ok(()) };
        let replica = record.owner.other();
        let cannot = |problem: String| failure!(Unavailable, "the sides of {part} cannot be compared: {problem}");
        let began = Instant::now();
        // While all rows are compared.
        let mut line = None;
        let show = || self.progress.step(part.service().name, "comparing all rows");
        loop {
            let status = sides.status(replica).await.map_err(cannot)?;
            let waits_for = match (status.following, status.verification) {
                (Some(following), Some(verification)) if following.is_copied && verification.is_running => {
                    let (compared, total) = (verification.rows_compared, verification.rows_total);
                    let line =
                        line.get_or_insert_with(|| self.progress.step(part.service().name, "comparing all rows"));
                    line.update(&format!("{compared} of {total} rows are compared"));
                    format!("{compared} of {total} rows are compared")
                }
                (Some(following), verification) if following.is_copied => {
                    let ended = verification.filter(|verification| verification.age_seconds.is_some());
                    if let Some(ended) = &ended
                        && let Some(line) = line.take()
                    {
                        line.done(&format!("{} rows are compared", ended.rows_compared));
                        return Ok(());
                    }
                    // All rows the first time, and again when that was interrupted, such as by a new copy.
                    let only_touched = ended.is_some_and(|ended| ended.rows_different == 0);
                    if sides.verify(replica, only_touched).await.map_err(cannot)?.is_some() {
                        return Ok(());
                    }
                    line.get_or_insert_with(show);
                    "the comparison has not begun".to_owned()
                }
                (following, _) => {
                    following.and_then(|it| it.error).unwrap_or_else(|| "the copy has not ended".to_owned())
                }
            };
            if began.elapsed() > self.options.timeout {
                return Err(cannot(waits_for));
            }
            sleep(MEASURE_INTERVAL).await;
        }
    }

    async fn pause(&self, part: Part, record: Record, is_paused: bool) -> Result<ExitCode> {
        let sides = Sides::of(&self.stack, part)?.filter(|_| record.stage.is_followed());
        let sides = sides.ok_or_else(|| failure!(Usage, "nobody follows the owner of {part}. See mfmigrate"))?;
        let replica = record.owner.other();
        let paused = sides.pause(replica, is_paused).await;
        paused.map_err(|problem| failure!(Unavailable, "{problem}"))?;
        let state = if is_paused { "are paused" } else { "continue" };
        print_line!("{part}: copy and apply at {} {state}", replica.service_name(part));
        Ok(ExitCode::SUCCESS)
    }

    /// Starts the part's service, and the monolith, unless they run. The stack has the service from now on.
    async fn start_service(&self, part: Part) -> Result<()> {
        let service = part.service();
        if !instances_of(&self.runtime.list().await?, service).is_empty() {
            return Ok(());
        }
        let _lock = self.stack.home.lock("migrate")?;
        // As it is now: this terminal or another one may have added a service meanwhile.
        let mut stack = self.runtime.stack(&self.stack.home).await?;
        stack.settings.instances.add(service);
        if let Runtime::Containers(containers) = &self.runtime {
            let mut command = containers.compose().await?;
            command.env("COMPOSE_PROFILES", compose::BESIDE).args(["up", "-d", "--no-recreate", service.name]);
            compose::run(command).await?;
        }
        let launcher = Launcher::new(&stack, &self.runtime, &self.progress);
        if let Err(failure) = launcher.start_missing(&[(service, 1)]).await {
            launcher.undo(None).await;
            return Err(failure);
        }
        stack.settings.save(&stack.home)
    }

    async fn print(&self, part: Part, step: Step, report: &Report) -> Result<ExitCode> {
        let (_, entry) = self.records.read(part).await?;
        if self.options.json {
            view::print_report(part, step, report, &entry);
        } else {
            print_line!("{part}: {}", view::result(part, step, report));
            if let (Outcome::GuardsUnmet, Some(observation)) = (report.outcome, &report.observation) {
                let measured = observation.measurements(self.options.allowed);
                let record = observation.record();
                for guard in unmet(&record, &measured) {
                    print_line!("  {guard}: {}", guard.describe(&record, &measured));
                }
                view::print_differences(observation);
                for problem in &observation.problems {
                    print_line!("  {problem}");
                }
            }
        }
        match report.outcome {
            Outcome::Done => Ok(ExitCode::SUCCESS),
            Outcome::GuardsUnmet | Outcome::Undone(_) => Ok(ExitCode::FAILURE),
            Outcome::Refused(StepRefusal::AttemptInProgress) => Err(failure!(
                TryAgain,
                "an attempt to change the owner of {part} is in progress; if its terminal was killed: resume or abort"
            )),
            Outcome::Superseded => {
                Err(failure!(TryAgain, "another terminal has changed the record of {part} meanwhile"))
            }
            Outcome::Refused(StepRefusal::WrongStage | StepRefusal::NoAttempt) => {
                Err(failure!(Usage, "{part} is at the stage {}. See mfmigrate", entry.record.stage))
            }
            Outcome::NotOpenYet | Outcome::Refused(StepRefusal::Fence(_)) => Err(failure!(
                Internal,
                "{part}: {}. See mfmigrate and mflogs {}",
                report.problem.as_deref().unwrap_or("the new owner has not opened its fence yet"),
                entry.owner()
            )),
        }
    }
}

/// Asks for the part's name: what follows cannot be undone without a new copy.
fn confirm(part: Part, answer: Option<&str>) -> Result<()> {
    let name = part.service().name;
    let typed = match answer {
        Some(answer) => answer.to_owned(),
        None if std::io::stdin().is_terminal() => {
            eprint!(
                "The monolith's rows of {part} get no changes from now on: the way back needs a new copy. Type the \
                 part's name: "
            );
            let _ = std::io::stderr().flush();
            let mut line = String::new();
            let read = std::io::stdin().lock().read_line(&mut line);
            read.map_err(|error| failure!(Usage, "the answer cannot be read: {error}"))?;
            line.trim().to_owned()
        }
        None => String::new(),
    };
    if typed == name {
        return Ok(());
    }
    Err(failure!(Usage, "not retired: confirm it with the part's name (--yes-retire {name})"))
}
