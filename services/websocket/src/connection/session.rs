//! A session: one client's connection after `hello`, until it ends.

use std::{collections::VecDeque, convert::Infallible, future::pending, pin::Pin, time::Duration};

use axum::body::Bytes;
use chrono::Utc;
use flack_api::{Context, GENERAL_CHANNEL_ID, Problem, TokenCaller, frames::ServerFrame, frames_v2};
use flack_common::telemetry;
use futures::StreamExt as _;
use secrecy::SecretString;
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::{Instant, sleep_until},
};
use tokio_tungstenite::tungstenite::Message;
use tracing::{info, warn};
use uuid::Uuid;

use super::{
    actions::{self, Action, Channel, Outcome},
    context::SocketContext,
    incoming::{Request, id_in, request_of, text_of},
    outgoing::{CloseReason, Outgoing},
    permits::{ConnectionPermit, UserConnectionPermit},
};
use crate::{
    audience::{Audience, Recipient},
    limits::{ACTIONS_WAITING_MAX, ENTRIES_SKIPPED_MAX, Limits},
    typing::Typing,
};

type RunningAction<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// The state of a session.
pub struct Session<'a> {
    context: &'a SocketContext,
    permit: &'a mut ConnectionPermit,
    pub outgoing: Outgoing<'a>,
    typing: broadcast::Receiver<Typing>,
    /// `None`: the connection is anonymous.
    user: Option<SignedInUser>,
    /// Actions that wait for the running one.
    waiting: VecDeque<Action>,
    /// When the last typing signal was published.
    last_typed: Option<Instant>,
    last_received: Instant,
    last_ping: Instant,
}

/// The user of a session with a valid token.
struct SignedInUser {
    caller: TokenCaller,
    permit: UserConnectionPermit,
    /// When the token is checked next, unless a revocation is reported before.
    check_at: Instant,
}

impl<'a> Session<'a> {
    pub fn new(context: &'a SocketContext, permit: &'a mut ConnectionPermit, outgoing: Outgoing<'a>) -> Self {
        Self {
            context,
            permit,
            outgoing,
            typing: context.typing.subscribe(),
            user: None,
            waiting: VecDeque::new(),
            last_typed: None,
            last_received: Instant::now(),
            last_ping: Instant::now(),
        }
    }

    /// Serves the client until the session ends.
    pub async fn run(&mut self) -> CloseReason {
        let Err(reason) = self.run_until_error().await;
        reason
    }

    async fn run_until_error(&mut self) -> Result<Infallible, CloseReason> {
        let context = self.context;
        let draining = context.draining.batch();
        let mut running: Option<RunningAction<'_>> = None;
        self.outgoing.deliver(&context.feed).await?;
        loop {
            if running.is_none()
                && let Some(action) = self.waiting.pop_front()
            {
                let token = self.user.as_ref().map(|user| user.caller.token.clone());
                running = Some(Box::pin(actions::perform(action, token, self.permit.address, &context.peers)));
            }
            let next_timer = self.next_timer();
            tokio::select! {
                // The first branch that is ready runs. Frames from the client are before its events, which they delay
                // only briefly, because they are rate limited.
                biased;
                () = draining.cancelled() => return Err(CloseReason::Draining),
                outcome = completed(&mut running) => {
                    running = None;
                    self.complete(outcome).await?;
                }
                // Nothing is read while too many actions wait: TCP then slows the client down.
                received = self.outgoing.socket.next(), if self.waiting.len() < ACTIONS_WAITING_MAX => {
                    self.last_received = Instant::now();
                    if let Some(text) = text_of(received)? {
                        self.receive(&text).await?;
                    }
                }
                changed = self.outgoing.progress.head.changed() => {
                    changed.map_err(|_| CloseReason::Draining)?;
                    self.outgoing.deliver(&context.feed).await?;
                }
                typing = self.typing.recv() => self.send_typing(typing).await?,
                () = token_check_requested(self.user.as_ref()) => self.check_token().await?,
                () = sleep_until(next_timer) => self.handle_timers().await?,
            }
        }
    }

    /// Answers `hello`: signs the user of the token in, or signs the present user out if there is no token, and sends
    /// `welcome`. The read position does not change. `recipient` has no user, and the version of the frame.
    pub async fn welcome(
        &mut self,
        token: Option<SecretString>,
        recipient: Recipient,
        is_resumed: bool,
    ) -> Result<(), CloseReason> {
        self.user = None;
        self.outgoing.recipient = recipient;
        let refused = match token {
            Some(token) => self.sign_in(&token).await?,
            None => None,
        };
        if self.user.is_some() {
            self.permit.set_signed_in();
        } else if !self.permit.set_anonymous(&self.context.limits) {
            if refused.is_some_and(|problem| problem.status == 401) {
                self.send(&ServerFrame::ExpiredToken).await?;
            }
            return Err(CloseReason::TooManyAnonymousConnections);
        }
        let user_id = self.user.as_ref().map(|user| user.caller.user_id);
        info!(user.id = user_id, is_resumed, "a client was welcomed");
        let cursor = self.outgoing.progress.position.cursor.to_string();
        let resumed = is_resumed;
        if let Recipient::Version1 = self.outgoing.recipient {
            self.send(&ServerFrame::Welcome { cursor, resumed, user_id }).await?;
        } else {
            let instance = Some(telemetry::process_name());
            let frame = frames_v2::ServerFrame::Welcome { cursor, resumed, user_id, instance };
            self.outgoing.send_frame(&frame).await?;
        }
        match refused {
            None => Ok(()),
            Some(problem) if problem.status == 401 => self.send(&ServerFrame::ExpiredToken).await,
            Some(problem) => self.send_problem(&problem, None).await,
        }
    }

    /// Signs the user of a token in, in version 2 with the user's channels. Returns the problem if the token is
    /// refused.
    async fn sign_in(&mut self, token: &SecretString) -> Result<Option<Problem>, CloseReason> {
        let context = self.context;
        let limits = &context.limits;
        let caller = match context.peers.verify.verify_token(token).await {
            Ok(caller) => caller,
            Err(problem) => return Ok(Some(problem)),
        };
        let (permits, max) = (&context.permits, limits.connections_per_user_max);
        let permit =
            permits.acquire_for_user(caller.user_id, caller.token_id, max).ok_or(CloseReason::TooManyConnections)?;
        // The token may have been revoked after its verification, before this permit could receive the revocation.
        permit.request_token_check();
        if let Recipient::Anonymous = self.outgoing.recipient {
            let request = Context { client_address: self.permit.address, ..Context::background() };
            let reading = context.channels.read(&request, caller.clone(), limits.channels_timeout);
            let stopping = context.background.stopping();
            match stopping.run_until_cancelled(reading).await.ok_or(CloseReason::Draining)? {
                Ok(channels) => self.outgoing.recipient = Recipient::User(channels),
                Err(problem) if problem.status == 401 => return Ok(Some(problem)),
                Err(problem) => {
                    warn!(%problem, "the channels of a user cannot be read; the client has to reconnect");
                    return Err(CloseReason::ChannelsUnavailable);
                }
            }
        }
        self.user = Some(SignedInUser { check_at: next_check(&caller, limits), caller, permit });
        Ok(None)
    }

    async fn receive(&mut self, text: &str) -> Result<(), CloseReason> {
        match request_of(text, &self.outgoing.recipient) {
            Ok(Request::Hello { token, recipient, .. }) => self.welcome(token, recipient, true).await?,
            Ok(Request::Action(action)) => self.waiting.push_back(action),
            Ok(Request::Typing { channel, thread_id }) => self.publish_typing(&channel, thread_id).await?,
            Err(problem) => self.send_problem(&problem, id_in(text)).await?,
        }
        Ok(())
    }

    async fn publish_typing(&mut self, channel: &Channel, thread_id: Option<i64>) -> Result<(), CloseReason> {
        let channel_id = match self.typing_channel(channel) {
            Ok(channel_id) => channel_id,
            Err(problem) => return self.send_problem(&problem, None).await,
        };
        let Some(user) = &self.user else { return self.send_problem(&actions::no_token(), None).await };
        if self.last_typed.is_none_or(|typed| typed.elapsed() >= self.context.limits.typing_interval) {
            self.last_typed = Some(Instant::now());
            self.context.typing.publish(channel_id, thread_id, user.caller.user_id).await;
        }
        Ok(())
    }

    /// Returns the id of a channel in which the user may type.
    fn typing_channel(&self, channel: &Channel) -> Result<i64, Problem> {
        match channel {
            Channel::Name(name) => actions::check_channel(name).map(|()| GENERAL_CHANNEL_ID),
            Channel::Id(id) if self.outgoing.recipient.is_in(Audience::Members(*id)) => Ok(*id),
            Channel::Id(_) if self.user.is_none() => Err(actions::no_token()),
            Channel::Id(_) => Err(Problem::not_found("there is no such channel, or you are no member of it")),
        }
    }

    async fn send_typing(&mut self, typing: Result<Typing, RecvError>) -> Result<(), CloseReason> {
        match typing {
            // Users do not receive their own signals.
            Ok(typing) if self.user.as_ref().is_some_and(|user| user.caller.user_id == typing.user_id) => Ok(()),
            Ok(typing) => {
                let frame = typing.frames.iter().find(|(audience, _)| self.outgoing.recipient.is_in(*audience));
                match frame {
                    Some((_, text)) => self.outgoing.send(Message::Text(text.clone())).await,
                    None => Ok(()),
                }
            }
            Err(RecvError::Lagged(_)) => Ok(()),
            Err(RecvError::Closed) => Err(CloseReason::Draining),
        }
    }

    async fn complete(&mut self, outcome: Outcome) -> Result<(), CloseReason> {
        if let Some(reply) = &outcome.reply {
            self.send(reply).await?;
        }
        if outcome.is_token_refused { self.expire_token().await } else { Ok(()) }
    }

    /// Signs the user out. The connection continues as an anonymous one.
    async fn expire_token(&mut self) -> Result<(), CloseReason> {
        let Some(user) = self.user.take() else { return Ok(()) };
        self.outgoing.recipient.sign_out();
        info!(user.id = user.caller.user_id, "the token of a connection has expired or was revoked");
        self.send(&ServerFrame::ExpiredToken).await?;
        if self.permit.set_anonymous(&self.context.limits) {
            Ok(())
        } else {
            Err(CloseReason::TooManyAnonymousConnections)
        }
    }

    async fn check_token(&mut self) -> Result<(), CloseReason> {
        let Some(user) = &mut self.user else { return Ok(()) };
        user.check_at = next_check(&user.caller, &self.context.limits);
        match self.context.peers.verify.verify_token(&user.caller.token).await {
            Err(problem) if problem.status == 401 => self.expire_token().await,
            // The token is valid, or it cannot be verified now; then the next check decides.
            _ => Ok(()),
        }
    }

    fn next_timer(&self) -> Instant {
        let limits = &self.context.limits;
        let ping = self.last_ping + limits.heartbeat_interval;
        let silence = self.last_received + limits.silence_max;
        let check = self.user.as_ref().map(|user| user.check_at);
        check.into_iter().fold(ping.min(silence), Instant::min)
    }

    async fn handle_timers(&mut self) -> Result<(), CloseReason> {
        let limits = &self.context.limits;
        if self.last_received.elapsed() >= limits.silence_max {
            return Err(CloseReason::ClientGone);
        }
        if self.last_ping.elapsed() >= limits.heartbeat_interval {
            self.last_ping = Instant::now();
            self.outgoing.socket.get_mut().expect_pong();
            self.outgoing.send(Message::Ping(Bytes::new())).await?;
            self.send_cursor().await?;
        }
        if self.user.as_ref().is_some_and(|user| user.check_at <= Instant::now()) {
            self.check_token().await?;
        }
        Ok(())
    }

    /// Sends the cursor to a client that has received no frame for many entries: its own would become too old to
    /// resume.
    async fn send_cursor(&mut self) -> Result<(), CloseReason> {
        let position = &mut self.outgoing.progress.position;
        if position.skipped < ENTRIES_SKIPPED_MAX {
            return Ok(());
        }
        position.skipped = 0;
        let cursor = position.cursor.to_string();
        self.send(&ServerFrame::Cursor { cursor }).await
    }

    async fn send(&mut self, frame: &ServerFrame) -> Result<(), CloseReason> {
        self.outgoing.send_frame(frame).await
    }

    async fn send_problem(&mut self, problem: &Problem, id: Option<Uuid>) -> Result<(), CloseReason> {
        self.send(&actions::problem_frame(problem, id)).await
    }
}

/// Returns when the token is checked next: after `token_check_interval`, or when it has expired, if that is earlier.
fn next_check(caller: &TokenCaller, limits: &Limits) -> Instant {
    // The token is valid until the end of its last second.
    let seconds_left = caller.expires_at.saturating_sub(Utc::now().timestamp()).saturating_add(1);
    let left = Duration::from_secs(seconds_left.try_into().unwrap_or(1));
    Instant::now() + left.min(limits.token_check_interval)
}

/// Waits for a request to check the user's token; without a user, for ever.
async fn token_check_requested(user: Option<&SignedInUser>) {
    match user {
        Some(user) => user.permit.token_check_requested().await,
        None => pending().await,
    }
}

/// Waits for the running action; without one, for ever.
async fn completed(running: &mut Option<RunningAction<'_>>) -> Outcome {
    match running {
        Some(action) => action.as_mut().await,
        None => pending().await,
    }
}
