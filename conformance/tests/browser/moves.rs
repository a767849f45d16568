//! A conversation goes on while all parts move from the monolith to their services, and while these are upgraded.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, ensure};
use flack_conformance::{
    cases,
    client::unique,
    stack::{Operator, text},
    suite::{Case, World},
};

use crate::{
    ONLINE, TOKEN,
    axe::check_with_axe,
    conversation::meet,
    driver::Driver,
    register, shown,
    tabs::{post_one, sources},
    window::{Window, screenshot_path},
};

/// The browsers and the stack share a machine, on which the lag is longer than the usual limit.
const MOVE: [&str; 7] = ["migrate", "all", "--to", "services", "--no-shadow", "--max-lag", "1500"];
/// Two people make few requests.
const UPGRADE: [&str; 6] = ["--to", "next", "--min-requests", "10", "--min-healthy", "1s"];
/// Rows that are compared at the end: older ones may have left the list.
const ROWS_COMPARED: usize = 50;
const DRAWER: &str = "document.querySelector('.scenes:not([hidden])')?.innerText ?? ''";

pub fn cases() -> Vec<Case> {
    cases![two_users_chat_while_all_parts_move_and_are_upgraded]
}

async fn two_users_chat_while_all_parts_move_and_are_upgraded(world: World) -> Result<()> {
    let (url, name, operator) = (world.stack.url(), unique("moves"), world.stack.operator());
    operator.mf_ok(&["build", "--version", "next", "--no-build"])?;
    Driver::run(async |driver| {
        let [runa, silas] = [register(driver, &url, "Runa").await?, register(driver, &url, "Silas").await?];
        meet(&runa, &silas, "Silas", &name).await?;

        operate(&operator, &["migrate", "messages", "follow"]).await?;
        runa.click("#scenes-open").await?;
        let following = format!("({DRAWER}).includes('messages: monolith, moves: the service copies the data')");
        runa.until("the drawer shows the move", &following).await?;
        check_with_axe(&runa, "the drawer during a move").await?;
        runa.screenshot(&screenshot_path("scenes-moving")?).await?;

        let mut written = Vec::new();
        chat_during(&runa, &silas, &mut written, operate(&operator, &MOVE)).await?;
        runa.until("the drawer shows the new owner", &format!("({DRAWER}).includes('messages: messages')")).await?;
        for service in ["messages", "websocket"] {
            let roll = [&["upgrade", "roll", service][..], &UPGRADE].concat();
            chat_during(&runa, &silas, &mut written, operate(&operator, &roll)).await?;
        }
        runa.until("the new version answers", &format!("({DRAWER}).includes('service, version next')")).await?;
        for window in [&runa, &silas] {
            window
                .until("the last messages are shown in their order", &format!("{ONLINE} && {}", last_shown(&written)?))
                .await?;
        }

        let token = runa.evaluate(TOKEN).await?;
        let stored = sources(&world.client, &name, token.as_str().context("a token")?).await?;
        ensure!(stored == written, "written: {written:?}\nstored: {stored:?}");
        Ok(())
    })
    .await
}

async fn operate(operator: &Operator, command: &[&str]) -> Result<()> {
    let output = operator.in_background(command).await?;
    ensure!(output.status.success(), "mf {}: {}", command.join(" "), text(&output));
    Ok(())
}

/// Each user answers when the message of the other one is shown, until the operation has ended.
async fn chat_during(
    runa: &Window,
    silas: &Window,
    written: &mut Vec<String>,
    operation: impl Future<Output = Result<()>>,
) -> Result<()> {
    let has_ended = AtomicBool::new(false);
    let operation = async {
        let result = operation.await;
        has_ended.store(true, Ordering::Relaxed);
        result
    };
    let chat = async {
        while !has_ended.load(Ordering::Relaxed) {
            for (writer, reader) in [(runa, silas), (silas, runa)] {
                let message = format!("message {}.", written.len());
                writer.evaluate(&post_one(&message)).await?;
                reader.until("the other one reads it", &shown(&message, 1)).await?;
                written.push(message);
            }
        }
        anyhow::Ok(())
    };
    tokio::try_join!(operation, chat)?;
    Ok(())
}

/// An expression: whether the last rows are these messages, each once and in their order.
fn last_shown(written: &[String]) -> Result<String> {
    let last = serde_json::to_string(&written[written.len().saturating_sub(ROWS_COMPARED)..])?;
    let shown =
        "[...document.querySelectorAll('#messages .message-text')].map(({ textContent }) => textContent.trim())";
    Ok(format!("JSON.stringify({shown}.slice(-{ROWS_COMPARED})) === {last:?}"))
}
