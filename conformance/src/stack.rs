//! A stack for one test binary: started by `mf`, on free ports, with a temporary state folder.

use std::{
    env,
    fs::{self, Permissions},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

/// The shape of a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Monolith,
    Services,
}

impl Stage {
    pub fn name(self) -> &'static str {
        match self {
            Self::Monolith => "monolith",
            Self::Services => "services",
        }
    }
}

/// The ports of a stack, relative to `--port`; see the table in README.md.
const PORT_OFFSETS: [u16; 8] = [0, 1, 10, 11, 12, 13, 14, 324];

/// Limits of the balancer that the suite exceeds from its one address. Other values in the environment are kept.
const LIMITS: [(&str, &str); 3] = [
    ("LIMIT_REQUESTS_PER_10S", "1000000"),
    ("LIMIT_WRITES_PER_10S", "1000000"),
    ("LIMIT_CREDENTIALS_PER_10S", "10000"),
];

/// Another process may take a port before the stack binds it; then other ports are tried.
const START_ATTEMPTS_MAX: usize = 3;

/// A running stack. It is stopped, and its data removed, on drop.
#[derive(Debug)]
pub struct Stack {
    home: TempDir,
    port: u16,
    pub stage: Stage,
}

impl Stack {
    /// Starts a stack and waits until it is ready. `instances` has the syntax of `--instances`; empty: one of each.
    pub fn start(stage: Stage, instances: &str) -> Result<Self> {
        let mut failure = String::new();
        for _ in 0..START_ATTEMPTS_MAX {
            // Readable by all: PostgreSQL runs as another user when the tests run as root.
            let home = tempfile::Builder::new()
                .prefix("flack-")
                .permissions(Permissions::from_mode(0o755))
                .tempdir()
                .context("cannot make a folder for the stack")?;
            let stack = Self { home, port: free_port_block()?, stage };
            let port = stack.port.to_string();
            let mut arguments = vec!["up", "--detach", "--port", &port, "--stage", stage.name()];
            if !instances.is_empty() {
                arguments.extend(["--instances", instances]);
            }
            let output = stack.mf(&arguments)?;
            if output.status.success() {
                return Ok(stack);
            }
            failure = describe(&output);
        }
        bail!("the {} stack did not start: {failure}", stage.name())
    }

    /// `http://127.0.0.1:<port>`, the public listener.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The internal listener.
    pub fn internal_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port + 1)
    }

    /// The balancer's statistics and metrics.
    pub fn stats_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port + 324)
    }

    /// The state folder.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The port of etcd's clients.
    pub fn etcd_port(&self) -> u16 {
        self.port + 10
    }

    /// The port of etcd's peers.
    pub fn etcd_peer_port(&self) -> u16 {
        self.port + 11
    }

    pub fn postgres_port(&self) -> u16 {
        self.port + 14
    }

    pub fn nats_url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port + 12)
    }

    pub fn operator(&self) -> Operator {
        let home = self.home.path().display().to_string();
        // Not the containers that may run beside it.
        let selects = [("MF_HOME", home), ("MF_RUNTIME", "process".to_owned())];
        let limits = LIMITS.into_iter().filter(|(name, _)| env::var_os(name).is_none());
        let limits = limits.map(|(name, value)| (name, value.to_owned()));
        Operator { environment: selects.into_iter().chain(limits).collect() }
    }

    /// Runs `mf <arguments>` on this stack.
    pub fn mf(&self, arguments: &[&str]) -> Result<Output> {
        self.operator().mf(arguments)
    }

    /// Runs `mf <arguments>`, fails unless it succeeds, and returns its standard output.
    pub fn mf_ok(&self, arguments: &[&str]) -> Result<String> {
        self.operator().mf_ok(arguments)
    }

    /// Returns the output of `mf ps --json`.
    pub fn ps(&self) -> Result<Value> {
        self.operator().ps()
    }

    /// Returns the processes of the stack with their ids.
    pub fn pids(&self) -> Result<Vec<(String, i64)>> {
        let ps = self.ps()?;
        let processes = ps["processes"].as_array().context("no processes")?;
        let pid = |process: &Value| Some((process["name"].as_str()?.to_owned(), process["pid"].as_i64()?));
        Ok(processes.iter().filter_map(pid).collect())
    }
}

/// Returns those of the processes that SIGSTOP has stopped.
pub fn stopped_of(pids: &[(String, i64)]) -> Vec<String> {
    let is_stopped = |pid: i64| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    };
    pids.iter().filter(|(_, pid)| is_stopped(*pid)).map(|(name, _)| name.clone()).collect()
}

/// `mf` for one stack: that of a state folder or of a project of containers, or by default that of the environment.
#[derive(Debug, Clone, Default)]
pub struct Operator {
    environment: Vec<(&'static str, String)>,
}

impl Operator {
    /// Returns that of a stack in containers. `home` is for what `mf` stores.
    pub fn of_containers(project: &str, home: &Path) -> Self {
        let runtime = ("MF_RUNTIME", "docker".to_owned());
        let project = ("COMPOSE_PROJECT_NAME", project.to_owned());
        Self { environment: vec![runtime, project, ("MF_HOME", home.display().to_string())] }
    }

    /// Prepares `mf <arguments>`.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(mf_program()?);
        command.args(arguments).envs(self.environment.iter().cloned());
        Ok(command)
    }

    /// Runs `mf <arguments>`.
    pub fn mf(&self, arguments: &[&str]) -> Result<Output> {
        self.command(arguments)?.output().with_context(|| format!("cannot run mf {}", arguments.join(" ")))
    }

    /// Runs `mf <arguments>`, fails unless it succeeds, and returns its standard output.
    pub fn mf_ok(&self, arguments: &[&str]) -> Result<String> {
        let output = self.mf(arguments)?;
        ensure!(output.status.success(), "mf {} failed: {}", arguments.join(" "), describe(&output));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs `mf <arguments>` while the load of the test continues.
    pub async fn in_background(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = self.command(arguments)?;
        tokio::task::spawn_blocking(move || command.output()).await?.context("mf cannot be run")
    }

    /// Returns the output of `mf ps --json`.
    pub fn ps(&self) -> Result<Value> {
        serde_json::from_str(&self.mf_ok(&["ps", "--json"])?).context("mf ps --json did not print JSON")
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        match self.mf(&["down", "--purge"]) {
            Ok(output) if output.status.success() => {}
            Ok(output) => eprintln!("the stack could not be stopped: {}", describe(&output)),
            Err(error) => eprintln!("the stack could not be stopped: {error:#}"),
        }
    }
}

/// `FLACK_MF`, or the `mf` that was built beside this program.
fn mf_program() -> Result<PathBuf> {
    if let Some(program) = env::var_os("FLACK_MF") {
        return Ok(program.into());
    }
    let this = env::current_exe().context("cannot find the path of this program")?;
    // A test is in `deps/`, one folder below the programs.
    let beside = this.ancestors().skip(1).take(2).map(|folder| folder.join("mf")).find(|program| program.exists());
    beside.context("mf is missing beside this program: build first (bin/mfbuild), or run bin/mftest")
}

/// Finds a port such that all ports of its stack are free.
fn free_port_block() -> Result<u16> {
    const BLOCKS_TRIED_MAX: usize = 200;
    for _ in 0..BLOCKS_TRIED_MAX {
        let port = 20_000 + u16::try_from(Uuid::new_v4().as_u128() % 10_000).unwrap_or(0);
        if PORT_OFFSETS.iter().all(|offset| TcpListener::bind(("127.0.0.1", port + offset)).is_ok()) {
            return Ok(port);
        }
    }
    bail!("found no block of free ports between 20000 and 30324")
}

fn describe(output: &Output) -> String {
    format!("{}\n{}", output.status, text(output))
}

/// Returns what a program has printed.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
