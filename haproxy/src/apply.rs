//! Applies a step of the plan through HAProxy's Runtime API.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, ensure};
use backon::{ConstantBuilder, Retryable as _};
use tracing::info;

use crate::{
    admin_socket::AdminSocket,
    desired::{SERVER_OPTIONS, on_marked_down},
    plan::Step,
    servers::{is_backup, service_of},
};

/// HAProxy reads a command with its payload into one buffer (`tune.bufsize`).
const MAP_ENTRIES_PER_COMMAND_MAX: usize = 100;
/// HAProxy closes idle connections within a millisecond or two. A later pass tries it again.
const IDLE_CONNECTIONS_CLOSE: ConstantBuilder =
    ConstantBuilder::new().with_delay(Duration::from_millis(2)).with_max_times(5);
/// The discard service: no instance has this port.
const NO_ADDRESS: &str = "addr 127.0.0.1 port 9";

/// Applies a step and logs it.
pub async fn apply(admin: &AdminSocket, step: &Step) -> anyhow::Result<()> {
    match step {
        Step::Add { server, address, weight } => {
            let more = on_marked_down(service_of(server)).unwrap_or_default();
            let backup = if is_backup(server) { "backup " } else { "" };
            let add = format!("add server {server} {address} {SERVER_OPTIONS} {more} {backup}weight {weight}");
            let command = format!("{add}; enable health {server}; enable server {server}");
            expect(admin, &command, "registered").await?;
        }
        Step::SetReady { server } => {
            expect(admin, &format!("set server {server} state ready; enable health {server}"), "").await?;
        }
        Step::SetWeight { server, weight } => {
            expect(admin, &format!("set server {server} weight {weight}"), "").await?;
        }
        Step::Drain { server } => expect(admin, &format!("set server {server} state drain"), "").await?,
        Step::Remove { server, close_sessions } => {
            let close = if *close_sessions { format!("shutdown sessions server {server}; ") } else { String::new() };
            // HAProxy deletes no server with idle connections. It closes those of any server whose address changes. In
            // maintenance it closes only those of a server that was up.
            admin.send(&format!("set server {server} state maint; {close}set server {server} {NO_ADDRESS}")).await?;
            let delete = async || expect(admin, &format!("del server {server}"), "deleted").await;
            delete.retry(IDLE_CONNECTIONS_CLOSE).await?;
        }
        Step::ReplaceMap { file, entries } => replace_map(admin, file, entries).await?,
    }
    info!(?step, "HAProxy changed");
    Ok(())
}

/// Sends a command. Fails unless the answer contains `word`, or is empty when `word` is empty.
async fn expect(admin: &AdminSocket, command: &str, word: &str) -> anyhow::Result<()> {
    let answer = admin.send(command).await?;
    let answer = answer.trim();
    ensure!(answer.is_empty() == word.is_empty() && answer.contains(word), "{answer}");
    Ok(())
}

async fn replace_map(admin: &AdminSocket, file: &str, entries: &BTreeMap<String, String>) -> anyhow::Result<()> {
    let answer = admin.send(&format!("prepare map {file}")).await?;
    let version: u32 = answer
        .trim()
        .strip_prefix("New version created: ")
        .and_then(|number| number.parse().ok())
        .with_context(|| answer.trim().to_owned())?;
    let lines: Vec<String> = entries.iter().map(|(key, value)| format!("{key} {value}\n")).collect();
    for chunk in lines.chunks(MAP_ENTRIES_PER_COMMAND_MAX) {
        expect(admin, &format!("add map @{version} {file} <<\n{}", chunk.concat()), "").await?;
    }
    expect(admin, &format!("commit map @{version} {file}"), "").await
}
