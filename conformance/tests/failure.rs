//! Failures on a real stack: what users notice when processes are killed, stopped or unavailable.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, ensure};
use flack_conformance::{
    cases,
    client::{Auth, Client, wait_for},
    load::Load,
    socket::{Socket, is_message},
    stack::{Stack, Stage},
    suite::{self, Case, World},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

fn main() -> ExitCode {
    // One after the other: the cases stop processes that other cases need.
    suite::main_in_order(
        &[("services", || Stack::start(Stage::Services, "users=2,tokens=2,messages=2,websocket=2"))],
        failures,
    )
}

fn failures(_: &str) -> Vec<Case> {
    cases![
        a_second_mfup_restarts_nothing,
        a_new_instance_is_used_within_a_second_of_its_start,
        no_get_fails_while_an_instance_crashes,
        no_get_fails_while_an_instance_drains,
        without_users_only_what_needs_users_answers_503,
        sockets_of_a_killed_instance_resume_elsewhere,
        sockets_of_a_draining_instance_are_closed_with_1012_and_resume_elsewhere,
        an_instance_can_drain_without_the_agent,
        requests_succeed_without_the_agent,
        requests_succeed_without_the_registry,
        messages_posted_without_nats_are_delivered_when_it_is_back,
        the_log_of_the_balancer_is_rotated_under_load_without_a_lost_line,
    ]
}

async fn a_second_mfup_restarts_nothing(World { stack, .. }: World) -> Result<()> {
    let before = pids(&stack.ps()?);
    stack.mf_ok(&["up", "--detach"])?;
    ensure!(before == pids(&stack.ps()?), "a second mfup restarted something");
    Ok(())
}

async fn a_new_instance_is_used_within_a_second_of_its_start(World { client, stack }: World) -> Result<()> {
    let before = names(&stack.ps()?, "users");
    stack.mf_ok(&["run", "users"])?;
    let new =
        names(&stack.ps()?, "users").into_iter().find(|name| !before.contains(name)).context("no new instance")?;
    let ((), took) = wait_for("an answer of the new instance", || async {
        let answer = client.get("/api/users?online=1", Auth::None, StatusCode::OK).await?;
        Ok((answer.header("x-flack-instance") == new).then_some(()))
    })
    .await?;
    ensure!(took < Duration::from_secs(1), "the balancer used it only after {took:?}");
    stack.mf_ok(&["kill", &new])?;
    Ok(())
}

async fn no_get_fails_while_an_instance_crashes(World { client, stack }: World) -> Result<()> {
    let load = Load::get(&client, "/api/users?online=1");
    load.warmed_up().await?;
    let restarts = restarts(&stack.ps()?, "users");
    stack.mf_ok(&["kill", "users", "--hard"])?;
    load.continues().await?;
    wait_for("the crashed instance to be back", || async {
        let ps = stack.ps()?;
        let back = restarts_done(&ps, "users", restarts);
        Ok(back.then_some(()))
    })
    .await?;
    load.continues().await?;
    load.end_without_failure()
}

async fn no_get_fails_while_an_instance_drains(World { client, stack }: World) -> Result<()> {
    stack.mf_ok(&["run", "users"])?;
    let draining = names(&stack.ps()?, "users").pop().context("no instance")?;
    let load = Load::get(&client, "/api/users?online=1");
    load.warmed_up().await?;
    stack.mf_ok(&["kill", &draining])?;
    load.continues().await?;
    ensure!(!names(&stack.ps()?, "users").contains(&draining), "{draining} is still listed");
    load.end_without_failure()
}

async fn without_users_only_what_needs_users_answers_503(World { client, stack }: World) -> Result<()> {
    let person = client.person("survivor").await?;
    let instances = names(&stack.ps()?, "users").len();
    stack.mf_ok(&["kill", "users", "--all"])?;
    let status = |method: Method, path: &'static str, auth| {
        let request = client.request(method, path, auth);
        async { anyhow::Ok(client.send_any(request).await?.status) }
    };
    wait_for("users to be gone", || async {
        Ok((status(Method::GET, "/api/users", Auth::None).await? == StatusCode::SERVICE_UNAVAILABLE).then_some(()))
    })
    .await?;
    let basic = Auth::Basic(&person.nickname, &person.password);
    ensure!(status(Method::POST, "/api/tokens", basic).await? == StatusCode::SERVICE_UNAVAILABLE, "tokens needs users");
    client.get("/", Auth::None, StatusCode::OK).await?;
    client.get("/api/messages", Auth::None, StatusCode::OK).await?;
    client.message(&person, "still here").await.context("messages does not need users")?;
    stack.mf_ok(&["run", "users", "--count", &instances.to_string()])?;
    wait_for("users to answer again", || async {
        Ok((status(Method::GET, "/api/users", Auth::None).await? == StatusCode::OK).then_some(()))
    })
    .await?;
    client.token(&person.nickname, &person.password).await?;
    Ok(())
}

async fn sockets_of_a_killed_instance_resume_elsewhere(World { client, stack }: World) -> Result<()> {
    let author = client.person("announcer").await?;
    let mut sockets = Vec::new();
    for _ in 0..4 {
        sockets.push(Socket::open(client.base(), None, None).await?);
    }
    let seen = client.message(&author, "before").await?;
    let mut cursors = Vec::new();
    for socket in &mut sockets {
        let frame = socket.wait_for("the message", |frame| is_message(frame, seen)).await?;
        cursors.push(frame["cursor"].as_str().context("no cursor")?.to_owned());
    }
    stack.mf_ok(&["kill", "websocket", "--hard"])?;
    let missed = client.message(&author, "in between").await?;
    for cursor in &cursors {
        let mut socket = Socket::open(client.base(), None, Some(cursor)).await?;
        if socket.welcome["resumed"] == json!(true) {
            let frames = socket.collect_until("what was missed", |frame| is_message(frame, missed)).await?;
            ensure!(!frames.iter().any(|frame| is_message(frame, seen)), "received a message again");
        } else {
            // Not resumed: the client reloads, and finds the message.
            client.get(&format!("/api/messages/{missed}"), Auth::None, StatusCode::OK).await?;
        }
    }
    Ok(())
}

async fn sockets_of_a_draining_instance_are_closed_with_1012_and_resume_elsewhere(
    World { client, stack }: World,
) -> Result<()> {
    stack.mf_ok(&["run", "websocket"])?;
    drain_a_websocket_instance(&client, &stack).await
}

async fn an_instance_can_drain_without_the_agent(World { client, stack }: World) -> Result<()> {
    stack.mf_ok(&["run", "websocket"])?;
    stack.mf_ok(&["run", "users"])?;
    let draining = names(&stack.ps()?, "users").pop().context("no instance")?;
    stack.mf_ok(&["kill", "agent", "--hard", "--no-restart"])?;
    let load = Load::get(&client, "/api/users?online=1");
    load.warmed_up().await?;
    stack.mf_ok(&["kill", &draining])?;
    load.continues().await?;
    load.end_without_failure()?;
    drain_a_websocket_instance(&client, &stack).await?;
    stack.mf_ok(&["up", "--detach"])?;
    Ok(())
}

/// Drains the newest instance. Its sockets are closed with 1012, resume, and receive what they missed.
async fn drain_a_websocket_instance(client: &Client, stack: &Stack) -> Result<()> {
    let draining = names(&stack.ps()?, "websocket").pop().context("no instance")?;
    let mut sockets = Vec::new();
    for _ in 0..6 {
        sockets.push(Socket::open(client.base(), None, None).await?);
    }
    stack.mf_ok(&["kill", &draining])?;
    let missed = client.message(&client.person("drained").await?, "to every socket").await?;
    let mut closed = 0;
    for mut socket in sockets {
        // A socket of another instance receives the message; one of this instance is closed with 1012, and not broken.
        let cursor = socket.welcome["cursor"].as_str().context("no cursor")?.to_owned();
        if let Err(problem) = socket.wait_for("the message", |frame| is_message(frame, missed)).await {
            ensure!(problem.to_string().contains("closed with 1012"), "not closed with 1012: {problem:#}");
            closed += 1;
            let mut again = Socket::open(client.base(), None, Some(&cursor)).await?;
            ensure!(again.welcome["resumed"] == json!(true), "not resumed: {}", again.welcome);
            again.wait_for("what was missed", |frame| is_message(frame, missed)).await?;
        }
    }
    ensure!(closed > 0, "no socket was connected to {draining}");
    Ok(())
}

async fn requests_succeed_without_the_agent(World { client, stack }: World) -> Result<()> {
    let load = Load::get(&client, "/api/users?online=1");
    load.warmed_up().await?;
    stack.mf_ok(&["kill", "agent", "--hard"])?;
    load.continues().await?;
    stack.mf_ok(&["run", "users"])?;
    load.continues().await?;
    load.end_without_failure()
}

async fn requests_succeed_without_the_registry(World { client, stack }: World) -> Result<()> {
    let person = client.person("offgrid").await?;
    stack.mf_ok(&["kill", "etcd", "--hard"])?;
    client.message(&person, "without the registry").await?;
    client.get("/api/users", Auth::Token(&person.token), StatusCode::OK).await?;
    wait_for("a token to be issued and revoked again", || async {
        let Ok(token) = client.token(&person.nickname, &person.password).await else { return Ok(None) };
        let answer = client.send_any(client.request(Method::DELETE, "/api/tokens", Auth::Token(&token))).await?;
        Ok((answer.status == StatusCode::NO_CONTENT).then_some(()))
    })
    .await?;
    Ok(())
}

async fn messages_posted_without_nats_are_delivered_when_it_is_back(World { client, stack }: World) -> Result<()> {
    let author = client.person("persistent").await?;
    let mut socket = Socket::open(client.base(), None, None).await?;
    stack.mf_ok(&["kill", "nats", "--hard"])?;
    let id = client.message(&author, "without NATS").await?;
    socket.wait_for("the message", |frame| is_message(frame, id)).await?;
    Ok(())
}

/// A rotation begins at 16 MiB, which is about 2,700 lines of this length.
const ROTATION_REQUESTS_MAX: usize = 10_000;
const ROTATION_PATH_BYTES: usize = 6_000;
const ROTATION_REQUESTS_AT_ONCE: usize = 50;
const ROTATION_RESERVED_BYTES_MAX: u64 = 1024 * 1024;
/// Lines that `mf logs` prints; a part of them is in the old log.
const ROTATION_LINES_SHOWN: usize = 500;

async fn the_log_of_the_balancer_is_rotated_under_load_without_a_lost_line(
    World { client, stack }: World,
) -> Result<()> {
    let log = stack.home().join("log/haproxy.log");
    let old = log.with_extension("log.old");
    let inode_of_old = || old.metadata().map(|metadata| metadata.ino()).ok();
    let (before, mut sent) = (inode_of_old(), 0);
    while inode_of_old() == before {
        ensure!(sent < ROTATION_REQUESTS_MAX, "the log was not rotated");
        let requests = (sent..sent + ROTATION_REQUESTS_AT_ONCE).map(|number| {
            let (client, path) = (client.clone(), format!("/rotation-{number}/{}", "x".repeat(ROTATION_PATH_BYTES)));
            tokio::spawn(async move { client.get(&path, Auth::None, StatusCode::NOT_FOUND).await.map(drop) })
        });
        for request in requests.collect::<Vec<_>>() {
            request.await??;
        }
        sent += ROTATION_REQUESTS_AT_ONCE;
    }
    // HAProxy writes a line shortly after the client has the answer.
    wait_for("the line of every request", || async {
        let text = [fs::read(&old)?, fs::read(&log)?].concat();
        ensure!(!text.contains(&0), "the log has a hole");
        let text = String::from_utf8(text)?;
        let number = |rest: &str| rest.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok();
        let found: BTreeSet<usize> = text.split("/rotation-").skip(1).filter_map(number).collect();
        Ok((found.len() + dropped_logs(&stack).await? >= sent).then_some(()))
    })
    .await?;
    for file in [&old, &log] {
        let metadata = file.metadata()?;
        // A file system may reserve some space beyond the end.
        ensure!(metadata.blocks() * 512 <= metadata.len() + ROTATION_RESERVED_BYTES_MAX, "{metadata:?}");
    }
    let shown = stack.mf_ok(&["logs", "haproxy", "--json", "--lines", &ROTATION_LINES_SHOWN.to_string()])?;
    let requests = shown.lines().filter(|line| {
        let line: Value = serde_json::from_str(line).unwrap_or_default();
        line["path"].as_str().is_some_and(|path| path.starts_with("/rotation-"))
    });
    let (requests, lines) = (requests.count(), shown.lines().count());
    ensure!(requests > ROTATION_LINES_SHOWN / 2, "mf logs shows {requests} requests in {lines} lines");
    Ok(())
}

/// Lines that HAProxy did not write, because its other thread was writing one at that moment. It does so without a
/// rotation, too.
async fn dropped_logs(stack: &Stack) -> Result<usize> {
    let http = flack_api::http_client_builder().build()?;
    let metrics = http.get(format!("{}/metrics", stack.stats_url())).send().await?.text().await?;
    let line = metrics.lines().find_map(|line| line.strip_prefix("haproxy_process_dropped_logs_total "));
    line.context("no metric of dropped logs")?.trim().parse().context("the metric is no number")
}

fn processes(ps: &Value) -> impl Iterator<Item = &Value> {
    ps["processes"].as_array().into_iter().flatten()
}

fn of_service<'a>(ps: &'a Value, service: &'a str) -> impl Iterator<Item = &'a Value> {
    processes(ps).filter(move |process| process["service"] == service)
}

fn names(ps: &Value, service: &str) -> Vec<String> {
    of_service(ps, service).filter_map(|process| process["name"].as_str()).map(str::to_owned).collect()
}

fn pids(ps: &Value) -> Vec<Option<u64>> {
    processes(ps).map(|process| process["pid"].as_u64()).collect()
}

fn restarts(ps: &Value, service: &str) -> u64 {
    of_service(ps, service).filter_map(|process| process["restarts"].as_u64()).sum()
}

fn restarts_done(ps: &Value, service: &str, before: u64) -> bool {
    restarts(ps, service) > before && of_service(ps, service).all(|process| process["health"] == "ready")
}
