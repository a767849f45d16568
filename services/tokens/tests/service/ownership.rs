//! The fence of the part's database.

use flack_common::database;
use flack_testing::ownership;
use flack_tokens::{MIGRATIONS, SERVICE};
use sqlx::PgPool;

const WRITE: &str =
    "insert into tokens (id, user_id, issued_at, expires_at) values (gen_random_uuid(), 1, now(), now())";

#[sqlx::test(migrations = false)]
async fn only_the_owner_writes_the_part(pool: PgPool) {
    database::migrate(&pool, &MIGRATIONS).await.expect("the migrations apply");
    ownership::only_the_owner_writes(&pool, SERVICE, WRITE).await;
}
