//! What drives an upgrade: it starts, observes and stops instances, and writes each step into the record before it
//! takes it. A terminal that takes over continues from the record.

use std::time::{Duration, Instant};

use chrono::Utc;
use flack_catalogue::Service;
use flack_supervisor::{Ended, ProcessStatus, State};
use tokio::time::sleep;

use super::observation::{Meter, Observation, Reading};
use super::plan::free_name;
use super::record::{Judgement, Member, MemberState, Phase, Record, Side};
use super::store::{Claim, Request, Store};
use super::verdict::Verdict;
use crate::builds;
use crate::failure::{Exit, Result};
use crate::home::HomeLock;
use crate::progress::Progress;
use crate::runtime::Runtime;
use crate::settings::Settings;
use crate::stack::{Launch, Stack};

/// The interval of readings: a verdict follows the last needed request within it.
const READ_INTERVAL: Duration = Duration::from_millis(500);
const READY_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// A server that the balancer's checks find down for longer is not usable. The balancer itself may be reloading.
const DOWN_TIME_MAX: Duration = Duration::from_secs(2);
/// How long the upgrade waits for sockets that have to reconnect, before it goes on.
const RECONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// How long another command that changes the settings may take.
const SETTINGS_LOCK_TIME_MAX: Duration = Duration::from_mins(2);
/// An old version's instance is given up after so many restarts.
const RESTARTS_MAX: u32 = 3;
/// An instance of the old version gets at least this time until it is ready.
const RESTORE_TIME_MIN: Duration = Duration::from_mins(1);
const ABORTED: &str = "it was aborted";
/// Lines of a process's log in a reason.
const LOG_LINES: usize = 12;
/// Lines of a process's log in which the cause of its end is searched.
const LOG_LINES_READ: usize = 1_000;

#[derive(Debug)]
pub struct Driver<'a> {
    pub stack: &'a Stack,
    pub runtime: &'a Runtime,
    pub progress: &'a Progress,
    pub store: Store,
    pub claim: &'a mut Claim,
    pub service: &'static Service,
    pub record: Record,
    /// Whether a `try` returns when its last step is good, and leaves the observation to others.
    pub returns_when_good: bool,
    pub(super) meter: Meter,
}

/// The end of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Good,
    /// The new version is bad: users must not get it any longer.
    Bad(String),
    /// There is no progress for too long.
    Stalled(String),
    Promoted,
    Aborted,
    /// The last step of a `try` is good, and this terminal does not observe it further.
    Waiting,
}

/// What an observation does when there is not enough traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// It holds, until the progress deadline.
    UntilDeadline,
    /// It goes on: the operator decides.
    Never,
}

impl<'a> Driver<'a> {
    pub fn new(
        stack: &'a Stack,
        runtime: &'a Runtime,
        progress: &'a Progress,
        store: Store,
        claim: &'a mut Claim,
        service: &'static Service,
        record: Record,
    ) -> Self {
        Self {
            stack,
            runtime,
            progress,
            store,
            claim,
            service,
            record,
            returns_when_good: false,
            meter: Meter::default(),
        }
    }

    /// Drives the upgrade until it is done, reverted, or held.
    pub async fn drive(&mut self) -> Result<()> {
        if self.record.phase == Phase::Reverting {
            let reason = self.record.reason.clone().unwrap_or_default();
            return self.revert(reason, true).await;
        }
        self.record.progressed = Utc::now();
        self.stop_again().await?;
        let request = self.take_request().await?;
        if request == Some(Request::Abort) {
            return self.revert(ABORTED.to_owned(), false).await;
        }
        if request == Some(Request::Promote) && self.record.audience.is_some() {
            self.promote_try().await?;
        }
        (self.record.is_bad, self.record.reason) = (false, None);
        if let Some(reason) = self.find_missing().await? {
            return self.revert(reason, true).await;
        }
        loop {
            self.enter(self.record.working_phase()).await?;
            let outcome = if self.record.audience.is_some() { self.try_steps().await? } else { self.roll().await? };
            match outcome {
                Outcome::Good => return self.finish().await,
                Outcome::Waiting => return Ok(()),
                Outcome::Promoted => self.promote_try().await?,
                Outcome::Aborted => return self.revert(ABORTED.to_owned(), false).await,
                Outcome::Bad(reason) if self.record.options.no_auto_revert => return self.hold(reason, true).await,
                Outcome::Stalled(reason) if self.record.options.no_auto_revert => {
                    return self.hold(reason, false).await;
                }
                Outcome::Bad(reason) => return self.revert(reason, true).await,
                Outcome::Stalled(reason) => return self.revert(reason, false).await,
            }
        }
    }

    /// Compares the record with what runs: meanwhile the machine may have been restarted. Returns the reason to revert
    /// if a new instance is gone.
    async fn find_missing(&mut self) -> Result<Option<String>> {
        use MemberState::{Observed, Serving};
        let processes = self.runtime.list().await?;
        for name in self.record.names(Side::Old, &[Serving]) {
            if !processes.iter().any(|process| process.name == name) {
                self.record.set(&name, MemberState::Stopped);
            }
        }
        let new = self.record.names(Side::New, &[Observed, Serving]);
        Ok(self.problem(&processes, &new, 0).await)
    }

    /// Continues stops that a killed terminal had begun.
    async fn stop_again(&mut self) -> Result<()> {
        for side in [Side::Old, Side::New] {
            let names = self.record.names(side, &[MemberState::Stopping]);
            if !names.is_empty() {
                self.retire(names).await?;
            }
        }
        Ok(())
    }

    /// Ends this terminal's work, and leaves the decision to the operator.
    async fn hold(&mut self, reason: String, is_bad: bool) -> Result<()> {
        self.record.is_bad = is_bad;
        self.record.reason = Some(reason);
        self.enter(Phase::Held).await
    }

    async fn finish(&mut self) -> Result<()> {
        let lock = self.lock_settings().await?;
        let before = Settings::load(&self.stack.home)?;
        if let Some(mut settings) = before {
            settings.versions.insert(self.record.service.clone(), self.record.to.clone());
            settings.save(&self.stack.home)?;
        }
        drop(lock);
        (self.record.phase, self.record.reason, self.record.ended) = (Phase::Done, None, Some(Utc::now()));
        self.claim.finish(&mut self.record).await
    }

    async fn lock_settings(&self) -> Result<HomeLock> {
        let began = Instant::now();
        loop {
            match self.stack.home.lock("upgrade") {
                Err(failure) if failure.exit == Exit::TryAgain && began.elapsed() < SETTINGS_LOCK_TIME_MAX => {
                    sleep(READ_INTERVAL).await;
                }
                result => return result,
            }
        }
    }

    pub(super) async fn enter(&mut self, phase: Phase) -> Result<()> {
        self.record.phase = phase;
        self.write().await
    }

    pub(super) async fn write(&mut self) -> Result<()> {
        self.claim.write(&mut self.record).await
    }

    pub(super) fn print(&self, text: &str) {
        self.progress.print(&format!("{:12} {text}", self.service.name));
    }

    /// Returns the instances of the new version that serve requests, or are about to.
    pub(super) fn new_names(&self) -> Vec<String> {
        use MemberState::{Observed, Serving, Starting};
        self.record.names(Side::New, &[Starting, Observed, Serving])
    }

    pub(super) async fn reading(&self) -> Result<Option<Reading>> {
        let instances = self.runtime.reachable(self.store.instances(self.service.name).await?);
        Ok(Reading::take(&self.stack.ports, &instances).await)
    }

    /// Starts instances of a version. The record names them before they run.
    pub(super) async fn start(&mut self, count: usize, version: &str, side: Side) -> Result<Vec<String>> {
        let build = self.runtime.build(&self.stack.home, version).await?;
        let mut names = Vec::new();
        for _ in 0..count {
            let processes = self.runtime.list().await?;
            let name = free_name(self.service, &processes, &self.record.members);
            self.record.members.push(Member::new(name.clone(), version, side, MemberState::Starting));
            names.push(name);
        }
        self.record.progressed = Utc::now();
        self.write().await?;
        for (index, name) in names.iter().enumerate() {
            self.ensure(name, &build, index).await?;
        }
        Ok(names)
    }

    /// Starts the processes that a killed terminal had only recorded. Returns all starting instances of the side.
    pub(super) async fn start_again(&mut self, side: Side) -> Result<Vec<String>> {
        let starting: Vec<Member> = self
            .record
            .members
            .iter()
            .filter(|member| member.side == side && member.state == MemberState::Starting)
            .cloned()
            .collect();
        for (index, member) in starting.iter().enumerate() {
            let build = self.runtime.build(&self.stack.home, &member.version).await?;
            self.ensure(&member.name, &build, index).await?;
        }
        Ok(starting.into_iter().map(|member| member.name).collect())
    }

    /// Starts an instance unless it runs, with the weight and the variables of the one that it is to replace: the
    /// `index`th of the old ones. When all of these are stopped, it is like any other.
    async fn ensure(&self, name: &str, build: &builds::Build, index: usize) -> Result<()> {
        let processes = self.runtime.list().await?;
        if processes.iter().any(|process| process.name == name) {
            return Ok(());
        }
        let old = self.record.names(Side::Old, &[MemberState::Serving]);
        let like = old.get(index).and_then(|old| processes.iter().find(|process| process.name == *old));
        let like = like.or_else(|| processes.iter().find(|process| process.group == self.service.name));
        let launch = Launch::like(like, self.service, name.to_owned(), build.clone());
        self.runtime.start(self.stack, &launch).await
    }

    /// Waits until instances are in the balancer. An instance of the new version must not end meanwhile.
    pub(super) async fn wait_until_ready(&mut self, names: &[String], side: Side) -> Result<Outcome> {
        let began = Instant::now();
        let steps: Vec<_> = names.iter().map(|name| self.progress.step(name, "waiting until it is ready")).collect();
        let (deadline, restarts_max) = match side {
            Side::New => (self.record.options.healthy_deadline, 0),
            // The deadline of the options is for the new version.
            Side::Old | Side::Restored => (self.record.options.healthy_deadline.max(RESTORE_TIME_MIN), RESTARTS_MAX),
        };
        loop {
            let in_balancer = self.store.in_balancer(self.service.name).await?;
            if names.iter().all(|name| in_balancer.contains(name)) {
                break;
            }
            let processes = self.runtime.list().await?;
            if let Some(problem) = self.problem(&processes, names, restarts_max).await {
                return Ok(Outcome::Bad(problem));
            }
            if began.elapsed() > deadline {
                let late = names.iter().find(|name| !in_balancer.contains(name)).expect("one is not in the balancer");
                let seconds = deadline.as_secs_f64();
                let reason = format!("{late} did not become ready within {seconds} s{}", self.last_lines(late).await);
                return Ok(Outcome::Bad(reason));
            }
            if side == Side::New && self.take_request().await? == Some(Request::Abort) {
                return Ok(Outcome::Aborted);
            }
            sleep(READY_POLL_INTERVAL).await;
        }
        for (name, step) in names.iter().zip(steps) {
            let version = self.record.members.iter().find(|member| member.name == *name).map(|member| &member.version);
            step.done(&format!("ready with version {}", version.map_or("?", String::as_str)));
        }
        Ok(Outcome::Good)
    }

    /// Returns a request of another terminal. A request to promote changes how the rest is judged.
    async fn take_request(&mut self) -> Result<Option<Request>> {
        let request = self.claim.take_request().await?;
        if request == Some(Request::Promote) {
            self.record.judgement = match self.record.judgement {
                _ if self.record.is_bad => Judgement::Health,
                // The version was good for a part of the users: the rest of the upgrade is judged as any other.
                before if self.record.phase == Phase::Waiting => before,
                Judgement::Traffic => Judgement::LittleTraffic,
                other => other,
            };
            (self.record.is_bad, self.record.reason) = (false, None);
            self.write().await?;
        }
        Ok(request)
    }

    /// Returns how the first of these processes that has ended has done so.
    async fn problem(&self, processes: &[ProcessStatus], names: &[String], restarts_max: u32) -> Option<String> {
        for name in names {
            let Some(process) = processes.iter().find(|process| process.name == *name) else {
                return Some(format!("{name} is gone: another command has stopped it"));
            };
            let has_ended = process.restarts > restarts_max || process.state == State::CrashLooping;
            let ends_now = restarts_max == 0 && process.state != State::Running;
            if has_ended || ends_now {
                let end = process.last_end.as_deref().unwrap_or("ended");
                // It may have been started again: the cause is before the lines of the new process.
                let mut lines = self.runtime.tail(&self.stack.home, name, LOG_LINES_READ).await;
                if let Some(cause) = lines.iter().rposition(|line| line.starts_with("ERROR")) {
                    lines.truncate(cause + 1);
                }
                let lines = last_lines(name, &lines[lines.len().saturating_sub(LOG_LINES)..]);
                return Some(format!("{name} {end}{lines}"));
            }
        }
        None
    }

    async fn last_lines(&self, name: &str) -> String {
        last_lines(name, &self.runtime.tail(&self.stack.home, name, LOG_LINES).await)
    }

    /// Observes the new version beside the old one until there is a verdict.
    pub(super) async fn observe(&mut self, hold: Hold) -> Result<Outcome> {
        let began = Instant::now();
        let step = self.progress.step(self.service.name, "observing");
        let mut observation = Observation::begin();
        let (mut bad_samples, mut down_since, mut is_held) = (0, None, false);
        loop {
            match self.take_request().await? {
                Some(Request::Abort) => return Ok(Outcome::Aborted),
                Some(Request::Promote) if self.record.audience.is_some() => return Ok(Outcome::Promoted),
                Some(Request::Promote) | None => {}
            }
            let new = self.new_names();
            let processes = self.runtime.list().await?;
            if let Some(problem) = self.problem(&processes, &new, 0).await {
                return Ok(Outcome::Bad(problem));
            }
            if let Some(reading) = self.reading().await? {
                let old = self.record.names(Side::Old, &[MemberState::Serving]);
                observation.add(&reading, &new, &old);
                self.count(&reading);
                match new.iter().find(|name| !reading.is_up(name)) {
                    Some(down) if down_since.get_or_insert_with(Instant::now).elapsed() > DOWN_TIME_MAX => {
                        return Ok(Outcome::Bad(format!("the balancer's checks of {down} fail")));
                    }
                    Some(_) => {}
                    None => down_since = None,
                }
                self.record.comparison = Some(observation.comparison());
            }
            let verdict = self.judge(&observation);
            step.update(&format!("observing: {verdict}"));
            let is_healthy_long_enough = began.elapsed() >= self.record.options.min_healthy;
            match verdict {
                Verdict::Bad(reason) => {
                    bad_samples += 1;
                    if bad_samples >= self.record.options.failure_limit {
                        return Ok(Outcome::Bad(reason));
                    }
                    observation = Observation::begin();
                }
                Verdict::Good if is_healthy_long_enough => return Ok(Outcome::Good),
                Verdict::NotEnough { .. } if is_healthy_long_enough && hold == Hold::UntilDeadline => {
                    if !is_held {
                        is_held = true;
                        self.print(&format!("{verdict}; to go on without: mfupgrade promote {}", self.service));
                    }
                    self.record.reason = Some(verdict.to_string());
                    self.record.phase = Phase::Held;
                    let deadline = self.record.options.progress_deadline;
                    if (Utc::now() - self.record.progressed).to_std().is_ok_and(|idle| idle > deadline) {
                        let seconds = deadline.as_secs_f64();
                        return Ok(Outcome::Stalled(format!("{verdict}, and no progress within {seconds} s")));
                    }
                }
                Verdict::Good | Verdict::NotEnough { .. } => {}
            }
            self.write().await?;
            sleep(READ_INTERVAL).await;
        }
    }

    fn judge(&self, observation: &Observation) -> Verdict {
        let (new, old) = (&observation.new, &observation.old);
        match self.record.judgement {
            Judgement::Health => Verdict::Good,
            _ if self.service.holds_connections => new.judge_connections(old),
            Judgement::Traffic => new.judge(old, self.record.options.min_requests),
            Judgement::LittleTraffic => match new.judge(old, self.record.options.min_requests) {
                Verdict::NotEnough { .. } => Verdict::Good,
                verdict => verdict,
            },
        }
    }

    /// Adds a reading to what users saw.
    pub(super) fn count(&mut self, reading: &Reading) {
        use MemberState::{Observed, Serving, Starting, Stopping};
        let new = self.record.names(Side::New, &[Starting, Observed, Serving, Stopping]);
        self.meter.add(reading, &new);
        let saw = self.meter.users_saw();
        // A terminal that takes over counts again from the start of those instances that still run.
        if saw.requests > self.record.users_saw.requests {
            self.record.users_saw = saw;
        }
    }

    /// Drains and stops instances, and reports what became of their sockets.
    pub(super) async fn retire(&mut self, names: Vec<String>) -> Result<()> {
        let before = if self.service.holds_connections { self.reading().await? } else { None };
        for name in &names {
            self.record.set(name, MemberState::Stopping);
        }
        self.write().await?;
        let began = Instant::now();
        let steps: Vec<_> = names.iter().map(|name| self.progress.step(name, "draining")).collect();
        let mut ended: Vec<Ended> = Vec::new();
        let listed = self.runtime.list().await?;
        let running: Vec<String> =
            names.iter().filter(|name| listed.iter().any(|process| process.name == **name)).cloned().collect();
        if !running.is_empty() {
            self.runtime.stop(running, |end| ended.push(end)).await?;
        }
        for (name, step) in names.iter().zip(steps) {
            let outcome = ended.iter().find(|end| end.name == *name).map_or("had ended already", |end| &end.outcome);
            let sockets = before.as_ref().map_or(0, |reading| reading.sockets_of(name));
            let sockets = if sockets > 0 { format!("; it had {sockets} sockets") } else { String::new() };
            step.done(&format!("{outcome}{sockets}"));
            if let Some(end) = ended.iter().find(|end| end.name == *name && end.forced) {
                let lines = self.last_lines(name).await;
                self.print(&format!("{} was killed: its drain deadline passed{lines}", end.name));
            }
            self.record.set(name, MemberState::Stopped);
        }
        if let Some(before) = before {
            let moved = names.iter().map(|name| before.sockets_of(name)).sum();
            self.wait_for_sockets(moved, before.sockets(), began).await?;
        }
        self.write().await
    }

    /// Waits until the sockets of stopped instances are connected to others, and reports how many are.
    async fn wait_for_sockets(&self, moved: u64, before: u64, stopped: Instant) -> Result<()> {
        if moved == 0 {
            return Ok(());
        }
        let began = Instant::now();
        loop {
            let now = self.reading().await?.map_or(0, |reading| reading.sockets());
            if now >= before {
                let seconds = stopped.elapsed().as_secs_f64();
                self.print(&format!("all {moved} sockets have reconnected to other instances after {seconds:.1} s"));
                return Ok(());
            }
            if began.elapsed() > RECONNECT_TIME_MAX {
                let missing = (before - now).min(moved);
                let seconds = RECONNECT_TIME_MAX.as_secs();
                self.print(&format!("{missing} of {moved} sockets have not reconnected within {seconds} s"));
                return Ok(());
            }
            sleep(READY_POLL_INTERVAL).await;
        }
    }
}

fn last_lines(name: &str, lines: &[String]) -> String {
    if lines.is_empty() {
        return format!(", and logged nothing; see mflogs {name}");
    }
    format!(". Its last lines:\n    {}\n  More: mflogs {name}", lines.join("\n    "))
}
