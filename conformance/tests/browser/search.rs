//! The search panel of the browser app.

use anyhow::{Result, ensure};
use fantoccini::key::Key;
use flack_conformance::{
    cases,
    client::unique,
    suite::{Case, World},
};

use crate::{
    ALL_SENT,
    channels::{create, is_open},
    conversation::{ROWS, THREAD_IS_OPEN, submit_rows},
    driver::Driver,
    line, register, shown,
    window::{Window, screenshot_path},
};

pub fn cases() -> Vec<Case> {
    cases![
        a_message_is_found_by_keyboard_alone_and_only_by_members,
        a_reply_that_is_found_is_shown_in_its_thread,
        without_the_service_the_panel_says_so_and_the_chat_works,
    ]
}

pub const OPEN: &str = "document.querySelector('#search')?.open === true";
const STATUS: &str = "document.querySelector('#search [role=status]').textContent";

async fn a_message_is_found_by_keyboard_alone_and_only_by_members(world: World) -> Result<()> {
    let (url, name, term) = (world.stack.url(), unique("plans"), unique("w").replace('-', ""));
    Driver::run(async |driver| {
        let ximena = register(driver, &url, "Ximena").await?;
        let loaded = "performance.getEntriesByType('resource').some(({ name }) => name.includes('/static/search.'))";
        ensure!(ximena.evaluate(loaded).await? == false, "the search is part of the first view");
        create(&ximena, &name, "private").await?;
        for text in [format!("the **{term}** of tomorrow"), "something else".to_owned()] {
            ximena.write("#draft", &line(&text)).await?;
        }
        ximena.until("both are sent", ALL_SENT).await?;
        ximena.run("location.hash = ''").await?;
        ximena.until("general is open", &is_open("general")).await?;

        ximena.write("#scroller", "/").await?;
        find(&ximena, &format!("{term} from:Ximena")).await?;
        let marked = format!("document.querySelector('.search-result mark').textContent === {term:?}");
        ximena.until("the word is marked", &marked).await?;
        let text = ximena.evaluate("document.querySelector('.search-text').textContent").await?;
        ensure!(text == format!("the {term} of tomorrow"), "signs of Markdown are shown: {text}");
        ximena.screenshot(&screenshot_path("search")?).await?;
        ximena.run("document.documentElement.dataset.theme = 'dark'").await?;
        ximena.screenshot(&screenshot_path("search-dark")?).await?;
        ximena.write("#search-input", &char::from(Key::Down).to_string()).await?;
        ximena.until("the result has the focus", "document.activeElement.matches('.search-result')").await?;
        ximena.write(".search-result", &char::from(Key::Enter).to_string()).await?;
        ximena.until("its channel is open", &format!("!({OPEN}) && {}", is_open(&name))).await?;
        let focused = format!("document.activeElement.matches('#messages *') && {}", shown(&term, 1));
        ximena.until("the message has the focus", &focused).await?;

        let control_shift_f: String =
            [char::from(Key::Control), char::from(Key::Shift), 'F', char::from(Key::Null)].iter().collect();
        let yuri = register(driver, &url, "Yuri").await?;
        yuri.write("#draft", &control_shift_f).await?;
        search(&yuri, &term).await?;
        yuri.until("a stranger finds nothing", &format!("{STATUS} === 'Nothing found.'")).await?;
        search(&yuri, "before:tomorrow").await?;
        yuri.until("a mistake is explained", &format!("{STATUS}.includes('is no day')")).await?;
        yuri.write("#search-input", &char::from(Key::Escape).to_string()).await?;
        yuri.until("the panel is closed", &format!("!({OPEN})")).await?;
        yuri.write("#draft", &line(&"a line that is longer than its row on a phone, ".repeat(4))).await?;
        yuri.until("it is sent", ALL_SENT).await?;

        let phone = driver.open_phone(&url).await?;
        crate::sign_up(&phone, "Zoe").await?;
        phone.click("#search-open").await?;
        find(&phone, "from:Yuri").await?;
        phone.until("it fits", "document.documentElement.scrollWidth <= 360").await?;
        phone.screenshot(&screenshot_path("phone-search")?).await
    })
    .await
}

async fn a_reply_that_is_found_is_shown_in_its_thread(world: World) -> Result<()> {
    let (url, name, term) = (world.stack.url(), unique("asides"), unique("w").replace('-', ""));
    Driver::run(async |driver| {
        let ylva = register(driver, &url, "Ylva").await?;
        create(&ylva, &name, "private").await?;
        ylva.write("#draft", &line("any questions?")).await?;
        ylva.until("it is sent", ALL_SENT).await?;
        ylva.run("document.querySelector('#messages [data-key=reply]').click()").await?;
        ylva.until("the thread is open", THREAD_IS_OPEN).await?;
        ylva.write("#thread-draft", &line(&format!("what is a {term}?"))).await?;
        // The newest page of the thread does not have it.
        ylva.run(&submit_rows("thread-draft")).await?;
        let replies = "document.querySelectorAll('#replies [data-message-id]').length";
        ylva.until("all are sent", &format!("{ALL_SENT} && {replies} === {}", ROWS + 1)).await?;
        ylva.run("location.hash = ''").await?;
        ylva.until("general is open", &is_open("general")).await?;

        ylva.click("#search-open").await?;
        find(&ylva, &term).await?;
        ylva.click(".search-result").await?;
        let focused = format!(
            "document.activeElement.matches('#replies [data-message-id]')
            && document.activeElement.textContent.includes({term:?})"
        );
        ylva.until("the reply has the focus", &focused).await
    })
    .await
}

async fn without_the_service_the_panel_says_so_and_the_chat_works(world: World) -> Result<()> {
    let url = world.stack.url();
    world.stack.mf_ok(&["kill", "search", "--all"])?;
    let result = Driver::run(async |driver| {
        let anton = register(driver, &url, "Anton").await?;
        anton.click("#search-open").await?;
        search(&anton, "anything").await?;
        anton.until("it says so", &format!("{STATUS}.startsWith('Search is not available now.')")).await?;
        anton.screenshot(&screenshot_path("search-unavailable")?).await?;
        anton.write("#search-input", &char::from(Key::Escape).to_string()).await?;
        anton.until("the panel is closed", &format!("!({OPEN})")).await?;
        anton.write("#draft", &line("the chat works")).await?;
        anton.until("it is sent", &format!("{ALL_SENT} && {}", shown("the chat works", 1))).await
    })
    .await;
    world.stack.mf_ok(&["run", "search"])?;
    result
}

/// Searches in the open panel.
async fn search(window: &Window, q: &str) -> Result<()> {
    window.until("the panel is open", OPEN).await?;
    window.run("document.querySelector('#search-input').value = ''").await?;
    window.write("#search-input", &line(q)).await
}

/// Searches in the panel, which opens, again until the author is known and the message is indexed.
pub async fn find(window: &Window, q: &str) -> Result<()> {
    search(window, q).await?;
    let found = format!(
        "(() => {{
            if (document.querySelector('.search-result')) return true;
            if ({STATUS} !== 'Searching…') document.querySelector('#search form').requestSubmit();
            return false;
        }})()"
    );
    window.until("the message is found", &found).await
}
