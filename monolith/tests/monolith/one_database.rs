//! What one database gives and the services have to do without.

use sqlx::PgPool;

use crate::support::{Monolith, PASSWORD};

#[sqlx::test(migrations = false)]
async fn nothing_can_belong_to_a_user_who_does_not_exist(pool: PgPool) {
    let _flack = Monolith::alone(&pool).await;
    for statement in [
        "insert into messages (user_id, channel_id, source, html) select 999, id, 'x', 'x' from channels",
        "insert into tokens (id, user_id, issued_at, expires_at) values (gen_random_uuid(), 999, now(), now())",
        "insert into preferences (user_id, theme, notifications) values (999, 'dark', true)",
        "insert into read_markers (user_id, channel, message_id) values (999, 'general', 1)",
    ] {
        let error = sqlx::query(statement).execute(&pool).await.expect_err(statement);
        let kind = error.as_database_error().map(sqlx::error::DatabaseError::kind);
        assert!(matches!(kind, Some(sqlx::error::ErrorKind::ForeignKeyViolation)), "{statement}: {error}");
    }
}

#[sqlx::test(migrations = false)]
async fn a_user_goes_with_tokens_and_markers_but_not_while_messages_are_left(pool: PgPool) {
    let flack = Monolith::alone(&pool).await;
    let ada = flack.register("ada").await;
    let token = flack.sign_in("ada", PASSWORD).await;
    let message = flack.say(&token, "hello").await;
    let delete_user = async || sqlx::query("delete from users where id = $1").bind(ada).execute(&pool).await;

    delete_user().await.expect_err("her message would belong to nobody");
    sqlx::query("delete from messages where id = $1").bind(message).execute(&pool).await.expect("a delete");
    delete_user().await.expect("a delete");
    let tokens: i64 =
        sqlx::query_scalar("select count(*) from tokens").fetch_one(&pool).await.expect("a count");
    assert_eq!(tokens, 0);
}
