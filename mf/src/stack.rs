//! One stack: its folder, settings, ports and secrets, and from them what each of our own processes is started with.

use flack_catalogue::Service;

use crate::failure::{Failure, Result};
use crate::home::Home;
use crate::infra::{etcd, programs};
use crate::ports::Ports;
use crate::registry::Registry;
use crate::secrets::Secrets;
use crate::settings::Settings;
use crate::supervisor::spec::{Environment, Spec, Stop, StopSignal, Tier};

/// Leaving takes an instance at most 5 s (until the balancer let go) and 10 s (requests in flight); then it is stuck.
const INSTANCE_STOP_SECONDS_MAX: u64 = 20;

#[derive(Debug, Clone)]
pub struct Stack {
    pub home: Home,
    pub settings: Settings,
    pub ports: Ports,
    pub secrets: Secrets,
}

impl Stack {
    pub fn new(home: Home, settings: Settings) -> Result<Self> {
        let secrets = Secrets::load_or_make(&home)?;
        Ok(Self { ports: Ports::of(settings.port), home, settings, secrets })
    }

    /// The stack that was made before in this folder.
    pub fn open(home: &Home) -> Result<Self> {
        let none = || {
            Failure::unavailable(format!(
                "there is no stack in {}. Make one with mfup.",
                home.path().display()
            ))
        };
        let settings = Settings::load(home)?.ok_or_else(none)?;
        let secrets = Secrets::load(home)?.ok_or_else(none)?;
        Ok(Self { ports: Ports::of(settings.port), home: home.clone(), settings, secrets })
    }

    pub async fn registry(&self) -> Result<Registry> {
        Ok(Registry::connect(&self.ports, &self.secrets).await?)
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.public)
    }

    /// What every instance of a service is told; README of `mf` and the services' own explain each.
    pub fn environment(&self, service: &Service, instance: &str) -> Environment {
        let account = self.secrets.account(service.name);
        let database = service.database;
        Environment::inherited()
            .with("FLACK_INSTANCE", instance)
            .with("FLACK_LISTEN", "127.0.0.1:0")
            .with(
                "DATABASE_URL",
                format!(
                    "postgres://{database}:{}@127.0.0.1:{}/{database}?sslmode=disable",
                    account.postgres, self.ports.postgres
                ),
            )
            .with("ETCD_URL", etcd::url(&self.ports))
            .with("ETCD_USER", service.name)
            .with("ETCD_PASSWORD", &account.etcd)
            .with("NATS_URL", format!("nats://127.0.0.1:{}", self.ports.nats))
            .with("NATS_USER", service.name)
            .with("NATS_PASSWORD", &account.nats)
            .with("INTERNAL_URL", format!("http://127.0.0.1:{}", self.ports.internal))
    }

    pub fn instance(&self, service: &Service, name: &str) -> Result<Spec> {
        Ok(Spec {
            name: name.to_owned(),
            service: service.name.to_owned(),
            tier: Tier::Instance,
            program: programs::own(&service.program())?,
            args: Vec::new(),
            env: self.environment(service, name),
            folder: self.home.path().to_path_buf(),
            stop: Stop { signal: StopSignal::Terminate, seconds_max: INSTANCE_STOP_SECONDS_MAX },
        })
    }
}

/// The number in `users-2`.
pub fn number(instance: &str) -> u16 {
    instance.rsplit_once('-').and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}

/// The lowest numbers that are free, so that logs of a service stay few.
pub fn free_names(service: &Service, taken: &[String], count: u16) -> Vec<String> {
    (1..=u16::MAX)
        .map(|number| format!("{service}-{number}"))
        .filter(|name| !taken.contains(name))
        .take(count.into())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_instance_takes_the_lowest_free_number() {
        let taken = ["users-1".to_owned(), "users-3".to_owned()];
        assert_eq!(free_names(Service::named("users"), &taken, 2), ["users-2", "users-4"]);
        assert_eq!(number("users-14"), 14);
    }
}
