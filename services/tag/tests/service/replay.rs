//! The tables are cleared and filled again by a replay.

use serde_json::json;
use sqlx::PgPool;

use crate::support::{ADA, BOB, Service};

#[sqlx::test(migrations = false)]
async fn a_replay_of_each_owner_gives_the_same_marks(pool: PgPool) {
    let service = Service::start(pool).await;
    let of_messages = async || {
        service.channel(2, "secret", json!({ "kind": "private" })).await;
        service.join(2, ADA).await;
        service.post(1, 2, BOB, "release").await;
    };
    let of_ui = async || service.prefer(ADA, json!({ "words": ["release"] })).await;
    of_messages().await;
    of_ui().await;
    let before = service.marked(ADA).await;
    assert_eq!(before.as_array().map(Vec::len), Some(1));
    let clear = async |source: &str| {
        sqlx::query_scalar::<_, i64>("select clear_projections($1)").bind(source).fetch_one(&service.pool).await
    };

    assert_eq!(clear("ui").await.expect("it clears"), 1);
    assert_eq!(service.marked(ADA).await, json!([]));
    of_ui().await;
    assert_eq!(service.marked(ADA).await, before);
    // Both channels, the member and the message.
    assert_eq!(clear("messages").await.expect("it clears"), 4);
    assert_eq!(service.marked(ADA).await, json!([]));
    of_messages().await;
    assert_eq!(service.marked(ADA).await, before);
}
