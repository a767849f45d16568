//! The limits of guesses of passwords.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::support::{ELSEWHERE, HOME, PASSWORD, Service};
use axum::http::StatusCode;
use flack_users::{guesses, store::Store};
use futures::future::join_all;
use sqlx::PgPool;

/// Guesses for one account at once, from an address at which it has signed in, and from another one.
const FROM_KNOWN_ADDRESS: usize = 10;
const FROM_OTHER_ADDRESSES: usize = 5;
const FROM_ONE_ADDRESS: usize = 40;
/// In which one more guess becomes possible.
const SECONDS_PER_GUESS: u64 = 6;
/// At an address that is new for the account, when the whole bucket is empty.
const WAIT_SECONDS_MAX: u64 = 6 * SECONDS_PER_GUESS;

/// Counts the statuses of concurrent sign-ins.
async fn statuses(
    sign_ins: impl IntoIterator<Item = impl Future<Output = flack_testing::Answer>>,
) -> BTreeMap<u16, usize> {
    let mut counts = BTreeMap::new();
    for answer in join_all(sign_ins).await {
        *counts.entry(answer.status.as_u16()).or_default() += 1;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            let seconds: u64 = answer.header("retry-after").parse().expect("seconds");
            assert!((1..=WAIT_SECONDS_MAX).contains(&seconds), "{seconds}");
            assert!(answer.json()["type"].as_str().is_some_and(|kind| kind.ends_with("#too-many-requests")));
        }
    }
    counts
}

#[sqlx::test(migrations = false)]
async fn guesses_for_an_account_are_limited_over_all_instances_and_addresses(pool: PgPool) {
    let (one, other) = (Service::start(&pool).await, Service::start(&pool).await);
    one.register("ada").await;
    // All at once: no guess may begin while the result of another one is open.
    let addresses: Vec<String> = (0..10).map(|number| format!("198.51.100.{number}")).collect();
    let guesses = (0..100).map(|number| {
        let service = if number % 2 == 0 { &one } else { &other };
        let address = if number < 50 { HOME } else { &addresses[number % addresses.len()] };
        service.sign_in(address, if number % 3 == 0 { "ADA" } else { "ada" }, "wrong")
    });
    let started = Instant::now();
    let counts = statuses(guesses).await;
    let possible = FROM_KNOWN_ADDRESS + usize::try_from(started.elapsed().as_secs() / SECONDS_PER_GUESS).unwrap();
    assert!((FROM_KNOWN_ADDRESS..=possible).contains(&counts[&401]), "{counts:?}");
    assert_eq!(counts[&401] + counts[&429], 100, "{counts:?}");

    // Kept when an instance restarts; then one guess for each six seconds.
    while one.sign_in(HOME, "ada", "wrong").await.status == StatusCode::UNAUTHORIZED {}
    let restarted = Service::start(&pool).await;
    let refused = restarted.sign_in(HOME, "ada", PASSWORD).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.header("retry-after").parse::<u64>().unwrap() <= SECONDS_PER_GUESS);
    forward(&pool, Duration::from_secs(SECONDS_PER_GUESS)).await;
    assert_eq!(restarted.sign_in(HOME, "ada", PASSWORD).await.status, StatusCode::OK);
}

#[sqlx::test(migrations = false)]
async fn a_stranger_cannot_lock_the_owner_out(pool: PgPool) {
    let service = Service::start(&pool).await;
    service.register("ada").await;
    for _ in 0..2 {
        let guesses = (0..20).map(|_| service.sign_in(ELSEWHERE, "ada", "wrong"));
        let counts = statuses(guesses).await;
        assert!(counts[&429] >= 20 - FROM_OTHER_ADDRESSES, "{counts:?}");
        // The owner may even be wrong.
        assert_eq!(service.sign_in(HOME, "ada", "typo").await.status, StatusCode::UNAUTHORIZED);
        assert_eq!(service.sign_in(HOME, "ada", PASSWORD).await.status, StatusCode::OK);
    }
    // At a new address the owner waits as long as for one guess, then the address is known.
    let elsewhere = "198.51.100.2";
    assert_eq!(service.sign_in(elsewhere, "ada", PASSWORD).await.status, StatusCode::TOO_MANY_REQUESTS);
    forward(&pool, Duration::from_secs(3 * SECONDS_PER_GUESS)).await;
    assert_eq!(service.sign_in(elsewhere, "ada", PASSWORD).await.status, StatusCode::OK);
    statuses((0..20).map(|_| service.sign_in(ELSEWHERE, "ada", "wrong"))).await;
    assert_eq!(service.sign_in(elsewhere, "ada", PASSWORD).await.status, StatusCode::OK);
}

#[sqlx::test(migrations = false)]
async fn right_passwords_are_no_guesses(pool: PgPool) {
    let service = Service::start(&pool).await;
    service.register("ada").await;
    for _ in 0..2 * FROM_KNOWN_ADDRESS {
        assert_eq!(service.sign_in(HOME, "ada", PASSWORD).await.status, StatusCode::OK);
    }
}

#[sqlx::test(migrations = false)]
async fn unknown_nicknames_have_the_limits_of_accounts(pool: PgPool) {
    let service = Service::start(&pool).await;
    service.register("ada").await;
    for nickname in ["ada", "nobody"] {
        let guesses = (0..10).map(|_| service.sign_in(ELSEWHERE, nickname, "wrong"));
        assert_eq!(statuses(guesses).await, BTreeMap::from([(401, FROM_OTHER_ADDRESSES), (429, 5)]), "{nickname}");
    }
}

#[sqlx::test(migrations = false)]
async fn an_unknown_nickname_takes_as_long_as_a_wrong_password(pool: PgPool) {
    let service = Service::start(&pool).await;
    service.register("ada").await;
    // The shortest of several: other processes use the cores, too.
    let mut shortest = [Duration::MAX; 2];
    for _ in 0..FROM_OTHER_ADDRESSES {
        for (nickname, shortest) in ["ada", "nobody"].into_iter().zip(&mut shortest) {
            let started = Instant::now();
            assert_eq!(service.sign_in(ELSEWHERE, nickname, "wrong").await.status, StatusCode::UNAUTHORIZED);
            *shortest = started.elapsed().min(*shortest);
        }
    }
    let [wrong, unknown] = shortest;
    assert!(2 * unknown > wrong && 2 * wrong > unknown, "wrong password {wrong:?}, unknown nickname {unknown:?}");
}

#[sqlx::test(migrations = false)]
async fn one_address_cannot_try_many_accounts(pool: PgPool) {
    let service = Service::start(&pool).await;
    service.register("ada").await;
    let nicknames: Vec<String> = (0..60).map(|number| format!("user{number}")).collect();
    let mut counts = BTreeMap::new();
    // One after the other, so that the queue is not full.
    for nickname in &nicknames {
        *counts.entry(service.sign_in(HOME, nickname, "123456").await.status.as_u16()).or_insert(0) += 1;
    }
    // Some tokens come back meanwhile.
    assert!((FROM_ONE_ADDRESS..FROM_ONE_ADDRESS + 10).contains(&counts[&401]), "{counts:?}");
    assert_eq!(service.sign_in(HOME, "ada", PASSWORD).await.status, StatusCode::OK, "she is known there");
    assert_eq!(service.sign_in(ELSEWHERE, &nicknames[0], "x").await.status, StatusCode::UNAUTHORIZED);
}

#[sqlx::test(migrations = false)]
async fn a_user_has_the_ten_addresses_that_were_used_last(pool: PgPool) {
    let service = Service::start(&pool).await;
    let (ada, _) = service.register("ada").await;
    for number in 0..12 {
        let address = format!("198.51.100.{number}");
        assert_eq!(service.sign_in(&address, "ada", PASSWORD).await.status, StatusCode::OK);
    }
    let addresses: Vec<String> =
        sqlx::query_scalar("select host(address) from known_addresses where user_id = $1 order by last_success_at")
            .bind(ada)
            .fetch_all(&pool)
            .await
            .expect("a list");
    assert_eq!(addresses, (2..12).map(|number| format!("198.51.100.{number}")).collect::<Vec<_>>());
}

#[sqlx::test(migrations = false)]
async fn a_bucket_that_is_full_again_is_deleted(pool: PgPool) {
    let service = Service::start(&pool).await;
    service.register("ada").await;
    service.sign_in(HOME, "ada", "wrong").await;
    let count = async || -> i64 {
        sqlx::query_scalar("select count(*) from credential_limits").fetch_one(&pool).await.expect("a count")
    };
    guesses::clean(&Store::new(pool.clone())).await.expect("a cleanup");
    assert_eq!(count().await, 1);
    forward(&pool, Duration::from_mins(1)).await;
    guesses::clean(&Store::new(pool.clone())).await.expect("a cleanup");
    assert_eq!(count().await, 0);
}

/// Lets time pass for all buckets.
async fn forward(pool: &PgPool, duration: Duration) {
    sqlx::query("update credential_limits set full_at = full_at - make_interval(secs => $1)")
        .bind(duration.as_secs_f64())
        .execute(pool)
        .await
        .expect("an update");
}
