//! One stack: its state folder, settings, ports and secrets, and the specification of each service process.

use std::collections::BTreeMap;

use flack_catalogue::Service;
use flack_common::registry::WEIGHT_DEFAULT;
use flack_handover::protocol;
use flack_supervisor::{Environment, ProcessStatus, Spec, Stop, StopSignal};

use crate::builds::Build;
use crate::failure::Result;
use crate::home::Home;
use crate::infra::etcd;
use crate::ports::Ports;
use crate::registry::Registry;
use crate::runtime::Runtime;
use crate::secrets::Secrets;
use crate::settings::Settings;
use crate::supervisor::{self, inherited_environment, priority};

pub const WEIGHT_VARIABLE: &str = "FLACK_WEIGHT";

/// What an instance is started with.
#[derive(Debug, Clone)]
pub struct Launch {
    pub service: &'static Service,
    /// The instance's name, such as `users-2`.
    pub name: String,
    pub build: Build,
    /// Its share of the requests compared with other instances, 0 to 256.
    pub weight: u16,
    /// Variables besides those of the stack and of the build.
    pub env: BTreeMap<String, String>,
}

impl Launch {
    /// Returns the start of an instance with the weight and the variables that another one was started with.
    pub fn like(other: Option<&ProcessStatus>, service: &'static Service, name: String, build: Build) -> Self {
        let mut env = other.map(|other| other.own_env.0.clone()).unwrap_or_default();
        let weight = env.remove(WEIGHT_VARIABLE).and_then(|weight| weight.parse().ok()).unwrap_or(WEIGHT_DEFAULT);
        Self { service, name, build, weight, env }
    }
}

/// An instance needs at most 5 s until the balancer has drained it, and 10 s for requests in flight.
pub const INSTANCE_STOP_SECONDS_MAX: u64 = 20;

#[derive(Debug, Clone)]
pub struct Stack {
    pub home: Home,
    pub settings: Settings,
    pub ports: Ports,
    pub secrets: Secrets,
}

impl Stack {
    pub fn new(home: Home, settings: Settings) -> Result<Self> {
        let secrets = Secrets::load_or_create(&home)?;
        Ok(Self { ports: Ports::of(settings.port), home, settings, secrets })
    }

    /// Returns the stack of an existing state folder.
    pub fn open(home: &Home) -> Result<Self> {
        let none = || failure!(Unavailable, "there is no stack in {}. Create one with mfup.", home.path().display());
        let settings = Settings::load(home)?.ok_or_else(none)?;
        let secrets = Secrets::load(home)?.ok_or_else(none)?;
        Ok(Self { ports: Ports::of(settings.port), home: home.clone(), settings, secrets })
    }

    pub async fn registry(&self) -> Result<Registry> {
        Ok(Registry::connect(&self.home, &self.ports).await?)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.ports.public_address())
    }

    /// Returns the environment of an instance. The services' READMEs explain each variable.
    pub fn environment(&self, service: &Service, instance: &str) -> Environment {
        let account = self.secrets.account(service.name);
        let database = service.database;
        let postgres = self.ports.postgres_address(database);
        let etcd = etcd::client_environment(&self.home, &self.ports, service.name);
        let environment = etcd.into_iter().fold(inherited_environment(), |env, (name, value)| env.with(name, value));
        let keys = self.secrets.handover_keys_of(service).into_iter();
        let environment = keys.fold(environment, |env, (part, key)| env.with(&protocol::key_variable(part), key));
        environment
            .with("FLACK_INSTANCE", instance)
            .with("FLACK_LISTEN", format!("{}:0", self.ports.machine()))
            .with(
                "DATABASE_URL",
                format!("postgres://{database}:{}@{postgres}/{database}?sslmode=disable", account.postgres),
            )
            .with("NATS_URL", self.ports.nats_url())
            .with("NATS_USER", service.name)
            .with("NATS_PASSWORD", &account.nats)
            .with("INTERNAL_URL", format!("http://{}", self.ports.internal_address()))
    }

    /// Returns what an instance is started with by default: the version of the settings.
    pub async fn launch(&self, runtime: &Runtime, service: &'static Service, name: String) -> Result<Launch> {
        let build = runtime.build(&self.home, self.settings.version(service)).await?;
        Ok(Launch::like(None, service, name, build))
    }

    /// Returns the specification of an instance's process.
    pub fn instance(&self, launch: &Launch) -> Result<Spec> {
        let Launch { service, name, build, weight, env } = launch;
        let mut environment = self.environment(service, name);
        // In this order: an option is more specific than the build, and what identifies the instance is fixed.
        environment.0.extend(build.env.clone());
        let own_env = Environment(env.clone()).with(WEIGHT_VARIABLE, weight.to_string());
        environment.0.extend(own_env.0.clone());
        environment = environment.with("FLACK_VERSION", &build.version);
        if let Some(commit) = &build.commit {
            environment = environment.with("FLACK_COMMIT", commit);
        }
        let program = build.program(&self.home, service)?;
        Ok(Spec {
            group: service.name.to_owned(),
            version: Some(build.version.clone()),
            env: environment,
            own_env,
            stop: Stop { signal: StopSignal::Terminate, seconds_max: INSTANCE_STOP_SECONDS_MAX },
            ..supervisor::spec(name, priority::INSTANCE, program, self.home.path().to_path_buf())
        })
    }
}

/// Returns 2 for `users-2`.
pub fn number(instance: &str) -> u16 {
    instance.rsplit_once('-').and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}

/// Returns names with the lowest free numbers, so that a service does not get more and more log files.
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
    fn a_new_instance_gets_the_lowest_free_number() {
        let taken = ["users-1".to_owned(), "users-3".to_owned()];
        assert_eq!(free_names(Service::named("users"), &taken, 2), ["users-2", "users-4"]);
        assert_eq!(number("users-14"), 14);
    }
}
