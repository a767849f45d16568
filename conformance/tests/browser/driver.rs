//! chromedriver: started for one case, and stopped with all its windows afterwards.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail};
use fantoccini::ClientBuilder;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
    time::timeout,
};
use uuid::Uuid;

use crate::window::Window;

const INSTALL: &str = "install them with `apt-get install --no-install-recommends chromium chromium-driver`";
/// The names in Debian, Ubuntu and Google's packages.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
const DRIVERS: [&str; 2] = ["chromedriver", "chromium.chromedriver"];
const START_WAIT: Duration = Duration::from_mins(1);
const STOP_WAIT: Duration = Duration::from_secs(10);
/// chromedriver chooses a free port, and ends when another program takes that port before it listens.
const STARTS_MAX: u32 = 3;

pub struct Driver {
    process: Child,
    port: u16,
    browser: &'static str,
    /// A folder for each window's profile. It is removed after the browsers have ended, because they write to it.
    profiles: TempDir,
}

impl Driver {
    /// Starts chromedriver, runs `test`, and stops chromedriver.
    pub async fn run(test: impl AsyncFnOnce(&Self) -> Result<()>) -> Result<()> {
        let driver = Self::start().await?;
        let outcome = test(&driver).await;
        driver.stop().await;
        outcome
    }

    pub async fn open(&self, url: &str) -> Result<Window> {
        self.open_with(url, json!({})).await
    }

    /// Opens a window as on a phone: narrow, and with touches instead of a pointer.
    pub async fn open_phone(&self, url: &str) -> Result<Window> {
        let screen = json!({ "width": 360, "height": 740, "pixelRatio": 2, "touch": true });
        self.open_with(url, json!({ "mobileEmulation": { "deviceMetrics": screen } })).await
    }

    async fn open_with(&self, url: &str, mut options: serde_json::Value) -> Result<Window> {
        let profile = self.profiles.path().join(Uuid::new_v4().to_string());
        let arguments = [
            "--headless=new",
            // Chromium cannot start its sandbox as root, as in CI; it opens only our own page.
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            // A screenshot must not show a running animation.
            "--force-prefers-reduced-motion",
            "--window-size=1280,800",
            &format!("--user-data-dir={}", profile.display()),
        ]
        .map(str::to_owned);
        options["args"] = json!(arguments);
        options["binary"] = json!(path_of(self.browser)?);
        let capabilities = serde_json::Map::from_iter([("goog:chromeOptions".to_owned(), options)]);
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{}", self.port))
            .await
            .context("Chromium does not start")?;
        client.goto(url).await.with_context(|| format!("{url} does not open"))?;
        Ok(Window::new(client))
    }

    async fn start() -> Result<Self> {
        let browser = found(&BROWSERS)?;
        let mut started = start_once().await;
        for _ in 1..STARTS_MAX {
            if started.is_err() {
                started = start_once().await;
            }
        }
        let (process, port) = started?;
        let profiles = tempfile::Builder::new().prefix("flack-browser-").tempdir()?;
        Ok(Self { process, port, browser, profiles })
    }

    /// Asks chromedriver to shut down, because it then ends its browsers; after a kill they would continue.
    async fn stop(mut self) {
        let shutdown = async {
            let mut connection = TcpStream::connect(("127.0.0.1", self.port)).await?;
            connection.write_all(b"GET /shutdown HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").await?;
            connection.read_to_end(&mut Vec::new()).await?;
            self.process.wait().await
        };
        if !matches!(timeout(STOP_WAIT, shutdown).await, Ok(Ok(_))) {
            eprintln!("chromedriver did not stop when asked; it is killed");
        }
    }
}

async fn start_once() -> Result<(Child, u16)> {
    let mut process = Command::new(found(&DRIVERS)?)
        .arg("--port=0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("chromedriver does not start")?;
    let output = process.stdout.take().context("chromedriver has an output")?;
    let port = timeout(START_WAIT, port_in(output)).await.context("chromedriver did not print its port")??;
    Ok((process, port))
}

/// Reads the port, and then the rest of the output, because a full pipe would block chromedriver.
async fn port_in(output: tokio::process::ChildStdout) -> Result<u16> {
    let mut lines = BufReader::new(output).lines();
    while let Some(line) = lines.next_line().await? {
        let Some((_, port)) = line.split_once("started successfully on port ") else { continue };
        let port = port.trim_end_matches('.').parse().with_context(|| format!("no port in {line:?}"))?;
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        return Ok(port);
    }
    bail!("chromedriver ended before it printed its port")
}

/// Returns the first of these programs that is installed.
fn found(names: &[&'static str]) -> Result<&'static str> {
    let name = names.iter().copied().find(|name| path_of(name).is_ok());
    name.with_context(|| format!("the browser test needs {}, which is missing; {INSTALL}", names[0]))
}

fn path_of(program: &str) -> Result<String> {
    let path = std::env::var_os("PATH").context("there is no PATH")?;
    let found = std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file());
    Ok(found.with_context(|| format!("{program} is not in PATH"))?.display().to_string())
}
