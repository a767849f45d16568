//! Bad days, on a real stack: instances are killed, and what the README promises then is held against it.

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use flack_conformance::{
    cases,
    client::{Auth, Client, wait_for},
    socket::{Socket, tells_of_message},
    stack::{Stack, Stage},
    suite::{self, Case, World},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

fn main() -> ExitCode {
    // The cases kill what others would use: one after the other.
    suite::main_in_order(
        &[("services", || Stack::start(Stage::Services, "users=2,tokens=2,messages=2,websocket=2"))],
        failures,
    )
}

fn failures() -> Vec<Case> {
    cases![
        a_second_start_changes_nothing_and_is_quick,
        a_new_instance_is_used_within_a_second_of_its_start,
        no_get_fails_while_an_instance_crashes,
        an_instance_that_leaves_is_not_missed,
        without_users_only_what_needs_users_answers_503,
        sockets_of_a_killed_instance_resume_elsewhere,
        sockets_of_an_instance_that_leaves_are_told_and_resume_elsewhere,
        an_instance_can_leave_while_the_agent_is_away,
        the_balancer_goes_on_without_its_agent,
        the_app_goes_on_without_the_registry,
        messages_are_stored_while_nats_is_away_and_told_when_it_is_back,
    ]
}

async fn a_second_start_changes_nothing_and_is_quick(World { stack, .. }: World) -> anyhow::Result<()> {
    let before = pids(&stack.ps()?);
    stack.mf_ok(&["up", "--detach"])?;
    ensure!(before == pids(&stack.ps()?), "a second mfup restarted something");
    Ok(())
}

async fn a_new_instance_is_used_within_a_second_of_its_start(
    World { client, stack }: World,
) -> anyhow::Result<()> {
    let before = names(&stack.ps()?, "users");
    stack.mf_ok(&["run", "users"])?;
    let new = names(&stack.ps()?, "users")
        .into_iter()
        .find(|name| !before.contains(name))
        .context("no new instance")?;
    let ((), took) = wait_for("an answer of the new instance", || async {
        let answer = client.get("/api/users?online=1", Auth::None, StatusCode::OK).await?;
        Ok((answer.header("x-flack-instance") == new).then_some(()))
    })
    .await?;
    ensure!(took < Duration::from_secs(1), "the balancer took {took:?} to use it");
    stack.mf_ok(&["kill", &new])?;
    Ok(())
}

async fn no_get_fails_while_an_instance_crashes(World { client, stack }: World) -> anyhow::Result<()> {
    let load = Load::start(&client, "/api/users?online=1");
    load.warmed_up().await?;
    let restarts = restarts(&stack.ps()?, "users");
    stack.mf_ok(&["kill", "users", "--hard"])?;
    load.goes_on().await?;
    wait_for("the crashed instance to be back", || async {
        let ps = stack.ps()?;
        let back = restarts_done(&ps, "users", restarts);
        Ok(back.then_some(()))
    })
    .await?;
    load.goes_on().await?;
    load.end_without_failure()
}

async fn an_instance_that_leaves_is_not_missed(World { client, stack }: World) -> anyhow::Result<()> {
    stack.mf_ok(&["run", "users"])?;
    let leaving = names(&stack.ps()?, "users").pop().context("no instance")?;
    let load = Load::start(&client, "/api/users?online=1");
    load.warmed_up().await?;
    stack.mf_ok(&["kill", &leaving])?;
    load.goes_on().await?;
    ensure!(!names(&stack.ps()?, "users").contains(&leaving), "{leaving} is still there");
    load.end_without_failure()
}

async fn without_users_only_what_needs_users_answers_503(
    World { client, stack }: World,
) -> anyhow::Result<()> {
    let person = client.person("survivor").await?;
    let instances = names(&stack.ps()?, "users").len();
    stack.mf_ok(&["kill", "users", "--all"])?;
    let status = |method: Method, path: &'static str, auth| {
        let request = client.request(method, path, auth);
        async { anyhow::Ok(client.send_any(request).await?.status) }
    };
    wait_for("users to be gone", || async {
        Ok((status(Method::GET, "/api/users", Auth::None).await? == StatusCode::SERVICE_UNAVAILABLE)
            .then_some(()))
    })
    .await?;
    let basic = Auth::Basic(&person.nickname, &person.password);
    ensure!(
        status(Method::POST, "/api/tokens", basic).await? == StatusCode::SERVICE_UNAVAILABLE,
        "tokens asks users"
    );
    client.get("/", Auth::None, StatusCode::OK).await?;
    client.get("/api/messages", Auth::None, StatusCode::OK).await?;
    client.message(&person, "is anybody there?").await.context("messages needs no users")?;
    stack.mf_ok(&["run", "users", "--count", &instances.to_string()])?;
    wait_for("users to answer again", || async {
        Ok((status(Method::GET, "/api/users", Auth::None).await? == StatusCode::OK).then_some(()))
    })
    .await?;
    client.token(&person.nickname, &person.password).await?;
    Ok(())
}

async fn sockets_of_a_killed_instance_resume_elsewhere(World { client, stack }: World) -> anyhow::Result<()> {
    let author = client.person("announcer").await?;
    let mut sockets = Vec::new();
    for _ in 0..4 {
        sockets.push(Socket::greet(client.base(), None, None).await?);
    }
    let seen = client.message(&author, "before").await?;
    let mut cursors = Vec::new();
    for socket in &mut sockets {
        let frame = socket.wait_for("the message", |frame| tells_of_message(frame, seen)).await?;
        cursors.push(frame["cursor"].as_str().context("no cursor")?.to_owned());
    }
    stack.mf_ok(&["kill", "websocket", "--hard"])?;
    let missed = client.message(&author, "in between").await?;
    for cursor in &cursors {
        let mut socket = Socket::greet(client.base(), None, Some(cursor)).await?;
        if socket.welcome["resumed"] == json!(true) {
            let frames =
                socket.collect_until("what was missed", |frame| tells_of_message(frame, missed)).await?;
            ensure!(!frames.iter().any(|frame| tells_of_message(frame, seen)), "told again what was seen");
        } else {
            // An instance that is new knows nothing of before: the client reloads, and misses nothing.
            client.get(&format!("/api/messages/{missed}"), Auth::None, StatusCode::OK).await?;
        }
    }
    Ok(())
}

async fn sockets_of_an_instance_that_leaves_are_told_and_resume_elsewhere(
    World { client, stack }: World,
) -> anyhow::Result<()> {
    stack.mf_ok(&["run", "websocket"])?;
    a_websocket_instance_leaves(&client, &stack).await
}

async fn an_instance_can_leave_while_the_agent_is_away(World { client, stack }: World) -> anyhow::Result<()> {
    stack.mf_ok(&["run", "websocket"])?;
    stack.mf_ok(&["run", "users"])?;
    let leaving = names(&stack.ps()?, "users").pop().context("no instance")?;
    stack.mf_ok(&["kill", "agent", "--hard", "--no-restart"])?;
    let load = Load::start(&client, "/api/users?online=1");
    load.warmed_up().await?;
    stack.mf_ok(&["kill", &leaving])?;
    load.goes_on().await?;
    load.end_without_failure()?;
    a_websocket_instance_leaves(&client, &stack).await?;
    stack.mf_ok(&["up", "--detach"])?;
    Ok(())
}

/// The youngest. Its sockets are told to come back, and get there what they missed.
async fn a_websocket_instance_leaves(client: &Client, stack: &Stack) -> anyhow::Result<()> {
    let leaving = names(&stack.ps()?, "websocket").pop().context("no instance")?;
    let mut sockets = Vec::new();
    for _ in 0..6 {
        sockets.push(Socket::greet(client.base(), None, None).await?);
    }
    stack.mf_ok(&["kill", &leaving])?;
    let missed = client.message(&client.person("farewell").await?, "who is still there?").await?;
    let mut told = 0;
    for mut socket in sockets {
        // Those at other instances hear the message, the others are sent away; a broken connection is neither.
        let cursor = socket.welcome["cursor"].as_str().context("no cursor")?.to_owned();
        if let Err(problem) = socket.wait_for("the message", |frame| tells_of_message(frame, missed)).await {
            ensure!(problem.to_string().contains("closed with 1012"), "not sent away: {problem:#}");
            told += 1;
            let mut again = Socket::greet(client.base(), None, Some(&cursor)).await?;
            ensure!(again.welcome["resumed"] == json!(true), "not resumed: {}", again.welcome);
            again.wait_for("what was missed", |frame| tells_of_message(frame, missed)).await?;
        }
    }
    ensure!(told > 0, "no socket was at {leaving}");
    Ok(())
}

async fn the_balancer_goes_on_without_its_agent(World { client, stack }: World) -> anyhow::Result<()> {
    let load = Load::start(&client, "/api/users?online=1");
    load.warmed_up().await?;
    stack.mf_ok(&["kill", "agent", "--hard"])?;
    load.goes_on().await?;
    stack.mf_ok(&["run", "users"])?;
    load.goes_on().await?;
    load.end_without_failure()
}

async fn the_app_goes_on_without_the_registry(World { client, stack }: World) -> anyhow::Result<()> {
    let person = client.person("offgrid").await?;
    stack.mf_ok(&["kill", "etcd", "--hard"])?;
    client.message(&person, "no registry, no problem").await?;
    client.get("/api/users", Auth::Token(&person.token), StatusCode::OK).await?;
    wait_for("a token to be issued and revoked again", || async {
        let Ok(token) = client.token(&person.nickname, &person.password).await else { return Ok(None) };
        let answer =
            client.send_any(client.request(Method::DELETE, "/api/tokens", Auth::Token(&token))).await?;
        Ok((answer.status == StatusCode::NO_CONTENT).then_some(()))
    })
    .await?;
    Ok(())
}

async fn messages_are_stored_while_nats_is_away_and_told_when_it_is_back(
    World { client, stack }: World,
) -> anyhow::Result<()> {
    let author = client.person("persistent").await?;
    let mut socket = Socket::greet(client.base(), None, None).await?;
    stack.mf_ok(&["kill", "nats", "--hard"])?;
    let id = client.message(&author, "written in the dark").await?;
    socket.wait_for("the message", |frame| tells_of_message(frame, id)).await?;
    Ok(())
}

/// GETs in a loop, from a few tasks, until it ends.
struct Load {
    answered: Arc<AtomicUsize>,
    failures: Arc<std::sync::Mutex<Vec<String>>>,
    ended: Arc<AtomicBool>,
}

/// How many ask at once.
const LOAD_TASKS: usize = 4;
/// How many more answers count as "it goes on".
const LOAD_ANSWERS: usize = 200;
/// The load ends by itself, whatever becomes of the case.
const LOAD_TIME_MAX: Duration = Duration::from_mins(1);

impl Load {
    fn start(client: &Client, path: &'static str) -> Self {
        let load = Self { answered: Arc::default(), failures: Arc::default(), ended: Arc::default() };
        let start = Instant::now();
        for _ in 0..LOAD_TASKS {
            let (client, answered) = (client.clone(), Arc::clone(&load.answered));
            let (failures, ended) = (Arc::clone(&load.failures), Arc::clone(&load.ended));
            tokio::spawn(async move {
                while !ended.load(Ordering::Relaxed) && start.elapsed() < LOAD_TIME_MAX {
                    match client.get(path, Auth::None, StatusCode::OK).await {
                        Ok(_) => drop(answered.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => {
                            failures.lock().expect("no panic under the lock").push(format!("{error:#}"));
                        }
                    }
                }
            });
        }
        load
    }

    async fn warmed_up(&self) -> anyhow::Result<()> {
        self.goes_on().await
    }

    /// Waits until it was answered another few hundred times.
    async fn goes_on(&self) -> anyhow::Result<()> {
        let goal = self.answered.load(Ordering::Relaxed) + LOAD_ANSWERS;
        wait_for("more answers", || async {
            Ok((self.answered.load(Ordering::Relaxed) >= goal).then_some(()))
        })
        .await?;
        Ok(())
    }

    fn end_without_failure(self) -> anyhow::Result<()> {
        self.ended.store(true, Ordering::Relaxed);
        let failures = self.failures.lock().expect("no panic under the lock");
        let answered = self.answered.load(Ordering::Relaxed);
        ensure!(failures.is_empty(), "{} of {answered} failed, the first: {}", failures.len(), failures[0]);
        Ok(())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
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
