//! One terminal: it drives upgrades, or asks the terminal that does.

use std::process::ExitCode;
use std::time::Duration;

use flack_catalogue::{MONOLITH, Service};
use flack_common::registry::{Split, keys};
use flack_handover::{Entry, Side};
use tokio::time::sleep;

use super::{AudienceArgs, view};
use crate::failure::{Exit, Result};
use crate::infra::postgres;
use crate::launch::instances_of;
use crate::progress::Progress;
use crate::runtime::{self, Runtime};
use crate::signals::interrupted;
use crate::stack::Stack;
use crate::upgrade::driver::Driver;
use crate::upgrade::options::Options;
use crate::upgrade::plan::{Intent, plan};
use crate::upgrade::record::{Audience, Judgement, Phase, Record};
use crate::upgrade::store::{Claim, LEASE_SECONDS, Listed, Request, Store};

/// The lease of a terminal that was killed, and some time for etcd.
const TAKE_OVER_TIME_MAX: Duration = Duration::from_secs(LEASE_SECONDS as u64 + 3);
const FOLLOW_INTERVAL: Duration = Duration::from_millis(250);
/// Another terminal takes a request within a second, unless it waits for an instance that drains.
const REQUEST_TIME_MAX: Duration = Duration::from_mins(1);

#[derive(Debug)]
pub(super) struct Session {
    pub(super) stack: Stack,
    pub(super) store: Store,
    /// See [`Driver::returns_when_good`].
    pub(super) returns_when_good: bool,
    pub(super) runtime: Runtime,
    progress: Progress,
}

impl Session {
    pub(super) async fn open() -> Result<Self> {
        let (home, runtime) = runtime::require().await?;
        let stack = runtime.stack(&home).await?;
        let store = Store::open(&stack).await?;
        Ok(Self { stack, store, returns_when_good: false, runtime, progress: Progress::new() })
    }

    pub(super) async fn list(&self, service: Option<&Service>) -> Result<Vec<Listed>> {
        let mut listed = self.store.list().await?;
        listed.retain(|upgrade| service.is_none_or(|service| upgrade.record.service == service.name));
        Ok(listed)
    }

    pub(super) async fn history(&self, service: Option<&Service>) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        for upgrade in self.list(service).await? {
            records.extend(self.store.history(&upgrade.record.service).await?);
        }
        records.sort_by_key(|record| std::cmp::Reverse(record.started));
        Ok(records)
    }

    /// Returns who gets the version of a `try`.
    pub(super) async fn audience(&self, arguments: AudienceArgs, options: &Options) -> Result<Audience> {
        let AudienceArgs { percent, header, user: nicknames } = arguments;
        if let Some((name, value)) = header {
            return Ok(Audience::Header { name, value });
        }
        if nicknames.is_empty() {
            return Ok(Audience::Steps(percent.map_or_else(|| options.step.0.clone(), |percent| vec![percent])));
        }
        let mut ids = Vec::new();
        for nickname in &nicknames {
            ids.push(user_id(&self.stack, nickname).await?);
        }
        Ok(Audience::Users { nicknames, ids })
    }

    /// Returns the record that an upgrade would begin with; none if there is nothing to replace.
    pub(super) async fn plan(&self, service: &Service, intent: &Intent) -> Result<Option<Record>> {
        let mut intent = intent.clone();
        if self.gets_no_requests(service).await? {
            intent.judgement = Judgement::Health;
        }
        Ok(plan(service, intent, &self.runtime.list().await?))
    }

    /// When each service owns its part, no route leads to the monolith: there is no traffic to judge it by.
    async fn gets_no_requests(&self, service: &Service) -> Result<bool> {
        if service.name != MONOLITH {
            return Ok(false);
        }
        let authority = self.stack.registry().await?.snapshot().await?.authority;
        Ok(authority.values().all(|entry| entry.record.owner == Side::Service))
    }

    /// Upgrades services one after the other, until one does not succeed.
    pub(super) async fn roll(&self, services: Vec<&'static Service>, intent: &Intent) -> Result<ExitCode> {
        let mut rest = services.into_iter();
        while let Some(service) = rest.next() {
            if !self.roll_one(service, intent, rest.as_slice()).await? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Returns whether the service has the version afterwards.
    async fn roll_one(&self, service: &'static Service, intent: &Intent, then: &[&'static Service]) -> Result<bool> {
        let mut claim = self.store.claim(service.name, Duration::ZERO).await?;
        let begun = self.begin(&mut claim, service, intent, then).await;
        match begun {
            Ok(Some(record)) => self.drive(service, claim, record).await,
            Ok(None) => {
                claim.release().await;
                let runs = !instances_of(&self.runtime.list().await?, service).is_empty();
                let to = &intent.to;
                if runs {
                    print_line!("{service} runs version {to} already");
                } else {
                    print_line!("{service} has no instance; to start one: mfrun {service} --version {to}");
                }
                Ok(true)
            }
            Err(failure) => {
                claim.release().await;
                Err(failure)
            }
        }
    }

    async fn begin(
        &self,
        claim: &mut Claim,
        service: &'static Service,
        intent: &Intent,
        then: &[&'static Service],
    ) -> Result<Option<Record>> {
        if let Some(before) = claim.record().await?.filter(|record| !record.phase.is_final()) {
            return Err(failure!(
                TryAgain,
                "the upgrade of {service} from {} to {} is not finished ({}), and nobody drives it. Decide first: \
                 mfupgrade resume, promote or abort {service}",
                before.from,
                before.to,
                before.phase
            ));
        }
        if let Some(split) = self.store.read::<Split>(&keys::split(service.name)).await? {
            return Err(failure!(
                Contradiction,
                "requests of {service} are split: some get version {}. Remove the split first (mfroutes clear)",
                split.version
            ));
        }
        let Some(mut record) = self.plan(service, intent).await? else { return Ok(None) };
        record.then = then.iter().map(|service| service.name.to_owned()).collect();
        // A request that came too late for the upgrade before is not for this one.
        claim.take_request().await?;
        self.note_instances_started_by_hand(service).await?;
        claim.write(&mut record).await?;
        Ok(Some(record))
    }

    async fn note_instances_started_by_hand(&self, service: &Service) -> Result<()> {
        let supervised = instances_of(&self.runtime.list().await?, service);
        for name in self.store.instances(service.name).await?.into_keys() {
            if !supervised.contains(&name) {
                self.progress.print(&format!("{name} was started by hand; it is not upgraded"));
            }
        }
        Ok(())
    }

    /// Drives an upgrade to its end, and releases the claim in any case.
    async fn drive(&self, service: &'static Service, mut claim: Claim, record: Record) -> Result<bool> {
        let (stack, runtime, progress) = (&self.stack, &self.runtime, &self.progress);
        let mut driver = Driver::new(stack, runtime, progress, self.store.clone(), &mut claim, service, record);
        driver.returns_when_good = self.returns_when_good;
        let result = tokio::select! {
            result = Box::pin(driver.drive()) => result,
            () = interrupted() => {
                Err(failure!(Interrupted, "interrupted: the upgrade of {service} stays as it is, and nobody judges it"))
            }
        };
        let record = driver.record.clone();
        claim.release().await;
        match result {
            Ok(()) => {
                print_line!("{}", view::result(&record));
                Ok(matches!(record.phase, Phase::Done | Phase::Waiting))
            }
            Err(mut failure) => {
                failure.message = format!(
                    "{}\nContinue with mfupgrade resume {service}, or mfupgrade abort {service}.",
                    failure.message
                );
                Err(failure)
            }
        }
    }

    /// Continues an upgrade, and then those that were to follow it.
    pub(super) async fn resume(&self, service: Option<&'static Service>) -> Result<ExitCode> {
        let (service, _) = self.unfinished(service).await?;
        let claim = self.store.claim(service.name, TAKE_OVER_TIME_MAX).await?;
        self.continue_with(service, claim).await
    }

    async fn continue_with(&self, service: &'static Service, claim: Claim) -> Result<ExitCode> {
        let Some(record) = claim.record().await?.filter(|record| !record.phase.is_final()) else {
            claim.release().await;
            print_line!("the upgrade of {service} is finished");
            return Ok(ExitCode::SUCCESS);
        };
        let then: Vec<&Service> = record.then.iter().filter_map(|name| Service::find(name)).collect();
        let intent = Intent {
            kind: record.kind,
            to: record.to.clone(),
            audience: None,
            judgement: Judgement::Traffic,
            options: record.options.clone(),
        };
        if !self.drive(service, claim, record).await? {
            return Ok(ExitCode::FAILURE);
        }
        self.roll(then, &intent).await
    }

    /// Promotes or aborts an upgrade: by the terminal that drives it, or else by this one.
    pub(super) async fn request(&self, service: Option<&'static Service>, request: Request) -> Result<ExitCode> {
        let (service, before) = self.unfinished(service).await?;
        self.store.put(&keys::upgrade_request(service.name), &request).await?;
        match self.store.claim(service.name, Duration::ZERO).await {
            Ok(claim) => {
                let code = self.continue_with(service, claim).await?;
                // Whoever aborts wants the old version.
                Ok(if request == Request::Abort { ExitCode::SUCCESS } else { code })
            }
            Err(failure) if failure.exit == Exit::TryAgain => self.follow_request(service, &before, request).await,
            Err(failure) => Err(failure),
        }
    }

    async fn follow_request(&self, service: &'static Service, before: &Record, request: Request) -> Result<ExitCode> {
        let key = keys::upgrade_request(service.name);
        let mut waited = Duration::ZERO;
        loop {
            let record: Option<Record> = self.store.read(&keys::upgrade(service.name)).await?;
            let is_taken = self.store.read::<Request>(&key).await?.is_none();
            match (record, request) {
                (Some(record), _) if record.phase.is_final() && record.started == before.started => {
                    print_line!("{}", view::result(&record));
                    return Ok(ExitCode::SUCCESS);
                }
                (_, Request::Promote) if is_taken => {
                    print_line!("{service} is promoted; its terminal continues. Follow it: mfupgrade status --watch");
                    return Ok(ExitCode::SUCCESS);
                }
                _ => {}
            }
            if !is_taken && waited > REQUEST_TIME_MAX {
                self.store.delete(&key).await?;
                let driver = self.store.operator(service.name).await?.map_or_else(|| "nobody".to_owned(), |it| it.name);
                return Err(failure!(
                    Unavailable,
                    "{driver} drives the upgrade of {service}, and has not taken the request. If that terminal is \
                     frozen, end its process, then try again"
                ));
            }
            waited += FOLLOW_INTERVAL;
            sleep(FOLLOW_INTERVAL).await;
        }
    }

    /// Returns the upgrade that is not finished; that of `service` if it is given.
    async fn unfinished(&self, service: Option<&'static Service>) -> Result<(&'static Service, Record)> {
        let mut open = self.list(service).await?;
        open.retain(|upgrade| !upgrade.record.phase.is_final());
        let names: Vec<&str> = open.iter().map(|upgrade| upgrade.record.service.as_str()).collect();
        match names[..] {
            [] => {
                let of = service.map(|service| format!(" of {service}")).unwrap_or_default();
                Err(failure!(Usage, "no upgrade{of} is unfinished. See mfupgrade history"))
            }
            [name] => {
                let service = Service::find(name)
                    .ok_or_else(|| failure!(Contradiction, "this mf has no service {name}, which is being upgraded"))?;
                Ok((service, open.remove(0).record))
            }
            _ => Err(failure!(Usage, "several services are being upgraded: {}. Name one", names.join(", "))),
        }
    }
}

/// Returns the id of a user. Reads the database, because the API finds users by id only.
async fn user_id(stack: &Stack, nickname: &str) -> Result<String> {
    let authority = stack.registry().await?.snapshot().await?.authority;
    let owner = Service::named(authority.get("users").map_or(MONOLITH, Entry::owner));
    let id: Option<i64> = async {
        let mut connection = postgres::connect_to(&stack.ports, &stack.secrets, owner.database).await?;
        sqlx::query_scalar("select id from users where nickname = $1")
            .bind(nickname)
            .fetch_optional(&mut connection)
            .await
    }
    .await
    .map_err(|error| failure!(Unavailable, "the users of {owner} cannot be read: {error}. See mfps"))?;
    id.map(|id| id.to_string()).ok_or_else(|| failure!(Usage, "there is no user `{nickname}`"))
}
