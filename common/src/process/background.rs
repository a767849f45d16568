//! Tasks beside the requests: relays, sweepers, watches. None of them ends unseen.
//!
//! A task that fails or panics is logged and, when it was given as something that can be made again,
//! started again with back-off. How each one fares stands in `/health`.

use std::{
    any::Any,
    collections::BTreeMap,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::FutureExt;
use serde::Serialize;
use tokio::time::{Instant, sleep};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use tracing::{error, info};

const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A task that ran this long was well; its next failure is a new one.
const WELL_AFTER: Duration = Duration::from_secs(30);

/// Starts tasks and knows how they fare. Clones speak of the same tasks.
#[derive(Debug, Clone, Default)]
pub struct Background {
    stopping: CancellationToken,
    drained: CancellationToken,
    tracker: TaskTracker,
    tasks: Arc<Mutex<BTreeMap<&'static str, Fare>>>,
}

/// How a task fares, for `/health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub(super) enum Fare {
    Running { restarts: u32 },
    WaitingToRestart { restarts: u32, error: String },
    Failed { error: String },
    Ended,
}

/// What a task may end with: nothing, or a result whose error is logged.
pub trait Outcome: Send + 'static {
    fn into_result(self) -> anyhow::Result<()>;
}

impl Outcome for () {
    fn into_result(self) -> anyhow::Result<()> {
        Ok(())
    }
}

impl Outcome for anyhow::Result<()> {
    fn into_result(self) -> anyhow::Result<()> {
        self
    }
}

impl Background {
    /// A task that is made again when it fails or panics. When it ends well, that was its end.
    pub fn supervise<M, F>(&self, name: &'static str, mut make: M)
    where
        M: FnMut() -> F + Send + 'static,
        F: Future<Output: Outcome> + Send + 'static,
    {
        let this = self.clone();
        let supervisor = async move {
            let mut restarts = 0;
            let mut pause = PAUSE_MIN;
            loop {
                this.tell(name, Fare::Running { restarts });
                let started = Instant::now();
                let Err(error) = watch(make()).await else { return this.tell(name, Fare::Ended) };
                if this.stopping.is_cancelled() {
                    info!(task = name, error, "a task ended while the process is stopping");
                    return this.tell(name, Fare::Failed { error });
                }
                if started.elapsed() >= WELL_AFTER {
                    pause = PAUSE_MIN;
                }
                error!(
                    task = name,
                    error,
                    restarts,
                    pause_ms = pause.as_millis(),
                    "a task failed; starting it again"
                );
                this.tell(name, Fare::WaitingToRestart { restarts, error });
                tokio::select! {
                    () = sleep(pause) => {}
                    () = this.stopping.cancelled() => return,
                }
                pause = (pause * 2).min(PAUSE_MAX);
                restarts += 1;
            }
        };
        self.tracker.spawn(supervisor);
    }

    /// A task that cannot be made again: its failure is logged and stays visible in `/health`. What has to
    /// go on for ever wants `supervise`. Either kind ends by itself soon after `stopping` is cancelled.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output: Outcome> + Send + 'static,
    {
        let this = self.clone();
        let watcher = async move {
            this.tell(name, Fare::Running { restarts: 0 });
            match watch(task).await {
                Ok(()) => this.tell(name, Fare::Ended),
                Err(error) => {
                    error!(task = name, error, "a task failed, and is not started again");
                    this.tell(name, Fare::Failed { error });
                }
            }
        };
        self.tracker.spawn(watcher);
    }

    /// Cancelled when the balancer has let go of us: loops end, websockets close with 1012.
    pub fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// Cancelled when the last request has been answered: after this nobody makes new work. For tasks that
    /// finish what requests have left, such as the relay.
    pub fn drained(&self) -> CancellationToken {
        self.drained.clone()
    }

    /// While this is held the process does not end, within the bounds of the shutdown. For connections that
    /// are no requests any more, such as websockets.
    pub fn hold(&self) -> TaskTrackerToken {
        self.tracker.token()
    }

    pub(super) fn stop(&self) {
        self.stopping.cancel();
    }

    pub(super) fn drain(&self) {
        self.drained.cancel();
        self.tracker.close();
    }

    pub(super) async fn ended(&self) {
        self.tracker.wait().await;
    }

    pub(super) fn count(&self) -> usize {
        self.tracker.len()
    }

    pub(super) fn names_of_running(&self) -> Vec<&'static str> {
        let is_running = |fare: &Fare| matches!(fare, Fare::Running { .. });
        self.fares().into_iter().filter(|(_, fare)| is_running(fare)).map(|(name, _)| name).collect()
    }

    pub(super) fn fares(&self) -> BTreeMap<&'static str, Fare> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tell(&self, name: &'static str, fare: Fare) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).insert(name, fare);
    }
}

/// Runs a task; a panic becomes an error like any other. The panic hook has logged its place.
async fn watch<F: Future<Output: Outcome>>(task: F) -> Result<(), String> {
    match AssertUnwindSafe(task).catch_unwind().await {
        Ok(outcome) => outcome.into_result().map_err(|problem| format!("{problem:#}")),
        Err(panic) => Err(format!("panicked: {}", words_of(&*panic))),
    }
}

fn words_of(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no words")
}

#[cfg(test)]
mod tests;
