//! Accessibility of the page's states: no violation of WCAG 2.0 to 2.2, levels A and AA, that axe finds.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use flack_conformance::{
    cases,
    client::unique,
    suite::{Case, World},
};

use crate::{
    ALL_SENT, ASKED_TO_SIGN_IN, ONLINE,
    channels::create,
    connection::Connection,
    driver::Driver,
    line, register,
    search::find,
    shift_enter, sign_up,
    window::{Window, screenshot_path},
};

/// An expression: what axe finds, a line for each element, as a promise.
const VIOLATIONS: &str = "axe.run(document, {
    runOnly: { type: 'tag', values: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'] },
    resultTypes: ['violations'],
}).then(({ violations }) => violations.flatMap(({ id, help, nodes }) =>
    nodes.map(({ html, failureSummary }) => `${id} (${help}): ${html}\\n  ${failureSummary}`)).join('\\n'))";

/// What opens each dialog, which Esc closes.
const DIALOGS: [(&str, &str); 8] = [
    ("the switcher", "#switcher-open"),
    ("the shortcuts", "#shortcuts-open"),
    ("the channels to join", "#browse-open"),
    ("a new channel", "#new-channel-open"),
    ("a new conversation", "#new-direct-open"),
    ("the details of a channel", "#details-open"),
    ("a new password", "#account"),
    ("the search", "#search-open"),
];

pub fn cases() -> Vec<Case> {
    cases![the_page_has_no_violation_in_any_state, a_phone_has_no_violation_in_any_state]
}

async fn the_page_has_no_violation_in_any_state(world: World) -> Result<()> {
    let Some(axe) = axe()? else { return Ok(()) };
    let (url, name) = (world.stack.url(), unique("axe"));
    Driver::run(async |driver| {
        let connection = Connection::to(&url).await?;
        let tove = driver.open(&connection.url()).await?;
        tove.until("the app asks to sign in", ASKED_TO_SIGN_IN).await?;
        tove.run(&axe).await?;
        check(&tove, "the sign-in").await?;
        sign_up(&tove, "Tove").await?;
        create(&tove, &name, "public").await?;
        check(&tove, "an empty channel").await?;
        let code = format!("```{0}let wide = {1};{0}```", shift_enter(), "1 + ".repeat(60));
        for text in ["**Bold**, _thin_ and [a link](https://example.org/)", "> quoted", "- a list", code.as_str()] {
            tove.write("#draft", &line(text)).await?;
        }
        tove.until("all are sent", ALL_SENT).await?;
        let uwe = register(driver, &url, "Uwe").await?;
        uwe.run(&format!("location.hash = '#/channels/{name}'")).await?;
        uwe.until("it can be joined", "!document.querySelector('#no-post').hidden").await?;
        uwe.run(&axe).await?;
        check(&uwe, "a channel of others").await?;
        check(&tove, "a conversation").await?;

        for (what, opener) in DIALOGS {
            tove.run(&format!("document.querySelector('{opener}').click()")).await?;
            tove.until(&format!("{what} is shown"), "document.querySelector('dialog[open]') !== null").await?;
            check(&tove, what).await?;
            tove.run("document.querySelector('dialog[open]').close()").await?;
        }
        tove.click("#search-open").await?;
        find(&tove, &format!("in:{name}")).await?;
        check(&tove, "results of a search").await?;
        tove.run("document.querySelector('dialog[open]').close()").await?;
        tove.click("#scenes-open").await?;
        tove.until("the drawer is shown", "document.querySelector('.scenes:not([hidden]) .scenes-calls li') !== null")
            .await?;
        check(&tove, "the drawer").await?;
        tove.click(".scenes button").await?;
        tove.run("document.querySelector('.actions .edit').click()").await?;
        tove.until("the editor is open", "document.querySelector('.edit-source') !== null").await?;
        check(&tove, "the editor").await?;

        connection.cut();
        tove.until("the banner is shown", "!document.querySelector('#trouble').hidden").await?;
        tove.write("#draft", &line("written offline")).await?;
        tove.until("it waits", "document.querySelector('[data-outgoing=delayed]') !== null").await?;
        check(&tove, "no connection").await?;
        tove.screenshot(&screenshot_path("axe-offline")?).await
    })
    .await
}

async fn a_phone_has_no_violation_in_any_state(world: World) -> Result<()> {
    let Some(axe) = axe()? else { return Ok(()) };
    let (url, name) = (world.stack.url(), unique("axe"));
    Driver::run(async |driver| {
        let veit = driver.open_phone(&url).await?;
        veit.until("the app asks to sign in", ASKED_TO_SIGN_IN).await?;
        veit.run(&axe).await?;
        check(&veit, "the sign-in").await?;
        sign_up(&veit, "Veit").await?;
        veit.click("#side-toggle").await?;
        check(&veit, "the list of channels").await?;
        create(&veit, &name, "private").await?;
        veit.write("#draft", &line("from a phone")).await?;
        veit.until("it is sent", &format!("{ONLINE} && {ALL_SENT}")).await?;
        check(&veit, "a conversation").await?;
        veit.click("#details-open").await?;
        check(&veit, "the details of a channel").await
    })
    .await
}

/// Loads axe, where it is installed, and checks what a window shows.
pub async fn check_with_axe(window: &Window, what: &str) -> Result<()> {
    let Some(axe) = axe()? else { return Ok(()) };
    window.run(&axe).await?;
    check(window, what).await
}

/// Checks what a window shows, in both themes. The light one stays, for screenshots.
async fn check(window: &Window, what: &str) -> Result<()> {
    for theme in ["dark", "light"] {
        // Colours that are still changing have no contrast.
        let set = format!("document.documentElement.dataset.theme = '{theme}'");
        window.run(&format!("{set}; document.getAnimations().forEach((animation) => animation.finish())")).await?;
        let violations = window.evaluate(VIOLATIONS).await?;
        let violations = violations.as_str().context("axe has no result")?;
        ensure!(violations.is_empty(), "{what}, {theme}:\n{violations}");
    }
    Ok(())
}

/// Returns the script of axe; none, after a message, where it is not installed.
fn axe() -> Result<Option<String>> {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/deploy-tools/axe_playwright_python/axe.min.js");
    if !path.exists() {
        println!("skipped: install axe with .ci/deploy-tools");
        return Ok(None);
    }
    Ok(Some(fs::read_to_string(&path).with_context(|| path.display().to_string())?))
}
