//! The supervisor's own life: one per state folder, from `mf up` to `mf down`.

use std::collections::BTreeMap;
use std::fs::{self, TryLockError};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use super::child::{self, Handle, log};
use super::protocol::Ended;
use super::spec::{Spec, Tier};
use super::{control, rotate};
use crate::failure::{Exit, Failure, Result};
use crate::home::{self, Home};

#[derive(Debug)]
pub(super) struct Supervisor {
    home: Home,
    list: Mutex<List>,
    pub(super) ended: Notify,
}

#[derive(Debug, Default)]
struct List {
    processes: BTreeMap<String, Handle>,
    /// Set when everything is being stopped: nothing is started any more.
    closing: bool,
}

pub async fn run(home: Home) -> Result<()> {
    let lock = home::open_private(&home.path().join("supervisor.lock"))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(Failure::new(Exit::TryAgain, "this stack has a supervisor already"));
        }
        Err(TryLockError::Error(error)) => return Err(home::cannot_write(home.path(), &error)),
    }
    // A session of its own: closing the terminal, or Ctrl-C in it, is not meant for us. Fails only where we have one already.
    let _ = nix::unistd::setsid();
    raise_open_files();

    let socket = home.socket()?;
    // Ours by the lock above, so a socket that is there belongs to nobody.
    let _ = fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).map_err(|error| home::cannot_write(&socket, &error))?;
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o600))
        .map_err(|error| home::cannot_write(&socket, &error))?;
    log("supervisor", "listening");

    let supervisor =
        Arc::new(Supervisor { home: home.clone(), list: Mutex::default(), ended: Notify::new() });
    tokio::spawn(rotate::run(home));
    tokio::spawn(control::serve(listener, supervisor.clone()));

    let (mut terminate, mut interrupt) =
        (handler(SignalKind::terminate())?, handler(SignalKind::interrupt())?);
    let ended = supervisor.ended.notified();
    tokio::select! {
        _ = terminate.recv() => supervisor.shutdown(|_| {}).await,
        _ = interrupt.recv() => supervisor.shutdown(|_| {}).await,
        () = ended => {}
    }
    log("supervisor", "ends");
    let _ = fs::remove_file(&socket);
    Ok(())
}

impl Supervisor {
    pub fn start(self: &Arc<Self>, spec: Spec) -> std::result::Result<i32, String> {
        let mut list = self.list.lock().expect("no holder of this lock panics");
        if list.closing {
            return Err("the stack is being stopped".to_owned());
        }
        let name = spec.name.clone();
        if list.processes.contains_key(&name) {
            return Err(format!("{name} runs already"));
        }
        let (this, key) = (Arc::downgrade(self), name.clone());
        let gone = move || {
            if let Some(this) = this.upgrade() {
                this.list.lock().expect("no holder of this lock panics").processes.remove(&key);
            }
        };
        let program = spec.program.display().to_string();
        let (pid, handle) = child::start(&self.home, spec, gone)
            .map_err(|error| format!("{name} cannot be started ({program}): {error}"))?;
        log(&name, &format!("started (pid {pid})"));
        list.processes.insert(name, handle);
        Ok(pid)
    }

    pub fn find(&self, name: &str) -> Option<Handle> {
        self.list.lock().expect("no holder of this lock panics").processes.get(name).cloned()
    }

    pub fn all(&self) -> Vec<Handle> {
        self.list.lock().expect("no holder of this lock panics").processes.values().cloned().collect()
    }

    /// Stops everything in order. Instances go first, all at once, while balancer and registry still let them leave well.
    pub async fn shutdown(&self, mut told: impl FnMut(Ended)) {
        self.list.lock().expect("no holder of this lock panics").closing = true;
        for tier in Tier::LAST_TO_FIRST {
            let mut stops: tokio::task::JoinSet<Ended> = self
                .all()
                .into_iter()
                .filter(|handle| handle.spec.tier == tier)
                .map(|handle| async move { handle.stop().await })
                .collect();
            while let Some(ended) = stops.join_next().await {
                if let Ok(ended) = ended {
                    told(ended);
                }
            }
        }
    }
}

/// As many open files as the machine allows: HAProxy and the websocket service need one a connection, and inherit ours.
fn raise_open_files() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

fn handler(kind: SignalKind) -> Result<tokio::signal::unix::Signal> {
    signal(kind).map_err(|error| Failure::internal(format!("cannot listen to signals: {error}")))
}
