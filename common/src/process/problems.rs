//! Error answers that no handler made: unknown paths and methods, and what the HTTP layer refuses.

use axum::response::{IntoResponse, Response};
use flack_api::Problem;
use http::{StatusCode, header};

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
        StatusCode::PAYLOAD_TOO_LARGE => too_large(),
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

/// Returns 413: the body is longer than `BODY_BYTES_MAX`.
pub fn too_large() -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "too-large",
        "Too large",
        format!("a request body has at most {} bytes", super::BODY_BYTES_MAX),
    )
}

/// Whether the body is empty or plain text, as axum's own error answers are.
fn is_plain(response: &Response) -> bool {
    let content_type = response.headers().get(header::CONTENT_TYPE);
    content_type.is_none_or(|value| value.as_bytes().starts_with(b"text/plain"))
}
