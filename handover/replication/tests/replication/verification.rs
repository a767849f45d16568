//! The comparison of both sides.

use flack_handover::{
    Part, Side,
    protocol::{self, Verification, VerifyRequest},
};
use serde_json::json;
use sqlx::PgPool;

use crate::pair::{Pair, scalar};

/// Writes at the replica as somebody who circumvents the fence.
async fn write_at_the_replica(pair: &Pair, statement: &'static str) {
    let mut transaction = pair.service.begin().await.expect("a transaction");
    for statement in ["set local session_replication_role = replica", statement] {
        sqlx::query(statement).execute(&mut *transaction).await.expect(statement);
    }
    transaction.commit().await.expect("it commits");
}

#[sqlx::test(migrations = false)]
async fn corrupted_missing_and_foreign_rows_are_named_with_both_values_and_secrets_as_digests(pool: PgPool) {
    let pair = Pair::start(&pool, Part::Users).await;
    pair.execute(
        Side::Monolith,
        "insert into users (nickname, password_hash)
         select 'user' || number, 'hash' || number from generate_series(1, 2500) as number",
    )
    .await;
    pair.follow().await;
    let equal = pair.verify(Side::Service).await;
    assert_eq!((equal.rows_different, equal.rows_compared, equal.rows_total), (0, 2500, 2500), "{equal:?}");

    write_at_the_replica(&pair, "update users set password_hash = 'stolen' where id = 1234").await;
    write_at_the_replica(&pair, "delete from users where id = 7").await;
    write_at_the_replica(&pair, "insert into users (id, nickname, password_hash) values (9000, 'mallory', 'x')").await;
    let verification = pair.verify(Side::Service).await;
    assert_eq!(verification.rows_different, 3, "{verification:?}");
    let text = serde_json::to_string(&verification).expect("JSON");
    assert!(!text.contains("stolen") && !text.contains("hash1234"), "{text}");
    let of = |id: i64| verification.differences.iter().find(|it| it.key == json!({ "id": id })).expect("a difference");
    let (owner, replica) = (of(1234).owner.clone().expect("a row"), of(1234).replica.clone().expect("a row"));
    assert_eq!(owner["nickname"], replica["nickname"]);
    assert!(owner["password_hash"].as_str().expect("a digest").starts_with("sha256:"), "{owner}");
    assert_ne!(owner["password_hash"], replica["password_hash"]);
    assert!(of(7).owner.is_some() && of(7).replica.is_none());
    assert!(of(9000).owner.is_none() && of(9000).replica.is_some());

    // The owner writes the rows again: the touched rows are compared, and the differences.
    pair.execute(Side::Monolith, "update users set online = false where id in (7, 1234)").await;
    let again: Verification = pair.call(Side::Service, protocol::VERIFY, VerifyRequest { only_touched: true }).await;
    assert_eq!((again.rows_different, again.differences.len()), (1, 1), "{again:?}");
    pair.end().await;
}

#[sqlx::test(migrations = false)]
async fn sides_that_change_during_the_comparison_are_equal(pool: PgPool) {
    let pair = Pair::start(&pool, Part::Messages).await;
    pair.execute(Side::Monolith, "insert into users (nickname, password_hash) values ('ada', 'x')").await;
    let insert = "insert into messages (user_id, channel_id, source, html)
         select 1, 1, 'text ' || number, '<p>' from generate_series(1, 3000) as number";
    pair.execute(Side::Monolith, insert).await;
    pair.follow().await;
    let writing = async {
        for round in 0..40 {
            pair.execute(
                Side::Monolith,
                &format!("update messages set html = 'round {round}' where id % 40 = {round}"),
            )
            .await;
        }
    };
    let (verification, ()) = tokio::join!(pair.verify(Side::Service), writing);
    assert_eq!(verification.rows_different, 0, "{verification:?}");
    let touched: Verification = pair.call(Side::Service, protocol::VERIFY, VerifyRequest { only_touched: true }).await;
    assert_eq!(touched.rows_different, 0, "{touched:?}");
    assert_eq!(scalar::<i64>(&pair.service, "select count(*) from part_touched").await, 0);
    pair.end().await;
}
