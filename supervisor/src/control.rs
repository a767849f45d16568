//! The supervisor's side of the control socket.

use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use crate::log::log;
use crate::protocol::{Reply, Request};
use crate::table::Table;

pub(crate) async fn serve(listener: UnixListener, table: Arc<Table>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve_connection(stream, table.clone()));
            }
            Err(error) => log("supervisor", &format!("cannot accept on the control socket: {error}")),
        }
    }
}

async fn serve_connection(stream: UnixStream, table: Arc<Table>) {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    if BufReader::new(reader).read_line(&mut line).await.is_err() || line.is_empty() {
        return;
    }
    let (replies, mut outgoing) = mpsc::unbounded_channel();
    let request = serde_json::from_str::<Request>(&line);
    let shuts_down = matches!(request, Ok(Request::Shutdown));
    if let Ok(request) = request {
        // A task of its own: the request is carried out completely, even if the client disconnects.
        tokio::spawn(carry_out(request, table.clone(), replies));
    } else {
        // Without the parser's message: it may quote the request, which may contain passwords.
        let message = "the supervisor does not know this request: it was started by another version. Restart it";
        let _ = replies.send(Reply::Failed(message.to_owned()));
        drop(replies);
    }
    while let Some(reply) = outgoing.recv().await {
        let mut line = serde_json::to_string(&reply).expect("a reply is plain data");
        line.push('\n');
        if writer.write_all(line.as_bytes()).await.is_err() {
            // The client has disconnected; wait until the request is done.
            while outgoing.recv().await.is_some() {}
        }
    }
    if shuts_down {
        table.shut_down.notify_one();
    }
}

async fn carry_out(request: Request, table: Arc<Table>, replies: mpsc::UnboundedSender<Reply>) {
    let send = |reply| {
        let _ = replies.send(reply);
    };
    match request {
        Request::Start(spec) => match table.start(*spec) {
            Ok(pid) => send(Reply::Started { pid }),
            Err(message) => send(Reply::Failed(message)),
        },
        Request::List => send(Reply::Processes(table.statuses())),
        Request::Stop(names) => {
            let handles = names.iter().filter_map(|name| table.find(name)).collect();
            table.stop(handles, |ended| send(Reply::Ended(ended))).await;
            send(Reply::Done);
        }
        Request::Kill { name, restart } => match table.find(&name) {
            Some(handle) => send(Reply::Killed { pid: handle.kill(restart).await }),
            None => send(Reply::Failed(format!("{name} does not run"))),
        },
        Request::Shutdown => {
            table.shutdown(|ended| send(Reply::Ended(ended))).await;
            send(Reply::Done);
        }
    }
}
