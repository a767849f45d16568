//! Brings a stack up, step by step, and remembers what it started, so that a start that fails leaves nothing behind.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use flack_catalogue::{MONOLITH, Service};

use crate::failure::{Failure, Result};
use crate::infra::postgres::{self, Server};
use crate::infra::{etcd, haproxy, nats};
use crate::logs;
use crate::probe;
use crate::progress::{Progress, Step};
use crate::registry::Registry;
use crate::settings::Stage;
use crate::stack::{Stack, free_names, number};
use crate::supervisor::{Client, ProcessStatus, Spec, State};

const READY_MAX: Duration = Duration::from_mins(1);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Asking the supervisor each time we look would be most of its work.
const ASK_SUPERVISOR_AGAIN: Duration = Duration::from_millis(250);
/// Who falls this often before it was ready once will fall again.
const RESTARTS_BEFORE_READY_MAX: u32 = 3;
const LAST_LINES: usize = 12;

#[derive(Debug)]
pub struct Launcher<'a> {
    pub stack: &'a Stack,
    pub client: &'a Client,
    pub progress: &'a Progress,
    started: RefCell<Vec<String>>,
}

impl<'a> Launcher<'a> {
    pub fn new(stack: &'a Stack, client: &'a Client, progress: &'a Progress) -> Self {
        Self { stack, client, progress, started: RefCell::default() }
    }

    /// What was started by this launcher, and by nobody before.
    pub fn started(&self) -> Vec<String> {
        self.started.borrow().clone()
    }

    /// PostgreSQL, etcd and NATS, with the accounts of all services.
    pub async fn stores(&self, server: &Server) -> Result<()> {
        tokio::try_join!(self.postgres(server), self.etcd(), self.nats()).map(drop)
    }

    async fn postgres(&self, server: &Server) -> Result<()> {
        let step = self.progress.step("postgres", "making its data folder");
        let (home, ports, secrets) = (&self.stack.home, &self.stack.ports, &self.stack.secrets);
        let made = tokio::task::spawn_blocking({
            let (server, home, secrets) = (server.clone(), home.clone(), secrets.clone());
            move || server.create(&home, &secrets)
        });
        let told = made
            .await
            .map_err(|error| Failure::internal(format!("PostgreSQL could not be made: {error}")))??;
        self.ensure(server.spec(home, ports)).await?;
        step.doing("waiting until it accepts connections");
        self.wait("postgres", async || {
            postgres::ready(ports, secrets).await.map_err(|error| error.to_string())
        })
        .await?;
        step.doing("making databases and roles");
        postgres::set_up(ports, secrets).await.map_err(|error| {
            Failure::internal(format!(
                "PostgreSQL's databases could not be made: {error}. See mflogs postgres"
            ))
        })?;
        let told = told.map(|told| format!("; {told}")).unwrap_or_default();
        step.done(&format!("ready on port {}, version {}{told}", ports.postgres, server.major));
        Ok(())
    }

    async fn etcd(&self) -> Result<()> {
        let step = self.progress.step("etcd", "starting");
        let (home, ports, secrets) = (&self.stack.home, &self.stack.ports, &self.stack.secrets);
        self.ensure(etcd::spec(home, ports)).await?;
        self.wait("etcd", async || {
            etcd::ready(ports).await.then_some(()).ok_or_else(|| "no healthy answer".to_owned())
        })
        .await?;
        step.doing("making accounts");
        etcd::set_up(ports, secrets).await?;
        Registry::connect(ports, secrets).await?.seed(self.stack.settings.stage).await?;
        step.done(&format!("ready on port {}", ports.etcd));
        Ok(())
    }

    async fn nats(&self) -> Result<()> {
        let step = self.progress.step("nats", "starting");
        let (home, ports) = (&self.stack.home, &self.stack.ports);
        nats::configure(home, ports, &self.stack.secrets)?;
        self.ensure(nats::spec(home)).await?;
        self.wait("nats", async || {
            nats::ready(ports).await.then_some(()).ok_or_else(|| "no healthy answer".to_owned())
        })
        .await?;
        step.done(&format!("ready on port {}", ports.nats));
        Ok(())
    }

    /// The agent first: HAProxy starts from the file that it writes.
    pub async fn balancer(&self) -> Result<()> {
        let step = self.progress.step("haproxy", "the agent writes its configuration");
        let (home, ports) = (&self.stack.home, &self.stack.ports);
        let configuration = home.haproxy().join("haproxy.cfg");
        if !self.client.list().await?.iter().any(|process| process.name == "agent") {
            // Of an earlier run, with its ports: not to be taken for the new one.
            let _ = std::fs::remove_file(&configuration);
        }
        self.ensure(haproxy::agent(home, ports, &self.stack.secrets)?).await?;
        self.wait("agent", async || {
            configuration.exists().then_some(()).ok_or_else(|| "haproxy.cfg is not written".to_owned())
        })
        .await?;
        step.doing("starting");
        self.ensure(haproxy::balancer(home)).await?;
        let stats = format!("127.0.0.1:{}", ports.stats);
        self.wait("haproxy", async || {
            probe::get(&stats, "/metrics")
                .await
                .map(drop)
                .ok_or_else(|| "the stats port does not answer".to_owned())
        })
        .await?;
        step.done(&format!("ready on port {}, stats on {}", ports.public, ports.stats));
        Ok(())
    }

    /// The monolith, and as many instances of each service as are wanted; gives the names of those that were new.
    pub async fn instances(&self) -> Result<Vec<String>> {
        let listed = self.client.list().await?;
        let mut new = Vec::new();
        for (service, wanted) in self.wanted() {
            let names: Vec<String> = listed
                .iter()
                .filter(|process| process.service == service.name)
                .map(|process| process.name.clone())
                .collect();
            let missing = wanted.saturating_sub(u16::try_from(names.len()).unwrap_or(u16::MAX));
            new.extend(free_names(service, &names, missing).into_iter().map(|name| (service, name)));
        }
        self.start_instances(new).await
    }

    fn wanted(&self) -> Vec<(&'static Service, u16)> {
        let mut wanted = vec![(Service::named(MONOLITH), 1)];
        if self.stack.settings.stage == Stage::Services {
            wanted.extend(self.stack.settings.instances.iter());
        }
        wanted
    }

    /// Starts them all, then waits until the balancer has each.
    pub async fn start_instances(&self, new: Vec<(&'static Service, String)>) -> Result<Vec<String>> {
        let registry = self.stack.registry().await?;
        let registry = &registry;
        let starts = new.iter().map(|(service, name)| async move {
            let step = self.progress.step(name, "starting");
            self.ensure(self.stack.instance(service, name)?).await?;
            step.doing("waiting until it is ready and in the balancer");
            self.wait(name, async || match registry.is_in_balancer(service.name, name).await {
                Ok(true) => Ok(()),
                Ok(false) => Err("it is not in the balancer".to_owned()),
                Err(error) => Err(format!("{error:#}")),
            })
            .await?;
            self.tell_address(step, registry, name).await
        });
        futures::future::try_join_all(starts).await?;
        Ok(new.into_iter().map(|(_, name)| name).collect())
    }

    async fn tell_address(&self, step: Step, registry: &Registry, name: &str) -> Result<()> {
        let address = registry.snapshot().await?.instances.get(name).map(|instance| instance.address.clone());
        step.done(&format!("ready on {}", address.unwrap_or_else(|| "an unknown address".to_owned())));
        Ok(())
    }

    /// Ends the youngest instances of services that have more than wanted; gives their names.
    pub async fn scale_down(&self) -> Result<Vec<String>> {
        let listed = self.client.list().await?;
        let mut surplus = Vec::new();
        for (service, wanted) in self.wanted() {
            let mut names: Vec<String> = listed
                .iter()
                .filter(|process| process.service == service.name)
                .map(|process| process.name.clone())
                .collect();
            names.sort_by_key(|name| number(name));
            surplus.extend(names.into_iter().skip(wanted.into()));
        }
        if !surplus.is_empty() {
            self.client
                .stop(surplus.clone(), |ended| self.progress.say(&format!("{} {}", ended.name, ended.how)))
                .await?;
        }
        Ok(surplus)
    }

    /// Starts it unless it is on the supervisor's list, where even a crashing one stays.
    async fn ensure(&self, spec: Spec) -> Result<()> {
        let name = spec.name.clone();
        if self.client.list().await?.iter().any(|process| process.name == name) {
            return Ok(());
        }
        // Before it is asked for: a Ctrl-C right after must find it here.
        self.started.borrow_mut().push(name);
        self.client.start(spec).await.map(drop)
    }

    /// Waits until the check holds; when it does not, or the process keeps falling, says what its log says.
    async fn wait(
        &self,
        name: &str,
        mut check: impl AsyncFnMut() -> std::result::Result<(), String>,
    ) -> Result<()> {
        let began = Instant::now();
        let mut asked = began;
        loop {
            let Err(not_yet) = check().await else { return Ok(()) };
            if asked.elapsed() >= ASK_SUPERVISOR_AGAIN {
                asked = Instant::now();
                let listed = self.client.list().await?;
                let process = listed.into_iter().find(|process| process.name == name);
                if began.elapsed() > READY_MAX || process.as_ref().is_none_or(is_hopeless) {
                    return Err(self.not_ready(name, process.as_ref(), &not_yet, began.elapsed()));
                }
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    fn not_ready(
        &self,
        name: &str,
        process: Option<&ProcessStatus>,
        not_yet: &str,
        after: Duration,
    ) -> Failure {
        let state = process.map_or("gone", |process| process.state.words());
        let last_end = process
            .and_then(|process| process.last_end.clone())
            .map(|end| format!(", it {end}"))
            .unwrap_or_default();
        let lines = logs::tail(&self.stack.home.log(name), LAST_LINES);
        let lines = if lines.is_empty() {
            "    (nothing)".to_owned()
        } else {
            lines.iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
        };
        Failure::internal(format!(
            "{name} did not become ready in {:.0} s ({state}{last_end}; {not_yet}).\n  Its last lines:\n{lines}\n  More: mflogs {name}",
            after.as_secs_f64()
        ))
    }
}

fn is_hopeless(process: &ProcessStatus) -> bool {
    process.state == State::CrashLooping || process.restarts >= RESTARTS_BEFORE_READY_MAX
}
