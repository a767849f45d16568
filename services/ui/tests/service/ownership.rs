//! The fence of the part's database.

use flack_common::database;
use flack_testing::ownership;
use flack_ui::{MIGRATIONS, SERVICE};
use sqlx::PgPool;

const WRITE: &str = "insert into read_markers (user_id, channel, message_id) values (1, gen_random_uuid()::text, 1)";

#[sqlx::test(migrations = false)]
async fn only_the_owner_writes_the_part(pool: PgPool) {
    database::migrate(&pool, &MIGRATIONS).await.expect("the migrations apply");
    ownership::only_the_owner_writes(&pool, SERVICE, WRITE).await;
}
