//! What goes back: the declared answer, or a problem that the operation declares too.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
    header::{CONTENT_TYPE, RETRY_AFTER, VARY, WWW_AUTHENTICATE},
};
use serde::Serialize;
use tracing::error;

use crate::{Context, OperationInfo, Problem, problem::RETRY_AFTER_SECONDS};

impl OperationInfo {
    /// A problem that the document does not know is a defect of the handler: logged here, told as 500.
    pub fn finish(&self, context: &Context, answer: Result<Response, Problem>) -> Response {
        answer.unwrap_or_else(|problem| {
            let declared = problem.status == 500 || self.statuses.contains(&problem.status);
            let problem = if declared {
                problem
            } else {
                error!(
                    operation = self.id,
                    correlation_id = context.correlation_id,
                    status = problem.status,
                    kind = problem.kind,
                    "a handler's problem is not declared by its operation; answered as 500"
                );
                Problem::internal()
            };
            problem.with_correlation_id(context).into_response()
        })
    }
}

/// A good answer. What cannot be sent is a defect of the handler.
pub struct Answer(Response);

impl Answer {
    pub fn new(operation: &OperationInfo) -> Self {
        let mut response = Response::new(Body::empty());
        *response.status_mut() =
            StatusCode::from_u16(operation.success).expect("the document has status codes only");
        Self(response)
    }

    pub fn json(mut self, body: &impl Serialize) -> Result<Self, Problem> {
        let bytes = serde_json::to_vec(body).map_err(unsendable)?;
        *self.0.body_mut() = bytes.into();
        self.0.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(self)
    }

    pub fn header(mut self, name: &'static str, value: Option<&String>) -> Result<Self, Problem> {
        if let Some(value) = value {
            let value = value.parse::<HeaderValue>().map_err(unsendable)?;
            self.0.headers_mut().insert(HeaderName::from_static(name), value);
        }
        Ok(self)
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        self.0
    }
}

fn unsendable(problem: impl std::error::Error) -> Problem {
    error!(%problem, "a handler's answer cannot be sent");
    Problem::internal()
}

impl Problem {
    fn with_correlation_id(self, context: &Context) -> Self {
        Self { correlation_id: Some(context.correlation_id.clone()), ..self }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status_code();
        let body = serde_json::to_vec(&self).expect("a problem is text and numbers");
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(VARY, HeaderValue::from_static("accept"));
        if status == StatusCode::UNAUTHORIZED {
            // Never `Basic`, even where that is taken: a browser would open its own dialogue.
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(r#"Bearer realm="flack""#));
        }
        let seconds = self.retry_after_seconds.or(self.is_retryable().then_some(RETRY_AFTER_SECONDS));
        if let Some(seconds) = seconds {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        // The middleware makes a page of it for a browser.
        response.extensions_mut().insert(self);
        response
    }
}

/// For the outermost router: no part of Flack knows this path.
pub async fn not_found_fallback(uri: Uri, headers: HeaderMap) -> Problem {
    Problem::not_found(format!("there is nothing at {}", uri.path()))
        .with_correlation_id(&Context::from_headers(&headers))
}

/// For paths that exist, asked in another way; axum adds `Allow`.
pub async fn method_not_allowed_fallback(method: Method, uri: Uri, headers: HeaderMap) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        "Method not allowed",
        format!("{} does not take {method}; the header Allow says what it takes", uri.path()),
    )
    .with_correlation_id(&Context::from_headers(&headers))
}
