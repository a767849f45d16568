//! `mf container`: what a stack in containers needs besides the servers themselves. `docker-compose.yml` runs it; it is
//! not for people.
//!
//! Each container has one volume, with the folder `secrets`, which `mf container secrets` writes, and with its data. A
//! container sees no other volume.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flack_catalogue::{SERVICES, Service};
use serde_json::json;

use crate::failure::{Failure, Result};
use crate::home::{self, Home};
use crate::infra::{etcd, nats, postgres};
use crate::output::print_json;
use crate::ports::{External, Ports};
use crate::probe;
use crate::registry::Registry;
use crate::secrets::{AGENT, Secrets};
use crate::services;
use crate::settings::Stage;

/// Where every container has its volume, unless `MF_HOME` is set.
pub const VOLUME: &str = "/var/lib/flack";
/// As in `deploy/kubernetes`.
const NAMESPACE: &str = "flack";
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
        /// Write them into the state folder, and print them as Secrets of Kubernetes
        #[arg(long, conflicts_with = "volumes")]
        kubernetes: bool,
        #[command(flatten)]
        copies: Copies,
    },
    /// Make the accounts and the first entries of etcd, and the streams of NATS
    Accounts {
        /// The profiles of docker-compose: with `monolith` the monolith owns everything at first
        #[arg(long, default_value = "services")]
        profiles: String,
        #[command(flatten)]
        stores: Stores,
    },
    /// Make streams again that NATS has lost
    Streams(Stores),
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

/// Engines that somebody else runs, or that are clusters. The variables are those of the services.
#[derive(Debug, clap::Args)]
struct Stores {
    /// The URLs of etcd's members, separated by commas
    #[arg(long, env = "ETCD_URL")]
    etcd: Option<String>,
    /// The URLs of NATS's servers, separated by commas
    #[arg(long, env = "NATS_URL")]
    nats: Option<String>,
    /// The certificate of the CA of NATS; NATS must use TLS then
    #[arg(long, env = "NATS_CA_FILE")]
    nats_ca: Option<PathBuf>,
    /// The number of NATS's servers that store each stream
    #[arg(long, env = "NATS_STREAM_REPLICAS", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=5))]
    replicas: u8,
}

impl Stores {
    fn ports(self) -> Ports {
        // Once in a process.
        Ports::in_containers().with_external(External {
            etcd: self.etcd.map(|urls| &*urls.leak()),
            nats: self.nats.map(|urls| &*urls.leak()),
            nats_ca: self.nats_ca.map(|file| &*file.leak()),
        })
    }
}

/// How many containers of a kind there are: `etcd`, `etcd-2` and `etcd-3` are three.
#[derive(Debug, Clone, Copy, clap::Args)]
struct Copies {
    /// Members of the cluster of etcd
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=3))]
    etcd: u8,
    /// Servers of the cluster of NATS
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=5))]
    nats: u8,
    /// Balancers, each of HAProxy and its agent
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=9))]
    haproxy: u8,
}

pub async fn run(args: Args) -> Result<()> {
    let ports = Ports::in_containers();
    match args.step {
        Step::Secrets { kubernetes: true, copies, .. } => print_secrets(&mut home()?, &ports, copies),
        Step::Secrets { volumes, copies, .. } => {
            write_secrets(&mut home()?, &ports, &volumes, copies)?;
            print_line!("the secrets of all containers are written");
            Ok(())
        }
        Step::Accounts { profiles, stores } => make_accounts(stores, stage(&profiles)?).await,
        Step::Streams(stores) => {
            flack_common::telemetry::init("streams");
            let replicas = stores.replicas;
            let Err(error) = nats::keep(&stores.ports(), &secrets(&home()?)?, replicas.into()).await;
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
    match profiles.iter().find(|profile| !["monolith", "services", "extras"].contains(profile)) {
        Some(profile) => {
            Err(failure!(Usage, "there is no profile `{profile}`; profiles are monolith, services, extras"))
        }
        None if profiles.contains(&"monolith") => Ok(Stage::Monolith),
        None => Ok(Stage::Services),
    }
}

fn write_secrets(home: &mut Home, ports: &Ports, volumes: &Path, copies: Copies) -> Result<()> {
    home.create()?;
    let secrets = Secrets::load_or_create(home)?;
    etcd::issue_certificates(home)?;

    let folder = |container: &str| create_folder(&volumes.join(container).join("secrets"));
    for etcd in names("etcd", copies.etcd) {
        copy(&etcd::server_files(home), &folder(&etcd)?)?;
    }
    for haproxy in names("haproxy", copies.haproxy) {
        copy(&etcd::client_files(home, AGENT), &folder(&haproxy)?)?;
        // The working directory of HAProxy and its agent; the other servers create their data folders themselves.
        create_folder(&volumes.join(haproxy).join("data"))?;
    }
    let (store, servers) = (Path::new(VOLUME).join("data"), names("nats", copies.nats));
    for server in &servers {
        let configuration = nats::configuration_in_container(ports, &store, &secrets, server, &servers);
        home::write_private(&folder(server)?.join("nats.conf"), &configuration)?;
    }
    for service in &SERVICES {
        let (own, database) = (folder(service.name)?, service.database);
        let account = secrets.account(service.name);
        copy(&etcd::client_files(home, service.name), &own)?;
        home::write_private(&own.join("nats-password"), &account.nats)?;
        for (part, key) in secrets.handover_keys_of(service) {
            home::write_private(&own.join(format!("handover-key-{part}")), key)?;
        }
        let (password, host) = (&account.postgres, postgres_host(service));
        let url = format!("postgres://{database}:{password}@{host}:{}/{database}?sslmode=disable", ports.postgres);
        home::write_private(&own.join("database-url"), &url)?;
        let of_database = folder(&host)?;
        home::write_json(&of_database.join("stack.json"), &secrets.of_database(service.name))?;
        // For a server that makes its database by itself (docker-compose.upstream.yml).
        home::write_private(&of_database.join("password"), password)?;
    }
    Ok(())
}

/// Returns the names of the containers of a kind.
fn names(kind: &str, copies: u8) -> Vec<String> {
    (1..=copies).map(|number| if number == 1 { kind.to_owned() } else { format!("{kind}-{number}") }).collect()
}

/// Prints the secrets of every container as a Secret with its name, and those of the operator as `stack`.
fn print_secrets(home: &mut Home, ports: &Ports, copies: Copies) -> Result<()> {
    let volumes = home.path().join("containers");
    write_secrets(home, ports, &volumes, copies)?;
    let stack = [("stack.json", home.secrets())].into_iter().chain(etcd::operator_files(home));
    let mut secrets = vec![secret("stack", stack)?];
    let unreadable = |error| failure!(CannotWrite, "{} cannot be read: {error}", volumes.display());
    for container in fs::read_dir(&volumes).map_err(unreadable)? {
        let container = container.map_err(unreadable)?;
        let files = fs::read_dir(container.path().join("secrets")).map_err(unreadable)?;
        let files: Vec<_> = files.filter_map(|file| Some(file.ok()?.path())).collect();
        let files = files.iter().filter_map(|file| Some((file.file_name()?.to_str()?, file.clone())));
        secrets.push(secret(&container.file_name().to_string_lossy(), files)?);
    }
    secrets.sort_by_key(|secret| secret["metadata"]["name"].to_string());
    print_json(&json!({"apiVersion": "v1", "kind": "List", "items": secrets}));
    Ok(())
}

fn secret<'name>(name: &str, files: impl Iterator<Item = (&'name str, PathBuf)>) -> Result<serde_json::Value> {
    let texts: Result<BTreeMap<_, _>> = files.map(|(name, file)| Ok((name, read(&file)?))).collect();
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "stringData": texts?,
    }))
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).map_err(|error| failure!(CannotWrite, "{} cannot be read: {error}", file.display()))
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
        home::write_private(&folder.join(name), &read(file)?)?;
    }
    Ok(())
}

async fn make_accounts(stores: Stores, stage: Stage) -> Result<()> {
    let (home, replicas) = (home()?, stores.replicas);
    let ports = &stores.ports();
    let secrets = secrets(&home)?;
    wait_for("etcd", async || etcd::ready(&home, ports).await).await?;
    etcd::set_up(&home, ports).await?;
    Registry::connect(&home, ports).await?.seed(stage).await?;
    // A cluster makes streams when its servers have found each other.
    let make_streams = async || nats::set_up(ports, &secrets, replicas.into()).await;
    wait_for("nats", async || make_streams().await.map_err(|error| format!("{error:#}"))).await?;
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
    fn a_stack_with_the_profile_monolith_begins_as_the_monolith_also_beside_services() {
        assert_eq!(stage("monolith").expect("a stage"), Stage::Monolith);
        assert_eq!(stage("services").expect("a stage"), Stage::Services);
        assert_eq!(stage("services, monolith").expect("a stage"), Stage::Monolith);
        assert_eq!(stage("services,extras").expect("a stage"), Stage::Services);
        assert!(stage("service").expect_err("a typo").message.contains("`service`"));
    }

    #[test]
    fn a_container_gets_its_own_secrets_and_keeps_them() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut home = Home::at(&folder.path().join("secrets")).expect("a home");
        let volumes = folder.path().join("volumes");
        let copies = Copies { etcd: 1, nats: 1, haproxy: 1 };
        let ports = Ports::in_containers();
        let mut write = || write_secrets(&mut home, &ports, &volumes, copies).expect("written secrets");
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
