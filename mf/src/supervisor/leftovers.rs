//! Processes whose supervisor was killed: they go on, and the next `mf up` or `mf down` finds and ends them by these files.

use std::fs;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::spec::{Stop, Tier};
use crate::home::{self, Home};
use crate::process::Identity;

/// How often we look whether one has ended: it is not our child, so nobody tells us.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PidFile {
    #[serde(flatten)]
    pub identity: Identity,
    pub service: String,
    pub tier: Tier,
    pub stop: Stop,
}

impl PidFile {
    pub(super) fn write(&self, home: &Home, name: &str) {
        let path = home.pids().join(format!("{name}.json"));
        let text = serde_json::to_string(self).expect("a pid file is plain data");
        // Without it the process would only be missed if the supervisor was killed as well: no reason not to run it.
        if let Err(failure) = home::write_private(&path, &text) {
            super::child::log(name, &failure.message);
        }
    }

    pub(super) fn remove(home: &Home, name: &str) {
        let _ = fs::remove_file(home.pids().join(format!("{name}.json")));
    }
}

/// Those that still run, by name. Only asked when no supervisor lives.
pub fn find(home: &Home) -> Vec<(String, PidFile)> {
    let Ok(entries) = fs::read_dir(home.pids()) else { return Vec::new() };
    let mut found: Vec<(String, PidFile)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().to_str()?.strip_suffix(".json")?.to_owned();
            let file: PidFile = serde_json::from_str(&fs::read_to_string(entry.path()).ok()?).ok()?;
            Some((name, file))
        })
        .filter(|(_, file)| file.identity.is_alive())
        .collect();
    found.sort_by(|a, b| (a.1.tier, &a.0).cmp(&(b.1.tier, &b.0)));
    found
}

/// Ends them in the order a living supervisor would have, and tells of each.
pub async fn end(home: &Home, mut told: impl FnMut(&str)) {
    let found = find(home);
    for tier in Tier::LAST_TO_FIRST {
        let of_tier: Vec<&(String, PidFile)> = found.iter().filter(|(_, file)| file.tier == tier).collect();
        for (_, file) in &of_tier {
            file.identity.signal(file.stop.signal.into());
        }
        for (name, file) in of_tier {
            let deadline = Instant::now() + Duration::from_secs(file.stop.seconds_max);
            while file.identity.is_alive() && Instant::now() < deadline {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            file.identity.kill_group();
            while file.identity.is_alive() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            PidFile::remove(home, name);
            told(name);
        }
    }
    // What is left in the folder names processes that ended long ago.
    for entry in fs::read_dir(home.pids()).into_iter().flatten().flatten() {
        let _ = fs::remove_file(entry.path());
    }
}
