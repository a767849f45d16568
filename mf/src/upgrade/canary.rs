//! A `try`: a part of the users gets the new version, until the operator promotes or aborts it.
//!
//! The split in the registry decides which users these are, and the balancer has a backend of its own for the version.
//! The split exists before the first instance of the version: without it, every user would get that instance.

use std::time::{Duration, Instant};

use flack_common::registry::{Split, keys};
use tokio::time::sleep;

use super::driver::{Driver, Hold, Outcome};
use super::record::{Audience, MemberState, Phase, Side};
use crate::failure::Result;

const POLL_INTERVAL: Duration = Duration::from_millis(50);

impl Driver<'_> {
    /// Gives the version to more and more users, as far as it is good, and then observes it until the operator decides.
    pub(super) async fn try_steps(&mut self) -> Result<Outcome> {
        loop {
            let audience = self.record.audience.clone();
            let Some(percentage) = audience.as_ref().and_then(|audience| audience.percentage(self.record.step)) else {
                self.enter(Phase::Waiting).await?;
                if self.returns_when_good {
                    return Ok(Outcome::Waiting);
                }
                match self.observe(Hold::Never).await? {
                    Outcome::Good => continue,
                    other => return Ok(other),
                }
            };
            if self.split().await?.is_none() {
                self.put_split(self.record.empty_split()).await?;
            }
            // Capacity before traffic: the share of the instances is at least that of the users.
            let needed = (self.record.capacity * usize::from(percentage)).div_ceil(100).max(1);
            let missing = needed.saturating_sub(self.new_names().len());
            let version = self.record.to.clone();
            if missing > 0 {
                self.start(missing, &version, Side::New).await?;
            }
            let starting = self.start_again(Side::New).await?;
            match self.accept(&starting).await? {
                Outcome::Good => {}
                other => return Ok(other),
            }
            let split = self.record.split(percentage)?;
            self.put_split(split).await?;
            if let Some(audience) = &audience {
                self.print(&format!("version {version} for {}", audience.describe(self.record.step)));
            }
            match self.observe(Hold::UntilDeadline).await? {
                Outcome::Good => {}
                other => return Ok(other),
            }
            for name in self.record.names(Side::New, &[MemberState::Observed]) {
                self.record.set(&name, MemberState::Serving);
            }
            self.record.step += 1;
            (self.record.phase, self.record.reason) = (Phase::Trying, None);
            self.record.progressed = chrono::Utc::now();
            self.write().await?;
        }
    }

    /// Turns the `try` into a rolling upgrade, whose first new instances run already.
    pub(super) async fn promote_try(&mut self) -> Result<()> {
        self.record.audience = None;
        self.enter(Phase::Rolling).await
    }

    /// Sends all users to the old version.
    pub(super) async fn close_split(&mut self) -> Result<()> {
        if self.split().await?.is_some() {
            self.put_split(self.record.empty_split()).await?;
        }
        Ok(())
    }

    /// Removes the split of this upgrade. Instances of the version that run then get their part of all requests.
    pub(super) async fn remove_split(&mut self) -> Result<()> {
        if self.split().await?.is_none() {
            return Ok(());
        }
        self.store.delete(&keys::split(self.service.name)).await?;
        let (names, began) = (self.new_names(), Instant::now());
        loop {
            let reading = self.reading().await?;
            if reading.is_some_and(|reading| names.iter().all(|name| reading.is_up_in(self.service.name, name))) {
                return Ok(());
            }
            if began.elapsed() > self.record.options.healthy_deadline {
                return Err(failure!(
                    Internal,
                    "the balancer has not moved {} to the backend {}. See mflogs agent",
                    names.join(", "),
                    self.service
                ));
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Returns the split, if it is of this upgrade.
    async fn split(&self) -> Result<Option<Split>> {
        let split: Option<Split> = self.store.read(&keys::split(self.service.name)).await?;
        Ok(split.filter(|split| split.version == self.record.to))
    }

    async fn put_split(&self, split: Split) -> Result<()> {
        self.store.put(&keys::split(self.service.name), &split).await
    }
}

impl super::record::Record {
    /// Returns a split that gives the version to nobody.
    fn empty_split(&self) -> Split {
        Split { version: self.to.clone(), percentage: 0, header: None, cookie: None, users: Vec::new() }
    }

    /// Returns the split of the present step.
    fn split(&self, percentage: u8) -> Result<Split> {
        let text = |text: &String| text.clone().try_into().map_err(|error| failure!(Usage, "{error}"));
        let mut split = Split { percentage, ..self.empty_split() };
        match &self.audience {
            Some(Audience::Header { name, value }) => {
                split.header = Some(flack_common::registry::Match { name: text(name)?, value: text(value)? });
            }
            Some(Audience::Users { ids, .. }) => split.users = ids.iter().map(text).collect::<Result<_>>()?,
            Some(Audience::Steps(_)) | None => {}
        }
        Ok(split)
    }
}
