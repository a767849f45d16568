//! What one database makes different, over a real one. The rest is tested where it lives, in the service.

use std::{sync::Arc, time::Duration};

use flack_api::{
    Context, TokenCaller,
    messages::{MessagesApi, types},
};
use flack_common::{database, process::Background};
use flack_messages::render;
use sqlx::PgPool;
use tokio::time::timeout;
use uuid::Uuid;

use super::{Messages, start};
use crate::{MIGRATIONS, authority::Authority};

const WAIT_MAX: Duration = Duration::from_secs(10);

async fn messages(pool: &PgPool) -> Messages {
    database::migrate(pool, &MIGRATIONS).await.expect("the migrations apply to an empty database");
    sqlx::query("insert into users (nickname, password_hash) values ('ada', 'x'), ('bob', 'x')")
        .execute(pool)
        .await
        .expect("two users");
    start(pool, &Authority::Alone, &Background::default())
}

fn caller(user_id: i64) -> TokenCaller {
    TokenCaller { user_id, token_id: Uuid::new_v4(), expires_at: i64::MAX, token: String::new().into() }
}

async fn post(messages: &Messages, user_id: i64, source: &str) -> Result<types::Message, flack_api::Problem> {
    let body = types::NewMessage { source: source.parse().expect("a source") };
    let posted = messages.create_message(&Context::background(), caller(user_id), None, body).await?;
    Ok(posted.body)
}

#[sqlx::test(migrations = false)]
async fn a_list_names_its_authors_as_they_are_called_right_now(pool: PgPool) {
    let messages = messages(&pool).await;
    post(&messages, 1, "hello").await.expect("ada may post");
    post(&messages, 2, "hi").await.expect("bob may post");
    sqlx::query("update users set nickname = 'robert' where id = 2").execute(&pool).await.expect("renamed");
    let include = Some(types::ListMessagesInclude::Nickname);
    let list = messages.list_messages(&Context::background(), None, None, include).await.expect("a list");
    let named: Vec<_> =
        list.messages.iter().map(|message| (message.nickname.as_deref(), &*message.source)).collect();
    assert_eq!(named, [(Some("ada"), "hello"), (Some("robert"), "hi")]);
    let list = messages.list_messages(&Context::background(), None, None, None).await.expect("a list");
    assert!(list.messages.iter().all(|message| message.nickname.is_none()));
}

#[sqlx::test(migrations = false)]
async fn who_is_no_user_any_more_cannot_post(pool: PgPool) {
    let messages = messages(&pool).await;
    let problem = post(&messages, 4711, "hello?").await.expect_err("nobody is 4711");
    assert_eq!(problem.status, 401);
    assert!(problem.detail.contains("4711"), "{problem}");
}

#[sqlx::test(migrations = false)]
async fn the_worker_beside_the_requests_refuses_internal_addresses_and_keeps_the_message(pool: PgPool) {
    let messages = Arc::new(messages(&pool).await);
    let posted = post(&messages, 1, "see http://127.0.0.1/").await.expect("ada may post");
    let refused = async {
        loop {
            let state: String = sqlx::query_scalar("select state from link_previews")
                .fetch_one(&pool)
                .await
                .expect("a preview is written down");
            if state == "failed" {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(WAIT_MAX, refused).await.expect("the worker looks at new links");
    let message = messages.get_message(&Context::background(), None, posted.id).await.expect("it is there");
    assert_eq!(message.html, render::render("see http://127.0.0.1/", &[]));
}
