//! One browser window with a profile of its own: one person.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use fantoccini::{Client, Locator};
use serde_json::Value;
use tokio::time::{Instant, sleep};

/// Every wait ends by then. What is waited for takes milliseconds, a reconnect some seconds.
const WAIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

pub struct Window {
    client: Client,
}

impl Window {
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Waits until the expression is true; `what` says in words what that means.
    pub async fn until(&self, what: &str, condition: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + WAIT;
        // While a page is being loaded anew, asking fails; that is no answer, so it is asked again.
        while !matches!(self.ask(condition).await, Ok(Value::Bool(true))) {
            if Instant::now() > deadline {
                let picture = screenshot_path("failed")?;
                self.screenshot(&picture).await?;
                let text = self.ask("document.body.innerText").await?;
                bail!(
                    "waited in vain: {what} ({condition})\nsee {}\nthe page says: {text}",
                    picture.display()
                );
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// The value of an expression.
    pub async fn ask(&self, expression: &str) -> anyhow::Result<Value> {
        Ok(self.client.execute(&format!("return {expression}"), Vec::new()).await?)
    }

    pub async fn run(&self, statements: &str) -> anyhow::Result<()> {
        self.client.execute(statements, Vec::new()).await.with_context(|| statements.to_owned())?;
        Ok(())
    }

    pub async fn click(&self, selector: &str) -> anyhow::Result<()> {
        let element = self.client.find(Locator::Css(selector)).await.with_context(|| selector.to_owned())?;
        element.click().await.with_context(|| format!("{selector} cannot be clicked"))
    }

    /// As if typed, key by key.
    pub async fn write(&self, selector: &str, text: &str) -> anyhow::Result<()> {
        let element = self.client.find(Locator::Css(selector)).await.with_context(|| selector.to_owned())?;
        element.send_keys(text).await.with_context(|| format!("cannot write into {selector}"))
    }

    pub async fn screenshot(&self, path: &Path) -> anyhow::Result<()> {
        fs::write(path, self.client.screenshot().await?).with_context(|| path.display().to_string())
    }
}

/// `target/screenshots/<name>.png`, for people to look at.
pub fn screenshot_path(name: &str) -> anyhow::Result<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().context("the target folder")?;
    let folder = target.join("screenshots");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    Ok(folder.join(format!("{name}.png")))
}
