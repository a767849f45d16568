//! The files of the browser app as they are in `static/`, compiled into the binary.

/// A file of `static/`.
#[derive(Debug)]
pub struct Asset {
    pub path: &'static str,
    pub kind: &'static str,
    pub bytes: &'static [u8],
}

impl Asset {
    pub fn text(&self) -> &'static str {
        str::from_utf8(self.bytes).expect("the files are UTF-8")
    }
}

pub const CSS: &str = "text/css; charset=utf-8";
pub const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! asset {
    ($path:literal, $kind:expr) => {
        Asset { path: $path, kind: $kind, bytes: include_bytes!(concat!("../static/", $path)) }
    };
}

/// All files; a test compares the list with the folder. Style sheets apply in this order.
pub const ASSETS: &[Asset] = &[
    asset!("css/base.css", CSS),
    asset!("css/chat.css", CSS),
    asset!("css/dialogs.css", CSS),
    asset!("css/files.css", CSS),
    asset!("css/messages.css", CSS),
    asset!("css/scenes.css", CSS),
    asset!("css/sign-in.css", CSS),
    asset!("js/api.js", JAVASCRIPT),
    asset!("js/attachments.js", JAVASCRIPT),
    asset!("js/channel-names.js", JAVASCRIPT),
    asset!("js/channels.js", JAVASCRIPT),
    asset!("js/composer.js", JAVASCRIPT),
    asset!("js/deleting.js", JAVASCRIPT),
    asset!("js/dom.js", JAVASCRIPT),
    asset!("js/files.js", JAVASCRIPT),
    asset!("js/heartbeat.js", JAVASCRIPT),
    asset!("js/interests.js", JAVASCRIPT),
    asset!("js/limit.js", JAVASCRIPT),
    asset!("js/lists.js", JAVASCRIPT),
    asset!("js/main.js", JAVASCRIPT),
    asset!("js/markdown-bar.js", JAVASCRIPT),
    asset!("js/mention-list.js", JAVASCRIPT),
    asset!("js/message.js", JAVASCRIPT),
    asset!("js/outbox.js", JAVASCRIPT),
    asset!("js/outbox-store.js", JAVASCRIPT),
    asset!("js/pages.js", JAVASCRIPT),
    asset!("js/photos.js", JAVASCRIPT),
    asset!("js/pins.js", JAVASCRIPT),
    asset!("js/preview.js", JAVASCRIPT),
    asset!("js/reactions.js", JAVASCRIPT),
    asset!("js/reading.js", JAVASCRIPT),
    asset!("js/rows.js", JAVASCRIPT),
    asset!("js/scenes.js", JAVASCRIPT),
    asset!("js/search.js", JAVASCRIPT),
    asset!("js/session.js", JAVASCRIPT),
    asset!("js/socket.js", JAVASCRIPT),
    asset!("js/state.js", JAVASCRIPT),
    asset!("js/theme-first.js", JAVASCRIPT),
    asset!("js/threads.js", JAVASCRIPT),
    asset!("js/time.js", JAVASCRIPT),
    asset!("js/typing.js", JAVASCRIPT),
    asset!("js/view-channel.js", JAVASCRIPT),
    asset!("js/view-channels.js", JAVASCRIPT),
    asset!("js/view-composer.js", JAVASCRIPT),
    asset!("js/view-connection.js", JAVASCRIPT),
    asset!("js/view-edit.js", JAVASCRIPT),
    asset!("js/view-interests.js", JAVASCRIPT),
    asset!("js/view-messages.js", JAVASCRIPT),
    asset!("js/view-new-channel.js", JAVASCRIPT),
    asset!("js/view-password.js", JAVASCRIPT),
    asset!("js/view-people.js", JAVASCRIPT),
    asset!("js/view-picker.js", JAVASCRIPT),
    asset!("js/view-profile.js", JAVASCRIPT),
    asset!("js/view-scenes.js", JAVASCRIPT),
    asset!("js/view-search.js", JAVASCRIPT),
    asset!("js/view-settings.js", JAVASCRIPT),
    asset!("js/view-sign-in.js", JAVASCRIPT),
    asset!("js/view-switcher.js", JAVASCRIPT),
    asset!("js/view-thread.js", JAVASCRIPT),
    asset!("favicon.svg", SVG),
];
