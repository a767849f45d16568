//! One process: a task starts it, waits for its end, restarts it after a pause, and stops it on request.

use std::io;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::Utc;
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot};

use crate::backoff::Backoff;
use crate::kernel::{kill_group, outcome, pid_of, signal, spawn, was_stopped_by};
use crate::log::log;
use crate::log_rotation::Logs;
use crate::orphans::PidFile;
use crate::paths::Paths;
use crate::protocol::{Ended, ProcessStatus, State};
use crate::spec::Spec;

#[derive(Debug)]
enum Order {
    Stop(oneshot::Sender<Ended>),
    Kill { restart: bool, killed: oneshot::Sender<Option<i32>> },
}

/// A process in the supervisor's table.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    pub(crate) spec: Arc<Spec>,
    status: Arc<Mutex<ProcessStatus>>,
    orders: mpsc::Sender<Order>,
}

impl Handle {
    pub(crate) fn status(&self) -> ProcessStatus {
        self.status.lock().expect("no holder of this lock panics").clone()
    }

    /// Stops the process for good.
    pub(crate) async fn stop(&self) -> Ended {
        let (sender, ended) = oneshot::channel();
        let _ = self.orders.send(Order::Stop(sender)).await;
        // There is no answer if another order has removed the process meanwhile.
        ended.await.unwrap_or_else(|_| not_forced(&self.spec.name, "had ended already"))
    }

    pub(crate) async fn kill(&self, restart: bool) -> Option<i32> {
        let (sender, killed) = oneshot::channel();
        let _ = self.orders.send(Order::Kill { restart, killed: sender }).await;
        killed.await.ok().flatten()
    }
}

fn not_forced(name: &str, outcome: &str) -> Ended {
    Ended { name: name.to_owned(), outcome: outcome.to_owned(), forced: false }
}

/// Starts a process and its task. `remove` is called when the process has ended for good.
pub(crate) fn start(
    paths: &Paths,
    logs: &Logs,
    spec: Spec,
    remove: impl FnOnce() + Send + 'static,
) -> io::Result<(i32, Handle)> {
    let child = spawn(paths, logs, &spec)?;
    let pid = pid_of(&child);
    let status = ProcessStatus {
        name: spec.name.clone(),
        group: spec.group.clone(),
        version: spec.version.clone(),
        own_env: spec.own_env.clone(),
        state: State::Running,
        pid: Some(pid),
        restarts: 0,
        started: Utc::now(),
        last_end: None,
    };
    let (orders, receiver) = mpsc::channel(8);
    let handle = Handle { spec: Arc::new(spec), status: Arc::new(Mutex::new(status)), orders };
    let task = Task {
        paths: paths.clone(),
        logs: logs.clone(),
        spec: handle.spec.clone(),
        status: handle.status.clone(),
        orders: receiver,
        backoff: Backoff::new(),
    };
    tokio::spawn(async move {
        let answer = task.run(child).await;
        // Before the answer, so that its receiver can use the name again.
        remove();
        answer();
    });
    Ok((pid, handle))
}

struct Task {
    paths: Paths,
    logs: Logs,
    spec: Arc<Spec>,
    status: Arc<Mutex<ProcessStatus>>,
    orders: mpsc::Receiver<Order>,
    backoff: Backoff,
}

/// What follows the end of a process.
enum Next {
    Restart,
    Remove(Answer),
}

/// Answers the order that ended the process for good.
type Answer = Box<dyn FnOnce() + Send>;

fn answer<T: Send + 'static>(to: oneshot::Sender<T>, with: T) -> Next {
    Next::Remove(Box::new(move || {
        let _ = to.send(with);
    }))
}

fn no_answer() -> Next {
    Next::Remove(Box::new(|| {}))
}

impl Task {
    async fn run(mut self, first: Child) -> Answer {
        let mut running = Some(first);
        loop {
            let started = Instant::now();
            if let Some(child) = running.take()
                && let Next::Remove(answer) = self.watch(child).await
            {
                return answer;
            }
            let pause = self.backoff.crashed(started.elapsed());
            let state = if self.backoff.is_looping() { State::CrashLooping } else { State::Restarting };
            self.update(|status| (status.state, status.pid) = (state, None));
            if let Next::Remove(answer) = self.pause(pause).await {
                return answer;
            }
            match spawn(&self.paths, &self.logs, &self.spec) {
                Ok(child) => {
                    let pid = pid_of(&child);
                    log(&self.spec.name, &format!("restarted (pid {pid})"));
                    self.update(|status| {
                        (status.state, status.pid) = (State::Running, Some(pid));
                        status.restarts += 1;
                        status.started = Utc::now();
                    });
                    running = Some(child);
                }
                Err(error) => {
                    log(&self.spec.name, &format!("cannot be started: {error}"));
                    self.update(|status| status.last_end = Some(format!("cannot be started: {error}")));
                }
            }
        }
    }

    /// Waits until the process exits, or an order ends it.
    async fn watch(&mut self, mut child: Child) -> Next {
        let pid = pid_of(&child);
        tokio::select! {
            status = child.wait() => {
                self.ended(&status);
                Next::Restart
            }
            order = self.orders.recv() => match order {
                Some(Order::Stop(ended)) => {
                    let end = self.stop(&mut child, pid).await;
                    answer(ended, end)
                }
                Some(Order::Kill { restart, killed }) => {
                    kill_group(pid);
                    self.ended(&child.wait().await);
                    if !restart {
                        return answer(killed, Some(pid));
                    }
                    let _ = killed.send(Some(pid));
                    Next::Restart
                }
                // The table was dropped: the supervisor ends.
                None => {
                    self.stop(&mut child, pid).await;
                    no_answer()
                }
            },
        }
    }

    /// Asks the process to stop, and kills its process group if it has not ended in time.
    async fn stop(&mut self, child: &mut Child, pid: i32) -> Ended {
        self.update(|status| status.state = State::Stopping);
        let (name, stop) = (&self.spec.name, self.spec.stop);
        signal(pid, stop.signal.into());
        let wait = tokio::time::timeout(Duration::from_secs(stop.seconds_max), child.wait()).await;
        if let Ok(status) = wait {
            let outcome = self.ended(&status);
            let stopped = status.is_ok_and(|status| was_stopped_by(status, stop.signal.into()));
            return not_forced(name, if stopped { "stopped" } else { &outcome });
        }
        kill_group(pid);
        self.ended(&child.wait().await);
        let outcome = format!("killed: it had not ended after {} s", stop.seconds_max);
        Ended { name: name.clone(), outcome, forced: true }
    }

    /// Waits before the next start, unless an order ends the process meanwhile.
    async fn pause(&mut self, pause: Duration) -> Next {
        let deadline = tokio::time::Instant::now() + pause;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => return Next::Restart,
                order = self.orders.recv() => return match order {
                    Some(Order::Kill { restart: true, killed }) => {
                        let _ = killed.send(None);
                        continue;
                    }
                    Some(Order::Kill { restart: false, killed }) => answer(killed, None),
                    Some(Order::Stop(ended)) => answer(ended, not_forced(&self.spec.name, "was not running")),
                    None => no_answer(),
                },
            }
        }
    }

    fn ended(&self, status: &io::Result<ExitStatus>) -> String {
        PidFile::remove(&self.paths, &self.spec.name);
        self.logs.close(&self.spec.name);
        let outcome = match status {
            Ok(status) => outcome(*status),
            Err(error) => format!("ended, its exit code is unknown: {error}"),
        };
        log(&self.spec.name, &outcome);
        self.update(|status| status.last_end = Some(outcome.clone()));
        outcome
    }

    fn update(&self, change: impl FnOnce(&mut ProcessStatus)) {
        change(&mut self.status.lock().expect("no holder of this lock panics"));
    }
}
