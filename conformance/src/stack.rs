//! A whole stack of its own for a test binary: started by `mf`, on free ports, in a folder of its own.

use std::{
    env,
    fs::Permissions,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

/// Which of the two shapes a stack has.
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

/// Where `mf` puts its ports, relative to `--port`; see the README's table.
const PORT_OFFSETS: [u16; 8] = [0, 1, 10, 11, 12, 13, 14, 324];

/// Another process may take a port between our look and the start; then we look again.
const START_ATTEMPTS_MAX: usize = 3;

/// A running stack; stopped and its data removed when dropped.
#[derive(Debug)]
pub struct Stack {
    home: TempDir,
    port: u16,
    pub stage: Stage,
}

impl Stack {
    /// Starts a stack and waits until it is ready. `instances` is what `--instances` takes; empty for one of each.
    pub fn start(stage: Stage, instances: &str) -> anyhow::Result<Self> {
        let mut failure = String::new();
        for _ in 0..START_ATTEMPTS_MAX {
            // Others may pass through the folder: PostgreSQL runs as a user of its own when we are root.
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

    /// `http://127.0.0.1:<port>`, the public door.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The internal door.
    pub fn internal_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port + 1)
    }

    /// Statistics and metrics of the balancer.
    pub fn stats_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port + 324)
    }

    /// Where `mf` keeps what it knows of this stack.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    pub fn nats_url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port + 12)
    }

    pub fn operator(&self) -> Operator {
        Operator { home: Some(self.home.path().to_path_buf()) }
    }

    /// Runs `mf <arguments>` on this stack and gives back how it ended.
    pub fn mf(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        self.operator().mf(arguments)
    }

    /// Like `mf`, for a call that must succeed; its standard output.
    pub fn mf_ok(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.operator().mf_ok(arguments)
    }

    /// What `mf ps --json` says.
    pub fn ps(&self) -> anyhow::Result<Value> {
        self.operator().ps()
    }
}

/// `mf`, pointed at one stack: at its own folder, or by default at the one that the environment names.
#[derive(Debug, Clone, Default)]
pub struct Operator {
    home: Option<PathBuf>,
}

impl Operator {
    /// `mf <arguments>`, not yet started.
    pub fn command(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new(mf_program()?);
        command.args(arguments);
        if let Some(home) = &self.home {
            command.env("MF_HOME", home);
        }
        Ok(command)
    }

    /// Runs `mf <arguments>` and gives back how it ended.
    pub fn mf(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        self.command(arguments)?.output().with_context(|| format!("cannot run mf {}", arguments.join(" ")))
    }

    /// Like `mf`, for a call that must succeed; its standard output.
    pub fn mf_ok(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.mf(arguments)?;
        ensure!(output.status.success(), "mf {} failed: {}", arguments.join(" "), describe(&output));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What `mf ps --json` says.
    pub fn ps(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.mf_ok(&["ps", "--json"])?).context("mf ps --json printed no JSON")
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
fn mf_program() -> anyhow::Result<PathBuf> {
    if let Some(program) = env::var_os("FLACK_MF") {
        return Ok(program.into());
    }
    let this = env::current_exe().context("cannot tell where this program is")?;
    // A test lies in `deps/`, one folder below the programs.
    let beside =
        this.ancestors().skip(1).take(2).map(|folder| folder.join("mf")).find(|program| program.exists());
    beside.context("mf is missing beside this program: build first (bin/mfbuild), or run bin/mftest")
}

/// The first of a block of ports that are all free now.
fn free_port_block() -> anyhow::Result<u16> {
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
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
