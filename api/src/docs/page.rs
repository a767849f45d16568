//! The pages of `/api/docs`: without scripts, with one style sheet, and with headers that allow nothing else.

use std::{borrow::Cow, collections::BTreeMap};

use axum::response::{IntoResponse, Response};
use http::header;
use pulldown_cmark::{Event, Parser, Tag, TagEnd, html::push_html};

const CONTENT_SECURITY_POLICY: &str =
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub const STYLE: &str = include_str!("../../templates/page.css");

pub fn answer(html: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, html).into_response()
}

/// Renders our own Markdown as HTML. The id of a heading is its text, so links can refer to it.
pub fn markdown(text: &str) -> String {
    let mut events: Vec<Event<'_>> = Parser::new(text).collect();
    let mut ids = BTreeMap::new();
    let mut open = None;
    for (index, event) in events.iter().enumerate() {
        match event {
            Event::Start(Tag::Heading { .. }) => open = Some((index, String::new())),
            Event::Text(words) | Event::Code(words) => {
                if let Some((_, title)) = &mut open {
                    title.push_str(words);
                }
            }
            Event::End(TagEnd::Heading(_)) => ids.extend(open.take()),
            _ => {}
        }
    }
    for (index, title) in ids {
        if let Event::Start(Tag::Heading { id, .. }) = &mut events[index] {
            *id = Some(anchor(&title).into_owned().into());
        }
    }
    let mut html = String::new();
    push_html(&mut html, events.into_iter());
    html
}

fn anchor(title: &str) -> Cow<'_, str> {
    if title.contains(|letter: char| letter.is_whitespace() || letter.is_uppercase()) {
        title.to_lowercase().replace(char::is_whitespace, "-").into()
    } else {
        title.into()
    }
}
