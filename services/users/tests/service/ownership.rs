//! The fence of the part's database.

use flack_common::database;
use flack_testing::ownership;
use flack_users::{MIGRATIONS, SERVICE};
use sqlx::PgPool;

const WRITE: &str = "insert into users (nickname, password_hash) values (md5(random()::text), 'x')";

#[sqlx::test(migrations = false)]
async fn only_the_owner_writes_the_part(pool: PgPool) {
    database::migrate(&pool, &MIGRATIONS).await.expect("the migrations apply");
    ownership::only_the_owner_writes(&pool, SERVICE, WRITE).await;
}
