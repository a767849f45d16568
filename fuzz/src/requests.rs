//! Requests to the generated routers of all services: whatever arrives, the answer is a complete problem, because the
//! operations themselves are replaced by a 503.

use std::sync::{Arc, LazyLock};

use axum::{
    Router,
    body::{Body, to_bytes},
};
use flack_api::{
    Invocation, Layer, Layered, Output, Problem, TokenCaller, VerifyToken, http_client_builder,
    messages::{self, MessagesApi, MessagesClient},
    messages_v2::{self, MessagesV2Api, MessagesV2Client},
    method_not_allowed_fallback, not_found_fallback,
    recommend::{self, RecommendApi, RecommendClient},
    search::{self, SearchApi, SearchClient},
    tag::{self, TagApi, TagClient},
    tokens::{self, TokensApi, TokensClient},
    ui::{self, UiApi, UiClient},
    users::{self, UsersApi, UsersClient},
    users_v2::{self, UsersV2Api, UsersV2Client},
};
use http::Request;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;
use uuid::Uuid;

static ROUTER: LazyLock<Router> = LazyLock::new(router);
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().build().expect("a runtime"));

pub fn check(input: &[u8]) {
    let Some(request) = request(input) else { return };
    let (status, kind, body) = RUNTIME.block_on(async {
        let response = ROUTER.clone().oneshot(request).await.expect("a router does not fail");
        let (head, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.expect("the body is in memory");
        (head.status.as_u16(), head.headers.get("content-type").cloned(), body)
    });
    assert!((400..500).contains(&status) || status == 503, "{status}");
    // The answer to HEAD has no body.
    if !body.is_empty() {
        assert_eq!(kind.expect("a content type"), "application/problem+json");
        let problem: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(problem["status"], status);
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
    }
}

/// Reads a request as HTTP writes it, with line feeds only: `POST /api/users`, headers, an empty line, the body. An
/// input that is no request for the HTTP library is none.
fn request(input: &[u8]) -> Option<Request<Body>> {
    let head_ends = input.windows(2).position(|two| two == b"\n\n").unwrap_or(input.len());
    let mut lines = input[..head_ends].split(|byte| *byte == b'\n');
    let mut line = lines.next()?.splitn(2, |byte| *byte == b' ');
    let mut request = Request::builder().method(line.next()?).uri(line.next()?);
    for header in lines {
        let mut parts = header.splitn(2, |byte| *byte == b':');
        request = request.header(parts.next()?, parts.next()?.trim_ascii());
    }
    request.body(input.get(head_ends + 2..).unwrap_or_default().to_vec().into()).ok()
}

fn router() -> Router {
    let http = http_client_builder().no_proxy().build().expect("a client");
    // Nothing is sent there.
    let address = "http://127.0.0.1:1";
    let users: Arc<dyn UsersApi> = Arc::new(UsersClient::new(address, http.clone()));
    let users_v2: Arc<dyn UsersV2Api> = Arc::new(UsersV2Client::new(address, http.clone()));
    let tokens: Arc<dyn TokensApi> = Arc::new(TokensClient::new(address, http.clone()));
    let messages: Arc<dyn MessagesApi> = Arc::new(MessagesClient::new(address, http.clone()));
    let messages_v2: Arc<dyn MessagesV2Api> = Arc::new(MessagesV2Client::new(address, http.clone()));
    let search: Arc<dyn SearchApi> = Arc::new(SearchClient::new(address, http.clone()));
    let recommend: Arc<dyn RecommendApi> = Arc::new(RecommendClient::new(address, http.clone()));
    let tag: Arc<dyn TagApi> = Arc::new(TagClient::new(address, http.clone()));
    let ui: Arc<dyn UiApi> = Arc::new(UiClient::new(address, http));
    let verify: Arc<dyn VerifyToken> = Arc::new(OneGoodToken);
    Router::new()
        .merge(users::router(Arc::new(Layered::new(Unavailable, users)), Arc::clone(&verify)))
        .merge(users_v2::router(Arc::new(Layered::new(Unavailable, users_v2)), Arc::clone(&verify)))
        .merge(tokens::router(Arc::new(Layered::new(Unavailable, tokens)), Arc::clone(&verify)))
        .merge(messages::router(Arc::new(Layered::new(Unavailable, messages)), Arc::clone(&verify)))
        .merge(messages_v2::router(Arc::new(Layered::new(Unavailable, messages_v2)), Arc::clone(&verify)))
        .merge(search::router(Arc::new(Layered::new(Unavailable, search)), Arc::clone(&verify)))
        .merge(recommend::router(Arc::new(Layered::new(Unavailable, recommend)), Arc::clone(&verify)))
        .merge(tag::router(Arc::new(Layered::new(Unavailable, tag)), Arc::clone(&verify)))
        .merge(ui::router(Arc::new(Layered::new(Unavailable, ui)), verify))
        .method_not_allowed_fallback(method_not_allowed_fallback)
        .fallback(not_found_fallback)
}

/// Answers every valid request with 503.
struct Unavailable;

impl<Api: ?Sized + Send + Sync + 'static> Layer<Api> for Unavailable {
    async fn call<T: Output>(&self, _: &Arc<Api>, invocation: Invocation<Api, T>) -> Result<T, Problem> {
        Err(Problem::unavailable(invocation.operation.service))
    }
}

struct OneGoodToken;

#[async_trait::async_trait]
impl VerifyToken for OneGoodToken {
    async fn verify_token(&self, token: &SecretString) -> Result<TokenCaller, Problem> {
        if token.expose_secret() != "good" {
            return Err(Problem::unauthorized("the token is not good"));
        }
        Ok(TokenCaller { user_id: 7, token_id: Uuid::nil(), issued_at: 0, expires_at: i64::MAX, token: "good".into() })
    }
}
