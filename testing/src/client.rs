//! An HTTP client of a router, without a socket.

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Method, Request, StatusCode, header},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

/// Starts requests to a router.
#[derive(Debug, Clone)]
pub struct Client {
    router: Router,
}

impl Client {
    pub fn new(router: Router) -> Self {
        Self { router }
    }

    pub fn get(&self, path: &str) -> Call {
        self.request(Method::GET, path)
    }

    pub fn post(&self, path: &str) -> Call {
        self.request(Method::POST, path)
    }

    pub fn put(&self, path: &str) -> Call {
        self.request(Method::PUT, path)
    }

    pub fn delete(&self, path: &str) -> Call {
        self.request(Method::DELETE, path)
    }

    pub fn request(&self, method: Method, path: &str) -> Call {
        let request = Request::builder().method(method).uri(path);
        Call { router: self.router.clone(), request, body: Body::empty() }
    }
}

/// A request that is not sent yet.
#[derive(Debug)]
pub struct Call {
    router: Router,
    request: axum::http::request::Builder,
    body: Body,
}

impl Call {
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header(header::AUTHORIZATION.as_str(), &format!("Bearer {token}"))
    }

    #[must_use]
    pub fn basic(self, nickname: &str, password: &str) -> Self {
        let credentials = BASE64_STANDARD.encode(format!("{nickname}:{password}"));
        self.header(header::AUTHORIZATION.as_str(), &format!("Basic {credentials}"))
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        self.body("application/json", &body.to_string())
    }

    #[must_use]
    pub fn body(self, content_type: &str, body: &str) -> Self {
        self.bytes(content_type, body.as_bytes())
    }

    #[must_use]
    pub fn bytes(self, content_type: &str, body: &[u8]) -> Self {
        Self { body: Body::from(body.to_vec()), ..self.header(header::CONTENT_TYPE.as_str(), content_type) }
    }

    /// Sends the request and returns the answer, which must have this status.
    #[track_caller]
    pub fn expect(self, status: StatusCode) -> impl Future<Output = Answer> {
        let caller = std::panic::Location::caller();
        async move {
            let answer = self.send().await;
            assert_eq!(answer.status, status, "{caller}: {}", answer.text);
            answer
        }
    }

    pub async fn send(self) -> Answer {
        let request = self.request.body(self.body).expect("a request");
        let response = self.router.oneshot(request).await.expect("a router never fails");
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.into_body().collect().await.expect("a body").to_bytes().to_vec();
        Answer { status, headers, text: String::from_utf8_lossy(&bytes).into_owned(), bytes }
    }
}

/// An answer with its whole body.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// The body as text. Bytes that are not UTF-8 are replaced.
    pub text: String,
    pub bytes: Vec<u8>,
}

impl Answer {
    /// Returns the body as JSON, and null for an empty body.
    pub fn json(&self) -> Value {
        if self.text.is_empty() { Value::Null } else { serde_json::from_str(&self.text).expect("JSON") }
    }

    /// Returns a header, and an empty text when it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}
