//! The response of a service: the declared result, or its problem.

use axum::body::Bytes;
use http::{HeaderMap, StatusCode, header::RETRY_AFTER};
use reqwest::Response;
use serde::de::DeserializeOwned;
use tracing::error;

use super::Failure;
use crate::{OperationInfo, Problem};

/// Larger than a list of 1,000 rendered messages of the maximum length.
const REPLY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A response with a declared status of success.
pub struct Reply {
    operation: &'static OperationInfo,
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

pub(super) async fn read(mut response: Response, operation: &'static OperationInfo) -> Result<Reply, Failure> {
    let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
    let mut reply = Reply { operation, status, headers, body: Vec::new() };
    while let Some(chunk) = response.chunk().await.map_err(Failure::Away)? {
        if reply.body.len() + chunk.len() > REPLY_BYTES_MAX {
            return Err(Failure::Answered(reply.unexpected("it is too large")));
        }
        reply.body.extend_from_slice(&chunk);
    }
    if operation.success.contains(&status.as_u16()) { Ok(reply) } else { Err(Failure::Answered(reply.problem())) }
}

impl Reply {
    /// Whether an operation that finds or creates has created.
    pub fn is_new(&self) -> bool {
        self.status == StatusCode::CREATED
    }

    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_json::from_slice(&self.body).map_err(|problem| {
            // Only the position: the error's text may contain a value.
            let (kind, line, column) = (problem.classify(), problem.line(), problem.column());
            self.unexpected(&format!("{kind:?} error at line {line}, column {column}"))
        })
    }

    pub fn bytes(&self) -> Bytes {
        Bytes::copy_from_slice(&self.body)
    }

    pub fn header(&self, name: &str) -> Result<String, Problem> {
        self.added_header(name).ok_or_else(|| self.unexpected(&format!("the header {name} is missing")))
    }

    /// Returns a header that an instance of the previous version does not send.
    pub fn added_header(&self, name: &str) -> Option<String> {
        self.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    }

    fn problem(&self) -> Problem {
        let status = self.status;
        let retry_after_seconds =
            self.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
        match serde_json::from_slice::<Problem>(&self.body) {
            Ok(problem) if status.is_client_error() || status.is_server_error() => {
                Problem { status: status.as_u16(), retry_after_seconds, ..problem }
            }
            // From a proxy in front of the service.
            _ if matches!(status.as_u16(), 502..=504) => Problem::unavailable(self.operation.service),
            _ => self.unexpected(&format!("status {status} without a problem in it")),
        }
    }

    /// Logs a defect: both sides are generated from the same document.
    fn unexpected(&self, what: &str) -> Problem {
        error!(
            service = self.operation.service,
            operation = self.operation.id,
            what,
            "the response of a service does not match its schema"
        );
        Problem::internal()
    }
}
