//! The containers of a compose project, through the Docker API.
//!
//! Reading order: this file (what runs, stop, kill, logs), `instances` (the start of an instance), `images` (versions),
//! `project` (addresses and credentials of the stack).

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum, ContainerSummary, EndpointSettings, NetworkConnectRequest,
    NetworkDisconnectRequest,
};
use bollard::query_parameters::{
    KillContainerOptionsBuilder, ListContainersOptionsBuilder, ListVolumesOptions, LogsOptionsBuilder,
    RemoveContainerOptionsBuilder,
};
use chrono::{DateTime, Utc};
use flack_catalogue::Service;
use flack_common::config::container;
use flack_supervisor::{Ended, Environment, ProcessStatus, State};
use futures::future::{join_all, try_join_all};
use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt as _, TryStreamExt as _};

use super::instances::endpoint_of;
use crate::failure::{Failure, Result};
use crate::stack::INSTANCE_STOP_SECONDS_MAX;

/// The project of `docker-compose`, as for itself.
pub(super) const PROJECT_VARIABLE: &str = "COMPOSE_PROJECT_NAME";
pub(super) const PROJECT_LABEL: &str = "com.docker.compose.project";
pub(super) const SERVICE_LABEL: &str = "com.docker.compose.service";
const VOLUME_LABEL: &str = "com.docker.compose.volume";
const ONE_OFF_LABEL: &str = "com.docker.compose.oneoff";
/// Every image of Flack has it, and so has every container of such an image.
const TITLE_LABEL: &str = "org.opencontainers.image.title=Flack";
pub(super) const VERSION_LABEL: &str = "org.opencontainers.image.version";
/// The variables that `mf` gave to one instance, as JSON. Its replacement gets them, too.
pub(super) const OWN_ENV_LABEL: &str = "flack.own-env";
/// The containers that end by themselves.
const STEPS: [&str; 2] = ["secrets", "accounts"];
/// The part of an id that is the host name of the container.
const SHORT_ID_CHARACTERS: usize = 12;
/// A container that ended this often without interruption will not run by itself.
const RESTARTS_MAX: i64 = 5;
/// The exit code of a container that SIGKILL has ended.
const KILLED: i64 = 137;

/// The running stack of one project.
#[derive(Debug, Clone)]
pub struct Containers {
    pub(super) docker: Docker,
    pub project: String,
    /// Addresses by host name, as they were listed last.
    addresses: Arc<Mutex<BTreeMap<String, Ipv4Addr>>>,
}

/// A container, and what it is in the stack.
#[derive(Debug, Clone)]
pub(super) struct Container {
    pub(super) id: String,
    /// Such as `flack_users_1`.
    pub(super) full_name: String,
    /// Such as `users-1`.
    pub(super) name: String,
    /// Of the compose file, such as `postgres-users`.
    pub(super) service: String,
    pub(super) labels: HashMap<String, String>,
    pub(super) summary: ContainerSummary,
}

impl Container {
    fn of(summary: ContainerSummary) -> Option<Self> {
        let labels = summary.labels.clone().unwrap_or_default();
        let full_name = summary.names.as_ref()?.first()?.trim_start_matches('/').to_owned();
        let service = labels.get(SERVICE_LABEL)?.clone();
        if labels.get(ONE_OFF_LABEL).is_some_and(|one_off| one_off == "True") {
            return None;
        }
        let instance = Service::find(&service).and_then(|service| container::instance(service.name, &full_name));
        let name = instance.unwrap_or_else(|| service.clone());
        Some(Self { id: summary.id.clone()?, full_name, name, service, labels, summary })
    }

    /// Returns what does the same: `users`, `postgres`, `etcd`.
    fn group(&self) -> &str {
        match self.service.split_once('-') {
            Some((group, _)) if Service::find(&self.service).is_none() => group,
            _ => &self.service,
        }
    }

    pub(super) fn is_step(&self) -> bool {
        STEPS.contains(&self.service.as_str())
    }

    pub(super) fn is_instance(&self) -> bool {
        Service::find(&self.service).is_some()
    }

    /// Whether it runs, is paused, or waits for its restart.
    pub(super) fn is_up(&self) -> bool {
        use bollard::models::ContainerSummaryStateEnum::{PAUSED, RESTARTING, RUNNING};
        matches!(self.summary.state, Some(RUNNING | PAUSED | RESTARTING))
    }

    /// Returns its address in each of its networks.
    pub(super) fn addresses(&self) -> impl Iterator<Item = (&str, Ipv4Addr)> {
        let networks = self.summary.network_settings.iter().filter_map(|settings| settings.networks.as_ref());
        networks
            .flatten()
            .filter_map(|(name, endpoint)| Some((name.as_str(), endpoint.ip_address.as_ref()?.parse().ok()?)))
    }

    fn status(&self, inspected: &ContainerInspectResponse) -> ProcessStatus {
        let state = inspected.state.clone().unwrap_or_default();
        let restarts = inspected.restart_count.unwrap_or(0);
        let is_restarting = state.status == Some(ContainerStateStatusEnum::RESTARTING);
        let own_env = self.labels.get(OWN_ENV_LABEL).and_then(|json| serde_json::from_str(json).ok());
        ProcessStatus {
            name: self.name.clone(),
            group: self.group().to_owned(),
            version: self.labels.get(VERSION_LABEL).filter(|_| self.is_instance()).cloned(),
            own_env: Environment(own_env.unwrap_or_default()),
            state: match (is_restarting, restarts) {
                (true, RESTARTS_MAX..) => State::CrashLooping,
                (true, _) => State::Restarting,
                (false, _) => State::Running,
            },
            pid: state.pid.filter(|pid| *pid > 0).and_then(|pid| pid.try_into().ok()),
            restarts: restarts.try_into().unwrap_or(u32::MAX),
            started: state.started_at.as_deref().and_then(time).unwrap_or_else(Utc::now),
            last_end: is_restarting.then(|| format!("ended with exit code {}", state.exit_code.unwrap_or(0))),
        }
    }
}

fn time(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc())
}

impl Containers {
    /// Returns the stack that runs; none if none does. Fails if no engine answers, or if several stacks run. With `all`
    /// it also returns one that is stopped, or whose data is still in volumes.
    pub async fn find(all: bool) -> Result<Option<Self>> {
        let docker = engine().await?;
        let filters = HashMap::from([("label", vec![TITLE_LABEL, PROJECT_LABEL])]);
        let options = ListContainersOptionsBuilder::default().all(all).filters(&filters).build();
        let listed = docker.list_containers(Some(options)).await.map_err(|error| failed("list containers", &error))?;
        let mut projects: Vec<String> = listed
            .into_iter()
            .filter_map(Container::of)
            .filter_map(|container| container.labels.get(PROJECT_LABEL).cloned())
            .collect();
        if all {
            projects.extend(projects_with_volumes(&docker).await?);
        }
        projects.sort_unstable();
        projects.dedup();
        let wanted = project_from_environment();
        projects.retain(|project| wanted.as_ref().is_none_or(|wanted| wanted == project));
        match projects.as_slice() {
            [] => Ok(None),
            [project] => Ok(Some(Self::of(docker, project.clone()))),
            several => Err(failure!(
                Usage,
                "there are several stacks in containers: {}. Name one: {PROJECT_VARIABLE}={}",
                several.join(", "),
                several[0]
            )),
        }
    }

    fn of(docker: Docker, project: String) -> Self {
        Self { docker, project, addresses: Arc::default() }
    }

    /// Returns all containers of the project, also those that do not run.
    pub(super) async fn all(&self) -> Result<Vec<Container>> {
        let filters = HashMap::from([("label", vec![format!("{PROJECT_LABEL}={}", self.project)])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let listed = self.docker.list_containers(Some(options)).await;
        let listed = listed.map_err(|error| failed("list containers", &error))?;
        let containers: Vec<Container> = listed.into_iter().filter_map(Container::of).collect();
        let network = shared_network(&containers);
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.clear();
        for container in containers.iter().filter(|container| container.is_up()) {
            if let Some(address) = address_in(container, network.as_deref()) {
                addresses.insert(container.id.chars().take(SHORT_ID_CHARACTERS).collect(), address);
            }
        }
        drop(addresses);
        Ok(containers)
    }

    /// Returns the containers that run, as processes.
    pub async fn list(&self) -> Result<Vec<ProcessStatus>> {
        let mut containers = self.all().await?;
        containers.retain(|container| container.is_up() && !container.is_step());
        let statuses = containers.iter().map(|container| async move {
            match self.inspect(&container.id).await {
                Ok(inspected) => Ok(Some(container.status(&inspected))),
                // It was removed after it was listed.
                Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
                Err(error) => Err(failed("inspect a container", &error)),
            }
        });
        let mut statuses: Vec<ProcessStatus> = try_join_all(statuses).await?.into_iter().flatten().collect();
        statuses.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(statuses)
    }

    pub(super) async fn inspect(&self, id: &str) -> std::result::Result<ContainerInspectResponse, Error> {
        self.docker.inspect_container(id, None).await
    }

    /// Returns the address of an instance that this machine reaches, for one that other containers resolve.
    pub fn address(&self, registered: &str) -> String {
        let Some((host, port)) = registered.rsplit_once(':') else { return registered.to_owned() };
        let addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.get(host).map_or_else(|| registered.to_owned(), |address| format!("{address}:{port}"))
    }

    pub(super) async fn named(&self, name: &str) -> Result<Container> {
        let found = self.all().await?.into_iter().find(|container| container.name == name && !container.is_step());
        found.ok_or_else(|| failure!(Usage, "there is no container of {name} in the project {}", self.project))
    }

    /// Stops containers. Those of instances are removed, except the last one of a service: another instance is made
    /// after its example.
    pub async fn stop(&self, names: Vec<String>, mut ended: impl FnMut(Ended)) -> Result<()> {
        let containers = self.all().await?;
        let stops: FuturesUnordered<_> = containers
            .iter()
            .filter(|container| names.contains(&container.name) && !container.is_step())
            .map(|container| async move { (container, self.stop_one(container).await) })
            .collect();
        let mut stops = std::pin::pin!(stops);
        let mut left = containers.clone();
        while let Some((container, end)) = stops.next().await {
            ended(end?);
            self.remove_unless_last(container, &mut left).await?;
        }
        Ok(())
    }

    /// Removes the container of an instance that has ended, unless it is the last one of its service.
    async fn remove_unless_last(&self, container: &Container, left: &mut Vec<Container>) -> Result<()> {
        let others = left.iter().filter(|other| other.service == container.service && other.id != container.id);
        if container.is_instance() && others.count() > 0 {
            self.remove(&container.id).await?;
            left.retain(|other| other.id != container.id);
        }
        Ok(())
    }

    async fn stop_one(&self, container: &Container) -> Result<Ended> {
        let name = container.name.clone();
        let stopped = self.docker.stop_container(&container.id, None).await;
        stopped.map_err(|error| failed(&format!("stop {name}"), &error))?;
        let inspected = self.inspect(&container.id).await;
        let inspected = inspected.map_err(|error| failed(&format!("inspect {name}"), &error))?;
        let code = inspected.state.and_then(|state| state.exit_code).unwrap_or(0);
        let seconds = inspected.config.and_then(|config| config.stop_timeout);
        let seconds = seconds.unwrap_or(INSTANCE_STOP_SECONDS_MAX.cast_signed());
        let (outcome, forced) = match code {
            0 => ("stopped".to_owned(), false),
            KILLED => (format!("killed: it had not ended after {seconds} s"), true),
            code => (format!("ended with exit code {code}"), false),
        };
        Ok(Ended { name, outcome, forced })
    }

    pub(super) async fn remove(&self, id: &str) -> Result<()> {
        let options = RemoveContainerOptionsBuilder::default().force(true).build();
        let removed = self.docker.remove_container(id, Some(options)).await;
        removed.map_err(|error| failed("remove a container", &error))
    }

    /// Kills a container. Docker does not restart one that was killed by its API, so this starts it again.
    pub async fn kill(&self, name: &str, restart: bool) -> Result<Option<i32>> {
        let container = self.named(name).await?;
        let inspected = self.inspect(&container.id).await;
        let state = inspected.map_err(|error| failed(&format!("inspect {name}"), &error))?.state.unwrap_or_default();
        let pid = state.pid.filter(|pid| *pid > 0).and_then(|pid| pid.try_into().ok());
        if state.running == Some(true) {
            let options = KillContainerOptionsBuilder::default().signal("SIGKILL").build();
            let killed = self.docker.kill_container(&container.id, Some(options)).await;
            killed.map_err(|error| failed(&format!("kill {name}"), &error))?;
            // Docker reports the end of the container when it has been cleaned up.
            let mut ends = std::pin::pin!(self.docker.wait_container(&container.id, None));
            // The exit code of a killed container is an error here.
            let _ = ends.next().await;
        }
        if restart {
            let started = self.docker.start_container(&container.id, None).await;
            started.map_err(|error| failed(&format!("start {name} again"), &error))?;
        } else {
            self.remove_unless_last(&container, &mut self.all().await?).await?;
        }
        Ok(pid)
    }

    /// Pauses or continues a container: its processes do not run, and its connections stay.
    pub async fn pause(&self, name: &str, paused: bool) -> Result<()> {
        let container = self.named(name).await?;
        let changed = if paused {
            self.docker.pause_container(&container.id).await
        } else {
            self.docker.unpause_container(&container.id).await
        };
        changed.map_err(|error| failed(&format!("pause or continue {name}"), &error))
    }

    /// Disconnects a container from the network of its database, or from that of all others. No connection ends: the
    /// packets do not arrive. Returns what connects it again.
    pub async fn disconnect(&self, name: &str, from_database: bool) -> Result<(String, EndpointSettings)> {
        let containers = self.all().await?;
        let shared = shared_network(&containers);
        let container = self.named(name).await?;
        let inspected = self.inspect(&container.id).await;
        let inspected = inspected.map_err(|error| failed(&format!("inspect {name}"), &error))?;
        let networks = inspected.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        let found = networks.into_iter().find(|(network, _)| (shared.as_ref() == Some(network)) != from_database);
        let (network, endpoint) = found.ok_or_else(|| failure!(Internal, "{name} is not in such a network"))?;
        let request = NetworkDisconnectRequest { container: container.id.clone(), force: Some(true) };
        let disconnected = self.docker.disconnect_network(&network, request).await;
        disconnected.map_err(|error| failed(&format!("disconnect {name} from {network}"), &error))?;
        Ok((network, endpoint_of(&endpoint, &container.id)))
    }

    pub async fn connect(&self, name: &str, (network, endpoint): (String, EndpointSettings)) -> Result<()> {
        let container = self.named(name).await?.id;
        let request = NetworkConnectRequest { container, endpoint_config: Some(endpoint) };
        let connected = self.docker.connect_network(&network, request).await;
        connected.map_err(|error| failed(&format!("connect {name} to {network}"), &error))
    }

    /// Returns the names of all containers of the project that have a log.
    pub async fn with_logs(&self) -> Result<Vec<String>> {
        let mut names: Vec<String> = self.all().await?.into_iter().map(|container| container.name).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Returns the last lines of a log.
    pub async fn last_lines(&self, name: &str, count: usize) -> Result<Vec<String>> {
        self.lines(name, Some(count), false, None).await?.try_collect().await
    }

    /// Returns the lines of a log, from the oldest one on or from a time on; with `follow` also those that are added.
    pub async fn lines(
        &self,
        name: &str,
        tail: Option<usize>,
        follow: bool,
        since: Option<DateTime<Utc>>,
    ) -> Result<impl Stream<Item = Result<String>> + use<>> {
        let found = self.all().await?.into_iter().find(|container| container.name == name);
        let id = found.ok_or_else(|| failure!(Usage, "there is no container of {name}"))?.id;
        let tail = tail.map_or_else(|| "all".to_owned(), |count| count.to_string());
        let since = since.map_or(0, |since| i32::try_from(since.timestamp()).unwrap_or(0));
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).follow(follow).tail(&tail).since(since);
        let docker = self.docker.clone();
        let name = name.to_owned();
        let outputs = docker.logs(&id, Some(options.build()));
        Ok(outputs.map(move |output| match output {
            // Docker sends one line at a time; longer ones than 16 KiB in several parts.
            Ok(output) => Ok(text(&output)),
            Err(error) => Err(failed(&format!("read the log of {name}"), &error)),
        }))
    }

    /// Returns the containers that do not run although Docker should restart them, or whose health check fails.
    pub async fn problems(&self) -> Result<Vec<String>> {
        let containers = self.all().await?;
        let inspected = join_all(containers.iter().map(|container| self.inspect(&container.id))).await;
        let mut problems = Vec::new();
        for (container, inspected) in containers.iter().zip(inspected) {
            let state = inspected.ok().and_then(|inspected| inspected.state).unwrap_or_default();
            problems.extend(problem(container, &state));
        }
        Ok(problems)
    }

    /// Returns the other projects whose data is in volumes, and that have no container.
    pub async fn projects_without_container(&self) -> Result<Vec<String>> {
        let options = ListContainersOptionsBuilder::default().all(true).build();
        let containers = self.docker.list_containers(Some(options)).await;
        let containers = containers.map_err(|error| failed("list containers", &error))?;
        let labels = containers.iter().filter_map(|container| container.labels.as_ref());
        let with_container: Vec<&String> = labels.filter_map(|labels| labels.get(PROJECT_LABEL)).collect();
        let mut projects = projects_with_volumes(&self.docker).await?;
        projects.retain(|project| !with_container.contains(&project));
        projects.sort_unstable();
        projects.dedup();
        Ok(projects)
    }
}

/// Returns the projects that have volumes of PostgreSQL, as `docker-compose.yml` names them.
async fn projects_with_volumes(docker: &Docker) -> Result<Vec<String>> {
    let listed =
        docker.list_volumes(None::<ListVolumesOptions>).await.map_err(|error| failed("list volumes", &error))?;
    let is_of_flack =
        |labels: &HashMap<String, String>| labels.get(VOLUME_LABEL).is_some_and(|name| name == "postgres-flack");
    let volumes = listed.volumes.unwrap_or_default().into_iter().filter(|volume| is_of_flack(&volume.labels));
    Ok(volumes.filter_map(|volume| volume.labels.get(PROJECT_LABEL).cloned()).collect())
}

fn problem(container: &Container, state: &bollard::models::ContainerState) -> Option<String> {
    use bollard::models::ContainerStateStatusEnum as Status;
    use bollard::models::HealthStatusEnum::UNHEALTHY;
    let (name, id) = (&container.name, &container.full_name);
    let code = state.exit_code.unwrap_or(0);
    match state.status {
        Some(Status::RESTARTING) => {
            Some(format!("{name} is restarting: it ended with exit code {code}. See why: mflogs {name}"))
        }
        Some(Status::PAUSED) => Some(format!("{name} is paused. Continue it: docker unpause {id}")),
        Some(Status::EXITED | Status::DEAD) if container.is_step() && code != 0 => {
            Some(format!("the step {name} failed with exit code {code}. See why: mflogs {name}"))
        }
        Some(Status::EXITED | Status::DEAD) if !container.is_step() && code != 0 => Some(format!(
            "{name} has ended with exit code {code} and is not restarted. See why: mflogs {name}. Start it: \
             docker start {id}"
        )),
        Some(Status::RUNNING) if state.health.as_ref().and_then(|health| health.status) == Some(UNHEALTHY) => {
            Some(format!("the health check of {name} fails. See why: docker inspect {id}, mflogs {name}"))
        }
        _ => None,
    }
}

/// Connects to the engine of `DOCKER_HOST`, by default that of this machine.
pub(super) async fn engine() -> Result<Docker> {
    let unavailable = |error: Error| {
        failure!(Unavailable, "no Docker engine answers: {error}. Start it, or set DOCKER_HOST to another one")
    };
    let docker = Docker::connect_with_defaults().map_err(unavailable)?;
    // An older engine refuses a newer version of its API.
    docker.negotiate_version().await.map_err(unavailable)
}

pub(super) fn project_from_environment() -> Option<String> {
    std::env::var_os(PROJECT_VARIABLE)?.into_string().ok().filter(|project| !project.is_empty())
}

/// Returns the network that HAProxy and the instances share.
fn shared_network(containers: &[Container]) -> Option<String> {
    let haproxy = containers.iter().find(|container| container.group() == "haproxy" && container.is_up())?;
    haproxy.addresses().next().map(|(network, _)| network.to_owned())
}

/// Returns the address of a container in a network, or in another one: a database is in that of its owner only.
pub(super) fn address_in(container: &Container, network: Option<&str>) -> Option<Ipv4Addr> {
    let shared = container.addresses().find(|(name, _)| network == Some(*name));
    shared.or_else(|| container.addresses().next()).map(|(_, address)| address)
}

fn text(output: &LogOutput) -> String {
    String::from_utf8_lossy(output.as_ref()).trim_end_matches(['\r', '\n']).to_owned()
}

pub(super) fn failed(what: &str, error: &Error) -> Failure {
    match error {
        Error::DockerResponseServerError { message, .. } => failure!(Internal, "Docker cannot {what}: {message}"),
        error => failure!(Unavailable, "Docker cannot {what}: {error}"),
    }
}
