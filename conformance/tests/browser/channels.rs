//! Channels in the browser app: who sees them, unread messages, drafts, the outbox, deleted messages, and the keyboard.

use anyhow::{Result, ensure};
use fantoccini::key::Key;
use flack_conformance::{
    cases,
    client::unique,
    suite::{Case, World},
};

use crate::{
    ALL_SENT, ONLINE, TOKEN,
    connection::Connection,
    driver::Driver,
    line,
    page::TEXTS_HAVE_CONTRAST,
    register, shown, sign_up,
    window::{Window, screenshot_path},
};

const NO_NOTICE: &str = "document.querySelector('#notice').hidden";

pub fn cases() -> Vec<Case> {
    cases![
        two_people_talk_in_a_private_channel_of_which_a_third_sees_nothing,
        a_public_channel_is_found_joined_and_archived,
        each_channel_keeps_its_draft_across_a_reload,
        a_message_written_offline_goes_to_its_channel_though_another_is_open,
        a_deleted_message_can_be_restored_and_is_then_gone_for_all,
        channels_and_people_are_reached_by_keyboard_alone,
        a_phone_shows_channels_in_a_drawer,
        a_conversation_looks_as_in_the_readme,
    ]
}

async fn two_people_talk_in_a_private_channel_of_which_a_third_sees_nothing(world: World) -> Result<()> {
    let (url, name) = (world.stack.url(), unique("plans"));
    Driver::run(async |driver| {
        let selma = register(driver, &url, "Selma").await?;
        let tarik = register(driver, &url, "Tarik").await?;
        let ulla = register(driver, &url, "Ulla").await?;
        create(&selma, &name, "private").await?;
        invite(&selma, "Tarik").await?;
        tarik.until("it is in his list", &is_listed(&name)).await?;
        tarik.until("he is still in general", &is_open("general")).await?;
        for text in ["first of two", "second of two"] {
            selma.write("#draft", &line(text)).await?;
        }
        selma.until("both are sent", ALL_SENT).await?;
        tarik.until("two messages are unread", &format!("{} === '2'", badge(&name))).await?;
        tarik.until("the title has them", "/^\\(\\d+\\+?\\) #general/.test(document.title)").await?;
        tarik.screenshot(&screenshot_path("channel-unread")?).await?;

        tarik.click(&link(&name)).await?;
        tarik.until("the channel is open", &is_open(&name)).await?;
        tarik.until("he reads both", &format!("{} && {}", shown("first of two", 1), shown("second of two", 1))).await?;
        tarik.until("nothing is unread", &format!("{} === ''", badge(&name))).await?;
        tarik.until("general is not shown", &shown("Good morning", 0)).await?;
        tarik.write("#draft", &line("both read")).await?;
        selma.until("she reads the answer", &shown("both read", 1)).await?;
        selma
            .until("she sees both members", "document.querySelector('#members-count').textContent === '2 members'")
            .await?;
        selma.screenshot(&screenshot_path("channel-private")?).await?;

        // The read position is stored, so a reload has no unread messages.
        tarik.run("location.hash = '#/channels/general'").await?;
        tarik.until("general is open", &is_open("general")).await?;
        tarik.run("location.reload()").await?;
        tarik.until("the channel is listed again", &format!("{ONLINE} && {}", is_listed(&name))).await?;
        tarik.until("nothing is unread", &format!("{} === ''", badge(&name))).await?;

        // What was sent to others arrives at her, too: so nothing of the channel is still on its way.
        tarik.write("#draft", &line(&format!("after {}", "the secret"))).await?;
        ulla.until("she is connected", &shown("after the secret", 1)).await?;
        let sees = ulla.evaluate(&format!("document.documentElement.innerHTML.includes({name:?})")).await?;
        ensure!(sees == false, "a stranger sees the name of the channel");
        ulla.run(&format!("location.hash = '#/channels/{name}'")).await?;
        ulla.until("there is no such channel", &format!("!({NO_NOTICE})")).await?;
        ulla.until("general is open", &is_open("general")).await?;
        ensure!(ulla.evaluate(&shown("of two", 0)).await? == true, "a stranger reads the channel");

        // Who leaves sees nothing more of it.
        tarik.click(&link(&name)).await?;
        tarik.until("the channel is open", &is_open(&name)).await?;
        tarik.click("#details-open").await?;
        tarik.click("#leave").await?;
        tarik.click("#confirmation-go").await?;
        tarik.until("it is not listed", &format!("!({})", is_listed(&name))).await?;
        tarik.until("general is open", &is_open("general")).await?;
        selma.until("she is alone", "document.querySelector('#members-count').textContent === '1 member'").await
    })
    .await
}

async fn a_public_channel_is_found_joined_and_archived(world: World) -> Result<()> {
    let (url, name) = (world.stack.url(), unique("open"));
    Driver::run(async |driver| {
        let viktor = register(driver, &url, "Viktor").await?;
        let wanda = register(driver, &url, "Wanda").await?;
        create(&viktor, &name, "public").await?;
        viktor.click("#details-open").await?;
        viktor.write("#topic-edit", &line("Everything about plants")).await?;
        let topic = "document.querySelector('#head-topic').textContent === 'Everything about plants'";
        viktor.until("the topic is shown", topic).await?;
        viktor.write("#draft", &line("who waters them?")).await?;

        wanda.run(&format!("location.hash = '#/channels/{name}'")).await?;
        wanda.until("she reads it without being a member", &shown("who waters them?", 1)).await?;
        viktor.write("#draft", &line("nobody?")).await?;
        wanda.until("she reads what is posted meanwhile", &shown("nobody?", 1)).await?;
        wanda.run("location.hash = ''").await?;
        wanda.until("general is open again", &is_open("general")).await?;
        wanda.click("#browse-open").await?;
        let button = format!("#browse-list button[aria-label='Join #{name}']");
        wanda.until("it can be joined", &format!("document.querySelector(\"{button}\") !== null")).await?;
        wanda.screenshot(&screenshot_path("channels-browse")?).await?;
        wanda.click(&button).await?;
        wanda.until("it is open", &format!("{} && {topic}", is_open(&name))).await?;
        wanda.until("she reads what was before", &shown("who waters them?", 1)).await?;
        wanda.write("#draft", &line("not me")).await?;
        viktor.until("she is a member", &shown("not me", 1)).await?;

        // The history of the browser has the channels.
        wanda.run("history.back()").await?;
        wanda.until("general is open", &is_open("general")).await?;
        wanda.run("history.forward()").await?;
        wanda.until("the channel is open", &format!("{} && {}", is_open(&name), shown("not me", 1))).await?;

        wanda.click("#details-open").await?;
        let members = "[...document.querySelectorAll('#members .person-name')].map(({ textContent }) => textContent)";
        wanda.until("both are listed", &format!("String({members}) === 'Viktor,Wanda'")).await?;
        wanda.click("#archive").await?;
        wanda.until("it has to be confirmed", "!document.querySelector('#confirmation').hidden").await?;
        for theme in ["light", "dark"] {
            wanda.run(&format!("document.documentElement.dataset.theme = '{theme}'")).await?;
            wanda.until(&format!("all texts can be read in {theme}"), TEXTS_HAVE_CONTRAST).await?;
        }
        wanda.screenshot(&screenshot_path("channel-archive-dark")?).await?;
        wanda.click("#confirmation-go").await?;
        let is_archived = "!document.querySelector('#no-post').hidden && document.querySelector('#foot').hidden";
        for window in [&wanda, &viktor] {
            window.until("nobody can post", is_archived).await?;
        }
        viktor.click("#no-post-go").await?;
        wanda.until("it is used again", "document.querySelector('#no-post').hidden").await
    })
    .await
}

async fn each_channel_keeps_its_draft_across_a_reload(world: World) -> Result<()> {
    let (url, name) = (world.stack.url(), unique("drafts"));
    let draft = |text: &str| format!("document.querySelector('#draft').value === {text:?}");
    Driver::run(async |driver| {
        let xenia = register(driver, &url, "Xenia").await?;
        xenia.write("#draft", "for everybody").await?;
        create(&xenia, &name, "public").await?;
        xenia.until("the field is empty", &draft("")).await?;
        xenia.write("#draft", "for some").await?;
        xenia.run("location.reload()").await?;
        xenia.until("the same channel is open", &format!("{ONLINE} && {}", is_open(&name))).await?;
        xenia.until("with its draft", &draft("for some")).await?;
        xenia.click(&link("general")).await?;
        xenia.until("general has its own", &format!("{} && {}", is_open("general"), draft("for everybody"))).await?;
        xenia.write("#draft", &line("")).await?;
        xenia.until("it is sent to general", &format!("{ALL_SENT} && {}", shown("for everybody", 1))).await?;
        xenia.click(&link(&name)).await?;
        xenia.until("the other draft is kept", &format!("{} && {}", is_open(&name), draft("for some"))).await?;
        ensure!(xenia.evaluate(&shown("for everybody", 0)).await? == true, "it was sent to the wrong channel");
        Ok(())
    })
    .await
}

async fn a_message_written_offline_goes_to_its_channel_though_another_is_open(world: World) -> Result<()> {
    let (url, first, second) = (world.stack.url(), unique("first"), unique("second"));
    Driver::run(async |driver| {
        let connection = Connection::to(&url).await?;
        let yusuf = register(driver, &connection.url(), "Yusuf").await?;
        let zora = register(driver, &url, "Zora").await?;
        for name in [&second, &first] {
            create(&yusuf, name, "private").await?;
            invite(&yusuf, "Zora").await?;
            zora.until("she is a member", &is_listed(name)).await?;
        }
        connection.cut();
        yusuf.until("the loss is shown", "document.querySelector('#connection').dataset.phase !== 'online'").await?;
        for text in ["first, one", "first, two"] {
            yusuf.write("#draft", &line(text)).await?;
        }
        yusuf.until("they wait", "document.querySelectorAll('[data-outgoing]').length === 2").await?;
        yusuf.click(&link(&second)).await?;
        let is_second = format!("document.querySelector('#head-name').textContent === {second:?}");
        yusuf.until("the other channel is open", &is_second).await?;
        yusuf.until("nothing of the first is shown", &shown("first,", 0)).await?;
        yusuf.write("#draft", &line("second, one")).await?;
        yusuf.until("it waits here", &shown("second, one", 1)).await?;
        connection.restore();
        yusuf.until("it is sent", &format!("{ONLINE} && {ALL_SENT} && {}", shown("second, one", 1))).await?;

        zora.until("two messages are in the first", &format!("{} === '2'", badge(&first))).await?;
        zora.until("one is in the second", &format!("{} === '1'", badge(&second))).await?;
        zora.click(&link(&first)).await?;
        let texts = "[...document.querySelectorAll('.message-text p')].map(({ textContent }) => textContent)";
        zora.until("they are in their order", &format!("String({texts}) === 'first, one,first, two'")).await?;
        zora.click(&link(&second)).await?;
        zora.until("the other is in its channel", &format!("String({texts}) === 'second, one'")).await
    })
    .await
}

async fn a_deleted_message_can_be_restored_and_is_then_gone_for_all(world: World) -> Result<()> {
    let url = world.stack.url();
    Driver::run(async |driver| {
        let aiko = register(driver, &url, "Aiko").await?;
        let bruno = register(driver, &url, "Bruno").await?;
        aiko.write("#draft", &line("said too early")).await?;
        aiko.until("it is sent", ALL_SENT).await?;
        bruno.until("he reads it", &shown("said too early", 1)).await?;

        let delete = "[...document.querySelectorAll('.actions .delete')].at(-1).click()";
        let undo = ".tombstone .link-button";
        aiko.run(delete).await?;
        aiko.until("it can be restored", &format!("document.querySelector('{undo}')?.textContent === 'Undo'")).await?;
        aiko.until("it is not shown", &shown("said too early", 0)).await?;
        aiko.screenshot(&screenshot_path("message-undo")?).await?;
        aiko.click(undo).await?;
        aiko.until("it is restored", &shown("said too early", 1)).await?;
        let deletions = "performance.getEntriesByType('resource').filter(({ name }) => /messages\\/\\d+$/.test(name))";
        ensure!(aiko.evaluate(&format!("{deletions}.length")).await? == 0, "something was sent");
        ensure!(bruno.evaluate(&shown("said too early", 1)).await? == true, "it was deleted for others");

        aiko.run(delete).await?;
        let tombstone = "This message was deleted";
        for window in [&bruno, &aiko] {
            window.until("it is gone", &format!("{} && {}", shown(tombstone, 1), shown("said too early", 0))).await?;
        }
        bruno.run("location.reload()").await?;
        bruno.until("also after a reload", &format!("{ONLINE} && {}", shown(tombstone, 1))).await?;

        // The last own message that is not deleted is edited.
        aiko.write("#draft", &char::from(Key::Up).to_string()).await?;
        ensure!(aiko.evaluate("document.querySelector('.edit-form') === null").await? == true, "it can be edited");
        Ok(())
    })
    .await
}

async fn channels_and_people_are_reached_by_keyboard_alone(world: World) -> Result<()> {
    let (url, name) = (world.stack.url(), unique("keys"));
    let control_k: String = [char::from(Key::Control), 'k', char::from(Key::Null)].iter().collect();
    Driver::run(async |driver| {
        let carla = register(driver, &url, "Carla").await?;
        let dario = register(driver, &url, "Dario").await?;
        create(&carla, &name, "public").await?;
        dario.until("he knows it", "document.querySelector('#here') !== null").await?;

        carla.write("#draft", &control_k).await?;
        carla.until("the switcher has the focus", "document.activeElement.id === 'switcher-input'").await?;
        carla.write("#switcher-input", "general").await?;
        carla
            .until(
                "it is selected",
                "document.querySelector('#switcher-list [aria-selected=true]').textContent.includes('#general')",
            )
            .await?;
        carla.screenshot(&screenshot_path("switcher")?).await?;
        carla.write("#switcher-input", &line("")).await?;
        carla.until("general is open", &is_open("general")).await?;
        carla.until("the composer has the focus", "document.activeElement.id === 'draft'").await?;

        carla.write("#draft", &control_k).await?;
        carla
            .until("two or more are offered", "document.querySelectorAll('#switcher-list .option').length >= 2")
            .await?;
        let keys: String = [Key::Down, Key::Down, Key::Up].map(char::from).iter().collect();
        carla.write("#switcher-input", &keys).await?;
        let active = "document.querySelector('#switcher-input').getAttribute('aria-activedescendant')";
        carla.until("the second is selected", &format!("{active} === 'option-1'")).await?;
        carla.write("#switcher-input", &char::from(Key::Escape).to_string()).await?;
        carla.until("it is closed", "!document.querySelector('#switcher').open").await?;

        // A person: the conversation is created, and found again by the other person. The new user may be unknown yet.
        carla.until("the user is known to the service", &writes_to("Dario")).await?;
        carla.write("#draft", &control_k).await?;
        carla.write("#switcher-input", &line("Dario")).await?;
        carla.until("the conversation is open", "document.querySelector('#head-name').textContent === 'Dario'").await?;
        carla.until("the address shows it", "location.hash.startsWith('#/direct/')").await?;
        carla.write("#draft", &line("just for you")).await?;
        let direct = "document.querySelector('#direct a')?.textContent ?? ''";
        dario.until("he is named by her", &format!("({direct}).includes('Carla')")).await?;
        dario.until("it is unread", "document.querySelector('#direct .badge') !== null").await?;
        dario.write("#draft", &control_k).await?;
        dario.write("#switcher-input", &line("Carla")).await?;
        dario.until("he reads it", &shown("just for you", 1)).await?;

        carla.run("document.querySelector('#scroller').focus()").await?;
        carla.write("#scroller", "?").await?;
        carla.until("the shortcuts are shown", "document.querySelector('#shortcuts').open").await?;
        carla.write("#shortcuts [data-close]", &char::from(Key::Escape).to_string()).await?;
        carla.until("they are closed", "!document.querySelector('#shortcuts').open").await?;
        carla.write("#draft", "why?").await?;
        ensure!(carla.evaluate("document.querySelector('#shortcuts').open").await? == false, "a text opened them");
        Ok(())
    })
    .await
}

async fn a_phone_shows_channels_in_a_drawer(world: World) -> Result<()> {
    let (url, name) = (world.stack.url(), unique("a-name-that-is-long"));
    Driver::run(async |driver| {
        let emre = driver.open_phone(&url).await?;
        sign_up(&emre, "Emre").await?;
        let is_open_drawer = "document.querySelector('#side').classList.contains('is-open')";
        emre.click("#side-toggle").await?;
        emre.until("the focus is in it", "document.querySelector('#side').contains(document.activeElement)").await?;
        emre.screenshot(&screenshot_path("phone-channels")?).await?;
        emre.write("#side [aria-current]", &char::from(Key::Escape).to_string()).await?;
        emre.until("it is closed", &format!("!{is_open_drawer}")).await?;
        emre.until("the focus is back", "document.activeElement.id === 'side-toggle'").await?;

        emre.click("#side-toggle").await?;
        create(&emre, &name, "public").await?;
        emre.until("it is closed", &format!("!{is_open_drawer}")).await?;
        let fits = "[document.documentElement, ...document.querySelectorAll('.bar, .head, .talk, dialog[open]')]
            .every((part) => part.scrollWidth <= Math.max(part.clientWidth, 1) && part.scrollWidth <= 360)";
        emre.until("the page fits", &format!("innerWidth === 360 && {fits}")).await?;
        emre.click("#details-open").await?;
        emre.until("the dialog fits", fits).await?;
        emre.screenshot(&screenshot_path("phone-details")?).await?;
        emre.click("#details [data-close]").await?;

        emre.click("#side-toggle").await?;
        emre.click(&link("general")).await?;
        emre.until("a link closes it", &format!("!{is_open_drawer} && {}", is_open("general"))).await
    })
    .await
}

/// Run alone, it makes `docs/images/chat.png`; see `docs/images/README.md`.
async fn a_conversation_looks_as_in_the_readme(world: World) -> Result<()> {
    let url = world.stack.url();
    Driver::run(async |driver| {
        let mina = register(driver, &url, "Mina").await?;
        let jonas = register(driver, &url, "Jonas").await?;
        create(&mina, "releases", "public").await?;
        create(&mina, "migration", "private").await?;
        invite(&mina, "Jonas").await?;
        jonas.until("it is in his list", &is_listed("migration")).await?;
        jonas.click(&link("migration")).await?;
        jonas.until("the channel is open", &is_open("migration")).await?;
        for (author, reader, text, read) in [
            (&mina, &jonas, "The monolith still owns messages. Shall we **move it** before lunch?", "move it"),
            (&jonas, &mina, "`bin/mfmigrate messages --to services`, and I keep on writing meanwhile.", "meanwhile"),
            (&mina, &jonas, "*messages: cutover done*. Did you notice anything?", "notice anything"),
            (&jonas, &mina, "Nothing. All of my messages are here, once.", "once"),
        ] {
            author.write("#draft", &line(text)).await?;
            let is_read = format!("document.querySelector('#messages').textContent.includes({read:?})");
            reader.until("it is read", &is_read).await?;
        }
        jonas.run("location.hash = '#/channels/general'").await?;
        jonas.until("general is open", &is_open("general")).await?;
        jonas.write("#draft", &line("Lunch at noon?")).await?;
        mina.until("general has an unread message", &format!("{} !== ''", badge("general"))).await?;
        mina.screenshot(&screenshot_path("readme")?).await
    })
    .await
}

/// Creates a channel in the dialog, and waits until it is open.
pub async fn create(window: &Window, name: &str, kind: &str) -> Result<()> {
    window.click("#new-channel-open").await?;
    window.write("#new-channel [name=name]", name).await?;
    window.run(&format!("document.querySelector('#new-channel [value={kind}]').click()")).await?;
    window.click("#new-channel-go").await?;
    window.until("the new channel is open", &is_open(name)).await
}

/// Invites a user to the open channel, again until the service knows the new user.
pub async fn invite(window: &Window, nickname: &str) -> Result<()> {
    window.click("#details-open").await?;
    let members = "[...document.querySelectorAll('#members .person-name')].map(({ textContent }) => textContent)";
    let invited = format!(
        "(() => {{
            if ({members}.includes({nickname:?})) return true;
            const form = document.querySelector('#invite-form');
            if (form.querySelector('[type=submit]').disabled) return false;
            form.elements.person.value = {nickname:?};
            form.requestSubmit();
            return false;
        }})()"
    );
    window.until("the user is a member", &invited).await?;
    window.click("#details [data-close]").await
}

/// An expression: whether a direct channel with the user can be created. It creates one.
fn writes_to(nickname: &str) -> String {
    format!(
        "(() => {{
            const {{ origin }} = location;
            const token = {TOKEN};
            const person = [...document.querySelectorAll('.person')]
                .find((row) => row.querySelector('.person-name').textContent === {nickname:?});
            if (!person || window.isAsking) return window.isKnown === true;
            window.isAsking = true;
            fetch(`${{origin}}/api/v2/channels`, {{
                method: 'POST',
                headers: {{ Authorization: `Bearer ${{token}}`, 'Content-Type': 'application/json' }},
                body: JSON.stringify({{ kind: 'direct', user_ids: [Number(person.dataset.userId)] }}),
            }}).then(({{ ok }}) => {{
                window.isAsking = ok;
                window.isKnown = ok;
            }});
            return false;
        }})()"
    )
}

/// A selector.
pub fn link(name: &str) -> String {
    format!("#channels a[href='#/channels/{name}']")
}

/// An expression: whether the user's list has the channel.
pub fn is_listed(name: &str) -> String {
    format!("document.querySelector(\"{}\") !== null", link(name))
}

/// An expression: the number of unread messages, or an empty text.
pub fn badge(name: &str) -> String {
    format!("(document.querySelector(\"{} .badge\")?.firstChild.data ?? '')", link(name))
}

/// An expression: whether the channel is open and its messages are loaded.
pub fn is_open(name: &str) -> String {
    format!(
        "document.querySelector('#head-name').textContent === {name:?}
        && document.querySelector('#loading').hidden
        && document.querySelector(\"{}\")?.getAttribute('aria-current') === 'page'",
        link(name)
    )
}
