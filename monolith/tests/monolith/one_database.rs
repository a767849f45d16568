//! What the monolith's database does that the databases of the services cannot do.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use flack_common::database;
use serde_json::json;
use sqlx::{PgPool, migrate::Migrator};

use crate::support::{Monolith, PASSWORD};

const SERVICES: [(&str, &Migrator); 4] = [
    (flack_users::SERVICE, &flack_users::MIGRATIONS),
    (flack_tokens::SERVICE, &flack_tokens::MIGRATIONS),
    (flack_messages::SERVICE, &flack_messages::MIGRATIONS),
    (flack_ui::SERVICE, &flack_ui::MIGRATIONS),
];

/// Columns of all tables and views.
const COLUMNS: &str = "
    select relname::text, format('%s %s', attname, format_type(atttypid, atttypmod))
    from pg_class inner join pg_attribute on attrelid = pg_class.oid
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v') and not relispartition
        and attnum > 0 and not attisdropped";

/// Constraints, defaults, indexes and triggers of all tables.
const DEFINITIONS: &str = "
    select relname::text, definition
    from pg_class
    inner join (
        select attrelid, format('%s not null %s', attname, attnotnull) from pg_attribute where attnum > 0
        union all
        select attrelid, format('%s identity %s', attname, attidentity) from pg_attribute where attidentity <> ''
        union all
        select adrelid, format('column %s default %s', adnum, pg_get_expr(adbin, adrelid)) from pg_attrdef
        union all
        select conrelid, format('%s %s', conname, pg_get_constraintdef(oid)) from pg_constraint
        union all
        select indrelid, pg_get_indexdef(indexrelid) from pg_index
        union all
        select tgrelid, pg_get_triggerdef(oid) from pg_trigger where not tgisinternal
    ) as part (relation, definition) on relation = oid
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relispartition";

/// Pairs of a table and something about it.
type Catalog = BTreeSet<(String, String)>;

/// Applies the migrations to the emptied database.
async fn catalog_after(pool: &PgPool, migrations: &Migrator) -> (Catalog, Catalog) {
    for statement in ["drop schema public cascade", "create schema public"] {
        sqlx::query(statement).execute(pool).await.expect(statement);
    }
    database::migrate(pool, migrations).await.expect("the migrations apply");
    let read = async |query| -> Catalog {
        sqlx::query_as(query).fetch_all(pool).await.expect("the catalog").into_iter().collect()
    };
    (read(COLUMNS).await, read(DEFINITIONS).await)
}

#[sqlx::test(migrations = false)]
async fn the_tables_of_the_services_are_the_monoliths_but_for_foreign_keys_and_a_view(pool: PgPool) {
    let (columns, definitions) = catalog_after(&pool, &flack_monolith::MIGRATIONS).await;
    let tables: BTreeSet<&String> = definitions.iter().map(|(table, _)| table).collect();
    let mut only_in_the_monolith = definitions.clone();
    let mut views = BTreeSet::new();
    for (service, migrations) in SERVICES {
        let (own_columns, own_definitions) = catalog_after(&pool, migrations).await;
        let missing: Vec<_> = own_columns.difference(&columns).collect();
        assert!(missing.is_empty(), "columns of {service} that the monolith does not have: {missing:?}");
        for definition in own_definitions {
            if !tables.contains(&definition.0) {
                views.insert(definition.0);
                continue;
            }
            assert!(definitions.contains(&definition), "{service}: the monolith does not have {definition:?}");
            only_in_the_monolith.remove(&definition);
        }
    }
    assert_eq!(views, BTreeSet::from(["nicknames".to_owned()]));
    let only_in_the_monolith: Vec<&str> =
        only_in_the_monolith.iter().map(|(_, definition)| definition.as_str()).collect();
    assert_eq!(
        only_in_the_monolith,
        [
            "channel_members_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE",
            "files_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE",
            "messages_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id)",
            "preferences_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE",
            "read_markers_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE",
            "tokens_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE",
        ]
    );
}

#[sqlx::test(migrations = false)]
async fn a_row_cannot_belong_to_a_user_who_does_not_exist(pool: PgPool) {
    let _flack = Monolith::alone(&pool).await;
    for statement in [
        "insert into messages (user_id, channel_id, source, html) select 999, id, 'x', 'x' from channels",
        "insert into tokens (id, user_id, issued_at, expires_at) values (gen_random_uuid(), 999, now(), now())",
        "insert into preferences (user_id, theme, notifications) values (999, 'dark', true)",
        "insert into read_markers (user_id, channel, message_id) values (999, 'general', 1)",
        "insert into channel_members (channel_id, user_id) values (1, 999)",
        "insert into files (user_id, channel_id, name, type, content) values (999, 1, 'x', 'x', 'x')",
    ] {
        let error = sqlx::query(statement).execute(&pool).await.expect_err(statement);
        let kind = error.as_database_error().map(sqlx::error::DatabaseError::kind);
        assert!(matches!(kind, Some(sqlx::error::ErrorKind::ForeignKeyViolation)), "{statement}: {error}");
    }
}

#[sqlx::test(migrations = false)]
async fn tokens_and_markers_are_deleted_with_their_user_and_messages_prevent_it(pool: PgPool) {
    let flack = Monolith::alone(&pool).await;
    let ada = flack.register("ada").await;
    let token = flack.sign_in("ada", PASSWORD).await;
    let message = flack.post_message(&token, "hello").await;
    let delete_user = async || sqlx::query("delete from users where id = $1").bind(ada).execute(&pool).await;

    delete_user().await.expect_err("the message would have no author");
    sqlx::query("delete from messages where id = $1").bind(message).execute(&pool).await.expect("a delete");
    delete_user().await.expect("a delete");
    let tokens: i64 = sqlx::query_scalar("select count(*) from tokens").fetch_one(&pool).await.expect("a count");
    assert_eq!(tokens, 0);

    // Her token is still valid, but every write with it names what to do.
    flack.register("bob").await;
    let message = flack.post_message(&flack.sign_in("bob", PASSWORD).await, "hello").await;
    let (preferences, marker) = (json!({ "theme": "dark", "notifications": true }), json!({ "message_id": message }));
    let channel = json!({ "kind": "public", "name": "news" });
    for call in [
        flack.post("/api/messages").bearer(&token).json(&json!({ "source": "x" })),
        flack.put("/api/ui/preferences").bearer(&token).json(&preferences),
        flack.put("/api/ui/read_markers/general").bearer(&token).json(&marker),
        flack.put("/api/v2/channels/1/read").bearer(&token).json(&marker),
        flack.post("/api/v2/channels").bearer(&token).json(&channel),
        flack.delete("/api/tokens").bearer(&token),
    ] {
        let problem = call.expect(StatusCode::UNAUTHORIZED).await.json();
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.ends_with("register again")), "{problem}");
    }
}

#[sqlx::test(migrations = false)]
async fn a_list_of_messages_has_the_present_nicknames_without_events(pool: PgPool) {
    let flack = Monolith::alone(&pool).await;
    flack.register("ada").await;
    let token = flack.sign_in("ada", PASSWORD).await;
    flack.post_message(&token, "hello").await;
    sqlx::query("update users set nickname = 'ada lovelace'").execute(&pool).await.expect("an update");
    let list = flack.get("/api/messages?include=nickname").expect(StatusCode::OK).await.json();
    assert_eq!(list["messages"][0]["nickname"], "ada lovelace");
    let list = flack.get("/api/messages").expect(StatusCode::OK).await.json();
    assert_eq!(list["messages"][0].get("nickname"), None);
}
