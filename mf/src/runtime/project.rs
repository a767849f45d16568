//! The stack of a compose project as seen from this machine: the addresses of its containers in Docker's network, and
//! copies of its credentials in a private folder.
//!
//! On Linux this machine reaches the containers at their addresses, also those of networks that are internal: Docker
//! gives it an address in each network.

use std::net::Ipv4Addr;

use bollard::query_parameters::DownloadFromContainerOptionsBuilder;
use flack_catalogue::SERVICES;
use futures::TryStreamExt as _;

use super::containers::{Container, Containers, address_in, failed};
use crate::commands::container::{VOLUME, stage};
use crate::failure::{Failure, Result};
use crate::home::{self, Home};
use crate::ports::{Host, Hosts, Ports};
use crate::secrets::Secrets;
use crate::settings::{Settings, Stage, UpOptions};
use crate::stack::Stack;

/// The ports of HAProxy's container.
const PUBLIC_PORT: u16 = 8080;
/// A file of a secret has some KiB.
const ARCHIVE_BYTES_MAX: usize = 4 * 1024 * 1024;

impl Containers {
    /// Returns the folder for what `mf` stores of the project, below the state folder.
    pub fn home(&self, home: &Home) -> Result<Home> {
        let mut home = Home::at(&home.path().join("containers").join(&self.project))?;
        home.create_for_containers()?;
        Ok(home)
    }

    pub async fn stack(&self, home: &Home) -> Result<Stack> {
        let containers = self.all().await?;
        let (host, port) = self.published(&containers)?;
        let settings = Settings { port, ..self.settings(home).await? };
        if Settings::load(home)?.as_ref() != Some(&settings) {
            settings.save(home)?;
        }
        let secrets = Secrets::load(home)?.ok_or_else(|| self.without("secrets"))?;
        let ports = Ports::of_containers(self.hosts(host, &containers).await?, port);
        Ok(Stack { home: home.clone(), settings, ports, secrets })
    }

    /// Returns the settings of a stack, which may be stopped, and copies its secrets.
    pub async fn settings(&self, home: &Home) -> Result<Settings> {
        let containers = self.all().await?;
        if containers.is_empty() {
            // `docker-compose down` has removed them; their data is still in volumes.
            return Settings::merge(Settings::load(home)?.as_ref(), &UpOptions::default());
        }
        let before = Secrets::load(home).ok().flatten();
        self.copy_secrets(home, &containers).await?;
        // The settings of a stack that was deleted are not those of a new one.
        // A newer version adds secrets; this one is made once.
        let is_new = before.map(|before| before.postgres) != Secrets::load(home)?.map(|after| after.postgres);
        let before = if is_new { None } else { Settings::load(home)? };
        let options = UpOptions { stage: Some(self.stage(&containers).await?), ..UpOptions::default() };
        Settings::merge(before.as_ref(), &options)
    }

    fn without(&self, service: &str) -> Failure {
        failure!(
            Unavailable,
            "the container {service} of the project {} does not run. Start it: mfup --runtime docker",
            self.project
        )
    }

    /// Returns the address at which the public listener is published.
    fn published(&self, containers: &[Container]) -> Result<(Host, u16)> {
        let ports = containers.iter().filter_map(|container| container.summary.ports.as_ref()).flatten();
        let published = ports.filter(|port| port.private_port == PUBLIC_PORT).find_map(|port| {
            // Docker lists an address of version 6 beside that of version 4.
            let address: Ipv4Addr = port.ip.as_ref()?.parse().ok()?;
            Some((address, port.public_port?))
        });
        let (address, port) = published.ok_or_else(|| self.without("haproxy"))?;
        Ok((Host::Address(if address.is_unspecified() { Ipv4Addr::LOCALHOST } else { address }), port))
    }

    /// Returns the stage with which `accounts` has made the first entries of the registry.
    async fn stage(&self, containers: &[Container]) -> Result<Stage> {
        let accounts = containers.iter().find(|container| container.service == "accounts");
        let accounts = accounts.ok_or_else(|| self.without("accounts"))?;
        let inspected = self.inspect(&accounts.id).await;
        let inspected = inspected.map_err(|error| failed("inspect the container accounts", &error))?;
        let command = inspected.config.and_then(|config| config.cmd).unwrap_or_default();
        let profiles = command.iter().skip_while(|argument| *argument != "--profiles").nth(1);
        stage(profiles.map_or("services", String::as_str))
    }

    async fn hosts(&self, public: Host, containers: &[Container]) -> Result<Hosts> {
        let haproxy = containers.iter().find(|container| container.service == "haproxy" && container.is_up());
        let haproxy = haproxy.ok_or_else(|| self.without("haproxy"))?;
        let network = haproxy.addresses().next().map(|(network, _)| network.to_owned());
        let address = |service: &str| {
            // A cluster has etcd-1, etcd-2 and so on: each of them answers.
            let is_it = |container: &&Container| {
                let rest = container.service.strip_prefix(service);
                container.is_up() && rest.is_some_and(|rest| rest.is_empty() || is_number(rest))
            };
            let container = containers.iter().find(is_it)?;
            address_in(container, network.as_deref()).map(Host::Address)
        };
        // A command that needs etcd or NATS while it does not run fails at the connect, and says so.
        let nowhere = Host::Address(Ipv4Addr::UNSPECIFIED);
        Ok(Hosts {
            public,
            haproxy: address("haproxy").ok_or_else(|| self.without("haproxy"))?,
            etcd: address("etcd").unwrap_or(nowhere),
            nats: address("nats").unwrap_or(nowhere),
            postgres: SERVICES.each_ref().map(|service| address(&format!("postgres-{}", service.database))),
            machine: self.gateway(network.as_deref().unwrap_or_default()).await?,
        })
    }

    /// Returns the address of this machine in a network of Docker.
    async fn gateway(&self, network: &str) -> Result<Host> {
        let inspected = self.docker.inspect_network(network, None).await;
        let inspected = inspected.map_err(|error| failed(&format!("inspect the network {network}"), &error))?;
        let pools = inspected.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
        let gateway = pools.into_iter().find_map(|pool| pool.gateway?.parse().ok());
        gateway.map(Host::Address).ok_or_else(|| failure!(Internal, "the network {network} has no gateway"))
    }

    /// Copies the secrets of the stack from the volume of the container `secrets`, which has ended.
    async fn copy_secrets(&self, home: &Home, containers: &[Container]) -> Result<()> {
        let container = containers.iter().find(|container| container.service == "secrets");
        let container = container.ok_or_else(|| self.without("secrets"))?;
        let path = format!("{VOLUME}/secrets");
        let options = DownloadFromContainerOptionsBuilder::default().path(&path).build();
        let archive = self.docker.download_from_container(&container.id, Some(options));
        let archive = archive.try_fold(Vec::new(), |mut all, bytes| async move {
            if all.len() < ARCHIVE_BYTES_MAX {
                all.extend_from_slice(&bytes);
            }
            Ok(all)
        });
        let archive =
            archive.await.map_err(|error| failed(&format!("copy the secrets of {}", self.project), &error))?;
        let invalid = |error: std::io::Error| failure!(Internal, "Docker has sent an invalid archive: {error}");
        for entry in tar::Archive::new(archive.as_slice()).entries().map_err(invalid)? {
            let mut entry = entry.map_err(invalid)?;
            let path = entry.path().map_err(invalid)?.into_owned();
            // `secrets/stack.json`, `secrets/etcd/ca.pem`: nothing else, and nothing outside of the folder.
            let is_plain = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
            if !is_plain || !path.starts_with("secrets") || !entry.header().entry_type().is_file() {
                continue;
            }
            let mut text = String::new();
            std::io::Read::read_to_string(&mut entry, &mut text).map_err(invalid)?;
            let copy = home.path().join(path);
            if std::fs::read_to_string(&copy).ok().as_ref() != Some(&text) {
                home::write_private(&copy, &text)?;
            }
        }
        Ok(())
    }
}

fn is_number(suffix: &str) -> bool {
    let number = suffix.strip_prefix('-').unwrap_or_default();
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}
