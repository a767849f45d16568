//! Etcd: the registry. Each service has an account that may write its own keys and read all of `/flack/`.

use anyhow::{Context, Result};
use etcd_client::{Client, ConnectOptions, Error, Permission};
use flack_catalogue::{SERVICES, Service};
use flack_supervisor::Spec;

use crate::home::Home;
use crate::infra::programs;
use crate::ports::Ports;
use crate::probe;
use crate::secrets::{AGENT, Secrets};
use crate::supervisor::{self, inherited_environment, priority};

/// Lifetime of a token. Clients renew theirs by themselves, but each renewal costs a password check.
const TOKEN_SECONDS: u32 = 24 * 3600;
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(5);

pub fn spec(home: &Home, ports: &Ports) -> Spec {
    let (client, peer) = (url(ports), format!("http://127.0.0.1:{}", ports.etcd_peer));
    let args = [
        "--name=flack",
        &format!("--data-dir={}", home.etcd().display()),
        &format!("--listen-client-urls={client}"),
        &format!("--advertise-client-urls={client}"),
        &format!("--listen-peer-urls={peer}"),
        &format!("--initial-advertise-peer-urls={peer}"),
        &format!("--initial-cluster=flack={peer}"),
        // Leases change all the time; no watcher is disconnected for longer than an hour.
        "--auto-compaction-mode=periodic",
        "--auto-compaction-retention=1h",
        &format!("--auth-token-ttl={TOKEN_SECONDS}"),
        "--logger=zap",
        "--log-outputs=stderr",
        "--log-level=warn",
    ];
    let mut env = inherited_environment();
    if cfg!(target_arch = "aarch64") {
        // Debian 12's etcd does not start on this architecture without it.
        env = env.with("ETCD_UNSUPPORTED_ARCH", "arm64");
    }
    Spec {
        args: args.iter().map(ToString::to_string).collect(),
        env,
        ..supervisor::spec("etcd", priority::STORE, programs::path("etcd"), home.path().to_path_buf())
    }
}

pub fn url(ports: &Ports) -> String {
    format!("http://127.0.0.1:{}", ports.etcd)
}

pub async fn ready(ports: &Ports) -> bool {
    probe::is_ok(&format!("127.0.0.1:{}", ports.etcd), "/health").await
}

/// Connects as root.
pub async fn connect(ports: &Ports, secrets: &Secrets) -> Result<Client, Error> {
    let options =
        ConnectOptions::new().with_user("root", &secrets.etcd).with_connect_timeout(DEADLINE).with_timeout(DEADLINE);
    Client::connect([url(ports)], Some(options)).await
}

/// Creates missing accounts, and enables authentication. An interrupted run is completed by the next one.
pub async fn set_up(ports: &Ports, secrets: &Secrets) -> Result<()> {
    let (mut client, is_unprotected) = match connect(ports, secrets).await {
        Ok(client) => (client, false),
        Err(error) if has_message(&error, "authentication is not enabled") => {
            let client = Client::connect([url(ports)], Some(ConnectOptions::new().with_timeout(DEADLINE)))
                .await
                .context("etcd cannot be reached")?;
            (client, true)
        }
        Err(error) => {
            return Err(error).context("etcd rejects root's password; was secrets/stack.json replaced?");
        }
    };
    let users: Vec<String> = client.user_list().await.context("etcd's accounts cannot be read")?.users().to_vec();
    for service in &SERVICES {
        // With authentication enabled, existing accounts are complete, and each change would invalidate all tokens.
        if !is_unprotected && users.iter().any(|user| user == service.name) {
            continue;
        }
        add(&mut client, &users, service.name, &secrets.account(service.name).etcd, own_keys(service)).await?;
    }
    if is_unprotected {
        let balancer = vec![Permission::read_write("/flack/balancer/").with_prefix()];
        add(&mut client, &users, AGENT, &secrets.account(AGENT).etcd, balancer).await?;
        ignore_if(client.role_add("root").await, "already exists").context("etcd's role root cannot be created")?;
        ignore_if(client.user_add("root", secrets.etcd.as_str(), None).await, "already exists")
            .context("etcd's user root cannot be created")?;
        // An interrupted run may have created it with another password.
        client
            .user_change_password("root", secrets.etcd.as_str())
            .await
            .context("etcd's root password cannot be set")?;
        client.user_grant_role("root", "root").await.context("etcd's role root cannot be granted")?;
        client.auth_enable().await.context("etcd's authentication cannot be enabled")?;
    }
    Ok(())
}

/// Returns what a service may write. `/flack/services/ui` and `/flack/services/ui/` are two grants, so that `uix` is
/// not included.
fn own_keys(service: &Service) -> Vec<Permission> {
    let entry = format!("/flack/services/{service}");
    let mut keys =
        vec![Permission::read_write(entry.as_str()), Permission::read_write(format!("{entry}/")).with_prefix()];
    if service.signs_tokens {
        keys.extend(["/flack/jwks/", "/flack/revoked/"].map(|prefix| Permission::read_write(prefix).with_prefix()));
    }
    keys
}

async fn add(client: &mut Client, users: &[String], name: &str, password: &str, keys: Vec<Permission>) -> Result<()> {
    let context = || format!("etcd's account {name} cannot be created");
    ignore_if(client.role_add(name).await, "already exists").with_context(context)?;
    client.role_grant_permission(name, Permission::read("/flack/").with_prefix()).await.with_context(context)?;
    for key in keys {
        client.role_grant_permission(name, key).await.with_context(context)?;
    }
    if !users.iter().any(|user| user == name) {
        client.user_add(name, password, None).await.with_context(context)?;
    }
    client.user_grant_role(name, name).await.with_context(context)?;
    Ok(())
}

fn ignore_if<T>(result: Result<T, Error>, words: &str) -> Result<(), Error> {
    match result {
        Ok(_) => Ok(()),
        Err(error) if has_message(&error, words) => Ok(()),
        Err(error) => Err(error),
    }
}

fn has_message(error: &Error, words: &str) -> bool {
    matches!(error, Error::GRpcStatus(status) if status.message().contains(words))
}
