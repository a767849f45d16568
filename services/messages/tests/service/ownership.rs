//! The fence of the part's database.

use flack_common::database;
use flack_messages::{MIGRATIONS, SERVICE};
use flack_testing::ownership;
use sqlx::PgPool;

const WRITE: &str = "insert into messages (user_id, channel_id, source, html) values (1, 1, 'x', 'x')";

#[sqlx::test(migrations = false)]
async fn every_table_of_the_part_is_fenced(pool: PgPool) {
    database::migrate(&pool, &MIGRATIONS).await.expect("the migrations apply");
    ownership::every_table_is_fenced(&pool, &[SERVICE]).await;
}

#[sqlx::test(migrations = false)]
async fn no_table_is_written_while_another_database_is_the_owner(pool: PgPool) {
    database::migrate(&pool, &MIGRATIONS).await.expect("the migrations apply");
    ownership::a_replica_is_not_written(&pool).await;
}

#[sqlx::test(migrations = false)]
async fn no_write_commits_behind_the_marker(pool: PgPool) {
    database::migrate(&pool, &MIGRATIONS).await.expect("the migrations apply");
    ownership::no_write_commits_behind_the_marker(&pool, SERVICE, WRITE).await;
}
