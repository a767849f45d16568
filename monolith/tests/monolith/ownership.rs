//! The fences of the monolith's database: each part has its own.

use flack_common::database;
use flack_monolith::MIGRATIONS;
use flack_testing::ownership;
use sqlx::PgPool;

const PARTS: [&str; 4] = ["users", "tokens", "messages", "ui"];

/// Of each part, a statement that writes one journal row, for a user with the id 1.
const WRITES: [(&str, &str); 4] = [
    ("tokens", "insert into tokens (id, user_id, issued_at, expires_at) values (gen_random_uuid(), 1, now(), now())"),
    ("messages", "insert into messages (user_id, channel_id, source, html) values (1, 1, 'x', 'x')"),
    ("ui", "insert into read_markers (user_id, channel, message_id) values (1, gen_random_uuid()::text, 1)"),
    ("users", "insert into users (nickname, password_hash) values (md5(random()::text), 'x')"),
];

async fn migrated(pool: &PgPool) {
    database::migrate(pool, &MIGRATIONS).await.expect("the migrations apply");
}

#[sqlx::test(migrations = false)]
async fn every_table_of_every_part_is_fenced(pool: PgPool) {
    migrated(&pool).await;
    ownership::every_table_is_fenced(&pool, &PARTS).await;
}

#[sqlx::test(migrations = false)]
async fn no_table_is_written_while_another_database_is_the_owner(pool: PgPool) {
    migrated(&pool).await;
    ownership::a_replica_is_not_written(&pool).await;
}

#[sqlx::test(migrations = false)]
async fn no_write_commits_behind_the_marker_of_its_part(pool: PgPool) {
    migrated(&pool).await;
    let user = "insert into users (nickname, password_hash) values ('ada', 'x')";
    sqlx::query(user).execute(&pool).await.expect("a user");
    for (part, write) in WRITES {
        ownership::no_write_commits_behind_the_marker(&pool, part, write).await;
    }
}
