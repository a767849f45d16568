//! Frames from a client, and cursors.

use flack_api::frames::ClientFrame;
use flack_websocket::cursor::Cursor;

pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    check_cursor(text);
    let Ok(frame) = serde_json::from_str::<ClientFrame>(text) else { return };
    let written = serde_json::to_string(&frame).expect("a frame is plain data");
    let again: ClientFrame = serde_json::from_str(&written).expect("a written frame is a frame");
    assert_eq!(serde_json::to_string(&again).expect("a frame is plain data"), written);
    if let ClientFrame::Hello { cursor: Some(cursor), .. } = &frame {
        check_cursor(cursor);
    }
}

fn check_cursor(text: &str) {
    if let Some(cursor) = Cursor::parse(text) {
        assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
    }
}
