//! The stack of `docker-compose.yml` on a real Docker engine: it starts from nothing, serves the chat, scales, and
//! leaves nothing behind.
//!
//! The images are made from the programs that are built already: to compile in a container takes many minutes. The test
//! is skipped where no engine answers, and where the base image is missing (`deploy/docker/base-images debian`).

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use anyhow::{Context as _, Result, ensure};
use flack_conformance::{
    client::{Auth, Client, WAIT, wait_for},
    contract::Contract,
    socket::{Socket, is_message},
};
use reqwest::StatusCode;
use tempfile::TempDir;

/// The images of the Dockerfile, by the names of their stages.
const STAGES: [&str; 5] = ["flack", "haproxy", "etcd", "nats", "postgres"];
const PROGRAMS: [&str; 3] = ["flack", "mf", "flack-haproxy-agent"];
const SCALED_INSTANCES: usize = 2;

#[tokio::test]
async fn a_stack_in_containers_serves_a_chat_scales_and_leaves_nothing() {
    if let Err(reason) = prerequisites() {
        println!("skipped: {reason}");
        return;
    }
    let stack = Stack::build().expect("images");
    let result = verify(&stack).await;
    if result.is_err() {
        let _ = stack.compose(&["logs", "--tail=20"]).status();
    }
    result.expect("the chat in containers");
    stack.remove().expect("a removed stack");
    for list in [&["ps", "-aq"][..], &["volume", "ls", "-q"], &["network", "ls", "-q"]] {
        let label = format!("label=com.docker.compose.project={}", stack.project);
        let left = output(Command::new("docker").args(list).args(["--filter", &label])).expect("a list");
        assert_eq!(left.trim(), "", "docker {list:?} after down -v");
    }
}

async fn verify(stack: &Stack) -> Result<()> {
    ensure!(stack.compose(&["up", "-d", "--no-build"]).status()?.success(), "docker-compose up failed");
    let client = Client::new(&stack.url("8080")?, Arc::new(Contract::load()?))?;
    // The instances register some seconds after `up` returns.
    let (author, _) = wait_for("a user", || async { Ok(client.person("docker").await.ok()) }).await?;
    let (mut socket, _) =
        wait_for("a websocket", || async { Ok(Socket::open(client.base(), None, None).await.ok()) }).await?;
    let (id, _) =
        wait_for("a message", || async { Ok(client.message(&author, "from a *container*").await.ok()) }).await?;
    socket.wait_for("the message", |frame| is_message(frame, id)).await?;
    client.get(&format!("/api/messages/{id}"), Auth::None, StatusCode::OK).await?;

    let scale = format!("users={SCALED_INSTANCES}");
    ensure!(stack.compose(&["up", "-d", "--no-build", "--scale", &scale]).status()?.success(), "scaling failed");
    let stats = format!("{}/stats;csv", stack.url("8404")?);
    let http = flack_api::http_client_builder().timeout(WAIT).build()?;
    let has_both = || async {
        let csv = http.get(&stats).send().await?.text().await?;
        let servers = csv.lines().filter(|line| line.starts_with("users,users-") && line.contains(",UP,"));
        Ok((servers.count() == SCALED_INSTANCES).then_some(()))
    };
    wait_for("both instances of users", has_both).await?;

    // Only its owner reaches a database.
    let connects = |container: &str, database: &str| {
        let connect = format!("exec 3<>/dev/tcp/{database}/5432");
        output(&mut stack.compose(&["exec", "-T", container, "bash", "-c", &connect])).is_ok()
    };
    ensure!(connects("users", "postgres-users"), "users does not reach its database");
    ensure!(!connects("users", "postgres-messages"), "users reaches the database of messages");
    Ok(())
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
}

impl Stack {
    /// Makes the images from the programs beside this test.
    fn build() -> Result<Self> {
        let stack = Self { project: format!("flack-test-{}", std::process::id()) };
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
