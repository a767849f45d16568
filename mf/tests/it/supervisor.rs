//! The supervisor with small workloads of the shell: what it does when they fall, hang, or are told to go.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use mf::home::Home;
use mf::supervisor::protocol::Ended;
use mf::supervisor::spec::{Stop, StopSignal, Tier};
use mf::supervisor::{Client, Environment, ProcessStatus, Spec, State};
use tempfile::TempDir;

const WAIT_MAX: Duration = Duration::from_secs(20);

struct Supervised {
    folder: TempDir,
    client: Client,
}

impl Supervised {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut home = Home::at(folder.path()).expect("a home");
        home.create().expect("its folders");
        let (client, _) =
            Client::spawn(&home, Path::new(env!("CARGO_BIN_EXE_mf"))).await.expect("a supervisor");
        Self { folder, client }
    }

    async fn run(&self, name: &str, tier: Tier, script: &str) {
        let spec = Spec {
            name: name.to_owned(),
            service: name.to_owned(),
            tier,
            program: "/bin/sh".into(),
            args: vec!["-c".to_owned(), script.to_owned()],
            env: Environment(BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())])),
            folder: self.folder.path().to_path_buf(),
            stop: Stop { signal: StopSignal::Terminate, seconds_max: 1 },
        };
        self.client.start(spec).await.expect("it starts");
    }

    async fn status(&self, name: &str) -> Option<ProcessStatus> {
        self.client
            .list()
            .await
            .expect("the supervisor answers")
            .into_iter()
            .find(|process| process.name == name)
    }

    async fn wait_for(&self, name: &str, condition: impl Fn(&ProcessStatus) -> bool) -> ProcessStatus {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            if let Some(status) = self.status(name).await.filter(|status| condition(status)) {
                return status;
            }
            assert!(Instant::now() < deadline, "waited in vain: {:?}", self.status(name).await);
            tokio::task::yield_now().await;
        }
    }

    fn written(&self, file: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(file)).unwrap_or_default()
    }

    async fn end(self) -> Vec<Ended> {
        let mut all = Vec::new();
        self.client.shutdown(|ended| all.push(ended)).await.expect("it ends");
        all
    }
}

#[tokio::test]
async fn who_falls_again_and_again_is_called_crash_looping_and_paused_ever_longer() {
    let supervised = Supervised::start().await;
    supervised.run("falls", Tier::Instance, "date +%s%N >> times; exit 3").await;
    let status = supervised.wait_for("falls", |status| status.state == State::CrashLooping).await;
    assert_eq!(status.last_end.as_deref(), Some("ended with exit code 3"));
    let times: Vec<u64> =
        supervised.written("times").lines().map(|line| line.parse().expect("nanoseconds")).collect();
    let pauses: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.len() >= 4 && pauses[3] > pauses[0] * 3, "{pauses:?}");

    let ended = supervised.end().await;
    assert_eq!(ended.len(), 1, "one that is paused is ended as well: {ended:?}");
}

#[tokio::test]
async fn who_does_not_listen_is_killed_with_all_its_children_when_its_time_is_over() {
    let supervised = Supervised::start().await;
    supervised.run("deaf", Tier::Instance, "trap '' TERM; sleep 60 & echo $! > child; wait; sleep 60").await;
    let child = loop {
        if let Ok(pid) = supervised.written("child").trim().parse::<i32>() {
            break mf::process::Identity::of(pid).expect("it runs");
        }
        tokio::task::yield_now().await;
    };
    let mut ended = Vec::new();
    supervised.client.stop(vec!["deaf".to_owned()], |end| ended.push(end)).await.expect("it is stopped");
    assert!(ended[0].forced && ended[0].how.contains("after 1 s"), "{ended:?}");
    let deadline = Instant::now() + WAIT_MAX;
    while child.is_alive() {
        assert!(Instant::now() < deadline, "the child lives on");
        tokio::task::yield_now().await;
    }
    assert!(supervised.status("deaf").await.is_none(), "and it does not come back");
    supervised.end().await;
}

#[tokio::test]
async fn a_killed_process_comes_back_unless_it_shall_not() {
    let supervised = Supervised::start().await;
    supervised.run("sleeper", Tier::Instance, "exec sleep 60").await;
    let before = supervised.status("sleeper").await.expect("it runs").pid;
    assert_eq!(supervised.client.kill("sleeper", true).await.expect("killed"), before);
    let after =
        supervised.wait_for("sleeper", |status| status.restarts == 1 && status.state == State::Running).await;
    assert_ne!(after.pid, before);
    supervised.client.kill("sleeper", false).await.expect("killed");
    assert!(supervised.status("sleeper").await.is_none());
    // The name is free at once.
    supervised.run("sleeper", Tier::Instance, "exec sleep 60").await;
    supervised.end().await;
}

#[tokio::test]
async fn all_are_stopped_from_the_last_tier_to_the_first() {
    let supervised = Supervised::start().await;
    let script =
        |name: &str| format!("trap 'echo {name} >> order; exit 0' TERM; while :; do sleep 0.01; done");
    supervised.run("store", Tier::Store, &script("store")).await;
    supervised.run("agent", Tier::Agent, &script("agent")).await;
    supervised.run("balancer", Tier::Balancer, &script("balancer")).await;
    supervised.run("users-1", Tier::Instance, &script("users-1")).await;
    let folder = supervised.folder.path().to_path_buf();
    // Each has set its trap when it has slept once; asked too early, the shell would end without a word.
    for name in ["store", "agent", "balancer", "users-1"] {
        supervised.wait_for(name, |status| status.pid.is_some_and(has_child)).await;
    }
    let Supervised { client, folder: _keep } = supervised;
    let mut all = Vec::new();
    client.shutdown(|ended| all.push(ended)).await.expect("it ends");
    assert!(all.iter().all(|ended| ended.how == "stopped"), "{all:?}");
    let order = std::fs::read_to_string(folder.join("order")).expect("written");
    assert_eq!(order.lines().collect::<Vec<_>>(), ["users-1", "balancer", "agent", "store"]);
}

#[tokio::test]
async fn a_name_runs_once_and_a_missing_program_is_told() {
    let supervised = Supervised::start().await;
    supervised.run("one", Tier::Store, "exec sleep 60").await;
    let mut spec = Spec {
        name: "one".to_owned(),
        service: "one".to_owned(),
        tier: Tier::Store,
        program: "/nowhere/program".into(),
        args: Vec::new(),
        env: Environment::default(),
        folder: "/".into(),
        stop: Stop { signal: StopSignal::Terminate, seconds_max: 1 },
    };
    let failure = supervised.client.start(spec.clone()).await.expect_err("the name is taken");
    assert!(failure.message.contains("one runs already"), "{failure}");
    spec.name = "two".to_owned();
    let failure = supervised.client.start(spec).await.expect_err("there is no such program");
    assert!(failure.message.contains("/nowhere/program"), "{failure}");
    supervised.end().await;
}

#[tokio::test]
async fn a_process_gets_its_own_environment_and_nothing_else() {
    let supervised = Supervised::start().await;
    supervised.run("tells", Tier::Store, "env > seen.partial; mv seen.partial seen; exec sleep 60").await;
    let deadline = Instant::now() + WAIT_MAX;
    while supervised.written("seen").is_empty() {
        assert!(Instant::now() < deadline, "it did not write");
        tokio::task::yield_now().await;
    }
    let seen = supervised.written("seen");
    assert!(!seen.contains("CARGO"), "the environment of whoever started the stack leaks: {seen}");
    supervised.end().await;
}

fn has_child(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .is_ok_and(|children| !children.trim().is_empty())
}
