//! The service over a database of its own, without a process around it; and who talks to it.

use std::time::Duration;

use axum::{Router, body::Body};
use flack_common::{
    auth::{SigningKey, Verifier},
    database,
};
use flack_ui::{MIGRATIONS, router, start};
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use secrecy::ExposeSecret;
use serde_json::Value;
use sqlx::PgPool;
use tower::ServiceExt;

pub const ADA: i64 = 1;
pub const BOB: i64 = 2;
pub const CORRELATION_ID: &str = "test-correlation";
const TOKEN_LIFETIME: Duration = Duration::from_mins(1);

pub struct Service {
    pub pool: PgPool,
    key: SigningKey,
    router: Router,
}

impl Service {
    pub async fn start(pool: PgPool) -> Self {
        database::migrate(&pool, &MIGRATIONS).await.expect("the migrations apply to an empty database");
        let key = SigningKey::generate().expect("a key");
        let verifier = Verifier::standalone();
        verifier.add_key(key.key_id(), &key.public_jwk()).expect("our own key is usable");
        let router = router(start(&pool), verifier);
        Self { pool, key, router }
    }

    pub async fn get(&self, path: &str, user_id: i64, expected: StatusCode) -> Value {
        self.send(Method::GET, path, Some(user_id), None, expected).await
    }

    pub async fn put(&self, path: &str, user_id: i64, body: &Value, expected: StatusCode) -> Value {
        self.send(Method::PUT, path, Some(user_id), Some(body), expected).await
    }

    /// The answer as JSON, null when it is empty.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        user_id: Option<i64>,
        body: Option<&Value>,
        expected: StatusCode,
    ) -> Value {
        let mut request =
            Request::builder().method(method).uri(path).header("X-Correlation-ID", CORRELATION_ID);
        if let Some(user_id) = user_id {
            let (token, ..) = self.key.issue(user_id, chrono::Utc::now().timestamp(), TOKEN_LIFETIME);
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose_secret()));
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request =
            request.body(body.map_or_else(Body::empty, |body| body.to_string().into())).expect("a request");
        let answer = self.router.clone().oneshot(request).await.expect("a router does not fail");
        let status = answer.status();
        let bytes = answer.into_body().collect().await.expect("a body in memory").to_bytes();
        let answer =
            if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).expect("JSON") };
        assert_eq!(status, expected, "{path} {body:?}: {answer}");
        answer
    }
}
