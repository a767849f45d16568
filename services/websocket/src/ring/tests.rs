use flack_api::frames_v2::ServerFrameClass as ModelClass;

use super::{
    frame::{EntityVersion, Frame},
    *,
};
use crate::{
    audience::Audience,
    memberships::{Membership, Memberships},
};

const USERS: usize = 0;
const MESSAGES: usize = 1;
const MONOLITH: usize = 2;
const EVENTS_MAX: u8 = 100;

fn ring() -> Ring {
    let mut ring = Ring::new(Retention { events_max: EVENTS_MAX.into(), ..Retention::default() });
    ring.open_stream(USERS, "a", 10, 10);
    ring.open_stream(MESSAGES, "b", 0, 0);
    ring
}

/// Adds version 1 of an entity that no other message of the test has.
fn add(ring: &mut Ring, stream: usize, sequence: u64) {
    let id = i64::try_from(sequence * 10).unwrap() + i64::try_from(stream).unwrap();
    add_entity(ring, stream, sequence, id);
}

/// Adds version 1 of an entity.
fn add_entity(ring: &mut Ring, stream: usize, sequence: u64, id: i64) {
    let text = format!("{stream}/{sequence}");
    add_frames(ring, stream, sequence, id, &[(Audience::Everyone, text.as_str())]);
}

/// Adds version 1 of an entity that has these frames.
fn add_frames(ring: &mut Ring, stream: usize, sequence: u64, id: i64, frames: &[(Audience, &str)]) {
    let frame =
        |(audience, n): &(Audience, &str)| Frame { audience: *audience, prefix: format!(r#"{{"n":"{n}","cursor":""#) };
    let version = EntityVersion { class: ModelClass::Message, id: (id, 0), version: 1 };
    ring.advance(stream, sequence, Some(&Update { version, frames: frames.iter().map(frame).collect() }));
}

fn read_all(ring: &Ring, position: &mut ReadPosition) -> Vec<String> {
    read_all_as(&Recipient::Version1, ring, position)
}

fn read_all_as(recipient: &Recipient, ring: &Ring, position: &mut ReadPosition) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let frames = ring.read(position, recipient).unwrap();
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
fn a_connection_without_a_cursor_gets_the_events_from_now_on() {
    let mut ring = ring();
    add(&mut ring, USERS, 11);
    let mut position = ring.position_at_head();
    add(&mut ring, MESSAGES, 1);
    assert_eq!(read_all(&ring, &mut position), ["1/1"]);
    assert_eq!(position.cursor, ring.position_at_head().cursor);
}

#[test]
fn a_cursor_is_resumed_with_exactly_the_missed_events() {
    let mut ring = ring();
    add(&mut ring, USERS, 11);
    add(&mut ring, MESSAGES, 1);
    let cursor = ring.position_at_head().cursor;
    add(&mut ring, MESSAGES, 2);
    add(&mut ring, USERS, 12);
    let mut position = ring.resume(cursor).unwrap();
    assert_eq!(read_all(&ring, &mut position), ["1/2", "0/12"]);
}

#[test]
fn a_cursor_of_an_instance_with_another_order_repeats_and_skips_nothing() {
    let mut ring = ring();
    // This instance reads the user first; the other one read the message first, and the client disconnected after it.
    let mut cursor = ring.position_at_head().cursor;
    cursor.0[MESSAGES].sequence = 1;
    add(&mut ring, USERS, 11);
    let mut position = ring.resume(cursor).unwrap();
    let frames = ring.read(&mut position, &Recipient::Version1).unwrap();
    let frame: serde_json::Value = serde_json::from_str(&frames[0]).unwrap();
    assert_eq!(frame["cursor"], "a-b-0.11-1-0", "the cursor does not go back to before the message");
    add(&mut ring, MESSAGES, 1);
    add(&mut ring, MESSAGES, 2);
    assert_eq!(read_all(&ring, &mut position), ["1/2"]);
}

#[test]
fn a_cursor_older_than_the_ring_is_not_resumed() {
    let mut ring = ring();
    let mut cursor = ring.position_at_head().cursor;
    cursor.0[USERS].sequence = 9;
    assert_eq!(ring.resume(cursor).unwrap_err(), NotResumable::TooOld);

    let cursor = ring.position_at_head().cursor;
    for sequence in 1..=u64::from(EVENTS_MAX) + 1 {
        add(&mut ring, MESSAGES, sequence);
    }
    assert_eq!(ring.resume(cursor.clone()).unwrap_err(), NotResumable::TooOld, "the first entry is gone");
    let mut later = cursor;
    later.0[MESSAGES].sequence = 1;
    assert_eq!(read_all(&ring, &mut ring.resume(later).unwrap()).len(), usize::from(EVENTS_MAX));
}

#[test]
fn a_cursor_of_another_incarnation_is_not_resumed() {
    let ring = ring();
    let mut cursor = ring.position_at_head().cursor;
    cursor.0[USERS].incarnation = Some("other".into());
    assert_eq!(ring.resume(cursor).unwrap_err(), NotResumable::OtherIncarnation);
}

#[test]
fn all_events_of_a_stream_that_was_created_later_are_new() {
    let mut ring = ring();
    let cursor = ring.position_at_head().cursor;
    ring.open_stream(MONOLITH, "c", 0, 0);
    add(&mut ring, MONOLITH, 1);
    let mut position = ring.resume(cursor).unwrap();
    assert_eq!(ring.read(&mut position, &Recipient::Version1).unwrap().len(), 1);
}

#[test]
fn after_a_stream_reset_no_connection_continues_to_read() {
    let mut ring = ring();
    let mut position = ring.position_at_head();
    assert!(!ring.open_stream(USERS, "a", 10, 10), "an interruption without a gap is no reset");
    assert_eq!(ring.read(&mut position, &Recipient::Version1), Ok(vec![]));
    assert!(ring.open_stream(USERS, "other", 0, 0));
    assert_eq!(ring.read(&mut position, &Recipient::Version1), Err(ReadError::StreamReset));
    assert_eq!(ring.resume(position.cursor).unwrap_err(), NotResumable::OtherIncarnation);
}

#[test]
fn what_nats_has_lost_is_not_delivered_again_after_a_reset_and_earlier_cursors_are_not_resumed() {
    let mut ring = ring();
    for sequence in 1..=3 {
        add(&mut ring, MESSAGES, sequence);
    }
    assert!(ring.open_stream(MESSAGES, "b", 1, 1), "the stream is shorter than what was read");
    let mut position = ring.position_at_head();
    let before = position.cursor.clone();
    for sequence in 2..=3 {
        assert!(ring.skip_repeated(MESSAGES, sequence));
    }
    assert_eq!(ring.resume(before).unwrap_err(), NotResumable::TooOld);
    add(&mut ring, MESSAGES, 4);
    assert_eq!(read_all(&ring, &mut position), ["1/4"]);
}

#[test]
fn what_nats_has_lost_before_this_instance_read_it_is_delivered() {
    let mut ring = ring();
    add(&mut ring, MESSAGES, 1);
    let mut position = ring.position_at_head();
    assert!(!ring.open_stream(MESSAGES, "b", 1, 1));
    assert!(!ring.skip_repeated(MESSAGES, 2));
    add(&mut ring, MESSAGES, 2);
    assert_eq!(read_all(&ring, &mut position), ["1/2"]);
}

#[test]
fn a_position_whose_next_entry_is_gone_has_lagged() {
    let mut ring = ring();
    let mut position = ring.position_at_head();
    for sequence in 1..=u64::from(EVENTS_MAX) + 1 {
        add(&mut ring, MESSAGES, sequence);
    }
    assert_eq!(ring.read(&mut position, &Recipient::Version1), Err(ReadError::Lagged));
}

#[test]
fn an_event_id_is_new_once_per_stream() {
    let mut ring = ring();
    assert!(ring.insert_event_id(USERS, "users-1"));
    assert!(!ring.insert_event_id(USERS, "users-1"));
    assert!(ring.insert_event_id(MESSAGES, "users-1"));
}

#[test]
fn a_version_in_two_streams_is_delivered_once() {
    let mut ring = ring();
    ring.open_stream(MONOLITH, "c", 0, 0);
    let mut position = ring.position_at_head();
    add_entity(&mut ring, MONOLITH, 1, 7);
    add_entity(&mut ring, MESSAGES, 1, 7);
    add_entity(&mut ring, MESSAGES, 2, 8);
    add_entity(&mut ring, MONOLITH, 2, 8);
    assert_eq!(read_all(&ring, &mut position), ["2/1", "1/2"]);
}

#[test]
fn a_duplicate_of_what_another_instance_delivered_is_not_delivered_here() {
    let [mut here, mut there] = [ring(), ring()];
    for ring in [&mut here, &mut there] {
        ring.open_stream(MONOLITH, "c", 0, 0);
    }
    let mut position = there.position_at_head();
    add_entity(&mut there, MONOLITH, 1, 7);
    assert_eq!(read_all(&there, &mut position), ["2/1"]);

    let before = here.position_at_head().cursor;
    add_entity(&mut here, MESSAGES, 1, 7);
    assert!(!here.has_reached(&position.cursor), "this instance has not read the duplicate yet");
    add_entity(&mut here, MONOLITH, 1, 7);
    add_entity(&mut here, MESSAGES, 2, 8);
    assert!(here.has_reached(&position.cursor));
    assert_eq!(read_all(&here, &mut here.resume(position.cursor).unwrap()), ["1/2"]);
    assert_eq!(read_all(&here, &mut here.resume(before).unwrap()), ["1/1", "1/2"]);
}

#[test]
fn one_stream_may_deliver_the_same_version_again() {
    let mut ring = ring();
    let mut position = ring.position_at_head();
    add_entity(&mut ring, MESSAGES, 1, 7);
    add_entity(&mut ring, MESSAGES, 2, 7);
    assert_eq!(read_all(&ring, &mut position), ["1/1", "1/2"]);
}

#[test]
fn a_client_receives_the_first_frame_that_is_for_it_and_the_cursor_counts_the_others() {
    let mut ring = ring();
    let memberships = Memberships::default();
    let user = memberships.register(7);
    user.merge([Membership { channel_id: 4, version: 1, is_member: true }]);
    let start = ring.position_at_head().cursor;
    add_frames(&mut ring, MESSAGES, 1, 1, &[(Audience::Version1, "one"), (Audience::Version2, "two")]);
    add_frames(&mut ring, MESSAGES, 2, 2, &[(Audience::Members(4), "mine")]);
    add_frames(&mut ring, MESSAGES, 3, 3, &[(Audience::Members(5), "secret")]);
    add_frames(&mut ring, MESSAGES, 4, 4, &[(Audience::User(7), "own"), (Audience::Members(4), "of others")]);
    let recipients = [Recipient::Version1, Recipient::Anonymous, Recipient::User(user)];
    let mut positions = recipients.each_ref().map(|_| ring.resume(start.clone()).unwrap());
    let expected = [(&["one"][..], 3), (&["two"], 3), (&["two", "mine", "own"], 0)];
    for ((recipient, position), (expected, skipped)) in recipients.iter().zip(&mut positions).zip(expected) {
        assert_eq!(read_all_as(recipient, &ring, position), expected);
        assert_eq!((position.next, position.skipped), (ring.head(), skipped), "entries for others are read as well");
        assert_eq!(position.cursor, ring.position_at_head().cursor);
    }
    add_frames(&mut ring, MESSAGES, 5, 5, &[(Audience::Everyone, "next")]);
    for (recipient, position) in recipients.iter().zip(&mut positions) {
        assert_eq!(read_all_as(recipient, &ring, position), ["next"]);
        assert_eq!(position.skipped, 0);
    }
}

#[test]
fn all_frames_of_an_entry_count_as_bytes() {
    let mut ring = Ring::new(Retention { bytes_max: 200, ..Retention::default() });
    let text = "x".repeat(60);
    let frames = [(Audience::Version1, text.as_str()), (Audience::Version2, &text)];
    add_frames(&mut ring, MESSAGES, 1, 1, &frames);
    assert!(ring.bytes > 120);
    add_frames(&mut ring, MESSAGES, 2, 2, &frames);
    assert_eq!((ring.entries.len(), ring.retained_after[MESSAGES]), (1, 1), "both entries have more than 200 bytes");
}
