//! Frames from a client, in both versions, and cursors.

use flack_api::{frames, frames_v2};
use flack_websocket::cursor::Cursor;
use serde::{Serialize, de::DeserializeOwned};

pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    check_cursor(text);
    check_frame::<frames_v2::ClientFrame>(text);
    if let Some(frames::ClientFrame::Hello { cursor: Some(cursor), .. }) = check_frame(text) {
        check_cursor(&cursor);
    }
}

fn check_frame<Frame: DeserializeOwned + Serialize>(text: &str) -> Option<Frame> {
    let frame = serde_json::from_str(text).ok()?;
    let written = serde_json::to_string(&frame).expect("a frame is plain data");
    let again: Frame = serde_json::from_str(&written).expect("a written frame is a frame");
    assert_eq!(serde_json::to_string(&again).expect("a frame is plain data"), written);
    Some(frame)
}

fn check_cursor(text: &str) {
    if let Some(cursor) = Cursor::parse(text) {
        assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
    }
}
