//! The fence: a database accepts writes of a part only while it owns the part.

use std::time::Duration;

use flack_handover::{
    Record, Side, Stage,
    fence::{self, Effect, Fence, Input, Refusal, Role},
};
use sqlx::PgPool;
use tokio::time::Instant;

use crate::things::{database, insert, scalar};

async fn fenced(pool: &PgPool) {
    database(pool).await;
    sqlx::query("select attach_part('things', '{thing}')").execute(pool).await.expect("a part");
}

fn code(error: &sqlx::Error) -> String {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code).unwrap_or_default().into_owned()
}

async fn close(pool: &PgPool, epoch: i64) -> sqlx::Result<i64> {
    sqlx::query_scalar("select close_part('things', $1)").bind(epoch).fetch_one(pool).await
}

async fn follow(pool: &PgPool, side: Side, record: &Record) -> sqlx::Result<String> {
    sqlx::query_scalar("select follow_record('things', $1, $2, $3, $4)")
        .bind(record.owner == side)
        .bind(record.epoch)
        .bind(record.stage.is_switching())
        .bind(record.marker)
        .fetch_one(pool)
        .await
}

async fn set(pool: &PgPool, fence: Fence, applied: i64) {
    sqlx::query("update ownership set role = $1, epoch = $2, applied = $3, marker = null")
        .bind(name(fence.role))
        .bind(fence.epoch)
        .bind(applied)
        .execute(pool)
        .await
        .expect("the fence is set");
}

async fn held(pool: &PgPool) -> (String, i64) {
    sqlx::query_as("select role, epoch from ownership").fetch_one(pool).await.expect("the fence")
}

fn name(role: Role) -> String {
    match role {
        Role::Owner => "owner",
        Role::Replica => "replica",
        Role::Closed => "closed",
    }
    .to_owned()
}

/// Compares the SQL with the state machine, for every fence and every input around its epoch.
#[sqlx::test(migrations = false)]
async fn the_database_decides_as_the_state_machine(pool: PgPool) {
    fenced(&pool).await;
    let epoch = 5;
    let following = Record { epoch, ..Record::initial(Side::Monolith).at(Stage::Following) };
    let records = [following, following.intent(), following.intent().undone(), following.intent().switched(7)];
    let records = records.into_iter().flat_map(|record| [record, record.intent(), record.intent().switched(7)]);
    let records: Vec<Record> = records.collect();
    for role in [Role::Owner, Role::Replica, Role::Closed] {
        let fence = Fence { role, epoch: epoch + 1 };
        for attempt in epoch..epoch + 4 {
            set(&pool, fence, 0).await;
            let (expected, effects) = fence::decide(&fence, Input::Close { epoch: attempt });
            let markers: i64 = scalar(&pool, "select count(*) from journal where entity = 'ownership'").await;
            let result = close(&pool, attempt).await;
            let written: i64 = scalar(&pool, "select count(*) from journal where entity = 'ownership'").await;
            assert_eq!(held(&pool).await, (name(expected.role), expected.epoch), "{fence:?} closes for {attempt}");
            let writes_marker = effects.iter().any(|effect| matches!(effect, Effect::WriteMarker { .. }));
            assert_eq!(written - markers, i64::from(writes_marker), "{fence:?} closes for {attempt}");
            match (effects.last().expect("an answer"), result) {
                (Effect::AnswerRefused(Refusal::OldEpoch { .. }), Err(error)) => assert_eq!(code(&error), "FL002"),
                (Effect::AnswerRefused(Refusal::Replica), Err(error)) => assert_eq!(code(&error), "FL001"),
                // The marker of this fence was not written by the test, so it is null.
                (Effect::AnswerClosed { .. }, Ok(_)) => assert!(writes_marker),
                (Effect::AnswerClosed { .. }, Err(_)) => assert!(!writes_marker),
                (effect, result) => panic!("{fence:?} closes for {attempt}: {effect:?}, but {result:?}"),
            }
        }
        for record in &records {
            for (side, applied) in [(Side::Monolith, 6), (Side::Monolith, 7), (Side::Service, 6), (Side::Service, 7)] {
                set(&pool, fence, applied).await;
                let is_marker_applied = record.marker.is_none_or(|marker| applied >= marker);
                let input = Input::Record { side, record: *record, is_marker_applied };
                let (expected, _) = fence::decide(&fence, input);
                let role = follow(&pool, side, record).await.expect("the record is followed");
                assert_eq!(role, name(expected.role), "{fence:?} {side:?} {record:?} {applied}");
                assert_eq!(held(&pool).await, (role, expected.epoch), "{fence:?} {side:?} {record:?} {applied}");
            }
        }
    }
}

#[sqlx::test(migrations = false)]
async fn a_repeated_close_returns_the_same_marker(pool: PgPool) {
    fenced(&pool).await;
    insert(&pool, "one").await;
    let marker = close(&pool, 1).await.expect("closed");
    assert_eq!(close(&pool, 1).await.expect("closed"), marker);
    assert_eq!(scalar::<i64>(&pool, "select max(id) from journal").await, marker);
}

#[sqlx::test(migrations = false)]
async fn a_close_waits_for_open_transactions_for_a_second_and_then_changes_nothing(pool: PgPool) {
    fenced(&pool).await;
    let mut open = pool.begin().await.expect("a transaction");
    sqlx::query("insert into thing (name) values ('open')").execute(&mut *open).await.expect("a write");
    let started = Instant::now();
    let error = close(&pool, 1).await.expect_err("the transaction is open");
    assert_eq!(code(&error), "55P03");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(held(&pool).await, ("owner".to_owned(), 0));
    open.commit().await.expect("the transaction commits");
    close(&pool, 1).await.expect("closed");
}

#[sqlx::test(migrations = false)]
async fn a_write_at_another_isolation_level_is_refused(pool: PgPool) {
    fenced(&pool).await;
    for level in ["repeatable read", "serializable"] {
        let mut transaction = pool.begin().await.expect("a transaction");
        let set = sqlx::AssertSqlSafe(format!("set transaction isolation level {level}"));
        sqlx::query(set).execute(&mut *transaction).await.expect("the level is set");
        let write = sqlx::query("insert into thing (name) values ('x')").execute(&mut *transaction).await;
        let error = write.expect_err("the level is refused");
        assert!(error.to_string().contains(level), "{error}");
    }
}

#[sqlx::test(migrations = false)]
async fn the_applier_writes_a_replica_without_journal_and_keeps_versions_and_nobody_else_does(pool: PgPool) {
    fenced(&pool).await;
    set(&pool, Fence { role: Role::Replica, epoch: 3 }, 0).await;
    let mut applier = pool.begin().await.expect("a transaction");
    sqlx::query("set local flack.applier = 'things'").execute(&mut *applier).await.expect("the setting");
    for statement in [
        "insert into thing (id, name, version) overriding system value values (7, 'one', 4)",
        "update thing set name = 'two', version = 9 where id = 7",
    ] {
        sqlx::query(statement).execute(&mut *applier).await.expect(statement);
    }
    applier.commit().await.expect("the applier commits");
    assert_eq!(scalar::<i64>(&pool, "select version from thing").await, 9);
    assert_eq!(scalar::<i64>(&pool, "select count(*) from journal").await, 0);

    for (setting, role) in
        [("", Role::Replica), ("others", Role::Replica), ("things", Role::Owner), ("things", Role::Closed)]
    {
        set(&pool, Fence { role, epoch: 3 }, 0).await;
        let mut writer = pool.begin().await.expect("a transaction");
        sqlx::query("select set_config('flack.applier', $1, true)")
            .bind(setting)
            .execute(&mut *writer)
            .await
            .expect("the setting");
        let error = sqlx::query("delete from thing").execute(&mut *writer).await.expect_err("the write is refused");
        assert_eq!(code(&error), "FL001", "{setting:?} {role:?}");
    }
    // The setting of another part neither opens the fence nor hides the change from the journal.
    set(&pool, Fence { role: Role::Owner, epoch: 4 }, 0).await;
    let mut owner = pool.begin().await.expect("a transaction");
    sqlx::query("set local flack.applier = 'others'").execute(&mut *owner).await.expect("the setting");
    sqlx::query("update thing set name = 'three'").execute(&mut *owner).await.expect("the owner writes");
    owner.commit().await.expect("the owner commits");
    let journaled: (i64, i64) =
        sqlx::query_as("select version, epoch from journal").fetch_one(&pool).await.expect("one journal row");
    assert_eq!(journaled, (10, 4));
}

#[sqlx::test(migrations = false)]
async fn only_an_owner_writes_a_snapshot_and_its_rows_have_the_epoch(pool: PgPool) {
    fenced(&pool).await;
    insert(&pool, "one").await;
    set(&pool, Fence { role: Role::Owner, epoch: 6 }, 0).await;
    let snapshot = "select queued from snapshot_portion('thing', null, 10)";
    assert_eq!(scalar::<i64>(&pool, snapshot).await, 1);
    assert_eq!(scalar::<i64>(&pool, "select epoch from journal order by id desc limit 1").await, 6);
    set(&pool, Fence { role: Role::Replica, epoch: 6 }, 0).await;
    let error = sqlx::query(snapshot).execute(&pool).await.expect_err("a replica has no rows of its own");
    assert_eq!(code(&error), "FL001");
}
