//! Actions: what clients request, done in the user's name through the peers' APIs.

use std::{fmt, net::IpAddr};

use flack_api::{Context, Problem, TokenCaller, frames::ServerFrame, messages, messages_v2};
use secrecy::SecretString;
use tracing::debug;
use uuid::Uuid;

use super::context::Peers;
use crate::audience::GENERAL;

/// A request of a client. The actions of one client run one after the other, in order.
#[derive(Debug)]
pub enum Action {
    PingUser,
    PostMessage { id: Uuid, channel: Channel, thread_id: Option<i64>, source: String, file_ids: Vec<i64> },
}

/// The channel that a frame names.
#[derive(Debug)]
pub enum Channel {
    /// In version 1.
    Name(String),
    /// In version 2.
    Id(i64),
}

/// The result of an action.
#[derive(Debug)]
pub struct Outcome {
    pub reply: Option<ServerFrame>,
    /// Whether the token is no longer valid.
    pub is_token_refused: bool,
}

/// Performs an action with the token of the connection.
///
/// The token is verified again: it may have been revoked a moment ago.
pub async fn perform(
    action: Action,
    token: Option<SecretString>,
    client_address: Option<IpAddr>,
    peers: &Peers,
) -> Outcome {
    let id = match &action {
        Action::PingUser => None,
        Action::PostMessage { id, .. } => Some(*id),
    };
    // Each action is a request of its own, with its own correlation id.
    let context = Context { client_address, ..Context::background() };
    match attempt(action, token, &context, peers).await {
        Ok(reply) => Outcome { reply, is_token_refused: false },
        Err(problem) => {
            debug!(%problem, "an action was refused");
            Outcome { is_token_refused: problem.status == 401, reply: Some(problem_frame(&problem, id)) }
        }
    }
}

async fn attempt(
    action: Action,
    token: Option<SecretString>,
    context: &Context,
    peers: &Peers,
) -> Result<Option<ServerFrame>, Problem> {
    let caller = verify(token, peers).await?;
    match action {
        Action::PingUser => {
            peers.users.set_me_online(context, caller).await?;
            Ok(None)
        }
        Action::PostMessage { id, channel, thread_id, source, file_ids } => {
            let message_id = match channel {
                Channel::Name(name) => {
                    check_channel(&name)?;
                    let body = messages::types::NewMessage { source: source.try_into().map_err(bad_source)? };
                    peers.messages.create_message(context, caller, Some(id), body).await?.body.id
                }
                Channel::Id(channel_id) => {
                    // With files, the text may be absent.
                    let has_source = !source.is_empty() || file_ids.is_empty();
                    let parsed = has_source.then(|| messages_v2::types::Source::try_from(source)).transpose();
                    let source = parsed.map_err(bad_source)?;
                    let body = messages_v2::types::NewMessage { source, thread_id, file_ids };
                    let posting = peers.messages_v2.create_channel_message(context, caller, channel_id, Some(id), body);
                    posting.await?.body.id
                }
            };
            Ok(Some(ServerFrame::Posted { id, message_id }))
        }
    }
}

fn bad_source(problem: impl fmt::Display) -> Problem {
    Problem::bad_request(format!("source: {problem}"))
}

async fn verify(token: Option<SecretString>, peers: &Peers) -> Result<TokenCaller, Problem> {
    match token {
        Some(token) => peers.verify.verify_token(&token).await,
        None => Err(no_token()),
    }
}

pub fn no_token() -> Problem {
    Problem::unauthorized("this connection has no token: send hello with a token first")
}

pub fn check_channel(channel: &str) -> Result<(), Problem> {
    if channel == GENERAL {
        Ok(())
    } else {
        Err(Problem::not_found("there is no such channel; the only channel is `general`"))
    }
}

pub fn problem_frame(problem: &Problem, id: Option<Uuid>) -> ServerFrame {
    ServerFrame::Problem { id, status: problem.status, title: problem.title.clone(), detail: problem.detail.clone() }
}
