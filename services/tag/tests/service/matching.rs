//! Which messages are marked, and why.

use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{ADA, BOB, GENERAL, Service};

const CAROL: i64 = 3;
const BIRDS: i64 = 2;

async fn start(pool: PgPool) -> Service {
    let service = Service::start(pool).await;
    service.channel(BIRDS, "sea-birds", json!({ "topic": "Photos from the coast" })).await;
    service
}

fn word(word: &str) -> Value {
    json!({ "words": [word], "people": [], "topics": [] })
}

#[sqlx::test(migrations = false)]
async fn words_people_and_topics_match_and_each_is_named(pool: PgPool) {
    let service = start(pool).await;
    service.prefer(ADA, json!({ "words": ["release", "deadline"], "people": [CAROL], "topics": ["coast"] })).await;
    service.post(1, GENERAL, BOB, "The **release** is out.").await;
    service.post(2, GENERAL, CAROL, "Lunch?").await;
    service.post(3, GENERAL, BOB, "Nothing of interest").await;
    service.post(4, BIRDS, BOB, "A gull").await;
    service.post(5, BIRDS, CAROL, "The deadline of the release").await;
    let all = json!({ "words": ["release", "deadline"], "people": [CAROL], "topics": ["coast"] });
    let expected = json!([
        [5, all],
        [4, { "words": [], "people": [], "topics": ["coast"] }],
        [2, { "words": [], "people": [CAROL], "topics": [] }],
        [1, word("release")],
    ]);
    assert_eq!(service.marked(ADA).await, expected);
    assert_eq!(service.marked(BOB).await, json!([]), "who prefers nothing gets no marks");
}

#[sqlx::test(migrations = false)]
async fn whole_words_and_phrases_match_without_regard_to_case(pool: PgPool) {
    let service = start(pool).await;
    for (id, source) in [(1, "RELEASED"), (2, "été à la MER"), (3, "la vieille mer"), (4, "Release-notes"), (5, "!!!")]
    {
        service.post(id, GENERAL, BOB, source).await;
    }
    service.prefer(ADA, json!({ "words": ["release", "Été", "la mer", "!!!"] })).await;
    let found = json!([[4, word("release")], [2, { "words": ["Été", "la mer"], "people": [], "topics": [] }]]);
    assert_eq!(service.marked(ADA).await, found);
}

#[sqlx::test(migrations = false)]
async fn new_interests_apply_to_older_messages(pool: PgPool) {
    let service = start(pool).await;
    service.post(1, GENERAL, BOB, "release").await;
    service.post(2, GENERAL, BOB, "deadline").await;
    assert_eq!(service.marked(ADA).await, json!([]));
    service.prefer(ADA, json!({ "words": ["release"] })).await;
    assert_eq!(service.marked(ADA).await, json!([[1, word("release")]]));
    service.prefer(ADA, json!({ "words": ["deadline"] })).await;
    assert_eq!(service.marked(ADA).await, json!([[2, word("deadline")]]));
    // Another change of the preferences, by a client without interests.
    service.prefer(ADA, json!({})).await;
    assert_eq!(service.marked(ADA).await, json!([]));
}

#[sqlx::test(migrations = false)]
async fn an_edit_a_deletion_and_a_new_topic_change_the_marks(pool: PgPool) {
    let service = start(pool).await;
    service.prefer(ADA, json!({ "words": ["release"], "topics": ["chess"] })).await;
    service.post(1, BIRDS, BOB, "release").await;
    service.post(2, BIRDS, BOB, "gull").await;
    assert_eq!(service.marked(ADA).await, json!([[1, word("release")]]));
    service.post(1, BIRDS, BOB, "gull").await;
    service.post(2, BIRDS, BOB, "release").await;
    assert_eq!(service.marked(ADA).await, json!([[2, word("release")]]));
    service.channel(BIRDS, "sea-birds", json!({ "topic": "Chess" })).await;
    assert_eq!(service.marked(ADA).await.as_array().map(Vec::len), Some(2));
    service.delete_message(2, BIRDS, BOB).await;
    assert_eq!(service.marked(ADA).await, json!([[1, { "words": [], "people": [], "topics": ["chess"] }]]));
}

#[sqlx::test(migrations = false)]
async fn own_messages_are_not_marked(pool: PgPool) {
    let service = start(pool).await;
    service.prefer(ADA, json!({ "words": ["release"], "people": [ADA] })).await;
    service.post(1, GENERAL, ADA, "release").await;
    assert_eq!(service.marked(ADA).await, json!([]));
}

#[sqlx::test(migrations = false)]
async fn ids_select_messages_and_limit_bounds_them(pool: PgPool) {
    let service = start(pool).await;
    service.prefer(ADA, json!({ "words": ["release"] })).await;
    for id in 1..=5 {
        service.post(id, GENERAL, BOB, "release").await;
    }
    let ids = async |path: &str| {
        let marked = service.marked_at(path, ADA).await;
        marked.as_array().expect("a list").iter().map(|message| message[0].clone()).collect::<Value>()
    };
    assert_eq!(ids("/api/tag?ids=2,4,999").await, json!([4, 2]));
    assert_eq!(ids("/api/tag?ids=1,2,3&limit=2").await, json!([3, 2]));
    assert_eq!(ids("/api/tag?limit=1").await, json!([5]));
}
