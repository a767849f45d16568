//! RFC 9457 problem details: the error type of every operation.
//!
//! A handler returns a problem, the generated router sends it, and the generated client returns it unchanged.

use http::StatusCode;
use serde::{Deserialize, Serialize, Serializer, ser::SerializeStruct};

/// Path of the page that `type` links to: docs/problems.md with a heading for each kind.
const PROBLEMS_PAGE: &str = "/api/docs/problems";

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, thiserror::Error)]
#[error("{status} {title}: {detail}")]
pub struct Problem {
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    pub detail: String,
    pub correlation_id: Option<String>,
    /// The header `Retry-After`, in seconds. Every 503 and 429 has one.
    #[serde(skip)]
    pub retry_after_seconds: Option<u32>,
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let length = if self.correlation_id.is_some() { 6 } else { 5 };
        let mut members = serializer.serialize_struct("Problem", length)?;
        members.serialize_field("type", &self.kind)?;
        members.serialize_field("title", &self.title)?;
        members.serialize_field("status", &self.status)?;
        members.serialize_field("detail", &self.detail)?;
        // For clients of version 1.
        members.serialize_field("error", &self.detail)?;
        if let Some(id) = &self.correlation_id {
            members.serialize_field("correlation_id", id)?;
        }
        members.end()
    }
}

/// Time to wait before a retry when a service is unavailable. Within this time, a crashed instance is restarted or
/// removed from the balancer.
pub(crate) const RETRY_AFTER_SECONDS: u32 = 1;

impl Problem {
    /// `kind` is a heading in docs/problems.md, such as `nickname-taken`.
    pub fn new(status: StatusCode, kind: &str, title: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("{PROBLEMS_PAGE}#{kind}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            correlation_id: None,
            retry_after_seconds: None,
        }
    }

    /// 400: the request is malformed or breaks a limit.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", "Bad request", detail)
    }

    /// 401: credentials are missing or invalid.
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "Unauthorized", detail)
    }

    /// 403: the caller is known, but not allowed.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "Forbidden", detail)
    }

    /// 404: the object or path does not exist.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    /// 409: conflicts with an existing object.
    pub fn conflict(kind: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, kind, "Conflict", detail)
    }

    /// 412: `If-Match` names a version with another content.
    pub fn precondition_failed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, "precondition-failed", "Precondition failed", detail)
    }

    /// 429: a limit was reached. A retry after `retry_after_seconds` can succeed.
    pub fn too_many_requests(detail: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self {
            retry_after_seconds: Some(retry_after_seconds),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "Too many requests", detail)
        }
    }

    /// 503: `part` (a service, `the database`, ...) is unavailable. A retry can succeed.
    pub fn unavailable(part: &str) -> Self {
        Self {
            retry_after_seconds: Some(RETRY_AFTER_SECONDS),
            ..Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "Service unavailable",
                format!("{part} is unavailable at the moment; try again in {RETRY_AFTER_SECONDS} s"),
            )
        }
    }

    /// 500: a defect. The cause is only in the log.
    pub fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Internal error",
            "an internal error occurred; the correlation id identifies it in the log",
        )
    }

    /// Returns the status, or 500 when it is not a valid status code.
    pub fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Whether a repeated request can succeed: 503 and 429 yes, 500 no.
    pub fn is_retryable(&self) -> bool {
        matches!(self.status, 429 | 503)
    }
}
