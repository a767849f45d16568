//! The browser app in real Chromium: two windows, two people, one chat.
//!
//! Nothing is skipped when Chromium is missing: an app that nobody has looked at is not tested.

mod driver;
mod window;
mod cable;

use std::process::ExitCode;

use anyhow::ensure;
use fantoccini::key::Key;
use flack_conformance::{
    cases,
    stack::{Stack, Stage},
    suite::{self, Case, World},
};

use crate::{
    cable::Cable,
    driver::Driver,
    window::{Window, screenshot_path},
};

const PASSWORD: &str = "correct horse battery";
const ONLINE: &str = "document.querySelector('#connection').dataset.phase === 'online'";

fn main() -> ExitCode {
    // One case after the other: each opens two windows, and a browser is heavy.
    suite::main_in_order(
        &[
            ("services", || Stack::start(Stage::Services, "")),
            ("monolith", || Stack::start(Stage::Monolith, "")),
        ],
        browser_cases,
    )
}

fn browser_cases() -> Vec<Case> {
    cases![
        two_people_in_two_windows_chat,
        a_lost_connection_is_shown_and_nothing_is_lost_or_said_twice,
        a_session_that_ends_takes_no_draft_with_it,
    ]
}

async fn two_people_in_two_windows_chat(world: World) -> anyhow::Result<()> {
    let url = world.stack.url();
    Driver::scene(async |driver| {
        let ana = register(driver, &url, "Ana").await?;
        let ben = register(driver, &url, "Ben").await?;
        for window in [&ana, &ben] {
            window.until("both are shown as here", &here(&["Ana", "Ben"])).await?;
        }

        ana.write("#draft", &say("Good morning! **Is anybody** here?")).await?;
        ben.until("Ben reads it, rendered", &said("Good morning! Is anybody here?", 1)).await?;
        ben.until("Markdown is rendered", "document.querySelector('.message strong') !== null").await?;
        ana.until("it is confirmed", "!document.querySelector('[data-outgoing]')").await?;

        ben.write("#draft", "I am.").await?;
        ana.until("Ana sees that Ben types", "document.querySelector('#typing').textContent === 'Ben is typing'").await?;
        ben.write("#draft", &format!("{}And `mf ps` says so too.{}", shift_enter(), char::from(Key::Enter))).await?;
        ana.until("Ana reads both lines", &said("I am.", 1)).await?;
        ana.until("code is rendered", "document.querySelector('.message code')?.textContent === 'mf ps'").await?;
        ana.until("Ben has stopped typing", "document.querySelector('#typing').textContent === ''").await?;

        // The arrow in an empty field takes the last message back to be corrected.
        ana.write("#draft", &char::from(Key::Up).to_string()).await?;
        ana.until("the editor is open", "document.activeElement.matches('.edit-source')").await?;
        ana.write(".edit-source", &format!(" (Anybody at all?){}", char::from(Key::Enter))).await?;
        ben.until("Ben sees the edit", &said("(Anybody at all?)", 1)).await?;
        ben.until("it is still one message", "document.querySelectorAll('.message').length === 2").await?;

        ana.write("#draft", &say("<img src=x onerror=\"document.title='stolen'\"> <script>document.title='stolen'</script> safe")).await?;
        ben.until("HTML from people is cleaned", &said("safe", 1)).await?;
        let harmful = "document.querySelector('.message [onerror], .message script') !== null || document.title === 'stolen'";
        ensure!(ben.ask(harmful).await? == false, "a message could run a script");

        // System, light, dark; and the account remembers.
        ben.click("#theme").await?;
        ben.click("#theme").await?;
        ben.until("Ben likes it dark", "document.documentElement.dataset.theme === 'dark'").await?;
        ben.until("it is stored", "performance.getEntriesByName(location.origin + '/api/ui/preferences').length >= 3").await?;
        ben.run("localStorage.clear(); location.reload()").await?;
        ben.until("the session outlives a reload", &format!("{ONLINE} && !document.querySelector('#sign-in').open")).await?;
        ben.until("so does the conversation", "document.querySelectorAll('.message').length === 3").await?;
        ben.until("and the choice of colours", "document.documentElement.dataset.theme === 'dark'").await?;
        ben.write("#draft", &say("Still me after a reload.")).await?;
        ana.until("Ana reads on", &said("Still me after a reload.", 1)).await?;

        let stage = world.stack.stage.name();
        let suffix = if world.stack.stage == Stage::Services { String::new() } else { format!("-{stage}") };
        ana.screenshot(&screenshot_path(&format!("two-people{suffix}"))?).await?;
        ben.screenshot(&screenshot_path(&format!("two-people{suffix}-dark"))?).await?;

        ben.click("#sign-out").await?;
        ben.until("Ben is asked who is there", "document.querySelector('#sign-in').open").await?;
        ana.until("Ana sees him leave", "document.querySelector('#away .person-name')?.textContent === 'Ben'").await?;
        ensure!(ben.ask("sessionStorage.getItem('flack.token')").await?.is_null(), "the token is still there");
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

async fn a_lost_connection_is_shown_and_nothing_is_lost_or_said_twice(world: World) -> anyhow::Result<()> {
    let url = world.stack.url();
    Driver::scene(async |driver| {
        let cable = Cable::to(&url).await?;
        let chiyo = register(driver, &cable.url(), "Chiyo").await?;
        let dmitri = register(driver, &url, "Dmitri").await?;
        chiyo.write("#draft", &say("before the cut")).await?;
        dmitri.until("they are connected", &said("before the cut", 1)).await?;

        cable.cut();
        chiyo
            .until("the loss is shown", "document.querySelector('#connection').dataset.phase !== 'online'")
            .await?;
        chiyo.write("#draft", &say("written in the dark")).await?;
        chiyo.until("it waits", "document.querySelector('[data-outgoing]') !== null").await?;
        dmitri.write("#draft", &say("said meanwhile")).await?;
        dmitri.until("it is confirmed", "!document.querySelector('[data-outgoing]')").await?;
        chiyo.until("what to expect is said", "!document.querySelector('#trouble').hidden").await?;
        chiyo.screenshot(&screenshot_path("connection-lost")?).await?;

        cable.mend();
        chiyo.until("the connection comes back by itself", ONLINE).await?;
        chiyo.until("what was written is sent", "!document.querySelector('[data-outgoing]')").await?;
        for window in [&chiyo, &dmitri] {
            for text in ["before the cut", "written in the dark", "said meanwhile"] {
                window.until("everything is there once", &said(text, 1)).await?;
            }
        }
        Ok(())
    })
    .await
}

async fn a_session_that_ends_takes_no_draft_with_it(world: World) -> anyhow::Result<()> {
    let url = world.stack.url();
    Driver::scene(async |driver| {
        let eleni = register(driver, &url, "Eleni").await?;
        eleni.write("#draft", "half a thou").await?;
        eleni
            .run("fetch('/api/tokens', { method: 'DELETE', headers: { Authorization: `Bearer ${JSON.parse(sessionStorage['flack.token'])}` } })")
            .await?;
        eleni.until("she is asked again", "document.querySelector('#sign-in').open").await?;
        eleni.until("and the name is known", "document.querySelector('#nickname').value === 'Eleni'").await?;
        eleni.write("#password", PASSWORD).await?;
        eleni.click("#sign-in-go").await?;
        eleni.until("the chat goes on", &format!("{ONLINE} && !document.querySelector('#sign-in').open")).await?;
        eleni.write("#draft", &say("ght")).await?;
        eleni.until("the whole thought is sent", &said("half a thought", 1)).await
    })
    .await
}

/// A window in which somebody new has joined the chat.
async fn register(driver: &Driver, url: &str, nickname: &str) -> anyhow::Result<Window> {
    let window = driver.open(url).await?;
    window.until("the app asks who is there", "document.querySelector('#sign-in').open").await?;
    window.write("#nickname", nickname).await?;
    window.write("#password", PASSWORD).await?;
    window.click("#sign-in-go").await?;
    window.until("the chat is live", ONLINE).await?;
    Ok(window)
}

fn say(text: &str) -> String {
    format!("{text}{}", char::from(Key::Enter))
}

fn shift_enter() -> String {
    // The last one lets go of all keys that are held.
    [Key::Shift, Key::Enter, Key::Null].map(char::from).iter().collect()
}

/// Whether so many messages, of whatever state, hold this text.
fn said(text: &str, times: usize) -> String {
    format!(
        "[...document.querySelectorAll('.message-text')].filter((m) => m.textContent.includes({text:?})).length === {times}"
    )
}

/// Whether these are here; others may be too.
fn here(nicknames: &[&str]) -> String {
    format!(
        "{nicknames:?}.every((name) => [...document.querySelectorAll('#here .person-name')].some((p) => p.textContent === name))"
    )
}
