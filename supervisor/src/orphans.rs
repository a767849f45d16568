//! Processes whose supervisor was killed. They go on running, and are found by the pid files that it wrote.

use std::fs;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::log::log;
use crate::paths::Paths;
use crate::process::Identity;
use crate::spec::Stop;

/// Orphans are not our children, so we poll whether they have ended.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PidFile {
    #[serde(flatten)]
    pub(crate) identity: Identity,
    pub(crate) priority: u8,
    pub(crate) stop: Stop,
}

impl PidFile {
    pub(crate) fn write(&self, paths: &Paths, name: &str) {
        let path = paths.pid_file(name);
        let partial = path.with_extension("partial");
        let text = serde_json::to_string(self).expect("a pid file is plain data");
        // The process runs without it, too: only an orphan would not be found.
        if let Err(error) = fs::write(&partial, text).and_then(|()| fs::rename(&partial, &path)) {
            log(name, &format!("cannot write {}: {error}", path.display()));
        }
    }

    pub(crate) fn remove(paths: &Paths, name: &str) {
        let _ = fs::remove_file(paths.pid_file(name));
    }
}

/// Returns the names of running orphans. Call it only when no supervisor runs.
pub fn find(paths: &Paths) -> Vec<String> {
    running(paths).into_iter().map(|(name, _)| name).collect()
}

/// Stops all orphans, in order of priority, and calls `ended` with the name of each.
pub async fn stop(paths: &Paths, mut ended: impl FnMut(&str)) {
    let orphans = running(paths);
    for same_priority in orphans.chunk_by(|(_, one), (_, other)| one.priority == other.priority) {
        for (_, file) in same_priority {
            file.identity.signal(file.stop.signal.into());
        }
        for (name, file) in same_priority {
            let deadline = Instant::now() + Duration::from_secs(file.stop.seconds_max);
            while file.identity.is_alive() && Instant::now() < deadline {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
            file.identity.kill_group();
            while file.identity.is_alive() {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
            ended(name);
        }
    }
    for entry in fs::read_dir(&paths.pids).into_iter().flatten().flatten() {
        let _ = fs::remove_file(entry.path());
    }
}

/// Highest priority first, as they are stopped.
fn running(paths: &Paths) -> Vec<(String, PidFile)> {
    let mut found: Vec<(String, PidFile)> = fs::read_dir(&paths.pids)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().to_str()?.strip_suffix(".json")?.to_owned();
            Some((name, serde_json::from_str(&fs::read_to_string(entry.path()).ok()?).ok()?))
        })
        .filter(|(_, file): &(String, PidFile)| file.identity.is_alive())
        .collect();
    found.sort_by(|(name, file), (other_name, other)| {
        other.priority.cmp(&file.priority).then_with(|| name.cmp(other_name))
    });
    found
}
