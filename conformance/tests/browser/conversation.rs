//! Reactions, threads, mentions, pins and the Markdown toolbar in the browser app.

use anyhow::{Result, ensure};
use fantoccini::key::Key;
use flack_conformance::{
    cases,
    client::unique,
    suite::{Case, World},
};

use crate::{
    ALL_SENT, ONLINE,
    axe::check_with_axe,
    channels::{badge, create, invite, is_listed, is_open, link},
    connection::Connection,
    driver::Driver,
    line,
    page::TEXTS_HAVE_CONTRAST,
    register, shown, sign_up,
    window::{Window, screenshot_path},
};

/// More than a page of replies, and more rows than a window shows.
pub const ROWS: usize = 60;

const FITS: &str = "[document.documentElement, ...document.querySelectorAll('.bar, .head, .talk, dialog[open]')]
    .every((part) => part.scrollWidth <= Math.max(part.clientWidth, 1) && part.scrollWidth <= 360)";
pub const THREAD_IS_OPEN: &str =
    "!document.querySelector('#thread').hidden && document.querySelector('#thread-loading').hidden";
const REPLIES: &str =
    "[...document.querySelectorAll('#replies .message-text > :first-child')].map(({ textContent }) => textContent)";
const LIST_IS_OPEN: &str =
    "document.activeElement.role === 'combobox' && document.activeElement.ariaExpanded === 'true'";

pub fn cases() -> Vec<Case> {
    cases![
        reactions_have_names_and_a_refused_one_is_undone,
        replies_are_written_and_read_in_their_thread_alone,
        typing_is_shown_where_the_user_writes,
        a_thread_of_many_replies_is_loaded_in_pages,
        a_mention_is_chosen_by_keyboard_and_counted_until_it_is_seen,
        a_pinned_message_is_listed_and_leads_to_its_place,
        a_thread_covers_a_phone_and_fits,
        markdown_is_inserted_by_buttons_and_shortcuts,
    ]
}

async fn reactions_have_names_and_a_refused_one_is_undone(world: World) -> Result<()> {
    let (url, name) = (world.stack.url(), unique("reactions"));
    Driver::run(async |driver| {
        let paula = register(driver, &url, "Paula").await?;
        let ravi = register(driver, &url, "Ravi").await?;
        meet(&paula, &ravi, "Ravi", &name).await?;
        paula.write("#draft", &line("Shall we?")).await?;
        ravi.until("he reads it", &shown("Shall we?", 1)).await?;

        ravi.run(&press("react")).await?;
        ravi.until("the picker has the focus", "document.activeElement.closest('#picker:popover-open') !== null")
            .await?;
        ravi.screenshot(&screenshot_path("reaction-picker")?).await?;
        check_with_axe(&ravi, "the picker of reactions").await?;
        ravi.click("#picker [data-emoji='🎉']").await?;
        paula.until("she sees whose it is", &reactions(&["🎉1 false Ravi"])).await?;
        // By keyboard; the focus stays on the same button.
        paula.write("#messages .reaction", &char::from(Key::Enter).to_string()).await?;
        paula.until("it is hers, too", &reactions(&["🎉2 true you and Ravi"])).await?;
        ravi.until("he sees hers", &reactions(&["🎉2 true you and Paula"])).await?;
        paula.until("the focus is kept", "document.activeElement.matches('.reaction')").await?;

        ravi.run(&press("react")).await?;
        ravi.write("#picker-emoji", &line("nice")).await?;
        ravi.until("a word is no emoji", "!document.querySelector('#picker-problem').hidden").await?;
        ravi.run("document.querySelector('#picker-emoji').value = ''").await?;
        ravi.write("#picker-emoji", &line("☕")).await?;
        paula.until("any emoji can be used", &reactions(&["🎉2 true you and Ravi", "☕1 false Ravi"])).await?;
        paula.write("#messages .reaction", &char::from(Key::Enter).to_string()).await?;
        let rest = ["🎉1 false Ravi", "☕1 false Ravi"];
        paula.until("hers is removed", &reactions(&rest)).await?;
        ravi.until("also for him", &reactions(&["🎉1 true you", "☕1 true you"])).await?;

        paula
            .run(
                "const real = window.fetch;
                window.fetch = (path, options) => (path.includes('/reactions/')
                    ? new Promise((answer) => { window.refuse = () => answer(new Response('{\"detail\": \"Too many.\"}',
                        { status: 409 })); })
                    : real(path, options));",
            )
            .await?;
        paula.write("#messages .reaction", &char::from(Key::Enter).to_string()).await?;
        paula.until("it is shown at once", &reactions(&["🎉2 true you and Ravi", "☕1 false Ravi"])).await?;
        paula.run("window.refuse()").await?;
        paula.until("it is undone", &reactions(&rest)).await?;
        let notice = "document.querySelector('#notice:not([hidden])')?.textContent ?? ''";
        paula.until("the reason is shown", &format!("({notice}).includes('Too many.')")).await?;
        paula.run("location.reload()").await?;
        paula.until("they are stored", &format!("{ONLINE} && {}", reactions(&rest))).await
    })
    .await
}

async fn replies_are_written_and_read_in_their_thread_alone(world: World) -> Result<()> {
    let (url, name) = (world.stack.url(), unique("threads"));
    Driver::run(async |driver| {
        let connection = Connection::to(&url).await?;
        let sofia = register(driver, &url, "Sofia").await?;
        let tomas = register(driver, &connection.url(), "Tomas").await?;
        meet(&sofia, &tomas, "Tomas", &name).await?;
        sofia.write("#draft", &line("Who brings cake?")).await?;
        tomas.until("he reads it", &shown("Who brings cake?", 1)).await?;

        tomas.run(&press("reply")).await?;
        tomas.until("the thread has the focus", "document.activeElement.id === 'thread-draft'").await?;
        tomas.until("the address has it", "/^#\\/channels\\/[^/]+\\/\\d+$/.test(location.hash)").await?;
        tomas.write("#thread-draft", "I can bring").await?;
        tomas.run("location.reload()").await?;
        tomas.until("the thread is open again", &format!("{ONLINE} && {THREAD_IS_OPEN}")).await?;
        let draft = "document.querySelector('#thread-draft').value === 'I can bring'";
        tomas.until("with its draft", &format!("{draft} && document.querySelector('#draft').value === ''")).await?;
        tomas.write("#thread-draft", &line(" some")).await?;
        tomas.until("it is sent", &format!("{ALL_SENT} && String({REPLIES}) === 'I can bring some'")).await?;

        let footer = "document.querySelector('#messages .replies')?.textContent ?? ''";
        sofia.until("the reply is counted", &format!("({footer}).startsWith('1 reply, last at ')")).await?;
        ensure!(sofia.evaluate(&shown("I can bring some", 0)).await? == true, "the channel has the reply");
        sofia.click("#messages .replies").await?;
        sofia.until("she reads it", &format!("{THREAD_IS_OPEN} && String({REPLIES}) === 'I can bring some'")).await?;

        connection.cut();
        tomas.until("the loss is shown", "document.querySelector('#connection').dataset.phase !== 'online'").await?;
        tomas.write("#thread-draft", &line("written offline")).await?;
        let waiting = "document.querySelector('#replies [data-outgoing]') !== null";
        tomas.until("it waits in the thread", waiting).await?;
        ensure!(
            tomas.evaluate("document.querySelector('#messages [data-outgoing]') === null").await? == true,
            "it waits in the channel"
        );
        sofia.write("#thread-draft", &line("thanks")).await?;
        sofia.until("it is sent", ALL_SENT).await?;
        connection.restore();
        let replies = format!("String({REPLIES}) === 'I can bring some,thanks,written offline'");
        for window in [&sofia, &tomas] {
            window.until("all replies are there, once", &format!("{ALL_SENT} && {replies}")).await?;
        }

        // The up arrow edits the last own message of the place where the user writes.
        sofia.write("#thread-draft", &char::from(Key::Up).to_string()).await?;
        sofia
            .until("the editor is in the thread", "document.activeElement.closest('#replies .edit-form') !== null")
            .await?;
        sofia.write("#replies .edit-source", &line(" a lot")).await?;
        tomas.until("he sees the edit", &shown("thanks a lot (edited)", 1)).await?;
        for theme in ["light", "dark"] {
            sofia.run(&format!("document.documentElement.dataset.theme = '{theme}'")).await?;
            sofia.until(&format!("all texts can be read in {theme}"), TEXTS_HAVE_CONTRAST).await?;
            sofia.screenshot(&screenshot_path(&format!("thread-{theme}"))?).await?;
        }
        check_with_axe(&sofia, "a thread").await?;

        sofia.write("#thread-draft", &char::from(Key::Escape).to_string()).await?;
        sofia.until("the thread is closed", "document.querySelector('#thread').hidden").await?;
        sofia.until("the focus is back", "document.activeElement.matches('#messages .replies')").await?;
        sofia.until("the address is the channel's", &format!("location.hash === '#/channels/{name}'")).await?;
        sofia.run("location.hash += '/999999999'").await?;
        sofia.until("an unknown thread is explained", "!document.querySelector('#notice').hidden").await?;
        sofia.until("the channel is open", &is_open(&name)).await
    })
    .await
}

async fn typing_is_shown_where_the_user_writes(world: World) -> Result<()> {
    let (url, name) = (world.stack.url(), unique("typing"));
    // An expression: whether these are the notices of the channel and of the thread.
    let typing = |channel: &str, thread: &str| {
        let shown = "['typing', 'thread-typing'].map((id) => document.getElementById(id).textContent).join()";
        format!("{shown} === '{channel},{thread}'")
    };
    Driver::run(async |driver| {
        let liv = register(driver, &url, "Liv").await?;
        let kaspar = register(driver, &url, "Kaspar").await?;
        meet(&liv, &kaspar, "Kaspar", &name).await?;
        liv.write("#draft", &line("Which colour?")).await?;
        kaspar.until("he reads it", &shown("Which colour?", 1)).await?;
        for window in [&liv, &kaspar] {
            window.run(&press("reply")).await?;
            window.until("the thread is open", THREAD_IS_OPEN).await?;
        }
        kaspar.write("#thread-draft", "Green").await?;
        liv.until("it is shown in the thread", &typing("", "Kaspar is typing")).await?;
        kaspar.write("#thread-draft", &line("")).await?;
        liv.until("he has replied", &format!("String({REPLIES}) === 'Green' && {}", typing("", ""))).await?;
        kaspar.write("#draft", "Or").await?;
        // He types on, because the server drops a second typing frame of a connection within a second.
        let type_on = "setInterval(() => document.querySelector('#draft').dispatchEvent(new InputEvent('input')), 200)";
        kaspar.run(type_on).await?;
        liv.until("it is shown in the channel", &typing("Kaspar is typing", "")).await
    })
    .await
}

async fn a_thread_of_many_replies_is_loaded_in_pages(world: World) -> Result<()> {
    let (url, name) = (world.stack.url(), unique("long-thread"));
    Driver::run(async |driver| {
        let signe = register(driver, &url, "Signe").await?;
        create(&signe, &name, "private").await?;
        signe.write("#draft", &line("counting")).await?;
        signe.until("it is sent", ALL_SENT).await?;
        signe.run(&press("reply")).await?;
        signe.until("the thread is open", THREAD_IS_OPEN).await?;
        signe.run(&submit_rows("thread-draft")).await?;
        signe.until("all are sent", &format!("{ALL_SENT} && {REPLIES}.length === {ROWS}")).await?;
        signe.run("location.reload()").await?;
        signe.until("the newest are loaded", &format!("{ONLINE} && {REPLIES}.length === 50")).await?;
        let scroller = "document.querySelector('#thread-scroller')";
        let to_end = format!("{scroller}.scrollHeight - {scroller}.scrollTop - {scroller}.clientHeight");
        signe.until("the last is in sight", &format!("{to_end} < 1")).await?;
        signe.run(&format!("{scroller}.scrollTop = 0")).await?;
        let top = "[...document.querySelectorAll('#replies .message-text')]
            .find(({ textContent }) => textContent.includes('row 11')).getBoundingClientRect().top";
        let before = signe.evaluate(top).await?;
        signe.run("document.querySelector('#thread-earlier').click()").await?;
        let all = format!("{REPLIES}.join() === [...Array({ROWS}).keys()].map((row) => `row ${{row}}`).join()");
        signe.until("all are loaded in their order", &all).await?;
        signe.until("what was read stays in its place", &format!("Math.abs({top} - {before}) < 48")).await?;
        signe.until("nothing is earlier", "document.querySelector('#thread-earlier').hidden").await
    })
    .await
}

async fn a_mention_is_chosen_by_keyboard_and_counted_until_it_is_seen(world: World) -> Result<()> {
    let (url, name) = (world.stack.url(), unique("mentions"));
    Driver::run(async |driver| {
        let ursel = register(driver, &url, "Ursel").await?;
        let vera = register(driver, &url, "Vera").await?;
        meet(&ursel, &vera, "Vera", &name).await?;
        vera.click(&link("general")).await?;
        vera.until("she is elsewhere", &is_open("general")).await?;

        ursel.write("#draft", "please ask @").await?;
        ursel.until("the list is open", LIST_IS_OPEN).await?;
        let options = "[...document.querySelectorAll('#draft-mentions .option > :first-child')]
            .map(({ textContent }) => textContent).join()";
        ursel.until("it has the others and everybody", &format!("{options} === '@Vera,@channel'")).await?;
        let keys: String = [Key::Down, Key::Escape].map(char::from).iter().collect();
        ursel.write("#draft", &keys).await?;
        ursel.until("it is closed", "document.querySelector('#draft-mentions').hidden").await?;
        ursel.until("the field is a text field again", "document.activeElement.role === null").await?;
        ursel.write("#draft", "ve").await?;
        ursel.until("it is open again", LIST_IS_OPEN).await?;
        ursel.screenshot(&screenshot_path("mention-list")?).await?;
        check_with_axe(&ursel, "the list of people to mention").await?;
        ursel.write("#draft", &char::from(Key::Enter).to_string()).await?;
        ursel.until("her name is inserted", "document.querySelector('#draft').value === 'please ask @Vera '").await?;
        ursel.write("#draft", &line("about it")).await?;
        ursel.write("#draft", &line("and nobody else")).await?;
        vera.until("both are unread", &format!("{} === '2'", badge(&name))).await?;
        vera.until("one mentions her", &mentions(&name, "@1")).await?;
        vera.until("the title has it", "/^\\(\\d+\\+?, @1\\) #general/.test(document.title)").await?;
        vera.screenshot(&screenshot_path("mention-badge")?).await?;

        vera.click(&link(&name)).await?;
        vera.until("nothing is unread", &format!("{} && {} === ''", is_open(&name), badge(&name))).await?;
        vera.until("hers is marked", "document.querySelector('.is-mention mark.is-me')?.textContent === '@Vera'")
            .await?;
        ensure!(
            vera.evaluate("document.querySelectorAll('.is-mention').length").await? == 1,
            "a message without a mention is marked"
        );
        ursel.until("others are not", "document.querySelector('mark:not(.is-me)') !== null").await?;
        ursel.click("mark").await?;
        let profile = "document.querySelector('#profile[open] #profile-name')?.textContent === 'Vera'";
        ursel.until("it leads to her", profile).await?;
        ursel.screenshot(&screenshot_path("profile")?).await?;
        ursel.click("#profile [data-close]").await?;
        ursel.write("mark", &char::from(Key::Enter).to_string()).await?;
        ursel.until("also by keyboard", profile).await?;
        ursel.click("#profile [data-close]").await?;
        ursel.until("the focus is back", "document.activeElement.matches('mark')").await?;

        // A reply is not unread, but its mention counts until the thread is opened.
        vera.click(&link("general")).await?;
        vera.until("she is elsewhere", &is_open("general")).await?;
        ursel.run(&press("reply")).await?;
        ursel.write("#thread-draft", &line("@Vera are you there?")).await?;
        vera.until("only the mention is counted", &format!("{} && {} === '@1'", mentions(&name, "@1"), badge(&name)))
            .await?;
        vera.click(&link(&name)).await?;
        vera.until("the channel is open", &is_open(&name)).await?;
        vera.until("it still counts", &mentions(&name, "@1")).await?;
        vera.click("#messages .replies").await?;
        vera.until("it is seen", &format!("{THREAD_IS_OPEN} && {}", mentions(&name, ""))).await?;
        for theme in ["light", "dark"] {
            vera.run(&format!("document.documentElement.dataset.theme = '{theme}'")).await?;
            vera.until(&format!("all texts can be read in {theme}"), TEXTS_HAVE_CONTRAST).await?;
            vera.screenshot(&screenshot_path(&format!("mention-{theme}"))?).await?;
        }
        let stored = "performance.getEntriesByType('resource').some(({ name }) => name.endsWith('/read'))";
        vera.until("the position is stored", stored).await?;
        vera.run("location.hash = '#/channels/general'").await?;
        vera.until("general is open", &is_open("general")).await?;
        vera.run("location.reload()").await?;
        vera.until("the channels are listed", &format!("{ONLINE} && {}", is_listed(&name))).await?;
        vera.until("it does not count again", &format!("{} && {} === ''", mentions(&name, ""), badge(&name))).await
    })
    .await
}

async fn a_pinned_message_is_listed_and_leads_to_its_place(world: World) -> Result<()> {
    let (url, name) = (world.stack.url(), unique("pins"));
    Driver::run(async |driver| {
        let willem = register(driver, &url, "Willem").await?;
        let yara = register(driver, &url, "Yara").await?;
        meet(&willem, &yara, "Yara", &name).await?;
        willem.write("#draft", &line("The rules are **short**.")).await?;
        willem.until("it is sent", ALL_SENT).await?;
        willem.run(&press("pin")).await?;
        yara.until("she sees the pin", "document.querySelector('.pinned')?.textContent === 'Pinned'").await?;
        willem.run(&submit_rows("draft")).await?;
        yara.until("many messages follow", &shown(&format!("row {}", ROWS - 1), 1)).await?;

        yara.run("location.reload()").await?;
        yara.until("the newest are loaded", &format!("{ONLINE} && {}", shown(&format!("row {}", ROWS - 1), 1))).await?;
        yara.until("the channel is open", &is_open(&name)).await?;
        yara.click("#details-open").await?;
        let pins = "[...document.querySelectorAll('#pins .pin-text')].map(({ textContent }) => textContent).join()";
        yara.until("it is listed", &format!("({pins}).trim() === 'The rules are short.'")).await?;
        yara.screenshot(&screenshot_path("pins")?).await?;
        check_with_axe(&yara, "pinned messages").await?;
        yara.click(".pin-link").await?;
        let active = "document.activeElement.matches('[data-message-id]') ? document.activeElement.textContent : ''";
        yara.until("it has the focus", &format!("({active}).includes('The rules are short.')")).await?;
        yara.run("document.querySelector('.message:has(.pinned) .pin').click()").await?;
        willem.until("it is loaded", "document.querySelectorAll('.pinned').length === 0").await?;
        yara.click("#details-open").await?;
        yara.until("the list is empty", "document.querySelector('#pins-section').hidden").await
    })
    .await
}

async fn a_thread_covers_a_phone_and_fits(world: World) -> Result<()> {
    let (url, name) = (world.stack.url(), unique("pocket"));
    Driver::run(async |driver| {
        let xandra = driver.open_phone(&url).await?;
        sign_up(&xandra, "Xandra").await?;
        xandra.click("#side-toggle").await?;
        create(&xandra, &name, "public").await?;
        xandra.write("#draft", &line("a line that is long enough to reach the end of its row on a phone")).await?;
        xandra.until("it is confirmed", ALL_SENT).await?;
        xandra.click("[data-message-id] .more").await?;
        xandra.until("its actions are shown", "document.querySelector('.actions').checkVisibility()").await?;
        xandra.screenshot(&screenshot_path("phone-actions")?).await?;
        xandra.click(".actions .react").await?;
        xandra
            .until("the picker fits", "document.querySelector('#picker').getBoundingClientRect().right <= 360")
            .await?;
        xandra.screenshot(&screenshot_path("phone-picker")?).await?;
        xandra.click("#picker [data-emoji='👍']").await?;
        xandra.until("it is shown", &reactions(&["👍1 true you"])).await?;

        xandra.click("[data-message-id] .more").await?;
        xandra.click(".actions .reply").await?;
        xandra.until("the thread is open", THREAD_IS_OPEN).await?;
        let covers = "document.querySelector('#thread').clientWidth === 360
            && !document.querySelector('#talk').checkVisibility({ visibilityProperty: true })";
        xandra.until("it covers the channel", covers).await?;
        xandra.write("#thread-draft", &line("a reply that is long enough to reach the end of its row")).await?;
        xandra.until("it is confirmed", ALL_SENT).await?;
        xandra.until("everything fits", &format!("innerWidth === 360 && {FITS}")).await?;
        xandra.write("#thread-draft", "@").await?;
        xandra.until("the list is open", LIST_IS_OPEN).await?;
        xandra.until("it fits, too", FITS).await?;
        xandra.screenshot(&screenshot_path("phone-thread")?).await?;
        check_with_axe(&xandra, "a thread on a phone").await?;
        xandra.write("#thread-draft", &char::from(Key::Escape).to_string()).await?;
        xandra.click("#thread-close").await?;
        xandra.until("the channel is shown", &format!("document.querySelector('#thread').hidden && {FITS}")).await?;
        xandra.screenshot(&screenshot_path("phone-conversation")?).await?;
        // Every target is at least 24 pixels wide and high (WCAG 2.2, 2.5.8). Links in a sentence are an exception.
        let small = "[...document.querySelectorAll('button, [data-key], .option')]
            .filter((target) => target.checkVisibility({ visibilityProperty: true }) && !target.closest('.unseen, p'))
            .map((target) => [target.className, target.getBoundingClientRect()])
            .filter(([, { width, height }]) => width < 24 || height < 24).map(([name]) => name)";
        let found = xandra.evaluate(small).await?;
        ensure!(found.as_array().is_some_and(Vec::is_empty), "too small: {found}");
        Ok(())
    })
    .await
}

async fn markdown_is_inserted_by_buttons_and_shortcuts(world: World) -> Result<()> {
    let url = world.stack.url();
    let control = |key: char| -> String { [char::from(Key::Control), key, char::from(Key::Null)].iter().collect() };
    let is = |text: &str| format!("document.querySelector('#draft').value === {text:?}");
    Driver::run(async |driver| {
        let zeno = register(driver, &url, "Zeno").await?;
        let select_all = "document.querySelector('#draft').select()";
        zeno.write("#draft", "word").await?;
        zeno.run(select_all).await?;
        zeno.click("#composer .format [aria-label=Bold]").await?;
        zeno.until("it is bold", &is("**word**")).await?;
        zeno.until("the focus is back", "document.activeElement.id === 'draft'").await?;
        zeno.write("#draft", &control('z')).await?;
        zeno.until("it can be undone", &is("word")).await?;
        zeno.run(select_all).await?;
        zeno.write("#draft", &control('i')).await?;
        zeno.until("it is italic", &is("*word*")).await?;
        zeno.run(select_all).await?;
        zeno.write("#draft", &control('e')).await?;
        zeno.until("it is code", &is("`*word*`")).await?;
        zeno.run(select_all).await?;
        zeno.click("#composer .format [aria-label=List]").await?;
        zeno.until("it is a list", &is("- `*word*`")).await?;
        zeno.run(select_all).await?;
        zeno.click("#composer .format [aria-label=Link]").await?;
        zeno.write("#draft", "https://example.org").await?;
        zeno.until("the address is typed over", &is("[- `*word*`](https://example.org)")).await?;

        // One button is reached by Tab, the others by arrow keys.
        let right = char::from(Key::Right).to_string();
        zeno.write("#composer .format [aria-label=Bold]", &right).await?;
        zeno.until("the next has the focus", "document.activeElement.ariaLabel === 'Italic'").await?;
        let reached = "document.querySelectorAll('#composer .format button:not([tabindex=\"-1\"])').length";
        ensure!(zeno.evaluate(reached).await? == 1, "Tab reaches more than one button");
        Ok(())
    })
    .await
}

/// Both are members of a new private channel, and have it open.
pub async fn meet(host: &Window, guest: &Window, nickname: &str, name: &str) -> Result<()> {
    create(host, name, "private").await?;
    invite(host, nickname).await?;
    guest.until("it is in the guest's list", &is_listed(name)).await?;
    guest.click(&link(name)).await?;
    guest.until("the channel is open", &is_open(name)).await
}

/// A statement: presses a button of the last message.
fn press(key: &str) -> String {
    format!("[...document.querySelectorAll('#messages [data-key={key}]')].at(-1).click()")
}

/// A statement: sends many messages or replies.
pub fn submit_rows(field: &str) -> String {
    format!(
        "const field = document.querySelector('#{field}');
        for (let row = 0; row < {ROWS}; row += 1) {{
            field.value = `row ${{row}}`;
            field.form.requestSubmit();
        }}"
    )
}

/// An expression: whether these are the reactions in the channel: each with its number, whether it is the user's, and
/// the names.
fn reactions(wanted: &[&str]) -> String {
    let shown = "[...document.querySelectorAll('#messages .reaction')]
        .map(({ textContent, ariaPressed, title }) => `${textContent} ${ariaPressed} ${title}`)";
    format!("JSON.stringify({shown}) === JSON.stringify({wanted:?})")
}

/// An expression: whether this is the number of mentions beside the channel.
fn mentions(name: &str, wanted: &str) -> String {
    format!("(document.querySelector(\"{} .is-mention\")?.firstChild.data ?? '') === {wanted:?}", link(name))
}
