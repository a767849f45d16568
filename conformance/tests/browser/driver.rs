//! chromedriver: started for one case on a port of its own, and stopped with all its windows whatever happens.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, bail};
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
/// What Debian, Ubuntu and Google call it.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
const DRIVERS: [&str; 2] = ["chromedriver", "chromium.chromedriver"];
const START_WAIT: Duration = Duration::from_secs(20);
const STOP_WAIT: Duration = Duration::from_secs(10);

pub struct Driver {
    process: Child,
    port: u16,
    browser: &'static str,
    /// A folder for each window's profile. Removed when the browsers have ended: one that still writes would bring it back.
    profiles: TempDir,
}

impl Driver {
    /// Plays a scene, and takes everything down behind it.
    pub async fn scene(act: impl AsyncFnOnce(&Self) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let driver = Self::start().await?;
        let outcome = act(&driver).await;
        driver.stop().await;
        outcome
    }

    pub async fn open(&self, url: &str) -> anyhow::Result<Window> {
        let profile = self.profiles.path().join(Uuid::new_v4().to_string());
        let arguments = [
            "--headless=new",
            // Chromium refuses to start its sandbox as root, which CI is; it opens nothing but our own page.
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            // Pictures are taken of how it is, not of how it comes.
            "--force-prefers-reduced-motion",
            "--window-size=1280,800",
            &format!("--user-data-dir={}", profile.display()),
        ]
        .map(str::to_owned);
        let options =
            json!({ "goog:chromeOptions": { "args": arguments, "binary": path_of(self.browser)? } });
        let serde_json::Value::Object(capabilities) = options else { bail!("the options are an object") };
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{}", self.port))
            .await
            .context("Chromium does not start")?;
        client.goto(url).await.with_context(|| format!("{url} does not open"))?;
        Ok(Window::new(client))
    }

    async fn start() -> anyhow::Result<Self> {
        let browser = found(&BROWSERS)?;
        let mut process = Command::new(found(&DRIVERS)?)
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("chromedriver does not start")?;
        let output = process.stdout.take().context("chromedriver has an output")?;
        let port =
            timeout(START_WAIT, port_in(output)).await.context("chromedriver does not say its port")??;
        let profiles = tempfile::Builder::new().prefix("flack-browser-").tempdir()?;
        Ok(Self { process, port, browser, profiles })
    }

    /// Asked to shut down, chromedriver ends its browsers first; killed, it would leave them behind.
    async fn stop(mut self) {
        let asked = async {
            let mut connection = TcpStream::connect(("127.0.0.1", self.port)).await?;
            connection
                .write_all(b"GET /shutdown HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                .await?;
            connection.read_to_end(&mut Vec::new()).await?;
            self.process.wait().await
        };
        if !matches!(timeout(STOP_WAIT, asked).await, Ok(Ok(_))) {
            eprintln!("chromedriver did not stop when asked; it is killed");
        }
    }
}

/// Reads on after the port was found: a full pipe would stop chromedriver.
async fn port_in(output: tokio::process::ChildStdout) -> anyhow::Result<u16> {
    let mut lines = BufReader::new(output).lines();
    while let Some(line) = lines.next_line().await? {
        let Some((_, port)) = line.split_once("started successfully on port ") else { continue };
        let port = port.trim_end_matches('.').parse().with_context(|| format!("no port in {line:?}"))?;
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        return Ok(port);
    }
    bail!("chromedriver ended before it said its port")
}

/// The first of these names that is installed.
fn found(names: &[&'static str]) -> anyhow::Result<&'static str> {
    let name = names.iter().copied().find(|name| path_of(name).is_ok());
    name.with_context(|| format!("the browser test needs {}, which is missing; {INSTALL}", names[0]))
}

fn path_of(program: &str) -> anyhow::Result<String> {
    let path = std::env::var_os("PATH").context("there is no PATH")?;
    let found = std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file());
    Ok(found.with_context(|| format!("{program} is not in PATH"))?.display().to_string())
}
