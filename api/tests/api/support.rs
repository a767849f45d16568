//! A fake of the users service: the request determines the response.

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, to_bytes},
    response::Response,
};
use flack_api::{
    BasicCaller, Context, Problem, TokenCaller, VerifyToken, forward_everything,
    users::{CreateUserResponse, UsersApi, router, types},
};
use http::{HeaderMap, Request, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tower::ServiceExt;
use uuid::Uuid;

pub struct FakeUsers;

/// Ids that cause a problem.
pub const STRANGER: i64 = 403;
pub const NOBODY: i64 = 404;
pub const AWAY: i64 = 503;
pub const DEFECT: i64 = 500;
/// Seconds that the fake asks to wait.
pub const RETRY_AFTER_SECONDS: u32 = 7;

pub fn user(id: i64, nickname: &str) -> types::User {
    types::User {
        id,
        created_at: 1,
        updated_at: 2,
        last_seen_at: 3,
        nickname: nickname.to_owned(),
        online: true,
        links: types::UserLinks {
            self_: format!("/api/users/{id}"),
            messages: "/api/messages".to_owned(),
            tokens: "/api/tokens".to_owned(),
        },
    }
}

fn problem_of(id: i64) -> Result<(), Problem> {
    match id {
        STRANGER => Err(Problem::forbidden("this is somebody else")),
        NOBODY => Err(Problem::not_found("nobody has this id")),
        AWAY => Err(Problem { retry_after_seconds: Some(RETRY_AFTER_SECONDS), ..Problem::unavailable("the database") }),
        DEFECT => Err(Problem::internal()),
        _ => Ok(()),
    }
}

#[async_trait::async_trait]
impl UsersApi for FakeUsers {
    async fn create_user(&self, _: &Context, body: types::NewUser) -> Result<CreateUserResponse, Problem> {
        match body.nickname.as_str() {
            "taken" => Err(Problem::conflict("nickname-taken", "the nickname is taken")),
            // `create_user` declares no 404.
            "undeclared" => Err(Problem::not_found("nothing")),
            nickname => Ok(CreateUserResponse { location: "/api/users/1".to_owned(), body: user(1, nickname) }),
        }
    }

    /// Returns its arguments in the nickname of the only user.
    async fn list_users(
        &self,
        _: &Context,
        caller: Option<TokenCaller>,
        online: Option<types::ListUsersOnline>,
        updated_since: Option<i64>,
    ) -> Result<types::UserList, Problem> {
        let caller = caller.map(|caller| caller.user_id);
        let arguments = format!("{caller:?} {:?} {updated_since:?}", online.map(|online| online.to_string()));
        Ok(types::UserList { users: vec![user(1, &arguments)] })
    }

    async fn get_me(&self, _: &Context, caller: BasicCaller) -> Result<types::User, Problem> {
        if caller.password.expose_secret() == "s:ecret" {
            Ok(user(7, &caller.nickname))
        } else {
            Err(Problem::unauthorized("the nickname or the password is wrong"))
        }
    }

    async fn set_me_online(&self, _: &Context, _: TokenCaller) -> Result<(), Problem> {
        Ok(())
    }

    async fn set_me_offline(&self, _: &Context, _: TokenCaller) -> Result<(), Problem> {
        Ok(())
    }

    /// Returns the context in the nickname.
    async fn get_user(&self, context: &Context, _: Option<TokenCaller>, id: i64) -> Result<types::User, Problem> {
        problem_of(id)?;
        let Context { correlation_id, traceparent, deadline, client_address, .. } = context;
        Ok(user(id, &format!("{correlation_id} {traceparent:?} {} {client_address:?}", deadline.is_some())))
    }

    async fn update_user(&self, _: &Context, _: TokenCaller, id: i64, _: types::UserUpdate) -> Result<(), Problem> {
        problem_of(id)
    }
}

pub fn new_user(nickname: &str) -> types::NewUser {
    types::NewUser {
        nickname: nickname.parse().expect("good"),
        password: "secret".parse().expect("good"),
        password_rules: None,
    }
}

/// `good` is the token of user 7. `unknowable` cannot be verified now.
pub struct FakeVerify;

#[async_trait::async_trait]
impl VerifyToken for FakeVerify {
    async fn verify_token(&self, token: &SecretString) -> Result<TokenCaller, Problem> {
        match token.expose_secret() {
            "good" => Ok(caller()),
            "unknowable" => Err(Problem::unavailable("the registry")),
            _ => Err(Problem::unauthorized("the token is not good")),
        }
    }
}

pub fn caller() -> TokenCaller {
    TokenCaller { user_id: 7, token_id: Uuid::nil(), issued_at: 0, expires_at: i64::MAX, token: "good".into() }
}

pub fn users() -> Router {
    router(Arc::new(FakeUsers), Arc::new(FakeVerify))
}

/// The address of a service that is down. Every call to it returns 503.
pub fn base_url_of_nobody() -> String {
    let vacant = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    format!("http://{}", vacant.local_addr().expect("it is bound"))
}

pub fn http() -> reqwest::Client {
    flack_api::http_client_builder().no_proxy().build().expect("a client")
}

/// Every service's router, in front of a client whose service is down.
pub fn everything() -> Router {
    let verify: Arc<dyn VerifyToken> = Arc::new(FakeVerify);
    forward_everything(&base_url_of_nobody(), &http(), &verify)
}

pub struct Answer {
    pub headers: HeaderMap,
    /// Null when there is no body.
    pub json: Value,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("headers are text"))
    }

    pub fn detail(&self) -> &str {
        self.json["detail"].as_str().expect("a problem has a detail")
    }
}

/// Sends one request to the router, and checks the status of the response.
pub async fn ask(router: Router, request: Request<Body>, expected: StatusCode) -> Answer {
    let response: Response = router.oneshot(request).await.expect("a router does not fail");
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.expect("the body is in memory");
    let text = String::from_utf8_lossy(&bytes);
    assert_eq!(parts.status, expected, "{text}");
    let json = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).expect("it is JSON") };
    let answer = Answer { headers: parts.headers, json };
    if expected.as_u16() >= 400 {
        is_a_complete_problem(&answer, expected);
    }
    answer
}

fn is_a_complete_problem(answer: &Answer, status: StatusCode) {
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert_eq!(answer.json["status"], status.as_u16());
    assert_eq!(answer.json["error"], answer.json["detail"], "clients of version 1 read `error`");
    let kind = answer.json["type"].as_str();
    assert!(kind.is_some_and(|kind| kind.starts_with("/api/docs/problems#")), "{kind:?}");
    assert!(answer.json["correlation_id"].is_string(), "{}", answer.json);
    assert_eq!(answer.headers.contains_key("retry-after"), matches!(status.as_u16(), 429 | 503));
    let challenge = (status == StatusCode::UNAUTHORIZED).then_some(r#"Bearer realm="flack""#);
    assert_eq!(answer.header("www-authenticate"), challenge);
    for word in ["struct", "types::", "NewUser", "i64", "line!"] {
        assert!(!answer.detail().contains(word), "{} contains a name of the code", answer.detail());
    }
}

pub fn get(path: &str) -> http::request::Builder {
    Request::get(path)
}

pub fn post_json(path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(path).header("content-type", "application/json").body(body.into()).expect("a request")
}
