//! The ring: the last events, in the order in which this instance got them. All sockets read the same one.
//!
//! A socket has no queue of its own, only a place in the ring: memory for events is bounded once, whatever the number of
//! sockets, and resuming is nothing but beginning to read further back.

use std::{
    collections::{HashSet, VecDeque},
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
};

use axum::extract::ws::Utf8Bytes;

use crate::{
    cursor::{Cursor, STREAMS},
    entry::{Entry, Told},
    limits::{ENTRIES_PER_READ_MAX, Memory, SEEN_EVENTS_MAX},
    twins::Twins,
};

#[derive(Debug, Default)]
pub struct Ring {
    memory: Memory,
    slots: VecDeque<Slot>,
    bytes: usize,
    /// Of the next entry; counts all that ever were.
    head: u64,
    /// How far the streams have been read.
    cursor: Cursor,
    /// Of each stream: all behind this is in the ring.
    floors: [u64; STREAMS],
    /// How often a stream has begun anew under us.
    generation: u32,
    seen: [Seen; STREAMS],
    twins: Twins,
}

#[derive(Debug)]
struct Slot {
    entry: Arc<Entry>,
    /// Where another stream told the same version of the same entity, a moment later: stream and sequence.
    twin: Option<(usize, u64)>,
}

/// Where one socket stands.
#[derive(Debug, Clone)]
pub struct Stand {
    /// The entry that it reads next.
    pub next: u64,
    pub cursor: Cursor,
    /// How far it had been told before it came here: of twins, it has had the one that is not behind this.
    had: [u64; STREAMS],
    generation: u32,
}

/// What the ring holds: of each stream, all behind its floor and up to the cursor.
#[derive(Debug, Clone)]
pub struct Reach {
    pub floors: [u64; STREAMS],
    pub cursor: Cursor,
}

/// Why a cursor cannot be resumed from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It speaks of other incarnations of the streams.
    Foreign,
    /// It is from before the ring.
    TooOld,
}

/// Why a socket cannot go on to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// What it would read next is no longer kept.
    Overtaken,
    /// A stream began anew: what is known of it is worth nothing.
    StreamBeganAnew,
}

impl Ring {
    pub fn new(memory: Memory) -> Self {
        Self { memory, ..Self::default() }
    }

    pub fn head(&self) -> u64 {
        self.head
    }

    pub fn sequence(&self, stream: usize) -> u64 {
        self.cursor.0[stream].sequence
    }

    /// Reading begins, or goes on, behind `after`. True when that leaves a gap: the ring is empty then.
    pub fn opened(&mut self, stream: usize, incarnation: &str, after: u64) -> bool {
        let place = &mut self.cursor.0[stream];
        let first_time = place.incarnation.is_none();
        let goes_on = place.incarnation.as_deref() == Some(incarnation) && place.sequence == after;
        if goes_on {
            return false;
        }
        place.incarnation = Some(incarnation.to_owned());
        place.sequence = after;
        self.floors[stream] = after;
        if first_time {
            return false;
        }
        self.generation += 1;
        self.slots.clear();
        self.twins = Twins::default();
        self.bytes = 0;
        self.seen[stream] = Seen::default();
        self.floors = std::array::from_fn(|index| self.cursor.0[index].sequence);
        true
    }

    /// Whether this event is here for the first time.
    pub fn is_new(&mut self, stream: usize, event_id: &str) -> bool {
        self.seen[stream].insert(event_id)
    }

    /// The stream was read up to `sequence`, where clients are told this, if anything.
    pub fn advance(&mut self, stream: usize, sequence: u64, told: Option<&Told>) {
        self.cursor.0[stream].sequence = sequence;
        let Some(told) = told else { return };
        if let Some(number) = self.twins.number_of_twin(told.version, stream, self.head) {
            // Told by the other stream. Those who come from an instance where this one was first must be able to see that.
            if let Some(slot) = self.index(number).and_then(|index| self.slots.get_mut(index)) {
                slot.twin = Some((stream, sequence));
            }
            return;
        }
        let entry = Entry::new(stream, sequence, &told.model, &self.cursor);
        self.bytes += entry.text.len();
        self.slots.push_back(Slot { entry, twin: None });
        self.head += 1;
        while self.slots.len() > self.memory.events_max || self.bytes > self.memory.bytes_max {
            let Some(Slot { entry: old, .. }) = self.slots.pop_front() else { break };
            self.bytes -= old.text.len();
            self.floors[old.stream] = self.floors[old.stream].max(old.sequence);
        }
    }

    /// For one who comes now.
    pub fn join(&self) -> Stand {
        self.stand(self.head, self.cursor.clone())
    }

    /// For one who comes back: all behind `cursor`, if the ring has all of that.
    pub fn resume(&self, mut cursor: Cursor) -> Result<Stand, Refused> {
        for (theirs, ours) in cursor.0.iter_mut().zip(&self.cursor.0) {
            // When they left there was no such stream: everything in it is new to them.
            if theirs.incarnation.is_none() {
                theirs.incarnation.clone_from(&ours.incarnation);
            }
            if theirs.incarnation != ours.incarnation {
                return Err(Refused::Foreign);
            }
        }
        if cursor.0.iter().zip(self.floors).any(|(theirs, floor)| theirs.sequence < floor) {
            return Err(Refused::TooOld);
        }
        Ok(self.stand(self.first(), cursor))
    }

    /// For one who gets from elsewhere what the ring does not have, and then resumes.
    pub fn await_resume(&self, mut cursor: Cursor) -> Stand {
        for (theirs, ours) in cursor.0.iter_mut().zip(&self.cursor.0) {
            theirs.incarnation.clone_from(&ours.incarnation);
        }
        self.stand(self.head, cursor)
    }

    pub fn reach(&self) -> Reach {
        Reach { floors: self.floors, cursor: self.cursor.clone() }
    }

    /// Whether all that this client was told has been read here as well.
    pub fn has_reached(&self, cursor: &Cursor) -> bool {
        cursor
            .0
            .iter()
            .zip(&self.cursor.0)
            .all(|(theirs, ours)| theirs.incarnation != ours.incarnation || theirs.sequence <= ours.sequence)
    }

    fn stand(&self, next: u64, cursor: Cursor) -> Stand {
        let had = std::array::from_fn(|stream| cursor.0[stream].sequence);
        Stand { next, cursor, had, generation: self.generation }
    }

    /// The next frames for a socket, and moves it on. Empty when it has had all.
    pub fn read(&self, stand: &mut Stand) -> Result<Vec<Utf8Bytes>, Lost> {
        if stand.generation != self.generation {
            return Err(Lost::StreamBeganAnew);
        }
        let skip = self.index(stand.next).ok_or(Lost::Overtaken)?;
        let mut frames = Vec::new();
        for Slot { entry, twin } in self.slots.range(skip.min(self.slots.len())..) {
            if frames.len() == ENTRIES_PER_READ_MAX {
                break;
            }
            stand.next += 1;
            // Another instance, that was ahead of us or read the streams in another order, has delivered it.
            let was_had = entry.sequence <= stand.cursor.0[entry.stream].sequence
                || twin.is_some_and(|(stream, sequence)| sequence <= stand.had[stream]);
            if !was_had {
                frames.push(self.frame(entry, &mut stand.cursor));
            }
        }
        Ok(frames)
    }

    /// A client that has come from elsewhere may be ahead in one stream and behind in another: its cursor must not go back.
    fn frame(&self, entry: &Entry, cursor: &mut Cursor) -> Utf8Bytes {
        let mut is_ours = true;
        for ((place, ours), position) in cursor.0.iter_mut().zip(&self.cursor.0).zip(entry.position) {
            if place.incarnation.is_none() {
                place.incarnation.clone_from(&ours.incarnation);
            }
            is_ours &= place.sequence <= position;
            place.sequence = place.sequence.max(position);
        }
        if is_ours { entry.text.clone() } else { entry.text_at(cursor) }
    }

    fn first(&self) -> u64 {
        self.head - self.slots.len() as u64
    }

    /// `None` when that entry is gone.
    fn index(&self, number: u64) -> Option<usize> {
        // In range: the ring is in memory.
        number.checked_sub(self.first()).map(|index| usize::try_from(index).unwrap_or(usize::MAX))
    }
}

/// The last event ids of a stream. The stream itself drops duplicates within two minutes; this is for a relay that was
/// frozen for longer.
#[derive(Debug, Default)]
struct Seen {
    hasher: RandomState,
    ids: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Seen {
    fn insert(&mut self, id: &str) -> bool {
        let hash = self.hasher.hash_one(id);
        if !self.ids.insert(hash) {
            return false;
        }
        self.order.push_back(hash);
        if self.order.len() > SEEN_EVENTS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use flack_api::frames::ModelClass;

    use super::*;
    use crate::entry::EntityVersion;

    const USERS: usize = 0;
    const MESSAGES: usize = 1;
    const MONOLITH: usize = 2;
    const EVENTS_MAX: u8 = 100;

    fn ring() -> Ring {
        let mut ring = Ring::new(Memory { events_max: EVENTS_MAX.into(), ..Memory::default() });
        ring.opened(USERS, "a", 10);
        ring.opened(MESSAGES, "b", 0);
        ring
    }

    fn tell(ring: &mut Ring, stream: usize, sequence: u64) {
        // All different: no twins.
        let id = i64::try_from(sequence * 10).unwrap() + i64::try_from(stream).unwrap();
        tell_version(ring, stream, sequence, id);
    }

    fn tell_version(ring: &mut Ring, stream: usize, sequence: u64, id: i64) {
        let model = format!(r#"{{"n":"{stream}/{sequence}","cursor":""#);
        let version = EntityVersion { class: ModelClass::Message, id, version: 1 };
        ring.advance(stream, sequence, Some(&Told { version, model }));
    }

    fn read_all(ring: &Ring, stand: &mut Stand) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let frames = ring.read(stand).unwrap();
            if frames.is_empty() {
                return all;
            }
            for frame in frames {
                let value: serde_json::Value = serde_json::from_str(&frame).unwrap();
                assert!(value["cursor"].as_str().unwrap().starts_with("a-b-"));
                all.push(value["n"].as_str().unwrap().to_owned());
            }
        }
    }

    #[test]
    fn who_joins_gets_what_comes_then() {
        let mut ring = ring();
        tell(&mut ring, USERS, 11);
        let mut stand = ring.join();
        tell(&mut ring, MESSAGES, 1);
        assert_eq!(read_all(&ring, &mut stand), ["1/1"]);
        assert_eq!(stand.cursor, ring.join().cursor);
    }

    #[test]
    fn who_resumes_gets_exactly_what_was_missed() {
        let mut ring = ring();
        tell(&mut ring, USERS, 11);
        tell(&mut ring, MESSAGES, 1);
        let left = ring.join().cursor;
        tell(&mut ring, MESSAGES, 2);
        tell(&mut ring, USERS, 12);
        let mut stand = ring.resume(left).unwrap();
        assert_eq!(read_all(&ring, &mut stand), ["1/2", "0/12"]);
    }

    #[test]
    fn the_cursor_of_an_instance_that_had_another_order_neither_repeats_nor_skips() {
        let mut ring = ring();
        // Here the user's event came first; there the message's did, and the client left behind it.
        let mut left = ring.join().cursor;
        left.0[MESSAGES].sequence = 1;
        tell(&mut ring, USERS, 11);
        let mut stand = ring.resume(left).unwrap();
        let frames = ring.read(&mut stand).unwrap();
        let frame: serde_json::Value = serde_json::from_str(&frames[0]).unwrap();
        assert_eq!(frame["cursor"], "a-b-0.11-1-0", "not back to before the message");
        tell(&mut ring, MESSAGES, 1);
        tell(&mut ring, MESSAGES, 2);
        assert_eq!(read_all(&ring, &mut stand), ["1/2"]);
    }

    #[test]
    fn a_cursor_from_before_the_ring_cannot_be_resumed() {
        let mut ring = ring();
        let mut left = ring.join().cursor;
        left.0[USERS].sequence = 9;
        assert_eq!(ring.resume(left).unwrap_err(), Refused::TooOld);

        let left = ring.join().cursor;
        for sequence in 1..=u64::from(EVENTS_MAX) + 1 {
            tell(&mut ring, MESSAGES, sequence);
        }
        assert_eq!(ring.resume(left.clone()).unwrap_err(), Refused::TooOld, "the first one is gone");
        let mut later = left;
        later.0[MESSAGES].sequence = 1;
        assert_eq!(read_all(&ring, &mut ring.resume(later).unwrap()).len(), usize::from(EVENTS_MAX));
    }

    #[test]
    fn a_cursor_of_another_incarnation_cannot_be_resumed() {
        let ring = ring();
        let mut left = ring.join().cursor;
        left.0[USERS].incarnation = Some("other".to_owned());
        assert_eq!(ring.resume(left).unwrap_err(), Refused::Foreign);
    }

    #[test]
    fn a_stream_that_came_later_is_new_as_a_whole() {
        let mut ring = ring();
        let left = ring.join().cursor;
        ring.opened(2, "c", 0);
        tell(&mut ring, 2, 1);
        let mut stand = ring.resume(left).unwrap();
        assert_eq!(ring.read(&mut stand).unwrap().len(), 1);
    }

    #[test]
    fn when_a_stream_begins_anew_nobody_goes_on_reading() {
        let mut ring = ring();
        let mut stand = ring.join();
        assert!(!ring.opened(USERS, "a", 10), "an interruption without a gap");
        assert_eq!(ring.read(&mut stand), Ok(vec![]));
        assert!(ring.opened(USERS, "other", 0));
        assert_eq!(ring.read(&mut stand), Err(Lost::StreamBeganAnew));
        assert_eq!(ring.resume(stand.cursor).unwrap_err(), Refused::Foreign);
    }

    #[test]
    fn who_is_overtaken_is_told() {
        let mut ring = ring();
        let mut stand = ring.join();
        for sequence in 1..=u64::from(EVENTS_MAX) + 1 {
            tell(&mut ring, MESSAGES, sequence);
        }
        assert_eq!(ring.read(&mut stand), Err(Lost::Overtaken));
    }

    #[test]
    fn an_event_is_new_once() {
        let mut ring = ring();
        assert!(ring.is_new(USERS, "users-1"));
        assert!(!ring.is_new(USERS, "users-1"));
        assert!(ring.is_new(MESSAGES, "users-1"));
    }

    #[test]
    fn what_two_streams_tell_is_told_once() {
        let mut ring = ring();
        ring.opened(MONOLITH, "c", 0);
        let mut stand = ring.join();
        tell_version(&mut ring, MONOLITH, 1, 7);
        tell_version(&mut ring, MESSAGES, 1, 7);
        tell_version(&mut ring, MESSAGES, 2, 8);
        tell_version(&mut ring, MONOLITH, 2, 8);
        assert_eq!(read_all(&ring, &mut stand), ["2/1", "1/2"]);
    }

    #[test]
    fn who_was_told_by_the_other_stream_at_another_instance_is_not_told_again() {
        let [mut here, mut there] = [ring(), ring()];
        for ring in [&mut here, &mut there] {
            ring.opened(MONOLITH, "c", 0);
        }
        let mut stand = there.join();
        tell_version(&mut there, MONOLITH, 1, 7);
        assert_eq!(read_all(&there, &mut stand), ["2/1"]);

        let before = here.join().cursor;
        tell_version(&mut here, MESSAGES, 1, 7);
        assert!(!here.has_reached(&stand.cursor), "the twin has not arrived here");
        tell_version(&mut here, MONOLITH, 1, 7);
        tell_version(&mut here, MESSAGES, 2, 8);
        assert!(here.has_reached(&stand.cursor));
        assert_eq!(read_all(&here, &mut here.resume(stand.cursor).unwrap()), ["1/2"]);
        assert_eq!(read_all(&here, &mut here.resume(before).unwrap()), ["1/1", "1/2"]);
    }

    #[test]
    fn one_stream_may_tell_the_same_version_again() {
        let mut ring = ring();
        let mut stand = ring.join();
        tell_version(&mut ring, MESSAGES, 1, 7);
        tell_version(&mut ring, MESSAGES, 2, 7);
        assert_eq!(read_all(&ring, &mut stand), ["1/1", "1/2"]);
    }
}
