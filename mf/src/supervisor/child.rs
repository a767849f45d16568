//! One process: started, watched, started again when it ends by itself, stopped when asked.

use std::process::ExitStatus;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::Utc;
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot};

use super::backoff::Backoff;
use super::kernel::{CLEAN, by_signal, in_words, kill_group, pid_of, signal, spawn};
use super::leftovers::PidFile;
use super::protocol::{Ended, ProcessStatus, State};
use super::spec::Spec;
use crate::home::Home;

#[derive(Debug)]
pub enum Order {
    Stop(oneshot::Sender<Ended>),
    Kill { restart: bool, killed: oneshot::Sender<Option<i32>> },
}

/// A process on the supervisor's list.
#[derive(Debug, Clone)]
pub struct Handle {
    pub status: Arc<Mutex<ProcessStatus>>,
    pub spec: Arc<Spec>,
    orders: mpsc::Sender<Order>,
}

impl Handle {
    pub fn status(&self) -> ProcessStatus {
        self.status.lock().expect("no holder of this lock panics").clone()
    }

    pub async fn stop(&self) -> Ended {
        let (ended, wait) = oneshot::channel();
        let _ = self.orders.send(Order::Stop(ended)).await;
        // Nobody answers when another order has ended it meanwhile.
        wait.await.unwrap_or_else(|_| Ended {
            name: self.spec.name.clone(),
            how: "had ended already".to_owned(),
            forced: false,
        })
    }

    pub async fn kill(&self, restart: bool) -> Option<i32> {
        let (killed, wait) = oneshot::channel();
        let _ = self.orders.send(Order::Kill { restart, killed }).await;
        wait.await.ok().flatten()
    }
}

/// Starts the process for the first time, and a task that looks after it until it is stopped for good; then calls `gone`.
pub fn start(
    home: &Home,
    spec: Spec,
    gone: impl FnOnce() + Send + 'static,
) -> std::io::Result<(i32, Handle)> {
    let child = spawn(home, &spec)?;
    let pid = pid_of(&child);
    let status = ProcessStatus {
        name: spec.name.clone(),
        service: spec.service.clone(),
        state: State::Running,
        pid: Some(pid),
        restarts: 0,
        started: Utc::now(),
        last_end: None,
    };
    let (orders, receiver) = mpsc::channel(8);
    let handle = Handle { status: Arc::new(Mutex::new(status)), spec: Arc::new(spec), orders };
    let keeper = Keeper {
        home: home.clone(),
        spec: handle.spec.clone(),
        status: handle.status.clone(),
        orders: receiver,
        backoff: Backoff::default(),
    };
    tokio::spawn(async move {
        let answer = keeper.keep(child).await;
        // First off the list, then the answer: whoever hears that a name has ended may use it again at once.
        gone();
        answer();
    });
    Ok((pid, handle))
}

struct Keeper {
    home: Home,
    spec: Arc<Spec>,
    status: Arc<Mutex<ProcessStatus>>,
    orders: mpsc::Receiver<Order>,
    backoff: Backoff,
}

/// What comes after a process has ended.
enum Next {
    Restart,
    Gone(Answer),
}

/// Tells whoever asked for it that the process is gone for good.
type Answer = Box<dyn FnOnce() + Send>;

fn answer<T: Send + 'static>(to: oneshot::Sender<T>, with: T) -> Answer {
    Box::new(move || {
        let _ = to.send(with);
    })
}

impl Keeper {
    async fn keep(mut self, first: Child) -> Answer {
        let mut running = Some(first);
        loop {
            let started = Instant::now();
            let next = match running.take() {
                Some(child) => self.watch(child).await,
                None => Next::Restart,
            };
            if let Next::Gone(answer) = next {
                return answer;
            }
            let pause = self.backoff.crashed(started.elapsed());
            let state = if self.backoff.is_looping() { State::CrashLooping } else { State::Restarting };
            self.update(|status| (status.state, status.pid) = (state, None));
            if let Next::Gone(answer) = self.pause(pause).await {
                return answer;
            }
            match spawn(&self.home, &self.spec) {
                Ok(child) => {
                    let pid = pid_of(&child);
                    log(&self.spec.name, &format!("started again (pid {pid})"));
                    self.update(|status| {
                        (status.state, status.pid) = (State::Running, Some(pid));
                        status.restarts += 1;
                        status.started = Utc::now();
                    });
                    running = Some(child);
                }
                Err(error) => {
                    log(&self.spec.name, &format!("cannot be started: {error}"));
                    self.update(|status| status.last_end = Some(error.to_string()));
                }
            }
        }
    }

    async fn watch(&mut self, mut child: Child) -> Next {
        let pid = pid_of(&child);
        tokio::select! {
            status = child.wait() => {
                self.ended(status);
                Next::Restart
            }
            order = self.orders.recv() => match order {
                Some(Order::Stop(done)) => {
                    let ended = self.stop(&mut child, pid).await;
                    Next::Gone(answer(done, ended))
                }
                Some(Order::Kill { restart, killed }) => {
                    kill_group(pid);
                    let status = child.wait().await;
                    self.ended(status);
                    if !restart {
                        return Next::Gone(answer(killed, Some(pid)));
                    }
                    let _ = killed.send(Some(pid));
                    Next::Restart
                }
                // The supervisor's list is gone: so is the supervisor.
                None => {
                    self.stop(&mut child, pid).await;
                    Next::Gone(Box::new(|| {}))
                }
            },
        }
    }

    /// Asks the process to end, and kills its group when it has not after its time.
    async fn stop(&mut self, child: &mut Child, pid: i32) -> Ended {
        self.update(|status| status.state = State::Stopping);
        signal(pid, self.spec.stop.signal.into());
        let wait = tokio::time::timeout(Duration::from_secs(self.spec.stop.seconds_max), child.wait()).await;
        let (status, forced) = if let Ok(status) = wait {
            (status, false)
        } else {
            kill_group(pid);
            (child.wait().await, true)
        };
        let how = self.ended(status);
        let how = if forced {
            format!("killed: it had not ended after {} s", self.spec.stop.seconds_max)
        } else if how == CLEAN || how == by_signal(self.spec.stop.signal.into()) {
            "stopped".to_owned()
        } else {
            how
        };
        Ended { name: self.spec.name.clone(), how, forced }
    }

    /// Waits before the next start, unless somebody ends it meanwhile.
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
                    Some(Order::Kill { restart: false, killed }) => Next::Gone(answer(killed, None)),
                    Some(Order::Stop(done)) => {
                        Next::Gone(answer(done, Ended { name: self.spec.name.clone(), how: "was not running".to_owned(), forced: false }))
                    }
                    None => Next::Gone(Box::new(|| {})),
                },
            }
        }
    }

    fn ended(&self, status: std::io::Result<ExitStatus>) -> String {
        PidFile::remove(&self.home, &self.spec.name);
        let how = match status {
            Ok(status) => in_words(status),
            Err(error) => format!("ended, how is not known: {error}"),
        };
        log(&self.spec.name, &how);
        self.update(|status| status.last_end = Some(how.clone()));
        how
    }

    fn update(&self, change: impl FnOnce(&mut ProcessStatus)) {
        change(&mut self.status.lock().expect("no holder of this lock panics"));
    }
}

/// One line in `supervisor.log`, in the shape all our processes log in.
pub fn log(name: &str, message: &str) {
    let line =
        serde_json::json!({"timestamp": Utc::now(), "level": "INFO", "message": message, "process": name});
    print_line!("{line}");
}
