//! No message is lost, doubled or out of order, whatever is killed; and what operators do with events changes nothing for users.

use std::{
    collections::HashSet,
    io::{BufRead, BufReader},
    process::{ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use flack_conformance::{
    cases,
    client::{Auth, wait_for},
    delivery::{Fault, Over, Plan, verify},
    socket::{Socket, tells_of_message},
    stack::{Operator, Stack, Stage},
    suite::{self, Case, World},
};
use reqwest::StatusCode;
use serde_json::{Value, json};

fn main() -> ExitCode {
    // The cases kill what others would use: one after the other.
    suite::main_in_order(
        &[("services", || Stack::start(Stage::Services, "websocket=2,messages=2"))],
        deliveries,
    )
}

fn deliveries() -> Vec<Case> {
    cases![
        every_message_reaches_every_socket_once,
        also_while_websocket_is_killed,
        also_while_the_relay_is_killed,
        also_while_the_relay_stands_still,
        also_while_websocket_stands_still,
        also_while_users_is_killed,
        also_while_the_monolith_is_killed,
        also_while_nats_is_killed,
        also_while_etcd_is_killed,
        also_while_the_agent_is_killed,
        also_while_every_instance_is_replaced,
        events_are_seen_as_they_happen,
        a_replay_changes_nothing_for_sockets,
        a_derived_copy_is_made_anew_while_the_app_runs,
        a_poison_event_stops_nobody_else_and_waits_for_the_operator,
    ]
}

/// Small: what is looked for is any loss at all, not speed.
fn plan(seconds: u64) -> Plan {
    Plan {
        posters: 10,
        sockets: 20,
        rate: 60.0,
        time: Duration::from_secs(seconds),
        over: Over::Both,
        both_sides: true,
        dropping: 5,
        faults: Vec::new(),
    }
}

async fn every_message_reaches_every_socket_once(world: World) -> anyhow::Result<()> {
    deliver(&world, &plan(5)).await
}

async fn also_while_websocket_is_killed(world: World) -> anyhow::Result<()> {
    deliver_while_killing(&world, &["websocket"]).await
}

async fn also_while_the_relay_is_killed(world: World) -> anyhow::Result<()> {
    // Of two instances of messages the one that publishes; twice, so that it is both of them.
    deliver_while_killing(&world, &["relay", "relay"]).await
}

async fn also_while_the_relay_stands_still(world: World) -> anyhow::Result<()> {
    deliver_despite(&world, Plan { faults: vec![Fault::Freeze("relay".to_owned())], ..plan(16) }).await
}

async fn also_while_websocket_stands_still(world: World) -> anyhow::Result<()> {
    deliver_despite(&world, Plan { faults: vec![Fault::Freeze("websocket".to_owned())], ..plan(16) }).await
}

async fn also_while_users_is_killed(world: World) -> anyhow::Result<()> {
    deliver_while_killing(&world, &["users"]).await
}

async fn also_while_the_monolith_is_killed(world: World) -> anyhow::Result<()> {
    deliver_while_killing(&world, &["monolith"]).await
}

async fn also_while_nats_is_killed(world: World) -> anyhow::Result<()> {
    // Twice: what NATS remembers of its streams only from one start to the next must not matter.
    deliver_while_killing(&world, &["nats", "nats"]).await
}

async fn also_while_etcd_is_killed(world: World) -> anyhow::Result<()> {
    deliver_while_killing(&world, &["etcd"]).await
}

async fn also_while_the_agent_is_killed(world: World) -> anyhow::Result<()> {
    deliver_while_killing(&world, &["agent"]).await
}

async fn also_while_every_instance_is_replaced(world: World) -> anyhow::Result<()> {
    let all = ["websocket", "websocket", "relay", "relay", "users", "tokens"];
    let faults = all.iter().map(|process| Fault::Replace((*process).to_owned())).collect();
    deliver_despite(&world, Plan { faults, ..plan(12) }).await
}

async fn deliver_while_killing(world: &World, processes: &[&str]) -> anyhow::Result<()> {
    let faults = processes.iter().map(|process| Fault::Kill((*process).to_owned())).collect();
    deliver_despite(world, Plan { faults, ..plan(6) }).await
}

async fn deliver_despite(world: &World, plan: Plan) -> anyhow::Result<()> {
    deliver(world, &plan).await?;
    // The next case begins with everybody there.
    wait_for("everything to be ready again", || async {
        let ps = world.stack.ps()?;
        let all_ready = ps["processes"].as_array().into_iter().flatten().all(|process| {
            process["state"] == "running"
                && matches!(process["health"].as_str(), Some("ready" | "accepting" | "-"))
        });
        Ok(all_ready.then_some(()))
    })
    .await?;
    Ok(())
}

async fn deliver(world: &World, plan: &Plan) -> anyhow::Result<()> {
    let verdict = verify(&world.client, &world.stack.operator(), plan).await?;
    eprintln!("{verdict}");
    ensure!(verdict.is_good(), "{verdict}");
    ensure!(verdict.posted > 0 && verdict.delivered > 0, "nothing was tried: {verdict}");
    Ok(())
}

async fn events_are_seen_as_they_happen(World { client, stack }: World) -> anyhow::Result<()> {
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
    // It may take a moment to look: say it until it is seen.
    let mut changes = tokio::time::interval(Duration::from_millis(200));
    let says_so = async {
        loop {
            changes.tick().await;
            let path = format!("/api/users/{}", author.id);
            let body = json!({ "nickname": author.nickname });
            client.put(&path, Auth::Token(&author.token), &body, StatusCode::NO_CONTENT).await?;
        }
    };
    let line = tokio::select! {
        line = lines => line??,
        result = says_so => return result,
        () = tokio::time::sleep(flack_conformance::client::WAIT) => anyhow::bail!("mf events tail shows nothing"),
    };
    let seen: Value = serde_json::from_str(&line).context("not JSON")?;
    ensure!(seen["stream"] == "USERS" && seen["event"]["data"]["id"] == author.id, "seen: {seen}");

    let interrupted = std::process::Command::new("kill").args(["-INT", &tail.id().to_string()]).status()?;
    ensure!(interrupted.success(), "cannot interrupt mf events tail");
    let status = tokio::task::spawn_blocking(move || tail.wait()).await??;
    ensure!(status.success(), "Ctrl-C is how it ends, not {status}");

    let past = stack.mf_ok(&[
        "events",
        "tail",
        "users",
        "--no-follow",
        "--from-start",
        "--grep",
        &author.nickname,
    ])?;
    ensure!(past.lines().all(|line| line.contains("user_changed")) && !past.is_empty(), "past: {past}");
    drained(&stack.operator()).await
}

async fn a_replay_changes_nothing_for_sockets(World { client, stack }: World) -> anyhow::Result<()> {
    let author = client.person("repeated").await?;
    let mut sockets = Vec::new();
    for _ in 0..4 {
        sockets.push(Socket::greet(client.base(), None, None).await?);
    }
    let said = client.message(&author, "only once").await?;
    for socket in &mut sockets {
        socket.wait_for("the message", |frame| tells_of_message(frame, said)).await?;
    }
    for arguments in [
        &["events", "replay", "messages", "--json"][..],
        &["events", "replay", "users", "--from", "1h", "--json"],
        &["events", "replay", "messages", "--snapshot", "--type", "message", "--json"],
    ] {
        let told: Value = serde_json::from_str(&stack.mf_ok(arguments)?)?;
        ensure!(told["queued"].as_i64().is_some_and(|queued| queued > 0), "{arguments:?} told {told}");
    }
    drained(&stack.operator()).await?;
    let last = client.message(&author, "the next that is told").await?;
    for socket in &mut sockets {
        let frames = socket.collect_until("the next message", |frame| tells_of_message(frame, last)).await?;
        let told_again: Vec<_> = frames
            .iter()
            .filter(|frame| frame["class"] == "Message" && frame["model"]["id"] != last)
            .collect();
        ensure!(told_again.is_empty(), "told again: {told_again:?}");
    }
    let none = stack.mf(&["events", "replay", "users", "--type", "usre"])?;
    ensure!(none.status.code() == Some(64), "a type that does not exist is a usage error");
    Ok(())
}

async fn a_derived_copy_is_made_anew_while_the_app_runs(
    World { client, stack }: World,
) -> anyhow::Result<()> {
    client.person("copied").await?;
    let rebuild = |reader: &'static str| {
        let operator = stack.operator();
        tokio::task::spawn_blocking(move || -> anyhow::Result<Value> {
            let told = operator.mf_ok(&["events", "replay", "users", "--rebuild", reader, "--json"])?;
            Ok(serde_json::from_str(&told)?)
        })
    };
    let first = rebuild("messages");
    // The app is used meanwhile, and must not notice.
    while !first.is_finished() {
        client.get("/api/messages", Auth::None, StatusCode::OK).await?;
        client.person("meanwhile").await?;
    }
    let first = first.await??;
    drained(&stack.operator()).await?;
    let second = rebuild("messages").await??;
    // What the first one made is what the second one cleared: nobody was missing.
    let users = second["queued"].as_i64().context("no count")?;
    ensure!(users > 0 && second["cleared"] == users, "first {first}, then {second}");
    ensure!(second["copies"] == json!(["nicknames"]), "{second}");
    // And the other copy that there is: all passwords of these tests are young enough to be in it.
    rebuild("tokens").await??;
    let passwords = rebuild("tokens").await??;
    ensure!(
        passwords["cleared"] == users && passwords["copies"] == json!(["password_changes"]),
        "{passwords}"
    );
    let other = stack.mf(&["events", "replay", "users", "--rebuild", "ui"])?;
    ensure!(other.status.code() == Some(64), "ui keeps no copy");
    Ok(())
}

async fn a_poison_event_stops_nobody_else_and_waits_for_the_operator(
    World { client, stack }: World,
) -> anyhow::Result<()> {
    let mut socket = Socket::greet(client.base(), None, None).await?;
    publish_as_operator(&stack, "flack.users.user_changed.poison", "{\"this is\": \"no event\"").await?;
    let operator = stack.operator();
    let (dead, _) = wait_for("dead letters in messages and tokens", || async {
        let dead = dead(&operator)?;
        let readers: HashSet<_> =
            dead.iter().filter_map(|dead| dead["id"].as_str()?.split(':').next()).collect();
        Ok(["messages", "tokens"].iter().all(|reader| readers.contains(reader)).then(|| dead.clone()))
    })
    .await?;
    ensure!(dead.iter().all(|dead| dead["entity_id"] == "poison"), "dead: {dead:?}");

    // Everybody else's events go on, to sockets and to readers.
    let person = client.person("unharmed").await?;
    let is_theirs = |frame: &Value| frame["class"] == "User" && frame["model"]["id"] == person.id;
    socket.wait_for("the new user", is_theirs).await?;
    drained(&operator).await?;

    let ids: Vec<&str> = dead.iter().filter_map(|dead| dead["id"].as_str()).collect();
    let (again, rest) = ids.split_first().context("no ids")?;
    let shown: Value = serde_json::from_str(&operator.mf_ok(&["events", "dead", "show", again])?)?;
    ensure!(shown["error"].as_str().is_some_and(|error| error.starts_with("not an event")), "shown: {shown}");
    operator.mf_ok(&["events", "dead", "requeue", again])?;
    let behind = operator.mf(&["events", "lag", "--max", "0"])?;
    ensure!(behind.status.code() == Some(1), "what was requeued waits, and is told");
    operator.mf_ok(&[&["events", "dead", "drop"][..], rest].concat())?;
    ensure!(dead_of(&operator, rest)?.is_empty(), "dropped, and still there");
    let gone = operator.mf(&["events", "dead", "drop", rest.first().context("one reader only")?])?;
    ensure!(gone.status.code() == Some(64), "what is gone cannot be dropped");
    Ok(())
}

fn dead(operator: &Operator) -> anyhow::Result<Vec<Value>> {
    let told: Value = serde_json::from_str(&operator.mf_ok(&["events", "dead", "list", "--json"])?)?;
    Ok(told["dead"].as_array().cloned().unwrap_or_default())
}

fn dead_of(operator: &Operator, ids: &[&str]) -> anyhow::Result<Vec<Value>> {
    Ok(dead(operator)?.into_iter().filter(|dead| ids.iter().any(|id| dead["id"] == *id)).collect())
}

/// Until nothing waits anywhere in the pipeline.
async fn drained(operator: &Operator) -> anyhow::Result<()> {
    wait_for("the pipeline to be empty", || async {
        Ok(operator.mf(&["events", "lag", "--max", "0"])?.status.success().then_some(()))
    })
    .await?;
    Ok(())
}

/// As nobody does but an operator who makes a mistake.
async fn publish_as_operator(stack: &Stack, subject: &str, payload: &str) -> anyhow::Result<()> {
    let secrets: Value =
        serde_json::from_str(&std::fs::read_to_string(stack.home().join("secrets/stack.json"))?)?;
    let password = secrets["accounts"]["mf"]["nats"].as_str().context("no password")?;
    let client = async_nats::ConnectOptions::new()
        .user_and_password("mf".to_owned(), password.to_owned())
        .connect(stack.nats_url())
        .await?;
    client.publish(subject.to_owned(), payload.to_owned().into()).await?;
    client.flush().await?;
    Ok(())
}
