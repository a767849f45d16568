//! Messages are delivered once and in order under faults, and users do not notice an operator's work on events.

use std::{
    collections::HashSet,
    io::{BufRead, BufReader},
    process::{ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use flack_conformance::{
    cases,
    client::{Auth, wait_for},
    delivery::{Fault, Over, Plan, verify},
    socket::{Socket, is_message},
    stack::{Operator, Stack, Stage},
    suite::{self, Case, World},
};
use reqwest::StatusCode;
use serde_json::{Value, json};

fn main() -> ExitCode {
    // One after the other: the cases stop processes that other cases need.
    suite::main_in_order(&[("services", || Stack::start(Stage::Services, "websocket=2,messages=2"))], deliveries)
}

fn deliveries(_: &str) -> Vec<Case> {
    cases![
        messages_are_delivered_once,
        messages_are_delivered_once_while_websocket_is_killed,
        messages_are_delivered_once_while_the_relay_is_killed,
        messages_are_delivered_once_while_the_relay_is_frozen,
        messages_are_delivered_once_while_websocket_is_frozen,
        messages_are_delivered_once_while_users_is_killed,
        messages_are_delivered_once_while_the_monolith_is_killed,
        messages_are_delivered_once_while_nats_is_killed,
        messages_are_delivered_once_while_etcd_is_killed,
        messages_are_delivered_once_while_the_agent_is_killed,
        messages_are_delivered_once_while_instances_are_replaced,
        mfverify_ends_with_a_verdict_and_removes_its_users_and_messages,
        events_tail_prints_new_events,
        a_replay_sends_nothing_to_sockets,
        a_projection_is_rebuilt_while_the_app_runs,
        an_invalid_event_becomes_a_dead_letter_and_blocks_no_other_entity,
    ]
}

async fn messages_are_delivered_once(world: World) -> Result<()> {
    deliver(&world, &plan(5, Vec::new())).await
}

async fn messages_are_delivered_once_while_websocket_is_killed(world: World) -> Result<()> {
    deliver_despite(&world, plan(6, faults(Fault::Kill, &["websocket"]))).await
}

async fn messages_are_delivered_once_while_the_relay_is_killed(world: World) -> Result<()> {
    // Twice: then each of the two instances of messages is killed once.
    deliver_despite(&world, plan(6, faults(Fault::Kill, &["relay", "relay"]))).await
}

async fn messages_are_delivered_once_while_the_relay_is_frozen(world: World) -> Result<()> {
    deliver_despite(&world, plan(16, faults(Fault::Freeze, &["relay"]))).await
}

async fn messages_are_delivered_once_while_websocket_is_frozen(world: World) -> Result<()> {
    deliver_despite(&world, plan(16, faults(Fault::Freeze, &["websocket"]))).await
}

async fn messages_are_delivered_once_while_users_is_killed(world: World) -> Result<()> {
    deliver_despite(&world, plan(6, faults(Fault::Kill, &["users"]))).await
}

async fn messages_are_delivered_once_while_the_monolith_is_killed(world: World) -> Result<()> {
    deliver_despite(&world, plan(6, faults(Fault::Kill, &["monolith"]))).await
}

async fn messages_are_delivered_once_while_nats_is_killed(world: World) -> Result<()> {
    // Twice: no state that NATS keeps only in memory may matter.
    deliver_despite(&world, plan(6, faults(Fault::Kill, &["nats", "nats"]))).await
}

async fn messages_are_delivered_once_while_etcd_is_killed(world: World) -> Result<()> {
    deliver_despite(&world, plan(6, faults(Fault::Kill, &["etcd"]))).await
}

async fn messages_are_delivered_once_while_the_agent_is_killed(world: World) -> Result<()> {
    deliver_despite(&world, plan(6, faults(Fault::Kill, &["agent"]))).await
}

async fn messages_are_delivered_once_while_instances_are_replaced(world: World) -> Result<()> {
    let replaced = ["websocket", "websocket", "relay", "relay", "users", "tokens"];
    deliver_despite(&world, plan(12, faults(Fault::Replace, &replaced))).await
}

fn faults(kind: fn(String) -> Fault, processes: &[&str]) -> Vec<Fault> {
    processes.iter().map(|process| kind((*process).to_owned())).collect()
}

/// A small load: the tests look for lost messages, and measure no speed.
fn plan(seconds: u64, faults: Vec<Fault>) -> Plan {
    Plan {
        posters: 10,
        sockets: 20,
        rate: 60.0,
        time: Duration::from_secs(seconds),
        over: Over::Both,
        both_sides: true,
        dropping: 5,
        faults,
    }
}

async fn deliver_despite(world: &World, plan: Plan) -> Result<()> {
    deliver(world, &plan).await?;
    // The next case starts with all processes.
    wait_for("all processes to be ready", || async {
        let ps = world.stack.ps()?;
        let all_ready = ps["processes"].as_array().into_iter().flatten().all(|process| {
            process["state"] == "running" && matches!(process["health"].as_str(), Some("ready" | "accepting" | "-"))
        });
        Ok(all_ready.then_some(()))
    })
    .await?;
    Ok(())
}

async fn deliver(world: &World, plan: &Plan) -> Result<()> {
    let verdict = verify(&world.client, &world.stack.operator(), plan).await?;
    eprintln!("{verdict}");
    ensure!(verdict.is_good(), "{verdict}");
    ensure!(verdict.posted > 0 && verdict.delivered > 0, "no message was posted or delivered: {verdict}");
    Ok(())
}

async fn mfverify_ends_with_a_verdict_and_removes_its_users_and_messages(World { client, stack }: World) -> Result<()> {
    let author = client.person("unharmed").await?;
    let others = client.message(&author, "not of the run").await?;
    let arguments = ["verify", "delivery", "--sockets", "5", "--posters", "2", "--rate", "20", "--seconds", "2"];
    let output = stack.mf_ok(&[&arguments[..], &["--kill", "websocket"]].concat())?;
    ensure!(output.lines().last() == Some("PASS"), "printed: {output}");

    let left = client.get("/api/users", Auth::None, StatusCode::OK).await?;
    let nicknames: Vec<&str> =
        left.body["users"].as_array().into_iter().flatten().filter_map(|user| user["nickname"].as_str()).collect();
    ensure!(nicknames.contains(&author.nickname.as_str()), "users: {nicknames:?}");
    ensure!(!nicknames.iter().any(|nickname| nickname.starts_with("verify-")), "users: {nicknames:?}");
    let next = client.message(&author, "also not of the run").await?;
    ensure!(next > others + 2, "the run has posted messages");
    for id in others + 1..next {
        client.get(&format!("/api/messages/{id}"), Auth::None, StatusCode::NOT_FOUND).await?;
    }
    client.get(&format!("/api/messages/{others}"), Auth::None, StatusCode::OK).await?;
    // The consumers of the deletions have followed.
    drained(&stack.operator()).await?;
    ensure!(dead(&stack.operator())?.is_empty(), "a deletion became a dead letter");
    Ok(())
}

async fn events_tail_prints_new_events(World { client, stack }: World) -> Result<()> {
    let author = client.person("watched").await?;
    let mut tail = stack
        .operator()
        .command(&["events", "tail", "--last", "0", "--json", "--grep", &author.nickname])?
        .stdout(Stdio::piped())
        .spawn()?;
    let output = tail.stdout.take().context("no standard output")?;
    let lines = tokio::task::spawn_blocking(move || {
        BufReader::new(output).lines().map_while(Result::ok).next().context("mf events tail ended")
    });
    // The command may need a moment to start, so the change is repeated until the event appears.
    let mut changes = tokio::time::interval(Duration::from_millis(200));
    let change = async {
        loop {
            changes.tick().await;
            let path = format!("/api/users/{}", author.id);
            let body = json!({ "nickname": author.nickname });
            client.put(&path, Auth::Token(&author.token), &body, StatusCode::NO_CONTENT).await?;
        }
    };
    let line = tokio::select! {
        line = lines => line??,
        result = change => return result,
        () = tokio::time::sleep(flack_conformance::client::WAIT) => anyhow::bail!("mf events tail printed nothing"),
    };
    let seen: Value = serde_json::from_str(&line).context("not JSON")?;
    ensure!(seen["stream"] == "USERS" && seen["event"]["data"]["id"] == author.id, "seen: {seen}");

    let interrupted = std::process::Command::new("kill").args(["-INT", &tail.id().to_string()]).status()?;
    ensure!(interrupted.success(), "cannot interrupt mf events tail");
    let status = tokio::task::spawn_blocking(move || tail.wait()).await??;
    ensure!(status.success(), "expected success after Ctrl-C, got {status}");

    let past = stack.mf_ok(&["events", "tail", "users", "--no-follow", "--from-start", "--grep", &author.nickname])?;
    ensure!(past.lines().all(|line| line.contains("user_changed")) && !past.is_empty(), "past: {past}");
    drained(&stack.operator()).await
}

async fn a_replay_sends_nothing_to_sockets(World { client, stack }: World) -> Result<()> {
    let author = client.person("repeated").await?;
    let mut sockets = Vec::new();
    for _ in 0..4 {
        sockets.push(Socket::open(client.base(), None, None).await?);
    }
    let first = client.message(&author, "only once").await?;
    for socket in &mut sockets {
        socket.wait_for("the message", |frame| is_message(frame, first)).await?;
    }
    for arguments in [
        &["events", "replay", "messages", "--json"][..],
        &["events", "replay", "users", "--from", "1h", "--json"],
        &["events", "replay", "messages", "--snapshot", "--type", "message_changed", "--json"],
    ] {
        let result: Value = serde_json::from_str(&stack.mf_ok(arguments)?)?;
        ensure!(result["queued"].as_i64().is_some_and(|queued| queued > 0), "{arguments:?} returned {result}");
    }
    drained(&stack.operator()).await?;
    let last = client.message(&author, "the next message").await?;
    for socket in &mut sockets {
        let frames = socket.collect_until("the next message", |frame| is_message(frame, last)).await?;
        let repeated: Vec<_> =
            frames.iter().filter(|frame| frame["class"] == "Message" && frame["model"]["id"] != last).collect();
        ensure!(repeated.is_empty(), "received again: {repeated:?}");
    }
    let none = stack.mf(&["events", "replay", "users", "--type", "usre"])?;
    ensure!(none.status.code() == Some(64), "an unknown type is a usage error");
    Ok(())
}

async fn a_projection_is_rebuilt_while_the_app_runs(World { client, stack }: World) -> Result<()> {
    client.person("copied").await?;
    let rebuild = |consumer: &'static str| {
        let operator = stack.operator();
        tokio::task::spawn_blocking(move || -> Result<Value> {
            let output = operator.mf_ok(&["events", "replay", "users", "--rebuild", consumer, "--json"])?;
            Ok(serde_json::from_str(&output)?)
        })
    };
    let first = rebuild("messages");
    // Meanwhile requests succeed.
    while !first.is_finished() {
        client.get("/api/messages", Auth::None, StatusCode::OK).await?;
        client.person("meanwhile").await?;
    }
    let first = first.await??;
    drained(&stack.operator()).await?;
    let second = rebuild("messages").await??;
    // The second rebuild clears what the first one made: no user was missing.
    let users = second["queued"].as_i64().context("no count")?;
    ensure!(users > 0 && second["cleared"] == users, "first {first}, then {second}");
    ensure!(second["copies"] == json!(["nicknames"]), "{second}");
    // The projection of tokens: it has an entry for each recently set password, so for each user of these tests.
    rebuild("tokens").await??;
    let passwords = rebuild("tokens").await??;
    ensure!(passwords["cleared"] == users && passwords["copies"] == json!(["password_changes"]), "{passwords}");
    let other = stack.mf(&["events", "replay", "users", "--rebuild", "ui"])?;
    ensure!(other.status.code() == Some(64), "ui has no projection");
    Ok(())
}

async fn an_invalid_event_becomes_a_dead_letter_and_blocks_no_other_entity(
    World { client, stack }: World,
) -> Result<()> {
    let mut socket = Socket::open(client.base(), None, None).await?;
    publish_as_operator(&stack, "flack.users.user_changed.poison", "{\"this is\": \"no event\"").await?;
    let operator = stack.operator();
    let (dead, _) = wait_for("dead letters in messages and tokens", || async {
        let dead = dead(&operator)?;
        let consumers: HashSet<_> = dead.iter().filter_map(|dead| dead["id"].as_str()?.split(':').next()).collect();
        Ok(["messages", "tokens"].iter().all(|consumer| consumers.contains(consumer)).then(|| dead.clone()))
    })
    .await?;
    ensure!(dead.iter().all(|dead| dead["entity_id"] == "poison"), "dead: {dead:?}");

    // Events of other entities are still delivered to sockets and consumers.
    let person = client.person("unharmed").await?;
    let is_new_user = |frame: &Value| frame["class"] == "User" && frame["model"]["id"] == person.id;
    socket.wait_for("the new user", is_new_user).await?;
    drained(&operator).await?;

    let ids: Vec<&str> = dead.iter().filter_map(|dead| dead["id"].as_str()).collect();
    let (again, rest) = ids.split_first().context("no ids")?;
    let shown: Value = serde_json::from_str(&operator.mf_ok(&["events", "dead", "show", again])?)?;
    ensure!(shown["error"].as_str().is_some_and(|error| error.starts_with("not an event")), "shown: {shown}");
    operator.mf_ok(&["events", "dead", "requeue", again])?;
    let behind = operator.mf(&["events", "lag", "--max", "0"])?;
    ensure!(behind.status.code() == Some(1), "a requeued event counts as lag");
    operator.mf_ok(&[&["events", "dead", "drop"][..], rest].concat())?;
    ensure!(dead_of(&operator, rest)?.is_empty(), "dropped, but still listed");
    let gone = operator.mf(&["events", "dead", "drop", rest.first().context("one consumer only")?])?;
    ensure!(gone.status.code() == Some(64), "a removed dead letter cannot be dropped");
    Ok(())
}

fn dead(operator: &Operator) -> Result<Vec<Value>> {
    let list: Value = serde_json::from_str(&operator.mf_ok(&["events", "dead", "list", "--json"])?)?;
    Ok(list["dead"].as_array().cloned().unwrap_or_default())
}

fn dead_of(operator: &Operator, ids: &[&str]) -> Result<Vec<Value>> {
    Ok(dead(operator)?.into_iter().filter(|dead| ids.iter().any(|id| dead["id"] == *id)).collect())
}

/// Waits until all events are published and processed.
async fn drained(operator: &Operator) -> Result<()> {
    wait_for("the pipeline to be empty", || async {
        Ok(operator.mf(&["events", "lag", "--max", "0"])?.status.success().then_some(()))
    })
    .await?;
    Ok(())
}

/// Publishes with the operator's account, as an operator's mistake would.
async fn publish_as_operator(stack: &Stack, subject: &str, payload: &str) -> Result<()> {
    let secrets: Value = serde_json::from_str(&std::fs::read_to_string(stack.home().join("secrets/stack.json"))?)?;
    let password = secrets["accounts"]["mf"]["nats"].as_str().context("no password")?;
    let client = async_nats::ConnectOptions::new()
        .user_and_password("mf".to_owned(), password.to_owned())
        .connect(stack.nats_url())
        .await?;
    client.publish(subject.to_owned(), payload.to_owned().into()).await?;
    client.flush().await?;
    Ok(())
}
