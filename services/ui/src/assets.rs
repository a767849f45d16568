//! The files of the browser app, compiled into the binary.

/// A file that is served below `/static/`.
#[derive(Debug)]
pub struct Asset {
    pub path: &'static str,
    pub kind: &'static str,
    pub bytes: &'static [u8],
}

const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! asset {
    ($path:literal, $kind:expr) => {
        Asset { path: $path, kind: $kind, bytes: include_bytes!(concat!("../static/", $path)) }
    };
}

/// All files; a test compares the list with the folder. Style sheets are linked in this order.
pub const ASSETS: &[Asset] = &[
    asset!("css/base.css", CSS),
    asset!("css/chat.css", CSS),
    asset!("css/messages.css", CSS),
    asset!("css/sign-in.css", CSS),
    asset!("js/api.js", JAVASCRIPT),
    asset!("js/dom.js", JAVASCRIPT),
    asset!("js/heartbeat.js", JAVASCRIPT),
    asset!("js/main.js", JAVASCRIPT),
    asset!("js/message.js", JAVASCRIPT),
    asset!("js/outbox.js", JAVASCRIPT),
    asset!("js/reading.js", JAVASCRIPT),
    asset!("js/session.js", JAVASCRIPT),
    asset!("js/socket.js", JAVASCRIPT),
    asset!("js/state.js", JAVASCRIPT),
    asset!("js/theme-first.js", JAVASCRIPT),
    asset!("js/time.js", JAVASCRIPT),
    asset!("js/view-composer.js", JAVASCRIPT),
    asset!("js/view-connection.js", JAVASCRIPT),
    asset!("js/view-edit.js", JAVASCRIPT),
    asset!("js/view-messages.js", JAVASCRIPT),
    asset!("js/view-password.js", JAVASCRIPT),
    asset!("js/view-people.js", JAVASCRIPT),
    asset!("js/view-settings.js", JAVASCRIPT),
    asset!("js/view-sign-in.js", JAVASCRIPT),
    asset!("favicon.svg", SVG),
];
