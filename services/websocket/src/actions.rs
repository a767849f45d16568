//! What a client asks for, done in the user's name through the others' APIs.

use flack_api::{
    Context, Problem, TokenCaller,
    frames::{ClientFrameSource, ServerFrame},
    messages::types::NewMessage,
};
use secrecy::SecretString;
use tracing::debug;
use uuid::Uuid;

use crate::door::Seams;

/// The one channel of this version.
pub const GENERAL: &str = "general";

/// Takes its turn behind the one before it: what a client says keeps its order.
#[derive(Debug)]
pub enum Action {
    PingUser,
    PostMessage { id: Uuid, channel: String, source: ClientFrameSource },
}

/// How it went.
#[derive(Debug)]
pub struct Outcome {
    pub frame: Option<ServerFrame>,
    /// The token is no longer good; the connection goes on without.
    pub token_refused: bool,
}

/// `token` is that of the connection, if it said one. It is checked anew: it may have been revoked a moment ago.
pub async fn perform(action: Action, token: Option<SecretString>, seams: Seams) -> Outcome {
    let id = match &action {
        Action::PingUser => None,
        Action::PostMessage { id, .. } => Some(*id),
    };
    match attempt(action, token, &seams).await {
        Ok(frame) => Outcome { frame, token_refused: false },
        Err(problem) => {
            debug!(%problem, "refused");
            Outcome { token_refused: problem.status == 401, frame: Some(problem_frame(&problem, id)) }
        }
    }
}

async fn attempt(
    action: Action,
    token: Option<SecretString>,
    seams: &Seams,
) -> Result<Option<ServerFrame>, Problem> {
    let caller = verified(token, seams).await?;
    let context = Context::background();
    match action {
        Action::PingUser => {
            seams.users.set_me_online(&context, caller).await?;
            Ok(None)
        }
        Action::PostMessage { id, channel, source } => {
            check_channel(&channel)?;
            let source = String::from(source);
            let source = source
                .as_str()
                .try_into()
                .map_err(|problem| Problem::bad_request(format!("source: {problem}")))?;
            let created =
                seams.messages.create_message(&context, caller, Some(id), NewMessage { source }).await?;
            Ok(Some(ServerFrame::Posted { id, message_id: created.body.id }))
        }
    }
}

async fn verified(token: Option<SecretString>, seams: &Seams) -> Result<TokenCaller, Problem> {
    match token {
        Some(token) => seams.verify.verify_token(&token).await,
        None => Err(Problem::unauthorized("this connection only listens; say hello with a token first")),
    }
}

pub fn check_channel(channel: &str) -> Result<(), Problem> {
    if channel == GENERAL {
        Ok(())
    } else {
        Err(Problem::not_found("there is no such channel; this version knows only `general`"))
    }
}

pub fn problem_frame(problem: &Problem, id: Option<Uuid>) -> ServerFrame {
    ServerFrame::Problem {
        id,
        status: problem.status,
        title: problem.title.clone(),
        detail: problem.detail.clone(),
    }
}
