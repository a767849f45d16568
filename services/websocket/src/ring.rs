//! The ring buffer: the newest events, in the order in which this instance read them. All connections read from it.
//!
//! A connection has no queue, only a read position in the ring buffer. So the memory for events does not grow with the
//! number of connections, and a resumed client is a connection with an older read position.

mod deduplicator;
mod entry;
pub mod frame;

use std::collections::VecDeque;

use tokio_tungstenite::tungstenite::Utf8Bytes;

use self::{deduplicator::Deduplicator, entry::Entry, frame::Update};
use crate::{
    audience::Recipient,
    cursor::{Cursor, Offset, STREAMS},
    limits::{FRAMES_PER_READ_MAX, Retention},
};

/// The ring buffer of an instance.
#[derive(Debug, Default)]
pub struct Ring {
    retention: Retention,
    entries: VecDeque<Entry>,
    bytes: usize,
    /// The number of the next entry. Entries are numbered from 0 and never renumbered.
    head: u64,
    /// The last message of each stream that this instance has read.
    cursor: Cursor,
    /// For each stream: the ring buffer holds all events after this sequence, up to `cursor`.
    retained_after: [u64; STREAMS],
    /// For each stream: up to this sequence, messages that are published again are not for clients.
    repeated_until: [u64; STREAMS],
    /// The number of stream resets so far. A read position of an earlier generation is invalid.
    generation: u32,
    deduplicator: Deduplicator,
}

/// A connection's read position in the ring buffer.
#[derive(Debug, Clone)]
pub struct ReadPosition {
    /// The number of the entry to read next.
    pub next: u64,
    /// The client's cursor after the entries that were read.
    pub cursor: Cursor,
    /// Entries since the last frame that were not for the client.
    pub skipped: u64,
    /// The sequences of the cursor at which this connection began to read the ring buffer. An entry whose duplicate is
    /// at or before them is skipped: another instance or the backfill has sent that version.
    received: [u64; STREAMS],
    generation: u32,
}

/// The events that the ring buffer holds: for each stream, those after sequence `after`, up to `cursor`.
#[derive(Debug, Clone)]
pub struct RetainedRange {
    pub after: [u64; STREAMS],
    pub cursor: Cursor,
}

/// Why the ring buffer cannot resume a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotResumable {
    /// A stream has another incarnation than in the cursor.
    OtherIncarnation,
    /// The ring buffer no longer holds all events after the cursor.
    TooOld,
}

/// Why a connection cannot continue to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadError {
    /// The entry to read next is no longer in the ring buffer.
    Lagged,
    /// A stream was reset (see [`Ring::open_stream`]): the client's state may be wrong.
    StreamReset,
}

impl Ring {
    pub fn new(retention: Retention) -> Self {
        Self { retention, ..Self::default() }
    }

    pub fn head(&self) -> u64 {
        self.head
    }

    /// Returns what this instance has read of a stream.
    pub fn offset(&self, stream: usize) -> &Offset {
        &self.cursor.0[stream]
    }

    pub fn retained(&self) -> RetainedRange {
        RetainedRange { after: self.retained_after, cursor: self.cursor.clone() }
    }

    /// Starts a stream, or continues it, after sequence `after`; `last` is that of its last message. Returns whether
    /// the stream was reset: it has another incarnation, or does not continue where this instance stopped to read. Then
    /// the ring buffer is emptied.
    pub fn open_stream(&mut self, stream: usize, incarnation: &str, after: u64, last: u64) -> bool {
        let offset = &mut self.cursor.0[stream];
        let is_first_time = offset.incarnation.is_none();
        if offset.incarnation.as_deref() == Some(incarnation) && offset.sequence == after {
            return false;
        }
        offset.incarnation = Some(incarnation.into());
        offset.sequence = after;
        self.retained_after[stream] = after;
        // Clients load what was committed before they connect: before this moment, or after the reset.
        self.repeated_until[stream] = if is_first_time { last } else { u64::MAX };
        if is_first_time {
            return false;
        }
        self.generation += 1;
        self.entries.clear();
        self.bytes = 0;
        self.deduplicator.reset(stream);
        self.retained_after = self.cursor.sequences();
        true
    }

    /// Records an event id. Returns whether it is new in this stream.
    pub fn insert_event_id(&mut self, stream: usize, event_id: &str) -> bool {
        self.deduplicator.insert_event_id(stream, event_id)
    }

    /// Advances the stream to a message that is published again because NATS has lost it. Returns false if clients have
    /// to receive it, because this instance had not read it before. Otherwise it is no entry, and a client with an
    /// earlier cursor reloads: it may have received it or not.
    pub fn skip_repeated(&mut self, stream: usize, sequence: u64) -> bool {
        let is_skipped = sequence <= self.repeated_until[stream];
        if is_skipped {
            self.cursor.0[stream].sequence = sequence;
            self.retained_after[stream] = sequence;
        }
        is_skipped
    }

    /// Advances the stream to the message `sequence`. Adds an entry for its update, if clients receive one.
    pub fn advance(&mut self, stream: usize, sequence: u64, update: Option<&Update>) {
        self.cursor.0[stream].sequence = sequence;
        if self.repeated_until[stream] == u64::MAX {
            // After a reset the messages that were lost come first.
            self.repeated_until[stream] = sequence;
        }
        let Some(update) = update else { return };
        if let Some(number) = self.deduplicator.insert_version(update.version, stream, self.head) {
            // A client from an instance that read this stream first has a cursor at or after the duplicate. It must not
            // receive the entry.
            if let Some(entry) = self.index(number).and_then(|index| self.entries.get_mut(index)) {
                entry.duplicate = Some((stream, sequence));
            }
            return;
        }
        let entry = Entry::new(stream, &update.frames, &self.cursor);
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
        self.head += 1;
        while self.entries.len() > self.retention.events_max || self.bytes > self.retention.bytes_max {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.bytes();
            let after = &mut self.retained_after[oldest.stream];
            *after = oldest.sequence().max(*after);
        }
    }

    /// Returns the read position of a connection that receives only later events.
    pub fn position_at_head(&self) -> ReadPosition {
        self.position(self.head, self.cursor.clone())
    }

    /// Returns the read position of a client with this cursor, if the ring buffer holds all events after it.
    pub fn resume(&self, mut cursor: Cursor) -> Result<ReadPosition, NotResumable> {
        for (offset, own) in cursor.0.iter_mut().zip(&self.cursor.0) {
            // The stream did not exist when the client disconnected: all its events are new.
            if offset.incarnation.is_none() {
                offset.incarnation.clone_from(&own.incarnation);
            }
            if offset.incarnation != own.incarnation {
                return Err(NotResumable::OtherIncarnation);
            }
        }
        if cursor.0.iter().zip(self.retained_after).any(|(offset, after)| offset.sequence < after) {
            return Err(NotResumable::TooOld);
        }
        // From the oldest entry: `read` skips what the client has received.
        Ok(self.position(self.first(), cursor))
    }

    /// Returns a read position that holds the cursor of a client while its backfill is sent. It is not used to read the
    /// ring buffer.
    pub fn before_backfill(&self, mut cursor: Cursor) -> ReadPosition {
        for (offset, own) in cursor.0.iter_mut().zip(&self.cursor.0) {
            offset.incarnation.clone_from(&own.incarnation);
        }
        self.position(self.head, cursor)
    }

    /// Returns whether this instance has read everything that a client with this cursor has received.
    pub fn has_reached(&self, cursor: &Cursor) -> bool {
        // In another incarnation there is nothing to wait for: such a cursor is not resumed.
        let mut offsets = cursor.0.iter().zip(&self.cursor.0);
        offsets.all(|(offset, own)| offset.incarnation != own.incarnation || offset.sequence <= own.sequence)
    }

    /// Returns the next frames for a connection and advances its read position. At the head, there are none.
    ///
    /// Whether the client may receive an entry is checked here, so also a resumed client receives nothing of a channel
    /// that its user has left meanwhile.
    pub fn read(&self, position: &mut ReadPosition, recipient: &Recipient) -> Result<Vec<Utf8Bytes>, ReadError> {
        if position.generation != self.generation {
            return Err(ReadError::StreamReset);
        }
        let skip = self.index(position.next).ok_or(ReadError::Lagged)?;
        let mut frames = Vec::new();
        for entry in self.entries.range(skip.min(self.entries.len())..) {
            if frames.len() == FRAMES_PER_READ_MAX {
                break;
            }
            position.next += 1;
            // Another instance may have sent it: one that had read more, or had read the streams in another order.
            let was_received = entry.sequence() <= position.cursor.0[entry.stream].sequence
                || entry.duplicate.is_some_and(|(stream, sequence)| sequence <= position.received[stream]);
            if was_received {
                continue;
            }
            let is_ahead = self.advance_cursor(entry, &mut position.cursor);
            if let Some(text) = entry.text_for(recipient) {
                frames.push(if is_ahead { text.with_cursor(&position.cursor) } else { text.frame.clone() });
                position.skipped = 0;
            } else {
                position.skipped += 1;
            }
        }
        Ok(frames)
    }

    /// Advances a client's cursor to an entry. Returns whether the client is ahead of this instance in some stream: a
    /// client from another instance may be ahead in one stream and behind in another. Then its frames hold its own
    /// cursor instead of this instance's, so that no offset decreases.
    fn advance_cursor(&self, entry: &Entry, cursor: &mut Cursor) -> bool {
        let mut is_ahead = false;
        for ((offset, own), sequence) in cursor.0.iter_mut().zip(&self.cursor.0).zip(entry.sequences) {
            if offset.incarnation.is_none() {
                offset.incarnation.clone_from(&own.incarnation);
            }
            is_ahead |= offset.sequence > sequence;
            offset.sequence = offset.sequence.max(sequence);
        }
        is_ahead
    }

    fn position(&self, next: u64, cursor: Cursor) -> ReadPosition {
        ReadPosition { next, received: cursor.sequences(), cursor, skipped: 0, generation: self.generation }
    }

    /// Returns the number of the oldest entry.
    fn first(&self) -> u64 {
        self.head - self.entries.len() as u64
    }

    /// Returns the index in `entries` of the entry with this number; `None` if it was dropped.
    fn index(&self, number: u64) -> Option<usize> {
        // An index of an entry in memory fits into `usize`.
        number.checked_sub(self.first()).map(|index| usize::try_from(index).unwrap_or(usize::MAX))
    }
}

#[cfg(test)]
mod tests;
