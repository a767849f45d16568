//! Interests: marked messages, and channels that a user may like. The services tag and recommend are optional.

use anyhow::Result;
use flack_conformance::{
    cases,
    client::unique,
    suite::{Case, World},
};

use crate::{
    ALL_SENT, TOKEN,
    axe::check_with_axe,
    channels::{create, is_open},
    driver::Driver,
    line, register, shown,
    window::{Window, screenshot_path},
};

pub fn cases() -> Vec<Case> {
    cases![
        messages_that_match_the_interests_of_a_user_are_marked_with_the_reason,
        channels_that_a_user_may_like_are_suggested_and_joined,
        without_its_services_a_line_says_so_and_the_chat_works,
    ]
}

const DIALOG_IS_OPEN: &str = "document.querySelector('#interests')?.open === true";

/// An expression: the marks of all messages, in their order.
const MARKS: &str = "[...document.querySelectorAll('#messages .marked')].map(({ textContent }) => textContent).join()";

/// The suggested channels are loaded when the dialog is opened, so it is opened again until the condition holds.
async fn suggested(window: &Window, condition: &str) -> Result<()> {
    let opened_again = format!(
        "(() => {{
            if ({condition}) return true;
            const dialog = document.querySelector('#browse');
            if (document.querySelector('#suggested').hidden) dialog.close();
            if (!dialog.open) document.querySelector('#browse-open').click();
            return false;
        }})()"
    );
    window.until("the channels are suggested", &opened_again).await
}

async fn prefer(window: &Window, field: &str, text: &str) -> Result<()> {
    window.click("#interests-open").await?;
    window.until("the dialog is open", DIALOG_IS_OPEN).await?;
    window.run(&format!("document.querySelector('#interests [name={field}]').value = ''")).await?;
    window.write(&format!("#interests [name={field}]"), &line(text)).await
}

async fn messages_that_match_the_interests_of_a_user_are_marked_with_the_reason(world: World) -> Result<()> {
    let (url, name) = (world.stack.url(), unique("sea"));
    Driver::run(async |driver| {
        let yolanda = register(driver, &url, "Yolanda").await?;
        let zlata = register(driver, &url, "Zlata").await?;
        create(&zlata, &name, "public").await?;
        for text in ["The axolotl is here", "Nothing else"] {
            zlata.write("#draft", &line(text)).await?;
        }
        zlata.until("both are sent", ALL_SENT).await?;
        yolanda.run(&format!("location.hash = '#/channels/{name}'")).await?;
        yolanda.until("it can be joined", "!document.querySelector('#no-post').hidden").await?;
        yolanda.click("#no-post-go").await?;
        yolanda.until("she has joined", &is_open(&name)).await?;
        yolanda.until("she reads both", &format!("{} && {}", shown("axolotl", 1), shown("Nothing", 1))).await?;

        // Interests apply to what is there already, and to what comes.
        prefer(&yolanda, "words", "axolotl, sea birds").await?;
        yolanda.until("the message is marked", &format!("{MARKS} === 'Matches: axolotl'")).await?;
        zlata.write("#draft", &line("Sea birds and an axolotl")).await?;
        let both = "Matches: axolotl,Matches: axolotl, sea birds";
        yolanda.until("the next one, too", &format!("{MARKS} === '{both}'")).await?;
        yolanda.screenshot(&screenshot_path("interests-marks")?).await?;
        check_with_axe(&yolanda, "marked messages").await?;
        yolanda.click("#interests-open").await?;
        // They are loaded before.
        yolanda.until("the dialog is open", DIALOG_IS_OPEN).await?;
        check_with_axe(&yolanda, "the interests").await?;
        yolanda.screenshot(&screenshot_path("interests-dialog")?).await?;
        yolanda.run("document.querySelector('#interests').close()").await?;

        prefer(&yolanda, "people", "Nobody at all").await?;
        let refused = "document.querySelector('#interests [role=alert]').textContent.includes('Nobody at all')";
        yolanda.until("an unknown person is refused", refused).await?;
        yolanda.run("document.querySelector('#interests').close()").await?;
        yolanda.run("location.reload()").await?;
        yolanda.until("the marks are there again", &format!("{MARKS} === '{both}'")).await?;
        prefer(&yolanda, "words", "nothing").await?;
        yolanda.until("another message is marked", &format!("{MARKS} === 'Matches: nothing'")).await?;
        prefer(&yolanda, "words", "").await?;
        yolanda.until("nothing is marked any more", &format!("{MARKS} === ''")).await
    })
    .await
}

async fn channels_that_a_user_may_like_are_suggested_and_joined(world: World) -> Result<()> {
    let (url, joined, similar) = (world.stack.url(), unique("herd"), unique("flock"));
    Driver::run(async |driver| {
        let anouk = register(driver, &url, "Anouk").await?;
        let bela = register(driver, &url, "Bela").await?;
        for name in [&joined, &similar] {
            create(&bela, name, "public").await?;
            bela.write("#draft", &line("the quagga and the numbat")).await?;
            bela.until("it is sent", ALL_SENT).await?;
        }
        anouk.run(&format!("location.hash = '#/channels/{joined}'")).await?;
        anouk.until("it can be joined", "!document.querySelector('#no-post').hidden").await?;
        anouk.click("#no-post-go").await?;
        anouk.until("she has joined", &is_open(&joined)).await?;

        let headers = format!("{{ headers: {{ Authorization: `Bearer ${{{TOKEN}}}` }} }}");
        let is_known = format!(
            "fetch('/api/recommend', {headers}).then((answer) => answer.json())
                .then(({{ channels }}) => channels[0]?.name === '{similar}')"
        );
        anouk.until("the service has received everything", &is_known).await?;
        let button = format!("#suggested button[aria-label='Join #{similar}']");
        suggested(&anouk, &format!("document.querySelector(\"{button}\") !== null")).await?;
        let reason = "document.querySelector('#suggested .choice-note').textContent";
        anouk.until("the reason is shown", &format!("{reason}.includes('quagga')")).await?;
        anouk.screenshot(&screenshot_path("channels-suggested")?).await?;
        check_with_axe(&anouk, "suggested channels").await?;
        anouk.click(&button).await?;
        anouk.until("it is open", &is_open(&similar)).await?;
        anouk.write("#draft", &line("me, too")).await?;
        bela.until("she is a member", &shown("me, too", 1)).await
    })
    .await
}

async fn without_its_services_a_line_says_so_and_the_chat_works(world: World) -> Result<()> {
    let url = world.stack.url();
    for service in ["tag", "recommend"] {
        world.stack.mf_ok(&["kill", service, "--all"])?;
    }
    let result = Driver::run(async |driver| {
        let cleo = register(driver, &url, "Cleo").await?;
        let fenja = register(driver, &url, "Fenja").await?;
        suggested(&cleo, "document.querySelector('#suggested p').textContent === 'They cannot be loaded now.'").await?;
        cleo.run("document.querySelector('#browse').close()").await?;
        prefer(&cleo, "words", "axolotl").await?;
        cleo.until("the interests are stored", "!document.querySelector('#interests').open").await?;
        cleo.write("#draft", &line("still here")).await?;
        cleo.until("it is sent", &format!("{ALL_SENT} && {}", shown("still here", 1))).await?;
        // Only messages of others are marked.
        fenja.write("#draft", &line("so am I")).await?;
        cleo.until("she reads it", &shown("so am I", 1)).await?;
        cleo.click("#interests-open").await?;
        let status = "!document.querySelector('#interests [role=status]').hidden";
        cleo.until("the dialog says so", &format!("{DIALOG_IS_OPEN} && {status}")).await
    })
    .await;
    for service in ["tag", "recommend"] {
        world.stack.mf_ok(&["run", service])?;
    }
    result
}
