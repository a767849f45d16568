//! A further tab of a window's browser. chromedriver does not know it, because it ends its session when one of its tabs
//! crashes: the tab is driven through the `DevTools` protocol.

use anyhow::{Context as _, Result, bail, ensure};
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use crate::window::{PAUSE, WAIT};

pub struct Tab {
    devtools: WebSocketStream<MaybeTlsStream<TcpStream>>,
    last_id: u64,
}

impl Tab {
    /// Opens `url` in a tab of the browser whose `DevTools` listen on `address`.
    pub async fn open(address: &str, url: &str) -> Result<Self> {
        let http = flack_api::http_client_builder().build()?;
        // A fragment would not be sent.
        let escaped = url.replace('#', "%23");
        let created = http.put(format!("http://{address}/json/new?{escaped}")).send().await?;
        let target: Value = serde_json::from_str(&created.error_for_status()?.text().await?)?;
        let socket = target["webSocketDebuggerUrl"].as_str().with_context(|| format!("no tab: {target}"))?;
        let (devtools, _) = connect_async(socket).await.context("the tab's DevTools cannot be reached")?;
        Ok(Self { devtools, last_id: 0 })
    }

    /// Waits until an expression is true; `what` describes it for the error.
    pub async fn until(&mut self, what: &str, condition: &str) -> Result<()> {
        let deadline = Instant::now() + WAIT;
        while !matches!(self.evaluate(condition).await, Ok(Value::Bool(true))) {
            if Instant::now() > deadline {
                let text = self.evaluate("document.body.innerText").await?;
                bail!("timed out waiting until {what} in a tab ({condition})\nthe page shows: {text}");
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Returns the value of an expression; waits for that of a promise.
    pub async fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let parameters = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let mut answer = self.call("Runtime.evaluate", &parameters).await?;
        ensure!(answer["result"]["exceptionDetails"].is_null(), "{expression}: {answer}");
        Ok(answer["result"]["result"]["value"].take())
    }

    /// Loads `url`, and runs `script` before those of this page and of later ones.
    pub async fn goto_with(&mut self, url: &str, script: &str) -> Result<()> {
        self.call("Page.enable", &json!({})).await?;
        self.call("Page.addScriptToEvaluateOnNewDocument", &json!({ "source": script })).await?;
        self.call("Page.navigate", &json!({ "url": url })).await?;
        Ok(())
    }

    /// Kills the process of the tab. No event handler of the page runs.
    pub async fn crash(mut self) -> Result<()> {
        let message = json!({ "id": 0, "method": "Page.crash" });
        Ok(self.devtools.send(Message::text(message.to_string())).await?)
    }

    async fn call(&mut self, method: &str, parameters: &Value) -> Result<Value> {
        self.last_id += 1;
        let message = json!({ "id": self.last_id, "method": method, "params": parameters });
        self.devtools.send(Message::text(message.to_string())).await?;
        loop {
            let received =
                timeout(WAIT, self.devtools.next()).await.with_context(|| format!("no answer to {method}"))?;
            let Message::Text(text) = received.context("the tab was closed")?? else { continue };
            let answer: Value = serde_json::from_str(&text)?;
            if answer["id"] == self.last_id {
                return Ok(answer);
            }
        }
    }
}
