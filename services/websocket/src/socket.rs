//! One connection, from hello to its end.

use std::{collections::VecDeque, future::Future, pin::Pin, sync::Arc, time::Duration};

use axum::extract::ws::{Message, WebSocket};
use chrono::Utc;
use flack_api::{
    Problem, TokenCaller,
    frames::{ClientFrame, ServerFrame, Token},
};
use metrics::counter;
use secrecy::SecretString;
use tokio::{
    sync::{broadcast, watch},
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, info, warn};
use uuid::Uuid;

use crate::{
    actions::{self, Action, Outcome},
    connections::UserPlace,
    cursor::Cursor,
    door::House,
    hub::{Joined, Typing},
    inbox::Recollection,
    limits::{ACTIONS_WAITING_MAX, Limits},
    outlet::{self, End, Patience},
    ring::{Refused, Stand},
};

/// Serves a client until one of us ends it.
pub async fn serve(house: Arc<House>, mut socket: WebSocket) {
    let _held = house.hub.hold();
    let started = Instant::now();
    let end = match greet(&house, &mut socket).await {
        Ok(mut connection) => connection.serve(&mut socket).await,
        Err(end) => end,
    };
    outlet::close(&mut socket, &end, &house.limits).await;
    counter!("websocket_closed_total", "reason" => end.word()).increment(1);
    debug!(reason = %end.word(), seconds = started.elapsed().as_secs(), "a websocket ended");
}

/// Waits for the first frame, which must be `hello`.
async fn greet(house: &Arc<House>, socket: &mut WebSocket) -> Result<Connection, End> {
    let stopping = house.hub.stopping();
    let waited = stopping.run_until_cancelled(timeout(house.limits.hello_wait, next_text(socket))).await;
    let text = match waited {
        None => return Err(RESTART),
        Some(Err(_)) => return Err(End::Policy("no hello in time")),
        Some(Ok(text)) => text?,
    };
    let Ok(ClientFrame::Hello { token, cursor }) = serde_json::from_str(&text) else {
        return Err(End::Policy("the first frame must be a good hello"));
    };
    if !house.hub.is_ready(house.limits.ready_wait).await {
        return Err(End::NotReady);
    }
    let head = house.hub.head();
    let cursor = cursor.and_then(|cursor| Cursor::parse(&cursor));
    let joined = stopping.run_until_cancelled(house.hub.join(cursor)).await.ok_or(RESTART)?;
    let (stand, resumed, recollection) = match joined {
        Joined::Anew(stand) => (stand, false, None),
        Joined::Resumed(stand) => (stand, true, None),
        Joined::Recalling(stand, recollection) => (stand, true, Some(recollection)),
    };
    let mut connection = Connection {
        house: Arc::clone(house),
        head,
        typing: house.hub.typing(),
        stand,
        is_catching_up: true,
        user: None,
        waiting: VecDeque::new(),
        frames: Bucket::full(&house.limits),
        typed: None,
        heard: Instant::now(),
        pinged: Instant::now(),
    };
    connection.hello(socket, token, resumed).await?;
    if let Some(recollection) = recollection {
        connection.recall(socket, *recollection).await?;
    }
    Ok(connection)
}

/// What is said at an end that is not the client's fault.
const RESTART: End = End::Restart("the server goes away; come back");

/// The client comes back with the cursor that it has got to.
const FORGOTTEN: End = End::Restart("what was missed cannot be read now; come back");

/// Whom a connection speaks for.
struct User {
    caller: TokenCaller,
    place: UserPlace,
    /// When its token is looked at again, if nothing happens before.
    check_at: Instant,
}

struct Connection {
    house: Arc<House>,
    head: watch::Receiver<u64>,
    typing: broadcast::Receiver<Typing>,
    stand: Stand,
    is_catching_up: bool,
    user: Option<User>,
    waiting: VecDeque<Action>,
    frames: Bucket,
    typed: Option<Instant>,
    heard: Instant,
    pinged: Instant,
}

impl Connection {
    async fn serve(&mut self, socket: &mut WebSocket) -> End {
        match self.serve_until_it_ends(socket).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn serve_until_it_ends(&mut self, socket: &mut WebSocket) -> Result<std::convert::Infallible, End> {
        let stopping = self.house.hub.stopping();
        let mut running: Option<Pin<Box<dyn Future<Output = Outcome> + Send>>> = None;
        self.deliver(socket).await?;
        loop {
            if running.is_none()
                && let Some(action) = self.waiting.pop_front()
            {
                let token = self.user.as_ref().map(|user| user.caller.token.clone());
                running = Some(Box::pin(actions::perform(action, token, self.house.seams.clone())));
            }
            let next_tick = self.next_tick();
            tokio::select! {
                // In the order of urgency. What a client sends is limited, so that it cannot keep its events waiting.
                biased;
                () = stopping.cancelled() => return Err(RESTART),
                outcome = ended(&mut running) => {
                    running = None;
                    self.answer(socket, outcome).await?;
                }
                // Not read while too much waits: the client's own sends will wait.
                received = socket.recv(), if self.waiting.len() < ACTIONS_WAITING_MAX => {
                    self.received(socket, received).await?;
                }
                changed = self.head.changed() => {
                    changed.map_err(|_| RESTART)?;
                    self.deliver(socket).await?;
                }
                typing = self.typing.recv() => self.tell_typing(socket, typing).await?,
                () = doubted(self.user.as_ref()) => self.check_token(socket).await?,
                () = sleep_until(next_tick) => self.tick(socket).await?,
            }
        }
    }

    /// Says who is here now. Also later, when a token has expired: the place in the stream stays.
    async fn hello(
        &mut self,
        socket: &mut WebSocket,
        token: Option<Token>,
        resumed: bool,
    ) -> Result<(), End> {
        self.user = None;
        let mut refused = None;
        if let Some(token) = token {
            let token = SecretString::from(String::from(token));
            match self.house.seams.verify.verify_token(&token).await {
                Ok(caller) => {
                    let max = self.house.limits.connections_per_user_max;
                    let place = self.house.connections.enter_as(caller.user_id, caller.token_id, max);
                    let place = place.ok_or(End::Policy("too many connections of this user"))?;
                    // Revoked after it was found good, and before we could be told.
                    place.doubt();
                    let check_at = next_check(&caller, &self.house.limits);
                    self.user = Some(User { caller, place, check_at });
                }
                Err(problem) => refused = Some(problem),
            }
        }
        let user_id = self.user.as_ref().map(|user| user.caller.user_id);
        info!(user.id = user_id, resumed, "hello");
        let cursor = self.stand.cursor.to_string();
        self.write(socket, &ServerFrame::Welcome { cursor, resumed, user_id }).await?;
        match refused {
            None => Ok(()),
            Some(problem) if problem.status == 401 => self.write(socket, &ServerFrame::ExpiredToken).await,
            Some(problem) => self.write_problem(socket, &problem, None).await,
        }
    }

    /// All events that the inbox has for this client. Then memory has the rest.
    async fn recall(&mut self, socket: &mut WebSocket, mut recollection: Recollection) -> Result<(), End> {
        loop {
            while let Some(frames) = recollection.next().await.map_err(|error| {
                warn!(%error, "the inbox does not answer any more; a client is sent to come back");
                FORGOTTEN
            })? {
                if self.house.hub.stopping().is_cancelled() {
                    return Err(RESTART);
                }
                outlet::write_events(socket, frames, self.patience()).await?;
            }
            let cursor = recollection.cursor().clone();
            match self.house.hub.resume(cursor.clone()).await {
                Ok(stand) => {
                    self.stand = stand;
                    return Ok(());
                }
                Err(Refused::Foreign) => return Err(FORGOTTEN),
                // So much has happened meanwhile.
                Err(Refused::TooOld) => {
                    recollection = self.house.hub.recall(&cursor).await.ok_or(FORGOTTEN)?;
                }
            }
        }
    }

    /// All events that there are for this client.
    async fn deliver(&mut self, socket: &mut WebSocket) -> Result<(), End> {
        loop {
            self.head.borrow_and_update();
            let frames = self.house.hub.read(&mut self.stand)?;
            if frames.is_empty() {
                self.is_catching_up = false;
                return Ok(());
            }
            outlet::write_events(socket, frames, self.patience()).await?;
        }
    }

    async fn received(
        &mut self,
        socket: &mut WebSocket,
        received: Option<Result<Message, axum::Error>>,
    ) -> Result<(), End> {
        self.heard = Instant::now();
        match text_of(received)? {
            None => Ok(()),
            Some(text) => {
                if !self.frames.take(&self.house.limits) {
                    return Err(End::Policy("too many frames"));
                }
                match serde_json::from_str::<ClientFrame>(&text) {
                    Ok(frame) => self.frame(socket, frame).await,
                    Err(problem) => {
                        let id = id_of(&text);
                        let problem = Problem::bad_request(format!("not a frame that we know: {problem}"));
                        self.write_problem(socket, &problem, id).await
                    }
                }
            }
        }
    }

    async fn frame(&mut self, socket: &mut WebSocket, frame: ClientFrame) -> Result<(), End> {
        match frame {
            ClientFrame::Hello { token, .. } => self.hello(socket, token, true).await,
            ClientFrame::PingUser => {
                self.waiting.push_back(Action::PingUser);
                Ok(())
            }
            ClientFrame::PostMessage { id, channel, source } => {
                self.waiting.push_back(Action::PostMessage { id, channel: channel.into(), source });
                Ok(())
            }
            ClientFrame::Typing { channel } => self.types(socket, &channel).await,
        }
    }

    async fn types(&mut self, socket: &mut WebSocket, channel: &str) -> Result<(), End> {
        if let Err(problem) = actions::check_channel(channel) {
            return self.write_problem(socket, &problem, None).await;
        }
        let Some(user) = &self.user else {
            let problem = Problem::unauthorized("this connection only listens; say hello with a token first");
            return self.write_problem(socket, &problem, None).await;
        };
        if self.typed.is_none_or(|typed| typed.elapsed() >= self.house.limits.typing_interval) {
            self.typed = Some(Instant::now());
            self.house.hub.tell_typing(channel, user.caller.user_id).await;
        }
        Ok(())
    }

    async fn tell_typing(
        &mut self,
        socket: &mut WebSocket,
        typing: Result<Typing, broadcast::error::RecvError>,
    ) -> Result<(), End> {
        match typing {
            // They know that they type.
            Ok(typing) if self.user.as_ref().is_some_and(|user| user.caller.user_id == typing.user_id) => {
                Ok(())
            }
            Ok(typing) => outlet::write(socket, Message::Text(typing.text), self.patience()).await,
            Err(broadcast::error::RecvError::Lagged(_)) => Ok(()),
            Err(broadcast::error::RecvError::Closed) => Err(RESTART),
        }
    }

    async fn answer(&mut self, socket: &mut WebSocket, outcome: Outcome) -> Result<(), End> {
        if let Some(frame) = &outcome.frame {
            self.write(socket, frame).await?;
        }
        if outcome.token_refused { self.expire(socket).await } else { Ok(()) }
    }

    /// The token is no longer good: the client is told, and may go on to listen.
    async fn expire(&mut self, socket: &mut WebSocket) -> Result<(), End> {
        match self.user.take() {
            Some(user) => {
                info!(user.id = user.caller.user_id, "the token of a connection is no longer good");
                self.write(socket, &ServerFrame::ExpiredToken).await
            }
            None => Ok(()),
        }
    }

    fn next_tick(&self) -> Instant {
        let limits = &self.house.limits;
        let (ping, silence) = (self.pinged + limits.heartbeat_interval, self.heard + limits.silence_max);
        let check = self.user.as_ref().map(|user| user.check_at);
        check.into_iter().fold(ping.min(silence), Instant::min)
    }

    async fn tick(&mut self, socket: &mut WebSocket) -> Result<(), End> {
        let limits = &self.house.limits;
        if self.heard.elapsed() >= limits.silence_max {
            return Err(End::Gone);
        }
        if self.pinged.elapsed() >= limits.heartbeat_interval {
            self.pinged = Instant::now();
            outlet::write(socket, Message::Ping(axum::body::Bytes::new()), self.patience()).await?;
        }
        if self.user.as_ref().is_some_and(|user| user.check_at <= Instant::now()) {
            self.check_token(socket).await?;
        }
        Ok(())
    }

    async fn check_token(&mut self, socket: &mut WebSocket) -> Result<(), End> {
        let Some(user) = &mut self.user else { return Ok(()) };
        user.check_at = next_check(&user.caller, &self.house.limits);
        match self.house.seams.verify.verify_token(&user.caller.token).await {
            Err(problem) if problem.status == 401 => self.expire(socket).await,
            // Good; or nobody knows at the moment, and the next check will tell.
            _ => Ok(()),
        }
    }

    async fn write(&self, socket: &mut WebSocket, frame: &ServerFrame) -> Result<(), End> {
        outlet::write_frame(socket, frame, self.patience()).await
    }

    async fn write_problem(
        &self,
        socket: &mut WebSocket,
        problem: &Problem,
        id: Option<Uuid>,
    ) -> Result<(), End> {
        self.write(socket, &actions::problem_frame(problem, id)).await
    }

    fn patience(&self) -> Patience<'_> {
        Patience {
            limits: &self.house.limits,
            head: &self.head,
            stand: &self.stand,
            is_catching_up: self.is_catching_up,
        }
    }
}

/// At the token's end, which nobody tells, and now and then.
fn next_check(caller: &TokenCaller, limits: &Limits) -> Instant {
    // A second later: it is good up to the end of its last one.
    let seconds_left = caller.expires_at.saturating_sub(Utc::now().timestamp()).saturating_add(1);
    let left = Duration::from_secs(seconds_left.try_into().unwrap_or(1));
    Instant::now() + left.min(limits.token_check_interval)
}

/// Ends when the user's token should be looked at again; never, if there is none.
async fn doubted(user: Option<&User>) {
    match user {
        Some(user) => user.place.doubted().await,
        None => std::future::pending().await,
    }
}

/// Ends with the action that is running; never, if none is.
async fn ended(running: &mut Option<Pin<Box<dyn Future<Output = Outcome> + Send>>>) -> Outcome {
    match running {
        Some(action) => action.as_mut().await,
        None => std::future::pending().await,
    }
}

async fn next_text(socket: &mut WebSocket) -> Result<String, End> {
    loop {
        let received = socket.recv().await;
        if let Some(text) = text_of(received)? {
            return Ok(text);
        }
    }
}

/// `None` for pings and pongs, which axum answers itself.
fn text_of(received: Option<Result<Message, axum::Error>>) -> Result<Option<String>, End> {
    match received {
        Some(Ok(Message::Text(text))) => Ok(Some(text.as_str().to_owned())),
        Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(None),
        Some(Ok(Message::Binary(_))) => Err(End::Unsupported("text frames only")),
        None | Some(Ok(Message::Close(_))) => Err(End::Gone),
        Some(Err(problem)) => Err(if is_too_big(problem) { End::TooBig } else { End::Gone }),
    }
}

fn is_too_big(problem: axum::Error) -> bool {
    // axum hides tungstenite's error; its text is all that is left of it.
    problem.into_inner().to_string().starts_with("Space limit exceeded")
}

/// So that also a bad `post_message` is answered by its id.
fn id_of(text: &str) -> Option<Uuid> {
    #[derive(serde::Deserialize)]
    struct WithId {
        id: Uuid,
    }
    serde_json::from_str::<WithId>(text).ok().map(|with_id| with_id.id)
}

/// Frames that a client may still send; fills with time.
struct Bucket {
    frames: f64,
    filled: Instant,
}

impl Bucket {
    fn full(limits: &Limits) -> Self {
        Self { frames: f64::from(limits.frames_burst_max), filled: Instant::now() }
    }

    fn take(&mut self, limits: &Limits) -> bool {
        let now = Instant::now();
        let gained = (now - self.filled).as_secs_f64() * f64::from(limits.frames_per_second_max);
        self.frames = (self.frames + gained).min(f64::from(limits.frames_burst_max));
        self.filled = now;
        if self.frames < 1.0 {
            return false;
        }
        self.frames -= 1.0;
        true
    }
}
