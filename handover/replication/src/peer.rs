//! The client of the other side's operations, through the balancer's internal listener.

use std::time::Duration;

use bytes::Bytes;
use flack_common::http;
use flack_handover::{
    Part, Side,
    protocol::{self, Changes, ChangesQuery, LogState, Position, ROWS, RowsRequest, TABLES, TableState, TablesQuery},
};
use reqwest::{Client, RequestBuilder, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Serialize, de::DeserializeOwned};

/// Counting the rows of large tables, and chunks of large rows, take longer than other calls.
const LONG_CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The other side of a part. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    client: Client,
    url: String,
    side: Side,
    part: Part,
    key: SecretString,
}

/// Why an operation failed. Its text contains no rows.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    #[error("the owner does not have all changes since the replica's position: the replica copies again")]
    Gone,
    #[error("{service} answered {status} to {operation}: {detail}")]
    Refused { service: &'static str, operation: &'static str, status: StatusCode, detail: String },
    #[error("{service} did not answer {operation}: {error}")]
    Unreachable { service: &'static str, operation: &'static str, error: reqwest::Error },
}

impl Peer {
    pub(crate) fn new(internal_url: &str, side: Side, part: Part, key: SecretString) -> Self {
        let url = internal_url.trim_end_matches('/').to_owned();
        Self { client: http::client(), url, side, part, key }
    }

    pub(crate) async fn changes(&self, query: &ChangesQuery) -> Result<Changes, PeerError> {
        let request = self.client.get(self.url_of(protocol::CHANGES)).query(query);
        json(self, protocol::CHANGES, self.send(protocol::CHANGES, request).await?).await
    }

    pub(crate) async fn log(&self) -> Result<LogState, PeerError> {
        let request = self.client.get(self.url_of(protocol::LOG));
        json(self, protocol::LOG, self.send(protocol::LOG, request).await?).await
    }

    /// Adds a probe to the owner's change log.
    pub(crate) async fn probe(&self) -> Result<Position, PeerError> {
        self.post(protocol::PROBE, &()).await
    }

    pub(crate) async fn tables(&self, counts_rows: bool) -> Result<Vec<TableState>, PeerError> {
        let query = TablesQuery { counts_rows };
        let request = self.client.get(self.url_of(TABLES)).query(&query).timeout(LONG_CALL_TIMEOUT);
        json(self, TABLES, self.send(TABLES, request).await?).await
    }

    /// Returns rows in the text format of `COPY`.
    pub(crate) async fn rows(&self, request: &RowsRequest) -> Result<Bytes, PeerError> {
        let request = self.client.post(self.url_of(ROWS)).json(request).timeout(LONG_CALL_TIMEOUT);
        let response = self.send(ROWS, request).await?;
        response.bytes().await.map_err(|error| self.unreachable(ROWS, error))
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        body: &impl Serialize,
    ) -> Result<T, PeerError> {
        let request = self.client.post(self.url_of(operation)).json(body).timeout(LONG_CALL_TIMEOUT);
        json(self, operation, self.send(operation, request).await?).await
    }

    fn url_of(&self, operation: &str) -> String {
        format!("{}{}", self.url, protocol::path(self.side, self.part, operation))
    }

    async fn send(&self, operation: &'static str, request: RequestBuilder) -> Result<reqwest::Response, PeerError> {
        let request = request.bearer_auth(self.key.expose_secret());
        let response = request.send().await.map_err(|error| self.unreachable(operation, error))?;
        let status = response.status();
        if status == StatusCode::GONE {
            return Err(PeerError::Gone);
        }
        if !status.is_success() {
            let problem = response.json::<flack_api::Problem>().await;
            let detail = problem.map_or_else(|_| "no problem document".to_owned(), |problem| problem.detail);
            return Err(PeerError::Refused { service: self.service(), operation, status, detail });
        }
        Ok(response)
    }

    fn service(&self) -> &'static str {
        self.side.service_name(self.part)
    }

    fn unreachable(&self, operation: &'static str, error: reqwest::Error) -> PeerError {
        PeerError::Unreachable { service: self.service(), operation, error: error.without_url() }
    }
}

async fn json<T: DeserializeOwned>(
    peer: &Peer,
    operation: &'static str,
    response: reqwest::Response,
) -> Result<T, PeerError> {
    response.json().await.map_err(|error| peer.unreachable(operation, error))
}
