//! The supervisor with small shell scripts that crash, ignore signals, or wait.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use flack_supervisor::process::Identity;
use flack_supervisor::{
    Client, Ended, Environment, Error, Paths, ProcessStatus, Spec, State, Stop, StopSignal, orphans,
};
use tempfile::TempDir;
use tokio::process::{Child, Command};

const WAIT_MAX: Duration = Duration::from_mins(1);

/// A running supervisor in a temporary folder.
struct Supervisor {
    folder: TempDir,
    paths: Paths,
    client: Client,
    process: Child,
}

impl Supervisor {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let paths = Paths::in_folder(folder.path());
        for folder in [&paths.logs, &paths.pids] {
            std::fs::create_dir(folder).expect("a folder");
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_flack-supervisor"));
        command.arg(folder.path());
        let (client, process) = Client::spawn(&paths, command).await.expect("a supervisor");
        Self { folder, paths, client, process }
    }

    fn spec(&self, name: &str, priority: u8, script: &str) -> Spec {
        Spec {
            name: name.to_owned(),
            group: name.to_owned(),
            version: None,
            priority,
            program: "/bin/sh".into(),
            args: vec!["-c".to_owned(), script.to_owned()],
            env: Environment(BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())])),
            own_env: Environment::default(),
            working_directory: self.folder.path().to_path_buf(),
            stop: Stop { signal: StopSignal::Terminate, seconds_max: 1 },
        }
    }

    async fn run(&self, name: &str, script: &str) -> i32 {
        self.client.start(self.spec(name, 0, script)).await.expect("it starts")
    }

    async fn status(&self, name: &str) -> Option<ProcessStatus> {
        let all = self.client.list().await.expect("the supervisor replies");
        all.into_iter().find(|process| process.name == name)
    }

    async fn wait_for(&self, name: &str, condition: impl Fn(&ProcessStatus) -> bool) -> ProcessStatus {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            let status = self.status(name).await;
            if let Some(status) = status.clone().filter(|status| condition(status)) {
                return status;
            }
            assert!(Instant::now() < deadline, "timed out: {status:?}");
            tokio::task::yield_now().await;
        }
    }

    /// Waits until a script has written a file in the folder.
    async fn written(&self, file: &str) -> String {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            let text = std::fs::read_to_string(self.folder.path().join(file)).unwrap_or_default();
            if text.ends_with('\n') {
                return text;
            }
            assert!(Instant::now() < deadline, "timed out: {file} was not written");
            tokio::task::yield_now().await;
        }
    }

    async fn shutdown(&self) -> Vec<Ended> {
        let mut all = Vec::new();
        self.client.shutdown(|ended| all.push(ended)).await.expect("a shutdown");
        all
    }
}

#[tokio::test]
async fn a_process_that_exits_repeatedly_is_crash_looping_and_its_pauses_grow() {
    let supervisor = Supervisor::start().await;
    supervisor.run("crashes", "date +%s%N >> times; exit 3").await;
    let status = supervisor.wait_for("crashes", |status| status.state == State::CrashLooping).await;
    assert_eq!(status.last_end.as_deref(), Some("ended with exit code 3"));
    let times: Vec<u64> =
        supervisor.written("times").await.lines().map(|line| line.parse().expect("nanoseconds")).collect();
    let pauses: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.len() >= 4 && pauses[3] > pauses[0] * 3, "{pauses:?}");

    let ended = supervisor.shutdown().await;
    assert_eq!(ended.len(), 1, "a process that waits for its restart is stopped, too: {ended:?}");
}

#[tokio::test]
async fn a_process_that_ignores_the_stop_signal_is_killed_with_its_children() {
    let supervisor = Supervisor::start().await;
    supervisor.run("ignores", "trap '' TERM; sleep 60 & echo $! > child; wait; sleep 60").await;
    let pid = supervisor.written("child").await.trim().parse().expect("a pid");
    let child = Identity::of(pid).expect("it runs");
    let mut ended = Vec::new();
    supervisor.client.stop(vec!["ignores".to_owned()], |end| ended.push(end)).await.expect("it is stopped");
    assert!(ended[0].forced && ended[0].outcome.contains("after 1 s"), "{ended:?}");
    let deadline = Instant::now() + WAIT_MAX;
    while child.is_alive() {
        assert!(Instant::now() < deadline, "the child still runs");
        tokio::task::yield_now().await;
    }
    assert!(supervisor.status("ignores").await.is_none(), "it is not restarted");
    supervisor.shutdown().await;
}

#[tokio::test]
async fn a_killed_process_is_restarted_unless_the_client_says_otherwise() {
    let supervisor = Supervisor::start().await;
    let first = supervisor.run("sleeper", "exec sleep 60").await;
    assert_eq!(supervisor.client.kill("sleeper", true).await.expect("killed"), Some(first));
    let is_restarted = |status: &ProcessStatus| status.restarts == 1 && status.state == State::Running;
    let second = supervisor.wait_for("sleeper", is_restarted).await.pid;
    assert_ne!(second, Some(first));
    supervisor.client.kill("sleeper", false).await.expect("killed");
    assert!(supervisor.status("sleeper").await.is_none());
    // Its name can be used again at once.
    supervisor.run("sleeper", "exec sleep 60").await;
    supervisor.shutdown().await;
}

#[tokio::test]
async fn a_restarted_process_keeps_its_version_and_its_own_environment() {
    let supervisor = Supervisor::start().await;
    let own_env = Environment::default().with("COLOUR", "green");
    let spec = Spec { version: Some("2".to_owned()), own_env, ..supervisor.spec("one", 0, "exec sleep 60") };
    supervisor.client.start(spec).await.expect("it starts");
    supervisor.client.kill("one", true).await.expect("it is killed");
    let status = supervisor.wait_for("one", |status| status.restarts == 1).await;
    assert_eq!(status.version.as_deref(), Some("2"));
    assert_eq!(status.own_env, Environment::default().with("COLOUR", "green"));
    supervisor.shutdown().await;
}

#[tokio::test]
async fn processes_are_stopped_by_priority_highest_first() {
    let supervisor = Supervisor::start().await;
    for (name, priority) in [("database", 0), ("agent", 1), ("balancer", 2), ("web", 3)] {
        let script = format!("trap 'echo {name} >> order; exit 0' TERM; while :; do sleep 0.01; done");
        supervisor.client.start(supervisor.spec(name, priority, &script)).await.expect("it starts");
        // The shell has set its trap when it runs its first `sleep`.
        supervisor.wait_for(name, |status| status.pid.is_some_and(has_child)).await;
    }
    let ended = supervisor.shutdown().await;
    assert!(ended.iter().all(|ended| ended.outcome == "stopped"), "{ended:?}");
    assert_eq!(supervisor.written("order").await, "web\nbalancer\nagent\ndatabase\n");
}

#[tokio::test]
async fn a_name_in_use_and_a_missing_program_are_errors() {
    let supervisor = Supervisor::start().await;
    supervisor.run("one", "exec sleep 60").await;
    let mut spec = Spec { program: "/nowhere/program".into(), ..supervisor.spec("one", 0, "") };
    let error = supervisor.client.start(spec.clone()).await.expect_err("the name is in use");
    assert!(error.to_string().contains("one runs already"), "{error}");
    spec.name = "two".to_owned();
    let error = supervisor.client.start(spec).await.expect_err("there is no such program");
    assert!(error.to_string().contains("/nowhere/program"), "{error}");
    supervisor.shutdown().await;
}

#[tokio::test]
async fn a_process_gets_only_its_own_environment() {
    let supervisor = Supervisor::start().await;
    supervisor.run("prints", "env > seen.partial; mv seen.partial seen; exec sleep 60").await;
    let seen = supervisor.written("seen").await;
    assert!(!seen.contains("CARGO"), "the supervisor's environment is inherited: {seen}");
    supervisor.shutdown().await;
}

#[tokio::test]
async fn a_second_supervisor_in_the_same_folder_is_refused() {
    let supervisor = Supervisor::start().await;
    assert!(matches!(flack_supervisor::run(supervisor.paths.clone()).await, Err(Error::AlreadyRunning)));
    supervisor.shutdown().await;
}

#[tokio::test]
async fn processes_of_a_killed_supervisor_are_found_and_stopped_by_priority() {
    let mut supervisor = Supervisor::start().await;
    for (name, priority) in [("database", 0), ("web", 1)] {
        supervisor.client.start(supervisor.spec(name, priority, "exec sleep 60")).await.expect("it starts");
    }
    supervisor.process.kill().await.expect("killed");
    assert!(matches!(supervisor.client.list().await, Err(Error::Unavailable(_))));
    assert_eq!(orphans::find(&supervisor.paths), ["web", "database"]);
    let mut stopped = Vec::new();
    orphans::stop(&supervisor.paths, |name| stopped.push(name.to_owned())).await;
    assert_eq!(stopped, ["web", "database"]);
    assert!(orphans::find(&supervisor.paths).is_empty());
}

fn has_child(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .is_ok_and(|children| !children.trim().is_empty())
}
