//! The pages of `/api/docs`: without scripts, with one style sheet, and with headers that allow nothing else.

use axum::response::{IntoResponse, Response};
use http::header;
use pulldown_cmark::{Event, Parser, Tag, TagEnd, html::push_html};

const CONTENT_SECURITY_POLICY: &str =
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub const STYLE: &str = include_str!("../../templates/page.css");

/// A page without scripts.
pub fn page(html: &'static str) -> Response {
    answer("text/html; charset=utf-8", CONTENT_SECURITY_POLICY, html)
}

pub fn answer(kind: &'static str, policy: &'static str, body: impl IntoResponse) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, body).into_response()
}

/// Renders our own Markdown as HTML. The id of a heading is its text, so links can refer to it.
pub fn markdown(text: &str) -> String {
    let mut events: Vec<Event<'_>> = Parser::new(text).collect();
    for index in 0..events.len() {
        let title = events[index..].iter().map_while(|event| match event {
            Event::End(TagEnd::Heading(_)) => None,
            Event::Text(words) | Event::Code(words) => Some(words.replace(char::is_whitespace, "-")),
            _ => Some(String::new()),
        });
        let anchor: String = title.collect();
        if let Event::Start(Tag::Heading { id, .. }) = &mut events[index] {
            *id = Some(anchor.to_lowercase().into());
        }
    }
    let mut html = String::new();
    push_html(&mut html, events.into_iter());
    html
}
