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
    sqlx::query_scalar("select follow_record('things', $1, $2, $3, $4, $5)")
        .bind(record.owner == side)
        .bind(record.epoch)
        .bind(record.stage.is_switching())
        .bind(record.marker)
        .bind(record.stage.is_followed())
        .fetch_one(pool)
        .await
}

async fn set(pool: &PgPool, fence: Fence, applied: i64) {
    set_followed(pool, fence, applied, None).await;
}

async fn set_followed(pool: &PgPool, fence: Fence, applied: i64, since: Option<i64>) {
    sqlx::query("update ownership set role = $1, epoch = $2, applied = $3, marker = null, followed_since = $4")
        .bind(name(fence.role))
        .bind(fence.epoch)
        .bind(applied)
        .bind(since)
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
    // Nobody follows at these stages.
    let alone = [Side::Monolith, Side::Service].map(|side| Record { epoch: epoch + 2, ..Record::initial(side) });
    let records = records.chain(alone);
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
            for (side, applied, since) in [
                (Side::Monolith, 6, None),
                (Side::Monolith, 7, Some(3)),
                (Side::Service, 6, Some(3)),
                (Side::Service, 7, None),
            ] {
                set_followed(&pool, fence, applied, since).await;
                let is_marker_applied = record.marker.is_none_or(|marker| applied >= marker);
                let input = Input::Record { side, record: *record, is_marker_applied };
                let (expected, _) = fence::decide(&fence, input);
                let role = follow(&pool, side, record).await.expect("the record is followed");
                assert_eq!(role, name(expected.role), "{fence:?} {side:?} {record:?} {applied}");
                assert_eq!(held(&pool).await, (role, expected.epoch), "{fence:?} {side:?} {record:?} {applied}");
                let expected = fence::followed_since(fence, expected, since, side, record);
                let followed_since: Option<i64> = scalar(&pool, "select followed_since from ownership").await;
                assert_eq!(followed_since, expected, "{fence:?} {side:?} {record:?} {applied} {since:?}");
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
    assert_eq!(scalar::<i64>(&pool, "select max(id) from part_changes").await, marker);
    assert_eq!(scalar::<i64>(&pool, "select count(*) from journal where entity = 'ownership'").await, 1);
}

#[sqlx::test(migrations = false)]
async fn changes_are_recorded_only_while_the_part_is_followed_and_without_values(pool: PgPool) {
    fenced(&pool).await;
    insert(&pool, "before").await;
    let following = Record { epoch: 2, ..Record::initial(Side::Monolith).at(Stage::Following) };
    assert_eq!(follow(&pool, Side::Monolith, &following).await.expect("followed"), "owner");
    for write in [
        "insert into thing (name) values ('one')",
        "update thing set name = 'two' where name = 'one'",
        "delete from thing where name = 'before'",
    ] {
        sqlx::query(write).execute(&pool).await.expect(write);
    }
    // An attempt that was undone raises the epoch, and the log goes on.
    follow(&pool, Side::Monolith, &following.intent().undone()).await.expect("followed");
    sqlx::query("update thing set name = 'three' where name = 'two'").execute(&pool).await.expect("a write");
    let keys: Vec<i64> = sqlx::query_scalar("select (key ->> 'id')::bigint from part_changes order by id")
        .fetch_all(&pool)
        .await
        .expect("the log");
    assert_eq!(keys, [2, 2, 1, 2]);
    let log: String = scalar(&pool, "select string_agg(to_jsonb(item)::text, '') from part_changes as item").await;
    assert!(!log.contains("hidden") && !log.contains("three"), "{log}");
    follow(&pool, Side::Monolith, &Record { epoch: 9, ..Record::initial(Side::Monolith) }).await.expect("followed");
    insert(&pool, "after").await;
    assert_eq!(scalar::<i64>(&pool, "select count(*) from part_changes").await, 0);
}

#[sqlx::test(migrations = false)]
async fn a_closed_owner_becomes_a_replica_that_has_all_rows_and_another_one_has_to_copy(pool: PgPool) {
    fenced(&pool).await;
    let following = Record { epoch: 2, ..Record::initial(Side::Monolith).at(Stage::Following) };
    follow(&pool, Side::Monolith, &following).await.expect("followed");
    let marker = close(&pool, 3).await.expect("closed");
    let switched = following.intent().switched(marker);
    assert_eq!(follow(&pool, Side::Monolith, &switched).await.expect("followed"), "replica");
    let state = "select (since, is_copied)::text from part_replicas";
    assert_eq!(scalar::<String>(&pool, state).await, "(3,t)");
    set(&pool, Fence { role: Role::Owner, epoch: 4 }, 0).await;
    follow(&pool, Side::Monolith, &Record { epoch: 5, ..switched }).await.expect("followed");
    assert_eq!(scalar::<String>(&pool, state).await, "(,f)");
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
