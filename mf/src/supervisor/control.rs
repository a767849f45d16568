//! The supervisor's side of the control socket.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use super::child::log;
use super::daemon::Supervisor;
use super::protocol::{Reply, Request};

pub async fn serve(listener: UnixListener, supervisor: Arc<Supervisor>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(converse(stream, supervisor.clone()));
            }
            Err(error) => log("supervisor", &format!("cannot accept on the control socket: {error}")),
        }
    }
}

async fn converse(stream: UnixStream, supervisor: Arc<Supervisor>) {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    if BufReader::new(reader).read_line(&mut line).await.is_err() || line.is_empty() {
        return;
    }
    let (replies, mut outgoing) = mpsc::unbounded_channel();
    // On its own: what was asked for is done to its end, whether or not the asker still listens.
    let request = serde_json::from_str::<Request>(&line);
    let shuts_down = matches!(request, Ok(Request::Shutdown));
    if let Ok(request) = request {
        tokio::spawn(answer(request, supervisor.clone(), replies));
    } else {
        // Not the parser's own words: the request may hold passwords.
        let why = "the supervisor does not know this request; was mf rebuilt since mfup? mfdown, then mfup";
        let _ = replies.send(Reply::Failed(why.to_owned()));
        drop(replies);
    }
    while let Some(reply) = outgoing.recv().await {
        let mut line = serde_json::to_string(&reply).expect("a reply is plain data");
        line.push('\n');
        if writer.write_all(line.as_bytes()).await.is_err() {
            // The asker is gone; wait for the end of what it asked for.
            while outgoing.recv().await.is_some() {}
        }
    }
    if shuts_down {
        supervisor.ended.notify_one();
    }
}

async fn answer(request: Request, supervisor: Arc<Supervisor>, replies: mpsc::UnboundedSender<Reply>) {
    let say = |reply| {
        let _ = replies.send(reply);
    };
    match request {
        Request::Start(spec) => match supervisor.start(*spec) {
            Ok(pid) => say(Reply::Started { pid }),
            Err(message) => say(Reply::Failed(message)),
        },
        Request::List => {
            say(Reply::Processes(supervisor.all().iter().map(super::child::Handle::status).collect()));
        }
        Request::Stop(names) => {
            let handles: Vec<_> = names.iter().filter_map(|name| supervisor.find(name)).collect();
            let mut stops: FuturesUnordered<_> = handles.iter().map(super::child::Handle::stop).collect();
            while let Some(ended) = stops.next().await {
                say(Reply::Ended(ended));
            }
            say(Reply::Done);
        }
        Request::Kill { name, restart } => match supervisor.find(&name) {
            Some(handle) => say(Reply::Killed { pid: handle.kill(restart).await }),
            None => say(Reply::Failed(format!("{name} does not run"))),
        },
        Request::Shutdown => {
            supervisor.shutdown(|ended| say(Reply::Ended(ended))).await;
            say(Reply::Done);
        }
    }
}
