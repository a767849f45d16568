//! Error answers that no handler made: unknown paths and methods, and what the HTTP layer refuses.

use axum::response::{IntoResponse, Response};
use flack_api::{CORRELATION_ID, Problem};
use http::{HeaderName, StatusCode, header};
use tracing::info;
use uuid::Uuid;

/// The service, the instance and the version that answered. Every answer of the middleware has them.
pub const SERVICE: HeaderName = HeaderName::from_static("x-flack-service");
pub const INSTANCE: HeaderName = HeaderName::from_static("x-flack-instance");
pub const VERSION: HeaderName = HeaderName::from_static("x-flack-version");

/// An answer of the HTTP library is shorter.
const BARE_ANSWER_BYTES_MAX: usize = 512;

/// Returns a problem as the answer to this request.
pub fn respond(mut problem: Problem, correlation_id: &str) -> Response {
    problem.correlation_id = Some(correlation_id.to_owned());
    problem.into_response()
}

/// Replaces the body of an error answer by problem details, unless it is a page or problem details already.
pub fn complete(response: Response, path: &str, correlation_id: &str) -> Response {
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) || !is_plain(&response) {
        return response;
    }
    let problem = match status {
        StatusCode::NOT_FOUND => Problem::not_found(format!("there is nothing at {path}")),
        StatusCode::METHOD_NOT_ALLOWED => Problem::new(
            status,
            "method-not-allowed",
            "Method not allowed",
            "the path exists, but not with this method; see the Allow header",
        ),
        StatusCode::PAYLOAD_TOO_LARGE => too_large(super::BODY_BYTES_MAX),
        StatusCode::INTERNAL_SERVER_ERROR => Problem::internal(),
        StatusCode::SERVICE_UNAVAILABLE => Problem::unavailable("this service"),
        _ => {
            let title = status.canonical_reason().unwrap_or("Error");
            Problem::new(status, "bad-request", title, format!("the request was refused: {title}"))
        }
    };
    let mut completed = respond(problem, correlation_id);
    // Headers such as Allow stay.
    for (name, value) in response.headers() {
        if !matches!(*name, header::CONTENT_TYPE | header::CONTENT_LENGTH) {
            completed.headers_mut().entry(name).or_insert_with(|| value.clone());
        }
    }
    completed
}

/// Returns the whole HTTP answer with a problem, if `bytes` is an answer of the HTTP library without one: it refuses a
/// malformed request (400), one with too many headers (431) and one with a too long address (414) before the
/// middleware sees it.
pub fn for_bare_answer(bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.len() > BARE_ANSWER_BYTES_MAX || !bytes.starts_with(b"HTTP/1.") || !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let head = std::str::from_utf8(bytes).ok()?;
    let status = head.split(' ').nth(1)?.parse::<StatusCode>().ok()?;
    // The text of a message cannot have this form: JSON escapes its line ends.
    if !status.is_client_error() || !head.contains("\r\ncontent-length: 0\r\n") || head.contains(INSTANCE.as_str()) {
        return None;
    }
    let reason = status.canonical_reason().unwrap_or("Error");
    let (kind, detail) = match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            ("headers-too-large", "the request has too many or too long headers; send fewer")
        }
        StatusCode::URI_TOO_LONG => ("bad-request", "the address of the request is too long; shorten it"),
        _ => ("bad-request", "the request is not valid HTTP; correct its first line and its headers"),
    };
    let correlation_id = Uuid::new_v4().to_string();
    info!(correlation_id, status = status.as_u16(), "refused a request that is not valid HTTP");
    let mut problem = Problem::new(status, kind, reason, detail);
    problem.correlation_id = Some(correlation_id.clone());
    let body = serde_json::to_string(&problem).expect("a problem is text and numbers");
    let answer = format!(
        "HTTP/1.1 {} {reason}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
         {CORRELATION_ID}: {correlation_id}\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\r\n{body}",
        status.as_u16(),
        body.len()
    );
    Some(answer.into_bytes())
}

/// Returns 413: the body is longer than `bytes_max`.
pub fn too_large(bytes_max: usize) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "too-large",
        "Too large",
        format!("the body of this request has at most {bytes_max} bytes"),
    )
}

/// Whether the body is empty or plain text, as axum's own error answers are.
fn is_plain(response: &Response) -> bool {
    let content_type = response.headers().get(header::CONTENT_TYPE);
    content_type.is_none_or(|value| value.as_bytes().starts_with(b"text/plain"))
}
