//! Impersonation by nickname: what is refused, what collides, and users of before these rules.

use axum::http::StatusCode;
use flack_common::database;
use flack_testing::eventually;
use flack_users::{MIGRATIONS, nickname, nickname_keys, store::Store};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{PASSWORD, Service};

/// A hash of no password: these users only hold a nickname.
const NO_PASSWORD: &str = "none";

/// Registers and returns the status, and the detail of a problem.
async fn register(service: &Service, nickname: &str) -> (StatusCode, Value) {
    let body = json!({ "nickname": nickname, "password": PASSWORD });
    let answer = service.post("/api/users").json(&body).send().await;
    (answer.status, answer.json())
}

/// Inserts a user as a version without keys does, with the password of `register`.
async fn insert_without_keys(pool: &PgPool, nickname: &str, password_hash: &str) -> i64 {
    sqlx::query_scalar("insert into users (nickname, password_hash) values ($1, $2) returning id")
        .bind(nickname)
        .bind(password_hash)
        .fetch_one(pool)
        .await
        .expect("an insert")
}

/// Returns the hash of `PASSWORD`, made by the part itself.
async fn hash_of_the_password(service: &Service, pool: &PgPool) -> String {
    let (id, _) = service.register("hash-source").await;
    sqlx::query_scalar("select password_hash from users where id = $1").bind(id).fetch_one(pool).await.expect("a hash")
}

async fn missing_keys(pool: &PgPool) -> i64 {
    sqlx::query_scalar(
        "select count(*) from users
         where not exists (
             select from nickname_keys as held where held.user_id = users.id and held.nickname = users.nickname
         )",
    )
    .fetch_one(pool)
    .await
    .expect("a count")
}

#[sqlx::test(migrations = false)]
async fn a_nickname_with_characters_that_nobody_sees_is_refused(pool: PgPool) {
    let service = Service::start(&pool).await;
    for (attack, named) in [
        ("a\u{202e}lapyap", "U+202E"),            // right-to-left override
        ("\u{202d}paypal", "U+202D"),             // left-to-right override
        ("\u{2066}paypal\u{2069}", "U+2066"),     // isolates
        ("pay\u{200e}pal", "U+200E"),             // left-to-right mark
        ("pay\u{200b}pal", "U+200B"),             // zero-width space
        ("pay\u{200d}pal", "U+200D"),             // zero-width joiner
        ("pay\u{2060}pal", "U+2060"),             // word joiner
        ("pay\u{ad}pal", "U+00AD"),               // soft hyphen
        ("pay\u{80}pal", "U+0080"),               // C1 controls
        ("paypal\u{9f}", "U+009F"),               //
        ("paypal\u{115f}", "U+115F"),             // Hangul fillers
        ("paypal\u{1160}", "U+1160"),             //
        ("\u{3164}", "U+3164"),                   //
        ("paypal\u{ffa0}", "U+FFA0"),             //
        ("paypal\u{e0001}", "U+E0001"),           // tag characters
        ("paypal\u{e0061}\u{e007f}", "U+E0061"),  //
        ("pay\u{fe0f}pal", "U+FE0F"),             // variation selectors without an emoji
        ("paypal\u{e0100}", "U+E0100"),           //
        ("pay\u{34f}pal", "U+034F"),              // combining grapheme joiner
        ("\u{2800}", "U+2800"),                   // empty Braille pattern
        ("pay\u{e000}pal", "U+E000"),             // private use
        ("pay\u{378}pal", "U+0378"),              // unassigned
        ("pay\u{fdd0}pal", "U+FDD0"),             // noncharacter
        ("\u{1f468}\u{200d}\u{1f469}", "U+200D"), // joined emoji
        ("\u{301}paypal", "begins with"),
        ("p\u{300}\u{301}\u{302}\u{303}\u{304}", "more than 4"),
        ("p\u{323}\u{323}", "twice"),
        (&"\u{958}".repeat(17), "34 characters"), // two characters each in NFC
    ] {
        let (status, problem) = register(&service, attack).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{attack:?}: {problem}");
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.contains(named) && detail.contains("1 to 32 visible characters"), "{attack:?}: {detail}");
    }
    for white_space in
        ["pay\u{a0}pal", "pay\u{2003}pal", "pay\u{3000}pal", "pay\u{2028}pal", "pay\u{85}pal", "paypal\u{feff}"]
    {
        assert_eq!(register(&service, white_space).await.0, StatusCode::BAD_REQUEST, "{white_space:?}");
    }
    let users: i64 = sqlx::query_scalar("select count(*) from users").fetch_one(&pool).await.expect("a count");
    assert_eq!(users, 0);
}

#[sqlx::test(migrations = false)]
async fn a_nickname_that_is_confusable_with_a_taken_one_is_taken(pool: PgPool) {
    let service = Service::start(&pool).await;
    for taken in ["paypal", "Ünal", "Ivan", "modern", "ΡΑΥΡΑL2", "B0b", "\u{5d0}\u{5d1}1"] {
        service.register(taken).await;
    }
    for attack in [
        "PayPal",
        "p\u{430}ypal",                                     // one Cyrillic letter
        "\u{440}\u{430}\u{443}\u{440}\u{430}l",             // Cyrillic but for the l
        "\u{420}\u{410}\u{423}\u{420}\u{410}L",             // the same in upper case
        "\u{3a1}\u{391}\u{3a5}\u{3a1}\u{391}L",             // Greek capitals
        "\u{ff50}\u{ff41}\u{ff59}\u{ff50}\u{ff41}\u{ff4c}", // full-width
        "\u{1d5c9}aypal",                                   // mathematical sans-serif
        "paypaI",
        "paypa1",
        "U\u{308}nal",
        "u\u{308}NAL",
        "lvan",
        "\u{456}van", // Cyrillic і
        "rnodern",
        "paypal2", // after the Greek capitals
        "BOB",
        "b0b",
        "1\u{5d0}\u{5d1}", // displayed as \u{5d0}\u{5d1}1 is
    ] {
        let (status, problem) = register(&service, attack).await;
        assert_eq!(status, StatusCode::CONFLICT, "{attack:?}: {problem}");
        assert!(problem["type"].as_str().is_some_and(|kind| kind.ends_with("#nickname-taken")), "{problem}");
    }
}

#[sqlx::test(migrations = false)]
async fn honest_nicknames_of_many_languages_are_accepted_beside_each_other(pool: PgPool) {
    let service = Service::start(&pool).await;
    for nickname in [
        "Ana",
        "Anna",
        "Ünal",
        "Unal",
        "Łukasz",
        "Lukasz",
        "Ελένη",
        "Мария",
        "Марія",
        "日本",
        "さくら",
        "田中さん",
        "김철수",
        "محمد",
        "דוד",
        "देवनागरी",
        "ปริญญา",
        "Nguyễn",
        "Žofie",
        "Ólafur",
        "İrem",
        "Straße",
        "O'Neil",
        "x_y-z.9",
        "Elia",
        "Ella",
        "Ian",
        "Ina",
        "user1",
        "user2",
        "user10",
        "poster-0",
        "poster-1",
        "poster-10",
        "ba0b1e",
        "deadbeef01",
        "🚀",
        "anna🎉",
        "👍🏽",
        "🇵🇱",
        "★star★",
        "Ꮳherokee",
        "ka\u{302}\u{301}t",
        "ა",
        "Ծովինար",
    ] {
        let (status, user) = register(&service, nickname).await;
        assert_eq!(status, StatusCode::CREATED, "{nickname}: {user}");
        service.get("/api/users/me").basic(nickname, PASSWORD).expect(StatusCode::OK).await;
    }
}

#[sqlx::test(migrations = false)]
async fn a_nickname_is_stored_composed_and_an_emoji_without_its_selector(pool: PgPool) {
    let service = Service::start(&pool).await;
    for (sent, stored) in [("U\u{308}nal", "\u{dc}nal"), ("I\u{2764}\u{fe0f}Rust", "I\u{2764}Rust")] {
        let (status, user) = register(&service, sent).await;
        assert_eq!((status, &user["nickname"]), (StatusCode::CREATED, &json!(stored)));
        let me = service.get("/api/users/me").basic(sent, PASSWORD).expect(StatusCode::OK).await.json();
        assert_eq!(me["id"], user["id"], "the user signs in as it was typed");
    }
}

#[sqlx::test(migrations = false)]
async fn nicknames_have_up_to_32_characters_of_any_size(pool: PgPool) {
    let service = Service::start(&pool).await;
    // The last one has the longest keys: one character stands for 18.
    for character in ["ü", "語", "\u{fdfa}"] {
        assert_eq!(register(&service, &character.repeat(32)).await.0, StatusCode::CREATED);
        assert_eq!(register(&service, &character.repeat(33)).await.0, StatusCode::BAD_REQUEST);
    }
}

async fn waiting_for_a_lock(pool: &PgPool) -> i64 {
    sqlx::query_scalar(
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
    )
    .fetch_one(pool)
    .await
    .expect("a count")
}

#[sqlx::test(migrations = false)]
async fn one_of_two_concurrent_registrations_of_confusable_nicknames_succeeds(pool: PgPool) {
    let service = Service::start(&pool).await;
    // New keys are committed only when the test allows it: no registration sees the keys of the other one.
    for statement in [
        "create function wait_for_the_test() returns trigger language plpgsql as
         $$ begin perform pg_advisory_xact_lock_shared(1); return null; end $$",
        "create constraint trigger wait_for_the_test after insert on nickname_keys
         deferrable initially deferred for each row execute function wait_for_the_test()",
    ] {
        sqlx::query(statement).execute(&pool).await.expect("a trigger");
    }
    for (one, other) in [("paypal", "p\u{430}ypal"), ("Ivan", "\u{456}van"), ("lan", "Ian")] {
        let mut hold = pool.begin().await.expect("a transaction");
        sqlx::query("select pg_advisory_xact_lock(1)").execute(&mut *hold).await.expect("the lock");
        let release = async {
            eventually("both have inserted their keys", async || waiting_for_a_lock(&pool).await == 2).await;
            hold.rollback().await.expect("the lock is released");
        };
        let answers = tokio::join!(register(&service, one), register(&service, other), release);
        let mut statuses = [answers.0.0, answers.1.0];
        statuses.sort();
        assert_eq!(statuses, [StatusCode::CREATED, StatusCode::CONFLICT], "{one} and {other}");
    }
}

#[sqlx::test(migrations = false)]
async fn a_user_cannot_be_renamed_to_a_confusable_nickname(pool: PgPool) {
    let service = Service::start(&pool).await;
    service.register("paypal").await;
    let (ada, token) = service.register("Ada").await;
    let path = format!("/api/users/{ada}");
    let rename = |nickname: &str| service.put(&path).bearer(&token).json(&json!({ "nickname": nickname }));

    rename("p\u{430}ypal").expect(StatusCode::CONFLICT).await;
    rename("paypa\u{200b}l").expect(StatusCode::BAD_REQUEST).await;
    rename("\u{410}da").expect(StatusCode::NO_CONTENT).await;
    rename("grace").expect(StatusCode::NO_CONTENT).await;
    assert_eq!(register(&service, "\u{410}d\u{430}").await.0, StatusCode::CREATED, "the old nickname is free");
    assert_eq!(register(&service, "gr\u{430}ce").await.0, StatusCode::CONFLICT);
}

#[sqlx::test(migrations = false)]
async fn a_confusable_nickname_does_not_sign_in_as_another_user(pool: PgPool) {
    let service = Service::start(&pool).await;
    let (id, _) = service.register("paypal").await;
    let sign_in = |nickname: &str| service.get("/api/users/me").basic(nickname, PASSWORD);
    for spelling in ["paypal", "PAYPAL", "\u{ff50}aypal"] {
        let user = sign_in(spelling).expect(StatusCode::OK).await.json();
        assert_eq!(user["id"], id, "{spelling}");
    }
    for spelling in ["p\u{430}ypal", "paypaI", "paypa1"] {
        sign_in(spelling).expect(StatusCode::UNAUTHORIZED).await;
    }
}

#[sqlx::test(migrations = false)]
async fn users_of_before_keep_their_confusable_nicknames_and_nobody_new_registers_beside_them(pool: PgPool) {
    let service = Service::start(&pool).await;
    let hash = hash_of_the_password(&service, &pool).await;
    let nicknames = [
        "paypal",
        "p\u{430}ypal",
        "pay\u{200b}pal",
        "\u{202e}lapyap",
        "\u{dc}nal",
        "U\u{308}nal",
        "\u{ff35}\u{308}nal",
        "\u{3164}",
        "\u{2800}",
    ];
    let mut users = Vec::new();
    for nickname in nicknames {
        users.push((nickname, insert_without_keys(&pool, nickname, &hash).await));
    }
    let journal_rows =
        async || -> i64 { sqlx::query_scalar("select count(*) from journal").fetch_one(&pool).await.expect("a count") };
    let before = journal_rows().await;
    nickname_keys::fill(&Store::new(pool.clone())).await.expect("the keys are computed");
    assert_eq!(missing_keys(&pool).await, 0);
    assert_eq!(journal_rows().await, before, "a computed key is no event");

    for (nickname, id) in &users {
        let user = service.get("/api/users/me").basic(nickname, PASSWORD).expect(StatusCode::OK).await.json();
        assert_eq!((user["id"].as_i64(), user["nickname"].as_str()), (Some(*id), Some(*nickname)));
    }
    let holders: Vec<String> = sqlx::query_scalar(
        "select nickname from nickname_keys where not shared and key in ('paypal', 'u\u{308}nal') order by user_id",
    )
    .fetch_all(&pool)
    .await
    .expect("the holders");
    assert_eq!(holders, ["paypal", "\u{dc}nal"], "the oldest user holds the key");
    for attack in ["p\u{430}yp\u{430}l", "\u{420}aypal", "u\u{308}n\u{430}l", "PAYPAL"] {
        assert_eq!(register(&service, attack).await.0, StatusCode::CONFLICT, "{attack:?}");
    }

    // Also when the holder has left, and only users who share the key are there.
    let (_, paypal) = users[0];
    let rename = service.put(&format!("/api/users/{paypal}")).bearer(&service.token(paypal));
    rename.json(&json!({ "nickname": "grace" })).expect(StatusCode::NO_CONTENT).await;
    assert_eq!(register(&service, "p\u{430}yp\u{430}l").await.0, StatusCode::CONFLICT);

    // Their other data can be changed; v1 clients send the nickname along.
    let (nickname, invisible) = users[2];
    let change = service.put(&format!("/api/users/{invisible}")).bearer(&service.token(invisible));
    let body = json!({ "nickname": nickname, "password": "another horse" });
    change.json(&body).expect(StatusCode::NO_CONTENT).await;
    service.get("/api/users/me").basic(nickname, "another horse").expect(StatusCode::OK).await;
}

#[sqlx::test(migrations = false)]
async fn a_user_whom_an_older_version_stores_gets_keys_and_can_sign_in_before(pool: PgPool) {
    let service = Service::start(&pool).await;
    let hash = hash_of_the_password(&service, &pool).await;
    let id = insert_without_keys(&pool, "Paypal", &hash).await;
    service.get("/api/users/me").basic("paypal", PASSWORD).expect(StatusCode::OK).await;

    let store = Store::new(pool.clone());
    nickname_keys::fill(&store).await.expect("the keys are computed");
    assert_eq!(register(&service, "p\u{430}ypal").await.0, StatusCode::CONFLICT);

    sqlx::query("update users set nickname = 'grace' where id = $1").bind(id).execute(&pool).await.expect("a rename");
    nickname_keys::fill(&store).await.expect("the keys are computed");
    assert_eq!(register(&service, "gr\u{430}ce").await.0, StatusCode::CONFLICT);
    assert_eq!(register(&service, "p\u{430}ypal").await.0, StatusCode::CREATED);
}

#[sqlx::test(migrations = false)]
async fn several_instances_compute_the_keys_of_many_users_at_once(pool: PgPool) {
    database::migrate(&pool, &MIGRATIONS).await.expect("the migrations apply");
    for stem in ["user", "us\u{435}r"] {
        sqlx::query(
            "insert into users (nickname, password_hash)
             select $1 || number, $2 from generate_series(1000, 2199) as number",
        )
        .bind(stem)
        .bind(NO_PASSWORD)
        .execute(&pool)
        .await
        .expect("an insert");
    }
    let store = Store::new(pool.clone());
    let results = tokio::join!(nickname_keys::fill(&store), nickname_keys::fill(&store), nickname_keys::fill(&store));
    for result in [results.0, results.1, results.2] {
        result.expect("the keys are computed");
    }
    assert_eq!(missing_keys(&pool).await, 0);
    let counts: (i64, i64) =
        sqlx::query_as("select count(*) filter (where not shared), count(*) filter (where shared) from nickname_keys")
            .fetch_one(&pool)
            .await
            .expect("counts");
    // 1 and l are confusable, but digits alone are not: every number has its own key.
    assert_eq!(counts, (1200, 1200));
    let holders: i64 = sqlx::query_scalar("select count(*) from nickname_keys where not shared and nickname ~ '^user'")
        .fetch_one(&pool)
        .await
        .expect("a count");
    assert_eq!(holders, 1200);
    assert_eq!(nickname::keys("user1000"), nickname::keys("us\u{435}r1000"));
}
