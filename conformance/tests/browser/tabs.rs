//! Several tabs of one browser: they share the session and the outbox.

use std::ops::Range;

use anyhow::{Context as _, Result, ensure};
use fantoccini::key::Key;
use flack_conformance::{
    cases,
    client::{Auth, Client, unique},
    stack::Stage,
    suite::{Case, World},
};
use reqwest::StatusCode;
use serde_json::Value;

use crate::{
    ALL_SENT, ASKED_TO_SIGN_IN, ONLINE, PASSWORD, SIGNED_IN, TOKEN,
    channels::{create, is_open},
    connection::Connection,
    driver::Driver,
    line, register, shift_enter, shown, sign_up,
    window::{Window, screenshot_path},
};

/// Half of them are written in a tab that is killed.
const SENDS: usize = 300;

/// An expression: the number of entries in the outbox of the browser, as a promise.
pub const STORED: &str = "new Promise((resolve, reject) => {
    const request = indexedDB.open('flack');
    request.onerror = reject;
    request.onsuccess = () => {
        const count = request.result.transaction('outbox').objectStore('outbox').count();
        count.onsuccess = () => {
            request.result.close();
            resolve(count.result);
        };
    };
})";

pub fn cases() -> Vec<Case> {
    cases![
        nothing_is_lost_doubled_or_reordered_when_tab_network_and_service_are_killed,
        what_was_written_offline_is_sent_after_all_tabs_were_closed,
        tabs_share_sign_in_sign_out_and_a_new_token,
        a_refused_message_can_be_edited_or_discarded_in_each_tab,
        a_browser_that_stores_nothing_says_so_and_sends,
        the_drawer_shows_who_answered,
    ]
}

async fn nothing_is_lost_doubled_or_reordered_when_tab_network_and_service_are_killed(world: World) -> Result<()> {
    let (url, name) = (world.stack.url(), unique("tabs"));
    let service = match world.stack.stage {
        Stage::Services => "messages",
        Stage::Monolith => "monolith",
    };
    Driver::run(async |driver| {
        let connection = Connection::to(&url).await?;
        let nele = register(driver, &connection.url(), "Nele").await?;
        create(&nele, &name, "private").await?;
        let mut other = nele.open_tab(&format!("{}/#/channels/{name}", connection.url())).await?;
        other.until("the second tab is live", &format!("{ONLINE} && {}", is_open(&name))).await?;

        other.evaluate(&post(0..SENDS / 2)).await?;
        nele.until("all were written", &format!("{} === {}", rows(), SENDS / 2)).await?;
        ensure!(nele.evaluate(STORED).await? != 0, "all messages were sent before the tab was killed");
        other.crash().await?;

        connection.cut();
        nele.run(&post(SENDS / 2..SENDS * 3 / 4)).await?;
        connection.restore();
        nele.until("something is sent", &format!("{STORED}.then((stored) => stored < {})", SENDS / 2)).await?;
        world.stack.mf_ok(&["kill", service, "--all", "--hard"])?;
        nele.run(&post(SENDS * 3 / 4..SENDS)).await?;
        nele.until_within(4, "all are sent", &format!("{ALL_SENT} && {} === {SENDS}", rows())).await?;
        nele.until("nothing is stored any more", &format!("{STORED}.then((stored) => stored === 0)")).await?;

        let token = nele.evaluate(TOKEN).await?;
        let sources = sources(&world.client, &name, token.as_str().context("a token")?).await?;
        let expected: Vec<String> = (0..SENDS).map(|number| format!("send {number}")).collect();
        ensure!(sources == expected, "{sources:?}");
        Ok(())
    })
    .await
}

async fn what_was_written_offline_is_sent_after_all_tabs_were_closed(world: World) -> Result<()> {
    let url = world.stack.url();
    Driver::run(async |driver| {
        let connection = Connection::to(&url).await?;
        let omar = register(driver, &connection.url(), "Omar").await?;
        connection.cut();
        omar.until("the loss is shown", &format!("!({ONLINE})")).await?;
        omar.write("#draft", &line("kept in the browser")).await?;
        omar.until("it is stored", &format!("{STORED}.then((stored) => stored === 1)")).await?;
        // Another page, from where the messages are not sent: as if the browser was closed.
        connection.restore();
        omar.goto(&format!("{}/api/docs", connection.url())).await?;
        omar.goto(&connection.url()).await?;
        omar.until("it is sent", &format!("{ONLINE} && {ALL_SENT} && {}", shown("kept in the browser", 1))).await?;
        omar.until("it is stored no more", &format!("{STORED}.then((stored) => stored === 0)")).await
    })
    .await
}

async fn tabs_share_sign_in_sign_out_and_a_new_token(world: World) -> Result<()> {
    let url = world.stack.url();
    Driver::run(async |driver| {
        let pilar = driver.open(&url).await?;
        pilar.until("the app asks to sign in", ASKED_TO_SIGN_IN).await?;
        let mut other = pilar.open_tab(&url).await?;
        other.until("the second tab asks, too", ASKED_TO_SIGN_IN).await?;
        sign_up(&pilar, "Pilar").await?;
        let is_live = format!("{ONLINE} && {SIGNED_IN}");
        other.until("the second tab follows", &is_live).await?;

        pilar.click("#account").await?;
        pilar.write("#current-password", PASSWORD).await?;
        pilar.write("#new-password", "plover und weasel").await?;
        pilar.click("#password-change-go").await?;
        pilar.until("it is changed", "!document.querySelector('#password-change').open").await?;
        for text in ["with a new token", "once more"] {
            pilar.until("the first tab is live", &is_live).await?;
            other.until("the second tab is live", &is_live).await?;
            other.evaluate(&post_one(text)).await?;
            pilar.until("both read it", &shown(text, 1)).await?;
        }

        other.evaluate("sessionStorage.setItem('flack.drafts', JSON.stringify({ 1: 'private' }))").await?;
        pilar.click("#sign-out").await?;
        other
            .until(
                "the second tab is signed out",
                &format!("{ASKED_TO_SIGN_IN} && document.querySelector('#chat').hidden"),
            )
            .await?;
        let left = other.evaluate("Object.keys(sessionStorage).length").await?;
        ensure!(left == 0, "a draft is left");
        pilar.until("the first tab asks", ASKED_TO_SIGN_IN).await?;
        pilar.click("[name=way][value=return]").await?;
        pilar.run("document.querySelector('#nickname').value = ''").await?;
        pilar.write("#nickname", "Pilar").await?;
        pilar.write("#password", "plover und weasel").await?;
        pilar.click("#sign-in-go").await?;
        other.until("the second tab follows again", &is_live).await
    })
    .await
}

async fn a_refused_message_can_be_edited_or_discarded_in_each_tab(world: World) -> Result<()> {
    let (url, name) = (world.stack.url(), unique("refused"));
    Driver::run(async |driver| {
        let connection = Connection::to(&url).await?;
        let quin = register(driver, &connection.url(), "Quin").await?;
        create(&quin, &name, "public").await?;
        let mut other = quin.open_tab(&format!("{}/#/channels/{name}", connection.url())).await?;
        other.until("the second tab is live", &format!("{ONLINE} && {}", is_open(&name))).await?;
        connection.cut();
        quin.until("the loss is shown", &format!("!({ONLINE})")).await?;
        for text in ["the first line", "the second line"] {
            quin.write("#draft", &line(text)).await?;
        }
        archive(&world.client, &name, &quin).await?;
        connection.restore();
        let refused = "document.querySelectorAll('[data-outgoing=refused]').length";
        quin.until("both are refused", &format!("{refused} === 2")).await?;
        other.until("also in the second tab", &format!("{refused} === 2")).await?;
        quin.screenshot(&screenshot_path("refused")?).await?;

        let click = |label: &str| {
            format!(
                "[...document.querySelectorAll('[data-outgoing=refused] button')]
                    .find(({{ textContent }}) => textContent === {label:?}).click()"
            )
        };
        quin.run(&click("Edit")).await?;
        quin.until("the text is back", "document.querySelector('#draft').value === 'the first line'").await?;
        other.until("one is left in the second tab", &format!("{refused} === 1")).await?;
        other.evaluate(&click("Discard")).await?;
        quin.until("none is left", &format!("{refused} === 0")).await?;
        quin.run("location.reload()").await?;
        quin.until("also after a reload", &format!("{ONLINE} && {} && {ALL_SENT}", is_open(&name))).await
    })
    .await
}

async fn a_browser_that_stores_nothing_says_so_and_sends(world: World) -> Result<()> {
    let (url, name) = (world.stack.url(), unique("memory"));
    Driver::run(async |driver| {
        let rahel = register(driver, &url, "Rahel").await?;
        create(&rahel, &name, "private").await?;
        let mut tab = rahel.open_tab("about:blank").await?;
        let refuse = "IDBFactory.prototype.open = () => { throw new DOMException('refused', 'SecurityError'); };";
        tab.goto_with(&format!("{url}/#/channels/{name}"), refuse).await?;
        let notice = "document.querySelector('#notice:not([hidden])')?.textContent ?? ''";
        tab.until("it says so", &format!("({notice}).includes('stores nothing')")).await?;
        tab.until("it is live", &format!("{ONLINE} && {}", is_open(&name))).await?;
        for text in ["not stored", "also not stored"] {
            tab.evaluate(&post_one(text)).await?;
            tab.until("it is sent", &format!("{ALL_SENT} && {}", shown(text, 1))).await?;
            rahel.until("it is sent once", &format!("{ALL_SENT} && {}", shown(text, 1))).await?;
        }
        Ok(())
    })
    .await
}

async fn the_drawer_shows_who_answered(world: World) -> Result<()> {
    let url = world.stack.url();
    Driver::run(async |driver| {
        let sven = register(driver, &url, "Sven").await?;
        let loaded = "performance.getEntriesByType('resource').some(({ name }) => name.includes('/static/scenes.'))";
        ensure!(sven.evaluate(loaded).await? == false, "the drawer is part of the first view");
        sven.write("#draft", &format!("hello{}{}", shift_enter(), line("there"))).await?;
        let control_dot: String = [char::from(Key::Control), '.', char::from(Key::Null)].iter().collect();
        sven.write("#draft", &control_dot).await?;
        let drawer = "document.querySelector('.scenes:not([hidden])')?.innerText ?? ''";
        let part = match world.stack.stage {
            Stage::Services => ["messages: messages", "Connected to websocket-", ", service, version"],
            Stage::Monolith => ["messages: monolith", "Connected to monolith-", ", monolith, version"],
        };
        for text in part.into_iter().chain(["GET /api/v2/messages", "Copy"]) {
            sven.until("the drawer shows it", &format!("({drawer}).includes({text:?})")).await?;
        }
        ensure!(sven.evaluate("document.querySelectorAll('.scenes-calls > li').length <= 50").await? == true);
        sven.screenshot(&screenshot_path("scenes")?).await?;
        sven.run("document.documentElement.dataset.theme = 'dark'").await?;
        sven.screenshot(&screenshot_path("scenes-dark")?).await?;
        sven.write(".scenes button", &char::from(Key::Escape).to_string()).await?;
        sven.until("it is closed", "document.querySelector('.scenes').hidden").await?;

        let phone = driver.open_phone(&url).await?;
        sign_up(&phone, "Swantje").await?;
        phone.click("#side-toggle").await?;
        phone.click("#scenes-open").await?;
        phone.until("it fits", "document.querySelector('.scenes')?.scrollWidth <= 360").await?;
        phone.screenshot(&screenshot_path("phone-scenes")?).await
    })
    .await
}

/// Statements: post numbered messages to the open channel, as fast as the page accepts them.
fn post(numbers: Range<usize>) -> String {
    format!(
        "(() => {{
            const draft = document.querySelector('#draft');
            for (let number = {}; number < {}; number += 1) {{
                draft.value = `send ${{number}}`;
                draft.form.requestSubmit();
            }}
        }})()",
        numbers.start, numbers.end
    )
}

/// An expression: posts a message.
pub fn post_one(text: &str) -> String {
    format!("document.querySelector('#draft').value = {text:?}, document.querySelector('#draft').form.requestSubmit()")
}

/// An expression: the number of rows, stored or not, that are shown.
fn rows() -> &'static str {
    "document.querySelectorAll('.message').length"
}

/// Archives a channel in the name of the user of a window.
async fn archive(client: &Client, name: &str, window: &Window) -> Result<()> {
    let token = window.evaluate(TOKEN).await?;
    let auth = Auth::Token(token.as_str().context("a token")?);
    let path = format!("/api/v2/channels/{}", channel_id(client, name, auth).await?);
    let request = client.request(reqwest::Method::PATCH, &path, auth).json(&serde_json::json!({ "archived": true }));
    client.send(request, StatusCode::OK).await?;
    Ok(())
}

async fn channel_id(client: &Client, name: &str, auth: Auth<'_>) -> Result<Value> {
    let list = client.get("/api/v2/channels", auth, StatusCode::OK).await?;
    let channels = list.body["channels"].as_array().context("a list")?;
    Ok(channels.iter().find(|channel| channel["name"] == name).context("the channel")?["id"].clone())
}

/// Returns the sources of all messages of a channel, in their order.
pub async fn sources(client: &Client, name: &str, token: &str) -> Result<Vec<String>> {
    let auth = Auth::Token(token);
    let path = format!("/api/v2/channels/{}/messages?limit=100", channel_id(client, name, auth).await?);
    let mut pages = Vec::new();
    let mut next = path.clone();
    loop {
        let page = client.get(&next, auth, StatusCode::OK).await?;
        let messages = page.body["messages"].as_array().context("a page")?;
        pages.push(messages.iter().map(|message| message["source"].as_str().unwrap_or_default().to_owned()).collect());
        let Some(earlier) = page.body["earlier"].as_str() else { break };
        next = format!("{path}&before={earlier}");
    }
    pages.reverse();
    Ok(pages.into_iter().flat_map(|page: Vec<String>| page).collect())
}
