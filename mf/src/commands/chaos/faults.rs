//! Makes the faults of a plan. Each function returns when its fault is over and undone; if it is dropped before, the
//! record has what remains to be undone.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use flack_catalogue::Service;
use flack_supervisor::Spec;
use flack_supervisor::process::Identity;
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep, sleep_until};

use super::plan::{Action, Fault, Peer};
use super::record::{Change, Record, signal};
use super::relay::Relay;
use crate::failure::Result;
use crate::launch::instances_of;
use crate::registry::Registry;
use crate::runtime::{Containers, Runtime};
use crate::stack::{Launch, Stack, free_names};

/// A slow process is stopped for the first part of each turn, and runs for the second.
const SLOW_STOPPED: Duration = Duration::from_millis(80);
const SLOW_RUNS: Duration = Duration::from_millis(20);
const READY_TIMEOUT: Duration = Duration::from_mins(1);
const READY_POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Every write to this device fails with ENOSPC, as on a full disk.
const FULL_DISK: &str = "/dev/full";
/// A loopback address beside that of the relay, so that both can use one port.
const BEHIND_RELAY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

pub struct Faults<'a> {
    pub stack: &'a Stack,
    pub runtime: &'a Runtime,
    pub record: &'a mut Record,
}

impl Faults<'_> {
    pub async fn make(&mut self, fault: &Fault) -> Result<()> {
        let lasts = Duration::from_millis(fault.lasts_milliseconds);
        match &fault.action {
            Action::Kill { process } => self.runtime.kill(process, true).await.map(drop),
            Action::Stop { process } => self.stop(process, lasts).await,
            Action::Slow { process } => self.slow(process, lasts).await,
            Action::Partition { service, from } => self.partition(service, *from, lasts).await,
            Action::FullDiskOfLogs { service } => self.full_disk(service, lasts).await,
        }
    }

    async fn stop(&mut self, name: &str, lasts: Duration) -> Result<()> {
        let Some(victim) = self.record_stop(name).await? else { return Ok(()) };
        self.pause(&victim, true).await?;
        sleep(lasts).await;
        self.pause(&victim, false).await
    }

    async fn slow(&mut self, name: &str, lasts: Duration) -> Result<()> {
        let Some(victim) = self.record_stop(name).await? else { return Ok(()) };
        let end = Instant::now() + lasts;
        while Instant::now() < end {
            self.pause(&victim, true).await?;
            sleep(SLOW_STOPPED).await;
            self.pause(&victim, false).await?;
            sleep(SLOW_RUNS).await;
        }
        Ok(())
    }

    /// Stops or continues a process.
    async fn pause(&self, victim: &Change, paused: bool) -> Result<()> {
        match (self.runtime, victim) {
            (Runtime::Containers(containers), Change::Paused { name }) => containers.pause(name, paused).await,
            (_, Change::Stopped { process, .. }) => {
                signal(*process, if paused { Signal::SIGSTOP } else { Signal::SIGCONT });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Records that a process is stopped. Returns nothing if it does not run: it has just crashed by itself.
    async fn record_stop(&mut self, name: &str) -> Result<Option<Change>> {
        let listed = self.runtime.list().await?;
        let Some(pid) = listed.iter().find(|process| process.name == name).and_then(|process| process.pid) else {
            return Ok(None);
        };
        let name = name.to_owned();
        let change = match self.runtime {
            Runtime::Processes(_) => Identity::of(pid).map(|process| Change::Stopped { name, process }),
            Runtime::Containers(_) => Some(Change::Paused { name }),
        };
        if let Some(change) = &change {
            self.record.add(change.clone())?;
        }
        Ok(change)
    }

    async fn partition(&mut self, service: &'static Service, from: Peer, lasts: Duration) -> Result<()> {
        let client = match self.runtime {
            Runtime::Processes(client) => client,
            Runtime::Containers(containers) => return self.disconnect(containers, service, from, lasts).await,
        };
        let ports = self.stack.ports;
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let relay = Relay::start(|port| match from {
            Peer::Registry => local(ports.etcd),
            Peer::Events => local(ports.nats),
            Peer::Database => local(ports.postgres),
            Peer::Services => local(ports.internal),
            Peer::Balancer | Peer::Network => SocketAddr::from((BEHIND_RELAY, port)),
        });
        let relay = relay.await.map_err(|error| failure!(Internal, "no port for a relay: {error}"))?;
        let launch = self.record_instance(service).await?;
        client.start(through_relay(self.stack.instance(&launch)?, from, relay.port)).await?;
        self.wait_until_ready(&launch).await?;
        relay.cut();
        sleep(lasts).await;
        relay.repair();
        // The relay is still needed: the instance drains through it.
        self.stop_instance(launch.name).await
    }

    /// A partition in containers: an instance leaves a network, and connects again.
    async fn disconnect(
        &mut self,
        containers: &Containers,
        service: &'static Service,
        from: Peer,
        lasts: Duration,
    ) -> Result<()> {
        let launch = self.record_instance(service).await?;
        containers.start(&launch, None).await?;
        self.wait_until_ready(&launch).await?;
        let connection = containers.disconnect(&launch.name, from == Peer::Database).await?;
        sleep(lasts).await;
        containers.connect(&launch.name, connection).await?;
        self.stop_instance(launch.name).await
    }

    async fn full_disk(&mut self, service: &'static Service, lasts: Duration) -> Result<()> {
        let launch = self.record_instance(service).await?;
        match self.runtime {
            Runtime::Processes(client) => {
                client.start(with_full_disk(self.stack.instance(&launch)?)).await.map(drop)?;
            }
            Runtime::Containers(containers) => containers.start(&launch, Some(&full_disk_script())).await?,
        }
        self.wait_until_ready(&launch).await?;
        sleep(lasts).await;
        self.stop_instance(launch.name).await
    }

    /// Records one more instance, which is about to be started.
    async fn record_instance(&mut self, service: &'static Service) -> Result<Launch> {
        let taken = instances_of(&self.runtime.list().await?, service);
        let name = free_names(service, &taken, 1).remove(0);
        self.record.add(Change::Instance { name: name.clone() })?;
        self.stack.launch(self.runtime, service, name).await
    }

    async fn wait_until_ready(&self, launch: &Launch) -> Result<()> {
        wait_until_ready(&self.stack.registry().await?, launch.service.name, &launch.name).await
    }

    async fn stop_instance(&self, name: String) -> Result<()> {
        self.runtime.stop(vec![name], |_| {}).await
    }
}

/// Waits until the balancer uses an instance.
pub async fn wait_until_ready(registry: &Registry, service: &str, name: &str) -> Result<()> {
    let deadline = Instant::now() + READY_TIMEOUT;
    // An error is an outage of etcd, which may be one of the faults.
    while !registry.is_in_balancer(service, name).await.unwrap_or(false) {
        if Instant::now() > deadline {
            let seconds = READY_TIMEOUT.as_secs();
            return Err(failure!(Internal, "{name} is not in the balancer after {seconds} s. See mflogs {name}"));
        }
        sleep_until(Instant::now() + READY_POLL_INTERVAL).await;
    }
    Ok(())
}

/// Gives an instance the address of the relay instead of its peer's.
fn through_relay(spec: Spec, peer: Peer, port: u16) -> Spec {
    let address = format!("127.0.0.1:{port}");
    let replaced = |name: &str| {
        let value = spec.env.0.get(name).map(String::as_str).unwrap_or_default();
        let (before, host_and_rest) = value.split_once("127.0.0.1:").unwrap_or((value, ""));
        let rest = host_and_rest.trim_start_matches(|character: char| character.is_ascii_digit());
        format!("{before}{address}{rest}")
    };
    let changed = match peer {
        Peer::Registry => vec![("ETCD_URL", replaced("ETCD_URL"))],
        Peer::Events => vec![("NATS_URL", replaced("NATS_URL"))],
        Peer::Database => vec![("DATABASE_URL", replaced("DATABASE_URL"))],
        Peer::Services => vec![("INTERNAL_URL", replaced("INTERNAL_URL"))],
        // It registers the relay's address, which has the same port.
        Peer::Balancer | Peer::Network => vec![
            ("FLACK_LISTEN", format!("{BEHIND_RELAY}:{port}")),
            ("FLACK_ADVERTISE", Ipv4Addr::LOCALHOST.to_string()),
        ],
    };
    let env = changed.into_iter().fold(spec.env.clone(), |env, (name, value)| env.with(name, value));
    Spec { env, ..spec }
}

fn full_disk_script() -> String {
    format!("exec \"$0\" \"$@\" >{FULL_DISK} 2>&1")
}

/// Connects the output of a process with a full disk: the supervisor opens the log, and the shell replaces it.
fn with_full_disk(spec: Spec) -> Spec {
    let program = spec.program.display().to_string();
    let args = ["-c".to_owned(), full_disk_script(), program].into_iter().chain(spec.args).collect();
    Spec { program: "/bin/sh".into(), args, ..spec }
}

#[cfg(test)]
mod tests {
    use flack_supervisor::{Environment, Stop, StopSignal};

    use super::*;

    fn spec() -> Spec {
        let env = Environment::default()
            .with("ETCD_URL", "https://127.0.0.1:8090")
            .with("DATABASE_URL", "postgres://users:word@127.0.0.1:8094/users?sslmode=disable")
            .with("FLACK_LISTEN", "127.0.0.1:0");
        Spec {
            name: "users-2".to_owned(),
            group: "users".to_owned(),
            version: None,
            priority: 3,
            program: "/folder/flack-users".into(),
            args: vec!["argument".to_owned()],
            env,
            own_env: Environment::default(),
            working_directory: "/".into(),
            stop: Stop { signal: StopSignal::Terminate, seconds_max: 1 },
        }
    }

    #[test]
    fn only_the_address_of_the_peer_is_replaced() {
        let of = |peer, name: &str| through_relay(spec(), peer, 5).env.0[name].clone();
        assert_eq!(of(Peer::Registry, "ETCD_URL"), "https://127.0.0.1:5");
        assert_eq!(of(Peer::Registry, "DATABASE_URL"), spec().env.0["DATABASE_URL"]);
        assert_eq!(of(Peer::Database, "DATABASE_URL"), "postgres://users:word@127.0.0.1:5/users?sslmode=disable");
        assert_eq!(of(Peer::Balancer, "FLACK_LISTEN"), "127.0.0.2:5");
        assert_eq!(of(Peer::Balancer, "FLACK_ADVERTISE"), "127.0.0.1");
    }

    #[test]
    fn writes_to_a_log_on_the_full_disk_fail_and_the_program_gets_its_arguments() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let script = "echo \"$1\" >\"$2\"; echo line || echo \"no space\" >>\"$2\"";
        let result = folder.path().join("result").display().to_string();
        let args = ["-c", script, "sh", "argument", &result].map(str::to_owned).to_vec();
        let spec = with_full_disk(Spec { program: "/bin/sh".into(), args, ..spec() });
        let status = std::process::Command::new(&spec.program).args(&spec.args).status().expect("sh runs");
        assert!(status.success());
        assert_eq!(std::fs::read_to_string(result).expect("a result"), "argument\nno space\n");
    }
}
