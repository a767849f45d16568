//! The start of an instance as a container. It is made after the example of another container of its service, as
//! compose has made it, so that `docker-compose ps` and `docker-compose down` treat it as one of their own.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{
    ContainerConfig, ContainerCreateBody, EndpointSettings, ImageConfig, NetworkConnectRequest, NetworkingConfig,
};
use bollard::query_parameters::CreateContainerOptionsBuilder;
use serde_json::json;

use super::containers::{Container, Containers, OWN_ENV_LABEL, failed};
use crate::failure::Result;
use crate::stack::{Launch, WEIGHT_VARIABLE, number};

const NUMBER_LABEL: &str = "com.docker.compose.container-number";
const INSTANCE_VARIABLE: &str = "FLACK_INSTANCE";

impl Containers {
    /// Starts an instance. With a script the shell runs it, with the command of the instance as its arguments.
    pub async fn start(&self, launch: &Launch, script: Option<&str>) -> Result<()> {
        let Launch { service, name, build, .. } = launch;
        let containers = self.all().await?;
        let mut siblings: Vec<&Container> =
            containers.iter().filter(|container| container.service == service.name).collect();
        siblings.sort_by_key(|sibling| (!sibling.is_up(), number(&sibling.name)));
        let Some(sibling) = siblings.first() else {
            return Err(failure!(
                Unavailable,
                "the project {} has no container of {service}, after whose example another one could be made. Make \
                 one: mfup --runtime docker",
                self.project
            ));
        };
        let cannot = |error| failed(&format!("start {name}"), &error);
        let example = self.inspect(&sibling.id).await.map_err(cannot)?;
        let config = example.config.unwrap_or_default();
        let image = self.image_of(build).await?;
        let of_image = self.image_config(example.image.as_deref().unwrap_or_default()).await?;
        let networks = example.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        let mut endpoints: BTreeMap<String, EndpointSettings> =
            networks.into_iter().map(|(network, endpoint)| (network, endpoint_of(&endpoint, &sibling.id))).collect();
        let host = example.host_config.unwrap_or_default();
        // An engine before 25 connects a new container to one network only.
        let first = host.network_mode.clone().unwrap_or_default();
        let first = endpoints.remove_entry(&first);

        let mut body: ContainerCreateBody = serde_json::to_value(config_of(&config, &of_image, launch))
            .and_then(serde_json::from_value)
            .map_err(|error| failure!(Internal, "the container of {} cannot be copied: {error}", sibling.name))?;
        body.image = Some(image);
        body.host_config = Some(host);
        body.networking_config = Some(NetworkingConfig { endpoints_config: Some(first.into_iter().collect()) });
        if let Some(script) = script {
            let own = body.cmd.take().unwrap_or_default();
            let shell = ["/bin/sh", "-c", script].map(str::to_owned);
            body.cmd = Some(shell.into_iter().chain(own).collect());
        }
        for old in siblings.iter().filter(|sibling| sibling.name == *name) {
            if old.is_up() {
                return Err(failure!(Contradiction, "{name} runs already"));
            }
            self.remove(&old.id).await?;
        }
        let container = container_name(sibling, name);
        let options = CreateContainerOptionsBuilder::default().name(&container).build();
        let id = self.docker.create_container(Some(options), body).await.map_err(cannot)?.id;
        let started = async {
            for (network, endpoint) in endpoints {
                let request = NetworkConnectRequest { container: id.clone(), endpoint_config: Some(endpoint) };
                self.docker.connect_network(&network, request).await?;
            }
            self.docker.start_container(&id, None).await
        };
        if let Err(error) = started.await {
            self.remove(&id).await?;
            return Err(cannot(error));
        }
        Ok(())
    }
}

/// Returns `flack_users_2` for `users-2` beside `flack_users_1`; the Compose plugin writes `-` instead of `_`.
fn container_name(sibling: &Container, name: &str) -> String {
    let start = sibling.full_name.trim_end_matches(|character: char| character.is_ascii_digit());
    format!("{start}{}", number(name))
}

/// Returns the connection to a network, without what belongs to one container.
pub(super) fn endpoint_of(endpoint: &EndpointSettings, id: &str) -> EndpointSettings {
    let aliases = endpoint.aliases.clone().unwrap_or_default();
    EndpointSettings {
        aliases: Some(aliases.into_iter().filter(|alias| !id.starts_with(alias.as_str())).collect()),
        ..EndpointSettings::default()
    }
}

/// Returns the configuration for a new instance. What comes from the image of the example is left out: the new one may
/// have another image.
fn config_of(example: &ContainerConfig, of_image: &ImageConfig, launch: &Launch) -> ContainerConfig {
    let mut own_env = launch.env.clone();
    own_env.insert(WEIGHT_VARIABLE.to_owned(), launch.weight.to_string());
    let mut labels = example.labels.clone().unwrap_or_default();
    let own_env_before: BTreeMap<String, String> =
        labels.get(OWN_ENV_LABEL).and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
    let image_labels = of_image.labels.clone().unwrap_or_default();
    labels.retain(|label, value| image_labels.get(label) != Some(value));
    labels.insert(NUMBER_LABEL.to_owned(), number(&launch.name).to_string());
    labels.insert(OWN_ENV_LABEL.to_owned(), json!(own_env).to_string());

    let image_env = of_image.env.clone().unwrap_or_default();
    let inherited = example.env.clone().unwrap_or_default().into_iter().filter(|variable| {
        let name = variable.split('=').next().unwrap_or_default();
        let is_own = name == INSTANCE_VARIABLE || own_env_before.contains_key(name) || own_env.contains_key(name);
        !is_own && !image_env.contains(variable)
    });
    let own = own_env.iter().map(|(name, value)| format!("{name}={value}"));
    let instance = format!("{INSTANCE_VARIABLE}={}", launch.name);
    ContainerConfig {
        env: Some(inherited.chain(own).chain([instance]).collect()),
        labels: Some(labels.into_iter().collect::<HashMap<_, _>>()),
        // The engine gives each container its own.
        hostname: None,
        ..example.clone()
    }
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use flack_catalogue::Service;
    use flack_common::registry::WEIGHT_DEFAULT;

    use super::*;
    use crate::builds::Build;

    fn strings(values: &[&str]) -> Vec<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    #[test]
    fn an_instance_has_what_compose_gave_its_sibling_and_not_what_came_from_the_siblings_image() {
        let labels = |labels: &[(&str, &str)]| {
            Some(labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
        };
        let of_image = ImageConfig {
            env: Some(strings(&["PATH=/bin", "FLACK_VERSION=2"])),
            labels: labels(&[("org.opencontainers.image.version", "2")]),
            ..ImageConfig::default()
        };
        let example = ContainerConfig {
            hostname: Some("3f2a1b4c5d6e".to_owned()),
            env: Some(strings(&[
                "NATS_USER=users",
                "FLACK_INSTANCE=users-1",
                "FLACK_WEIGHT=10",
                "RUST_LOG=debug",
                "PATH=/bin",
                "FLACK_VERSION=2",
            ])),
            labels: labels(&[
                ("com.docker.compose.project", "flack"),
                ("com.docker.compose.container-number", "1"),
                ("org.opencontainers.image.version", "2"),
                (OWN_ENV_LABEL, r#"{"FLACK_WEIGHT":"10","RUST_LOG":"debug"}"#),
            ]),
            ..ContainerConfig::default()
        };
        let version = "3".to_owned();
        let launch = Launch {
            service: Service::named("users"),
            name: "users-4".to_owned(),
            build: Build { version, commit: None, built: Utc::now(), release: false, env: BTreeMap::new() },
            weight: WEIGHT_DEFAULT,
            env: BTreeMap::new(),
        };
        let config = config_of(&example, &of_image, &launch);
        let mut env = config.env.expect("an environment");
        env.sort_unstable();
        assert_eq!(env, ["FLACK_INSTANCE=users-4", "FLACK_WEIGHT=100", "NATS_USER=users"]);
        let labels = config.labels.expect("labels");
        assert_eq!(labels["com.docker.compose.project"], "flack");
        assert_eq!(labels[NUMBER_LABEL], "4");
        assert!(!labels.contains_key("org.opencontainers.image.version"), "the new image has its own");
        assert_eq!(config.hostname, None);
    }
}
