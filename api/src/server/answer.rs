//! Responses: the declared result, or a declared problem.

use axum::{
    body::{Body, Bytes},
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
    /// Returns the response. A problem that the operation does not declare is a defect of the handler: it is logged
    /// and becomes 500.
    pub fn finish(&self, context: &Context, answer: Result<Response, Problem>) -> Response {
        let mut response = answer.unwrap_or_else(|problem| {
            if problem.status == 500 || self.statuses.contains(&problem.status) {
                return problem.with_correlation_id(context).into_response();
            }
            error!(
                operation = self.id,
                correlation_id = context.correlation_id,
                status = problem.status,
                kind = problem.kind,
                "the operation does not declare the handler's problem; the response is 500"
            );
            Problem::internal().with_correlation_id(context).into_response()
        });
        context.rate_limits.append_to(response.headers_mut());
        response
    }
}

/// A successful response.
pub struct Answer(Response);

impl Answer {
    pub fn new(operation: &OperationInfo) -> Self {
        let mut response = Response::new(Body::empty());
        *response.status_mut() =
            StatusCode::from_u16(operation.success[0]).expect("a document has only valid status codes");
        Self(response)
    }

    /// Sets the status of an operation that finds or creates.
    pub fn found_or_created(mut self, is_new: bool) -> Self {
        *self.0.status_mut() = if is_new { StatusCode::CREATED } else { StatusCode::OK };
        self
    }

    pub fn json(mut self, body: &impl Serialize) -> Result<Self, Problem> {
        let bytes = serde_json::to_vec(body).map_err(unsendable)?;
        *self.0.body_mut() = bytes.into();
        self.0.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(self)
    }

    pub fn bytes(mut self, body: &Bytes) -> Self {
        *self.0.body_mut() = body.clone().into();
        self.0.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        self
    }

    /// Without a value, the header is absent: the response is that of an instance of the previous version.
    pub fn header(mut self, name: &'static str, value: Option<&str>) -> Result<Self, Problem> {
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
    error!(%problem, "the response of a handler cannot be sent");
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
            // Never `Basic`, also where it is accepted: a browser would open its own dialog.
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(r#"Bearer realm="flack""#));
        }
        let seconds = self.retry_after_seconds.or(self.is_retryable().then_some(RETRY_AFTER_SECONDS));
        if let Some(seconds) = seconds {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        // The middleware renders it as a page for a browser.
        response.extensions_mut().insert(self);
        response
    }
}

/// The response to an unknown path, for the outermost router.
pub async fn not_found_fallback(uri: Uri, headers: HeaderMap) -> Problem {
    Problem::not_found(format!("there is nothing at {}", uri.path()))
        .with_correlation_id(&Context::from_headers(&headers))
}

/// The response to a known path with another method. axum adds `Allow`.
pub async fn method_not_allowed_fallback(method: Method, uri: Uri, headers: HeaderMap) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        "Method not allowed",
        format!("{} does not accept {method}; the header Allow lists the accepted methods", uri.path()),
    )
    .with_correlation_id(&Context::from_headers(&headers))
}
