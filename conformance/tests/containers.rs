//! The stack of `docker-compose.yml` on a real Docker engine: it starts from nothing, serves the chat, is operated by
//! `mf` under load, and leaves nothing behind.
//!
//! The images are made from the programs that are built already: to compile in a container takes many minutes. The test
//! is skipped where no engine answers, and where the base image is missing (`deploy/docker/base-images debian`).

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use flack_conformance::{
    client::{Auth, Client, wait_for},
    contract::Contract,
    delivery::{Fault, Over, Plan, verify},
    load::Load,
    socket::{Socket, is_message},
    stack::{Operator, text},
};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tempfile::TempDir;

/// The images of the Dockerfile, by the names of their stages.
const STAGES: [&str; 5] = ["flack", "haproxy", "etcd", "nats", "postgres"];
const PROGRAMS: [&str; 3] = ["flack", "mf", "flack-haproxy-agent"];
/// Before each request of a load during a hand-over: a saturated machine lags.
const PAUSE: Duration = Duration::from_millis(50);
/// Concurrent requests of a load.
const TASKS: usize = 4;
const DELIVERY_SECONDS: u64 = 30;

#[tokio::test]
async fn a_stack_in_containers_serves_a_chat_is_operated_by_mf_and_leaves_nothing() {
    if let Err(reason) = prerequisites() {
        println!("skipped: {reason}");
        return;
    }
    let stack = Stack::build().expect("images");
    let result = verify_all(&stack).await;
    if result.is_err() {
        let _ = stack.compose(&["ps", "-a"]).status();
        let _ = stack.compose(&["logs", "--tail=20"]).status();
    }
    result.expect("the chat in containers");
    let down = stack.operator().mf_ok(&["down", "--purge"]).expect("mf down");
    assert!(down.contains("are deleted"), "{down}");
    for list in [&["ps", "-aq"][..], &["volume", "ls", "-q"], &["network", "ls", "-q"]] {
        let label = format!("label=com.docker.compose.project={}", stack.project);
        let left = output(Command::new("docker").args(list).args(["--filter", &label])).expect("a list");
        assert_eq!(left.trim(), "", "docker {list:?} after mf down --purge");
    }
    let version = format!("flack:{VERSION}");
    assert!(output(Command::new("docker").args(["image", "inspect", &version])).is_err(), "{version} is still there");
}

/// The version of the upgrade. Its tag is one of the engine, so it is not a usual name.
const VERSION: &str = "conformance-2";

async fn verify_all(stack: &Stack) -> Result<()> {
    let client = start(stack)?;
    serves_a_chat_and_keeps_databases_apart(stack, &client).await?;
    shows_and_scales(stack)?;
    upgrades_under_load_without_a_failed_request(stack, &client).await?;
    removing_an_instance_under_load_fails_no_read(stack, &client).await?;
    parts_move_under_load_without_a_failed_request(stack, &client).await?;
    faults_lose_no_message(stack, &client).await?;
    let doctor = stack.operator().mf(&["doctor"])?;
    let doctor = String::from_utf8_lossy(&doctor.stdout).into_owned();
    ensure!(doctor.contains("ok       containers") && doctor.contains("ok       registry"), "{doctor}");
    Ok(())
}

fn start(stack: &Stack) -> Result<Client> {
    ensure!(stack.compose(&["up", "-d", "--no-build"]).status()?.success(), "docker-compose up failed");
    Client::new(&stack.url("8080")?, Arc::new(Contract::load()?))
}

async fn serves_a_chat_and_keeps_databases_apart(stack: &Stack, client: &Client) -> Result<()> {
    // The instances register some seconds after `up` returns.
    let (author, _) = wait_for("a user", || async { Ok(client.person("docker").await.ok()) }).await?;
    let (mut socket, _) =
        wait_for("a websocket", || async { Ok(Socket::open(client.base(), None, None).await.ok()) }).await?;
    let (id, _) =
        wait_for("a message", || async { Ok(client.message(&author, "from a *container*").await.ok()) }).await?;
    socket.wait_for("the message", |frame| is_message(frame, id)).await?;
    client.get(&format!("/api/messages/{id}"), Auth::None, StatusCode::OK).await?;

    // Only its owner reaches a database.
    let connects = |container: &str, database: &str| {
        let connect = format!("exec 3<>/dev/tcp/{database}/5432");
        output(&mut stack.compose(&["exec", "-T", container, "bash", "-c", &connect])).is_ok()
    };
    ensure!(connects("users", "postgres-users"), "users does not reach its database");
    ensure!(!connects("users", "postgres-messages"), "users reaches the database of messages");
    Ok(())
}

/// `mf` shows the containers of compose, and its own ones are known to compose.
fn shows_and_scales(stack: &Stack) -> Result<()> {
    let operator = stack.operator();
    operator.mf_ok(&["scale", "users=2", "messages=2", "websocket=2", "ui=2"])?;
    let ps = operator.ps()?;
    for name in ["etcd", "nats", "haproxy", "agent", "postgres-users", "monolith-1", "users-1", "users-2", "tokens-1"] {
        let row = row(&ps, name)?;
        let is_ready = row["health"] == "ready" || row["health"] == "accepting" || name == "agent";
        ensure!(is_ready && row["by_hand"] == false, "{name}: {row}");
    }
    let listed = output(&mut stack.compose(&["ps", "-q", "users"]))?;
    ensure!(listed.lines().count() == 2, "docker-compose ps -q users: {listed}");
    // One added by compose is known to mf, with the name of its container.
    // Without `--no-deps tokens` it would scale all other services to one.
    let scale = ["up", "-d", "--no-build", "--no-recreate", "--no-deps", "--scale", "tokens=2", "tokens"];
    ensure!(stack.compose(&scale).status()?.success(), "scaling by docker-compose failed");
    row(&operator.ps()?, "tokens-2")?;
    let logs = operator.mf_ok(&["logs", "users-2", "--grep", "registered"])?;
    ensure!(logs.contains("users-2"), "mf logs: {logs}");
    Ok(())
}

async fn upgrades_under_load_without_a_failed_request(stack: &Stack, client: &Client) -> Result<()> {
    let operator = stack.operator();
    operator.mf_ok(&["build", "--version", VERSION, "--no-build", "--env", "RUST_LOG=info"])?;
    let author = client.person("busy").await?;
    let load = Load::mixed(client, TASKS, &author, Duration::ZERO);
    load.warmed_up().await?;
    let roll = ["upgrade", "roll", "messages", "--to", VERSION, "--min-requests", "20", "--failure-limit", "3"];
    let arguments = [&roll[..], &["--min-healthy", "1s"]].concat();
    let upgrade = operator.clone();
    let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
    let rolled =
        tokio::task::spawn_blocking(move || upgrade.mf_ok(&arguments.iter().map(String::as_str).collect::<Vec<_>>()));
    rolled.await??;
    load.continues().await?;
    load.end_without_failure()?;
    let ps = operator.ps()?;
    let of_messages: Vec<&Value> = rows(&ps)?.iter().filter(|row| row["service"] == "messages").collect();
    let have_version = of_messages.iter().all(|row| row["version"] == VERSION);
    ensure!(of_messages.len() == 2 && have_version, "{of_messages:?}");
    Ok(())
}

async fn removing_an_instance_under_load_fails_no_read(stack: &Stack, client: &Client) -> Result<()> {
    let load = Load::start(client, TASKS, |client, number| async move {
        let path = ["/api/users?online=1", "/api/messages", "/"][number % 3];
        let request = client.request(Method::GET, path, Auth::None);
        client.send(request, StatusCode::OK).await.map(drop)
    });
    load.warmed_up().await?;
    let container = output(&mut stack.compose(&["ps", "-q", "users"]))?;
    let container = container.lines().next().context("no container of users")?;
    output(Command::new("docker").args(["rm", "-f", container]))?;
    load.continues().await?;
    // The lease of the removed instance has to expire, too.
    let operator = stack.operator();
    let is_gone = || async {
        Ok((rows(&operator.ps()?)?.iter().filter(|row| row["service"] == "users").count() == 1).then_some(()))
    };
    wait_for("the end of the lease", is_gone).await?;
    load.continues().await?;
    load.end_without_failure()?;
    operator.mf_ok(&["scale", "users=2"]).map(drop)
}

/// The parts of two databases move to the monolith and back, with two instances at the side of the service.
async fn parts_move_under_load_without_a_failed_request(stack: &Stack, client: &Client) -> Result<()> {
    let author = client.person("moving").await?;
    let load = Load::mixed(client, TASKS, &author, PAUSE);
    load.warmed_up().await?;
    for side in ["monolith", "services"] {
        for part in ["users", "messages"] {
            // Other tests make the machine busy, and with it the replica.
            let migrate = ["migrate", part, "--to", side, "--no-shadow", "--max-lag", "1500"];
            let moved = stack.operator().in_background(&migrate).await?;
            ensure!(moved.status.success(), "{part} to {side}: {}", text(&moved));
            load.continues().await?;
        }
    }
    load.end_without_failure()
}

/// Containers are killed, paused and disconnected while messages are posted and received.
async fn faults_lose_no_message(stack: &Stack, client: &Client) -> Result<()> {
    let plan = Plan {
        posters: 5,
        sockets: 20,
        rate: 20.0,
        time: Duration::from_secs(DELIVERY_SECONDS),
        over: Over::Both,
        both_sides: true,
        dropping: 5,
        faults: ["websocket", "relay", "nats"].map(|name| Fault::Kill(name.to_owned())).to_vec(),
    };
    let operator = stack.operator();
    let chaos = operator.clone();
    // A relay is not disconnected: the fault meets one more instance.
    let chaos = tokio::task::spawn_blocking(move || {
        let kinds = ["--kinds", "stop,partition,full-disk-of-logs"];
        chaos.mf_ok(&[&["chaos", "--seconds", "25", "--seed", "5", "--json"][..], &kinds].concat())
    });
    let verdict = verify(client, &operator, &plan).await;
    let chaos = chaos.await?;
    let (verdict, chaos) = (verdict?, chaos?);
    ensure!(verdict.is_good() && verdict.posted > 0 && verdict.delivered > 0, "{verdict}");
    let report: Value = serde_json::from_str(&chaos)?;
    ensure!(report["requests"]["failed"] == 0 && report["messages"]["lost"] == 0, "{report}");
    Ok(())
}

fn rows(ps: &Value) -> Result<&Vec<Value>> {
    ps["processes"].as_array().context("mf ps --json has no processes")
}

fn row<'a>(ps: &'a Value, name: &str) -> Result<&'a Value> {
    rows(ps)?.iter().find(|row| row["name"] == name).with_context(|| format!("{name} is not in {ps}"))
}

fn prerequisites() -> std::result::Result<(), String> {
    let runs = |command: &mut Command| output(command).is_ok();
    if !runs(Command::new("docker").args(["version", "--format", "{{.Server.Version}}"])) {
        return Err("no Docker engine".to_owned());
    }
    if !runs(Command::new("docker-compose").arg("version")) {
        return Err("docker-compose is not installed".to_owned());
    }
    let base = dockerfile_argument("DEBIAN").map_err(|error| error.to_string())?;
    if !runs(Command::new("docker").args(["image", "inspect", &base])) {
        return Err(format!("no image {base}; make it with deploy/docker/base-images debian, or docker pull"));
    }
    Ok(())
}

/// A project of docker-compose with images of its own.
struct Stack {
    project: String,
    /// For what `mf` stores.
    home: TempDir,
}

impl Stack {
    /// Makes the images from the programs beside this test.
    fn build() -> Result<Self> {
        let stack = Self { project: format!("flack-test-{}", std::process::id()), home: tempfile::tempdir()? };
        let context = context()?;
        for stage in STAGES {
            let image = stack.image(stage);
            let mut build = Command::new("docker");
            build
                .args(["build", "--quiet", "--target", stage, "--tag", &image])
                .args(["--build-arg", "PREBUILT=programs", "--build-arg"])
                // Nothing is compiled, so that no Rust is needed.
                .arg(format!("RUST={}", dockerfile_argument("DEBIAN")?))
                .arg(context.path());
            output(&mut build).with_context(|| format!("the image {image}"))?;
        }
        Ok(stack)
    }

    fn image(&self, stage: &str) -> String {
        let prefix = if stage == "flack" { "" } else { "flack-" };
        format!("{prefix}{stage}:{}", self.project)
    }

    fn compose(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker-compose");
        command
            .args(["-p", &self.project])
            .args(arguments)
            .current_dir(root())
            .env("FLACK_TAG", &self.project)
            .env("COMPOSE_PROFILES", "services")
            // Free ports.
            .env("FLACK_ADDRESS", "127.0.0.1")
            .env("FLACK_PORT", "0")
            .env("FLACK_STATS_PORT", "0")
            .stdin(Stdio::null());
        command
    }

    fn operator(&self) -> Operator {
        Operator::of_containers(&self.project, self.home.path())
    }

    /// The address at which a port of HAProxy is published.
    fn url(&self, port: &str) -> Result<String> {
        Ok(format!("http://{}", output(&mut self.compose(&["port", "haproxy", port]))?.trim()))
    }

    fn remove(&self) -> Result<()> {
        output(&mut self.compose(&["down", "--volumes", "--remove-orphans"])).map(drop)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let _ = self.remove();
        let images = STAGES.map(|stage| self.image(stage));
        let _ = output(Command::new("docker").args(["image", "rm", "--no-prune"]).args(images));
    }
}

/// Returns a context for `docker build` with the Dockerfile and stripped programs.
fn context() -> Result<TempDir> {
    let context = tempfile::tempdir()?;
    let (scripts, programs) = (context.path().join("deploy/docker"), context.path().join("programs"));
    fs::create_dir_all(&scripts)?;
    fs::create_dir(&programs)?;
    fs::copy(root().join("Dockerfile"), context.path().join("Dockerfile"))?;
    for script in ["manifests", "compile"] {
        fs::copy(root().join("deploy/docker").join(script), scripts.join(script))?;
    }
    let test = env::current_exe()?;
    let folder = test.parent().and_then(Path::parent).context("the target folder")?;
    for program in PROGRAMS {
        let mut strip = Command::new("strip");
        strip.arg("-o").arg(programs.join(program)).arg(folder.join(program));
        output(&mut strip)
            .with_context(|| format!("{program} is not built; build it: cargo build --workspace --bins"))?;
    }
    Ok(context)
}

fn dockerfile_argument(name: &str) -> Result<String> {
    let dockerfile = fs::read_to_string(root().join("Dockerfile"))?;
    let argument = format!("ARG {name}=");
    let value = dockerfile.lines().find_map(|line| line.strip_prefix(&argument));
    Ok(value.with_context(|| format!("the Dockerfile has no {argument}"))?.to_owned())
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?} cannot be run"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
