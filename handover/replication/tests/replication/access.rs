//! Who may call the operations.

use flack_handover::{
    Part, Side,
    protocol::{self, Selection},
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::pair::{KEY, Pair, client};

#[sqlx::test(migrations = false)]
async fn every_operation_needs_the_key_of_the_part_and_tables_of_other_parts_are_not_found(pool: PgPool) {
    let pair = Pair::start(&pool, Part::Users).await;
    for operation in [protocol::STATUS, protocol::CHANGES, protocol::LOG, protocol::TABLES] {
        for key in [None, Some("another"), Some("")] {
            let request = client().get(pair.url_of(Side::Monolith, operation));
            let request = if let Some(key) = key { request.bearer_auth(key) } else { request };
            assert_eq!(request.send().await.expect("an answer").status(), StatusCode::UNAUTHORIZED, "{operation}");
        }
    }
    let rows = |table: &str, columns: &[&str]| {
        let selection = Selection::After { key: None, limit: 1 };
        let body = json!({ "table": table, "columns": columns, "selection": selection });
        client().post(pair.url_of(Side::Monolith, protocol::ROWS)).bearer_auth(KEY).json(&body).send()
    };
    let answer = rows("signing_keys", &["private_key"]).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    let answer = rows("users", &["id"]).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::CONFLICT, "other columns");
    // No key is configured for the other parts.
    let url = pair.url_of(Side::Monolith, protocol::STATUS).replace("/users/", "/tokens/");
    let answer = client().get(url).bearer_auth(KEY).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);

    let close = client().post(pair.url_of(Side::Monolith, protocol::CLOSE)).bearer_auth(KEY);
    let answer = close.json(&json!({ "epoch": 1 })).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::CONFLICT);
    let problem: Value = answer.json().await.expect("a problem");
    assert_eq!(problem["detail"], r#"{"old_epoch":{"asked":1,"fence":1}}"#);
    pair.end().await;
}
