//! A socket that records what it receives, resumes with its cursor after a disconnect, and reloads when it must.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::sleep;
use uuid::Uuid;

use super::{entry::EntryPoint, poster::Posted};
use crate::{
    client::{Auth, Client},
    socket::Socket,
};

/// The posters' messages that one socket received; messages of other users do not count.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Message ids in the order of arrival, with the time since the start.
    pub received: Vec<(i64, Duration)>,
    /// Ids that a reload after `resumed: false` found, and that were not received.
    pub reloaded: HashMap<i64, Duration>,
    pub reconnects: u32,
    pub reloads: u32,
}

/// The members of a frame that are used. They borrow from the text, because many thousands of frames arrive each
/// second; none of them contains an escape sequence.
#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    class: Option<&'a str>,
    cursor: Option<&'a str>,
    model: Option<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: i64,
    /// The author, if it is a message.
    user_id: Option<i64>,
}

impl Model {
    fn is_by(&self, posters: &HashSet<i64>) -> bool {
        self.user_id.is_some_and(|author| posters.contains(&author))
    }
}

/// A running subscriber.
#[derive(Debug)]
pub struct Subscriber {
    record: Arc<Mutex<Record>>,
}

/// The minimum time before a dropping socket drops its connection; a random time up to the same length is added.
const CONNECTED_TIME_MIN: Duration = Duration::from_secs(2);
/// The pause between two attempts to connect; a random time up to the same length is added.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);
/// The timeout of one wait for a frame, after which the end of the run is checked.
const FRAME_WAIT: Duration = Duration::from_millis(200);

impl Subscriber {
    /// Returns when the socket has received `welcome`: from then on it must not miss a message.
    pub async fn start(
        client: Client,
        entry: EntryPoint,
        posters: Arc<HashSet<i64>>,
        start: Instant,
        dropping: bool,
        ended: Arc<AtomicBool>,
    ) -> Result<Self> {
        let record = Arc::new(Mutex::new(Record::default()));
        let base = entry.base(&client).await?;
        let socket = Socket::open(&base, None, None).await.context("a subscriber cannot connect")?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH)?.saturating_sub(start.elapsed()).as_secs() - 1;
        let task = Task { client, entry, base, posters, start, since, dropping, ended, record: Arc::clone(&record) };
        tokio::spawn(task.run(socket));
        Ok(Self { record })
    }

    pub fn record(&self) -> Record {
        self.record.lock().expect("no panic under the lock").clone()
    }

    pub fn has_all(&self, posted: &[Posted]) -> bool {
        let record = self.record.lock().expect("no panic under the lock");
        if record.received.len() + record.reloaded.len() < posted.len() {
            return false;
        }
        let received: HashSet<_> = record.received.iter().map(|(id, _)| *id).collect();
        posted.iter().all(|message| received.contains(&message.id) || record.reloaded.contains_key(&message.id))
    }
}

struct Task {
    client: Client,
    entry: EntryPoint,
    /// The last address; read again only when it cannot connect there.
    base: String,
    posters: Arc<HashSet<i64>>,
    start: Instant,
    /// The start in Unix seconds, one second earlier.
    since: u64,
    dropping: bool,
    ended: Arc<AtomicBool>,
    record: Arc<Mutex<Record>>,
}

impl Task {
    async fn run(mut self, mut socket: Socket) {
        let mut cursor = cursor_of(&socket.welcome);
        loop {
            self.receive(&mut socket, &mut cursor).await;
            if self.ended.load(Ordering::Relaxed) {
                return;
            }
            drop(socket);
            let Some(next) = self.reconnect(&mut cursor).await else { return };
            socket = next;
        }
    }

    /// Records frames until the connection breaks, the subscriber drops it, or the run has ended.
    async fn receive(&self, socket: &mut Socket, cursor: &mut Option<String>) {
        let until = Instant::now() + CONNECTED_TIME_MIN + CONNECTED_TIME_MIN.mul_f64(random());
        while !self.ended.load(Ordering::Relaxed) {
            if self.dropping && Instant::now() > until {
                return;
            }
            match socket.next_text(FRAME_WAIT).await {
                Ok(Some(text)) => self.record_frame(&text, cursor),
                Ok(None) => {}
                Err(_) => return,
            }
        }
    }

    fn record_frame(&self, text: &str, cursor: &mut Option<String>) {
        let Ok(Frame { kind: "updated_model", class, cursor: Some(to), model: Some(model) }) =
            serde_json::from_str(text)
        else {
            return;
        };
        let cursor = cursor.get_or_insert_default();
        cursor.clear();
        cursor.push_str(to);
        if class == Some("Message") && model.is_by(&self.posters) {
            self.record.lock().expect("no panic under the lock").received.push((model.id, self.start.elapsed()));
        }
    }

    async fn reconnect(&mut self, cursor: &mut Option<String>) -> Option<Socket> {
        self.record.lock().expect("no panic under the lock").reconnects += 1;
        while !self.ended.load(Ordering::Relaxed) {
            match Socket::open(&self.base, None, cursor.as_deref()).await {
                Ok(socket) if socket.welcome["resumed"] == json!(true) => return Some(socket),
                Ok(socket) => {
                    if self.reload().await.is_ok() {
                        *cursor = cursor_of(&socket.welcome);
                        return Some(socket);
                    }
                }
                Err(_) => {
                    if let Ok(base) = self.entry.base(&self.client).await {
                        self.base = base;
                    }
                }
            }
            sleep(RECONNECT_PAUSE + RECONNECT_PAUSE.mul_f64(random())).await;
        }
        None
    }

    fn record_reloaded(&self, messages: &[Value]) {
        let mut record = self.record.lock().expect("no panic under the lock");
        let received: HashSet<i64> = record.received.iter().map(|(id, _)| *id).collect();
        let at = self.start.elapsed();
        for message in messages.iter().filter_map(|message| Model::deserialize(message).ok()) {
            if message.is_by(&self.posters) && !received.contains(&message.id) {
                record.reloaded.entry(message.id).or_insert(at);
            }
        }
    }

    /// Reads all messages since the start, as a browser does after `resumed: false`.
    async fn reload(&self) -> Result<()> {
        let mut since = self.since;
        loop {
            let path = format!("/api/messages?updated_since={since}");
            let list = self.client.get(&path, Auth::None, StatusCode::OK).await?;
            let messages = list.body["messages"].as_array().context("a list without messages")?;
            self.record_reloaded(messages);
            // A list is bounded, the oldest first; the next page repeats its last second, which may be incomplete.
            let end = messages.last().and_then(|message| message["updated_at"].as_u64()).unwrap_or(0);
            if end <= since {
                break;
            }
            since = end;
        }
        self.record.lock().expect("no panic under the lock").reloads += 1;
        Ok(())
    }
}

fn cursor_of(frame: &Value) -> Option<String> {
    frame["cursor"].as_str().map(str::to_owned)
}

/// A random number between 0 and 1.
fn random() -> f64 {
    f64::from(u16::try_from(Uuid::new_v4().as_u128() & 0xffff).unwrap_or(0)) / f64::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Contract;

    fn task() -> Task {
        let contract = Contract::load().expect("the contract is in the repository");
        Task {
            client: Client::new("http://nowhere.invalid", Arc::new(contract)).expect("a client"),
            entry: EntryPoint::Balancer,
            base: String::new(),
            posters: Arc::new(HashSet::from([7])),
            start: Instant::now(),
            since: 0,
            dropping: false,
            ended: Arc::default(),
            record: Arc::default(),
        }
    }

    #[test]
    fn messages_of_others_do_not_count() {
        let (task, mut cursor) = (task(), None);
        let frame = |class: &str, id: i64, author: i64| {
            let model = json!({ "id": id, "user_id": author });
            json!({ "type": "updated_model", "class": class, "model": model, "cursor": format!("at {id}") }).to_string()
        };
        for text in [frame("Message", 1, 7), frame("Message", 2, 8), frame("User", 3, 7), frame("Message", 4, 7)] {
            task.record_frame(&text, &mut cursor);
        }
        task.record_frame(&frame("Message", 5, 8), &mut cursor);
        task.record_reloaded(&[
            json!({ "id": 4, "user_id": 7 }),
            json!({ "id": 6, "user_id": 7 }),
            json!({ "id": 9, "user_id": 8 }),
        ]);
        let record = task.record.lock().expect("no panic under the lock").clone();
        assert_eq!(record.received.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 4]);
        assert_eq!(record.reloaded.keys().collect::<Vec<_>>(), [&6]);
        assert_eq!(cursor.as_deref(), Some("at 5"), "messages of others move the cursor too");
    }
}
