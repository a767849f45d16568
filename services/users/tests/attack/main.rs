//! Sign-ins of honest users while somebody guesses passwords. A process of its own: it uses all cores.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::http::StatusCode;
use flack_common::database;
use flack_testing::TestService;
use flack_users::{MIGRATIONS, config::GuessLimits, handlers::Users, store::Store};
use serde_json::json;
use sqlx::PgPool;

const HOME: &str = "192.0.2.1";
const ELSEWHERE: &str = "198.51.100.1";
const PASSWORD: &str = "correct horse";

/// What 100 clients try without a pause.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Attack {
    OneAccount,
    ManyAccounts,
    UnknownNicknames,
}

const ATTACKED_ACCOUNTS: usize = 20;
const ATTACKERS: usize = 100;
const SIGN_INS: usize = 30;
const SIGN_IN_MAX: Duration = Duration::from_secs(2);

#[sqlx::test(migrations = false)]
async fn honest_users_sign_in_while_a_hundred_clients_guess_at_their_address_or_another_one(pool: PgPool) {
    let service = Arc::new(start(&pool).await);
    for address in [HOME, ELSEWHERE] {
        for number in 0..ATTACKED_ACCOUNTS {
            register(&service, address, &format!("victim-{number}-{}", address.len())).await;
        }
    }
    register(&service, HOME, "ada").await;
    for attack in [Attack::OneAccount, Attack::ManyAccounts, Attack::UnknownNicknames] {
        for address in [ELSEWHERE, HOME] {
            let is_over = Arc::new(AtomicBool::new(false));
            let attackers: Vec<_> = (0..ATTACKERS)
                .map(|attacker| {
                    let (service, is_over) = (Arc::clone(&service), Arc::clone(&is_over));
                    tokio::spawn(async move {
                        let mut attempt = 0;
                        while !is_over.load(Ordering::Relaxed) {
                            let nickname = match attack {
                                Attack::OneAccount => format!("victim-0-{}", address.len()),
                                Attack::ManyAccounts => {
                                    format!("victim-{}-{}", attacker % ATTACKED_ACCOUNTS, address.len())
                                }
                                Attack::UnknownNicknames => format!("nobody-{attacker}-{attempt}"),
                            };
                            attempt += 1;
                            let status = sign_in(&service, address, &nickname, "wrong").await;
                            assert!([401, 429, 503].contains(&status.as_u16()), "{status}");
                        }
                    })
                })
                .collect();
            for _ in 0..SIGN_INS {
                let started = Instant::now();
                let status = sign_in(&service, HOME, "ada", PASSWORD).await;
                assert_eq!(status, StatusCode::OK, "{attack:?} from {address}");
                assert!(started.elapsed() < SIGN_IN_MAX, "{attack:?} from {address}: {:?}", started.elapsed());
            }
            is_over.store(true, Ordering::Relaxed);
            for attacker in attackers {
                attacker.await.expect("an attacker gets answers");
            }
        }
    }
}

async fn start(pool: &PgPool) -> TestService {
    database::migrate(pool, &MIGRATIONS).await.expect("the migrations apply");
    let users = Arc::new(Users::new(Store::new(pool.clone()), GuessLimits::default()));
    TestService::new(|verifier| flack_api::users::router(users, verifier))
}

async fn register(service: &TestService, address: &str, nickname: &str) {
    let body = json!({ "nickname": nickname, "password": PASSWORD });
    let call = service.post("/api/users").header("x-forwarded-for", address).json(&body);
    call.expect(StatusCode::CREATED).await;
}

async fn sign_in(service: &TestService, address: &str, nickname: &str, password: &str) -> StatusCode {
    service.get("/api/users/me").header("x-forwarded-for", address).basic(nickname, password).send().await.status
}
