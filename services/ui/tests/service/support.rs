//! The ui part under test.

use flack_common::{authority::Authority, database};
use flack_testing::TestService;
use flack_ui::{MIGRATIONS, router, start};
use http::{Method, StatusCode};
use serde_json::Value;
use sqlx::PgPool;

pub const ADA: i64 = 1;
pub const BOB: i64 = 2;
pub const CORRELATION_ID: &str = "test-correlation";

pub struct Service {
    pub pool: PgPool,
    http: TestService,
}

impl Service {
    pub async fn start(pool: PgPool) -> Self {
        database::migrate(&pool, &MIGRATIONS).await.expect("the migrations apply");
        let http = TestService::new(|verifier| router(start(&pool, &Authority::standalone("ui")), verifier));
        Self { pool, http }
    }

    pub async fn get(&self, path: &str, user_id: i64, expected: StatusCode) -> Value {
        self.send(Method::GET, path, Some(user_id), None, expected).await
    }

    pub async fn put(&self, path: &str, user_id: i64, body: &Value, expected: StatusCode) -> Value {
        self.send(Method::PUT, path, Some(user_id), Some(body), expected).await
    }

    pub async fn send(
        &self,
        method: Method,
        path: &str,
        user_id: Option<i64>,
        body: Option<&Value>,
        expected: StatusCode,
    ) -> Value {
        let mut call = self.http.request(method, path).header("X-Correlation-ID", CORRELATION_ID);
        if let Some(user_id) = user_id {
            call = call.bearer(&self.http.token(user_id));
        }
        if let Some(body) = body {
            call = call.json(body);
        }
        call.expect(expected).await.json()
    }
}
