//! The fence of the part's database.

use flack_common::database;
use flack_testing::ownership;
use flack_ui::{MIGRATIONS, SERVICE};
use sqlx::PgPool;

const WRITE: &str = "insert into read_markers (user_id, channel, message_id) values (1, gen_random_uuid()::text, 1)";

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
