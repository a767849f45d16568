//! `mf chaos` and `mf doctor` on a real stack: faults are made, undone and reported.

use std::{
    fs,
    process::{Child, ExitCode, Output, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use etcd_client::{Client, ConnectOptions, Identity, TlsOptions};
use flack_conformance::{
    cases,
    client::wait_for,
    stack::{Stack, Stage, stopped_of},
    suite::{self, Case, World},
};
use serde_json::Value;

fn main() -> ExitCode {
    // One after the other: the faults of a case would fail the others.
    suite::main_in_order(
        &[("services", || Stack::start(Stage::Services, "users=2,tokens=2,messages=2,websocket=2"))],
        faults,
    )
}

fn faults(_: &str) -> Vec<Case> {
    cases![
        a_plan_is_the_same_for_a_seed_and_changes_nothing,
        faults_of_every_kind_are_made_and_undone_and_no_request_fails_that_is_repeated,
        ctrl_c_undoes_a_fault,
        what_a_killed_mfchaos_has_left_is_found_and_undone,
        mfdown_and_mfup_undo_what_a_killed_mfchaos_has_left,
        mfdoctor_finds_a_stopped_process_and_a_part_without_an_owner,
    ]
}

const KINDS: [&str; 5] = ["kill", "stop", "slow", "partition", "full-disk-of-logs"];
/// Enough for all kinds of faults, of the first plan that has them.
const SECONDS: &str = "30";
const SEEDS_MAX: u32 = 200;

fn plan(stack: &Stack, seed: &str) -> Result<Value> {
    let plan = stack.mf_ok(&["chaos", "--plan", "--json", "--seconds", SECONDS, "--seed", seed])?;
    Ok(serde_json::from_str(&plan)?)
}

fn names(stack: &Stack) -> Result<Vec<String>> {
    Ok(stack.pids()?.into_iter().map(|(name, _)| name).collect())
}

/// Returns the processes of the stack that SIGSTOP has stopped.
fn stopped(stack: &Stack) -> Result<Vec<String>> {
    Ok(stopped_of(&stack.pids()?))
}

async fn a_plan_is_the_same_for_a_seed_and_changes_nothing(World { stack, .. }: World) -> Result<()> {
    let before = stack.pids()?;
    let first = plan(&stack, "7")?;
    ensure!(first["faults"].as_array().is_some_and(|faults| faults.len() > 2), "{first}");
    ensure!(first == plan(&stack, "7")?, "the same seed gave another plan");
    ensure!(first != plan(&stack, "8")?, "another seed gave the same plan");
    ensure!(before == stack.pids()?, "a plan changed the stack");
    let refused = stack.mf(&["chaos", "--seconds", "1"])?;
    ensure!(refused.status.code() == Some(64), "{refused:?}");
    let refused = stack.mf(&["chaos", "--kinds", "earthquake"])?;
    ensure!(refused.status.code() == Some(64), "{refused:?}");
    Ok(())
}

async fn faults_of_every_kind_are_made_and_undone_and_no_request_fails_that_is_repeated(
    World { stack, .. }: World,
) -> Result<()> {
    let before = names(&stack)?;
    let has_all_kinds = |seed: &u32| {
        plan(&stack, &seed.to_string()).is_ok_and(|plan| {
            let faults = plan["faults"].as_array().cloned().unwrap_or_default();
            KINDS.iter().all(|kind| faults.iter().any(|fault| fault["kind"] == *kind))
        })
    };
    let seed = (0..SEEDS_MAX).find(has_all_kinds).context("no plan has all kinds")?.to_string();
    let output = stack.mf(&["chaos", "--json", "--seconds", SECONDS, "--seed", &seed])?;
    let report: Value = serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))?;
    ensure!(report["faults"] == plan(&stack, &seed)?["faults"], "it did something else: {report}");
    ensure!(output.status.success(), "{report}");
    ensure!(report["requests"]["requests"].as_u64() > Some(100), "{report}");
    ensure!(report["requests"]["failed"] == 0 && report["messages"]["lost"] == 0, "{report}");
    ensure!(report["messages"]["acknowledged"].as_u64() > Some(10), "{report}");
    ensure!(names(&stack)? == before, "there are other processes than before: {:?}", names(&stack)?);
    ensure!(stopped(&stack)?.is_empty(), "{:?} is stopped", stopped(&stack)?);
    ensure!(!stack.home().join("chaos.json").exists(), "its record is left");
    ensure!(doctor(&stack)?.status.success(), "{:?}", doctor(&stack)?);
    Ok(())
}

/// A run in the middle of a fault: it has stopped a process.
async fn running_chaos(stack: &Stack) -> Result<(Child, Vec<String>)> {
    let arguments = ["chaos", "--kinds", "stop", "--seconds", "120", "--seed", "1"];
    let mut command = stack.operator().command(&arguments)?;
    // Before, because mfps waits for the answers of a stopped process, until the fault is over.
    let pids = stack.pids()?;
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let waited = wait_for("a stopped process", || async {
        let stopped = stopped_of(&pids);
        Ok((!stopped.is_empty()).then_some(stopped))
    });
    match waited.await {
        Ok((names, _)) => Ok((child, names)),
        Err(error) => {
            interrupt(&child)?;
            child.wait()?;
            Err(error)
        }
    }
}

async fn ctrl_c_undoes_a_fault(World { stack, .. }: World) -> Result<()> {
    let (child, _) = running_chaos(&stack).await?;
    let refused = stack.mf(&["chaos"])?;
    ensure!(refused.status.code() == Some(75), "two runs at once: {refused:?}");
    interrupt(&child)?;
    let output = child.wait_with_output()?;
    ensure!(output.status.code() == Some(130), "{output:?}");
    ensure!(stopped(&stack)?.is_empty(), "{:?} is stopped", stopped(&stack)?);
    ensure!(!stack.home().join("chaos.json").exists(), "its record is left");
    Ok(())
}

async fn what_a_killed_mfchaos_has_left_is_found_and_undone(World { stack, .. }: World) -> Result<()> {
    let (mut child, names) = running_chaos(&stack).await?;
    child.kill()?;
    child.wait()?;
    ensure!(stopped(&stack)? == names, "{names:?} continue by themselves");
    let found = doctor(&stack)?;
    ensure!(found.status.code() == Some(1), "{found:?}");
    let text = String::from_utf8_lossy(&found.stdout).into_owned();
    ensure!(text.contains("mfchaos restore") && text.contains("kill -CONT"), "{text}");
    let restored = stack.mf_ok(&["chaos", "restore"])?;
    ensure!(names.iter().all(|name| restored.contains(&format!("{name} continues"))), "{restored}");
    ensure!(stopped(&stack)?.is_empty(), "{:?} is stopped", stopped(&stack)?);
    ensure!(stack.mf_ok(&["chaos", "restore"])?.contains("nothing to undo"), "it was undone twice");
    Ok(())
}

async fn mfdown_and_mfup_undo_what_a_killed_mfchaos_has_left(World { stack, .. }: World) -> Result<()> {
    for command in [&["up", "--detach"][..], &["down"]] {
        let (mut child, _) = running_chaos(&stack).await?;
        child.kill()?;
        child.wait()?;
        stack.mf_ok(command)?;
        ensure!(!stack.home().join("chaos.json").exists(), "mf {command:?} leaves the record");
        if command[0] == "up" {
            ensure!(stopped(&stack)?.is_empty(), "{:?} is stopped", stopped(&stack)?);
        }
    }
    stack.mf_ok(&["up", "--detach"])?;
    Ok(())
}

const RECORD: &str = "/flack/authority/messages";

fn doctor(stack: &Stack) -> Result<Output> {
    stack.mf(&["doctor"])
}

async fn mfdoctor_finds_a_stopped_process_and_a_part_without_an_owner(World { stack, .. }: World) -> Result<()> {
    let (_, pid) = stack.pids()?.into_iter().find(|(name, _)| name == "ui-1").context("ui-1 does not run")?;
    signal("-STOP", pid)?;
    let found = problems(&stack)?;
    signal("-CONT", pid)?;
    ensure!(found.iter().any(|problem| problem.contains(&format!("kill -CONT {pid}"))), "{found:?}");

    let mut root = root(&stack).await?;
    let before = root.get(RECORD, None).await?.kvs().first().context("no record")?.value().to_vec();
    root.delete(RECORD, None).await?;
    let found = problems(&stack)?;
    root.put(RECORD, before, None).await?;
    ensure!(found.iter().any(|problem| problem.contains("nobody owns messages")), "{found:?}");
    ensure!(problems(&stack)?.is_empty(), "{:?}", problems(&stack)?);
    Ok(())
}

fn problems(stack: &Stack) -> Result<Vec<String>> {
    let output = stack.mf(&["doctor", "--json"])?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(output.status.success() == (report["ok"] == true), "{output:?}");
    let checks = report["checks"].as_array().context("no checks")?;
    let problems = checks.iter().filter_map(|check| check["problems"].as_array()).flatten();
    Ok(problems.filter_map(|problem| problem.as_str().map(str::to_owned)).collect())
}

/// Connects to etcd with the account of `mf`.
async fn root(stack: &Stack) -> Result<Client> {
    let read = |name| fs::read(stack.home().join("secrets/etcd").join(name));
    let tls = TlsOptions::new()
        .ca_certificate(etcd_client::Certificate::from_pem(read("ca.pem")?))
        .identity(Identity::from_pem(read("root.pem")?, read("root.key")?));
    let options = ConnectOptions::new().with_tls(tls);
    Ok(Client::connect([format!("https://127.0.0.1:{}", stack.etcd_port())], Some(options)).await?)
}

fn interrupt(child: &Child) -> Result<()> {
    signal("-INT", child.id().into())
}

fn signal(signal: &str, pid: i64) -> Result<()> {
    let status = std::process::Command::new("kill").args([signal, &pid.to_string()]).status()?;
    ensure!(status.success(), "kill {signal} {pid} failed");
    Ok(())
}
