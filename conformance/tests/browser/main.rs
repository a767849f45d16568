//! The browser app in real Chromium: two windows, two users, one chat.
//!
//! The tests fail when Chromium is missing.

mod driver;
mod window;
mod tab;
mod connection;
mod page;
mod channels;
mod conversation;
mod files;
mod scroll;
mod tabs;
mod search;
mod axe;
mod interests;
mod moves;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use fantoccini::key::Key;
use flack_conformance::{
    cases,
    stack::{Stack, Stage},
    suite::{self, Case, World},
};

use crate::{
    connection::Connection,
    driver::Driver,
    window::{Window, screenshot_path},
};

const PASSWORD: &str = "correct horse battery";
const ONLINE: &str = "document.querySelector('#connection').dataset.phase === 'online'";
const SIGNED_IN: &str = "!document.querySelector('#sign-in').open";
const ASKED_TO_SIGN_IN: &str = "document.querySelector('#sign-in').open";
/// An expression: the token of the user.
const TOKEN: &str = "JSON.parse(localStorage['flack.session']).token";
/// Every message of this window is confirmed by the server.
const ALL_SENT: &str = "!document.querySelector('[data-outgoing]')";

fn main() -> ExitCode {
    // One case after the other: each opens two windows, and a browser needs much memory.
    suite::main_in_order(
        &[("services", || Stack::start(Stage::Services, "")), ("monolith", || Stack::start(Stage::Monolith, ""))],
        browser_cases,
    )
}

/// The page is the same in both shapes, and `contract.rs` tests the API in both. So only these cases run twice. The
/// last one of the monolith moves its parts to services.
fn browser_cases(stack: &str) -> Vec<Case> {
    let mut cases = cases![
        two_users_chat_in_two_windows,
        html_in_a_message_is_shown_as_text,
        a_lost_connection_is_shown_and_no_message_is_lost_or_duplicated,
        a_draft_survives_the_end_of_a_session,
        a_websocket_that_the_browser_closes_ends_cleanly,
        a_new_password_has_rules_and_needs_the_current_one,
    ];
    if stack == "monolith" {
        cases.extend(moves::cases());
    } else {
        cases.extend(page::cases());
        cases.extend(channels::cases());
        cases.extend(conversation::cases());
        cases.extend(files::cases());
        cases.extend(search::cases());
        cases.extend(interests::cases());
        // Last those with thousands of messages: their events reach search, recommend and tag some time later.
        cases.extend(axe::cases());
        cases.extend(scroll::cases());
        cases.extend(tabs::cases());
    }
    cases
}

async fn two_users_chat_in_two_windows(world: World) -> Result<()> {
    let url = world.stack.url();
    Driver::run(async |driver| {
        let ana = register(driver, &url, "Ana").await?;
        let ben = register(driver, &url, "Ben").await?;
        for window in [&ana, &ben] {
            window.until("both are shown as here", &here(&["Ana", "Ben"])).await?;
        }

        ana.write("#draft", &line("Good morning! **Is anybody** here?")).await?;
        ben.until("Ben reads it, rendered", &shown("Good morning! Is anybody here?", 1)).await?;
        ben.until("Markdown is rendered", "document.querySelector('.message strong') !== null").await?;
        ana.until("it is confirmed", ALL_SENT).await?;

        ben.write("#draft", "I am.").await?;
        ana.until("Ana sees that Ben types", "document.querySelector('#typing').textContent === 'Ben is typing'")
            .await?;
        ben.write("#draft", &format!("{}And `mf ps` says so too.{}", shift_enter(), char::from(Key::Enter))).await?;
        ana.until("Ana reads both lines", &shown("I am.", 1)).await?;
        ana.until("code is rendered", "document.querySelector('.message code')?.textContent === 'mf ps'").await?;
        ana.until("Ben has stopped typing", "document.querySelector('#typing').textContent === ''").await?;

        // The up arrow in an empty field edits the last message.
        ana.write("#draft", &char::from(Key::Up).to_string()).await?;
        ana.until("the editor is open", "document.activeElement.matches('.edit-source')").await?;
        ana.write(".edit-source", &format!(" (Anybody at all?){}", char::from(Key::Enter))).await?;
        ben.until("Ben sees the edit", &shown("(Anybody at all?) (edited)", 1)).await?;
        ben.until("it is still one message", "document.querySelectorAll('.message').length === 2").await?;

        // System, light, dark; the choice is stored for the user.
        ben.click("#theme").await?;
        ben.click("#theme").await?;
        ben.until("Ben's theme is dark", "document.documentElement.dataset.theme === 'dark'").await?;
        let calls = "performance.getEntriesByName(location.origin + '/api/ui/preferences')";
        ben.until("it is stored", &format!("{calls}.length >= 3")).await?;
        ben.run("localStorage.removeItem('flack.theme'); location.reload()").await?;
        ben.until("the session outlives a reload", &format!("{ONLINE} && {SIGNED_IN}")).await?;
        ben.until("so does the conversation", "document.querySelectorAll('.message').length === 2").await?;
        ben.until("and the choice of colours", "document.documentElement.dataset.theme === 'dark'").await?;
        ben.write("#draft", &line("Still me after a reload.")).await?;
        ana.until("Ana reads on", &shown("Still me after a reload.", 1)).await?;

        let name = match world.stack.stage {
            Stage::Services => "two-people",
            Stage::Monolith => "two-people-monolith",
        };
        ana.screenshot(&screenshot_path(name)?).await?;
        ben.screenshot(&screenshot_path(&format!("{name}-dark"))?).await?;

        ben.click("#sign-out").await?;
        ben.until("Ben is asked to sign in", ASKED_TO_SIGN_IN).await?;
        ana.until("Ana sees him leave", "document.querySelector('#away .person-name')?.textContent === 'Ben'").await?;
        ensure!(ben.evaluate("localStorage.getItem('flack.session')").await?.is_null(), "the token is still there");
        ben.click("[name=way][value=return]").await?;
        ben.write("#nickname", "Ben").await?;
        ben.write("#password", "wrong").await?;
        ben.click("#sign-in-go").await?;
        ben.until("a wrong password is refused", "!document.querySelector('#sign-in-problem').hidden").await?;
        ben.run("document.querySelector('#password').value = ''").await?;
        ben.write("#password", PASSWORD).await?;
        ben.click("#sign-in-go").await?;
        ana.until("Ana sees him come back", &here(&["Ana", "Ben"])).await
    })
    .await
}

async fn html_in_a_message_is_shown_as_text(world: World) -> Result<()> {
    let url = world.stack.url();
    Driver::run(async |driver| {
        let mallory = register(driver, &url, "Mallory").await?;
        let theft = "document.title='stolen'";
        let source = format!("<img src=x onerror=\"{theft}\"> <script>{theft}</script> [link](javascript:{theft}) end");
        mallory.write("#draft", &line(&source)).await?;
        mallory.until("it is shown to everybody", &format!("{ALL_SENT} && {}", shown(theft, 1))).await?;
        let harmful = ".message-text :is(img, script, [onerror], [href^=javascript])";
        let found = mallory.evaluate(&format!("document.querySelector('{harmful}') !== null")).await?;
        ensure!(found == false, "the message kept what can run");
        ensure!(mallory.evaluate("document.title").await? != "stolen", "a message could run a script");
        Ok(())
    })
    .await
}

async fn a_lost_connection_is_shown_and_no_message_is_lost_or_duplicated(world: World) -> Result<()> {
    let url = world.stack.url();
    Driver::run(async |driver| {
        let connection = Connection::to(&url).await?;
        let chiyo = register(driver, &connection.url(), "Chiyo").await?;
        let dmitri = register(driver, &url, "Dmitri").await?;
        chiyo.write("#draft", &line("before the cut")).await?;
        dmitri.until("they are connected", &shown("before the cut", 1)).await?;

        connection.cut();
        chiyo.until("the loss is shown", "document.querySelector('#connection').dataset.phase !== 'online'").await?;
        chiyo.write("#draft", &line("written in the dark")).await?;
        chiyo.until("it waits", "document.querySelector('[data-outgoing]') !== null").await?;
        dmitri.write("#draft", &line("posted meanwhile")).await?;
        dmitri.until("it is confirmed", ALL_SENT).await?;
        chiyo.until("the consequences are explained", "!document.querySelector('#trouble').hidden").await?;
        chiyo.screenshot(&screenshot_path("connection-lost")?).await?;

        connection.restore();
        chiyo.until("the connection comes back by itself", ONLINE).await?;
        chiyo.until("what was written is sent", ALL_SENT).await?;
        for window in [&chiyo, &dmitri] {
            for text in ["before the cut", "written in the dark", "posted meanwhile"] {
                window.until("everything is there once", &shown(text, 1)).await?;
            }
        }
        Ok(())
    })
    .await
}

async fn a_draft_survives_the_end_of_a_session(world: World) -> Result<()> {
    let url = world.stack.url();
    Driver::run(async |driver| {
        let eleni = register(driver, &url, "Eleni").await?;
        eleni.write("#draft", "half a thou").await?;
        let headers = format!("{{ Authorization: `Bearer ${{{TOKEN}}}` }}");
        eleni.run(&format!("fetch('/api/tokens', {{ method: 'DELETE', headers: {headers} }})")).await?;
        eleni.until("she is asked again", ASKED_TO_SIGN_IN).await?;
        eleni.until("and the name is known", "document.querySelector('#nickname').value === 'Eleni'").await?;
        eleni.write("#password", PASSWORD).await?;
        eleni.click("#sign-in-go").await?;
        eleni.until("the chat goes on", &format!("{ONLINE} && {SIGNED_IN}")).await?;
        eleni.write("#draft", &line("ght")).await?;
        eleni.until("the whole thought is sent", &shown("half a thought", 1)).await
    })
    .await
}

async fn a_websocket_that_the_browser_closes_ends_cleanly(world: World) -> Result<()> {
    let url = world.stack.url();
    Driver::run(async |driver| {
        let window = driver.open(&url).await?;
        window
            .run(
                "const socket = new WebSocket(`ws://${location.host}/ws`);
                socket.onopen = () => socket.close(1000, 'done');
                socket.onclose = ({ code, wasClean }) => { window.ended = `${code} ${wasClean}`; };",
            )
            .await?;
        window.until("it has ended", "typeof window.ended === 'string'").await?;
        let ended = window.evaluate("window.ended").await?;
        ensure!(ended == "1000 true", "not a clean close: {ended}");
        Ok(())
    })
    .await
}

async fn a_new_password_has_rules_and_needs_the_current_one(world: World) -> Result<()> {
    let url = world.stack.url();
    Driver::run(async |driver| {
        let farid = driver.open(&url).await?;
        farid.until("the app asks to sign in", ASKED_TO_SIGN_IN).await?;
        farid.write("#nickname", "Farid").await?;
        farid.write("#password", "123456789").await?;
        farid.click("#sign-in-go").await?;
        let refused = |id: &str, text: &str| format!("document.querySelector('#{id}').textContent.includes('{text}')");
        farid.until("a common password is refused", &refused("sign-in-problem", "most common")).await?;
        farid.run("document.querySelector('#password').value = ''").await?;
        farid.write("#password", PASSWORD).await?;
        farid.click("#sign-in-go").await?;
        farid.until("the chat is live", ONLINE).await?;

        let change = async |current: &str, next: &str| -> Result<()> {
            farid.run("document.querySelector('#password-change-form').reset()").await?;
            farid.write("#current-password", current).await?;
            farid.write("#new-password", next).await?;
            farid.click("#password-change-go").await
        };
        farid.click("#account").await?;
        change("wrong", "plover und weasel").await?;
        farid.until("the current one is wrong", &refused("password-change-problem", "is wrong")).await?;
        change(PASSWORD, "short").await?;
        farid.until("the new one is too short", &refused("password-change-problem", "at least 8")).await?;
        change(PASSWORD, "plover und weasel").await?;
        farid.until("it is changed", "!document.querySelector('#password-change').open").await?;
        farid.until("the chat goes on with a new token", &format!("{ONLINE} && {SIGNED_IN}")).await?;
        farid.write("#draft", &line("a new key")).await?;
        farid.until("it is sent", &format!("{ALL_SENT} && {}", shown("a new key", 1))).await
    })
    .await
}

/// Opens a window and registers a user.
async fn register(driver: &Driver, url: &str, nickname: &str) -> Result<Window> {
    let window = driver.open(url).await?;
    sign_up(&window, nickname).await?;
    Ok(window)
}

async fn sign_up(window: &Window, nickname: &str) -> Result<()> {
    window.until("the app asks to sign in", ASKED_TO_SIGN_IN).await?;
    window.write("#nickname", nickname).await?;
    window.write("#password", PASSWORD).await?;
    window.click("#sign-in-go").await?;
    window.until("the chat is live", ONLINE).await
}

fn line(text: &str) -> String {
    format!("{text}{}", char::from(Key::Enter))
}

fn shift_enter() -> String {
    // `Null` releases all pressed keys.
    [Key::Shift, Key::Enter, Key::Null].map(char::from).iter().collect()
}

/// An expression: whether so many messages, in any state, contain this text.
fn shown(text: &str, times: usize) -> String {
    let texts = "[...document.querySelectorAll('.message-text')].map((message) => message.textContent)";
    format!("{texts}.filter((shown) => shown.includes({text:?})).length === {times}")
}

/// An expression: whether these users, and perhaps others, are online.
fn here(nicknames: &[&str]) -> String {
    let names = "[...document.querySelectorAll('#here .person-name')].map((name) => name.textContent)";
    format!("{nicknames:?}.every((nickname) => {names}.includes(nickname))")
}
