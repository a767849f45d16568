//! Upgrades on a real stack under load: what users notice when a version is replaced, when it is bad, and when the
//! upgrade itself is disturbed.

use std::{
    process::{Child, ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use flack_conformance::{
    cases,
    client::{Auth, wait_for},
    delivery::{Over, Plan, Progress, verify_as},
    load::Load,
    stack::{Operator, Stack, Stage, text},
    suite::{self, Case, World},
};
use reqwest::{Method, StatusCode};
use serde_json::Value;

/// The good versions have the same programs; the others have the faults of a bad version.
const VERSIONS: [(&str, &str); 7] = [
    ("2", "RUST_LOG=info"),
    ("3", "RUST_LOG=info"),
    ("errors", "FLACK_FAULTS=errors=10%"),
    ("slow", "FLACK_FAULTS=slow=5x"),
    ("never-ready", "FLACK_FAULTS=not-ready"),
    ("exits", "FLACK_FAULTS=exit=3s"),
    ("migration", "FLACK_FAULTS=migration"),
];
/// Concurrent requests of a load.
const TASKS: usize = 6;
/// Short, so that the tests do not take long.
const FAST: [&str; 2] = ["--min-healthy", "1s"];
/// Messages are sent until the upgrade of all services has ended.
const UPGRADE_TIME_MAX: Duration = Duration::from_mins(10);
/// An upgrade of one service takes some seconds.
const COMMAND_TIME_MAX: Duration = Duration::from_mins(1);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

fn main() -> ExitCode {
    // One after the other: each case leaves another version running.
    suite::main_in_order(&[("services", start)], upgrades)
}

fn start() -> Result<Stack> {
    // The load does not search, and an upgrade without traffic holds.
    let stack = Stack::start(Stage::Services, "users=2,messages=2,websocket=2,search=0,recommend=0,tag=0")?;
    for (version, variable) in VERSIONS {
        stack.mf_ok(&["build", "--version", version, "--no-build", "--env", variable])?;
    }
    Ok(stack)
}

fn upgrades(_: &str) -> Vec<Case> {
    cases![
        all_services_are_upgraded_under_load_without_a_failed_request_or_a_lost_message,
        a_version_that_fails_a_tenth_of_its_requests_is_reverted,
        a_version_that_is_slow_is_reverted,
        a_version_that_does_not_become_ready_is_reverted,
        a_version_that_exits_is_reverted,
        a_version_whose_migration_fails_is_reverted,
        an_upgrade_without_traffic_holds_until_it_is_promoted_and_refuses_other_commands,
        an_upgrade_without_traffic_is_reverted_at_its_deadline,
        an_upgrade_is_aborted_without_a_failed_request,
        an_upgrade_whose_terminal_was_killed_is_resumed_after_a_restart_of_etcd,
        an_upgrade_is_undone,
        a_canary_gets_only_the_requests_with_its_header_and_is_aborted,
        a_canary_is_promoted_without_a_failed_request,
        a_bad_canary_is_reverted,
        wrong_arguments_change_nothing,
        a_new_instance_has_the_weight_of_the_one_that_it_replaces,
    ]
}

async fn all_services_are_upgraded_under_load_without_a_failed_request_or_a_lost_message(
    World { client, stack }: World,
) -> Result<()> {
    let author = client.person("busy").await?;
    let load = Load::mixed(&client, TASKS, &author, Duration::ZERO);
    load.warmed_up().await?;
    let plan = Plan {
        posters: 5,
        sockets: 20,
        rate: 20.0,
        time: UPGRADE_TIME_MAX,
        over: Over::Both,
        both_sides: false,
        dropping: 0,
        faults: Vec::new(),
    };
    let (operator, progress) = (stack.operator(), Progress::default());
    // On a busy machine the times of some dozen requests vary: three samples decide.
    let roll = ["upgrade", "roll", "all", "--to", "2", "--min-requests", "20", "--failure-limit", "3"];
    let arguments = [&roll[..], &FAST].concat();
    let upgrade = async {
        let output = operator.in_background(&arguments).await;
        progress.end();
        output
    };
    let (verdict, output) = tokio::join!(verify_as(&client, &operator, &plan, "poster", &progress), upgrade);
    let (verdict, output) = (verdict?, output?);
    ensure!(output.status.success(), "{}", text(&output));
    ensure!(verdict.is_good() && verdict.posted > 0 && verdict.delivered > 0, "{verdict}\n{}", text(&output));
    ensure!(verdict.reconnects > 0, "no socket was on an instance that was replaced: {verdict}");
    for service in ["monolith", "ui", "users", "tokens", "messages", "websocket"] {
        let versions = versions(&stack.ps()?, service);
        ensure!(!versions.is_empty() && versions.iter().all(|version| version == "2"), "{service}: {versions:?}");
    }
    ensure!(versions(&stack.ps()?, "users").len() == 2, "the number of instances is another one");
    load.end_without_failure()?;

    // From now on this is the version of new instances.
    let run: Value = serde_json::from_str(&stack.mf_ok(&["run", "users", "--json"])?)?;
    ensure!(run["version"] == "2", "{run}");
    stack.mf_ok(&["kill", run["instances"][0].as_str().context("no instance")?])?;
    Ok(())
}

async fn a_version_that_fails_a_tenth_of_its_requests_is_reverted(World { client, stack }: World) -> Result<()> {
    let load = Load::get(&client, "/api/users?online=1");
    load.warmed_up().await?;
    let output = refused_version(&stack, "errors", &FAST).await?;
    ensure!(output.contains("requests failed (") && output.contains("of the balancer after"), "{output}");
    let record = last(&stack, "users")?;
    let (requests, failed) = (record["users_saw"]["requests"].as_u64(), record["users_saw"]["failed"].as_u64());
    let (requests, failed) = (requests.context("no count")?, failed.context("no count")?);
    ensure!(failed > 0 && failed * 5 < requests, "users saw {failed} of {requests} requests fail");
    // A version that is out of the balancer harms nobody.
    let before = load.failed();
    // The last requests may end after the last reading.
    ensure!(before > 0 && before as u64 <= failed + TASKS as u64, "{before} requests failed, {failed} were counted");
    load.continues().await?;
    ensure!(load.failed() == before, "requests fail after the upgrade was reverted");
    Ok(())
}

async fn a_version_that_is_slow_is_reverted(World { client, stack }: World) -> Result<()> {
    let load = Load::get(&client, "/api/users?online=1");
    load.warmed_up().await?;
    let output = refused_version(&stack, "slow", &["--min-healthy", "5s"]).await?;
    ensure!(output.contains("that of the old version") || output.contains("those of the old version"), "{output}");
    load.end_without_failure()
}

async fn a_version_that_does_not_become_ready_is_reverted(World { client, stack }: World) -> Result<()> {
    let load = Load::get(&client, "/api/users?online=1");
    let output = refused_version(&stack, "never-ready", &["--healthy-deadline", "2s"]).await?;
    ensure!(output.contains("did not become ready within 2 s") && output.contains("not ready yet"), "{output}");
    load.end_without_failure()
}

async fn a_version_that_exits_is_reverted(World { client, stack }: World) -> Result<()> {
    let load = Load::get(&client, "/api/users?online=1");
    let output = refused_version(&stack, "exits", &["--min-healthy", "30s"]).await?;
    ensure!(output.contains("ended with exit code 1") && output.contains("this process ends now"), "{output}");
    load.end_without_failure()
}

async fn a_version_whose_migration_fails_is_reverted(World { client, stack }: World) -> Result<()> {
    let load = Load::get(&client, "/api/users?online=1");
    let output = refused_version(&stack, "migration", &FAST).await?;
    ensure!(output.contains("migrations failed"), "the output has not its last lines: {output}");
    load.end_without_failure()
}

/// Upgrades users to a bad version, and checks that it is as before afterwards. Returns what the command printed.
async fn refused_version(stack: &Stack, version: &str, options: &[&str]) -> Result<String> {
    let before = (versions(&stack.ps()?, "users"), names(&stack.ps()?, "users"));
    let arguments = [&["upgrade", "roll", "users", "--to", version], options].concat();
    let output = stack.operator().in_background(&arguments).await?;
    let text = text(&output);
    ensure!(output.status.code() == Some(1), "expected exit code 1: {text}");
    ensure!(text.contains("runs version 2 again"), "{text}");
    // The registry entry of an instance that has crashed stays until its lease expires.
    wait_for("the same instances as before", || async {
        let after = (versions(&stack.ps()?, "users"), names(&stack.ps()?, "users"));
        Ok((before == after).then_some(()))
    })
    .await
    .with_context(|| format!("{before:?}"))?;
    let record = last(stack, "users")?;
    ensure!(record["phase"] == "reverted" && record["to"] == version, "{record}");
    Ok(text)
}

async fn an_upgrade_without_traffic_holds_until_it_is_promoted_and_refuses_other_commands(
    World { stack, .. }: World,
) -> Result<()> {
    let operator = stack.operator();
    let mut upgrade = Terminal::start(&operator, &[&["upgrade", "roll", "users", "--to", "3"], &FAST[..]].concat())?;
    wait_until_held(&stack).await?;
    let status = stack.mf_ok(&["upgrade", "status", "users"])?;
    ensure!(status.contains("not enough traffic: hold (") && status.contains("driven by"), "{status}");
    ensure!(
        versions(&stack.ps()?, "users").iter().filter(|version| *version == "2").count() == 2,
        "an old one stopped"
    );

    let second = stack.mf(&["upgrade", "roll", "users", "--to", "2"])?;
    ensure!(second.status.code() == Some(75), "{}", text(&second));
    ensure!(text(&second).contains("users is being upgraded by"), "{}", text(&second));
    for other in [&["scale", "users=3"][..], &["run", "users"], &["restart", "users"]] {
        let refused = stack.mf(other)?;
        ensure!(refused.status.code() == Some(75), "{other:?}: {}", text(&refused));
        ensure!(text(&refused).contains("users is being upgraded from 2 to 3 since"), "{}", text(&refused));
    }

    stack.mf_ok(&["upgrade", "promote"])?;
    let status = upgrade.wait().await?;
    ensure!(status == Some(0), "the promoted upgrade ended with {status:?}");
    ensure!(versions(&stack.ps()?, "users") == ["3", "3"], "{}", stack.ps()?);
    Ok(())
}

async fn an_upgrade_without_traffic_is_reverted_at_its_deadline(World { stack, .. }: World) -> Result<()> {
    let roll = ["upgrade", "roll", "users", "--to", "2", "--progress-deadline", "2s"];
    let output = stack.operator().in_background(&[&roll[..], &FAST].concat()).await?;
    ensure!(output.status.code() == Some(1) && text(&output).contains("no progress within 2 s"), "{}", text(&output));
    ensure!(versions(&stack.ps()?, "users") == ["3", "3"], "{}", stack.ps()?);
    // Without the automatic revert it stays as it is, until somebody decides.
    let output = stack.operator().in_background(&[&roll[..], &FAST, &["--no-auto-revert"]].concat()).await?;
    ensure!(output.status.code() == Some(1) && text(&output).contains("is held"), "{}", text(&output));
    ensure!(versions(&stack.ps()?, "users").len() == 3, "{}", stack.ps()?);
    let second = stack.mf(&["upgrade", "roll", "users", "--to", "2"])?;
    ensure!(second.status.code() == Some(75) && text(&second).contains("nobody drives it"), "{}", text(&second));
    stack.mf_ok(&["upgrade", "abort", "users"])?;
    ensure!(versions(&stack.ps()?, "users") == ["3", "3"], "{}", stack.ps()?);
    Ok(())
}

async fn an_upgrade_is_aborted_without_a_failed_request(World { client, stack }: World) -> Result<()> {
    let load = Load::get(&client, "/api/users?online=1");
    load.warmed_up().await?;
    // Long enough that the second instance is being observed when the first one is replaced.
    let roll = ["upgrade", "roll", "users", "--to", "2", "--min-healthy", "5s"];
    let mut upgrade = Terminal::start(&stack.operator(), &roll)?;
    wait_for("the first old instance to be replaced", || async {
        let old = versions(&stack.ps()?, "users").iter().filter(|version| *version == "3").count();
        Ok((old == 1).then_some(()))
    })
    .await?;
    stack.mf_ok(&["upgrade", "abort"])?;
    ensure!(upgrade.wait().await? == Some(1), "an aborted upgrade has not succeeded");
    ensure!(versions(&stack.ps()?, "users") == ["3", "3"], "{}", stack.ps()?);
    load.continues().await?;
    load.end_without_failure()
}

async fn an_upgrade_whose_terminal_was_killed_is_resumed_after_a_restart_of_etcd(
    World { client, stack }: World,
) -> Result<()> {
    let operator = stack.operator();
    let mut upgrade = Terminal::start(&operator, &[&["upgrade", "roll", "users", "--to", "2"], &FAST[..]].concat())?;
    wait_until_held(&stack).await?;
    upgrade.kill()?;
    let load = Load::get(&client, "/api/users?online=1");
    load.warmed_up().await?;
    stack.mf_ok(&["kill", "etcd", "--hard"])?;
    let output = operator.in_background(&["upgrade", "resume"]).await?;
    ensure!(output.status.success(), "{}", text(&output));
    ensure!(versions(&stack.ps()?, "users") == ["2", "2"], "{}", stack.ps()?);
    load.continues().await?;
    load.end_without_failure()
}

async fn an_upgrade_is_undone(World { client, stack }: World) -> Result<()> {
    let load = Load::get(&client, "/api/users?online=1");
    load.warmed_up().await?;
    let undone = [&["upgrade", "undo", "users", "--max-parallel", "2", "--max-surge", "2"], &FAST[..]].concat();
    let output = stack.operator().in_background(&undone).await?;
    ensure!(output.status.success(), "{}", text(&output));
    ensure!(versions(&stack.ps()?, "users") == ["3", "3"], "{}", stack.ps()?);
    ensure!(stack.mf_ok(&["upgrade", "history", "users"])?.contains("undo"), "the history has no undo");
    load.end_without_failure()
}

/// The header of the canary's requests.
const HEADER: &str = "X-Canary";

async fn a_canary_gets_only_the_requests_with_its_header_and_is_aborted(World { client, stack }: World) -> Result<()> {
    let old = names(&stack.ps()?, "users");
    let with_header = Load::start(&client, 2, |client, _| async move {
        let request = client.request(Method::GET, "/api/users?online=1", Auth::None).header(HEADER, "1");
        client.send(request, StatusCode::OK).await.map(drop)
    });
    let without = Load::get(&client, "/api/users?online=1");
    without.warmed_up().await?;
    let header = format!("{HEADER}: 1");
    let arguments = [&["upgrade", "try", "users", "--to", "2", "--header", &header, "--no-wait"], &FAST[..]].concat();
    let output = stack.operator().in_background(&arguments).await?;
    ensure!(output.status.success() && text(&output).contains("good so far"), "{}", text(&output));

    let canary = names(&stack.ps()?, "users").into_iter().find(|name| !old.contains(name)).context("no canary")?;
    for _ in 0..20 {
        let plain = client.get("/api/users", Auth::None, StatusCode::OK).await?;
        ensure!(plain.header("x-flack-instance") != canary, "a request without the header reached {canary}");
        let request = client.request(Method::GET, "/api/users", Auth::None).header(HEADER, "1");
        let chosen = client.send(request, StatusCode::OK).await?;
        ensure!(chosen.header("x-flack-instance") == canary, "a request with the header did not reach {canary}");
    }
    stack.mf_ok(&["upgrade", "abort", "users"])?;
    ensure!(versions(&stack.ps()?, "users") == ["3", "3"], "{}", stack.ps()?);
    with_header.continues().await?;
    with_header.end_without_failure()?;
    without.end_without_failure()
}

async fn a_canary_is_promoted_without_a_failed_request(World { client, stack }: World) -> Result<()> {
    let load = Load::get(&client, "/api/users?online=1");
    load.warmed_up().await?;
    let arguments = [&["upgrade", "try", "users", "--to", "2", "--percent", "100"], &FAST[..]].concat();
    let mut terminal = Terminal::start(&stack.operator(), &arguments)?;
    wait_for("the canary to be good", || async { Ok((status(&stack)?["phase"] == "waiting").then_some(())) }).await?;
    ensure!(versions(&stack.ps()?, "users").len() == 4, "all users need as many instances as before");
    stack.mf_ok(&["upgrade", "promote", "users"])?;
    ensure!(terminal.wait().await? == Some(0), "the promoted upgrade failed");
    ensure!(versions(&stack.ps()?, "users") == ["2", "2"], "{}", stack.ps()?);
    load.continues().await?;
    load.end_without_failure()
}

async fn a_bad_canary_is_reverted(World { client, stack }: World) -> Result<()> {
    let load = Load::get(&client, "/api/users?online=1");
    load.warmed_up().await?;
    let arguments = [&["upgrade", "try", "users", "--to", "errors", "--percent", "100"], &FAST[..]].concat();
    let output = stack.operator().in_background(&arguments).await?;
    ensure!(output.status.code() == Some(1) && text(&output).contains("requests failed"), "{}", text(&output));
    ensure!(versions(&stack.ps()?, "users") == ["2", "2"], "{}", stack.ps()?);
    let before = load.failed();
    ensure!(before > 0, "nobody has used the canary");
    load.continues().await?;
    ensure!(load.failed() == before, "requests fail after the canary was reverted");
    Ok(())
}

async fn a_new_instance_has_the_weight_of_the_one_that_it_replaces(World { stack, .. }: World) -> Result<()> {
    stack.mf_ok(&["run", "tokens", "--weight", "50"])?;
    let weights = || -> Result<Vec<(u64, String)>> {
        let ps = stack.ps()?;
        let processes = ps["processes"].as_array().into_iter().flatten();
        let of_tokens = processes.filter(|process| process["service"] == "tokens");
        let mut weights: Vec<_> = of_tokens
            .filter_map(|process| Some((process["weight"].as_u64()?, process["version"].as_str()?.to_owned())))
            .collect();
        weights.sort();
        Ok(weights)
    };
    let before = weights()?;
    ensure!(before.iter().map(|(weight, _)| *weight).eq([50, 100]), "{before:?}");
    let output = stack.operator().in_background(&[&["upgrade", "undo", "tokens"], &FAST[..]].concat()).await?;
    ensure!(output.status.success(), "{}", text(&output));
    let after = weights()?;
    ensure!(after.iter().map(|(weight, _)| *weight).eq([50, 100]), "{after:?}");
    ensure!(before.iter().zip(&after).all(|(before, after)| before.1 != after.1), "{before:?}, {after:?}");
    Ok(())
}

async fn wrong_arguments_change_nothing(World { stack, .. }: World) -> Result<()> {
    let before = stack.ps()?["processes"].as_array().map(Vec::len);
    for (arguments, expected) in [
        (&["roll", "users", "--to", "99"][..], "there is no version 99"),
        (&["roll", "usres", "--to", "2"], "users"),
        (&["roll", "users", "--to", "2", "--max-surge", "0"], "1..=16"),
        (&["roll", "users", "--to", "2", "--min-healthy", "10"], "500ms"),
        (&["try", "users", "--to", "2", "--header", "X-Canary"], "X-Canary: 1"),
        (&["try", "users", "--to", "2", "--percent", "5", "--user", "anna"], "cannot be used with"),
        (&["try", "users", "--to", "2", "--user", "nobody-has-this-name"], "there is no user"),
        (&["promote"], "no upgrade is unfinished"),
        (&["abort", "users"], "no upgrade of users is unfinished"),
        (&["resume"], "no upgrade is unfinished"),
    ] {
        let output = stack.mf(&[&["upgrade"], arguments].concat())?;
        ensure!(output.status.code() == Some(64), "{arguments:?}: {}", text(&output));
        ensure!(text(&output).contains(expected), "{arguments:?}: {}", text(&output));
    }
    let planned = stack.mf_ok(&["upgrade", "roll", "all", "--to", "3", "--dry-run"])?;
    ensure!(planned.contains("users: users-") && planned.contains("by version 3"), "{planned}");
    ensure!(stack.mf_ok(&["upgrade", "roll", "tokens", "--to", "2"])?.contains("already"), "tokens has version 2");
    ensure!(stack.ps()?["processes"].as_array().map(Vec::len) == before, "something was started or stopped");
    Ok(())
}

/// `mf` in a terminal of its own. It is killed when it is dropped.
struct Terminal(Child);

impl Terminal {
    fn start(operator: &Operator, arguments: &[&str]) -> Result<Self> {
        let mut command = operator.command(arguments)?;
        Ok(Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?))
    }

    fn kill(&mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }

    /// Waits until it ends, and returns its exit code.
    async fn wait(&mut self) -> Result<Option<i32>> {
        let deadline = Instant::now() + COMMAND_TIME_MAX;
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status.code());
            }
            ensure!(Instant::now() < deadline, "the command has not ended within {COMMAND_TIME_MAX:?}");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

async fn wait_until_held(stack: &Stack) -> Result<()> {
    wait_for("the upgrade to be held", || async { Ok((status(stack)?["phase"] == "held").then_some(())) }).await?;
    Ok(())
}

/// Returns the last upgrade of users.
fn status(stack: &Stack) -> Result<Value> {
    let listed: Value = serde_json::from_str(&stack.mf_ok(&["upgrade", "status", "users", "--json"])?)?;
    Ok(listed[0].clone())
}

/// Returns the last finished upgrade of a service.
fn last(stack: &Stack, service: &str) -> Result<Value> {
    let records: Value = serde_json::from_str(&stack.mf_ok(&["upgrade", "history", service, "--json"])?)?;
    Ok(records[0].clone())
}

fn column(ps: &Value, service: &str, column: &str) -> Vec<String> {
    let processes = ps["processes"].as_array().into_iter().flatten();
    let of_service = processes.filter(|process| process["service"] == service);
    of_service.filter_map(|process| process[column].as_str()).map(str::to_owned).collect()
}

fn versions(ps: &Value, service: &str) -> Vec<String> {
    column(ps, service, "version")
}

fn names(ps: &Value, service: &str) -> Vec<String> {
    column(ps, service, "name")
}
