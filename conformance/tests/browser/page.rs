//! The page itself: what it shows when something fails, on a phone, to whom it is readable, its size and its speed.

use anyhow::{Result, ensure};
use fantoccini::key::Key;
use flack_conformance::{
    cases,
    stack::Stage,
    suite::{Case, World},
};

use crate::{
    ALL_SENT, ASKED_TO_SIGN_IN, connection::Connection, driver::Driver, here, line, register, shift_enter, shown,
    sign_up, window::screenshot_path,
};

/// What a browser transfers, headers included, before it shows the app, and in how many requests.
const FIRST_VIEW_BYTES_MAX: f64 = 60_000.0;
const FIRST_VIEW_REQUESTS_MAX: f64 = 8.0;

/// The longest source of a message, in characters.
const SOURCE_CHARACTERS_MAX: usize = 8192;

/// More rows than a window shows, so that the list scrolls.
const ROWS: usize = 60;

/// Whether all visible texts have a contrast of 4.5:1 or more with their background (WCAG 2.2, 1.4.3).
pub const TEXTS_HAVE_CONTRAST: &str = "(() => {
    const pixel = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    const bytes = (color) => {
        pixel.clearRect(0, 0, 1, 1);
        pixel.fillStyle = color;
        pixel.fillRect(0, 0, 1, 1);
        return [...pixel.getImageData(0, 0, 1, 1).data];
    };
    const linear = (byte) => (byte / 255 <= 0.04045 ? byte / 255 / 12.92 : ((byte / 255 + 0.055) / 1.055) ** 2.4);
    const luminance = (color) => {
        const [red, green, blue] = bytes(color).map(linear);
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const background = (element) => {
        const color = getComputedStyle(element).backgroundColor;
        return bytes(color)[3] > 0 || !element.parentElement ? color : background(element.parentElement);
    };
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const faint = [];
    while (texts.nextNode()) {
        const { parentElement: parent, data } = texts.currentNode;
        if (!data.trim() || !parent.checkVisibility() || parent.closest('[aria-hidden=true], .unseen')) continue;
        const pair = [luminance(getComputedStyle(parent).color), luminance(background(parent))].sort((a, b) => b - a);
        if ((pair[0] + 0.05) / (pair[1] + 0.05) < 4.5) faint.push(data);
    }
    return faint.length === 0;
})()";

/// Whether the buttons for the actions of messages are shown, and cover no text.
const NO_BUTTON_COVERS_TEXT: &str = "[...document.querySelectorAll('.message:has(.more)')].every((row) => {
    const button = row.querySelector('.more').getBoundingClientRect();
    if (button.width === 0) return false;
    const text = document.createRange();
    text.selectNodeContents(row.querySelector('.message-text'));
    return [...text.getClientRects()].every((part) => part.right <= button.left || part.top >= button.bottom);
})";

pub fn cases() -> Vec<Case> {
    cases![
        a_list_that_cannot_be_loaded_has_a_notice_and_hides_no_other,
        messages_that_load_slowly_or_not_at_all_are_not_shown_as_none,
        the_page_fits_a_phone_also_without_a_connection,
        texts_have_contrast_and_lists_and_code_can_be_reached,
        a_text_that_is_too_long_is_refused_and_kept,
        refused_notifications_are_explained,
        the_first_view_is_small_and_is_loaded_once,
        an_own_message_is_shown_in_the_next_frame,
    ]
}

async fn a_list_that_cannot_be_loaded_has_a_notice_and_hides_no_other(world: World) -> Result<()> {
    // In the monolith, nothing answers when users does not.
    if world.stack.stage == Stage::Monolith {
        return Ok(());
    }
    let url = world.stack.url();
    Driver::run(async |driver| {
        let gita = register(driver, &url, "Gita").await?;
        gita.write("#draft", &line("shown without users")).await?;
        gita.until("it is confirmed", &format!("{ALL_SENT} && {}", shown("shown without users", 1))).await?;

        world.stack.mf_ok(&["kill", "users", "--all"])?;
        gita.run("location.reload()").await?;
        gita.until("the notice is shown", "!document.querySelector('#users-notice').hidden").await?;
        gita.until("the messages are shown", &shown("shown without users", 1)).await?;
        gita.until("with their author", "document.querySelector('.message-author').textContent !== ''").await?;
        gita.until("nobody is counted", "document.querySelector('#here-count').textContent === '–'").await?;
        gita.screenshot(&screenshot_path("without-users")?).await?;

        world.stack.mf_ok(&["run", "users"])?;
        gita.until("people are loaded by themselves", &here(&["Gita"])).await?;
        gita.until("the notice is gone", "document.querySelector('#users-notice').hidden").await?;
        let reads = "performance.getEntriesByName(`${location.origin}/api/v2/messages`).length";
        ensure!(gita.evaluate(reads).await? == 1, "the messages were loaded again");
        Ok(())
    })
    .await
}

async fn messages_that_load_slowly_or_not_at_all_are_not_shown_as_none(world: World) -> Result<()> {
    let url = world.stack.url();
    Driver::run(async |driver| {
        let maya = driver.open(&url).await?;
        maya.until("the app asks to sign in", ASKED_TO_SIGN_IN).await?;
        maya.run(
            "const real = window.fetch;
            window.fetch = (path, options) => (path.startsWith('/api/v2/messages') && !window.isRepaired
                ? new Promise((_, fail) => { window.failMessages = fail; })
                : real(path, options));",
        )
        .await?;
        sign_up(&maya, "Maya").await?;
        maya.until("people are shown", &here(&["Maya"])).await?;
        let visible = |id: &str| format!("!document.querySelector('#{id}').hidden");
        maya.until("messages are loading", &visible("loading")).await?;
        maya.screenshot(&screenshot_path("loading")?).await?;
        maya.run("window.failMessages(new Error())").await?;
        maya.until("the notice is shown", &visible("messages-notice")).await?;
        ensure!(
            maya.evaluate("document.querySelector('#empty').hidden").await? == true,
            "no messages are shown as none"
        );
        maya.run("window.isRepaired = true").await?;
        maya.click("#messages-retry").await?;
        maya.until("the notice is gone", "document.querySelector('#messages-notice').hidden").await?;
        maya.until("nothing is loading", "document.querySelector('#loading').hidden").await
    })
    .await
}

async fn the_page_fits_a_phone_also_without_a_connection(world: World) -> Result<()> {
    let url = world.stack.url();
    Driver::run(async |driver| {
        let connection = Connection::to(&url).await?;
        let hiro = driver.open_phone(&connection.url()).await?;
        sign_up(&hiro, "Hiro").await?;
        hiro.write("#draft", &line("a line that is long enough to reach the end of its row on a phone")).await?;
        hiro.until("it is confirmed", ALL_SENT).await?;
        let fits =
            "[document.documentElement, document.querySelector('.bar')].every((part) => part.scrollWidth <= 360)";
        hiro.until("the page fits", &format!("innerWidth === 360 && {fits}")).await?;
        hiro.until("the text can be read", &format!("{NO_BUTTON_COVERS_TEXT} && {}", shown("its row", 1))).await?;
        hiro.screenshot(&screenshot_path("phone")?).await?;

        connection.cut();
        hiro.write("#draft", &line("written in a tunnel")).await?;
        let note = "document.querySelector('[data-outgoing=delayed] .outgoing-note').textContent";
        hiro.until("it says what it waits for", &format!("{note}.startsWith('Waiting for the connection')")).await?;
        hiro.write("#draft", &line("better not")).await?;
        hiro.until("it is shown", &shown("better not", 1)).await?;
        hiro.click(".message:last-child .outgoing-note button").await?;
        hiro.until("it is discarded", &shown("better not", 0)).await?;
        hiro.until("the banner is shown", "!document.querySelector('#trouble').hidden").await?;
        hiro.until("it still fits", fits).await?;
        hiro.screenshot(&screenshot_path("phone-connection-lost")?).await?;
        connection.restore();
        hiro.until("it is sent", &format!("{ALL_SENT} && {}", shown("in a tunnel", 1))).await?;
        hiro.until("the other is not", &shown("better not", 0)).await
    })
    .await
}

async fn texts_have_contrast_and_lists_and_code_can_be_reached(world: World) -> Result<()> {
    let url = world.stack.url();
    Driver::run(async |driver| {
        let ines = register(driver, &url, "Ines").await?;
        let code = "a_long_line_of_code(); ".repeat(20);
        ines.write("#draft", &format!("```{}{}", shift_enter(), line(&code))).await?;
        let (head, rule) = ("|a long column".repeat(20), "|-".repeat(20));
        ines.write("#draft", &format!("{head}{}{rule}{}{}", shift_enter(), shift_enter(), line("|1"))).await?;
        ines.write("#draft", &line("a short `line` :tada:")).await?;
        ines.until("both are confirmed", ALL_SENT).await?;
        for wide in ["pre", "table"] {
            let scrolls = format!("document.querySelector('.message {wide}')?.tabIndex === 0");
            ines.until(&format!("a {wide} that is too wide can be focused"), &scrolls).await?;
        }
        ines.until("the code of an emoji is shown as one", &shown("a short line 🎉", 1)).await?;
        for theme in ["light", "dark"] {
            ines.run(&format!("document.documentElement.dataset.theme = '{theme}'")).await?;
            ines.until(&format!("all texts can be read in {theme}"), TEXTS_HAVE_CONTRAST).await?;
        }
        let in_lists = "[...document.querySelectorAll('li')].every((item) =>
            item.parentElement.matches('ol:not([role]), ul:not([role])'))";
        ensure!(ines.evaluate(in_lists).await? == true, "a list item is not in a list");
        ensure!(ines.evaluate("document.querySelector('#messages').closest('[role=log]') !== null").await? == true);
        Ok(())
    })
    .await
}

async fn a_text_that_is_too_long_is_refused_and_kept(world: World) -> Result<()> {
    let url = world.stack.url();
    Driver::run(async |driver| {
        let jun = register(driver, &url, "Jun").await?;
        // Some letters are two units in JavaScript and one character for the server.
        let pasted = format!("'𝒳'.repeat({})", SOURCE_CHARACTERS_MAX + 1);
        jun.run(&format!(
            "document.querySelector('#draft').focus(); document.execCommand('insertText', false, {pasted})"
        ))
        .await?;
        let note = "document.querySelector('#draft-note').textContent";
        jun.until("it is shown", &format!("{note} === '1 character too many'")).await?;
        jun.write("#draft", &char::from(Key::Enter).to_string()).await?;
        jun.until("it is refused", &format!("{note}.startsWith('Not sent')")).await?;
        jun.until("it is kept", &format!("document.querySelector('#draft').value === {pasted}")).await?;
        jun.screenshot(&screenshot_path("too-long")?).await?;
        jun.write("#draft", &line(&char::from(Key::Backspace).to_string())).await?;
        jun.until("the rest is sent", &format!("{ALL_SENT} && {}", shown("𝒳𝒳𝒳", 1))).await
    })
    .await
}

async fn refused_notifications_are_explained(world: World) -> Result<()> {
    let url = world.stack.url();
    Driver::run(async |driver| {
        let kira = register(driver, &url, "Kira").await?;
        // Chromium without a screen refuses.
        kira.click("#notifications").await?;
        let text = "document.querySelector('#notice:not([hidden])')?.textContent ?? ''";
        kira.until("the reason is shown", &format!("({text}).includes('Notifications stay off')")).await?;
        kira.click("#notice-close").await?;
        kira.until("it can be closed", "document.querySelector('#notice').hidden").await
    })
    .await
}

async fn the_first_view_is_small_and_is_loaded_once(world: World) -> Result<()> {
    let url = world.stack.url();
    Driver::run(async |driver| {
        let window = driver.open(&url).await?;
        window.until("the app asks to sign in", ASKED_TO_SIGN_IN).await?;
        let files = "performance.getEntriesByType('resource')";
        let all = format!("[...performance.getEntriesByType('navigation'), ...{files}]");
        let sum = |entries: &str| format!("{entries}.reduce((sum, entry) => sum + entry.transferSize, 0)");
        let requests = window.evaluate(&format!("{all}.length")).await?.as_f64().unwrap_or(f64::MAX);
        let bytes = window.evaluate(&sum(&all)).await?.as_f64().unwrap_or(f64::MAX);
        println!("the first view: {requests} requests, {bytes} bytes");
        ensure!(requests <= FIRST_VIEW_REQUESTS_MAX, "{requests} requests");
        ensure!(bytes <= FIRST_VIEW_BYTES_MAX, "{bytes} bytes");

        window.run("location.reload()").await?;
        window.until("the page is reloaded", "performance.getEntriesByType('navigation')[0].type === 'reload'").await?;
        window.until("the app asks again", ASKED_TO_SIGN_IN).await?;
        let again = window.evaluate(&sum(files)).await?;
        ensure!(again == 0, "a reload transferred {again} bytes of files");
        Ok(())
    })
    .await
}

async fn an_own_message_is_shown_in_the_next_frame(world: World) -> Result<()> {
    let url = world.stack.url();
    Driver::run(async |driver| {
        let lena = register(driver, &url, "Lena").await?;
        lena.run(&format!(
            "const draft = document.querySelector('#draft');
            window.frames_ms = [];
            window.missing = 0;
            const send = (number) => {{
                if (number === {ROWS}) return;
                const start = performance.now();
                draft.value = `row ${{number}} of {ROWS}`;
                draft.form.requestSubmit();
                // The app has asked for the next frame, too, and before.
                requestAnimationFrame(() => {{
                    const last = document.querySelector('#messages').lastElementChild;
                    if (!last?.textContent.includes(`row ${{number}} of`)) window.missing += 1;
                    setTimeout(() => {{
                        window.frames_ms.push(performance.now() - start);
                        send(number + 1);
                    }});
                }});
            }};
            send(0);",
        ))
        .await?;
        lena.until("all are confirmed", &format!("frames_ms.length === {ROWS} && {ALL_SENT}")).await?;
        let missing = lena.evaluate("missing").await?;
        ensure!(missing == 0, "{missing} of {ROWS} messages were not shown in the next frame");
        let scroller = "document.querySelector('#scroller')";
        let to_end = format!("{scroller}.scrollHeight - {scroller}.scrollTop - {scroller}.clientHeight");
        lena.until("the list scrolls", &format!("{scroller}.scrollHeight > 2 * {scroller}.clientHeight")).await?;
        lena.until("its end is visible", &format!("{to_end} < 1")).await?;
        let times = lena.evaluate("frames_ms.sort((a, b) => a - b).map(Math.round)").await?;
        println!("Enter to own row: p50 {} ms, max {} ms", times[ROWS / 2], times[ROWS - 1]);
        Ok(())
    })
    .await
}
