//! Answers that no handler made, as problem details: unknown paths, methods that a path does not have, and
//! what the HTTP layer refuses by itself.

use axum::response::{IntoResponse, Response};
use flack_api::Problem;
use http::{StatusCode, header};

/// A problem as the answer to this request.
pub fn answer(mut problem: Problem, correlation_id: &str) -> Response {
    problem.correlation_id = Some(correlation_id.to_owned());
    problem.into_response()
}

/// Gives an error answer that nobody has put into words the form that all others have. Pages and problems stay.
pub fn complete(response: Response, path: &str, correlation_id: &str) -> Response {
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) || !is_wordless(&response) {
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
    let mut completed = answer(problem, correlation_id);
    // Such as Allow: what was said beside the words stays said.
    for (name, value) in response.headers() {
        if !matches!(*name, header::CONTENT_TYPE | header::CONTENT_LENGTH) {
            completed.headers_mut().entry(name).or_insert_with(|| value.clone());
        }
    }
    completed
}

/// The body is longer than `BODY_BYTES_MAX`.
pub fn too_large() -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "too-large",
        "Too large",
        format!("a request body has at most {} bytes", super::BODY_BYTES_MAX),
    )
}

fn is_wordless(response: &Response) -> bool {
    match response.headers().get(header::CONTENT_TYPE) {
        None => true,
        Some(kind) => kind.as_bytes().starts_with(b"text/plain"),
    }
}
