//! The program `docker-compose`, or `docker compose`: it starts and stops the whole stack of a compose file.

use std::process::Stdio;

use tokio::process::Command;

use super::containers::Containers;
use crate::failure::Result;
use crate::home::repository;
use crate::infra::programs;
use crate::ports::STATS_OFFSET;
use crate::settings::{Settings, Stage};

const FILES_LABEL: &str = "com.docker.compose.project.config_files";
const FOLDER_LABEL: &str = "com.docker.compose.project.working_dir";

/// Returns the command of compose for the project of the environment, in the repository.
pub fn command() -> Result<Command> {
    let mut command = if programs::find("docker-compose").is_some() {
        Command::new("docker-compose")
    } else if programs::find("docker").is_some() {
        let mut docker = Command::new("docker");
        docker.arg("compose");
        docker
    } else {
        return Err(failure!(Unavailable, "docker-compose is missing. Install it: apt-get install docker-compose"));
    };
    command.current_dir(repository()).stdin(Stdio::null());
    Ok(command)
}

impl Containers {
    /// Returns the command of compose for this project, with the files and in the folder that it was started with.
    pub async fn compose(&self) -> Result<Command> {
        let mut command = command()?;
        let containers = self.all().await?;
        let label = |name: &str| containers.iter().find_map(|container| container.labels.get(name));
        if let Some(folder) = label(FOLDER_LABEL) {
            command.current_dir(folder);
        }
        command.args(["-p", &self.project]);
        for file in label(FILES_LABEL).map_or("", String::as_str).split(',').filter(|file| !file.is_empty()) {
            command.args(["-f", file]);
        }
        Ok(command)
    }

    /// Returns how many containers compose should run of each service, so that it removes none.
    pub async fn scales(&self) -> Result<Vec<String>> {
        let containers = self.all().await?;
        let mut scales = Vec::new();
        for service in &flack_catalogue::SERVICES {
            let count = containers.iter().filter(|container| container.service == service.name).count();
            if count > 1 {
                scales.push(format!("--scale={service}={count}"));
            }
        }
        Ok(scales)
    }
}

/// Sets the profiles of a stack: `monolith` is the stage, `services` has the containers of the parts, and `extras`
/// those of other services.
pub fn set_profiles(command: &mut Command, settings: &Settings) {
    let profiles = match settings.stage {
        Stage::Monolith if settings.instances.iter().next().is_none() => "monolith",
        Stage::Monolith => BESIDE,
        Stage::Services => "services",
    };
    let has_extras = settings.instances.iter().any(|(service, _)| !service.has_authority);
    command.env("COMPOSE_PROFILES", if has_extras { format!("{profiles},extras") } else { profiles.to_owned() });
}

/// The profiles of a stack whose parts move to services: it began as the monolith.
pub const BESIDE: &str = "monolith,services";

/// Sets the published ports.
pub fn set_port(command: &mut Command, port: u16) {
    command.env("FLACK_PORT", port.to_string()).env("FLACK_STATS_PORT", (port + STATS_OFFSET).to_string());
}

/// Runs compose. Its output is for people, so it goes to standard error.
pub async fn run(mut command: Command) -> Result<()> {
    let stderr = std::io::stderr();
    command.stdout(std::os::fd::AsFd::as_fd(&stderr).try_clone_to_owned().map_or_else(|_| Stdio::null(), Stdio::from));
    let status = command.status().await;
    let status = status.map_err(|error| failure!(Unavailable, "docker-compose cannot be run: {error}"))?;
    if status.success() {
        return Ok(());
    }
    Err(failure!(Internal, "docker-compose failed ({status}); its messages are above"))
}
