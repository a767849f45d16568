use std::{collections::HashSet, net::Ipv4Addr};

use super::*;

fn origin() -> Origin {
    Origin { class: Class::Known, address: Ipv4Addr::LOCALHOST.into(), account: "ada".to_owned() }
}

#[tokio::test]
async fn a_hash_matches_its_password_and_no_other() {
    let hash = hash(origin(), "correct horse".into()).await.unwrap();
    assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
    assert!(verify(origin(), "correct horse".into(), &hash).await.unwrap());
    assert!(!verify(origin(), "battery staple".into(), &hash).await.unwrap());
}

#[tokio::test]
async fn equal_passwords_have_different_hashes() {
    assert_ne!(hash(origin(), "same".into()).await.unwrap(), hash(origin(), "same".into()).await.unwrap());
}

#[tokio::test]
async fn an_unknown_user_costs_one_verification_that_no_password_passes() {
    // A malformed constant would be an error.
    verify_unknown_user(origin(), "anything".into()).await.unwrap();
    assert!(!verify(origin(), "anything".into(), DUMMY_HASH).await.unwrap());
}

#[tokio::test]
async fn a_hash_with_other_settings_is_verified_with_its_own() {
    // Settings of other versions: more memory, then less, on the same threads.
    for params in [Params::new(32 * 1024, 1, 2, Some(24)), Params::new(64, 1, 1, None)] {
        let stored: PasswordHash =
            Argon2::new(Algorithm::Argon2i, Version::V0x10, params.unwrap()).hash_password(b"other").unwrap();
        assert!(verify(origin(), "other".into(), &stored.to_string()).await.unwrap(), "{stored}");
        assert!(!verify(origin(), "current".into(), &stored.to_string()).await.unwrap(), "{stored}");
    }
    let hash = hash(origin(), "current".into()).await.unwrap();
    assert!(Argon2::default().verify_password(b"current", hash.as_str()).is_ok(), "{hash}");
}

#[tokio::test]
async fn a_malformed_hash_is_an_internal_error() {
    assert_eq!(verify(origin(), "x".into(), "plain").await.unwrap_err().status, 500);
}

#[tokio::test]
async fn a_thread_reuses_the_memory_of_its_last_hash() {
    let hashers: &'static Hashers = Box::leak(Box::new(Hashers::new(1)));
    let mut addresses = Vec::new();
    for password in ["one", "two"] {
        let address = hashers.run(origin(), move || {
            let _: PasswordHash = Argon2id.hash_password(password.as_bytes())?;
            Ok(MEMORY.with_borrow(|memory| (memory.as_ptr().addr(), memory.len())))
        });
        addresses.push(address.await.unwrap());
    }
    assert_eq!(addresses[0], addresses[1]);
    assert_eq!(addresses[0].1, MEMORY_KIB as usize, "a block has 1 KiB");
}

#[tokio::test]
async fn many_hashes_use_no_more_threads_than_allowed() {
    let hashers: &'static Hashers = Box::leak(Box::new(Hashers::new(2)));
    let work = (0..32).map(|_| hashers.run(origin(), || Ok(std::thread::current().id())));
    let threads = futures::future::try_join_all(work).await.unwrap();
    assert!(threads.iter().collect::<HashSet<_>>().len() <= 2, "{threads:?}");
}
