//! Writes the files that HAProxy and the agent start from: after a check by HAProxy, atomically, and at most every 200
//! ms.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use tokio::{
    process::Command,
    sync::{Mutex, watch},
    time::{sleep, timeout},
};
use tracing::{error, warn};

use crate::{
    config::Config,
    desired::Desired,
    last_known::LastKnown,
    render::{self, CONFIGURATION},
};

const STATE: &str = "state.json";
/// Ten instances that start together cause one write.
const DEBOUNCE: Duration = Duration::from_millis(200);
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);
/// `/usr/sbin` is not in every PATH.
const PROGRAMS: [&str; 2] = ["haproxy", "/usr/sbin/haproxy"];

/// Everything that a restart needs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Saved {
    pub desired: Desired,
    pub last_known: LastKnown,
}

/// The folder that the agent and HAProxy share.
#[derive(Debug, Clone)]
pub struct Folder {
    dir: PathBuf,
    config: Config,
    /// The current content. The lock also serializes writers.
    written: Arc<Mutex<Saved>>,
}

impl Folder {
    pub fn new(dir: PathBuf, config: Config) -> Self {
        Self { dir, config, written: Arc::default() }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Reads the last known state. Returns an empty one at the first start, or when the file is damaged.
    pub fn load(&self) -> LastKnown {
        let state = match fs::read(self.dir.join(STATE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return LastKnown::default(),
            text => text.map_err(anyhow::Error::from).and_then(|text| Ok(serde_json::from_slice(&text)?)),
        };
        state.unwrap_or_else(|error| {
            warn!(%error, file = STATE, "the last known state cannot be read; starting without it");
            LastKnown::default()
        })
    }

    /// Writes the files now. Fails, and keeps the old configuration, when HAProxy does not accept the new one.
    pub async fn save(&self, saved: &Saved) -> anyhow::Result<()> {
        let mut written = self.written.lock().await;
        if *written == *saved {
            return Ok(());
        }
        let state = serde_json::to_string(&saved.last_known).context("the state is plain data")?;
        replace(&self.dir.join(STATE), &state)?;
        // The maps first: the check of the configuration reads them.
        let files = render::files(&self.config, &saved.desired);
        for (file, text) in files.iter().filter(|(file, _)| **file != CONFIGURATION) {
            replace(&self.dir.join(file), text)?;
        }
        let configuration = files.get(CONFIGURATION).context("there is always a configuration")?;
        let draft = format!("{CONFIGURATION}.new");
        fs::write(self.dir.join(&draft), configuration).context("cannot write to HAPROXY_DIR; is the disk full?")?;
        self.check(&draft).await?;
        fs::rename(self.dir.join(&draft), self.dir.join(CONFIGURATION))?;
        written.clone_from(saved);
        Ok(())
    }

    async fn check(&self, draft: &str) -> anyhow::Result<()> {
        let programs = self.config.program.iter().map(PathBuf::as_path).chain(PROGRAMS.iter().map(Path::new));
        for program in programs {
            let check = Command::new(program)
                .args(["-c", "-q", "-f", draft])
                .current_dir(&self.dir)
                .stdin(Stdio::null())
                .kill_on_drop(true)
                .output();
            match timeout(CHECK_TIMEOUT, check).await.context("haproxy -c does not end")? {
                Ok(output) if output.status.success() => return Ok(()),
                Ok(output) => {
                    let errors = String::from_utf8_lossy(&output.stderr);
                    bail!("HAProxy refuses {draft}, the old configuration stays: {}", errors.trim());
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).context("haproxy -c cannot be run"),
            }
        }
        // HAProxy may run in another container, whose program cannot be run here.
        warn!("the configuration is not checked, because there is no haproxy program here; set HAPROXY_BIN");
        Ok(())
    }
}

/// Replaces a file atomically.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let draft = path.with_extension("draft");
    fs::write(&draft, text)
        .and_then(|()| fs::rename(&draft, path))
        .with_context(|| format!("cannot write {}; is the disk full?", path.display()))
}

/// Writes the latest content after a short pause, so that the agent's loop does not wait for it.
pub async fn save_latest(folder: Folder, mut latest: watch::Receiver<Saved>) {
    while latest.changed().await.is_ok() {
        sleep(DEBOUNCE).await;
        let saved = latest.borrow_and_update().clone();
        if let Err(error) = folder.save(&saved).await {
            error!(error = format!("{error:#}"), "the files for the next start are not up to date");
        }
    }
}
