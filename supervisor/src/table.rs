//! The processes of one supervisor.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::Notify;

use crate::child::{self, Handle};
use crate::log::log;
use crate::log_rotation::Logs;
use crate::paths::Paths;
use crate::protocol::{Ended, ProcessStatus};
use crate::spec::Spec;

#[derive(Debug)]
pub(crate) struct Table {
    paths: Paths,
    logs: Logs,
    list: Mutex<List>,
    /// Notified when a client has received the replies to its shutdown request.
    pub(crate) shut_down: Notify,
}

#[derive(Debug, Default)]
struct List {
    processes: BTreeMap<String, Handle>,
    /// Set by a shutdown: nothing is started any more.
    closing: bool,
}

impl Table {
    pub(crate) fn new(paths: Paths, logs: Logs) -> Arc<Self> {
        Arc::new(Self { paths, logs, list: Mutex::default(), shut_down: Notify::new() })
    }

    /// Starts a process and returns its pid. The error is for people.
    pub(crate) fn start(self: &Arc<Self>, spec: Spec) -> Result<i32, String> {
        let mut list = self.list();
        if list.closing {
            return Err("the supervisor is shutting down".to_owned());
        }
        let name = spec.name.clone();
        if list.processes.contains_key(&name) {
            return Err(format!("{name} runs already"));
        }
        let (this, key) = (Arc::downgrade(self), name.clone());
        let remove = move || {
            if let Some(this) = this.upgrade() {
                this.list().processes.remove(&key);
            }
        };
        let program = spec.program.display().to_string();
        let (pid, handle) = child::start(&self.paths, &self.logs, spec, remove)
            .map_err(|error| format!("{name} cannot be started ({program}): {error}"))?;
        log(&name, &format!("started (pid {pid})"));
        list.processes.insert(name, handle);
        Ok(pid)
    }

    pub(crate) fn find(&self, name: &str) -> Option<Handle> {
        self.list().processes.get(name).cloned()
    }

    pub(crate) fn statuses(&self) -> Vec<ProcessStatus> {
        self.all().iter().map(Handle::status).collect()
    }

    /// Stops processes at the same time, and calls `ended` for each as soon as it has ended.
    pub(crate) async fn stop(&self, handles: Vec<Handle>, mut ended: impl FnMut(Ended)) {
        let mut stops: FuturesUnordered<_> = handles.iter().map(Handle::stop).collect();
        while let Some(end) = stops.next().await {
            ended(end);
        }
    }

    /// Stops every process, those with the highest priority number first.
    pub(crate) async fn shutdown(&self, mut ended: impl FnMut(Ended)) {
        self.list().closing = true;
        let mut all = self.all();
        all.sort_by_key(|handle| std::cmp::Reverse(handle.spec.priority));
        for same_priority in all.chunk_by(|one, other| one.spec.priority == other.spec.priority) {
            self.stop(same_priority.to_vec(), &mut ended).await;
        }
    }

    fn all(&self) -> Vec<Handle> {
        self.list().processes.values().cloned().collect()
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().expect("no holder of this lock panics")
    }
}
