//! A chat with thousands of messages: pages are loaded while it is scrolled, and the row that is being read stays where
//! it is.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};
use fantoccini::key::Key;
use flack_conformance::{
    cases,
    client::{Auth, Client, Person},
    stack::Stage,
    suite::{Case, World},
};
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use crate::{
    ALL_SENT, ONLINE,
    connection::Connection,
    driver::Driver,
    line, register, shown,
    window::{Window, screenshot_path},
};

const MESSAGES: usize = 2_000;
const PAGE_MESSAGES: usize = 50;
const ROWS_MAX: usize = 300;
/// Of the first page, with headers. It has 50 messages of up to 400 characters, as source and as HTML.
const OPENING_BYTES_MAX: f64 = 60_000.0;
/// A row that is being read may move by less.
const MOVED_PX_MAX: f64 = 3.0;

const MESSAGE_ROWS: &str = "[...document.querySelectorAll('#messages > [data-message-id]')]";
const FIRST_ID: &str = "Number(document.querySelector('#messages > [data-message-id]').dataset.messageId)";
const BUTTON: &str = "document.querySelector('#newest')";

/// Whether the first of all messages is loaded and in sight.
const IS_AT_START: &str =
    "document.querySelector('#scroller').scrollTop === 0 && document.querySelector('#earlier').hidden";

/// In one call of `walk`: they take some seconds.
const STEPS_MAX: usize = 100;
/// For the messages of all cases.
const WALKS_MAX: usize = 50;

/// Scrolls some steps up (-1) or down (1). Reports ids that were in sight, rows that moved by another distance than
/// the list was scrolled, and the largest number of rows.
const WALK: &str = "window.walk = async (direction, steps) => {
    const scroller = document.querySelector('#scroller');
    const frame = () => new Promise(requestAnimationFrame);
    const textTop = (row) => row.querySelector('.message-text').getBoundingClientRect().top;
    const seen = new Set();
    const report = { jumps: [], rowsMax: 0, unordered: 0 };
    const look = () => {
        const rows = [...document.querySelectorAll('#messages > [data-message-id]')];
        const ids = rows.map((row) => Number(row.dataset.messageId));
        if (ids.some((id, index) => index > 0 && id <= ids[index - 1])) report.unordered += 1;
        report.rowsMax = Math.max(report.rowsMax, rows.length);
        const { top, bottom } = scroller.getBoundingClientRect();
        const inSight = rows.filter((row) => textTop(row) < bottom && row.getBoundingClientRect().bottom > top);
        for (const row of inSight) seen.add(Number(row.dataset.messageId));
        return inSight;
    };
    for (let step = 0; step < steps; step += 1) {
        const inSight = look();
        const row = inSight[Math.floor(inSight.length / 2)];
        const [before, start] = [textTop(row), scroller.scrollTop];
        scroller.scrollTop += direction * scroller.clientHeight * 0.8;
        const expected = before + start - scroller.scrollTop;
        await frame();
        await frame();
        const now = document.querySelector(`[data-message-id='${row.dataset.messageId}']`);
        if (!now || Math.abs(textTop(now) - expected) >= 3) {
            report.jumps.push([row.dataset.messageId, now && Math.round(textTop(now) - expected)]);
        }
    }
    look();
    window.walked = { ...report, seen: [...seen] };
}";

pub fn cases() -> Vec<Case> {
    cases![
        every_message_is_reached_by_scrolling_and_no_row_jumps,
        a_chat_with_thousands_of_messages_opens_with_the_newest_fifty,
        messages_that_arrive_for_a_long_time_leave_the_list_and_are_loaded_again,
        what_happens_at_the_end_moves_no_row_that_is_being_read,
        a_connection_that_is_not_resumed_keeps_the_row_that_is_being_read,
    ]
}

async fn a_chat_with_thousands_of_messages_opens_with_the_newest_fifty(world: World) -> Result<()> {
    History::insert(&world, "opener").await?;
    let url = world.stack.url();
    Driver::run(async |driver| {
        let nora = register(driver, &url, "Nora").await?;
        nora.until("the newest page is shown", &format!("{MESSAGE_ROWS}.length === {PAGE_MESSAGES}")).await?;
        nora.until("with the newest message", &shown(&format!("history {MESSAGES}"), 1)).await?;
        let reads = "performance.getEntriesByType('resource').filter(({ name }) => name.includes('messages'))";
        let read = nora.evaluate(&format!("{reads}.map(({{ transferSize }}) => transferSize)")).await?;
        let bytes = read[0].as_f64().context("no request for messages")?;
        println!("the first page of messages: {bytes} bytes");
        ensure!(read[1].is_null() && bytes <= OPENING_BYTES_MAX, "{read}");
        nora.until("the end is in sight", &is_at_end()).await?;
        ensure!(nora.evaluate(&format!("{BUTTON}.hidden")).await? == true, "nothing to jump to");
        nora.until("screen readers announce new messages", "document.querySelector('#log').ariaBusy === 'false'")
            .await?;
        nora.screenshot(&screenshot_path("history-end")?).await?;

        // By keyboard, from the list itself.
        let first = nora.evaluate(FIRST_ID).await?;
        nora.run("document.querySelector('#scroller').focus()").await?;
        nora.write("#scroller", &char::from(Key::Home).to_string()).await?;
        nora.until("an earlier page is loaded", &format!("{FIRST_ID} < {first}")).await?;
        nora.until("the way back is offered", &format!("{BUTTON}.textContent === 'Jump to latest'")).await?;
        nora.write("#scroller", &char::from(Key::End).to_string()).await?;
        nora.until("the end is in sight again", &is_at_end()).await?;
        nora.until("nothing to jump to", &format!("{BUTTON}.hidden")).await
    })
    .await
}

async fn every_message_is_reached_by_scrolling_and_no_row_jumps(world: World) -> Result<()> {
    let history = History::insert(&world, "walker").await?;
    let url = world.stack.url();
    Driver::run(async |driver| {
        let olga = register(driver, &url, "Olga").await?;
        olga.until("the newest page is shown", &shown(&format!("history {MESSAGES}"), 1)).await?;
        // As in a browser without scroll anchoring.
        olga.run("document.querySelector('#scroller').style.overflowAnchor = 'none'").await?;
        let to_the_start = walk_until(&olga, -1, IS_AT_START).await?;
        check_walk(&to_the_start, &history.ids, ROWS_MAX).context("to the start")?;
        olga.run("document.querySelector('#scroller').style.overflowAnchor = 'auto'").await?;
        let to_the_end = walk_until(&olga, 1, &is_at_end()).await?;
        check_walk(&to_the_end, &history.ids, ROWS_MAX).context("to the end")
    })
    .await
}

async fn messages_that_arrive_for_a_long_time_leave_the_list_and_are_loaded_again(world: World) -> Result<()> {
    let url = world.stack.url();
    Driver::run(async |driver| {
        let quinn = register(driver, &url, "Quinn").await?;
        quinn.until("the list is loaded", "document.querySelector('#log').ariaBusy === 'false'").await?;
        quinn.write("#draft", &line("to be edited")).await?;
        quinn.until("it is confirmed", ALL_SENT).await?;
        quinn.write("#draft", &char::from(Key::Up).to_string()).await?;
        quinn.until("the editor is open", "document.activeElement.matches('.edit-source')").await?;
        quinn.write(".edit-source", " later").await?;
        let history = History::insert(&world, "quick").await?;
        let last = format!("document.querySelector('[data-message-id=\"{}\"]')", history.ids[MESSAGES - 1]);
        quinn.until("all have arrived", &format!("{last} !== null")).await?;
        ensure!(quinn.evaluate("document.activeElement.value").await? == "to be edited later", "the editor is gone");
        // Not by `write`, which would scroll to the editor.
        quinn.run("document.activeElement.dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape' }))").await?;
        quinn.until("some have left the list", &format!("{MESSAGE_ROWS}.length <= {ROWS_MAX}")).await?;
        quinn.until("the end is in sight", &is_at_end()).await?;
        let is_first_seen = format!("window.walked.seen.some((id) => id <= {})", history.ids[0]);
        let walked = walk_until(&quinn, -1, &is_first_seen).await?;
        // A page may be added before the page cursors of the others are loaded.
        check_walk(&walked, &history.ids, ROWS_MAX + PAGE_MESSAGES)
    })
    .await
}

async fn what_happens_at_the_end_moves_no_row_that_is_being_read(world: World) -> Result<()> {
    let history = History::insert(&world, "reader").await?;
    let author = world.client.person("talker").await?;
    let url = world.stack.url();
    Driver::run(async |driver| {
        let pia = register(driver, &url, "Pia").await?;
        pia.until("the newest page is shown", &shown(&format!("history {MESSAGES}"), 1)).await?;

        // A little above the end, which is loaded.
        walk(&pia, -1, 2).await?;
        let row = Row::in_sight(&pia).await?;
        world.client.message(&author, "said while Pia reads").await?;
        pia.until("it is announced", &format!("!{BUTTON}.hidden && {BUTTON}.textContent === 'New messages'")).await?;
        pia.until("it is below", &shown("said while Pia reads", 1)).await?;
        row.has_not_moved(&pia).await?;

        // Far above, where the end is not loaded.
        walk(&pia, -1, STEPS_MAX).await?;
        ensure!(pia.evaluate("document.querySelector('#later').hidden").await? == false, "the end is still loaded");
        let row = Row::in_sight(&pia).await?;
        let rows = pia.evaluate(&format!("{MESSAGE_ROWS}.map(({{ dataset }}) => dataset.messageId)")).await?;
        world.client.message(&author, "said far below").await?;
        pia.until("it is announced", &format!("!{BUTTON}.hidden && {BUTTON}.textContent === 'New messages'")).await?;
        ensure!(pia.evaluate(&shown("said far below", 0)).await? == true, "it is shown after a gap");
        // Edits: one that is not loaded, and one above what is in sight.
        let (far, above) = (history.ids[MESSAGES - 1], rows[0].as_str().context("no rows")?.parse()?);
        history.edit(&world.client, far, "changed far below").await?;
        history.edit(&world.client, above, &format!("changed above {}", "and longer ".repeat(60))).await?;
        pia.until("the edit is shown", &shown("changed above", 1)).await?;
        row.has_not_moved(&pia).await?;
        ensure!(pia.evaluate(&shown("changed far below", 0)).await? == true, "an edited message is shown as a new one");
        pia.screenshot(&screenshot_path("history-middle")?).await?;

        pia.click("#newest").await?;
        pia.until("the newest is shown", &shown("said far below", 1)).await?;
        pia.until("in sight", &is_at_end()).await?;
        pia.until("with the edit", &shown("changed far below", 1)).await?;
        ensure!(pia.evaluate(&format!("{BUTTON}.hidden")).await? == true, "nothing to jump to");

        // An own message leads to the end, too.
        walk(&pia, -1, STEPS_MAX).await?;
        ensure!(pia.evaluate("document.querySelector('#later').hidden").await? == false, "the end is still loaded");
        pia.write("#draft", &line("my own words")).await?;
        pia.until("it is sent and shown", &format!("{ALL_SENT} && {}", shown("my own words", 1))).await?;
        pia.until("in sight", &is_at_end()).await
    })
    .await
}

async fn a_connection_that_is_not_resumed_keeps_the_row_that_is_being_read(world: World) -> Result<()> {
    let history = History::insert(&world, "returner").await?;
    let author = world.client.person("meanwhile").await?;
    let url = world.stack.url();
    Driver::run(async |driver| {
        let connection = Connection::to(&url).await?;
        let rosa = register(driver, &connection.url(), "Rosa").await?;
        rosa.until("the newest page is shown", &shown(&format!("history {MESSAGES}"), 1)).await?;
        // Without its cursor, the server cannot resume.
        rosa.run(
            "const { send } = WebSocket.prototype;
            WebSocket.prototype.send = function (data) {
                const frame = JSON.parse(data);
                delete frame.cursor;
                return send.call(this, JSON.stringify(frame));
            };",
        )
        .await?;
        walk(&rosa, -1, 20).await?;
        let row = Row::in_sight(&rosa).await?;
        connection.cut();
        rosa.until("the loss is shown", "!document.querySelector('#trouble').hidden").await?;
        world.client.message(&author, "missed by Rosa").await?;
        history.edit(&world.client, row.id, "changed meanwhile").await?;
        connection.restore();
        rosa.until("the connection is back", ONLINE).await?;
        rosa.until("the edit is loaded", &shown("changed meanwhile", 1)).await?;
        rosa.until("the banner is gone", "document.querySelector('#trouble').hidden").await?;
        row.has_not_moved(&rosa).await?;
        let walked = walk_until(&rosa, 1, &is_at_end()).await?;
        ensure!(walked.jumps.is_empty(), "rows have moved: {:?}", walked.jumps);
        rosa.until("what was missed is shown", &shown("missed by Rosa", 1)).await
    })
    .await
}

/// Messages that were inserted for a test.
struct History {
    author: Person,
    ids: Vec<i64>,
}

impl History {
    /// Inserts `MESSAGES` messages of a new user into the owner's database.
    async fn insert(world: &World, nickname: &str) -> Result<Self> {
        let author = world.client.person(nickname).await?;
        let owner = if world.stack.stage == Stage::Monolith { "monolith" } else { "messages" };
        let environment: Value = serde_json::from_str(&world.stack.mf_ok(&["env", owner, "--secrets", "--json"])?)?;
        let url = environment["DATABASE_URL"].as_str().context("no DATABASE_URL")?;
        let mut database = PgConnection::connect(url).await?;
        let inserted = sqlx::query_scalar(
            "insert into messages (user_id, channel_id, source, html)
             select $1, (select id from channels where name = 'general'), source, '<p>' || source || '</p>'
             from (
                 select 'history ' || number || repeat(' words', number * 37 % 60) as source
                 from generate_series(1, $2) as number
             ) as texts
             returning id",
        );
        let inserted = inserted.bind(author.id).bind(i32::try_from(MESSAGES)?);
        let ids = inserted.fetch_all(&mut database).await.context("cannot insert messages")?;
        Ok(Self { author, ids })
    }

    async fn edit(&self, client: &Client, id: i64, source: &str) -> Result<()> {
        let (path, body) = (format!("/api/messages/{id}"), json!({ "source": source }));
        client.put(&path, Auth::Token(&self.author.token), &body, StatusCode::NO_CONTENT).await.map(drop)
    }
}

/// The place of a row in a window.
struct Row {
    id: i64,
    top_px: f64,
}

impl Row {
    /// Returns the row in the middle of the list.
    async fn in_sight(window: &Window) -> Result<Self> {
        let row = window
            .evaluate(
                "(() => {
                    const { top, bottom } = document.querySelector('#scroller').getBoundingClientRect();
                    const textTop = (row) => row.querySelector('.message-text').getBoundingClientRect().top;
                    const row = [...document.querySelectorAll('#messages > [data-message-id]')]
                        .find((row) => textTop(row) > (top + bottom) / 2);
                    return [Number(row.dataset.messageId), textTop(row)];
                })()",
            )
            .await?;
        let id = row[0].as_i64().context("no row is in sight")?;
        Ok(Self { id, top_px: row[1].as_f64().context("no place")? })
    }

    async fn has_not_moved(&self, window: &Window) -> Result<()> {
        let text = format!("document.querySelector('[data-message-id=\"{}\"] .message-text')", self.id);
        let top = window.evaluate(&format!("{text}.getBoundingClientRect().top")).await?;
        let moved = top.as_f64().context("the row is gone")? - self.top_px;
        ensure!(moved.abs() < MOVED_PX_MAX, "the row that was read has moved by {moved} px");
        Ok(())
    }
}

/// What was observed while a list was scrolled.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Walked {
    seen: BTreeSet<i64>,
    /// The id of a row, and the distance in px; null if the row is gone.
    jumps: Vec<(String, Option<i64>)>,
    rows_max: usize,
    unordered: usize,
}

/// Walks with these arguments of `WALK`.
async fn walk(window: &Window, direction: i32, steps: usize) -> Result<Walked> {
    window.run(&format!("{WALK}; window.walked = null; window.walk({direction}, {steps})")).await?;
    window.until("the list has been scrolled", "window.walked !== null").await?;
    Ok(serde_json::from_value(window.evaluate("window.walked").await?)?)
}

/// Walks until a condition holds.
async fn walk_until(window: &Window, direction: i32, condition: &str) -> Result<Walked> {
    let mut all = Walked::default();
    for _ in 0..WALKS_MAX {
        let Walked { seen, jumps, rows_max, unordered } = walk(window, direction, STEPS_MAX).await?;
        all.seen.extend(seen);
        all.jumps.extend(jumps);
        all.rows_max = all.rows_max.max(rows_max);
        all.unordered += unordered;
        if window.evaluate(condition).await? == true {
            return Ok(all);
        }
    }
    bail!("the list has no end in this direction")
}

/// Fails unless all these messages were in sight, in order, in few rows, and no row has jumped.
fn check_walk(walked: &Walked, ids: &[i64], rows_max: usize) -> Result<()> {
    ensure!(walked.jumps.is_empty(), "rows have moved: {:?}", walked.jumps);
    ensure!(walked.unordered == 0, "messages are repeated or out of order");
    ensure!(walked.rows_max <= rows_max, "{} rows", walked.rows_max);
    let missing: Vec<_> = ids.iter().filter(|id| !walked.seen.contains(id)).collect();
    ensure!(missing.is_empty(), "never in sight: {missing:?}");
    Ok(())
}

/// An expression: whether the end of the list is loaded and in sight.
fn is_at_end() -> String {
    let scroller = "document.querySelector('#scroller')";
    let below = format!("{scroller}.scrollHeight - {scroller}.scrollTop - {scroller}.clientHeight");
    format!("document.querySelector('#later').hidden && {below} < 1")
}
