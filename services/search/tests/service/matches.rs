//! What a query finds, in which order, and which words are marked.

use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{ADA, BOB, GENERAL, Service, message};

fn marked(result: &Value) -> Vec<&str> {
    let segments = result["excerpt"].as_array().expect("segments").iter();
    segments.filter(|one| one["marked"] == true).filter_map(|one| one["text"].as_str()).collect()
}

#[sqlx::test(migrations = false)]
async fn words_phrases_and_exclusions_find_messages(pool: PgPool) {
    let service = Service::start(pool).await;
    for (id, source) in [
        (1, "we deployed the *new* version"),
        (2, "the version is new, deploy it"),
        (3, "Grüße aus Köln: to be or not to be"),
        (4, "nothing of interest"),
    ] {
        service.message(id, GENERAL, ADA, source).await;
    }
    for (q, expected) in [
        ("version", vec![2, 1]),
        ("VERSION deploying", vec![2, 1]),
        ("version missing", vec![]),
        ("\"new version\"", vec![1]),
        ("version -\"new version\"", vec![2]),
        ("version -deploy", vec![]),
        ("interest or köln", vec![4, 3]),
        ("GRÜßE", vec![3]),
        // Every word is in the index, also the most frequent ones.
        ("\"to be or not to be\"", vec![3]),
        ("the", vec![2, 1]),
    ] {
        let mut found = service.found(BOB, q).await;
        found.sort_unstable_by_key(|id| -id);
        assert_eq!(found, expected, "{q}");
    }
}

#[sqlx::test(migrations = false)]
async fn the_best_match_is_first_and_of_equal_matches_the_newest(pool: PgPool) {
    let service = Service::start(pool).await;
    service.message(1, GENERAL, ADA, "apple pie, apple cake, apple juice").await;
    service.message(2, GENERAL, ADA, "one apple").await;
    service.message(3, GENERAL, ADA, "my apple").await;
    assert_eq!(service.found(BOB, "apple").await, [1, 3, 2]);
    service.message(4, GENERAL, ADA, "a pie that has nothing to do with any apple at all").await;
    assert_eq!(service.found(BOB, "apple pie").await, [1, 4], "words next to each other rank higher");
}

#[sqlx::test(migrations = false)]
async fn a_result_has_its_author_and_its_thread_and_marks_as_data(pool: PgPool) {
    let service = Service::start(pool).await;
    let mut data = message(2, GENERAL, ADA, "<b>tests</b> & testing \u{2}\u{3} [link](https://a.example)");
    data["thread_id"] = json!(1);
    service.publish("messages", 1, "message_changed", "2", data).await;
    let page = service.page(BOB, "test").await;
    let result = &page["results"][0];
    assert_eq!(marked(result), ["tests", "testing"]);
    assert_eq!((&result["message_id"], &result["thread_id"]), (&json!(2), &json!(1)));
    assert_eq!((&result["user_id"], &result["nickname"]), (&json!(ADA), &json!("ada")));
    assert_eq!((&result["channel_id"], &result["channel_name"]), (&json!(GENERAL), &json!("general")));
    assert_eq!(result["created_at"], "2026-11-01T12:02:00Z");
    assert_eq!(page["next"], Value::Null);
}

#[sqlx::test(migrations = false)]
async fn an_edited_message_is_found_by_its_new_text_only_and_a_deleted_one_not_at_all(pool: PgPool) {
    let service = Service::start(pool).await;
    service.message(1, GENERAL, ADA, "a draft").await;
    assert_eq!(service.found(BOB, "draft").await, [1]);
    service.message(1, GENERAL, ADA, "the final text").await;
    assert_eq!(service.found(BOB, "draft").await, [0; 0]);
    assert_eq!(service.found(BOB, "final").await, [1]);
    let mut deleted = message(1, GENERAL, ADA, "");
    deleted["deleted_at"] = json!(2);
    service.publish("messages", 1, "message_changed", "1", deleted).await;
    assert_eq!(service.found(BOB, "final").await, [0; 0]);
    assert_eq!(service.found(BOB, "from:ada").await, [0; 0]);
}

#[sqlx::test(migrations = false)]
async fn an_excerpt_is_the_part_of_a_long_message_around_the_words(pool: PgPool) {
    let service = Service::start(pool).await;
    let filler = "lorem ipsum dolor ".repeat(200);
    service.message(1, GENERAL, ADA, &format!("{filler} needle {filler}")).await;
    service.message(2, GENERAL, ADA, &format!("needle {}", "x".repeat(8_000))).await;
    for result in service.page(BOB, "needle").await["results"].as_array().expect("results") {
        let segments = result["excerpt"].as_array().expect("segments");
        let text: String = segments.iter().filter_map(|one| one["text"].as_str()).collect();
        assert!(text.chars().count() <= 400, "{text}");
        assert_eq!(marked(result), ["needle"], "{text}");
    }
    let all = service.page(BOB, "from:ada").await;
    assert_eq!(marked(&all["results"][0]), [""; 0]);
}
