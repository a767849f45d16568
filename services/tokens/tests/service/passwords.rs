//! A password change revokes the tokens that were issued before it.

use std::sync::Arc;

use crate::support::{ADA, PASSWORD, Service};
use axum::http::StatusCode;
use chrono::{TimeDelta, Utc};
use flack_common::{authority::Ownership, events::Consumer, process::Background};
use flack_testing::{UsersStandIn, eventually};
use sqlx::PgPool;

#[sqlx::test(migrations = false)]
async fn a_password_change_revokes_the_older_tokens_of_this_user_only(pool: PgPool) {
    let service = Service::start(&pool, None).await;
    service.users_accepts_ada();
    let old = service.token().await;
    let users = UsersStandIn::start(&pool).await;
    let handler = Arc::new(service.password_changes());
    let consumer = Consumer::new("users", pool.clone(), users.events.clone(), handler);
    let consumer = tokio::spawn(consumer.run(users.stopping.clone()));
    let background = Background::default();
    service.publisher.start(&Ownership::always(), &background);

    for user_id in [99, ADA] {
        sqlx::query("insert into users (id) values ($1)").bind(user_id).execute(&pool).await.expect("an insert");
    }
    eventually("the old token is refused", async || service.verify(&old).await == Err(401)).await;
    let new = service.token().await;
    assert_eq!(service.verify(&new).await, Ok(ADA));

    // A later change of the user that is no password change revokes nothing.
    sqlx::query("update users set online = not online").execute(&pool).await.expect("an update");
    eventually("all events are consumed", async || {
        let done: i64 = sqlx::query_scalar("select count(*) from inbox where state = 'done'")
            .fetch_one(&pool)
            .await
            .expect("a count");
        done == 4
    })
    .await;
    assert_eq!(service.verify(&new).await, Ok(ADA));
    users.stopping.cancel();
    consumer.await.expect("it ends");
    background.stopping().cancel();
}

#[sqlx::test(migrations = false)]
async fn no_token_is_issued_for_a_password_that_changed_during_the_check(pool: PgPool) {
    let service = Service::start(&pool, None).await;
    service.users_accepts_ada();
    // The event is consumed before the token is stored, and the change is later than the start of the check.
    let mut connection = pool.acquire().await.expect("a connection");
    let soon = Utc::now() + TimeDelta::seconds(30);
    assert_eq!(service.password_changes().apply(&mut connection, ADA, soon).await.expect("a change"), 0);
    service.post("/api/tokens").basic("ada", PASSWORD).expect(StatusCode::UNAUTHORIZED).await;
}

#[sqlx::test(migrations = false)]
async fn an_old_password_change_neither_revokes_nor_is_stored(pool: PgPool) {
    let service = Service::start(&pool, None).await;
    service.users_accepts_ada();
    let token = service.token().await;
    let mut connection = pool.acquire().await.expect("a connection");
    for hours in [2, 48] {
        let then = Utc::now() - TimeDelta::hours(hours);
        assert_eq!(service.password_changes().apply(&mut connection, ADA, then).await.expect("a change"), 0);
    }
    assert_eq!(service.verify(&token).await, Ok(ADA));
    let remembered: i64 =
        sqlx::query_scalar("select count(*) from password_changes").fetch_one(&pool).await.expect("a count");
    assert_eq!(remembered, 0);
}
