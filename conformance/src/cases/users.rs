//! Users: register, list, change, presence.

use anyhow::{Context as _, Result, bail, ensure};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    cases,
    client::{Auth, Client, unique, wait_for},
    suite::{Case, World},
};

pub fn cases() -> Vec<Case> {
    cases![
        registering_returns_the_user_and_its_location,
        a_nickname_is_unique,
        an_invalid_registration_is_refused,
        users_are_listed_oldest_change_first,
        only_changes_after_updated_since_are_listed,
        presence_is_set_and_cleared_by_the_user,
        users_can_be_read_without_a_token,
        an_unknown_user_is_not_found,
        basic_credentials_identify_their_user,
        a_user_can_change_the_nickname,
        a_user_cannot_take_another_users_nickname,
        a_user_cannot_change_another_user,
        a_new_password_replaces_the_old_one,
        a_new_password_revokes_the_tokens_of_the_user,
        a_wrong_current_password_changes_nothing,
        guesses_for_one_account_are_limited_and_others_sign_in,
    ]
}

async fn registering_returns_the_user_and_its_location(World { client, .. }: World) -> Result<()> {
    let nickname = unique("susan");
    let body = json!({ "nickname": nickname, "password": "correct horse" });
    let answer = client.post("/api/users", Auth::None, &body, StatusCode::CREATED).await?;
    let id = answer.body["id"].as_i64().context("no id")?;
    ensure!(answer.body["nickname"] == json!(nickname));
    ensure!(answer.body["_links"]["self"] == json!(format!("/api/users/{id}")));
    ensure!(answer.body.get("password").is_none() && answer.body.get("password_hash").is_none());
    ensure!(
        answer.header("location").ends_with(&format!("/api/users/{id}")),
        "Location: {}",
        answer.header("location")
    );
    let read = client.get(&format!("/api/users/{id}"), Auth::None, StatusCode::OK).await?;
    ensure!(read.body["nickname"] == json!(nickname));
    Ok(())
}

async fn a_nickname_is_unique(World { client, .. }: World) -> Result<()> {
    let person = client.person("taken").await?;
    let body = json!({ "nickname": person.nickname, "password": "another" });
    let answer = client.post("/api/users", Auth::None, &body, StatusCode::CONFLICT).await?;
    ensure!(answer.body["error"].is_string(), "v1 errors keep an error member");
    Ok(())
}

async fn an_invalid_registration_is_refused(World { client, .. }: World) -> Result<()> {
    for body in [
        json!({}),
        json!({ "nickname": unique("half") }),
        json!({ "password": "p" }),
        json!({ "nickname": "", "password": "p" }),
        json!({ "nickname": unique("empty"), "password": "" }),
        json!({ "nickname": "with space", "password": "p" }),
        json!({ "nickname": "with:colon", "password": "p" }),
        json!({ "nickname": "x".repeat(33), "password": "p" }),
        json!({ "nickname": unique("long"), "password": "x".repeat(129) }),
        json!({ "nickname": null, "password": "p" }),
    ] {
        client
            .post("/api/users", Auth::None, &body, StatusCode::BAD_REQUEST)
            .await
            .with_context(|| body.to_string())?;
    }
    Ok(())
}

async fn users_are_listed_oldest_change_first(World { client, .. }: World) -> Result<()> {
    let (first, second) = (client.person("older").await?, client.person("newer").await?);
    let since = now(&client, second.id).await? - 60;
    let list = client.get(&format!("/api/users?updated_since={since}"), Auth::None, StatusCode::OK).await?;
    let users = list.body["users"].as_array().context("no list")?;
    let changes: Vec<_> = users.iter().filter_map(|user| user["updated_at"].as_i64()).collect();
    ensure!(changes.is_sorted(), "not in the order of change: {changes:?}");
    for id in [first.id, second.id] {
        ensure!(users.iter().any(|user| user["id"] == id), "user {id} is missing");
    }
    Ok(())
}

async fn only_changes_after_updated_since_are_listed(World { client, .. }: World) -> Result<()> {
    let person = client.person("recent").await?;
    let changed = now(&client, person.id).await?;
    let after = client.get(&format!("/api/users?updated_since={}", changed + 3600), Auth::None, StatusCode::OK).await?;
    ensure!(after.body["users"] == json!([]), "changes of the future: {}", after.body);
    let before = client.get(&format!("/api/users?updated_since={}", changed - 1), Auth::None, StatusCode::OK).await?;
    ensure!(has_user(&before.body, person.id));
    Ok(())
}

async fn presence_is_set_and_cleared_by_the_user(World { client, .. }: World) -> Result<()> {
    let person = client.person("present").await?;
    let auth = Auth::Token(&person.token);
    client.put_without_body("/api/users/me", auth, StatusCode::NO_CONTENT).await?;
    ensure!(has_user(&client.get("/api/users?online=1", Auth::None, StatusCode::OK).await?.body, person.id));
    client.delete("/api/users/me", auth, StatusCode::NO_CONTENT).await?;
    ensure!(!has_user(&client.get("/api/users?online=1", Auth::None, StatusCode::OK).await?.body, person.id));
    ensure!(has_user(&client.get("/api/users?online=0", Auth::None, StatusCode::OK).await?.body, person.id));
    client.put_without_body("/api/users/me", auth, StatusCode::NO_CONTENT).await?;
    let user = client.get(&format!("/api/users/{}", person.id), auth, StatusCode::OK).await?;
    ensure!(user.body["online"] == json!(true));
    Ok(())
}

async fn users_can_be_read_without_a_token(World { client, .. }: World) -> Result<()> {
    let person = client.person("public").await?;
    let path = format!("/api/users/{}", person.id);
    client.get(&path, Auth::None, StatusCode::OK).await?;
    client.get(&path, Auth::Token(&person.token), StatusCode::OK).await?;
    client.get(&path, Auth::Token("not.a.token"), StatusCode::UNAUTHORIZED).await?;
    Ok(())
}

async fn an_unknown_user_is_not_found(World { client, .. }: World) -> Result<()> {
    client.get("/api/users/987654321987", Auth::None, StatusCode::NOT_FOUND).await?;
    Ok(())
}

async fn basic_credentials_identify_their_user(World { client, .. }: World) -> Result<()> {
    let person = client.person("basic").await?;
    let me = client.get("/api/users/me", Auth::Basic(&person.nickname, &person.password), StatusCode::OK).await?;
    ensure!(me.body["id"] == json!(person.id));
    for auth in [Auth::Basic(&person.nickname, "wrong"), Auth::Basic(&unique("nobody"), &person.password), Auth::None] {
        client.get("/api/users/me", auth, StatusCode::UNAUTHORIZED).await?;
    }
    client.get("/api/users/me", Auth::Token(&person.token), StatusCode::UNAUTHORIZED).await?;
    Ok(())
}

async fn a_user_can_change_the_nickname(World { client, .. }: World) -> Result<()> {
    let person = client.person("before").await?;
    let (path, nickname) = (format!("/api/users/{}", person.id), unique("after"));
    client.put(&path, Auth::Token(&person.token), &json!({ "nickname": nickname }), StatusCode::NO_CONTENT).await?;
    let user = client.get(&path, Auth::None, StatusCode::OK).await?;
    ensure!(user.body["nickname"] == json!(nickname));
    client.token(&nickname, &person.password).await?;
    client
        .get(&path, Auth::Token(&person.token), StatusCode::OK)
        .await
        .context("a new nickname does not revoke tokens")?;
    Ok(())
}

async fn a_user_cannot_take_another_users_nickname(World { client, .. }: World) -> Result<()> {
    let (one, other) = (client.person("one").await?, client.person("other").await?);
    let body = json!({ "nickname": other.nickname });
    client.put(&format!("/api/users/{}", one.id), Auth::Token(&one.token), &body, StatusCode::CONFLICT).await?;
    Ok(())
}

async fn a_user_cannot_change_another_user(World { client, .. }: World) -> Result<()> {
    let (one, other) = (client.person("meddler").await?, client.person("victim").await?);
    let (path, body) = (format!("/api/users/{}", other.id), json!({ "password": "mine now" }));
    client.put(&path, Auth::Token(&one.token), &body, StatusCode::FORBIDDEN).await?;
    client.put(&path, Auth::None, &body, StatusCode::UNAUTHORIZED).await?;
    client.token(&other.nickname, &other.password).await?;
    Ok(())
}

async fn a_new_password_replaces_the_old_one(World { client, .. }: World) -> Result<()> {
    let person = client.person("rekeyed").await?;
    let body = json!({ "password": "a new password" });
    client.put(&format!("/api/users/{}", person.id), Auth::Token(&person.token), &body, StatusCode::NO_CONTENT).await?;
    client.token(&person.nickname, "a new password").await?;
    client.get("/api/users/me", Auth::Basic(&person.nickname, &person.password), StatusCode::UNAUTHORIZED).await?;
    Ok(())
}

async fn a_new_password_revokes_the_tokens_of_the_user(World { client, .. }: World) -> Result<()> {
    let person = client.person("careful").await?;
    let path = format!("/api/users/{}", person.id);
    client.put(&path, Auth::Token(&person.token), &json!({ "password": "changed" }), StatusCode::NO_CONTENT).await?;
    wait_for("the old token to be refused", || async {
        let answer = client.send_any(client.request(reqwest::Method::GET, &path, Auth::Token(&person.token))).await?;
        Ok((answer.status == StatusCode::UNAUTHORIZED).then_some(()))
    })
    .await?;
    let token = client.token(&person.nickname, "changed").await?;
    client.get(&path, Auth::Token(&token), StatusCode::OK).await.context("the new token is accepted")?;
    Ok(())
}

async fn a_wrong_current_password_changes_nothing(World { client, .. }: World) -> Result<()> {
    let person = client.person("guarded").await?;
    let (path, auth) = (format!("/api/users/{}", person.id), Auth::Token(&person.token));
    let body = json!({ "password": "another one", "current_password": "wrong" });
    client.put(&path, auth, &body, StatusCode::FORBIDDEN).await?;
    client.token(&person.nickname, &person.password).await?;
    let common = json!({ "password": "password1", "password_rules": "strict" });
    client.put(&path, auth, &common, StatusCode::BAD_REQUEST).await?;
    let body = json!({ "password": "another one", "current_password": person.password, "password_rules": "strict" });
    client.put(&path, auth, &body, StatusCode::NO_CONTENT).await?;
    client.token(&person.nickname, "another one").await?;
    Ok(())
}

async fn guesses_for_one_account_are_limited_and_others_sign_in(World { client, .. }: World) -> Result<()> {
    let (person, neighbour) = (client.person("guessed").await?, client.person("neighbour").await?);
    // One more for each six seconds.
    for _ in 0..20 {
        let guess = client.request(reqwest::Method::POST, "/api/tokens", Auth::Basic(&person.nickname, "wrong"));
        let answer = client.send_any(guess).await?;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            ensure!(!answer.header("retry-after").is_empty());
            client.token(&neighbour.nickname, &neighbour.password).await?;
            return Ok(());
        }
        ensure!(answer.status == StatusCode::UNAUTHORIZED, "{}", answer.status);
    }
    bail!("20 guesses were possible")
}

async fn now(client: &Client, user_id: i64) -> Result<i64> {
    let user = client.get(&format!("/api/users/{user_id}"), Auth::None, StatusCode::OK).await?;
    user.body["updated_at"].as_i64().context("no updated_at")
}

fn has_user(list: &Value, id: i64) -> bool {
    list["users"].as_array().is_some_and(|users| users.iter().any(|user| user["id"] == id))
}
