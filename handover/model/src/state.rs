//! The state of the model.

use flack_handover::{
    Record, Side, Stage,
    fence::{Fence, Refusal, Role},
    operator::Operator,
    replica::Replica,
};

/// The key of a write: 1 for the client's first one.
pub type Key = u8;

/// A row of a journal. Its position is its index + 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JournalRow {
    Write(Key),
    Marker { epoch: i64 },
}

/// A request at a process, as in `flack_handover::request`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Writer {
    pub key: Key,
    pub epoch: i64,
    /// Whether its transaction has the shared lock of the part; otherwise the request is kept until the record changes.
    pub is_writing: bool,
}

/// One side: a database, and the processes over it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Database {
    pub fence: Fence,
    /// The keys of the writes that the tables contain, in order.
    pub table: Vec<Key>,
    pub journal: Vec<JournalRow>,
    pub replica: Replica,
    /// The part of `replica` that a crash of the database cannot undo: the applier commits asynchronously.
    pub durable: Replica,
    /// The revision of the record that the processes have read.
    pub seen: i64,
    /// At most two, sorted.
    pub writers: Vec<Writer>,
    /// The position that a closing operator has taken, in the mutant that takes it before the lock.
    pub taken: Option<(u8, i64, i64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Message {
    Put {
        operator: u8,
        if_revision: i64,
        record: Record,
    },
    PutAnswer {
        operator: u8,
        record: Record,
        revision: Option<i64>,
    },
    Close {
        operator: u8,
        side: Side,
        epoch: i64,
    },
    Closed {
        operator: u8,
        epoch: i64,
        marker: i64,
    },
    CloseRefused {
        operator: u8,
        refusal: Refusal,
    },
    Request {
        side: Side,
        key: Key,
        epoch: i64,
    },
    Answer {
        key: Key,
        is_acknowledged: bool,
    },
    /// A change that the relay of `from` has published.
    Change {
        from: Side,
        position: i64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// All records that the registry has had; the last one is the present one. The revision is the index + 1.
    pub records: Vec<Record>,
    /// By `Side`.
    pub databases: [Database; 2],
    /// The operators that run, with their numbers.
    pub operators: Vec<(u8, Operator)>,
    pub operators_started: u8,
    /// The messages on their way, sorted. Any of them may be the next to arrive.
    pub network: Vec<Message>,
    /// The number of writes that the client has an answer for. It has sent the next one, or is about to.
    pub acknowledged: Key,
    pub faults: u8,
    /// For the explorer and the properties that something is possible at all.
    pub has_forwarded: bool,
}

impl State {
    /// Returns the state in which the service follows the monolith, and everybody reads at the service: the steps
    /// before only change the record.
    pub fn initial() -> Self {
        let record = Record { read_percent: 100, ..Record::initial(Side::Monolith).at(Stage::Shifting) };
        let database = |role| Database {
            fence: Fence { role, epoch: 1 },
            table: vec![],
            journal: vec![],
            replica: Replica::default(),
            durable: Replica::default(),
            seen: 1,
            writers: vec![],
            taken: None,
        };
        Self {
            records: vec![record],
            databases: [database(Role::Owner), database(Role::Replica)],
            operators: vec![],
            operators_started: 0,
            network: vec![],
            acknowledged: 0,
            faults: 0,
            has_forwarded: false,
        }
    }

    pub fn database(&self, side: Side) -> &Database {
        &self.databases[side as usize]
    }

    pub fn database_mut(&mut self, side: Side) -> &mut Database {
        &mut self.databases[side as usize]
    }

    pub fn revision(&self) -> i64 {
        self.records.len() as i64
    }

    /// The record of the registry.
    pub fn record(&self) -> Record {
        self.records[self.records.len() - 1]
    }

    /// The record that the processes of a side have read.
    pub fn seen(&self, side: Side) -> Record {
        let index = usize::try_from(self.database(side).seen - 1).expect("revisions begin at 1");
        self.records[index]
    }

    pub fn operator(&self, number: u8) -> Option<Operator> {
        self.operators.iter().find(|(it, _)| *it == number).map(|(_, operator)| *operator)
    }

    /// Whether the client's present request, or its answer, is somewhere.
    pub fn is_request_underway(&self) -> bool {
        let key = self.acknowledged + 1;
        self.network.iter().any(|message| match message {
            Message::Request { key: it, .. } | Message::Answer { key: it, .. } => *it == key,
            _ => false,
        }) || Side::ALL.into_iter().any(|side| self.database(side).writers.iter().any(|writer| writer.key == key))
    }

    pub fn is_on_its_way(&self, message: &Message) -> bool {
        self.network.binary_search(message).is_ok()
    }

    pub fn send(&mut self, message: Message) {
        if let Err(index) = self.network.binary_search(&message) {
            self.network.insert(index, message);
        }
    }

    pub fn remove(&mut self, message: &Message) {
        if let Ok(index) = self.network.binary_search(message) {
            self.network.remove(index);
        }
    }
}

impl Database {
    pub fn row(&self, position: i64) -> Option<JournalRow> {
        usize::try_from(position - 1).ok().and_then(|index| self.journal.get(index)).copied()
    }

    pub fn journal_end(&self) -> i64 {
        self.journal.len() as i64
    }

    pub fn is_writing(&self) -> bool {
        self.writers.iter().any(|writer| writer.is_writing)
    }

    pub fn set_fence(&mut self, fence: Fence) {
        self.fence = fence;
        // The change commits synchronously, and with it everything before it.
        self.durable = self.replica;
    }

    pub fn add_writer(&mut self, writer: Writer) {
        self.writers.push(writer);
        self.writers.sort_unstable();
    }

    pub fn remove_writer(&mut self, writer: &Writer) {
        if let Some(index) = self.writers.iter().position(|it| it == writer) {
            self.writers.remove(index);
        }
    }
}
