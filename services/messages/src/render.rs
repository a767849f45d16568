//! Markdown to HTML that is safe in a page, followed by the previews of linked pages.
//!
//! The second of two independent defences: an HTML parser removes every tag and attribute that is not in a short list,
//! whatever `markdown` produced.

use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

use ammonia::{Builder, UrlRelative};
use flack_api::Problem;
use pulldown_cmark::{Event, Tag, TagEnd, html::push_html};

use crate::{
    markdown,
    model::{self, Preview, Rendered},
};

/// Every tag that a message can contain. The browser app has styles for exactly these.
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

/// Only the first links of a message have previews.
pub const PREVIEWS_PER_MESSAGE_MAX: usize = 3;

/// A message with longer HTML is shown as plain text: its event must fit into a NATS message (1 MiB). Reference links
/// (`[a][long]` a thousand times) make long HTML of a short source.
pub const HTML_BYTES_MAX: usize = 131_072;

static CLEANER: LazyLock<Builder<'static>> = LazyLock::new(|| {
    let mut cleaner = Builder::empty();
    cleaner
        .tags(HashSet::from(TAGS))
        // `script` and `style` are removed with their content; of other tags only the tag is removed.
        .clean_content_tags(HashSet::from(["script", "style"]))
        .tag_attributes(HashMap::from([("a", HashSet::from(["href"])), ("ol", HashSet::from(["start"]))]))
        .url_schemes(HashSet::from(["http", "https"]))
        .url_relative(UrlRelative::Deny)
        .link_rel(Some("nofollow noopener noreferrer"))
        .set_tag_attribute_value("a", "target", "_blank");
    cleaner
});

/// Renders a new or edited message from its Markdown. 400 when it contains a NUL character.
pub fn message(source: &str) -> Result<Rendered<'_>, Problem> {
    if source.contains('\0') {
        return Err(model::nul_in_source());
    }
    Ok(Rendered { source, html: render(source, &[]), links: links(source) })
}

/// Returns the HTML of a message. It depends on nothing but the arguments.
pub fn render(source: &str, previews: &[Preview]) -> String {
    let html = to_html(markdown::events(source), previews);
    if html.len() <= HTML_BYTES_MAX { html } else { to_html(markdown::plain_events(source), previews) }
}

/// Removes everything that a message may not contain.
pub fn clean(html: &str) -> String {
    CLEANER.clean(html).to_string()
}

/// Returns the addresses of the pages to preview: the first links of the message, without duplicates.
pub fn links(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    for event in markdown::events(source) {
        let Event::Start(Tag::Link { dest_url, .. }) = event else { continue };
        let Some(mut url) = markdown::web_address(&dest_url) else { continue };
        // Addresses that differ only in the fragment are the same page.
        url.set_fragment(None);
        // An address with credentials is not fetched.
        if url.username().is_empty() && url.password().is_none() && !found.contains(&url) {
            found.push(url);
        }
        if found.len() == PREVIEWS_PER_MESSAGE_MAX {
            break;
        }
    }
    found.into_iter().map(Into::into).collect()
}

fn to_html<'a>(mut events: Vec<Event<'a>>, previews: &'a [Preview]) -> String {
    for preview in previews {
        quote(preview, &mut events);
    }
    let mut html = String::new();
    push_html(&mut html, events.into_iter());
    clean(&html)
}

/// Appends a preview as events, not as HTML: the text of another site is escaped by the same code as the message.
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
