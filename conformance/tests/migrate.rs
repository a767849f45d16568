//! Hand-overs on a real stack under load: what users notice when parts move from the monolith to their services and
//! back, and when the operator is killed in between.

use std::{
    collections::BTreeSet,
    env, fs,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use flack_conformance::{
    cases,
    cases::files::{ensure_largest, post_largest},
    client::{Auth, Client, Person},
    delivery::{Over, Plan, Progress, Verdict, verify_as},
    load::Load,
    stack::{Operator, Stack, Stage, stopped_of, text},
    suite::{self, Case, World},
};
use flack_handover::{Stage as HandoverStage, steps};
use reqwest::StatusCode;
use serde_json::Value;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

/// Between two requests of a task: a saturated machine meets no limit of the replication lag.
const PAUSE: Duration = Duration::from_millis(100);
const TASKS: usize = 2;
/// One of so many requests of a task posts a message, and one registers a user.
const REQUESTS_PER_MESSAGE: usize = 5;
const REQUESTS_PER_USER: usize = 50;
const PARTS: [&str; 5] = ["ui", "users", "tokens", "messages", "websocket"];
/// The lines of the plan of a change of owner.
const PLAN_LINES: usize = 7;
/// The owner changes in this line.
const DECISIVE_LINE: usize = 6;
const SIGKILL: i32 = 9;

/// Runs the whole kill matrix, which takes half an hour, instead of a sample.
const ALL_KILLS: &str = "FLACK_ALL_KILLS";
/// The first kill of a sample; by default a random one.
const FIRST_KILL: &str = "FLACK_FIRST_KILL";
const KILLS_OF_A_SAMPLE: usize = 5;
/// The lag of a busy machine is above the default, and nothing else on it is to fail for that.
const MAX_LAG: [&str; 2] = ["--max-lag", "1500"];
/// The lag of the last ten seconds is a condition, and a killed process has made it large.
const CONDITIONS_TIMEOUT: Duration = Duration::from_mins(2);
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Longer than an attempt to change the owner on a busy machine.
const FREEZE_SECONDS: &str = "20";

fn main() -> ExitCode {
    // One after the other: each case moves parts of the same stack.
    suite::main_in_order(&[("monolith", || Stack::start(Stage::Monolith, ""))], handovers)
}

fn handovers(_: &str) -> Vec<Case> {
    cases![
        the_table_shows_every_part_and_a_dry_run_changes_nothing,
        users_alone_moves_to_its_service_and_back_without_a_failed_request,
        all_parts_move_to_services_and_back_without_a_failed_request_or_a_lost_message,
        password_hashes_and_private_keys_are_in_the_tables_of_both_sides_alone,
        whatever_is_killed_at_a_line_of_the_plan_there_is_one_owner_and_no_message_is_lost,
        no_message_is_lost_or_duplicated_when_nats_gets_an_older_store_or_none_between_two_steps,
        a_change_of_owner_is_undone_before_a_write_fails_while_nats_does_not_respond,
        the_stack_starts_again_with_the_services_that_own_parts,
    ]
}

async fn the_table_shows_every_part_and_a_dry_run_changes_nothing(World { stack, .. }: World) -> Result<()> {
    let table = stack.mf_ok(&["migrate"])?;
    for part in PARTS {
        let row = table
            .lines()
            .find(|line| line.trim_start().starts_with(part))
            .with_context(|| format!("no row of {part}"))?;
        ensure!(row.split_whitespace().nth(1) == Some("monolith"), "{row}");
    }
    let refused = stack.mf(&["migrate", "users", "cutover", "--dry-run"])?;
    ensure!(refused.status.code() == Some(1) && text(&refused).contains("the part is at another stage"), "{refused:?}");
    let planned = stack.mf_ok(&["migrate", "users", "follow", "--dry-run"])?;
    ensure!(planned.contains("stage following, epoch 2"), "{planned}");
    ensure!(record(&stack, "users")?["stage"] == "monolith", "a dry run has changed the record");
    for (arguments, code) in [
        (&["usres"][..], 64),
        (&["all", "cutover"], 64),
        (&["users", "cutover"], 64),
        (&["users", "resume"], 64),
        (&["users", "retire"], 64),
        (&["websocket", "follow"], 64),
    ] {
        let output = stack.mf(&[&["migrate"], arguments].concat())?;
        ensure!(output.status.code() == Some(code), "{arguments:?}: {}", text(&output));
    }
    Ok(())
}

async fn users_alone_moves_to_its_service_and_back_without_a_failed_request(
    World { client, stack }: World,
) -> Result<()> {
    let author = client.person("mover").await?;
    let load = load(&client, &author);
    for (to, owner) in [("services", "users"), ("monolith", "monolith")] {
        move_to(&stack.operator(), "users", to).await?;
        ensure!(record(&stack, "users")?["owner"] == owner, "{}", record(&stack, "users")?);
        load.continues().await?;
        // A user of the new owner is known to the parts of the other side.
        let person = client.person("newcomer").await?;
        client.message(&person, "written after the owner has changed").await?;
    }
    println!("{} requests", load.answered());
    load.end_without_failure()?;
    check_steps(&stack)
}

async fn all_parts_move_to_services_and_back_without_a_failed_request_or_a_lost_message(
    World { client, stack }: World,
) -> Result<()> {
    let author = client.person("busy").await?;
    let load = load(&client, &author);
    let operator = stack.operator();
    // More than are copied at once.
    let mut files = Vec::new();
    for _ in 0..10 {
        // The bytes that one user may store in a moment are limited.
        files.push(post_largest(&client, &client.person("files").await?).await?);
    }
    let moves = async {
        for to in ["services", "monolith"] {
            move_to(&operator, "all", to).await?;
            files.push(post_largest(&client, &client.person("files").await?).await?);
            for file in &files {
                ensure_largest(&client, file).await?;
            }
            for part in PARTS {
                let owner = if to == "services" { part } else { "monolith" };
                ensure!(record(&stack, part)?["owner"] == owner, "{part}: {}", record(&stack, part)?);
            }
        }
        anyhow::Ok(())
    };
    let verdict = verify_during(&client, &operator, moves).await?;
    ensure!(verdict.is_good() && verdict.posted > 0 && verdict.delivered > 0, "{verdict}");
    println!("{verdict}\n{} requests", load.answered());
    load.end_without_failure()?;
    check_steps(&stack)
}

async fn password_hashes_and_private_keys_are_in_the_tables_of_both_sides_alone(
    World { stack, .. }: World,
) -> Result<()> {
    // They have moved to the services and back.
    let mut monolith = database(&stack, "monolith").await?;
    let hash: String =
        sqlx::query_scalar("select password_hash from users order by id limit 1").fetch_one(&mut monolith).await?;
    let (key, hex): (Vec<u8>, String) =
        sqlx::query_as("select private_key, encode(private_key, 'hex') from signing_keys order by created_at limit 1")
            .fetch_one(&mut monolith)
            .await?;
    for (table, secret_texts) in
        [("users", vec![hash]), ("signing_keys", vec![hex, STANDARD_NO_PAD.encode(&key), URL_SAFE_NO_PAD.encode(&key)])]
    {
        let mut found = BTreeSet::new();
        for service in ["monolith", "ui", "users", "tokens", "messages", "websocket"] {
            let mut connection = database(&stack, service).await?;
            for name in tables_with(&mut connection, &secret_texts).await? {
                found.insert((service, name));
            }
        }
        let service = if table == "users" { "users" } else { "tokens" };
        ensure!(found == [("monolith", table.to_owned()), (service, table.to_owned())].into(), "{table}: {found:?}");
        let mut needles: Vec<&[u8]> = secret_texts.iter().map(String::as_bytes).collect();
        if table == "signing_keys" {
            needles.push(&key);
        }
        let files = files_with(stack.home(), &needles)?;
        ensure!(files.is_empty(), "a secret of {table} is in {files:?}");
    }
    Ok(())
}

async fn whatever_is_killed_at_a_line_of_the_plan_there_is_one_owner_and_no_message_is_lost(
    World { client, stack }: World,
) -> Result<()> {
    let operator = stack.operator();
    // The posters repeat a message until it is acknowledged: while nobody drives an attempt, no side accepts it.
    let kills = async {
        for kill in kills() {
            println!("{kill:?}");
            kill_and_continue(&stack, kill).await.with_context(|| format!("{kill:?}"))?;
        }
        anyhow::Ok(())
    };
    let verdict = verify_during(&client, &operator, kills).await?;
    ensure!(verdict.is_good() && verdict.posted > 0, "{verdict}");
    check_steps(&stack)
}

async fn no_message_is_lost_or_duplicated_when_nats_gets_an_older_store_or_none_between_two_steps(
    World { client, stack }: World,
) -> Result<()> {
    let (operator, store) = (stack.operator(), stack.home().join("nats/jetstream"));
    let (older, unused) = (store.with_extension("older"), store.with_extension("unused"));
    let is_monolith = record(&stack, "messages")?["owner"] == "monolith";
    let (there, back) = if is_monolith { ("services", "monolith") } else { ("monolith", "services") };
    let author = client.person("backwards").await?;
    let load = load(&client, &author);
    let faults = async {
        copy(&store, &older)?;
        // NATS has events now that the copy does not have.
        load.continues().await?;
        // The running server writes to its files, wherever they are, until it is killed.
        fs::rename(&store, &unused)?;
        fs::rename(&older, &store)?;
        stack.mf_ok(&["kill", "nats", "--hard"])?;
        move_to(&operator, "messages", there).await?;
        load.continues().await?;
        fs::remove_dir_all(&unused)?;
        fs::rename(&store, &unused)?;
        stack.mf_ok(&["kill", "nats", "--hard"])?;
        move_to(&operator, "messages", back).await?;
        load.continues().await
    };
    let verdict = verify_during(&client, &operator, faults).await?;
    ensure!(verdict.is_good() && verdict.posted > 0 && verdict.delivered > 0, "{verdict}");
    load.end_without_failure()?;
    check_steps(&stack)
}

async fn a_change_of_owner_is_undone_before_a_write_fails_while_nats_does_not_respond(
    World { client, stack }: World,
) -> Result<()> {
    let operator = stack.operator();
    let before = record(&stack, "messages")?["owner"].clone();
    let (step, to) = if before == "monolith" { ("cutover", "services") } else { ("rollback", "monolith") };
    prepare(&operator, &stack, step).await?;
    let load = load(&client, &client.person("patient").await?);
    load.warmed_up().await?;
    let change = migrate("messages", &[step, "--no-shadow"]);
    let pids = stack.pids()?;
    let undone = async {
        let is_frozen = || async { Ok(stopped_of(&pids).contains(&"nats".to_owned()).then_some(())) };
        wait_for_at_most(CONDITIONS_TIMEOUT, is_frozen).await?;
        operator.in_background(&change).await
    };
    let (frozen, undone) = tokio::join!(operator.in_background(&["kill", "nats", "--freeze", FREEZE_SECONDS]), undone);
    let (frozen, undone) = (frozen?, undone?);
    ensure!(frozen.status.success(), "{}", text(&frozen));
    let reason = text(&undone);
    ensure!(undone.status.code() == Some(1) && reason.contains("the owner is as before"), "{reason}");
    ensure!(reason.contains("are not published yet"), "{reason}");
    let after = record(&stack, "messages")?;
    ensure!(after["owner"] == before, "{after}");
    load.continues().await?;
    move_to(&operator, "messages", to).await?;
    load.continues().await?;
    load.end_without_failure()?;
    check_steps(&stack)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = Command::new("cp").arg("--archive").args([from, to]).status()?;
    ensure!(copied.success(), "{} cannot be copied", from.display());
    Ok(())
}

async fn the_stack_starts_again_with_the_services_that_own_parts(World { client, stack }: World) -> Result<()> {
    let person = client.person("early").await?;
    move_to(&stack.operator(), "ui", "services").await?;
    stack.mf_ok(&["down"])?;
    stack.mf_ok(&["up", "--detach"])?;
    ensure!(record(&stack, "ui")?["owner"] == "ui", "{}", record(&stack, "ui")?);
    client.get("/", Auth::None, StatusCode::OK).await?;
    client.message(&person, "after a restart").await?;
    Ok(())
}

/// Opens a connection to the database of a service.
async fn database(stack: &Stack, service: &str) -> Result<PgConnection> {
    let environment: Value = serde_json::from_str(&stack.mf_ok(&["env", service, "--secrets", "--json"])?)?;
    let url = environment["DATABASE_URL"].as_str().with_context(|| format!("{service} has no DATABASE_URL"))?;
    Ok(PgConnection::connect(url).await?)
}

/// Returns the tables of a database that have one of these texts in a row. A `bytea` is compared as hexadecimal digits.
async fn tables_with(connection: &mut PgConnection, texts: &[String]) -> Result<Vec<String>> {
    let patterns: Vec<String> = texts.iter().map(|text| format!("%{}%", text.replace('_', "\\_"))).collect();
    let tables: Vec<String> = sqlx::query_scalar(
        "select oid::regclass::text from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace",
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut found = Vec::new();
    for table in tables {
        // A name from the catalog, quoted.
        let statement = format!("select exists (select from {table} as stored where stored::text like any($1))");
        let is_found =
            sqlx::query_scalar(sqlx::AssertSqlSafe(statement)).bind(&patterns).fetch_one(&mut *connection).await?;
        if is_found {
            found.push(table);
        }
    }
    Ok(found)
}

/// Returns the files below a folder that have one of these bytes, except the database's.
fn files_with(folder: &Path, needles: &[&[u8]]) -> Result<Vec<PathBuf>> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() {
                if entry.file_name() != "postgres" {
                    folders.push(path);
                }
            } else if kind.is_file() {
                // A file of the running stack may be removed meanwhile.
                let Ok(content) = fs::read(&path) else { continue };
                if needles.iter().any(|needle| content.windows(needle.len()).any(|window| window == *needle)) {
                    found.push(path);
                }
            }
        }
    }
    Ok(found)
}

/// What is killed at which line of the plan, and what the operator says afterwards.
#[derive(Debug, Clone, Copy)]
struct Kill {
    line: usize,
    victim: Victim,
    next: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Operator,
    Owner,
    Replica,
    Other(&'static str),
}

/// Returns the kill matrix, or a few of its kills, which are far from each other.
fn kills() -> Vec<Kill> {
    let others = ["agent", "haproxy", "etcd", "nats", "postgres"].map(Victim::Other);
    let victims = [Victim::Operator, Victim::Operator, Victim::Owner, Victim::Replica].into_iter().chain(others);
    let all: Vec<Kill> = victims
        .zip(["resume", "abort"].into_iter().cycle())
        .flat_map(|(victim, next)| (1..=PLAN_LINES).map(move |line| Kill { line, victim, next }))
        .collect();
    if env::var_os(ALL_KILLS).is_some() {
        return all;
    }
    let first = env::var_os(FIRST_KILL).and_then(|first| first.to_str()?.parse().ok());
    let first = first.unwrap_or_else(|| usize::from(Uuid::new_v4().as_bytes()[0]) % all.len());
    println!("{FIRST_KILL}={first}");
    let step = all.len() / KILLS_OF_A_SAMPLE;
    all.into_iter().cycle().skip(first).step_by(step).take(KILLS_OF_A_SAMPLE).collect()
}

/// Kills something in a change of owner before a line of the plan is executed, and lets the operator, or the next one,
/// continue.
async fn kill_and_continue(stack: &Stack, Kill { line, victim, next }: Kill) -> Result<()> {
    let operator = stack.operator();
    let before = record(stack, "messages")?["owner"].clone();
    let before = before.as_str().context("no owner")?;
    let (step, other) = if before == "monolith" { ("cutover", "messages") } else { ("rollback", "monolith") };
    prepare(&operator, stack, step).await?;
    let process = match victim {
        Victim::Operator => String::new(),
        Victim::Owner => format!(":{before}"),
        Victim::Replica => format!(":{other}"),
        Victim::Other(process) => format!(":{process}"),
    };
    let kill = format!("{line}{process}");
    let step = migrate("messages", &[step, "--no-shadow", "--kill-before", &kill]);
    let output = operator.in_background(&step).await?;
    let was_killed = output.status.signal() == Some(SIGKILL);
    ensure!(was_killed == (victim == Victim::Operator), "{}", text(&output));
    // An operator that was not killed may have completed or undone the attempt. What was killed starts again.
    let continued = wait_for_at_most(CONDITIONS_TIMEOUT, || async {
        let output = operator.in_background(&migrate("messages", &[next])).await?;
        let status = status(stack)?;
        let is_over = !serde_json::from_value::<HandoverStage>(status["record"]["stage"].clone())?.is_switching();
        Ok((is_over && status["replica"]["role"] == "replica").then_some(output))
    })
    .await?;
    let after = record(stack, "messages")?;
    let after = after["owner"].as_str().context("no owner")?;
    ensure!(after == before || after == other, "the owner is {after}");
    if victim == Victim::Operator {
        // Before the first line there is no attempt.
        let has_changed = (next == "resume" && line > 1) || line > DECISIVE_LINE;
        let expected = if has_changed { other } else { before };
        ensure!(after == expected, "the owner is {after}: {}", text(&continued));
    }
    Ok(())
}

/// Polls until `poll` returns a value. An error is a process that is starting again.
async fn wait_for_at_most<T, F: Future<Output = Result<Option<T>>>>(time: Duration, poll: impl Fn() -> F) -> Result<T> {
    let began = Instant::now();
    loop {
        match poll().await {
            Ok(Some(value)) => return Ok(value),
            result if began.elapsed() > time => {
                result?;
                bail!("nothing after {time:?}");
            }
            _ => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }
}

/// Returns the words of `mf migrate <part> ...`.
fn migrate<'word>(part: &'word str, words: &[&'word str]) -> Vec<&'word str> {
    [&["migrate", part][..], words, &MAX_LAG].concat()
}

/// Executes what a change of the owner of messages needs, until it is possible.
async fn prepare(operator: &Operator, stack: &Stack, step: &str) -> Result<()> {
    if record(stack, "messages")?["stage"] == "monolith" {
        let output = operator.in_background(&migrate("messages", &["follow"])).await?;
        ensure!(output.status.success(), "{}", text(&output));
    }
    wait_for_at_most(CONDITIONS_TIMEOUT, || async {
        operator.in_background(&migrate("messages", &["verify"])).await?;
        if record(stack, "messages")?["read_percent"] != 100 {
            operator.in_background(&migrate("messages", &["shift", "100"])).await?;
        }
        let output = operator.in_background(&migrate("messages", &[step, "--no-shadow", "--dry-run"])).await?;
        ensure!(output.status.success(), "{}", text(&output));
        Ok(Some(()))
    })
    .await
}

/// Returns what `mf migrate` shows of messages.
fn status(stack: &Stack) -> Result<Value> {
    let parts: Value = serde_json::from_str(&stack.mf_ok(&["migrate", "messages", "--json"])?)?;
    Ok(parts[0].clone())
}

/// Returns the record of a part.
fn record(stack: &Stack, part: &str) -> Result<Value> {
    let parts: Value = serde_json::from_str(&stack.mf_ok(&["migrate", part, "--json"])?)?;
    Ok(parts[0]["record"].clone())
}

/// What the operators have done is a path of the machine that the model checks.
fn check_steps(stack: &Stack) -> Result<()> {
    let mut finished = 0;
    for log in fs::read_dir(stack.home().join("handover")).context("no steps are recorded")? {
        let log = log?.path();
        finished += steps::check(&fs::read_to_string(&log)?).with_context(|| log.display().to_string())?;
    }
    ensure!(finished > 0, "no step is recorded");
    Ok(())
}

/// Reads, messages, and now and then a new user, who signs in and is read at once.
fn load(client: &Client, author: &Person) -> Load {
    let author = author.clone();
    Load::start(client, TASKS, move |client, number| {
        let author = author.clone();
        async move {
            tokio::time::sleep(PAUSE).await;
            if number % REQUESTS_PER_USER == 0 {
                let person = client.person("newcomer").await?;
                let path = format!("/api/users/{}", person.id);
                return client.get(&path, Auth::Token(&person.token), StatusCode::OK).await.map(drop);
            }
            if number % REQUESTS_PER_MESSAGE == 0 {
                return client.message(&author, &format!("load {number}")).await.map(drop);
            }
            let path = ["/api/users?online=1", "/api/messages", "/api/v2/messages", "/"][number % 4];
            client.get(path, Auth::None, StatusCode::OK).await.map(drop)
        }
    })
}

/// Posts messages and receives them on sockets of both sides until `moves` has ended.
async fn verify_during(
    client: &Client,
    operator: &Operator,
    moves: impl Future<Output = Result<()>>,
) -> Result<Verdict> {
    let plan = Plan {
        posters: 4,
        sockets: 12,
        rate: 12.0,
        time: Duration::from_hours(2),
        over: Over::Both,
        both_sides: true,
        dropping: 3,
        faults: Vec::new(),
    };
    let progress = Progress::default();
    let moves = async {
        let result = moves.await;
        progress.end();
        result
    };
    let (verdict, result) = tokio::join!(verify_as(client, operator, &plan, "poster", &progress), moves);
    result?;
    verdict
}

/// Executes all steps of a part, or of all parts, and fails unless they succeed.
async fn move_to(operator: &Operator, part: &str, to: &str) -> Result<()> {
    let output = operator.in_background(&migrate(part, &["--to", to, "--no-shadow"])).await?;
    ensure!(output.status.success(), "{part} --to {to}: {}", text(&output));
    println!("{}", text(&output));
    Ok(())
}
