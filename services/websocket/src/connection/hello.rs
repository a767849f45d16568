//! The beginning of a connection: `hello`, `welcome`, and the backfill of a resumed client.

use axum::extract::ws::WebSocket;
use flack_api::frames::ClientFrame;
use tokio::time::timeout;
use tracing::warn;

use super::{
    context::SocketContext,
    incoming::next_text,
    outgoing::{CloseReason, Outgoing},
    session::Session,
};
use crate::{
    cursor::Cursor,
    resume::{Backfill, Start},
    ring::NotResumable,
};

/// Waits for `hello`, answers it, sends the backfill, and returns the session.
pub async fn greet<'a>(context: &'a SocketContext, socket: &'a mut WebSocket) -> Result<Session<'a>, CloseReason> {
    let stopping = context.background.stopping();
    let received = timeout(context.limits.hello_timeout, next_text(socket));
    let text = stopping
        .run_until_cancelled(received)
        .await
        .ok_or(CloseReason::Restart)?
        .map_err(|_| CloseReason::NoHello)??;
    let Ok(ClientFrame::Hello { token, cursor }) = serde_json::from_str(&text) else {
        return Err(CloseReason::BadHello);
    };
    if !context.feed.is_ready(context.limits.ready_timeout).await {
        return Err(CloseReason::NotReady);
    }
    // Subscribed before the position is chosen, so that no later entry is missed.
    let head = context.feed.subscribe();
    let cursor = cursor.and_then(|cursor| Cursor::parse(&cursor));
    let start = stopping.run_until_cancelled(context.resume.start(cursor)).await;
    let Start { position, is_resumed, backfill } = start.ok_or(CloseReason::Restart)?;
    let mut session = Session::new(context, Outgoing::new(socket, &context.limits, head, position));
    session.welcome(token, is_resumed).await?;
    if let Some(backfill) = backfill {
        send_backfill(context, &mut session.outgoing, *backfill).await?;
    }
    Ok(session)
}

/// Sends everything that the inbox has for this client, and moves its read position to where the ring buffer continues.
async fn send_backfill(
    context: &SocketContext,
    outgoing: &mut Outgoing<'_>,
    mut backfill: Backfill,
) -> Result<(), CloseReason> {
    loop {
        while let Some(frames) = backfill.next().await.map_err(|error| {
            warn!(%error, "the inbox became unavailable during a backfill; the client has to reconnect");
            CloseReason::BackfillFailed
        })? {
            if context.background.stopping().is_cancelled() {
                return Err(CloseReason::Restart);
            }
            outgoing.send_events(frames).await?;
        }
        let cursor = backfill.cursor().clone();
        match context.resume.resume_from_ring(cursor.clone()).await {
            Ok(position) => {
                outgoing.progress.position = position;
                return Ok(());
            }
            Err(NotResumable::OtherIncarnation) => return Err(CloseReason::BackfillFailed),
            // The ring buffer has dropped events that the backfill did not contain.
            Err(NotResumable::TooOld) => {
                backfill = context.resume.prepare_backfill(&cursor).await.ok_or(CloseReason::BackfillFailed)?;
            }
        }
    }
}
