//! Files, profiles and the preview of a message in the browser app.

use std::fs;

use anyhow::{Result, ensure};
use fantoccini::key::Key;
use flack_conformance::{
    cases,
    client::unique,
    suite::{Case, World},
};

use crate::{
    ALL_SENT, ASKED_TO_SIGN_IN, ONLINE, SIGNED_IN, TOKEN,
    axe::check_with_axe,
    channels::{create, is_open},
    connection::Connection,
    driver::Driver,
    line, register,
    search::{OPEN, find},
    shown, sign_up,
    tabs::STORED,
    window::{Window, screenshot_path},
};

/// A PNG of 8 by 6 pixels.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAGCAIAAABxZ0isAAAAX0lEQVR42g3JIQ4AMQhFQQwhqQBTBAmp+Rd/R90dO2aGG8co4xpj\
    PEOGWeDBCSq4wQQvUPyReHKSSm4yyUuUfzTenKaa20zzGvUfiy9nqeUus7xF+4dwcUSJK0Y8IfEBLiwkkWH2evUAAAAASUVORK5C\
    YII=";

/// Statements that make `photo` and `screenshot`, images of noise that are larger than a file may be. The photo has the
/// metadata of a phone (Exif): it has to be turned by 90 degrees, and was taken north of the equator.
const PHOTO: &str = "
    const canvas = new OffscreenCanvas(2000, 1500);
    const context = canvas.getContext('2d');
    const noise = context.createImageData(2000, 1500);
    new Uint32Array(noise.data.buffer).forEach((_, index, pixels) => {
        pixels[index] = 0xff000000 | Math.random() * 0x1000000;
    });
    context.putImageData(noise, 0, 0);
    const exif = Uint8Array.from([
        255, 225, 0, 64, 69, 120, 105, 102, 0, 0, 73, 73, 42, 0, 8, 0, 0, 0,
        // The directory: the orientation, and where the directory of GPS is.
        2, 0, 18, 1, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0, 37, 136, 4, 0, 1, 0, 0, 0, 38, 0, 0, 0, 0, 0, 0, 0,
        // The directory of GPS: a latitude of the north.
        1, 0, 1, 0, 2, 0, 2, 0, 0, 0, 78, 0, 0, 0, 0, 0, 0, 0,
    ]);
    canvas.convertToBlob({ type: 'image/jpeg', quality: 0.95 }).then((jpeg) => {
        window.photo = new File([jpeg.slice(0, 2), exif, jpeg.slice(2)], 'sea.jpg', { type: 'image/jpeg' });
    });
    const part = new OffscreenCanvas(800, 600);
    part.getContext('2d').drawImage(canvas, 0, 0);
    part.convertToBlob({ type: 'image/png' }).then((png) => {
        window.screenshot = new File([png], 'screen.png', { type: 'image/png' });
    });";

const ATTACHED: &str =
    "[...document.querySelectorAll('#composer .attachment-name')].map(({ textContent }) => textContent)";
const NOTE: &str = "document.querySelector('#draft-note').textContent";

pub fn cases() -> Vec<Case> {
    cases![
        a_pasted_image_and_a_dropped_file_reach_the_other_person,
        a_file_that_is_refused_says_why,
        a_photo_is_sent_without_metadata_and_small_enough,
        a_file_is_sent_though_it_was_deleted_after_it_was_attached,
        a_file_waits_for_the_connection_and_is_sent_once,
        a_file_that_waits_is_stored_in_the_browser,
        a_sign_out_leaves_neither_files_nor_a_search_to_the_next_user,
        a_profile_is_edited_and_everybody_sees_it,
        a_message_is_previewed_by_keyboard,
    ]
}

/// Statements that give files to the composer, as the event `paste` or `drop` of the browser does.
fn give(event: &str, files: &str) -> String {
    format!(
        "const files = {files};
        const data = new DataTransfer();
        for (const file of files) data.items.add(file);
        const options = {{ bubbles: true, cancelable: true }};
        document.querySelector('#draft').dispatchEvent('{event}' === 'paste'
            ? new ClipboardEvent('paste', {{ ...options, clipboardData: data }})
            : new DragEvent('drop', {{ ...options, dataTransfer: data }}));"
    )
}

fn image(name: &str) -> String {
    format!("new File([Uint8Array.from(atob('{PNG}'), (c) => c.charCodeAt(0))], '{name}', {{ type: 'image/png' }})")
}

async fn a_pasted_image_and_a_dropped_file_reach_the_other_person(world: World) -> Result<()> {
    let url = world.stack.url();
    Driver::run(async |driver| {
        let oksana = register(driver, &url, "Oksana").await?;
        let pete = register(driver, &url, "Pete").await?;
        oksana.run(&give("paste", &format!("[{}]", image("cat.png")))).await?;
        oksana.until("it is attached", &format!("{ATTACHED}.length === 1")).await?;
        oksana.run(&give("drop", "[new File(['a note'], 'note.txt', { type: 'text/plain' })]")).await?;
        let attached = "String([...document.querySelectorAll('#composer .attachment-name')].map((name) => \
             name.textContent.split(' (')[0])) === 'cat.png,note.txt'";
        oksana.until("both are attached", attached).await?;
        oksana
            .until("the image has a thumbnail", "document.querySelector('#composer .thumbnail')?.naturalWidth === 8")
            .await?;
        check_with_axe(&oksana, "attached files").await?;
        oksana.write("#draft", &line("look at this")).await?;
        oksana.until("it is sent", &format!("{ALL_SENT} && {ATTACHED}.length === 0")).await?;
        pete.until("he sees the text", &shown("look at this", 1)).await?;
        let seen = "document.querySelector('#messages .file-image img')";
        pete.until("he sees the image", &format!("{seen}?.complete && {seen}.naturalWidth === 8")).await?;
        ensure!(pete.evaluate(&format!("{seen}.alt")).await? == "cat.png");
        // Its place is known before it is loaded.
        let ratio = "getComputedStyle(document.querySelector('#messages .file-image')).aspectRatio";
        ensure!(pete.evaluate(ratio).await? == "8 / 6");
        let other = "document.querySelector('#messages .file-other')?.textContent";
        ensure!(pete.evaluate(other).await? == "note.txt6 bytes", "{}", pete.evaluate(other).await?);
        pete.screenshot(&screenshot_path("files")?).await?;

        pete.write("#messages .file-image", &char::from(Key::Enter).to_string()).await?;
        let large = "document.querySelector('#picture[open] img')";
        pete.until("the image is enlarged", &format!("{large}?.naturalWidth === 8")).await?;
        check_with_axe(&pete, "an enlarged image").await?;
        pete.run("document.querySelector('#picture').close()").await?;
        // Without text.
        oksana.run(&give("paste", &format!("[{}]", image("dog.png")))).await?;
        oksana.until("it is attached", &format!("{ATTACHED}.length === 1")).await?;
        oksana.write("#draft", &line("")).await?;
        pete.until("he sees both images", "document.querySelectorAll('#messages .file-image').length === 2").await?;
        pete.run("location.reload()").await?;
        let both = "[...document.querySelectorAll('#messages .file-image img')].filter((image) => \
            image.naturalWidth === 8).length === 2";
        pete.until("they are stored", &format!("{ONLINE} && {both}")).await
    })
    .await
}

async fn a_file_that_is_refused_says_why(world: World) -> Result<()> {
    let url = world.stack.url();
    Driver::run(async |driver| {
        let quirin = register(driver, &url, "Quirin").await?;
        // Other tests post files in `general`.
        create(&quirin, &unique("refused"), "private").await?;
        quirin.run(&give("paste", "[new File([new Uint8Array(3 * 1048576)], 'large.bin')]")).await?;
        let note = format!("{NOTE} === 'large.bin was not added: it has 3 MiB, and a file at most 1 MiB.'");
        quirin.until("it is too large", &note).await?;
        let five = "[1, 2, 3, 4, 5].map((number) => new File(['x'], `${number}.txt`))";
        quirin.run(&give("drop", five)).await?;
        let note = format!("{NOTE} === '5.txt was not added: a message has at most 4 files.'");
        quirin.until("it is one too many", &note).await?;
        quirin.click("#composer .attachment-remove").await?;
        quirin.until("one is removed", &format!("String({ATTACHED}).startsWith('2.txt')")).await?;
        quirin.write("#draft", &line("three")).await?;
        quirin.until("three are sent", "document.querySelectorAll('#messages .file-other').length === 3").await?;

        // The server refuses what this page would send.
        quirin
            .run(
                "const real = window.fetch;
                window.fetch = (path, options) => (path.includes('/files?')
                    ? Promise.resolve(new Response('{\"detail\": \"No room.\"}', { status: 409 }))
                    : real(path, options));",
            )
            .await?;
        quirin.run(&give("paste", "[new File(['x'], 'refused.txt')]")).await?;
        quirin.until("it is attached", &format!("{ATTACHED}.length === 1")).await?;
        quirin.write("#draft", &line("refused")).await?;
        quirin.until("the reason is shown", &shown("Not sent. No room.", 1)).await?;
        quirin.click("[data-outgoing=refused] .link-button").await?;
        let is_back = format!("{ATTACHED}.length === 1 && document.querySelector('#draft').value === 'refused'");
        quirin.until("text and file are back in the composer", &is_back).await
    })
    .await
}

async fn a_photo_is_sent_without_metadata_and_small_enough(world: World) -> Result<()> {
    let url = world.stack.url();
    Driver::run(async |driver| {
        let bodil = register(driver, &url, "Bodil").await?;
        create(&bodil, &unique("photos"), "private").await?;
        bodil.run(PHOTO).await?;
        bodil.until("both are made", "window.photo !== undefined && window.screenshot !== undefined").await?;
        let are_large = "[photo, screenshot].every(({ size }) => size > 1048576)";
        ensure!(bodil.evaluate(are_large).await? == true, "the images are too small for this test");
        let has_exif = "photo.text().then((text) => text.includes('Exif'))";
        ensure!(bodil.evaluate(has_exif).await? == true, "the photo has no metadata");

        bodil.write("#draft", "at the sea").await?;
        let damaged = "new File([new Uint8Array([255, 216, 255, 0])], 'damaged.jpg', { type: 'image/jpeg' })";
        let give = give("paste", &format!("[photo, screenshot, {damaged}]"));
        bodil
            .run(&format!("{give} document.querySelector('#composer').requestSubmit(); window.noted = {NOTE};"))
            .await?;
        let noted = bodil.evaluate("window.noted").await?;
        ensure!(noted == "Not sent: the files are not attached yet.", "{noted}");
        let names = format!("String({ATTACHED}.map((name) => name.split(' (')[0]))");
        bodil.until("all are attached", &format!("{names} === 'sea.jpg,screen.webp,damaged.jpg'")).await?;
        bodil.write("#draft", &line("")).await?;
        let image = "document.querySelector('#messages [data-message-id] .file-image')";
        bodil.until("they are sent", &format!("{ALL_SENT} && {image} !== null")).await?;

        let message = format!("{image}.closest('[data-message-id]').dataset.messageId");
        let path = format!("`/api/v2/messages/${{{message}}}/files/${{{image}.dataset.key.split(' ')[1]}}`");
        let headers = format!("{{ headers: {{ Authorization: `Bearer ${{{TOKEN}}}` }} }}");
        let read = format!("fetch({path}, {headers}).then((answer) => answer.blob())");
        bodil.run(&format!("{read}.then((blob) => {{ window.stored = blob; }})")).await?;
        bodil.until("it is read", "window.stored !== undefined").await?;
        let stored = bodil.evaluate("[stored.type, stored.size]").await?;
        ensure!(stored[0] == "image/jpeg" && stored[1].as_u64().is_some_and(|bytes| bytes <= 1_048_576), "{stored}");
        let has_exif = "stored.text().then((text) => text.includes('Exif'))";
        ensure!(bodil.evaluate(has_exif).await? == false, "the metadata is stored");
        let is_turned = "createImageBitmap(stored).then(({ width, height }) => width * 4 === height * 3)";
        ensure!(bodil.evaluate(is_turned).await? == true, "the photo is not turned as its metadata said");
        Ok(())
    })
    .await
}

async fn a_file_is_sent_though_it_was_deleted_after_it_was_attached(world: World) -> Result<()> {
    let url = world.stack.url();
    Driver::run(async |driver| {
        let greta = register(driver, &url, "Greta").await?;
        create(&greta, &unique("gone"), "private").await?;
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("gone.txt");
        fs::write(&path, "still here")?;
        greta.write("#composer input[type=file]", &path.display().to_string()).await?;
        greta.until("it is attached", &format!("{ATTACHED}.length === 1")).await?;
        fs::remove_file(&path)?;
        greta.write("#draft", &line("a copy")).await?;
        let sent = "document.querySelector('#messages .file-other')?.textContent === 'gone.txt10 bytes'";
        greta.until("it is sent", &format!("{ALL_SENT} && {sent}")).await
    })
    .await
}

async fn a_file_waits_for_the_connection_and_is_sent_once(world: World) -> Result<()> {
    let url = world.stack.url();
    Driver::run(async |driver| {
        let connection = Connection::to(&url).await?;
        let renata = register(driver, &connection.url(), "Renata").await?;
        let stan = register(driver, &url, "Stan").await?;
        connection.cut();
        renata.until("the loss is shown", "document.querySelector('#connection').dataset.phase !== 'online'").await?;
        let name = unique("offline");
        renata.run(&give("paste", &format!("[{}]", image(&format!("{name}.png"))))).await?;
        renata.until("it is attached", &format!("{ATTACHED}.length === 1")).await?;
        renata.write("#draft", &line(&name)).await?;
        renata.until("it waits with its file", "document.querySelector('[data-outgoing] .thumbnail') !== null").await?;
        connection.restore();
        renata.until("it is sent", &format!("{ONLINE} && {ALL_SENT}")).await?;
        // A second copy would be before this line.
        let next = unique("next");
        renata.write("#draft", &line(&next)).await?;
        stan.until("he reads the next line", &shown(&next, 1)).await?;
        let images = format!("document.querySelectorAll('#messages .file-image [alt=\"{name}.png\"]').length === 1");
        ensure!(stan.evaluate(&format!("{} && {images}", shown(&name, 1))).await? == true, "it was not sent once");
        Ok(())
    })
    .await
}

async fn a_file_that_waits_is_stored_in_the_browser(world: World) -> Result<()> {
    let url = world.stack.url();
    Driver::run(async |driver| {
        let connection = Connection::to(&url).await?;
        let hedda = register(driver, &connection.url(), "Hedda").await?;
        connection.cut();
        hedda.until("the loss is shown", &format!("!({ONLINE})")).await?;
        let name = unique("stored");
        hedda.run(&give("paste", &format!("[{}]", image(&format!("{name}.png"))))).await?;
        hedda.until("it is attached", &format!("{ATTACHED}.length === 1")).await?;
        hedda.write("#draft", &line(&name)).await?;
        hedda.until("it is stored", &format!("{STORED}.then((stored) => stored === 1)")).await?;
        // Another page, from where the messages are not sent: as if the browser was closed.
        connection.restore();
        hedda.goto(&format!("{}/api/docs", connection.url())).await?;
        hedda.goto(&connection.url()).await?;
        hedda.until("it is sent", &format!("{ONLINE} && {ALL_SENT} && {}", shown(&name, 1))).await?;
        let seen = format!("document.querySelector('#messages .file-image [alt=\"{name}.png\"]')?.naturalWidth === 8");
        hedda.until("with its image", &seen).await
    })
    .await
}

async fn a_sign_out_leaves_neither_files_nor_a_search_to_the_next_user(world: World) -> Result<()> {
    let (url, term) = (world.stack.url(), unique("w").replace('-', ""));
    Driver::run(async |driver| {
        let window = register(driver, &url, "Ilja").await?;
        window.write("#draft", &line(&format!("the {term} of Ilja"))).await?;
        window.until("it is sent", ALL_SENT).await?;
        window.run(&give("paste", &format!("[{}]", image("secret.png")))).await?;
        window.until("it is attached", &format!("{ATTACHED}.length === 1")).await?;
        window.click("#search-open").await?;
        find(&window, &term).await?;
        window.write("#search-input", &char::from(Key::Escape).to_string()).await?;
        window.until("the panel is closed", &format!("!({OPEN})")).await?;

        window.click("#sign-out").await?;
        window.until("the app asks to sign in", ASKED_TO_SIGN_IN).await?;
        window.click("[name=way][value=register]").await?;
        window.run("document.querySelector('#nickname').value = ''").await?;
        sign_up(&window, "Jette").await?;
        window.until("the channel is open", &format!("{SIGNED_IN} && {}", is_open("general"))).await?;
        ensure!(window.evaluate(&format!("{ATTACHED}.length")).await? == 0, "a file is left");
        window.click("#search-open").await?;
        window.until("the panel is open", OPEN).await?;
        let left = "document.querySelector('#search-input').value + document.querySelectorAll('.search-result').length";
        ensure!(window.evaluate(left).await? == "0", "a search is left");
        Ok(())
    })
    .await
}

async fn a_profile_is_edited_and_everybody_sees_it(world: World) -> Result<()> {
    let (url, name) = (world.stack.url(), unique("profiles"));
    Driver::run(async |driver| {
        let tara = register(driver, &url, "Tara").await?;
        let udo = register(driver, &url, "Udo").await?;
        create(&tara, &name, "public").await?;
        tara.write("#draft", &line("before")).await?;
        tara.until("it is sent", ALL_SENT).await?;
        udo.run(&format!("location.hash = '#/channels/{name}'")).await?;
        udo.until("he reads it", &shown("before", 1)).await?;
        let nick = "document.querySelector('#messages .message-nick')";
        ensure!(udo.evaluate(&format!("{nick} === null")).await? == true, "a nickname is shown twice");

        tara.run("document.querySelector('#messages button.message-author').click()").await?;
        tara.until("the card is shown", "document.querySelector('#profile').open").await?;
        tara.click("#profile-edit").await?;
        check_with_axe(&tara, "the profile").await?;
        tara.write("#profile-form [name=name]", "Tara Tester").await?;
        tara.write("#profile-form [name=about]", "I test.").await?;
        tara.click("#profile-form [name=own]").await?;
        tara.run("document.querySelector('#profile-form [name=hue]').value = 300").await?;
        tara.screenshot(&screenshot_path("profile-form")?).await?;
        tara.click("#profile-form [type=submit]").await?;
        tara.until("it is stored", "document.querySelector('#profile-name')?.textContent === 'Tara Tester'").await?;
        let author = "document.querySelector('#messages .message-author')?.textContent";
        udo.until("he sees the name", &format!("{author} === 'Tara Tester'")).await?;
        ensure!(udo.evaluate(&format!("{nick}?.textContent")).await? == "@Tara", "the nickname is not shown");
        let hue = "document.querySelector('#messages .avatar').style.getPropertyValue('--hue')";
        udo.until("and the colour", &format!("{hue} === '300'")).await?;
        udo.run("document.querySelector('#messages button.message-author').click()").await?;
        udo.until("and the rest", "document.querySelector('#profile-about').textContent === 'I test.'").await?;
        ensure!(udo.evaluate("document.querySelector('#profile-edit').hidden").await? == true, "he could change it");
        udo.run("location.reload()").await?;
        udo.until("also later", &format!("{ONLINE} && {author} === 'Tara Tester'")).await
    })
    .await
}

async fn a_message_is_previewed_by_keyboard(world: World) -> Result<()> {
    let url = world.stack.url();
    Driver::run(async |driver| {
        let valentina: Window = register(driver, &url, "Valentina").await?;
        valentina.write("#draft", "so **bold** <b>not</b>").await?;
        let bar = "#composer [role=toolbar] button";
        // The toolbar is one stop of Tab, and the arrow keys reach its last button.
        valentina.write(bar, &char::from(Key::Left).to_string()).await?;
        let focused = "document.activeElement.getAttribute('aria-label') === 'Preview'";
        valentina.until("the button has the focus", focused).await?;
        valentina.write(&format!("{bar}[aria-label=Preview]"), &char::from(Key::Enter).to_string()).await?;
        let preview = "document.querySelector('#composer .preview:not([hidden])')";
        valentina
            .until("it is rendered", &format!("{preview}?.querySelector('strong')?.textContent === 'bold'"))
            .await?;
        ensure!(valentina.evaluate(&format!("{preview}.textContent.includes('<b>not</b>')")).await? == true);
        valentina.write("#draft", " more").await?;
        valentina.until("it follows the text", &format!("{preview}.textContent.includes('more')")).await?;
        check_with_axe(&valentina, "a preview").await?;
        valentina.write("#draft", &line("")).await?;
        valentina.until("it closes when the message is sent", &format!("{ALL_SENT} && {preview} === null")).await
    })
    .await
}
