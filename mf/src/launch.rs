//! Starts a stack step by step, and knows what it started, so that a failed start leaves nothing behind.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use flack_catalogue::{MONOLITH, SERVICES, Service};
use flack_supervisor::{Client, Ended, ProcessStatus, Spec, State};
use tokio::process::Child;

use crate::builds::WORKSPACE_VERSION;
use crate::failure::{Failure, Result};
use crate::infra::postgres::{self, Server};
use crate::infra::{etcd, haproxy, nats};
use crate::probe;
use crate::progress::Progress;
use crate::registry::Registry;
use crate::runtime::Runtime;
use crate::stack::{Launch, Stack, free_names, number};

const READY_TIMEOUT: Duration = Duration::from_mins(1);
const READY_POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Longer, because listing processes costs the supervisor more than the readiness checks cost.
const STATUS_POLL_INTERVAL: Duration = Duration::from_millis(250);
/// A process that was restarted this often before it was ready will not become ready.
const RESTARTS_BEFORE_READY_MAX: u32 = 3;
/// Lines of a process's log in the message that it did not become ready.
const LOG_LINES: usize = 12;

#[derive(Debug)]
pub struct Launcher<'a> {
    pub stack: &'a Stack,
    pub runtime: &'a Runtime,
    pub progress: &'a Progress,
    started: RefCell<Vec<String>>,
}

impl<'a> Launcher<'a> {
    pub fn new(stack: &'a Stack, runtime: &'a Runtime, progress: &'a Progress) -> Self {
        Self { stack, runtime, progress, started: RefCell::default() }
    }

    /// Returns the names of the processes that this launcher started.
    pub fn started(&self) -> Vec<String> {
        self.started.borrow().clone()
    }

    /// Starts PostgreSQL, etcd and NATS as processes, with the accounts of all services.
    pub async fn stores(&self, client: &Client, server: &Server) -> Result<()> {
        tokio::try_join!(self.postgres(client, server), self.etcd(client), self.nats(client)).map(drop)
    }

    async fn postgres(&self, client: &Client, server: &Server) -> Result<()> {
        let step = self.progress.step("postgres", "creating its data folder");
        let (home, ports, secrets) = (&self.stack.home, &self.stack.ports, &self.stack.secrets);
        let note = server.create(home, secrets).await?;
        self.ensure(client, server.spec(home, ports)).await?;
        step.update("waiting until it accepts connections");
        self.wait("postgres", async || postgres::ready(ports, secrets).await.map_err(|error| error.to_string()))
            .await?;
        step.update("creating databases and roles");
        postgres::set_up(ports, secrets, &SERVICES).await.map_err(|error| {
            failure!(Internal, "PostgreSQL's databases cannot be created: {error}. See mflogs postgres")
        })?;
        let note = note.map(|note| format!("; {note}")).unwrap_or_default();
        step.done(&format!("ready on port {}, version {}{note}", ports.postgres, server.major));
        Ok(())
    }

    async fn etcd(&self, client: &Client) -> Result<()> {
        let step = self.progress.step("etcd", "starting");
        let (home, ports, secrets) = (&self.stack.home, &self.stack.ports, &self.stack.secrets);
        if etcd::runs_without_tls(ports).await {
            return Err(failure!(
                Contradiction,
                "this stack was started by an earlier version, whose etcd has no certificates. Restart it: mfdown, \
                 then mfup"
            ));
        }
        etcd::issue_certificates(home)?;
        self.ensure(client, etcd::spec(home, ports)).await?;
        self.wait("etcd", async || etcd::ready(home, ports).await).await?;
        step.update("creating accounts");
        etcd::set_up(home, ports).await?;
        if secrets.has_etcd_passwords() {
            etcd::retire_passwords(home, ports, secrets).await?;
            secrets.without_etcd_passwords().save(home)?;
        }
        Registry::connect(home, ports).await?.seed(self.stack.settings.stage).await?;
        step.done(&format!("ready on port {}", ports.etcd));
        Ok(())
    }

    async fn nats(&self, client: &Client) -> Result<()> {
        let step = self.progress.step("nats", "starting");
        let (home, ports, secrets) = (&self.stack.home, &self.stack.ports, &self.stack.secrets);
        let running = client.list().await?.into_iter().find(|process| process.name == "nats");
        let has_changed = nats::configure(home, ports, secrets)?;
        // The second condition is for a command that was interrupted before it reloaded NATS.
        let is_configured = running.is_some() && !has_changed && nats::ready(ports, secrets).await;
        match running {
            None => nats::adopt_streams(home)?,
            Some(process) if !is_configured => {
                step.update("adding accounts");
                process.pid.map_or(Ok(()), nats::reload)?;
            }
            Some(_) => {}
        }
        self.ensure(client, nats::spec(home)).await?;
        self.wait("nats", async || {
            let is_ready = nats::ready(ports, secrets).await;
            is_ready.then_some(()).ok_or_else(|| "it does not accept the accounts of all services".to_owned())
        })
        .await?;
        if !is_configured {
            step.update("making the streams");
            nats::set_up(ports, secrets, 1).await?;
        }
        step.done(&format!("ready on port {}", ports.nats));
        Ok(())
    }

    /// Starts the agent as a process, then HAProxy, which needs the configuration that the agent writes.
    pub async fn balancer(&self, client: &Client) -> Result<()> {
        let step = self.progress.step("haproxy", "the agent writes its configuration");
        let (home, ports) = (&self.stack.home, &self.stack.ports);
        let configuration = home.haproxy().join("haproxy.cfg");
        if !client.list().await?.iter().any(|process| process.name == "agent") {
            // A file of an earlier run may have other ports, and must not be taken for the new one.
            let _ = std::fs::remove_file(&configuration);
        }
        self.ensure(client, haproxy::agent(home, ports)?).await?;
        self.wait("agent", async || {
            configuration.exists().then_some(()).ok_or_else(|| "haproxy.cfg is not written".to_owned())
        })
        .await?;
        step.update("starting");
        self.ensure(client, haproxy::balancer(home)).await?;
        let stats = ports.stats_address();
        self.wait("haproxy", async || {
            let response = probe::get(&stats, "/metrics").await;
            response.map(drop).ok_or_else(|| "no response on the stats port".to_owned())
        })
        .await?;
        step.done(&format!("ready on port {}, stats on {}", ports.public, ports.stats));
        Ok(())
    }

    /// Starts the instances that are missing to these numbers. Returns their names.
    pub async fn start_missing(&self, desired: &[(&'static Service, u16)]) -> Result<Vec<String>> {
        let processes = self.runtime.list().await?;
        let mut missing = Vec::new();
        for &(service, count) in desired {
            let running = instances_of(&processes, service);
            let count = count.saturating_sub(u16::try_from(running.len()).unwrap_or(u16::MAX));
            for name in free_names(service, &running, count) {
                missing.push(self.stack.launch(self.runtime, service, name).await?);
            }
        }
        self.start_instances(missing).await
    }

    /// Returns how many instances the settings say: one of the monolith, and their number of each service.
    pub fn desired(&self) -> Vec<(&'static Service, u16)> {
        [(Service::named(MONOLITH), 1)].into_iter().chain(self.stack.settings.instances.iter()).collect()
    }

    /// Starts instances, and waits until each is in the balancer. Returns their names.
    pub async fn start_instances(&self, new: Vec<Launch>) -> Result<Vec<String>> {
        let registry = &self.stack.registry().await?;
        let starts = new.iter().map(|launch| async move {
            let Launch { service, name, build, .. } = launch;
            let step = self.progress.step(name, "starting");
            if !self.runtime.list().await?.iter().any(|process| process.name == *name) {
                // Before the start, so that Ctrl-C right after it stops the process.
                self.started.borrow_mut().push(name.clone());
                self.runtime.start(self.stack, launch).await?;
            }
            step.update("waiting until it is ready and in the balancer");
            self.wait(name, async || match registry.is_in_balancer(service.name, name).await {
                Ok(true) => Ok(()),
                Ok(false) => Err("it is not in the balancer".to_owned()),
                Err(failure) => Err(failure.message),
            })
            .await?;
            let snapshot = registry.snapshot().await?;
            let address = snapshot.instances.get(name).map(|instance| self.runtime.address(&instance.address));
            let address = address.unwrap_or_else(|| "an unknown address".to_owned());
            let version =
                if build.version == WORKSPACE_VERSION { String::new() } else { format!(", version {}", build.version) };
            step.done(&format!("ready on {address}{version}"));
            Ok::<_, Failure>(())
        });
        futures::future::try_join_all(starts).await?;
        Ok(new.into_iter().map(|launch| launch.name).collect())
    }

    /// Stops the newest instances of services that have more than these numbers. Returns their names.
    pub async fn stop_surplus(&self, desired: &[(&'static Service, u16)]) -> Result<Vec<String>> {
        let processes = self.runtime.list().await?;
        let mut surplus = Vec::new();
        for &(service, count) in desired {
            surplus.extend(instances_of(&processes, service).into_iter().skip(count.into()));
        }
        if !surplus.is_empty() {
            self.runtime.stop(surplus.clone(), |ended| self.progress.print_ended(&ended)).await?;
        }
        Ok(surplus)
    }

    /// Stops what this launcher started; everything and the supervisor itself, if that was started, too.
    pub async fn undo(&self, supervisor: Option<Child>) {
        let print = |ended: Ended| self.progress.print_ended(&ended);
        let undone = match (self.runtime, supervisor) {
            (Runtime::Processes(client), Some(mut supervisor)) => {
                let undone = client.shutdown(print).await;
                let _ = supervisor.wait().await;
                undone.map_err(Failure::from)
            }
            _ => self.runtime.stop(self.started(), print).await,
        };
        if let Err(error) = undone {
            self.progress.print(&format!("not everything could be stopped: {error}. Use mfdown."));
        }
    }

    /// Starts a process unless the supervisor has it, even if it is crash looping there.
    async fn ensure(&self, client: &Client, spec: Spec) -> Result<()> {
        let name = spec.name.clone();
        if client.list().await?.iter().any(|process| process.name == name) {
            return Ok(());
        }
        // Before the request, so that Ctrl-C right after it stops the process.
        self.started.borrow_mut().push(name);
        Ok(client.start(spec).await.map(drop)?)
    }

    /// Waits until the check passes. Fails at the timeout, or as soon as the process is gone or restarts repeatedly.
    async fn wait(&self, name: &str, mut check: impl AsyncFnMut() -> std::result::Result<(), String>) -> Result<()> {
        let began = Instant::now();
        let mut status_read = began;
        loop {
            let Err(problem) = check().await else { return Ok(()) };
            if status_read.elapsed() >= STATUS_POLL_INTERVAL {
                status_read = Instant::now();
                let processes = self.runtime.list().await?;
                let process = processes.iter().find(|process| process.name == name);
                if began.elapsed() > READY_TIMEOUT || process.is_none_or(cannot_become_ready) {
                    return Err(self.not_ready(name, process, &problem, began.elapsed()).await);
                }
            }
            tokio::time::sleep(READY_POLL_INTERVAL).await;
        }
    }

    async fn not_ready(&self, name: &str, process: Option<&ProcessStatus>, problem: &str, after: Duration) -> Failure {
        let state = process.map_or_else(|| "gone".to_owned(), |process| process.state.to_string());
        let last_end =
            process.and_then(|process| process.last_end.as_ref()).map(|end| format!(", it {end}")).unwrap_or_default();
        let mut lines = self.runtime.tail(&self.stack.home, name, LOG_LINES).await;
        if lines.is_empty() {
            lines.push("(nothing)".to_owned());
        }
        failure!(
            Internal,
            "{name} did not become ready in {:.0} s ({state}{last_end}; {problem}).\n\
             \x20 Its last lines:\n    {}\n  More: mflogs {name}",
            after.as_secs_f64(),
            lines.join("\n    ")
        )
    }
}

/// Returns the names of a service's instances, oldest first.
pub fn instances_of(processes: &[ProcessStatus], service: &Service) -> Vec<String> {
    let of_service = processes.iter().filter(|process| process.group == service.name);
    let mut names: Vec<String> = of_service.map(|process| process.name.clone()).collect();
    names.sort_by_key(|name| number(name));
    names
}

fn cannot_become_ready(process: &ProcessStatus) -> bool {
    process.state == State::CrashLooping || process.restarts >= RESTARTS_BEFORE_READY_MAX
}
