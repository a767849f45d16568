//! A subscription to a stream, in order and without gaps, from an offset that the subscriber stores.
//!
//! NATS publishes every stored message once more, with its sequence (`streams::live_subjects`). The subscription
//! receives these live messages, and requests by sequence those that it has not received: older ones, and those that
//! were lost because the subscriber was slow. It has no consumer in NATS: a service that may create a consumer could
//! have events delivered to any subject.
//!
//! A stream with replicas is read from its leader only: each replica would answer otherwise, also one that lacks the
//! newest messages, and a missing message would look like a deleted one.
//!
//! NATS does not store the offset: a subscriber that stores events stores the offset in the same transaction. So a
//! crash delivers nothing twice, and no late redelivery breaks the order.

use std::{collections::VecDeque, ops::ControlFlow, time::Duration};

use anyhow::{Context as _, anyhow};
use async_nats::{
    Client, StatusCode, Subscriber,
    header::{NATS_MESSAGE_ID, NATS_SEQUENCE, NATS_SUBJECT},
    jetstream::{
        ErrorCode,
        message::StreamMessage as RawStreamMessage,
        response::Response,
        stream::{Info, RawMessage},
    },
};
use futures::StreamExt as _;
use serde::Deserialize;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::{debug, error, info, warn};

use super::{
    connection::{Counter, MESSAGES_BUFFERED_MAX},
    jetstream::JetStream,
    stream::{REPEATED, Received, StartOffset, StreamMessage, stream_name},
    streams::{incarnation_of, is_missing, live_subjects},
};

/// How often an idle subscription compares its offset with the stream: NATS does not repeat a live message.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// Requests without an answer: enough to hide the round trip. All answers fit into the buffer.
const REQUESTS_MAX: usize = MESSAGES_BUFFERED_MAX / 2;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a new leader of a stream may lack messages that the leader before it has published.
const LEADER_BEHIND_MAX: Duration = Duration::from_secs(10);
/// The interval at which a subscription tries to open a stream.
const OPEN_INTERVAL: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub struct JetStreamSubscription {
    jetstream: JetStream,
    owner: String,
    /// The subjects of one kind of event: `flack.<owner>.<kind>.`.
    wanted_prefix: Option<String>,
    start: StartOffset,
    open: Option<Open>,
    changes: Counter,
    /// Whether the wait for the stream is logged already.
    is_waiting: bool,
    is_missing_reported: bool,
    /// Since when the leader of a stream with replicas lacks messages that were received.
    behind_since: Option<Instant>,
}

#[derive(Debug)]
struct Open {
    incarnation: String,
    has_replicas: bool,
    /// The sequence of the message that is received next.
    next: u64,
    live: Subscriber,
    /// A live message that was received before messages with lower sequences.
    held: Option<StreamMessage>,
    requests: Option<Requests>,
    dropped: Counter,
    check_at: Instant,
}

/// Requests of the messages from `Open::next` to `last`.
#[derive(Debug)]
struct Requests {
    last: u64,
    /// Whether the leader of the stream answers; otherwise the only server that has it.
    from_leader: bool,
    answers: Subscriber,
    inbox: String,
    /// The requested sequences whose answers have not arrived. NATS answers in order.
    sent: VecDeque<u64>,
    /// The number of requests at a time: one after a sequence that does not exist, then twice as many each time.
    window: usize,
    deadline: Instant,
}

/// What the requests have found.
enum Found {
    Message(StreamMessage),
    /// The stream has deleted the messages before `next` that were not received.
    Deleted {
        next: u64,
    },
    /// No wanted message up to the last requested one.
    Nothing,
}

impl JetStreamSubscription {
    pub(super) fn new(jetstream: JetStream, owner: &str, kind: Option<&str>, start: StartOffset) -> Self {
        let changes = jetstream.changes();
        Self {
            owner: owner.to_owned(),
            wanted_prefix: kind.map(|kind| format!("flack.{owner}.{kind}.")),
            jetstream,
            start,
            open: None,
            changes,
            is_waiting: false,
            is_missing_reported: false,
            behind_since: None,
        }
    }

    pub(super) async fn next(&mut self) -> Received {
        loop {
            if self.open.is_none() {
                match self.try_open().await {
                    Ok(ControlFlow::Break(opened)) => return opened,
                    Ok(ControlFlow::Continue(())) if !self.is_missing_reported => {
                        self.is_missing_reported = true;
                        return Received::StreamMissing;
                    }
                    Ok(ControlFlow::Continue(())) => self.wait("the stream does not exist yet").await,
                    Err(error) => self.wait(&format!("{error:#}")).await,
                }
                continue;
            }
            match self.try_next().await {
                Ok(received) => return received,
                Err(error) => {
                    debug!(owner = self.owner, error = format!("{error:#}"), "the stream is opened again");
                    if let Some(Open { incarnation, next, .. }) = self.open.take() {
                        self.start = StartOffset::After { incarnation, sequence: next - 1 };
                    }
                }
            }
        }
    }

    /// Cancel safe: no message is taken from a buffer before a wait.
    async fn try_next(&mut self) -> anyhow::Result<Received> {
        let open = self.open.as_mut().context("not open")?;
        loop {
            if let Some(requests) = &mut open.requests {
                let wanted_prefix = self.wanted_prefix.as_deref();
                let found = tokio::select! {
                    biased;
                    _ = self.changes.changed() => return Err(anyhow!("the connection has changed")),
                    found = requests.next(&self.jetstream, &self.owner, wanted_prefix, open.next) => found?,
                };
                let last = requests.last;
                if open.has_replicas && !matches!(found, Found::Message(_)) {
                    // Does the stream lack a message, or only a new leader?
                    let info = info(&self.jetstream, &self.owner).await?.context("the stream was deleted")?;
                    anyhow::ensure!(info.state.last_sequence >= last, "the leader of the stream lacks messages");
                }
                let received = match found {
                    Found::Message(message) => {
                        open.next = message.sequence + 1;
                        Some(Received::Message(message))
                    }
                    Found::Deleted { next } => {
                        let incarnation = open.incarnation.clone();
                        log_deleted(&self.owner, open.next, next - 1);
                        open.next = next;
                        Some(Received::Opened { incarnation, after: next - 1, last })
                    }
                    Found::Nothing => {
                        open.next = last + 1;
                        None
                    }
                };
                if open.next > last {
                    open.requests = None;
                }
                if let Some(received) = received {
                    return Ok(received);
                }
            } else if let Some(held) = open.held.take_if(|held| held.sequence <= open.next) {
                if held.sequence == open.next {
                    open.next += 1;
                    if self.wanted_prefix.as_ref().is_none_or(|prefix| held.subject.starts_with(prefix)) {
                        return Ok(Received::Message(held));
                    }
                }
            } else if let Some(held) = &open.held {
                open.requests = Some(Requests::new(&self.jetstream, held.sequence - 1, open.has_replicas).await?);
            } else {
                tokio::select! {
                    biased;
                    _ = self.changes.changed() => return Err(anyhow!("the connection has changed")),
                    live = open.live.next() => {
                        open.held = Some(stored(live.context("the client closed the subscription")?)?);
                    }
                    _ = open.dropped.changed() => open.check_at = Instant::now(),
                    () = sleep_until(open.check_at) => {
                        let info = info(&self.jetstream, &self.owner).await?.context("the stream was deleted")?;
                        open.compare(&info, &self.jetstream).await?;
                    }
                }
            }
        }
    }

    /// Opens the stream; returns `Continue` when it does not exist.
    async fn try_open(&mut self) -> anyhow::Result<ControlFlow<Received>> {
        self.changes.borrow_and_update();
        if !self.jetstream.is_connected() {
            return Err(anyhow!("NATS is unavailable"));
        }
        let dropped = self.jetstream.dropped();
        // First, so that each message is either in the stream's state or received live.
        let live = self.jetstream.client().subscribe(live_subjects(&self.owner)).await?;
        let Some(info) = info(&self.jetstream, &self.owner).await? else { return Ok(ControlFlow::Continue(())) };
        let incarnation = incarnation_of(&info);
        let has_replicas = info.config.num_replicas > 1;
        let (first, last) = (info.state.first_sequence.max(1), info.state.last_sequence);
        if has_replicas && self.is_behind(&incarnation, last) {
            return Err(anyhow!("the leader of the stream lacks messages that were received"));
        }
        let after = self.offset_after(&incarnation, first, last);
        let requests =
            if after < last { Some(Requests::new(&self.jetstream, last, has_replicas).await?) } else { None };
        if self.is_waiting {
            info!(owner = self.owner, "subscribed to the stream");
            self.is_waiting = false;
        }
        self.open = Some(Open {
            incarnation: incarnation.clone(),
            has_replicas,
            next: after + 1,
            live,
            held: None,
            requests,
            dropped,
            check_at: Instant::now() + CHECK_INTERVAL,
        });
        Ok(ControlFlow::Break(Received::Opened { incarnation, after, last }))
    }

    /// Whether to wait for a new leader, which lacks messages that were received. After some time they are lost.
    fn is_behind(&mut self, incarnation: &str, last: u64) -> bool {
        let lacks_messages = matches!(&self.start,
            StartOffset::After { incarnation: known, sequence } if known == incarnation && *sequence > last);
        if !lacks_messages {
            self.behind_since = None;
            return false;
        }
        self.behind_since.get_or_insert_with(Instant::now).elapsed() < LEADER_BEHIND_MAX
    }

    /// Returns the sequence after which to read, for a stream with these first and last messages.
    fn offset_after(&self, incarnation: &str, first: u64, last: u64) -> u64 {
        let before_first = first - 1;
        match &self.start {
            StartOffset::Earliest => before_first,
            StartOffset::Last(count) => last.saturating_sub(*count).max(before_first),
            StartOffset::After { incarnation: known, sequence } if known == incarnation => {
                if *sequence < before_first {
                    log_deleted(&self.owner, *sequence + 1, before_first);
                }
                // A stream that was restored from an older backup ends before the offset.
                (*sequence).clamp(before_first, last.max(before_first))
            }
            StartOffset::After { .. } => {
                warn!(owner = self.owner, "the stream has a new incarnation; it is read from its beginning");
                before_first
            }
        }
    }

    async fn wait(&mut self, reason: &str) {
        if !self.is_waiting {
            info!(owner = self.owner, reason, "waiting for the stream");
            self.is_waiting = true;
        }
        sleep(OPEN_INTERVAL).await;
    }
}

impl Open {
    /// Requests messages that the stream has and that were not received. Fails when the stream is another one, or is
    /// shorter than what was received.
    async fn compare(&mut self, info: &Info, jetstream: &JetStream) -> anyhow::Result<()> {
        let last = info.state.last_sequence;
        anyhow::ensure!(incarnation_of(info) == self.incarnation, "the stream has a new incarnation");
        anyhow::ensure!(last + 1 >= self.next, "the stream ends before the offset");
        if last >= self.next {
            self.has_replicas = info.config.num_replicas > 1;
            self.requests = Some(Requests::new(jetstream, last, self.has_replicas).await?);
        }
        self.check_at = Instant::now() + CHECK_INTERVAL;
        Ok(())
    }
}

impl Requests {
    async fn new(jetstream: &JetStream, last: u64, from_leader: bool) -> anyhow::Result<Self> {
        let client = jetstream.client();
        let inbox = client.new_inbox();
        let answers = client.subscribe(format!("{inbox}.*")).await?;
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        Ok(Self { last, from_leader, answers, inbox, sent: VecDeque::new(), window: 1, deadline })
    }

    /// Finds the first wanted message from `next` on.
    async fn next(
        &mut self,
        jetstream: &JetStream,
        owner: &str,
        wanted_prefix: Option<&str>,
        next: u64,
    ) -> anyhow::Result<Found> {
        loop {
            self.send(jetstream.client(), owner, wanted_prefix, next).await?;
            let answer = timeout_at(self.deadline, self.answers.next()).await.context("NATS does not answer")?;
            let answer = answer.context("the client closed the subscription")?;
            self.deadline = Instant::now() + ANSWER_TIMEOUT;
            let asked = self.sent.pop_front().context("an answer without a request")?;
            let answered = answer.subject.strip_prefix(&self.inbox).and_then(|rest| rest.strip_prefix('.'));
            anyhow::ensure!(answered == Some(asked.to_string().as_str()), "the answers are not in order");
            // The answer to an earlier request has skipped this sequence.
            if asked < next {
                continue;
            }
            let message = if self.from_leader { of_leader(&answer.payload)? } else { of_server(answer)? };
            let found = message.as_ref().map_or(self.last + 1, |message| message.sequence);
            if found == asked {
                self.window = (self.window * 2).min(REQUESTS_MAX);
            } else {
                self.window = 1;
                if wanted_prefix.is_none() {
                    return Ok(Found::Deleted { next: found });
                }
            }
            return Ok(message.map_or(Found::Nothing, Found::Message));
        }
    }

    /// Sends requests until `window` answers are awaited. An answer is the first wanted message from its sequence on.
    async fn send(
        &mut self,
        client: &Client,
        owner: &str,
        wanted_prefix: Option<&str>,
        next: u64,
    ) -> anyhow::Result<()> {
        let filter = wanted_prefix.map_or_else(|| ">".to_owned(), |prefix| format!("{prefix}>"));
        while self.sent.len() < self.window {
            let sequence = self.sent.back().map_or(next, |last| (last + 1).max(next));
            if sequence > self.last {
                break;
            }
            let request = format!(r#"{{"seq":{sequence},"next_by_subj":"{filter}"}}"#);
            let api = if self.from_leader { "STREAM.MSG.GET" } else { "DIRECT.GET" };
            let (subject, reply) =
                (format!("$JS.API.{api}.{}", stream_name(owner)), format!("{}.{sequence}", self.inbox));
            client.publish_with_reply(subject, reply, request.into()).await?;
            if self.sent.is_empty() {
                self.deadline = Instant::now() + ANSWER_TIMEOUT;
            }
            self.sent.push_back(sequence);
        }
        Ok(())
    }
}

fn log_deleted(owner: &str, from: u64, to: u64) {
    error!(owner, from, to, "the stream has deleted messages that were not read; replay them from the owner's journal");
}

/// Returns the stream's configuration and state; `None` when it does not exist.
async fn info(jetstream: &JetStream, owner: &str) -> anyhow::Result<Option<Info>> {
    match jetstream.context().get_stream(stream_name(owner)).await {
        Ok(stream) => Ok(Some(stream.cached_info().clone())),
        Err(error) if is_missing(&error.kind()) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Reads the answer to a request to the only server of a stream; none if there is no message.
fn of_server(answer: async_nats::Message) -> anyhow::Result<Option<StreamMessage>> {
    match answer.status {
        Some(StatusCode::NOT_FOUND) => Ok(None),
        Some(status) => Err(anyhow!("NATS answers a request with status {status}")),
        None => stored(answer).map(Some),
    }
}

/// Reads the answer to a request to the leader of a stream; none if there is no message.
fn of_leader(answer: &[u8]) -> anyhow::Result<Option<StreamMessage>> {
    #[derive(Deserialize)]
    struct Answer {
        message: RawMessage,
    }
    let message = match serde_json::from_slice(answer).context("not an answer of JetStream")? {
        Response::Ok(Answer { message }) => message,
        Response::Err { error } if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => return Ok(None),
        Response::Err { error } => return Err(error).context("NATS refuses a request"),
    };
    let message = RawStreamMessage::try_from(message).map_err(|error| anyhow!("a message cannot be read: {error}"))?;
    Ok(Some(StreamMessage {
        sequence: message.sequence,
        subject: message.subject.to_string(),
        message_id: message.headers.get(NATS_MESSAGE_ID).map(ToString::to_string),
        is_repeated: message.headers.get(REPEATED).is_some(),
        payload: message.payload,
    }))
}

/// Reads a message with the headers that NATS adds to a stored message.
fn stored(message: async_nats::Message) -> anyhow::Result<StreamMessage> {
    let headers = message.headers.context("a message without headers")?;
    // The last one is of NATS. A publisher may have sent a header of the same name.
    let sequence = headers.get_last(NATS_SEQUENCE).context("a message without a sequence")?;
    let subject = headers.get_last(NATS_SUBJECT).context("a message without its subject")?;
    Ok(StreamMessage {
        sequence: sequence.as_str().parse()?,
        subject: subject.to_string(),
        message_id: headers.get(NATS_MESSAGE_ID).map(ToString::to_string),
        is_repeated: headers.get(REPEATED).is_some(),
        payload: message.payload,
    })
}
