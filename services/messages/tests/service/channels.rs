//! Channels: creating, finding, changing and archiving them.

use crate::support::{ADA, BOB, CAROL, Service};
use http::{Method, StatusCode, header};
use serde_json::{Value, json};
use sqlx::PgPool;

const PATH: &str = "/api/v2/channels";

async fn refused(service: &Service, user_id: i64, body: Value, expected: StatusCode) -> String {
    let problem = service.call(Method::POST, PATH, user_id, body, expected).await.1;
    problem["type"].as_str().expect("a kind").rsplit('#').next().expect("a fragment").to_owned()
}

async fn listed(service: &Service, user_id: i64) -> Vec<String> {
    let list = service.call(Method::GET, PATH, user_id, Value::Null, StatusCode::OK).await.1;
    let channels = list["channels"].as_array().expect("a list");
    channels.iter().map(|channel| channel["name"].as_str().expect("a name").to_owned()).collect()
}

#[sqlx::test(migrations = false)]
async fn everybody_is_a_member_of_general_without_a_row(pool: PgPool) {
    let service = Service::start(pool).await;
    let list = service.call(Method::GET, PATH, ADA, Value::Null, StatusCode::OK).await.1;
    let general = &list["channels"][0];
    let created_at = general["created_at"].clone();
    let expected = json!({
        "id": 1, "name": "general", "kind": "public", "topic": "", "created_at": created_at, "version": 1,
        "member": { "joined_at": created_at, "last_read_message_id": 0, "unread": 0, "mentions": 0, "version": 0 }
    });
    assert_eq!(list, json!({ "channels": [expected] }));
    assert_eq!(service.seen(general, BOB).await, expected);
    let members = service.at_channel(Method::GET, (general, "/members"), ADA, Value::Null, StatusCode::OK).await;
    assert_eq!(members, json!({ "everyone": true, "members": [] }));
    service.add(general, ADA, ADA, StatusCode::NO_CONTENT).await;
    assert_eq!(service.row::<i64>("select count(*) from channel_members").await, 0);
    let problem = service.leave(general, ADA, ADA, StatusCode::CONFLICT).await;
    assert_eq!(problem["type"], "/api/docs/problems#channel-is-permanent");
    let archive = json!({ "archived": true });
    service.at_channel(Method::PATCH, (general, ""), ADA, archive, StatusCode::CONFLICT).await;
}

#[sqlx::test(migrations = false)]
async fn a_new_channel_has_its_creator_as_member(pool: PgPool) {
    let service = Service::start(pool).await;
    let body = json!({ "kind": "private", "name": "plans", "topic": "What is *next*" });
    let (headers, channel) = service.call(Method::POST, PATH, ADA, body, StatusCode::CREATED).await;
    assert_eq!(headers[header::LOCATION], format!("{PATH}/{}", channel["id"]).as_str());
    assert_eq!((&channel["name"], &channel["kind"]), (&json!("plans"), &json!("private")));
    assert_eq!((&channel["topic"], &channel["version"]), (&json!("What is *next*"), &json!(1)));
    assert_eq!((&channel["member"]["version"], &channel["member"]["unread"]), (&json!(1), &json!(0)));
    assert_eq!((channel.get("user_ids"), channel.get("archived_at")), (None, None));
    assert_eq!(service.seen(&channel, ADA).await, channel);
}

#[sqlx::test(migrations = false)]
async fn a_list_has_public_channels_and_those_of_the_caller(pool: PgPool) {
    let service = Service::start(pool).await;
    service.know_users().await;
    for (user_id, kind, name) in
        [(ADA, "public", "open"), (ADA, "private", "of-ada"), (BOB, "private", "of-bob"), (BOB, "public", "also-open")]
    {
        service.channel(user_id, json!({ "kind": kind, "name": name })).await;
    }
    let direct = service.channel(ADA, json!({ "kind": "direct", "user_ids": [BOB] })).await;
    let direct = direct["name"].as_str().expect("a name");
    assert_eq!(listed(&service, ADA).await, ["general", "open", "of-ada", "also-open", direct]);
    assert_eq!(listed(&service, BOB).await, ["general", "open", "of-bob", "also-open", direct]);
    assert_eq!(listed(&service, CAROL).await, ["general", "open", "also-open"]);
    let list = service.call(Method::GET, PATH, CAROL, Value::Null, StatusCode::OK).await.1;
    assert_eq!(list["channels"][1].get("member"), None);
}

#[sqlx::test(migrations = false)]
async fn names_are_unique_and_have_rules(pool: PgPool) {
    let service = Service::start(pool).await;
    service.channel(ADA, json!({ "kind": "private", "name": "taken" })).await;
    for kind in ["public", "private"] {
        let body = json!({ "kind": kind, "name": "taken" });
        assert_eq!(refused(&service, BOB, body, StatusCode::CONFLICT).await, "channel-name-taken");
        for name in ["", "Upper", "a b", "-a", &"x".repeat(33), "direct-1", "é"] {
            let body = json!({ "kind": kind, "name": name });
            assert_eq!(refused(&service, BOB, body, StatusCode::BAD_REQUEST).await, "bad-request", "{name}");
        }
        refused(&service, BOB, json!({ "kind": kind }), StatusCode::BAD_REQUEST).await;
        for topic in ["x".repeat(251), "\0".to_owned()] {
            let body = json!({ "kind": kind, "name": "n", "topic": topic });
            refused(&service, BOB, body, StatusCode::BAD_REQUEST).await;
        }
    }
    assert_eq!(service.row::<i64>("select count(*) from channels").await, 2);
}

#[sqlx::test(migrations = false)]
async fn the_same_people_have_one_direct_channel(pool: PgPool) {
    let service = Service::start(pool).await;
    service.know_users().await;
    let first = service.channel(ADA, json!({ "kind": "direct", "user_ids": [CAROL, BOB] })).await;
    assert_eq!(first["user_ids"], json!([ADA, BOB, CAROL]));
    let same = json!({ "kind": "direct", "user_ids": [BOB, CAROL, ADA, BOB] });
    let (headers, again) = service.call(Method::POST, PATH, CAROL, same, StatusCode::OK).await;
    assert_eq!((&again["id"], &again["user_ids"]), (&first["id"], &first["user_ids"]));
    assert_eq!(headers[header::LOCATION], format!("{PATH}/{}", first["id"]).as_str());
    let of_two = service.channel(BOB, json!({ "kind": "direct", "user_ids": [ADA] })).await;
    assert_ne!(of_two["id"], first["id"]);
    assert_eq!(of_two["user_ids"], json!([ADA, BOB]));
    let myself = service.channel(ADA, json!({ "kind": "direct", "user_ids": [ADA] })).await;
    assert_eq!(myself["user_ids"], json!([ADA]));
    assert_eq!(refused(&service, ADA, json!({ "kind": "direct" }), StatusCode::BAD_REQUEST).await, "bad-request");
    let unknown = json!({ "kind": "direct", "user_ids": [BOB, 4711] });
    assert_eq!(refused(&service, ADA, unknown, StatusCode::NOT_FOUND).await, "not-found");
    let too_many = json!({ "kind": "direct", "user_ids": [2, 3, 4, 5, 6, 7, 8, 9] });
    refused(&service, ADA, too_many, StatusCode::BAD_REQUEST).await;
}

#[sqlx::test(migrations = false)]
async fn concurrent_requests_of_the_same_people_find_one_channel(pool: PgPool) {
    let service = Service::start(pool).await;
    service.know_users().await;
    let requests = [(ADA, BOB), (BOB, ADA), (ADA, BOB), (BOB, ADA)].map(|(user_id, other)| {
        let call = service.request(Method::POST, PATH).bearer(&service.token(user_id));
        call.json(&json!({ "kind": "direct", "user_ids": [other] })).send()
    });
    let answers = futures::future::join_all(requests).await;
    let mut statuses: Vec<_> = answers.iter().map(|answer| answer.status.as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 201]);
    let id = answers[0].json()["id"].clone();
    assert!(answers.iter().all(|answer| answer.json()["id"] == id), "{answers:?}");
    assert_eq!(service.row::<i64>("select count(*) from channel_members").await, 2);
}

#[sqlx::test(migrations = false)]
async fn a_direct_channel_keeps_its_people(pool: PgPool) {
    let service = Service::start(pool).await;
    service.know_users().await;
    let direct = service.channel(ADA, json!({ "kind": "direct", "user_ids": [BOB] })).await;
    for problem in [
        service.leave(&direct, BOB, BOB, StatusCode::CONFLICT).await,
        service.add(&direct, ADA, CAROL, StatusCode::CONFLICT).await,
        service.at_channel(Method::PATCH, (&direct, ""), ADA, json!({ "archived": true }), StatusCode::CONFLICT).await,
    ] {
        assert_eq!(problem["type"], "/api/docs/problems#channel-is-permanent");
    }
    assert_eq!(service.seen(&direct, BOB).await["user_ids"], json!([ADA, BOB]));
}

#[sqlx::test(migrations = false)]
async fn a_member_changes_the_topic_and_archives(pool: PgPool) {
    let service = Service::start(pool).await;
    let channel = service.channel(ADA, json!({ "kind": "public", "name": "news", "topic": "old" })).await;
    let change = async |user_id, body, expected| {
        service.at_channel(Method::PATCH, (&channel, ""), user_id, body, expected).await
    };
    change(BOB, json!({ "topic": "mine" }), StatusCode::FORBIDDEN).await;
    let changed = change(ADA, json!({ "topic": "new" }), StatusCode::OK).await;
    assert_eq!((&changed["topic"], &changed["version"]), (&json!("new"), &json!(2)));
    let archived = change(ADA, json!({ "archived": true }), StatusCode::OK).await;
    assert!(archived["archived_at"].is_string());
    assert_eq!(archived["topic"], "new");
    // Neither is a change.
    assert_eq!(change(ADA, json!({ "archived": true, "topic": "new" }), StatusCode::OK).await, archived);
    assert_eq!(change(ADA, json!({}), StatusCode::OK).await, archived);

    let body = json!({ "source": "late" });
    let problem = service.at_channel(Method::POST, (&channel, "/messages"), ADA, body, StatusCode::CONFLICT).await;
    assert_eq!(problem["type"], "/api/docs/problems#channel-archived");
    let reopened = change(ADA, json!({ "archived": false }), StatusCode::OK).await;
    assert_eq!((reopened.get("archived_at"), &reopened["version"]), (None, &json!(4)));
    service.post_to(&channel, ADA, "in time").await;
}

#[sqlx::test(migrations = false)]
async fn public_channels_and_the_channels_of_a_user_have_limits(pool: PgPool) {
    let service = Service::start(pool).await;
    service.know_users().await;
    service
        .execute(
            "insert into channels (name, kind) select 'c' || number, 'private' from generate_series(1, 999) number",
        )
        .await;
    service
        .execute("insert into channel_members (channel_id, user_id) select id, 1 from channels where id > 1 limit 500")
        .await;
    // Left channels count: their rows stay.
    service.execute("update channel_members set left_at = now() where channel_id % 2 = 0").await;
    let full = json!({ "kind": "private", "name": "one-more" });
    assert_eq!(refused(&service, ADA, full.clone(), StatusCode::CONFLICT).await, "too-many-channels");
    let direct = json!({ "kind": "direct", "user_ids": [ADA] });
    assert_eq!(refused(&service, BOB, direct, StatusCode::CONFLICT).await, "too-many-channels");
    let channel = service.channel(BOB, full).await;
    service.add(&channel, BOB, ADA, StatusCode::CONFLICT).await;

    service.execute("update channels set kind = 'public' where name like 'c%'").await;
    let public = json!({ "kind": "public", "name": "public-1001" });
    assert_eq!(refused(&service, BOB, public, StatusCode::CONFLICT).await, "too-many-channels");
    service.channel(BOB, json!({ "kind": "private", "name": "private-1001" })).await;
}
