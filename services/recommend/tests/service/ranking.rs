//! Which channels are recommended, in which order, and why.

use http::StatusCode;
use serde_json::json;
use sqlx::PgPool;

use crate::support::{ADA, BOB, GENERAL, Service};

const SEA: i64 = 2;
const BIRDS: i64 = 3;
const CHESS: i64 = 4;
const COOKING: i64 = 5;

async fn start(pool: PgPool) -> Service {
    let service = Service::start(pool).await;
    service.channel(SEA, "sea", json!({})).await;
    service.channel(BIRDS, "birds", json!({})).await;
    service.channel(CHESS, "chess", json!({})).await;
    service
}

#[sqlx::test(migrations = false)]
async fn channels_with_words_of_what_the_caller_reads_come_first(pool: PgPool) {
    let service = start(pool).await;
    service.join(SEA, ADA).await;
    service.post(1, SEA, BOB, "The **puffin** nests on the cliff").await;
    service.post(2, BIRDS, BOB, "A puffin!").await;
    service.post(3, CHESS, BOB, "Queen takes rook").await;
    service.post(4, CHESS, BOB, "Check").await;

    let list = service.get_as(ADA, "/api/recommend", StatusCode::OK).await;
    let birds = json!({
        "channel_id": BIRDS, "name": "birds", "topic": "",
        "reason": { "kind": "shared_words", "words": ["puffin"], "messages": 1 },
    });
    let chess = json!({
        "channel_id": CHESS, "name": "chess", "topic": "", "reason": { "kind": "active", "words": [], "messages": 2 },
    });
    assert_eq!(list, json!({ "channels": [birds, chess] }));
}

#[sqlx::test(migrations = false)]
async fn a_word_that_few_channels_have_counts_more(pool: PgPool) {
    let service = start(pool).await;
    service.channel(COOKING, "cooking", json!({})).await;
    service.join(SEA, ADA).await;
    service.post(1, SEA, BOB, "today puffin").await;
    for (id, channel) in [(2, CHESS), (3, COOKING), (4, GENERAL)] {
        service.post(id, channel, BOB, "today").await;
    }
    service.post(5, BIRDS, BOB, "puffin").await;
    let names: Vec<_> = service.recommended(ADA).await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["birds", "cooking", "chess"]);
}

#[sqlx::test(migrations = false)]
async fn a_topic_and_a_name_have_words_as_messages_do(pool: PgPool) {
    let service = start(pool).await;
    service.channel(COOKING, "cooking", json!({ "topic": "Fish from the sea" })).await;
    service.join(SEA, ADA).await;
    assert_eq!(service.recommended(ADA).await[0], ("cooking".to_owned(), vec!["sea".to_owned()]));

    service.channel(COOKING, "cooking", json!({ "topic": "Cakes" })).await;
    assert!(service.recommended(ADA).await.iter().all(|(_, words)| words.is_empty()));
}

#[sqlx::test(migrations = false)]
async fn what_the_caller_writes_in_general_counts_and_what_others_write_does_not(pool: PgPool) {
    let service = start(pool).await;
    service.post(1, GENERAL, ADA, "my puffin").await;
    service.post(2, GENERAL, BOB, "your queen").await;
    service.post(3, BIRDS, BOB, "puffin").await;
    service.post(4, CHESS, BOB, "queen").await;
    let shared = |name: &str, words: &[&str]| (name.to_owned(), words.iter().map(|&word| word.to_owned()).collect());
    let expected: Vec<(String, Vec<String>)> = vec![shared("birds", &["puffin"]), shared("chess", &[])];
    assert_eq!(service.recommended(ADA).await, expected);
}

#[sqlx::test(migrations = false)]
async fn an_edited_or_deleted_message_counts_with_its_present_words_only(pool: PgPool) {
    let service = start(pool).await;
    service.join(SEA, ADA).await;
    service.post(1, SEA, BOB, "puffin").await;
    service.post(2, BIRDS, BOB, "puffin").await;
    let words_of_birds = async || {
        let found = service.recommended(ADA).await;
        // A channel without shared words and messages is not listed.
        found.into_iter().find(|(name, _)| name == "birds").map(|(_, words)| words).unwrap_or_default()
    };
    assert_eq!(words_of_birds().await, ["puffin"]);
    service.post(2, BIRDS, BOB, "gull").await;
    assert!(words_of_birds().await.is_empty());
    service.post(1, SEA, BOB, "gull").await;
    assert_eq!(words_of_birds().await, ["gull"]);
    service.delete_message(2, BIRDS, BOB).await;
    assert!(words_of_birds().await.is_empty());
    assert!(service.counted().await.iter().all(|(_, word, weight)| word != "puffin" && *weight > 0));
}

#[sqlx::test(migrations = false)]
async fn a_caller_without_history_gets_the_most_active_channels(pool: PgPool) {
    let service = start(pool).await;
    for id in 1..=3 {
        service.post(id, CHESS, BOB, "check").await;
    }
    service.post(4, BIRDS, BOB, "gull").await;
    for id in 5..=9 {
        let long_ago = chrono::Utc::now().timestamp() - 8 * 24 * 3600;
        service.message(id, SEA, BOB, json!({ "source": "wave", "created_at": long_ago })).await;
    }
    let names: Vec<_> = service.recommended(ADA).await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["chess", "birds"], "no message of #sea is new");
    let list = service.get_as(ADA, "/api/recommend?limit=1", StatusCode::OK).await;
    assert_eq!(list["channels"].as_array().map(Vec::len), Some(1));
    assert_eq!(list["channels"][0]["reason"], json!({ "kind": "active", "words": [], "messages": 3 }));
}
