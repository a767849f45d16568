//! Preferences, read markers and statistics.

use http::{Method, StatusCode};
use serde_json::json;
use sqlx::PgPool;

use crate::support::{ADA, BOB, CORRELATION_ID, Service};

const PREFERENCES: &str = "/api/ui/preferences";
const MARKERS: &str = "/api/ui/read_markers";
const GENERAL: &str = "/api/ui/read_markers/general";

#[sqlx::test(migrations = false)]
async fn preferences_have_defaults_and_belong_to_one_user(pool: PgPool) {
    let service = Service::start(pool).await;
    let defaults = json!({"theme": "system", "notifications": false});
    assert_eq!(service.get(PREFERENCES, ADA, StatusCode::OK).await, defaults);

    let dark = json!({"theme": "dark", "notifications": true});
    service.put(PREFERENCES, ADA, &dark, StatusCode::NO_CONTENT).await;
    assert_eq!(service.get(PREFERENCES, ADA, StatusCode::OK).await, dark);
    assert_eq!(service.get(PREFERENCES, BOB, StatusCode::OK).await, defaults);

    let light = json!({"theme": "light", "notifications": false});
    service.put(PREFERENCES, ADA, &light, StatusCode::NO_CONTENT).await;
    assert_eq!(service.get(PREFERENCES, ADA, StatusCode::OK).await, light);
}

#[sqlx::test(migrations = false)]
async fn interests_stay_when_a_client_does_not_send_them(pool: PgPool) {
    let service = Service::start(pool).await;
    let interests = json!({"words": ["release"], "people": [2], "topics": ["sea birds"]});
    let first = json!({"theme": "dark", "notifications": true, "interests": interests});
    service.put(PREFERENCES, ADA, &first, StatusCode::NO_CONTENT).await;
    assert_eq!(service.get(PREFERENCES, ADA, StatusCode::OK).await, first);
    assert!(service.get(PREFERENCES, BOB, StatusCode::OK).await["interests"].is_null());

    let older_client = json!({"theme": "light", "notifications": true});
    service.put(PREFERENCES, ADA, &older_client, StatusCode::NO_CONTENT).await;
    assert_eq!(service.get(PREFERENCES, ADA, StatusCode::OK).await["interests"], interests);

    let fewer = json!({"theme": "light", "notifications": true, "interests": {"words": ["release"]}});
    service.put(PREFERENCES, ADA, &fewer, StatusCode::NO_CONTENT).await;
    assert_eq!(service.get(PREFERENCES, ADA, StatusCode::OK).await, fewer);

    let none = json!({"theme": "light", "notifications": true, "interests": {}});
    service.put(PREFERENCES, ADA, &none, StatusCode::NO_CONTENT).await;
    assert_eq!(service.get(PREFERENCES, ADA, StatusCode::OK).await, older_client);
}

#[sqlx::test(migrations = false)]
async fn interests_have_limits(pool: PgPool) {
    let service = Service::start(pool).await;
    let many: Vec<_> = (0..21).map(|number| number.to_string()).collect();
    let long = "x".repeat(33);
    for bad in [
        json!({"words": [""]}),
        json!({"words": [" padded"]}),
        json!({"words": ["a\u{0}b"]}),
        json!({"words": [long]}),
        json!({"words": many}),
        json!({"topics": many}),
        json!({"people": [0]}),
        json!({"people": ["ada"]}),
        json!({"people": (1..=21).collect::<Vec<_>>()}),
        json!([]),
    ] {
        let body = json!({"theme": "dark", "notifications": true, "interests": bad});
        let problem = service.put(PREFERENCES, ADA, &body, StatusCode::BAD_REQUEST).await;
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("interests")), "{bad}: {problem}");
    }
    let allowed = json!({"theme": "dark", "notifications": true, "interests": {"words": ["x", "été à la mer"]}});
    service.put(PREFERENCES, ADA, &allowed, StatusCode::NO_CONTENT).await;
}

#[sqlx::test(migrations = false)]
async fn a_read_marker_never_moves_back(pool: PgPool) {
    let service = Service::start(pool).await;
    assert_eq!(service.get(MARKERS, ADA, StatusCode::OK).await, json!({"read_markers": []}));

    for (sent, stored) in [(5, 5), (9, 9), (7, 9), (9, 9), (10, 10)] {
        service.put(GENERAL, ADA, &json!({"message_id": sent}), StatusCode::NO_CONTENT).await;
        let markers = service.get(MARKERS, ADA, StatusCode::OK).await;
        assert_eq!(markers["read_markers"][0]["message_id"], stored, "after {sent}: {markers}");
        assert_eq!(markers["read_markers"][0]["channel"], "general");
    }
    service.put("/api/ui/read_markers/side-talk", ADA, &json!({"message_id": 1}), StatusCode::NO_CONTENT).await;
    let markers = service.get(MARKERS, ADA, StatusCode::OK).await;
    assert_eq!(markers["read_markers"].as_array().map(Vec::len), Some(2));
    assert_eq!(service.get(MARKERS, BOB, StatusCode::OK).await, json!({"read_markers": []}));
}

#[sqlx::test(migrations = false)]
async fn of_concurrent_markers_the_furthest_one_is_stored(pool: PgPool) {
    let service = Service::start(pool).await;
    let bodies: Vec<_> = (1..=8).map(|id| json!({"message_id": id})).collect();
    let mut puts = tokio::task::JoinSet::new();
    let service = std::sync::Arc::new(service);
    for body in bodies {
        let service = std::sync::Arc::clone(&service);
        puts.spawn(async move { service.put(GENERAL, ADA, &body, StatusCode::NO_CONTENT).await });
    }
    while let Some(put) = puts.join_next().await {
        put.expect("a finished request");
    }
    let markers = service.get(MARKERS, ADA, StatusCode::OK).await;
    assert_eq!(markers["read_markers"][0]["message_id"], 8, "{markers}");
}

#[sqlx::test(migrations = false)]
async fn the_read_markers_of_one_user_have_a_limit(pool: PgPool) {
    let service = Service::start(pool).await;
    sqlx::query(
        "insert into read_markers (user_id, channel, message_id)
         select 1, 'c' || number, 1 from generate_series(1, 1000) as number",
    )
    .execute(&service.pool)
    .await
    .expect("rows");
    let answer = service.put(GENERAL, ADA, &json!({"message_id": 1}), StatusCode::BAD_REQUEST).await;
    assert!(answer["detail"].as_str().is_some_and(|detail| detail.contains("1000")), "{answer}");
    service.put("/api/ui/read_markers/c1", ADA, &json!({"message_id": 2}), StatusCode::NO_CONTENT).await;
    service.put(GENERAL, BOB, &json!({"message_id": 1}), StatusCode::NO_CONTENT).await;
}

#[sqlx::test(migrations = false)]
async fn bad_input_is_refused_with_a_reason(pool: PgPool) {
    let service = Service::start(pool).await;
    let bad_preferences = [
        json!({}),
        json!({"theme": "pink", "notifications": true}),
        json!({"theme": "dark"}),
        json!({"theme": "dark", "notifications": "yes"}),
        json!([]),
    ];
    for body in &bad_preferences {
        let problem = service.put(PREFERENCES, ADA, body, StatusCode::BAD_REQUEST).await;
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{body}: {problem}");
        assert_eq!(problem["detail"], problem["error"], "{problem}");
    }
    let bad_markers =
        [json!({}), json!({"message_id": 0}), json!({"message_id": -1}), json!({"message_id": "1"}), json!(null)];
    for body in &bad_markers {
        service.put(GENERAL, ADA, body, StatusCode::BAD_REQUEST).await;
    }
    let too_long = format!("{MARKERS}/{}", "x".repeat(65));
    for path in ["/api/ui/read_markers/General", "/api/ui/read_markers/a%20b", &too_long] {
        service.put(path, ADA, &json!({"message_id": 1}), StatusCode::BAD_REQUEST).await;
    }
    let rows: i64 = sqlx::query_scalar("select count(*) from journal").fetch_one(&service.pool).await.expect("a count");
    assert_eq!(rows, 0, "a refused request is not journaled");
}

#[sqlx::test(migrations = false)]
async fn every_operation_of_a_user_needs_a_token(pool: PgPool) {
    let service = Service::start(pool).await;
    let marker = json!({"message_id": 1});
    let preferences = json!({"theme": "dark", "notifications": true});
    for (method, path, body) in [
        (Method::GET, PREFERENCES, None),
        (Method::PUT, PREFERENCES, Some(&preferences)),
        (Method::GET, MARKERS, None),
        (Method::PUT, GENERAL, Some(&marker)),
    ] {
        service.send(method, path, None, body, StatusCode::UNAUTHORIZED).await;
    }
}

#[sqlx::test(migrations = false)]
async fn stats_are_a_number_and_need_no_token(pool: PgPool) {
    let service = Service::start(pool).await;
    let stats = service.send(Method::GET, "/stats", None, None, StatusCode::OK).await;
    assert!(stats["requests_per_second"].as_f64().is_some_and(|rate| rate >= 0.0), "{stats}");
}

#[sqlx::test(migrations = false)]
async fn only_changes_are_journaled_with_the_correlation_id_of_the_request(pool: PgPool) {
    let service = Service::start(pool).await;
    for theme in ["dark", "dark", "light"] {
        service.put(PREFERENCES, ADA, &json!({"theme": theme, "notifications": false}), StatusCode::NO_CONTENT).await;
    }
    for message_id in [3, 2, 4] {
        service.put(GENERAL, ADA, &json!({"message_id": message_id}), StatusCode::NO_CONTENT).await;
    }
    let journal: Vec<(String, String, String, i64, Option<String>)> =
        sqlx::query_as("select operation, entity, entity_id, version, correlation_id from journal order by id")
            .fetch_all(&service.pool)
            .await
            .expect("the journal");
    let row = |operation: &str, entity: &str, id: &str, version| {
        (operation.to_owned(), entity.to_owned(), id.to_owned(), version, Some(CORRELATION_ID.to_owned()))
    };
    assert_eq!(
        journal,
        [
            row("insert", "preferences", "1", 1),
            row("update", "preferences", "1", 2),
            row("insert", "read_marker", "1:general", 1),
            row("update", "read_marker", "1:general", 2),
        ]
    );
}

#[sqlx::test(migrations = false)]
async fn a_process_without_a_registry_owns_every_part(pool: PgPool) {
    let service = Service::start(pool).await;
    let answer = service.get("/api/ui/parts", ADA, StatusCode::OK).await;
    let names = ["ui", "users", "tokens", "messages", "websocket"];
    assert_eq!(answer, json!({"parts": names.map(|name| json!({"name": name, "owner": "ui"}))}));
    service.send(Method::GET, "/api/ui/parts", None, None, StatusCode::UNAUTHORIZED).await;
}
