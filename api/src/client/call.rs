//! A call before it is sent.

use std::time::Duration;

use axum::body::Bytes;
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use reqwest::Request;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::Value;
use url::Url;

use crate::{
    BasicCaller, Context, OperationInfo, TokenCaller,
    server::{CORRELATION_ID, DEADLINE_MS, FORWARDED_EPOCH, FORWARDED_FOR, READ, REPLICA, TRACEPARENT},
};

const IDEMPOTENCY_KEY: &str = "idempotency-key";

#[derive(Debug)]
pub struct Call {
    pub(super) operation: &'static OperationInfo,
    segments: Vec<String>,
    query: Vec<(&'static str, String)>,
    headers: HeaderMap,
    body: Option<Bytes>,
}

impl Call {
    /// `segments` are the parts of the path, not encoded.
    pub fn new(operation: &'static OperationInfo, segments: &[&str]) -> Self {
        let segments = segments.iter().map(|&segment| segment.to_owned()).collect();
        Self { operation, segments, query: Vec::new(), headers: HeaderMap::new(), body: None }
    }

    pub fn token(self, caller: Option<&TokenCaller>) -> Self {
        match caller {
            Some(caller) => self.authorization(&SecretString::from(format!("Bearer {}", caller.token.expose_secret()))),
            None => self,
        }
    }

    pub fn basic(self, caller: &BasicCaller) -> Self {
        let credentials = format!("{}:{}", caller.nickname, caller.password.expose_secret());
        self.authorization(&SecretString::from(format!("Basic {}", STANDARD.encode(credentials))))
    }

    /// Omits a token that a header cannot contain. The service then refuses the call, because the token is missing.
    fn authorization(mut self, value: &SecretString) -> Self {
        if let Ok(mut value) = value.expose_secret().parse::<HeaderValue>() {
            value.set_sensitive(true);
            self.headers.insert(AUTHORIZATION, value);
        }
        self
    }

    pub fn query(mut self, name: &'static str, value: Option<impl Serialize>) -> Self {
        self.query.extend(value.map(|value| (name, text(&value))));
        self
    }

    pub fn header(mut self, name: &str, value: Option<impl Serialize>) -> Self {
        let value = value.and_then(|value| text(&value).parse().ok());
        if let (Some(value), Ok(name)) = (value, name.parse::<HeaderName>()) {
            self.headers.insert(name, value);
        }
        self
    }

    pub fn json(mut self, body: &impl Serialize) -> Self {
        self.body = Some(serde_json::to_vec(body).expect("generated types have text as keys").into());
        self.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self
    }

    pub fn bytes(mut self, body: Bytes) -> Self {
        self.body = Some(body);
        self.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        self
    }

    /// Whether the call can be repeated: GET, PUT, DELETE, and a POST with an idempotency key.
    pub fn is_safe_to_repeat(&self) -> bool {
        matches!(self.operation.method, Method::GET | Method::PUT | Method::DELETE)
            || self.headers.contains_key(IDEMPOTENCY_KEY)
    }

    /// The path is appended to that of `url`.
    pub fn build(self, mut url: Url, context: &Context) -> Request {
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(self.segments);
        }
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(self.query);
        }
        let mut request = Request::new(self.operation.method.clone(), url);
        *request.headers_mut() = self.headers;
        *request.body_mut() = self.body.map(Into::into);
        insert(&mut request, CORRELATION_ID, &context.correlation_id);
        if let Some(traceparent) = &context.traceparent {
            insert(&mut request, TRACEPARENT, traceparent);
        }
        if let Some(address) = context.client_address {
            insert(&mut request, FORWARDED_FOR, &address.to_string());
        }
        if let Some(epoch) = context.forwarded_epoch {
            insert(&mut request, FORWARDED_EPOCH, &epoch.to_string());
        }
        if context.may_read_replica {
            insert(&mut request, READ, REPLICA);
        }
        request
    }
}

/// Returns the text of a parameter. It comes from JSON, because generated types of constrained texts have no
/// `ToString`.
fn text(value: &impl Serialize) -> String {
    match serde_json::to_value(value).expect("a value of a generated type") {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// Sets the timeout, and sends it to the service, so that the service does not work longer than the caller waits.
pub fn set_deadline(request: &mut Request, left: Duration) {
    *request.timeout_mut() = Some(left);
    insert(request, DEADLINE_MS, &left.as_millis().to_string());
}

/// Omits a value that a header cannot contain.
fn insert(request: &mut Request, name: &'static str, value: &str) {
    if let Ok(value) = value.parse() {
        request.headers_mut().insert(name, value);
    }
}
