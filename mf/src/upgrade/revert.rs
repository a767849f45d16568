//! The way back: users get no more responses of the new version, and as many instances of the old one run as before.

use std::time::{Duration, Instant};

use chrono::Utc;
use tokio::time::sleep;

use super::driver::{Driver, Outcome};
use super::record::{MemberState, Phase, Side};
use crate::failure::Result;

const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// An instance that does not drain by itself is stopped by the supervisor, and its server fails the health checks.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(30);

impl Driver<'_> {
    /// Reverts the upgrade. With `at_once` the new instances leave the balancer before others replace them, because no
    /// response is better than a bad one; else capacity does not fall.
    pub(super) async fn revert(&mut self, reason: String, at_once: bool) -> Result<()> {
        self.record.reason = Some(reason);
        self.enter(Phase::Reverting).await?;
        self.close_split().await?;
        if at_once {
            self.remove_new().await?;
        }
        self.restore().await?;
        if !at_once {
            self.remove_new().await?;
        }
        self.remove_split().await?;
        (self.record.phase, self.record.ended) = (Phase::Reverted, Some(Utc::now()));
        self.claim.finish(&mut self.record).await
    }

    /// Stops all new instances at the same time. The first thing that an instance does is to leave the balancer.
    async fn remove_new(&mut self) -> Result<()> {
        use MemberState::{Observed, Serving, Starting, Stopping};
        let names = self.record.names(Side::New, &[Starting, Observed, Serving, Stopping]);
        let began = Instant::now();
        for name in &names {
            self.record.set(name, Stopping);
        }
        self.write().await?;
        let processes = self.runtime.list().await?;
        let running: Vec<String> =
            names.iter().filter(|name| processes.iter().any(|process| process.name == **name)).cloned().collect();
        if !running.is_empty() {
            let runtime = self.runtime;
            let mut ended = Vec::new();
            let stop = runtime.stop(running, |end| ended.push(end));
            let (stopped, left) = tokio::join!(stop, self.wait_until_out(&names, began));
            stopped?;
            left?;
            for end in &ended {
                self.progress.print_ended(end);
            }
        }
        for name in &names {
            self.record.set(name, MemberState::Stopped);
        }
        self.write().await
    }

    async fn wait_until_out(&mut self, names: &[String], began: Instant) -> Result<()> {
        while began.elapsed() < LEAVE_TIME_MAX {
            let reading = self.reading().await?;
            if let Some(reading) = &reading {
                self.count(reading);
            }
            // The acknowledgement of an instance that crashed stays until its lease expires, but its server is down.
            let in_balancer = self.store.in_balancer(self.service.name).await?;
            let is_down = |name: &String| reading.as_ref().is_some_and(|reading| !reading.is_up(name));
            if names.iter().all(|name| !in_balancer.contains(name) || is_down(name)) {
                let seconds = began.elapsed().as_secs_f64();
                self.print(&format!("version {} is out of the balancer after {seconds:.1} s", self.record.to));
                return Ok(());
            }
            sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// Starts instances of the old version in place of those that were stopped.
    async fn restore(&mut self) -> Result<()> {
        let mut starting = self.start_again(Side::Restored).await?;
        let old = self.record.names(Side::Old, &[MemberState::Serving]).len();
        let restored = self.record.names(Side::Restored, &[MemberState::Serving]).len();
        let missing = self.record.capacity.saturating_sub(old + restored + starting.len());
        let stopped = self.record.members.iter().filter(|member| member.side == Side::Old);
        let stopped = stopped.filter(|member| member.state != MemberState::Serving);
        // New instances that ran before the upgrade are replaced by the version of the others.
        let versions: Vec<String> = stopped
            .map(|member| member.version.clone())
            .chain(std::iter::repeat(self.record.from.clone()))
            .skip(restored + starting.len())
            .take(missing)
            .collect();
        for version in versions {
            starting.extend(self.start(1, &version, Side::Restored).await?);
        }
        if starting.is_empty() {
            return Ok(());
        }
        if let Outcome::Bad(reason) = self.wait_until_ready(&starting, Side::Restored).await? {
            let service = self.service;
            return Err(failure!(Internal, "{service} cannot be reverted completely: {reason}"));
        }
        for name in &starting {
            self.record.set(name, MemberState::Serving);
        }
        self.write().await
    }
}
