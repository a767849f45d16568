//! Executes the effects of the machine for one step, and records inputs and effects in the state folder.
//!
//! It decides nothing: a result becomes an input, and the machine says what follows. Where the machine waits for a
//! side, the call is repeated until the side answers or the effect's timeout is over.

use std::cell::Cell;
use std::fs::{DirBuilder, File};
use std::io::Write as _;
use std::num::ParseIntError;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::str::FromStr;
use std::time::{Duration, Instant};

use chrono::Utc;
use flack_handover::fence::Role;
use flack_handover::operator::{Effect, Input, Operator, Outcome, Phase, Step, decide};
use flack_handover::protocol::Closed;
use flack_handover::steps::Line;
use flack_handover::{Part, Record, Side};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::sleep;

use super::observation::{Allowed, Observation};
use super::plan::is_line;
use super::records::Records;
use super::sides::Sides;
use crate::failure::{Failure, Result};
use crate::home::Home;
use crate::infra::programs;
use crate::registry::Registry;
use crate::signals::interrupted;

/// The lock timeout of the fence is 1 s; the rest is for the way there and back.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(2_500);
/// From the closed fence until the new owner is written. Requests wait for 4 s at most (`flack_common::forward`), so an
/// attempt that takes longer is undone before one of them fails.
pub const CLOSED_MAX: Duration = Duration::from_millis(1_500);
/// The owner has changed already: waiting longer costs nothing.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// Each poll that comes too late lengthens the pause of writes.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

#[derive(Debug)]
pub struct Driver<'a> {
    pub part: Part,
    pub records: &'a Records,
    pub registry: &'a Registry,
    /// None for a part without data.
    pub sides: Option<&'a Sides>,
    pub home: &'a Home,
    pub allowed: Allowed,
    pub kill_before: Option<&'a KillBefore>,
}

/// For tests: what is killed (SIGKILL) before a line of the plan is executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KillBefore {
    line: usize,
    /// The process or service of the stack; this terminal without one.
    victim: Option<String>,
}

impl FromStr for KillBefore {
    type Err = ParseIntError;

    /// Such as `3`, or `3:haproxy`.
    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let (line, victim) =
            text.split_once(':').map_or((text, None), |(line, victim)| (line, Some(victim.to_owned())));
        Ok(Self { line: line.parse()?, victim })
    }
}

/// How a step ended.
#[derive(Debug)]
pub struct Report {
    pub outcome: Outcome,
    /// What the guards were compared with.
    pub observation: Option<Observation>,
    /// From when the owner began to close its fence until the new owner's fence was open. Writes wait at most so long.
    pub pause: Option<Duration>,
    closing_since: Option<Instant>,
    /// The last problem of a call that was repeated.
    pub problem: Option<String>,
}

/// The result of a call that may be repeated: an input, or why there is none yet.
type Poll = std::result::Result<Input, String>;

impl Driver<'_> {
    /// Executes a step. Ctrl-C asks the machine to abort; it may be too late for that.
    pub async fn execute(&self, step: Step) -> Result<Report> {
        let mut log = StepLog::open(self.home, self.part, step)?;
        let mut operator = Operator::new(step);
        let mut report =
            Report { outcome: Outcome::Done, observation: None, pause: None, closing_since: None, problem: None };
        let mut kill_before = self.kill_before;
        let mut interrupt = Some(Box::pin(interrupted()));
        log.write(None, &operator.effect())?;
        loop {
            let effect = operator.effect();
            if let Effect::Finish(outcome) = effect {
                report.outcome = outcome;
                self.registry.allow_signing().await?;
                return Ok(report);
            }
            if let Some(due) = kill_before.take_if(|due| is_line(&effect, due.line)) {
                kill_for_test(due.victim.as_deref()).await?;
            }
            let result = self.result(&operator, &effect, &mut report);
            let input = match interrupt.as_mut() {
                Some(signal) => tokio::select! {
                    input = result => input?,
                    () = signal => {
                        interrupt = None;
                        Input::AbortRequested
                    }
                },
                None => result.await?,
            };
            operator = decide(&operator, &input).0;
            if input == Input::Opened {
                report.pause = report.closing_since.map(|since| since.elapsed());
            }
            log.write(Some(input), &operator.effect())?;
        }
    }

    /// Executes an effect, and returns its result.
    async fn result(&self, operator: &Operator, effect: &Effect, report: &mut Report) -> Result<Input> {
        let closed_for = report.closing_since.map_or(Duration::ZERO, |since| since.elapsed());
        let (left, problem) = (CLOSED_MAX.saturating_sub(closed_for), &mut report.problem);
        match *effect {
            Effect::Read => {
                let (revision, entry) = self.records.read(self.part).await?;
                Ok(Input::Read { revision, record: entry.record })
            }
            Effect::Measure => {
                // The rows that were touched since the last comparison are compared in milliseconds.
                let record = self.records.read(self.part).await?.1.record;
                if let Some(sides) = self.sides {
                    let _ = sides.verify(record.owner.other(), true).await;
                }
                let observation = Observation::of(self.part, self.records, self.registry, self.sides);
                let observation = Box::pin(observation).await?;
                let measured = observation.measurements(self.allowed);
                report.observation = Some(observation);
                Ok(Input::Measured(measured))
            }
            Effect::Put { if_revision, record } => self.put(if_revision, record).await,
            Effect::Close { side, epoch } => {
                let (began, closed_since) = (Instant::now(), Cell::new(None));
                let close = async |sides: &Sides| {
                    Ok(match sides.close(side, epoch).await? {
                        Ok(Closed { marker, closing_ms }) => {
                            closed_since.set(Instant::now().checked_sub(Duration::from_millis(closing_ms)));
                            Input::Closed { epoch, marker }
                        }
                        Err(refusal) => Input::CloseRefused(refusal),
                    })
                };
                let result = self.within(CLOSE_TIMEOUT, problem, Input::Closed { epoch, marker: 0 }, close).await;
                // The answer to an earlier call may be the one that was lost.
                report.closing_since = if problem.is_some() { Some(began) } else { closed_since.get() };
                result
            }
            Effect::AwaitMarker { side, marker } => {
                let applied = async |sides: &Sides| marker_applied(sides, side, marker).await;
                self.within(left, problem, Input::MarkerApplied, applied).await
            }
            Effect::CompareTouched => {
                let Phase::Comparing { record, .. } = operator.phase else { return Ok(Input::TimedOut) };
                let side = record.owner.other();
                let compare = async |sides: &Sides| {
                    let verification = sides.verify(side, true).await?;
                    let verification = verification.ok_or("the replica compares all rows")?;
                    Ok(Input::Compared { rows_different: verification.rows_different })
                };
                self.within(left, problem, Input::Compared { rows_different: 0 }, compare).await
            }
            Effect::MoveSequences { side } => {
                let moved = async |sides: &Sides| sides.move_sequences(side).await.map(|()| Input::SequencesMoved);
                self.within(left, problem, Input::SequencesMoved, moved).await
            }
            Effect::AwaitOpen { side, epoch } => {
                let opened = async |sides: &Sides| opened(sides, side, epoch).await;
                self.within(OPEN_TIMEOUT, problem, Input::Opened, opened).await
            }
            Effect::Finish(_) => Ok(Input::TimedOut),
        }
    }

    async fn put(&self, if_revision: i64, record: Record) -> Result<Input> {
        if record.stage.is_switching() {
            // Before the fence is closed: a change of permissions takes its time.
            self.registry.prepare_signing(self.part, record.owner.other()).await?;
        }
        Ok(match self.records.put(self.part, record, if_revision).await? {
            Some(revision) => Input::Written { revision, record },
            None => Input::Conflict { record },
        })
    }

    /// Repeats a call until it has a result. A part without data has one at once: it has no fence and no rows.
    async fn within(
        &self,
        timeout: Duration,
        problem: &mut Option<String>,
        without_data: Input,
        call: impl AsyncFn(&Sides) -> Poll,
    ) -> Result<Input> {
        let Some(sides) = self.sides else { return Ok(without_data) };
        let began = Instant::now();
        loop {
            let left = timeout.saturating_sub(began.elapsed());
            match tokio::time::timeout(left, call(sides)).await {
                Ok(Ok(input)) => return Ok(input),
                Ok(Err(text)) => *problem = Some(text),
                Err(_) => return Ok(Input::TimedOut),
            }
            sleep(POLL_INTERVAL).await;
        }
    }
}

async fn kill_for_test(victim: Option<&str>) -> Result<()> {
    let Some(victim) = victim else {
        return kill(Pid::this(), Signal::SIGKILL).map_err(|error| failure!(Internal, "{error}"));
    };
    let mut command = tokio::process::Command::new(programs::own("mf")?);
    let status = command.args(["kill", victim, "--hard"]).stdout(Stdio::null()).status().await;
    match status {
        Ok(status) if status.success() => Ok(()),
        status => Err(failure!(Internal, "{victim} cannot be killed: {status:?}")),
    }
}

/// The replica has the changes up to the marker, and the events of the former owner are in its stream: those of the new
/// one come after them.
async fn marker_applied(sides: &Sides, replica: Side, marker: i64) -> Poll {
    // One after the other: this is repeated until it succeeds, and each call takes processor time from the replica.
    let (owner, replica) = (replica.other(), sides.status(replica).await?);
    if replica.applied < marker {
        let error = replica.following.and_then(|following| following.error);
        let error = error.map(|error| format!(": {error}")).unwrap_or_default();
        return Err(format!("{} has applied {} of {marker}{error}", replica.service, replica.applied));
    }
    let owner = sides.status(owner).await?;
    match owner.unpublished {
        0 => Ok(Input::MarkerApplied),
        rows => Err(format!("{rows} events of {} are not published yet", owner.service)),
    }
}

async fn opened(sides: &Sides, side: Side, epoch: i64) -> Poll {
    let status = sides.status(side).await?;
    if status.role == Role::Owner && status.epoch >= epoch {
        return Ok(Input::Opened);
    }
    Err(format!("the fence of {} is {:?} at epoch {}", status.service, status.role, status.epoch))
}

/// The log of the steps of a part: JSON lines in the state folder. A test passes them to the machine again.
struct StepLog {
    path: PathBuf,
    file: File,
    run: u32,
    step: Step,
}

impl StepLog {
    fn open(home: &Home, part: Part, step: Step) -> Result<Self> {
        let folder = home.path().join("handover");
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(Failure::cannot_write(&folder))?;
        let path = folder.join(format!("{part}.log"));
        let file = File::options().append(true).create(true).mode(0o600).open(&path);
        Ok(Self { file: file.map_err(Failure::cannot_write(&path))?, path, run: rand::random(), step })
    }

    fn write(&mut self, input: Option<Input>, effect: &Effect) -> Result<()> {
        let Self { path, file, run, step } = self;
        let line = Line { at: Utc::now(), run: *run, step: *step, input, effect: effect.clone() };
        let text = serde_json::to_string(&line).expect("a line is plain data") + "\n";
        // In one write, so that lines of two operators do not mix.
        file.write_all(text.as_bytes()).map_err(Failure::cannot_write(Path::new(path)))
    }
}
