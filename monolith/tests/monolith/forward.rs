//! Requests of a part while its owner changes.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use flack_handover::{Record, Side, Stage};
use flack_testing::{Call, Client, eventually};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::{
    sides::Sides,
    support::{PASSWORD, WRITES_MAX},
};

/// The monolith owns the part, and the service follows it.
const FOLLOWED: Record = Record { epoch: 2, ..Record::initial(Side::Monolith).at(Stage::Shifting) };
/// Long enough for a request without a wait.
const IMMEDIATELY: Duration = Duration::from_millis(300);
const NICKNAMES: &str = "select array_agg(nickname order by id) from users";

fn register(client: &Client, nickname: &str) -> Call {
    client.post("/api/users").json(&json!({ "nickname": nickname, "password": PASSWORD }))
}

async fn nicknames(pool: &PgPool) -> Vec<String> {
    let names: Option<Vec<String>> = sqlx::query_scalar(NICKNAMES).fetch_one(pool).await.expect("nicknames");
    names.unwrap_or_default()
}

async fn close(pool: &PgPool, epoch: i64) {
    sqlx::query("select close_part('users', $1)").bind(epoch).execute(pool).await.expect("closed");
}

/// Creates the sequence `inserts`, which counts the statements that insert users. It is not rolled back when the fence
/// refuses them.
async fn count_inserts(pool: &PgPool) {
    sqlx::raw_sql(
        "create sequence inserts;
         create function count_insert() returns trigger language plpgsql
         as $$ begin perform nextval('inserts'); return null; end $$;
         create trigger inserts before insert on users for each statement execute function count_insert()",
    )
    .execute(pool)
    .await
    .expect("a trigger before that of the fence");
}

async fn has_inserts(pool: &PgPool) -> bool {
    sqlx::query_scalar("select is_called from inserts").fetch_one(pool).await.expect("a sequence")
}

/// Inserts a user of another side without its events.
async fn insert(pool: &PgPool, id: i64, nickname: &str) {
    let mut transaction = pool.begin().await.expect("a transaction");
    sqlx::query("set local session_replication_role = replica").execute(&mut *transaction).await.expect("no triggers");
    sqlx::query("insert into users (id, nickname, password_hash) overriding system value values ($1, $2, 'x')")
        .bind(id)
        .bind(nickname)
        .execute(&mut *transaction)
        .await
        .expect("a user");
    transaction.commit().await.expect("committed");
}

#[sqlx::test(migrations = false)]
async fn a_request_at_either_side_is_answered_by_the_owner(pool: PgPool) {
    let owned_by_service = FOLLOWED.intent().switched(0);
    let sides = Sides::start(pool, owned_by_service, WRITES_MAX).await;
    sides.wait_for_role(&sides.users, "owner").await;
    register(&sides.monolith, "ada").expect(StatusCode::CREATED).await;
    register(&sides.service, "bob").expect(StatusCode::CREATED).await;
    assert_eq!(nicknames(&sides.users).await, ["ada", "bob"]);
    assert!(nicknames(&sides.flack).await.is_empty(), "nothing was written at the monolith");
    let user = sides.monolith.get("/api/users/1").expect(StatusCode::OK).await;
    assert_eq!(user.json()["nickname"], "ada");
    // A call from another part of the monolith: tokens asks users for the password.
    sides.monolith.sign_in("bob", PASSWORD).await;
    let taken = register(&sides.monolith, "ada").expect(StatusCode::CONFLICT).await;
    assert_eq!(taken.json()["type"], "/api/docs/problems#nickname-taken", "the owner's problem is passed on");
}

#[sqlx::test(migrations = false)]
async fn a_write_that_meets_the_closed_fence_is_made_at_the_new_owner(pool: PgPool) {
    let sides = Sides::start(pool, FOLLOWED, WRITES_MAX).await;
    sides.wait_for_role(&sides.users, "replica").await;
    let (intent, mut epoch) = (FOLLOWED.intent(), 3);
    sides.put(intent).await;
    close(&sides.flack, epoch).await;
    count_inserts(&sides.flack).await;
    let waiting = [register(&sides.monolith, "ada"), register(&sides.service, "bob")];
    let waiting = waiting.map(|call| tokio::spawn(call.expect(StatusCode::CREATED)));
    eventually("a write meets the closed fence", async || has_inserts(&sides.flack).await).await;
    assert!(waiting.iter().all(|request| !request.is_finished()), "they are kept");
    sides.put(intent.switched(0)).await;
    for request in waiting {
        request.await.expect("it was created");
    }
    let mut names = nicknames(&sides.users).await;
    names.sort();
    assert_eq!(names, ["ada", "bob"]);
    assert!(nicknames(&sides.flack).await.is_empty());

    // And back.
    let back = intent.switched(0).intent();
    epoch += 1;
    sides.put(back).await;
    close(&sides.users, epoch).await;
    let waiting = tokio::spawn(register(&sides.service, "eve").expect(StatusCode::CREATED));
    sides.put(back.switched(0)).await;
    waiting.await.expect("it was created");
    assert_eq!(nicknames(&sides.flack).await, ["eve"]);
}

#[sqlx::test(migrations = false)]
async fn a_write_that_meets_the_closed_fence_of_an_undone_attempt_is_made_at_the_old_owner(pool: PgPool) {
    let sides = Sides::start(pool, FOLLOWED, WRITES_MAX).await;
    let intent = FOLLOWED.intent();
    sides.put(intent).await;
    close(&sides.flack, intent.epoch).await;
    let waiting = tokio::spawn(register(&sides.monolith, "ada").expect(StatusCode::CREATED));
    sides.put(intent.undone()).await;
    waiting.await.expect("it was created");
    assert_eq!(nicknames(&sides.flack).await, ["ada"]);
}

#[sqlx::test(migrations = false)]
async fn a_write_is_refused_when_no_owner_appears_and_reads_go_on(pool: PgPool) {
    let sides = Sides::start(pool, FOLLOWED, WRITES_MAX).await;
    let ada = sides.monolith.register("ada").await;
    sides.put(FOLLOWED.intent()).await;
    close(&sides.flack, FOLLOWED.epoch + 1).await;
    let started = Instant::now();
    let refused = register(&sides.monolith, "bob").expect(StatusCode::SERVICE_UNAVAILABLE).await;
    assert!(started.elapsed() >= Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(refused.json()["type"], "/api/docs/problems#not-the-owner");
    for side in [&*sides.monolith, &sides.service] {
        let started = Instant::now();
        side.get(&format!("/api/users/{ada}")).expect(StatusCode::OK).await;
        assert!(started.elapsed() < IMMEDIATELY);
    }
}

#[sqlx::test(migrations = false)]
async fn a_forwarded_write_counts_once_at_the_process_that_it_has_reached_first(pool: PgPool) {
    let sides = Sides::start(pool, FOLLOWED.intent().switched(0), 2).await;
    sides.monolith.register("ada").await;
    let token = sides.monolith.sign_in("ada", PASSWORD).await;
    let write = |client: &Client| client.put("/api/users/me").bearer(&token);
    eventually("the service has the signing key", async || {
        sides.service.get("/api/users").bearer(&token).send().await.status == StatusCode::OK
    })
    .await;
    for left in [1, 0] {
        let answer = write(&sides.monolith).expect(StatusCode::NO_CONTENT).await;
        assert!(answer.header("ratelimit").contains(&format!("r={left};")), "{}", answer.header("ratelimit"));
    }
    write(&sides.monolith).expect(StatusCode::TOO_MANY_REQUESTS).await;
    for _ in 0..2 {
        write(&sides.service).expect(StatusCode::NO_CONTENT).await;
    }
    write(&sides.service).expect(StatusCode::TOO_MANY_REQUESTS).await;
}

#[sqlx::test(migrations = false)]
async fn a_replica_answers_only_reads_that_the_balancer_has_shifted_to_it(pool: PgPool) {
    let shifted = Record { read_percent: 50, ..FOLLOWED };
    let sides = Sides::start(pool, shifted, WRITES_MAX).await;
    insert(&sides.flack, 1001, "at-the-owner").await;
    insert(&sides.users, 1001, "at-the-replica").await;
    let nickname = async |client: &Client, headers: &[(&str, &str)]| {
        let call = headers.iter().fold(client.get("/api/users/1001"), |call, (name, value)| call.header(name, value));
        call.expect(StatusCode::OK).await.json()["nickname"].as_str().expect("a nickname").to_owned()
    };
    let read = ("x-flack-read", "replica");
    assert_eq!(nickname(&sides.service, &[]).await, "at-the-owner");
    assert_eq!(nickname(&sides.service, &[read]).await, "at-the-replica");
    assert_eq!(nickname(&sides.monolith, &[read]).await, "at-the-owner", "the owner is the owner");
    // A write at the replica is passed on, whatever its headers say.
    let call = register(&sides.service, "bob").header(read.0, read.1);
    call.expect(StatusCode::CREATED).await;
    assert_eq!(nicknames(&sides.users).await, ["at-the-replica"]);

    sides.put(shifted.intent().undone()).await;
    eventually("the replica has read the record", async || nickname(&sides.service, &[read]).await == "at-the-owner")
        .await;
}

#[sqlx::test(migrations = false)]
async fn reads_are_repeated_at_the_replica_and_a_difference_that_stays_is_counted(pool: PgPool) {
    let shadowed = Record { shadow_percent: 100, ..FOLLOWED.at(Stage::Shadowing) };
    let sides = Sides::start(pool, shadowed, WRITES_MAX).await;
    for pool in [&sides.flack, &sides.users] {
        insert(pool, 1, "ada").await;
    }
    insert(&sides.flack, 2, "bob").await;
    let counted = async || -> Option<(i64, i64, i64, Value)> {
        sqlx::query_as("select epoch, reads, mismatches, examples from shadow_reads where part = 'users'")
            .fetch_optional(&sides.flack)
            .await
            .expect("counts")
    };
    sides.monolith.get("/api/users/1").expect(StatusCode::OK).await;
    sides.monolith.get("/api/users/3").expect(StatusCode::NOT_FOUND).await;
    eventually("both are counted", async || counted().await == Some((2, 2, 0, json!([])))).await;

    sides.monolith.get("/api/users/2").expect(StatusCode::OK).await;
    eventually("the difference is counted", async || {
        counted().await.is_some_and(|(_, _, mismatches, _)| mismatches > 0)
    })
    .await;
    let (epoch, reads, mismatches, examples) = counted().await.expect("counts");
    assert_eq!((epoch, reads, mismatches), (2, 3, 1));
    assert_eq!(examples[0]["operation"], "get_user");
    assert!(examples[0]["owner"].as_str().is_some_and(|answer| answer.contains("bob")), "{examples}");
    assert!(examples[0]["replica"].as_str().is_some_and(|answer| answer.contains("404")), "{examples}");

    // The replica catches up while the comparison is repeated.
    insert(&sides.flack, 4, "late").await;
    sides.monolith.get("/api/users/4").expect(StatusCode::OK).await;
    insert(&sides.users, 4, "late").await;
    eventually("it is counted", async || counted().await.is_some_and(|(_, reads, ..)| reads == 4)).await;
    assert_eq!(counted().await.map(|(_, _, mismatches, _)| mismatches), Some(1));
}
