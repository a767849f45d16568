//! Accounts of etcd: one for each service and for the balancer's agent. An account has no password: its client
//! certificate names it.

use anyhow::{Context, Result};
use etcd_client::{
    AlarmAction, AlarmOptions, AlarmType, Client, Error, Permission, PermissionType, RoleRevokePermissionOptions,
    UserAddOptions,
};
use flack_catalogue::{SERVICES, Service};
use flack_common::registry::keys;
use flack_handover::protocol::BALANCER;

use super::{ROOT, connect};
use crate::home::Home;
use crate::ports::Ports;
use crate::secrets::{AGENT, Secrets, password};

/// The prefixes that only the owner of tokens may write: public keys of tokens, and revoked tokens.
const SIGNING_KEYS: [&str; 2] = ["/flack/jwks/", "/flack/revoked/"];

/// Creates missing accounts, and enables authentication. An interrupted run is completed by the next one.
pub async fn set_up(home: &Home, ports: &Ports) -> Result<()> {
    let mut client = connect(home, ports).await.context("etcd cannot be reached")?;
    // Any account may raise these alarms, which stop writes or everything. etcd raises one again if there is a reason.
    for kind in [AlarmType::Nospace, AlarmType::Corrupt] {
        let alarms = client.alarm(AlarmAction::Get, kind, None).await.context("etcd's alarms cannot be read")?;
        for alarm in alarms.alarms() {
            let mut options = AlarmOptions::new();
            options.with_member(alarm.member_id());
            let deactivated = client.alarm(AlarmAction::Deactivate, kind, Some(options)).await;
            deactivated.context("etcd's alarm cannot be deactivated")?;
        }
    }
    let users: Vec<String> = client.user_list().await.context("etcd's accounts cannot be read")?.users().to_vec();
    for service in &SERVICES {
        add(&mut client, &users, service.name, own_keys(service)).await?;
    }
    let of_agent = ["/flack/balancer/".to_owned(), acknowledged(BALANCER)];
    let of_agent = of_agent.map(|prefix| Permission::read_write(prefix).with_prefix());
    add(&mut client, &users, AGENT, of_agent.into()).await?;
    add(&mut client, &users, ROOT, Vec::new()).await?;
    client.auth_enable().await.context("etcd's authentication cannot be enabled")?;
    Ok(())
}

/// Replaces the passwords that an earlier version of `mf` gave to the accounts. Nobody gets the new ones.
pub async fn retire_passwords(home: &Home, ports: &Ports, secrets: &Secrets) -> Result<()> {
    let mut client = connect(home, ports).await.context("etcd cannot be reached")?;
    for account in secrets.accounts.keys().map(String::as_str).chain([ROOT]) {
        let changed = client.user_change_password(account, password()).await;
        // The operator's account is one of NATS alone, and new services never had a password.
        ignore_if(changed, "user name not found").with_context(|| format!("etcd's account {account}"))?;
    }
    Ok(())
}

/// Returns what a service may always write. `/flack/services/ui` and `/flack/services/ui/` are two grants, so that
/// `uix` is not included.
fn own_keys(service: &Service) -> Vec<Permission> {
    let entry = format!("/flack/services/{service}");
    vec![
        Permission::read_write(entry.as_str()),
        Permission::read_write(format!("{entry}/")).with_prefix(),
        Permission::read_write(acknowledged(service.name)).with_prefix(),
    ]
}

/// Returns the prefix of the keys with which instances of a service acknowledge the records of parts.
fn acknowledged(service: &str) -> String {
    keys::acknowledged(service, "")
}

/// Lets the owner of tokens, and no other service, write signing keys and revocations. Without an owner nobody may.
///
/// To be called whenever the owner changes: before the new owner's first write. Keys and revocations that exist stay,
/// so that tokens of the owner before stay valid.
pub async fn allow_signing(client: &mut Client, owner: Option<&str>) -> Result<()> {
    let (owners, others): (Vec<_>, Vec<_>) =
        SERVICES.iter().filter(|service| service.signs_tokens).partition(|service| Some(service.name) == owner);
    for service in others {
        for prefix in granted(client, service).await? {
            let options = RoleRevokePermissionOptions::new().with_prefix();
            client
                .role_revoke_permission(service.name, prefix, Some(options))
                .await
                .with_context(|| format!("etcd's permission of {service} to write {prefix} cannot be revoked"))?;
        }
    }
    for service in owners {
        grant_signing(client, service).await?;
    }
    Ok(())
}

/// Lets a service write signing keys and revocations, besides the present owner: it is about to become the owner.
pub async fn grant_signing(client: &mut Client, service: &Service) -> Result<()> {
    let granted = granted(client, service).await?;
    for prefix in SIGNING_KEYS.into_iter().filter(|prefix| !granted.contains(prefix)) {
        client
            .role_grant_permission(service.name, Permission::read_write(prefix).with_prefix())
            .await
            .with_context(|| format!("etcd's permission of {service} to write {prefix} cannot be granted"))?;
    }
    Ok(())
}

/// Returns which of the signing keys a service may write. A change of a permission that is right already would make
/// etcd refuse the requests of that moment.
async fn granted(client: &mut Client, service: &Service) -> Result<Vec<&'static str>> {
    let role = client.role_get(service.name).await.with_context(|| format!("etcd's role {service} cannot be read"))?;
    let permissions = role.permissions();
    let may_write = |prefix: &&str| {
        permissions.iter().any(|permission| {
            permission.key() == prefix.as_bytes() && permission.get_type() != i32::from(PermissionType::Read)
        })
    };
    Ok(SIGNING_KEYS.into_iter().filter(may_write).collect())
}

/// Adds an account unless it is complete: its role is granted last. An account of an earlier version of `mf` gets the
/// permissions that it lacks.
async fn add(client: &mut Client, users: &[String], name: &str, keys: Vec<Permission>) -> Result<()> {
    let context = || format!("etcd's account {name} cannot be created");
    let exists = users.iter().any(|user| user == name);
    if exists && !client.user_get(name).await.with_context(context)?.roles().is_empty() {
        let role = client.role_get(name).await.with_context(context)?;
        let granted: Vec<Vec<u8>> = role.permissions().iter().map(|permission| permission.key().to_vec()).collect();
        for key in keys.into_iter().filter(|key| !granted.iter().any(|granted| granted == key.key())) {
            client.role_grant_permission(name, key).await.with_context(context)?;
        }
        return Ok(());
    }
    ignore_if(client.role_add(name).await, "already exists").with_context(context)?;
    // The role root may do everything.
    if name != ROOT {
        client.role_grant_permission(name, Permission::read("/flack/").with_prefix()).await.with_context(context)?;
    }
    for key in keys {
        client.role_grant_permission(name, key).await.with_context(context)?;
    }
    if !exists {
        client.user_add(name, "", Some(UserAddOptions::new().with_no_pwd())).await.with_context(context)?;
    }
    client.user_grant_role(name, name).await.with_context(context)?;
    Ok(())
}

fn ignore_if<T>(result: Result<T, Error>, words: &str) -> Result<(), Error> {
    match result {
        Err(Error::GRpcStatus(status)) if status.message().contains(words) => Ok(()),
        result => result.map(drop),
    }
}
