//! Writes the files that HAProxy and the agent start from: checked first, whole or not at all, and not for
//! every change at once.

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
    knowledge::Knowledge,
    render::{CONFIGURATION, Files},
};

const STATE: &str = "state.json";
/// Ten instances that start together are one rewrite.
const DEBOUNCE: Duration = Duration::from_millis(200);
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);
/// Not in everybody's PATH.
const PROGRAMS: [&str; 2] = ["haproxy", "/usr/sbin/haproxy"];

/// Everything that a restart needs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Saved {
    pub files: Files,
    pub knowledge: Knowledge,
}

/// The shared folder.
#[derive(Debug, Clone)]
pub struct Folder {
    dir: PathBuf,
    program: Option<PathBuf>,
    /// What is there now; also keeps two writers apart.
    written: Arc<Mutex<Saved>>,
}

impl Folder {
    pub fn new(dir: PathBuf, program: Option<PathBuf>) -> Self {
        Self { dir, program, written: Arc::default() }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the agent knew when it last ran; nothing at the first start, or when the file is damaged.
    pub fn load(&self) -> Knowledge {
        match fs::read(self.dir.join(STATE)) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                warn!(%error, file = STATE, "the last good state cannot be read; starting without it");
                Knowledge::default()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Knowledge::default(),
            Err(error) => {
                warn!(%error, file = STATE, "the last good state cannot be read; starting without it");
                Knowledge::default()
            }
        }
    }

    /// Writes now; fails, and leaves the configuration as it was, when HAProxy would not start from it.
    pub async fn save(&self, saved: &Saved) -> anyhow::Result<()> {
        let mut written = self.written.lock().await;
        if *written == *saved {
            return Ok(());
        }
        let state = serde_json::to_string(&saved.knowledge).context("the state is plain data")?;
        replace(&self.dir.join(STATE), &state)?;
        // The maps first: the check of the configuration reads them.
        for (file, text) in saved.files.iter().filter(|(file, _)| **file != CONFIGURATION) {
            replace(&self.dir.join(file), text)?;
        }
        let configuration = saved.files.get(CONFIGURATION).context("there is always a configuration")?;
        let draft = format!("{CONFIGURATION}.new");
        fs::write(self.dir.join(&draft), configuration)
            .context("cannot write to HAPROXY_DIR; is the disk full?")?;
        self.check(&draft).await?;
        fs::rename(self.dir.join(&draft), self.dir.join(CONFIGURATION))?;
        written.clone_from(saved);
        Ok(())
    }

    async fn check(&self, draft: &str) -> anyhow::Result<()> {
        let programs = self.program.iter().map(PathBuf::as_path).chain(PROGRAMS.iter().map(Path::new));
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
                    let said = String::from_utf8_lossy(&output.stderr);
                    bail!("HAProxy refuses {draft}, the old configuration stays: {}", said.trim());
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).context("haproxy -c cannot be run"),
            }
        }
        // Where HAProxy lives in a container of its own there is nobody to ask.
        warn!("no haproxy here to check the configuration with; set HAPROXY_BIN");
        Ok(())
    }
}

/// Readers see the old file or the new one, never a half.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let draft = path.with_extension("draft");
    fs::write(&draft, text)
        .and_then(|()| fs::rename(&draft, path))
        .with_context(|| format!("cannot write {}; is the disk full?", path.display()))
}

/// Writes what is there at last, after a moment of quiet; the loop of the agent does not wait for it.
pub async fn save_behind(folder: Folder, mut latest: watch::Receiver<Saved>) {
    while latest.changed().await.is_ok() {
        sleep(DEBOUNCE).await;
        let saved = latest.borrow_and_update().clone();
        if let Err(error) = folder.save(&saved).await {
            error!(error = format!("{error:#}"), "the files for the next start are not up to date");
        }
    }
}
