//! Markdown to HTML that is safe to put into a page, with the previews of linked pages below.
//!
//! The second wall: whatever `markdown` let through is cleaned to a short list of tags by a real HTML parser.

use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

use ammonia::{Builder, UrlRelative};
use pulldown_cmark::{Event, Tag, TagEnd, html::push_html};
use url::Url;

use crate::markdown;

/// Every tag that a message can have; tests and the browser's style sheet know them too.
pub const TAGS: [&str; 17] = [
    "a",
    "blockquote",
    "br",
    "code",
    "del",
    "em",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "li",
    "ol",
    "p",
    "pre",
    "strong",
    "ul",
];

/// How many linked pages of a message are previewed: the first ones.
pub const PREVIEWS_PER_MESSAGE_MAX: usize = 3;

/// Reference links (`[a][long]` a thousand times) can make much of little. What would grow beyond this is shown as
/// plain text: an event with it must fit into a message of the pipeline (1 MiB).
pub const HTML_BYTES_MAX: usize = 131_072;

/// What a linked page says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    pub url: String,
    pub title: String,
    pub description: Option<String>,
}

static CLEANER: LazyLock<Builder<'static>> = LazyLock::new(|| {
    let mut cleaner = Builder::empty();
    cleaner
        .tags(HashSet::from(TAGS))
        // `script` and `style` go with all they contain; of other tags the text stays.
        .clean_content_tags(HashSet::from(["script", "style"]))
        .tag_attributes(HashMap::from([("a", HashSet::from(["href"])), ("ol", HashSet::from(["start"]))]))
        .url_schemes(HashSet::from(["http", "https"]))
        .url_relative(UrlRelative::Deny)
        .link_rel(Some("nofollow noopener noreferrer"))
        .set_tag_attribute_value("a", "target", "_blank");
    cleaner
});

/// The message's `html`. The same source and previews always give the same.
pub fn render(source: &str, previews: &[Preview]) -> String {
    let html = to_html(markdown::events(source), previews);
    if html.len() <= HTML_BYTES_MAX { html } else { to_html(markdown::plain_events(source), previews) }
}

/// HTML reduced to what a message may contain.
pub fn clean(html: &str) -> String {
    CLEANER.clean(html).to_string()
}

/// The pages that the message links, each once, in order, as many as are previewed.
pub fn links(source: &str) -> Vec<Url> {
    let mut found: Vec<Url> = Vec::new();
    for event in markdown::events(source) {
        let Event::Start(Tag::Link { dest_url, .. }) = event else { continue };
        let Some(mut url) = markdown::web_address(&dest_url) else { continue };
        // A place within the page is the same page; a secret in the address is not ours to use.
        url.set_fragment(None);
        if url.username().is_empty() && url.password().is_none() && !found.contains(&url) {
            found.push(url);
        }
        if found.len() == PREVIEWS_PER_MESSAGE_MAX {
            break;
        }
    }
    found
}

fn to_html<'a>(mut events: Vec<Event<'a>>, previews: &'a [Preview]) -> String {
    for preview in previews {
        quote(preview, &mut events);
    }
    let mut html = String::new();
    push_html(&mut html, events.into_iter());
    clean(&html)
}

/// As events rather than HTML: what another site wrote is escaped by the same code as everything else.
fn quote<'a>(preview: &'a Preview, events: &mut Vec<Event<'a>>) {
    events.extend([
        Event::Start(Tag::BlockQuote(None)),
        Event::Start(Tag::Paragraph),
        Event::Start(markdown::link(preview.url.as_str().into())),
        Event::Text(preview.title.as_str().into()),
        Event::End(TagEnd::Link),
        Event::End(TagEnd::Paragraph),
    ]);
    if let Some(description) = &preview.description {
        events.extend([
            Event::Start(Tag::Paragraph),
            Event::Text(description.as_str().into()),
            Event::End(TagEnd::Paragraph),
        ]);
    }
    events.push(Event::End(TagEnd::BlockQuote(None)));
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
