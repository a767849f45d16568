//! Background tasks: the relay, consumers, sweeps, watches. Every failure is logged and visible in `/health`.
//!
//! Choose by what the task is: [`Background::supervise`] for a loop that must not end, [`Background::every`] for work
//! at intervals, [`Background::spawn`] for a task that restarts itself or may end.

use std::{
    any::Any,
    collections::BTreeMap,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBuilder};
use futures::FutureExt;
use serde::Serialize;
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use tracing::{error, info, warn};

/// The pause before a failed task is started again: 100 ms, doubled with each failure, 10 s at most.
const RESTART_BACKOFF: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(100))
    .with_max_delay(Duration::from_secs(10))
    .without_max_times();
/// After a run of this length the back-off begins again with its first pause.
const BACKOFF_RESET_AFTER: Duration = Duration::from_secs(30);
/// Failed work is tried again after this time if its interval is longer.
const RETRY_INTERVAL_MAX: Duration = Duration::from_mins(1);

/// Starts background tasks and records their status. Clones share the same tasks.
#[derive(Debug, Clone, Default)]
pub struct Background {
    stopping: CancellationToken,
    drained: CancellationToken,
    tracker: TaskTracker,
    statuses: Arc<Mutex<BTreeMap<String, TaskStatus>>>,
}

/// The status of a background task, as `/health` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub(super) enum TaskStatus {
    Running { restarts: u32 },
    WaitingToRestart { restarts: u32, error: String },
    Failed { error: String },
    Ended,
}

/// The result of a background task: nothing, or a `Result` whose error is logged.
pub trait TaskResult: Send + 'static {
    fn into_result(self) -> anyhow::Result<()>;
}

impl TaskResult for () {
    fn into_result(self) -> anyhow::Result<()> {
        Ok(())
    }
}

impl<E: Into<anyhow::Error> + Send + 'static> TaskResult for Result<(), E> {
    fn into_result(self) -> anyhow::Result<()> {
        self.map_err(Into::into)
    }
}

impl Background {
    /// Runs the task that `make` returns; when it fails or panics, runs a new one after a back-off.
    ///
    /// A task that returns without an error is not restarted. It has to return soon after [`Self::stopping`] is
    /// cancelled.
    pub fn supervise<M, F>(&self, name: impl Into<String>, mut make: M)
    where
        M: FnMut() -> F + Send + 'static,
        F: Future<Output: TaskResult> + Send + 'static,
    {
        let (this, name) = (self.clone(), name.into());
        self.tracker.spawn(async move {
            let mut restarts = 0;
            let mut backoff = RESTART_BACKOFF.build();
            loop {
                this.set_status(&name, TaskStatus::Running { restarts });
                let started = Instant::now();
                let Err(error) = run(make()).await else { return this.set_status(&name, TaskStatus::Ended) };
                if this.stopping.is_cancelled() {
                    info!(task = %name, error, "a task failed while the process was stopping");
                    return this.set_status(&name, TaskStatus::Failed { error });
                }
                if started.elapsed() >= BACKOFF_RESET_AFTER {
                    backoff = RESTART_BACKOFF.build();
                }
                let pause = backoff.next().expect("the back-off has no last pause");
                error!(
                    task = %name,
                    error,
                    restarts,
                    pause_ms = pause.as_millis(),
                    "a task failed; restarting it"
                );
                this.set_status(&name, TaskStatus::WaitingToRestart { restarts, error });
                if this.stopping.run_until_cancelled(sleep(pause)).await.is_none() {
                    return;
                }
                restarts += 1;
            }
        });
    }

    /// Runs `work` at once and then at intervals, until [`Self::stopping`] is cancelled.
    ///
    /// A failure or panic is logged once, until `work` succeeds again. Failed work runs again after the interval, or
    /// after one minute when the interval is longer.
    pub fn every<W, F>(&self, name: impl Into<String>, interval: Duration, work: W)
    where
        W: FnMut() -> F + Send + 'static,
        F: Future<Output: TaskResult> + Send + 'static,
    {
        self.every_or_notified(name, interval, Arc::new(Notify::new()), work);
    }

    /// Like [`Self::every`], but runs `work` also at once when `wake` is notified.
    pub fn every_or_notified<W, F>(&self, name: impl Into<String>, interval: Duration, wake: Arc<Notify>, mut work: W)
    where
        W: FnMut() -> F + Send + 'static,
        F: Future<Output: TaskResult> + Send + 'static,
    {
        let (this, name) = (self.clone(), name.into());
        self.tracker.spawn(async move {
            let mut failures = 0;
            this.set_status(&name, TaskStatus::Running { restarts: 0 });
            while !this.stopping.is_cancelled() {
                let mut pause = interval;
                match run(work()).await {
                    Ok(()) if failures == 0 => {}
                    Ok(()) => {
                        info!(task = %name, failures, "a periodic task succeeds again");
                        failures = 0;
                        this.set_status(&name, TaskStatus::Running { restarts: 0 });
                    }
                    Err(error) => {
                        if failures == 0 {
                            warn!(
                                task = %name,
                                error, "a periodic task failed; it is tried again at intervals"
                            );
                        }
                        this.set_status(&name, TaskStatus::WaitingToRestart { restarts: failures, error });
                        failures += 1;
                        pause = interval.min(RETRY_INTERVAL_MAX);
                    }
                }
                tokio::select! {
                    () = sleep(pause) => {}
                    () = wake.notified() => {}
                    () = this.stopping.cancelled() => {}
                }
            }
            this.set_status(&name, TaskStatus::Ended);
        });
    }

    /// Runs a task once: its failure is logged and stays visible in `/health`.
    ///
    /// It has to return soon after [`Self::stopping`] is cancelled.
    pub fn spawn<F>(&self, name: impl Into<String>, task: F)
    where
        F: Future<Output: TaskResult> + Send + 'static,
    {
        let (this, name) = (self.clone(), name.into());
        self.tracker.spawn(async move {
            this.set_status(&name, TaskStatus::Running { restarts: 0 });
            match run(task).await {
                Ok(()) => this.set_status(&name, TaskStatus::Ended),
                Err(error) => {
                    error!(task = %name, error, "a task failed; it is not restarted");
                    this.set_status(&name, TaskStatus::Failed { error });
                }
            }
        });
    }

    /// Returns the token that is cancelled when the balancer sends no more requests: loops end, websockets close.
    pub fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// Returns the token that is cancelled when the last request has been answered.
    ///
    /// For tasks that process what requests have written, such as the relay.
    pub fn drained(&self) -> CancellationToken {
        self.drained.clone()
    }

    /// Returns a guard. The process ends after the last guard is dropped, or after the shutdown timeout.
    ///
    /// For connections that are not requests, such as websockets.
    pub fn shutdown_guard(&self) -> TaskTrackerToken {
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

    /// The number of running tasks and guards.
    pub(super) fn count(&self) -> usize {
        self.tracker.len()
    }

    pub(super) fn names_of_running(&self) -> Vec<String> {
        let is_running = |status: &TaskStatus| matches!(status, TaskStatus::Running { .. });
        self.statuses().into_iter().filter(|(_, status)| is_running(status)).map(|(name, _)| name).collect()
    }

    pub(super) fn statuses(&self) -> BTreeMap<String, TaskStatus> {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_status(&self, name: &str, status: TaskStatus) {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), status);
    }
}

/// Runs a task. A panic becomes an error; the panic hook has logged its location.
async fn run<F: Future<Output: TaskResult>>(task: F) -> Result<(), String> {
    match AssertUnwindSafe(task).catch_unwind().await {
        Ok(result) => result.into_result().map_err(|error| format!("{error:#}")),
        Err(panic) => Err(format!("panicked: {}", panic_message(&*panic))),
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests;
