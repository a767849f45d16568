//! The plan of a run: which fault meets which process, and when. It depends only on the seed and on what runs.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use flack_catalogue::{Service, extracted};
use flack_supervisor::ProcessStatus;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde::{Serialize, Serializer};

use crate::runtime::Runtime;
use crate::settings::INSTANCES_MAX;

/// The pause before each fault: in it clients reach the state before the fault again.
const PAUSE_MILLISECONDS: std::ops::RangeInclusive<u64> = 1_500..=3_500;
/// A registry lease lasts 5 s: some stops are longer than health checks allow, none is longer than a lease.
const STOP_MILLISECONDS: std::ops::RangeInclusive<u64> = 1_000..=4_000;
const OTHER_MILLISECONDS: std::ops::RangeInclusive<u64> = 2_000..=5_000;
/// How long the start of an instance takes, in the plan. It may be longer on a busy machine.
const INSTANCE_START: Duration = Duration::from_secs(1);

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// kill -9 of a process; the supervisor restarts it
    Kill,
    /// SIGSTOP of a process, and SIGCONT after 1 to 4 s
    Stop,
    /// One more instance, which loses its connections to one peer for 2 to 5 s
    Partition,
    /// A process that runs only a fifth of the time, for 2 to 5 s
    Slow,
    /// One more instance, for which every write to its log fails as on a full disk
    FullDiskOfLogs,
}

/// The peer to which an instance has no connection during a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    Registry,
    Events,
    Database,
    /// The internal listener: calls of other services.
    Services,
    /// Requests that come from the balancer.
    Balancer,
    /// All of these except the database, which in containers has a network of its own.
    Network,
}

impl Peer {
    /// Returns the peers from which an instance can be cut off.
    pub fn all(runtime: &Runtime) -> &'static [Self] {
        match runtime {
            Runtime::Processes(_) => &[Self::Registry, Self::Events, Self::Database, Self::Services, Self::Balancer],
            Runtime::Containers(_) => &[Self::Database, Self::Network],
        }
    }
}

/// What a fault does to whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Action {
    Kill {
        process: String,
    },
    Stop {
        process: String,
    },
    Slow {
        process: String,
    },
    Partition {
        #[serde(serialize_with = "name")]
        service: &'static Service,
        from: Peer,
    },
    FullDiskOfLogs {
        #[serde(serialize_with = "name")]
        service: &'static Service,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature of serialize_with")]
fn name<S: Serializer>(service: &&'static Service, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(service.name)
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Since the start of the run.
    pub at_milliseconds: u64,
    pub lasts_milliseconds: u64,
    #[serde(flatten)]
    pub action: Action,
}

/// The processes and services that a fault can meet.
#[derive(Debug, Default)]
pub struct Victims {
    /// For kill.
    any: Vec<String>,
    /// For stop and slow.
    pausable: Vec<String>,
    /// For faults with an instance of their own.
    services: Vec<&'static Service>,
    peers: &'static [Peer],
}

impl Victims {
    /// Chooses from the processes of a stack.
    ///
    /// PostgreSQL is never a victim: it has the only copy of the data. HAProxy is killed, but not stopped: a crashed
    /// balancer is restarted at once, a stopped one would only make every request wait.
    pub fn of(processes: &[ProcessStatus], peers: &'static [Peer]) -> Self {
        let mut any: Vec<String> = processes
            .iter()
            .filter(|process| process.group != "postgres")
            .map(|process| process.name.clone())
            .collect();
        any.sort();
        let pausable = any.iter().filter(|name| *name != "haproxy").cloned().collect();
        let instances = |service: &Service| processes.iter().filter(|process| process.group == service.name).count();
        let services = extracted()
            // Not the monolith, which always has one instance.
            .filter(|service| (1..usize::from(INSTANCES_MAX)).contains(&instances(service)))
            .collect();
        Self { any, pausable, services, peers }
    }

    /// Whether a fault of this kind can meet anything.
    pub fn allow(&self, kind: Kind) -> bool {
        match kind {
            Kind::Kill => !self.any.is_empty(),
            Kind::Stop | Kind::Slow => !self.pausable.is_empty(),
            Kind::Partition | Kind::FullDiskOfLogs => !self.services.is_empty(),
        }
    }
}

/// Plans faults one after the other, until `time` is over. The same arguments give the same plan.
pub fn plan(seed: u64, time: Duration, kinds: &[Kind], victims: &Victims) -> Vec<Fault> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut faults = Vec::new();
    let mut at = Duration::ZERO;
    loop {
        at += Duration::from_millis(random.random_range(PAUSE_MILLISECONDS));
        let Some(action) = kinds.choose(&mut random).and_then(|kind| action(*kind, victims, &mut random)) else {
            return faults;
        };
        let lasts = Duration::from_millis(match action {
            Action::Kill { .. } => 0,
            Action::Stop { .. } => random.random_range(STOP_MILLISECONDS),
            _ => random.random_range(OTHER_MILLISECONDS),
        });
        let start = match action {
            Action::Partition { .. } | Action::FullDiskOfLogs { .. } => INSTANCE_START,
            _ => Duration::ZERO,
        };
        if at + start + lasts > time {
            return faults;
        }
        faults.push(Fault { at_milliseconds: milliseconds(at), lasts_milliseconds: milliseconds(lasts), action });
        at += start + lasts;
    }
}

fn action(kind: Kind, victims: &Victims, random: &mut StdRng) -> Option<Action> {
    Some(match kind {
        Kind::Kill => Action::Kill { process: victims.any.choose(random)?.clone() },
        Kind::Stop => Action::Stop { process: victims.pausable.choose(random)?.clone() },
        Kind::Slow => Action::Slow { process: victims.pausable.choose(random)?.clone() },
        Kind::Partition => {
            Action::Partition { service: victims.services.choose(random)?, from: *victims.peers.choose(random)? }
        }
        Kind::FullDiskOfLogs => Action::FullDiskOfLogs { service: victims.services.choose(random)? },
    })
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[expect(clippy::cast_precision_loss, reason = "a run lasts at most hours")]
        let seconds = |milliseconds: u64| milliseconds as f64 / 1000.0;
        write!(f, "{:6.1} s  ", seconds(self.at_milliseconds))?;
        match &self.action {
            Action::Kill { process } => return write!(f, "kill -9 {process}"),
            Action::Stop { process } => write!(f, "stop {process}"),
            Action::Slow { process } => write!(f, "slow down {process}"),
            Action::Partition { service, from } => write!(f, "cut one more instance of {service} off from {from}"),
            Action::FullDiskOfLogs { service } => write!(f, "start one more {service} with its log on a full disk"),
        }?;
        write!(f, " for {:.1} s", seconds(self.lasts_milliseconds))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Registry => "etcd",
            Self::Events => "NATS",
            Self::Database => "PostgreSQL",
            Self::Services => "the internal listener",
            Self::Balancer => "the balancer",
            Self::Network => "everything except its database",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use chrono::Utc;
    use flack_supervisor::{Environment, State};

    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);
    const ALL: [Kind; 5] = [Kind::Kill, Kind::Stop, Kind::Partition, Kind::Slow, Kind::FullDiskOfLogs];

    fn victims(names: &[&str]) -> Victims {
        let process = |name: &&str| ProcessStatus {
            name: (*name).to_owned(),
            group: name.split('-').next().unwrap_or_default().to_owned(),
            version: None,
            own_env: Environment::default(),
            state: State::Running,
            pid: Some(1),
            restarts: 0,
            started: Utc::now(),
            last_end: None,
        };
        Victims::of(&names.iter().map(process).collect::<Vec<_>>(), &[Peer::Registry, Peer::Database])
    }

    fn stack() -> Victims {
        victims(&["postgres", "etcd", "nats", "agent", "haproxy", "monolith-1", "users-1", "users-2", "messages-1"])
    }

    #[test]
    fn the_same_seed_gives_the_same_plan_and_another_seed_another_one() {
        let of = |seed| plan(seed, MINUTE, &ALL, &stack());
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        assert!(of(1).len() > 4, "{:?}", of(1));
    }

    #[test]
    fn faults_do_not_overlap_and_end_in_time() {
        for seed in 0..100 {
            let plan = plan(seed, MINUTE, &ALL, &stack());
            let ends = plan.iter().map(|fault| fault.at_milliseconds + fault.lasts_milliseconds);
            assert!(ends.clone().all(|end| end <= 60_000), "{plan:?}");
            let begins = plan.iter().skip(1).map(|fault| fault.at_milliseconds);
            assert!(ends.zip(begins).all(|(end, next)| end + 1_000 <= next), "{plan:?}");
        }
    }

    #[test]
    fn every_process_but_postgresql_is_met_and_haproxy_is_not_stopped() {
        let mut met = BTreeSet::new();
        for seed in 0..300 {
            for fault in plan(seed, MINUTE, &ALL, &stack()) {
                match fault.action {
                    Action::Kill { process } => drop(met.insert(process)),
                    Action::Stop { process } | Action::Slow { process } => assert_ne!(process, "haproxy"),
                    Action::Partition { service, .. } | Action::FullDiskOfLogs { service } => {
                        assert!(["users", "messages"].contains(&service.name), "{service} has no instance");
                    }
                }
            }
        }
        let all = ["agent", "etcd", "haproxy", "messages-1", "monolith-1", "nats", "users-1", "users-2"];
        assert_eq!(met.into_iter().collect::<Vec<_>>(), all);
    }

    #[test]
    fn without_services_no_fault_needs_an_instance_of_its_own() {
        let monolith = victims(&["postgres", "etcd", "nats", "agent", "haproxy", "monolith-1"]);
        assert!(monolith.allow(Kind::Kill) && !monolith.allow(Kind::Partition));
        assert_eq!(plan(1, MINUTE, &[Kind::Partition], &monolith), []);
    }
}
