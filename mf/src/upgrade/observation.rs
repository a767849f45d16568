//! The observation of both versions while they serve requests in the same seconds.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use flack_common::registry::InstanceEntry;

use super::counters::{self, Counters, Server, Times};
use super::record::{Comparison, UsersSaw};
use super::verdict::Sample;
use crate::ports::Ports;
use crate::probe;

/// A new process opens its connections to the database with its first requests: their times do not count.
const WARM_UP: Duration = Duration::from_secs(1);
/// The gauge of a service that holds connections.
const SOCKETS_METRIC: &str = "websocket_connections ";

/// What balancer and instances reported at one moment.
#[derive(Debug, Default)]
pub struct Reading {
    pub servers: Vec<Server>,
    /// By instance.
    times: BTreeMap<String, Times>,
    sockets: BTreeMap<String, u64>,
}

impl Reading {
    /// Reads the balancer's statistics and the metrics of these instances; none if the balancer does not answer.
    pub async fn take(ports: &Ports, instances: &BTreeMap<String, InstanceEntry>) -> Option<Self> {
        let balancer = ports.stats_address();
        let metrics = instances.iter().map(|(name, entry)| async move {
            let response = probe::get(&entry.address, "/metrics").await?;
            Some((name.clone(), response.body))
        });
        let (statistics, metrics) =
            tokio::join!(probe::get(&balancer, "/stats;csv"), futures::future::join_all(metrics));
        let mut reading = Self { servers: counters::servers(&statistics?.body), ..Self::default() };
        for (name, metrics) in metrics.into_iter().flatten() {
            let sockets = metrics.lines().find_map(|line| line.strip_prefix(SOCKETS_METRIC));
            if let Some(sockets) = sockets.and_then(|sockets| sockets.trim().parse().ok()) {
                reading.sockets.insert(name.clone(), sockets);
            }
            reading.times.insert(name, counters::times(&metrics));
        }
        Some(reading)
    }

    /// Returns the servers of these instances: each has one in the stable backend, in the canary backend, or in both.
    fn of<'a>(&'a self, names: &'a [String]) -> impl Iterator<Item = &'a Server> {
        self.servers.iter().filter(|server| names.contains(&server.name))
    }

    /// Whether the balancer sends requests to an instance.
    pub fn is_up(&self, name: &str) -> bool {
        self.servers.iter().any(|server| server.name == name && server.is_up)
    }

    /// Whether an instance gets requests in this backend.
    pub fn is_up_in(&self, backend: &str, name: &str) -> bool {
        self.servers.iter().any(|server| server.backend == backend && server.name == name && server.is_up)
    }

    /// Returns the open sockets of an instance.
    pub fn sockets_of(&self, name: &str) -> u64 {
        self.sockets.get(name).copied().unwrap_or(0)
    }

    pub fn sockets(&self) -> u64 {
        self.sockets.values().sum()
    }
}

/// Adds up what is counted after its first reading.
#[derive(Debug)]
pub struct Observation {
    began: Instant,
    servers: BTreeMap<(String, String), Counters>,
    times: BTreeMap<String, Times>,
    pub new: Sample,
    pub old: Sample,
}

impl Observation {
    pub fn begin() -> Self {
        Self {
            began: Instant::now(),
            servers: BTreeMap::new(),
            times: BTreeMap::new(),
            new: Sample::default(),
            old: Sample::default(),
        }
    }

    pub fn add(&mut self, reading: &Reading, new: &[String], old: &[String]) {
        let is_warm = self.began.elapsed() >= WARM_UP;
        for (names, sample) in [(new, &mut self.new), (old, &mut self.old)] {
            for server in reading.of(names) {
                let key = (server.backend.clone(), server.name.clone());
                if let Some(before) = self.servers.insert(key, server.counters) {
                    sample.counters.add(&server.counters.since(&before));
                }
            }
            for (name, times) in reading.times.iter().filter(|(name, _)| names.contains(name)) {
                let before = self.times.insert(name.clone(), times.clone());
                for (operation, histogram) in before.iter().filter(|_| is_warm).flat_map(|_| times) {
                    let before = before.as_ref().and_then(|before| before.get(operation)).cloned().unwrap_or_default();
                    sample.times.entry(operation.clone()).or_default().add(&histogram.since(&before));
                }
            }
        }
    }

    pub fn comparison(&self) -> Comparison {
        Comparison {
            new_requests: self.new.counters.requests(),
            new_failed: self.new.counters.failed(),
            old_requests: self.old.counters.requests(),
            old_failed: self.old.counters.failed(),
        }
    }
}

/// Adds up what users saw of the new version since its instances were started.
#[derive(Debug, Default)]
pub struct Meter {
    servers: BTreeMap<(String, String), Counters>,
    total: Counters,
}

impl Meter {
    pub fn add(&mut self, reading: &Reading, new: &[String]) {
        for server in reading.of(new) {
            let key = (server.backend.clone(), server.name.clone());
            let before = self.servers.insert(key, server.counters).unwrap_or_default();
            self.total.add(&server.counters.since(&before));
        }
    }

    pub fn users_saw(&self) -> UsersSaw {
        UsersSaw { requests: self.total.requests(), failed: self.total.failed_for_users() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upgrade::counters::tests::histogram;

    fn reading(servers: &[(&str, &str, u64)]) -> Reading {
        let server = |&(backend, name, responses): &(&str, &str, u64)| Server {
            backend: backend.to_owned(),
            name: name.to_owned(),
            is_up: true,
            counters: Counters { responses, ..Counters::default() },
        };
        Reading { servers: servers.iter().map(server).collect(), ..Reading::default() }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn both_sides_are_counted_from_the_first_reading_on() {
        let (new, old) = (names(&["users-3"]), names(&["users-1", "users-2"]));
        let mut observation = Observation::begin();
        for (one, two, three) in [(500, 100, 7), (510, 100, 17), (520, 130, 20)] {
            let servers = [("users", "users-1", one), ("users", "users-2", two), ("users", "users-3", three)];
            observation.add(&reading(&servers), &new, &old);
        }
        let comparison = observation.comparison();
        assert_eq!((comparison.new_requests, comparison.old_requests), (13, 50));
    }

    #[test]
    fn an_instance_that_moves_between_backends_is_counted_in_both() {
        let new = names(&["users-3"]);
        let mut meter = Meter::default();
        meter.add(&reading(&[("users.canary", "users-3", 40), ("users", "users-1", 9)]), &new);
        meter.add(&reading(&[("users.canary", "users-3", 50), ("users", "users-3", 5)]), &new);
        assert_eq!(meter.users_saw().requests, 55);
    }

    #[test]
    fn times_do_not_count_before_the_process_is_warm() {
        let new = names(&["users-3"]);
        let at = |count| Reading {
            times: BTreeMap::from([(
                "users-3".to_owned(),
                Times::from([("GET / 200".to_owned(), histogram(&[(100, count)]))]),
            )]),
            ..Reading::default()
        };
        let mut observation = Observation::begin();
        observation.add(&at(10), &new, &[]);
        observation.add(&at(30), &new, &[]);
        assert!(observation.new.times.is_empty());
        observation.began = observation.began.checked_sub(WARM_UP).expect("the machine runs longer");
        observation.add(&at(35), &new, &[]);
        assert_eq!(observation.new.times["GET / 200"].count, 5);
    }
}
