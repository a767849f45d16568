//! The beginning of a connection: `hello`, `welcome`, and the backfill of a resumed client.

use tokio::time::timeout;
use tracing::warn;

use super::{
    context::SocketContext,
    incoming::{Request, next_text, request_of},
    outgoing::{CloseReason, Outgoing},
    permits::ConnectionPermit,
    session::Session,
    stream::Socket,
};
use crate::{
    audience::Recipient,
    cursor::Cursor,
    resume::{Backfill, Start},
    ring::NotResumable,
};

/// Waits for `hello`, answers it, sends the backfill, and returns the session.
pub async fn begin_session<'a>(
    context: &'a SocketContext,
    permit: &'a mut ConnectionPermit,
    socket: &'a mut Socket,
) -> Result<Session<'a>, CloseReason> {
    let stopping = context.background.stopping();
    let receiving = timeout(context.limits.hello_timeout, next_text(socket));
    let received = stopping.run_until_cancelled(receiving).await.ok_or(CloseReason::Draining)?;
    let text = received.map_err(|_| CloseReason::NoHello)??;
    let Ok(Request::Hello { token, cursor, recipient }) = request_of(&text, &Recipient::Version1) else {
        return Err(CloseReason::BadHello);
    };
    if !context.feed.wait_until_ready(context.limits.ready_timeout).await {
        return Err(CloseReason::NotReady);
    }
    // Subscribed before the position is chosen, so that no later entry is missed.
    let head = context.feed.subscribe();
    let cursor = cursor.and_then(|cursor| Cursor::parse(&cursor));
    let start = stopping.run_until_cancelled(context.resume.start(cursor)).await;
    let Start { position, is_resumed, backfill } = start.ok_or(CloseReason::Draining)?;
    let mut session = Session::new(context, permit, Outgoing::new(socket, &context.limits, head, position));
    session.welcome(token, recipient, is_resumed).await?;
    if let Some(backfill) = backfill {
        send_backfill(context, &mut session.outgoing, *backfill).await?;
    }
    Ok(session)
}

/// Sends the backfill, and moves the client's read position to the events after it in the ring buffer.
async fn send_backfill(
    context: &SocketContext,
    outgoing: &mut Outgoing<'_>,
    mut backfill: Backfill,
) -> Result<(), CloseReason> {
    loop {
        while let Some(frames) = backfill.next(&outgoing.recipient).await.map_err(|error| {
            warn!(%error, "the inbox became unavailable during a backfill; the client has to reconnect");
            CloseReason::BackfillFailed
        })? {
            if context.background.stopping().is_cancelled() {
                return Err(CloseReason::Draining);
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
            // Meanwhile the ring buffer has dropped events after the backfill: a second backfill follows.
            Err(NotResumable::TooOld) => {
                backfill = context.resume.prepare_backfill(&cursor).await.ok_or(CloseReason::BackfillFailed)?;
            }
        }
    }
}
