//! The internal operations of the two sides of a part (`flack_handover::protocol`), through the balancer.

use std::time::Duration;

use flack_common::http;
use flack_handover::fence::Refusal;
use flack_handover::protocol::{
    CLOSE, CloseRequest, Closed, DISCARD, PAUSE, PauseRequest, SEQUENCES, STATUS, Status, VERIFY, Verification,
    VerifyRequest, path,
};
use flack_handover::{Part, Side};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::failure::Result;
use crate::stack::Stack;

/// One answer. The waits for a result are the driver's; they repeat calls.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// Rows that change all the time are compared again and again. Deleting rows waits for the locks of readers.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(20);
/// A problem's text in a message.
const DETAIL_CHARACTERS_MAX: usize = 300;

/// The two sides of a part with data.
#[derive(Debug, Clone)]
pub struct Sides {
    client: reqwest::Client,
    base: String,
    part: Part,
    key: String,
}

/// A call that failed, in words: which side, and what it answered.
pub type Call<T> = std::result::Result<T, String>;

impl Sides {
    /// Returns the sides of a part; none of a part without data.
    pub fn of(stack: &Stack, part: Part) -> Result<Option<Self>> {
        if !part.has_data() {
            return Ok(None);
        }
        let key = stack.secrets.handover_key(part).ok_or_else(|| {
            failure!(
                Contradiction,
                "the secrets of this stack have no key for {part}: an earlier mf made them. Run mfup"
            )
        })?;
        let base = format!("http://{}", stack.ports.internal_address());
        Ok(Some(Self { client: http::client(), base, part, key: key.to_owned() }))
    }

    pub async fn status(&self, side: Side) -> Call<Status> {
        self.json(side, self.request(side, Method::GET, STATUS)).await
    }

    /// Closes the owner's fence. Repeating it writes no second marker.
    pub async fn close(&self, side: Side, epoch: i64) -> Call<std::result::Result<Closed, Refusal>> {
        let request = self.request(side, Method::POST, CLOSE).json(&CloseRequest { epoch });
        let response = self.send(side, request).await?;
        if response.status() != StatusCode::CONFLICT {
            return self.read(side, response).await.map(Ok);
        }
        let problem: Value = response.json().await.map_err(|error| error.to_string())?;
        Ok(Err(refusal(problem["detail"].as_str().unwrap_or_default(), epoch)))
    }

    /// Compares the sides, at the replica: all rows in the background (none is returned), or the touched ones now.
    pub async fn verify(&self, side: Side, only_touched: bool) -> Call<Option<Verification>> {
        let request = self.request(side, Method::POST, VERIFY).json(&VerifyRequest { only_touched });
        let request = request.timeout(VERIFY_TIMEOUT);
        let response = self.send(side, request).await?;
        if response.status() == StatusCode::ACCEPTED { Ok(None) } else { self.read(side, response).await.map(Some) }
    }

    pub async fn move_sequences(&self, side: Side) -> Call<()> {
        self.nothing(side, self.request(side, Method::POST, SEQUENCES)).await
    }

    pub async fn pause(&self, side: Side, is_paused: bool) -> Call<()> {
        self.nothing(side, self.request(side, Method::POST, PAUSE).json(&PauseRequest { is_paused })).await
    }

    /// Deletes the rows of a side that does not follow any more.
    pub async fn discard(&self, side: Side) -> Call<()> {
        self.nothing(side, self.request(side, Method::POST, DISCARD).timeout(VERIFY_TIMEOUT)).await
    }

    fn request(&self, side: Side, method: Method, operation: &str) -> RequestBuilder {
        let url = format!("{}{}", self.base, path(side, self.part, operation));
        self.client.request(method, url).bearer_auth(&self.key).timeout(CALL_TIMEOUT)
    }

    async fn json<T: DeserializeOwned>(&self, side: Side, request: RequestBuilder) -> Call<T> {
        let response = self.send(side, request).await?;
        self.read(side, response).await
    }

    async fn nothing(&self, side: Side, request: RequestBuilder) -> Call<()> {
        let response = self.send(side, request).await?;
        if response.status().is_success() { Ok(()) } else { Err(self.refused(side, response).await) }
    }

    async fn send(&self, side: Side, request: RequestBuilder) -> Call<Response> {
        let service = side.service_name(self.part);
        request.send().await.map_err(|error| format!("{service} does not answer: {}", error.without_url()))
    }

    async fn read<T: DeserializeOwned>(&self, side: Side, response: Response) -> Call<T> {
        if !response.status().is_success() {
            return Err(self.refused(side, response).await);
        }
        let service = side.service_name(self.part);
        response.json().await.map_err(|error| format!("{service} answers what this mf does not understand: {error}"))
    }

    async fn refused(&self, side: Side, response: Response) -> String {
        let (service, status) = (side.service_name(self.part), response.status().as_u16());
        let text = response.text().await.unwrap_or_default();
        let problem: Value = serde_json::from_str(&text).unwrap_or_default();
        let detail = problem["detail"].as_str().unwrap_or(text.trim());
        let detail: String = detail.chars().take(DETAIL_CHARACTERS_MAX).collect();
        match status {
            404 => format!("{service} answers 404: it is a version without hand-over, or it has no key. Restart it"),
            _ => format!("{service} answers {status}: {detail}"),
        }
    }
}

/// Returns the refusal in the detail of a problem: as JSON, or as its text. An attempt that is over is the only other
/// reason.
fn refusal(detail: &str, asked: i64) -> Refusal {
    let by_text = || {
        let known = [Refusal::Replica, Refusal::LockTimeout];
        known.into_iter().find(|refusal| detail.contains(&refusal.to_string()))
    };
    let found = serde_json::from_str(detail).ok().or_else(by_text);
    found.unwrap_or(Refusal::OldEpoch { asked, fence: asked })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_known_by_its_text_and_as_json() {
        for refused in [Refusal::Replica, Refusal::LockTimeout] {
            assert_eq!(refusal(&refused.to_string(), 5), refused);
            assert_eq!(refusal(&serde_json::json!(refused).to_string(), 5), refused);
        }
        let old = Refusal::OldEpoch { asked: 5, fence: 7 };
        assert!(matches!(refusal(&old.to_string(), 5), Refusal::OldEpoch { asked: 5, .. }));
    }
}
