//! `mf container`: what a stack in containers needs besides the servers themselves. `docker-compose.yml` runs it; it is
//! not for people.
//!
//! Each container has one volume, with the folder `secrets`, which `mf container secrets` writes, and with its data. A
//! container sees no other volume.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flack_catalogue::{SERVICES, Service};

use crate::failure::{Failure, Result};
use crate::home::{self, Home};
use crate::infra::{etcd, nats, postgres};
use crate::ports::Ports;
use crate::probe;
use crate::registry::Registry;
use crate::secrets::{AGENT, Secrets};
use crate::services;
use crate::settings::Stage;

/// Where every container has its volume, unless `MF_HOME` is set.
pub const VOLUME: &str = "/var/lib/flack";
/// etcd and NATS start at the same time as the command that waits for them.
const STORES_TIMEOUT: Duration = Duration::from_mins(1);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    step: Step,
}

#[derive(Debug, clap::Subcommand)]
enum Step {
    /// Write the secrets of every container into its volume; they are made once
    Secrets {
        /// The folder in which the volumes of all containers are mounted
        #[arg(long, default_value = "/volumes")]
        volumes: PathBuf,
    },
    /// Make the accounts and the first entries of etcd, and the streams of NATS
    Accounts {
        /// The profiles of docker-compose: without `services` the monolith owns everything
        #[arg(long, default_value = "services")]
        profiles: String,
    },
    /// Make streams again that NATS has lost
    Streams,
    /// Make the database of a service, then become its PostgreSQL
    Postgres {
        #[arg(value_parser = services::argument())]
        service: &'static Service,
    },
    /// Send a GET request, and fail unless the status is 200: the health check of a container
    Check {
        /// Such as 127.0.0.1:8404/health
        address: String,
    },
}

pub async fn run(args: Args) -> Result<()> {
    let ports = Ports::in_containers();
    match args.step {
        Step::Secrets { volumes } => write_secrets(&mut home()?, &ports, &volumes),
        Step::Accounts { profiles } => make_accounts(&ports, stage(&profiles)?).await,
        Step::Streams => {
            flack_common::telemetry::init("streams");
            let Err(error) = nats::keep(&ports, &secrets(&home()?)?).await;
            Err(error.into())
        }
        Step::Postgres { service } => {
            let home = home()?;
            Box::pin(postgres::serve_in_container(&home, &ports, &secrets(&home)?, service)).await
        }
        Step::Check { address } => check(&address).await,
    }
}

fn home() -> Result<Home> {
    match std::env::var_os("MF_HOME") {
        Some(path) if !path.is_empty() => Home::at(Path::new(&path)),
        _ => Home::at(Path::new(VOLUME)),
    }
}

/// Returns the secrets in this container's volume.
fn secrets(home: &Home) -> Result<Secrets> {
    let missing = || failure!(Unavailable, "{} is missing. Start the container `secrets`", home.secrets().display());
    Secrets::load(home)?.ok_or_else(missing)
}

/// Returns the stage of a stack with these profiles of `docker-compose.yml`.
pub fn stage(profiles: &str) -> Result<Stage> {
    let profiles: Vec<&str> = profiles.split(',').map(str::trim).filter(|profile| !profile.is_empty()).collect();
    match profiles.iter().find(|profile| !["monolith", "services"].contains(profile)) {
        Some(profile) => Err(failure!(Usage, "there is no profile `{profile}`; profiles are monolith, services")),
        None if profiles == ["monolith"] => Ok(Stage::Monolith),
        None => Ok(Stage::Services),
    }
}

fn write_secrets(home: &mut Home, ports: &Ports, volumes: &Path) -> Result<()> {
    home.create()?;
    let secrets = Secrets::load_or_create(home)?;
    etcd::issue_certificates(home)?;

    let folder = |container: &str| create_folder(&volumes.join(container).join("secrets"));
    copy(&etcd::server_files(home), &folder("etcd")?)?;
    copy(&etcd::client_files(home, AGENT), &folder("haproxy")?)?;
    // The working directory of HAProxy and its agent; the other servers create their data folders themselves.
    create_folder(&volumes.join("haproxy/data"))?;
    let store = Path::new(VOLUME).join("data");
    let configuration = nats::configuration_in_container(ports, &store, &secrets);
    home::write_private(&folder("nats")?.join("nats.conf"), &configuration)?;
    for service in &SERVICES {
        let (own, database) = (folder(service.name)?, service.database);
        let account = secrets.account(service.name);
        copy(&etcd::client_files(home, service.name), &own)?;
        home::write_private(&own.join("nats-password"), &account.nats)?;
        let (password, host) = (&account.postgres, postgres_host(service));
        let url = format!("postgres://{database}:{password}@{host}:{}/{database}?sslmode=disable", ports.postgres);
        home::write_private(&own.join("database-url"), &url)?;
        home::write_json(&folder(&host)?.join("stack.json"), &secrets.of_database(service.name))?;
    }
    print_line!("the secrets of all containers are written");
    Ok(())
}

fn create_folder(folder: &Path) -> Result<PathBuf> {
    let created = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    created.map_err(Failure::cannot_write(folder)).map(|()| folder.to_owned())
}

/// Returns the name of the container with a service's database.
fn postgres_host(service: &Service) -> String {
    format!("postgres-{}", service.database)
}

fn copy(files: &[(&str, PathBuf)], folder: &Path) -> Result<()> {
    for (name, file) in files {
        let text = fs::read_to_string(file)
            .map_err(|error| failure!(CannotWrite, "{} cannot be read: {error}", file.display()))?;
        home::write_private(&folder.join(name), &text)?;
    }
    Ok(())
}

async fn make_accounts(ports: &Ports, stage: Stage) -> Result<()> {
    let home = home()?;
    let secrets = secrets(&home)?;
    wait_for("etcd", async || etcd::ready(&home, ports).await).await?;
    etcd::set_up(&home, ports).await?;
    Registry::connect(&home, ports).await?.seed(stage).await?;
    wait_for("nats", async || nats::connect(ports, &secrets).await.map(drop).map_err(|error| error.to_string()))
        .await?;
    nats::set_up(ports, &secrets).await?;
    print_line!("the accounts and streams are made, and the registry has its first entries (stage {stage})");
    Ok(())
}

async fn wait_for(store: &str, mut check: impl AsyncFnMut() -> std::result::Result<(), String>) -> Result<()> {
    let began = Instant::now();
    loop {
        let Err(problem) = check().await else { return Ok(()) };
        if began.elapsed() > STORES_TIMEOUT {
            let seconds = STORES_TIMEOUT.as_secs();
            return Err(failure!(
                Unavailable,
                "{store} is not ready after {seconds} s: {problem}. See its log: docker-compose logs {store}"
            ));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

async fn check(address: &str) -> Result<()> {
    let (address, path) = address.split_at(address.find('/').unwrap_or(address.len()));
    let path = if path.is_empty() { "/" } else { path };
    match probe::get(address, path).await {
        Some(response) if response.status == 200 => Ok(()),
        Some(response) => {
            Err(failure!(Unavailable, "{address}{path} returns {}: {}", response.status, response.body.trim()))
        }
        None => Err(failure!(Unavailable, "{address}{path} does not respond")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_profile_with_services_is_the_stage_services() {
        assert_eq!(stage("monolith").expect("a stage"), Stage::Monolith);
        assert_eq!(stage("services").expect("a stage"), Stage::Services);
        assert_eq!(stage("services, monolith").expect("a stage"), Stage::Services);
        assert!(stage("service").expect_err("a typo").message.contains("`service`"));
    }

    #[test]
    fn a_container_gets_its_own_secrets_and_keeps_them() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut home = Home::at(&folder.path().join("secrets")).expect("a home");
        let volumes = folder.path().join("volumes");
        let mut write = || write_secrets(&mut home, &Ports::in_containers(), &volumes).expect("written secrets");
        let read = |path: &str| fs::read_to_string(volumes.join(path)).expect(path);
        write();
        let (url, password) = (read("users/secrets/database-url"), read("users/secrets/nats-password"));
        write();
        assert_eq!((read("users/secrets/database-url"), read("users/secrets/nats-password")), (url.clone(), password));

        let own = url.split([':', '@']).nth(2).expect("a password");
        for entry in fs::read_dir(&volumes).expect("volumes") {
            let secrets = entry.expect("a volume").path().join("secrets");
            for file in fs::read_dir(&secrets).expect("secrets") {
                let file = file.expect("a file").path();
                assert_eq!(file.metadata().expect("a file").mode() & 0o777, 0o600, "{}", file.display());
                let of_users = ["users/secrets", "postgres-users/secrets"].map(|folder| volumes.join(folder));
                let is_of_users = of_users.contains(&secrets);
                let has_password = fs::read_to_string(&file).expect("a text").contains(own);
                assert!(is_of_users || !has_password, "{} has the password of users", file.display());
            }
        }
    }
}
