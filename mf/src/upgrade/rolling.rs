//! A rolling upgrade: new instances are started, judged, and only then are as many old ones stopped. Capacity never
//! falls below that of the start.

use super::driver::{Driver, Hold, Outcome};
use super::record::{MemberState, Side};
use crate::failure::Result;

impl Driver<'_> {
    /// Replaces all old instances.
    pub(super) async fn roll(&mut self) -> Result<Outcome> {
        self.remove_split().await?;
        loop {
            let starting = self.start_again(Side::New).await?;
            if !starting.is_empty() {
                match self.accept(&starting).await? {
                    Outcome::Good => {}
                    other => return Ok(other),
                }
            }
            let observed = self.record.names(Side::New, &[MemberState::Observed]);
            if !observed.is_empty() {
                match self.observe(Hold::UntilDeadline).await? {
                    Outcome::Good => {}
                    other => return Ok(other),
                }
                for name in &observed {
                    self.record.set(name, MemberState::Serving);
                }
                (self.record.phase, self.record.reason) = (self.record.working_phase(), None);
                self.write().await?;
            }
            let mut old = self.record.names(Side::Old, &[MemberState::Serving]);
            if old.is_empty() {
                return Ok(Outcome::Good);
            }
            let surplus = self.record.serving().saturating_sub(self.record.capacity);
            if surplus > 0 {
                old.truncate(surplus.min(self.record.options.max_parallel.into()));
                self.retire(old).await?;
            } else {
                let (count, version) = (self.record.options.batch().min(old.len()), self.record.to.clone());
                self.start(count, &version, Side::New).await?;
            }
        }
    }

    /// Waits until new instances are in the balancer.
    pub(super) async fn accept(&mut self, starting: &[String]) -> Result<Outcome> {
        let outcome = self.wait_until_ready(starting, Side::New).await?;
        if outcome == Outcome::Good {
            for name in starting {
                self.record.set(name, MemberState::Observed);
            }
            self.write().await?;
        }
        Ok(outcome)
    }
}
