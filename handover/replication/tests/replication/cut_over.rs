//! A change of the owner, and back.

use flack_handover::{Part, Side, fence::Role};
use sqlx::PgPool;

use crate::pair::{Pair, eventually, scalar};

const CROSSING: &str = "select count(*) from part_foreign_keys('users') where is_crossing";

#[sqlx::test(migrations = false)]
async fn a_part_moves_there_and_back_with_its_new_writes_and_foreign_keys(pool: PgPool) {
    let pair = Pair::start(&pool, Part::Users).await;
    pair.execute(Side::Monolith, "insert into users (nickname, password_hash) values ('ada', 'x'), ('bob', 'y')").await;
    pair.execute(Side::Monolith, "insert into messages (user_id, channel_id, source, html) values (1, 1, 'a', 'a')")
        .await;
    assert_eq!(scalar::<i64>(&pair.monolith, CROSSING).await, 6);
    let record = pair.follow().await;
    // An id that was drawn and rolled back is not used again by the new owner.
    for _ in 0..5 {
        let transaction = pair.monolith.begin().await.expect("a transaction");
        sqlx::query("select nextval(pg_get_serial_sequence('users', 'id'))")
            .execute(&pair.monolith)
            .await
            .expect("ids");
        transaction.rollback().await.expect("rolled back");
    }
    pair.verify(Side::Service).await;
    let record = pair.switch(record).await;

    let insert = "insert into users (nickname, password_hash) values ('carl', 'z')";
    pair.execute(Side::Service, insert).await;
    assert_eq!(scalar::<i64>(&pair.service, "select max(id) from users").await, 8);
    let keys = "select count(*) from part_foreign_keys('users')";
    assert_eq!(scalar::<i64>(&pair.service, keys).await, 2, "the keys of the owner exist");
    pair.become_equal().await;
    assert_eq!(scalar::<i64>(&pair.monolith, keys).await, 0, "the keys of a replica do not");
    // The monolith still owns messages: a user whom it does not have yet posts there.
    pair.execute(Side::Monolith, "insert into messages (user_id, channel_id, source, html) values (99, 1, 'b', 'b')")
        .await;
    pair.execute(Side::Monolith, "delete from messages where user_id = 99").await;
    let copied: bool = scalar(&pair.monolith, "select is_copied and rows_applied > 0 from part_replicas").await;
    assert!(copied, "the former owner follows without a copy");

    pair.verify(Side::Monolith).await;
    let record = pair.switch(record).await;
    pair.execute(Side::Monolith, "insert into users (nickname, password_hash) values ('dora', 'z')").await;
    pair.execute(Side::Monolith, "delete from users where nickname = 'bob'").await;
    pair.become_equal().await;
    eventually("the foreign keys are back and valid", async || {
        scalar::<i64>(&pair.monolith, "select count(*) from part_foreign_keys('users') where is_valid").await == 8
    })
    .await;

    pair.verify(Side::Service).await;
    pair.switch(record).await;
    assert_eq!(pair.status(Side::Service).await.role, Role::Owner);
    eventually("the former owner follows", async || pair.status(Side::Monolith).await.role == Role::Replica).await;
    pair.become_equal().await;
    pair.end().await;
}
