//! The fence of the part's database.

use flack_common::database;
use flack_messages::{MIGRATIONS, SERVICE};
use flack_testing::ownership;
use sqlx::PgPool;

const WRITE: &str = "insert into messages (user_id, channel_id, source, html) values (1, 1, 'x', 'x')";

#[sqlx::test(migrations = false)]
async fn only_the_owner_writes_the_part(pool: PgPool) {
    database::migrate(&pool, &MIGRATIONS).await.expect("the migrations apply");
    ownership::only_the_owner_writes(&pool, SERVICE, WRITE).await;
}
