//! Three layers of a few lines, each around every operation: a guard, a forwarding layer and a shadow read.

use std::sync::{Arc, Mutex};

use flack_api::{
    Context, Invocation, Layer, Layered, Output, Problem, RateLimit, messages::MessagesApi, messages::MessagesClient,
    tokens::TokensApi, tokens::TokensClient, users::UsersApi, users::types,
};

use axum::body::Body;
use http::{Request, StatusCode};

use crate::support::{FakeUsers, FakeVerify, NOBODY, ask, base_url_of_nobody, caller, http, new_user};

/// Refuses every operation of a service that this process does not own.
struct Guard {
    owned: &'static str,
}

impl<Api: ?Sized + Send + Sync + 'static> Layer<Api> for Guard {
    async fn call<T: Output>(&self, inner: &Arc<Api>, invocation: Invocation<Api, T>) -> Result<T, Problem> {
        if invocation.operation.service != self.owned {
            return Err(Problem::unavailable(invocation.operation.service));
        }
        invocation.run(inner).await
    }
}

/// Sends every operation to another implementation, such as a client.
struct Forward<Api: ?Sized> {
    other: Arc<Api>,
}

impl<Api: ?Sized + Send + Sync + 'static> Layer<Api> for Forward<Api> {
    async fn call<T: Output>(&self, _: &Arc<Api>, invocation: Invocation<Api, T>) -> Result<T, Problem> {
        invocation.run(&self.other).await
    }
}

/// Answers from `inner`, runs each read on another implementation too, and records reads whose results differ.
struct ShadowRead<Api: ?Sized> {
    other: Arc<Api>,
    differences: Arc<Mutex<Vec<&'static str>>>,
}

impl<Api: ?Sized + Send + Sync + 'static> Layer<Api> for ShadowRead<Api> {
    async fn call<T: Output>(&self, inner: &Arc<Api>, invocation: Invocation<Api, T>) -> Result<T, Problem> {
        let answer = invocation.run(inner).await;
        if invocation.operation.is_read() && invocation.run(&self.other).await != answer {
            self.differences.lock().unwrap().push(invocation.operation.id);
        }
        answer
    }
}

fn users() -> Arc<dyn UsersApi> {
    Arc::new(FakeUsers)
}

#[tokio::test]
async fn a_guard_stops_every_operation_of_a_service_that_is_not_owned() {
    let context = Context::background();
    let owned = Layered::new(Guard { owned: "users" }, users());
    assert_eq!(owned.get_user(&context, None, 7).await.unwrap().id, 7);
    let refused = Layered::new(Guard { owned: "messages" }, users());
    assert_eq!(refused.get_user(&context, None, 7).await.unwrap_err(), Problem::unavailable("users"));
    assert_eq!(refused.set_me_online(&context, caller()).await.unwrap_err(), Problem::unavailable("users"));

    let tokens: Arc<dyn TokensApi> = Arc::new(TokensClient::new(&base_url_of_nobody(), http()));
    let tokens = Layered::new(Guard { owned: "users" }, tokens);
    assert_eq!(tokens.revoke_token(&context, caller()).await.unwrap_err(), Problem::unavailable("tokens"));
}

#[tokio::test]
async fn a_guard_works_around_every_service_and_in_layers() {
    let messages: Arc<dyn MessagesApi> = Arc::new(MessagesClient::new(&base_url_of_nobody(), http()));
    let once: Arc<dyn MessagesApi> = Arc::new(Layered::new(Guard { owned: "messages" }, messages));
    let twice: Arc<dyn MessagesApi> = Arc::new(Layered::new(Guard { owned: "users" }, once));
    let problem = twice.list_messages(&Context::background(), None, None, None).await.unwrap_err();
    assert_eq!(problem, Problem::unavailable("messages"));
}

#[tokio::test]
async fn a_forwarding_layer_sends_arguments_and_context_to_the_other_implementation() {
    let elsewhere: Arc<dyn UsersApi> = Arc::new(flack_api::users::UsersClient::new(&base_url_of_nobody(), http()));
    let forwarding = Layered::new(Forward { other: users() }, elsewhere);
    let context = Context { correlation_id: "test-1".to_owned(), ..Context::background() };
    assert_eq!(forwarding.get_user(&context, None, 7).await.unwrap().nickname, "test-1 None false None");
    assert_eq!(forwarding.create_user(&context, new_user("ada")).await.unwrap().body.nickname, "ada");
    let online = Some(types::ListUsersOnline::X1);
    let list = forwarding.list_users(&context, Some(caller()), online, Some(5)).await.unwrap();
    assert_eq!(list.users[0].nickname, "Some(7) Some(\"1\") Some(5)");
}

#[tokio::test]
async fn a_shadow_read_compares_reads_and_leaves_writes_alone() {
    let differences = Arc::new(Mutex::new(Vec::new()));
    let shadow =
        |other: Arc<dyn UsersApi>| Layered::new(ShadowRead { other, differences: Arc::clone(&differences) }, users());
    let context = Context::background();

    let same = shadow(users());
    same.get_user(&context, None, 7).await.unwrap();
    assert_eq!(same.get_user(&context, None, NOBODY).await.unwrap_err().status, 404, "the same problem is equal");
    assert!(differences.lock().unwrap().is_empty());

    let down = shadow(Arc::new(flack_api::users::UsersClient::new(&base_url_of_nobody(), http())));
    assert_eq!(down.get_user(&context, None, 7).await.unwrap().id, 7);
    down.create_user(&context, new_user("ada")).await.unwrap();
    assert_eq!(*differences.lock().unwrap(), ["get_user"], "a write runs once");
}

/// Gives each user one write, and reports what is left to the router.
struct OneWrite(Mutex<Vec<i64>>);

impl<Api: ?Sized + Send + Sync + 'static> Layer<Api> for OneWrite {
    async fn call<T: Output>(&self, inner: &Arc<Api>, invocation: Invocation<Api, T>) -> Result<T, Problem> {
        if let Some(user_id) = invocation.user_id
            && !invocation.operation.is_read()
        {
            invocation.context.rate_limits.report(RateLimit {
                policy: "writes",
                units_max: 1,
                window_seconds: 10,
                units_left: 0,
                reset_seconds: 7,
            });
            let mut writers = self.0.lock().unwrap();
            if writers.contains(&user_id) {
                return Err(Problem::too_many_requests("one write only", 7));
            }
            writers.push(user_id);
        }
        invocation.run(inner).await
    }
}

#[tokio::test]
async fn a_layer_knows_the_user_and_its_quota_is_in_the_answer() {
    let limited: Arc<dyn UsersApi> = Arc::new(Layered::new(OneWrite(Mutex::default()), users()));
    let router = flack_api::users::router(limited, Arc::new(FakeVerify));
    let send = async |method: &str, path: &str, expected: StatusCode| {
        let request = Request::builder().method(method).uri(path).header("authorization", "Bearer good");
        ask(router.clone(), request.body(Body::empty()).unwrap(), expected).await
    };
    let read = send("GET", "/api/users/7", StatusCode::OK).await;
    assert_eq!(read.header("ratelimit"), None, "a read uses no quota");
    let first = send("PUT", "/api/users/me", StatusCode::NO_CONTENT).await;
    let second = send("DELETE", "/api/users/me", StatusCode::TOO_MANY_REQUESTS).await;
    for answer in [&first, &second] {
        assert_eq!(answer.header("ratelimit-policy"), Some(r#""writes";q=1;w=10"#));
        assert_eq!(answer.header("ratelimit"), Some(r#""writes";r=0;t=7"#));
    }
    assert_eq!(second.header("retry-after"), Some("7"));
    assert_eq!(second.json["type"], "/api/docs/problems#too-many-requests");
}
