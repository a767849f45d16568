//! A browser window with its own profile: one user.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use fantoccini::{Client, Locator};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::tab::Tab;

/// The timeout of every wait. A wait normally takes milliseconds, a reconnect some seconds.
pub const WAIT: Duration = Duration::from_secs(30);
pub const PAUSE: Duration = Duration::from_millis(20);

pub struct Window {
    client: Client,
}

impl Window {
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Waits until an expression is true; `what` describes it for the error.
    pub async fn until(&self, what: &str, condition: &str) -> Result<()> {
        self.until_within(1, what, condition).await
    }

    /// As `until`, but waits so many times as long.
    pub async fn until_within(&self, waits: u32, what: &str, condition: &str) -> Result<()> {
        let deadline = Instant::now() + WAIT * waits;
        // An expression fails while the page reloads.
        while !matches!(self.evaluate(condition).await, Ok(Value::Bool(true))) {
            if Instant::now() > deadline {
                let picture = screenshot_path("failed")?;
                self.screenshot(&picture).await?;
                let text = self.evaluate("document.body.innerText").await?;
                bail!(
                    "timed out waiting until {what} ({condition})\nsee {}\nthe page shows: {text}",
                    picture.display()
                );
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Returns the value of an expression; waits for that of a promise.
    pub async fn evaluate(&self, expression: &str) -> Result<Value> {
        Ok(self.client.execute(&format!("return {expression}"), Vec::new()).await?)
    }

    /// Opens a further tab of this browser.
    pub async fn open_tab(&self, url: &str) -> Result<Tab> {
        let capabilities = self.client.capabilities().context("the browser has named no capabilities")?;
        let address = capabilities.get("goog:chromeOptions").and_then(|options| options["debuggerAddress"].as_str());
        Tab::open(address.context("the browser has no DevTools")?, url).await
    }

    pub async fn goto(&self, url: &str) -> Result<()> {
        self.client.goto(url).await.with_context(|| format!("{url} does not open"))
    }

    pub async fn run(&self, statements: &str) -> Result<()> {
        self.client.execute(statements, Vec::new()).await.with_context(|| statements.to_owned())?;
        Ok(())
    }

    pub async fn click(&self, selector: &str) -> Result<()> {
        let element = self.client.find(Locator::Css(selector)).await.with_context(|| selector.to_owned())?;
        element.click().await.with_context(|| format!("{selector} cannot be clicked"))
    }

    /// Types text into a field, key by key.
    pub async fn write(&self, selector: &str, text: &str) -> Result<()> {
        let element = self.client.find(Locator::Css(selector)).await.with_context(|| selector.to_owned())?;
        element.send_keys(text).await.with_context(|| format!("cannot write into {selector}"))
    }

    pub async fn screenshot(&self, path: &Path) -> Result<()> {
        fs::write(path, self.client.screenshot().await?).with_context(|| path.display().to_string())
    }
}

/// Returns `target/screenshots/<name>.png`.
pub fn screenshot_path(name: &str) -> Result<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().context("the target folder")?;
    let folder = target.join("screenshots");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    Ok(folder.join(format!("{name}.png")))
}
