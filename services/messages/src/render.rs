//! Markdown to HTML that is safe in a page, followed by the previews of linked pages.
//!
//! The second of two independent defences: an HTML parser removes every tag and attribute that is not in a short list,
//! whatever `markdown` produced.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::LazyLock,
};

use ammonia::{Builder, UrlRelative};
use flack_api::{Problem, events::PreviewModel};
use pulldown_cmark::{Event, Tag, TagEnd, html::push_html};

use crate::{
    markdown::{self, Document},
    mentions::Mentions,
    model::{self, Rendered},
};

/// Every tag that a message can contain. The browser app has styles for exactly these.
pub const TAGS: [&str; 24] = [
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
    "mark",
    "ol",
    "p",
    "pre",
    "strong",
    "table",
    "tbody",
    "td",
    "th",
    "thead",
    "tr",
    "ul",
];

/// Only the first links of a message have previews.
pub const PREVIEWS_PER_MESSAGE_MAX: usize = 3;

/// HTML of each byte of the source, beyond `FREE_HTML_BYTES`. Escaped text needs at most 5, links of the usual length
/// at most 6, and code less than 2. Sources that need more repeat empty structure or a reference (`[a][long]`): they
/// are shown as plain text, so that an author does not make every client receive many times what the author sends.
const HTML_BYTES_PER_SOURCE_BYTE_MAX: usize = 8;
/// A short message may be all markup.
const FREE_HTML_BYTES: usize = 1024;
/// Enough for the longest plain text. An event must fit into a NATS message (1 MiB).
pub const HTML_BYTES_MAX: usize = 65_536;
/// A preview with longer HTML is left out. Title and description in any script fit, beside an address of usual length.
pub const PREVIEW_HTML_BYTES_MAX: usize = 4096;

static CLEANER: LazyLock<Builder<'static>> = LazyLock::new(|| {
    let mut cleaner = Builder::empty();
    cleaner
        .tags(HashSet::from(TAGS))
        // `script` and `style` are removed with their content; of other tags only the tag is removed.
        .clean_content_tags(HashSet::from(["script", "style"]))
        .tag_attributes(HashMap::from([
            ("a", HashSet::from(["href"])),
            ("mark", HashSet::from(["data-user-id"])),
            ("ol", HashSet::from(["start"])),
        ]))
        .url_schemes(HashSet::from(["http", "https"]))
        .url_relative(UrlRelative::Deny)
        .link_rel(Some("nofollow noopener noreferrer"))
        .set_tag_attribute_value("a", "target", "_blank");
    cleaner
});

/// Returns the names in a message that may be nicknames of mentioned users, in lower case.
pub fn candidates(source: &str) -> BTreeSet<String> {
    // Nearly all messages mention nobody.
    if source.contains('@') { markdown::parse(source, BTreeMap::new()).candidates } else { BTreeSet::new() }
}

/// Renders a new or edited message from its Markdown. `users` are those that it can mention. 400 when it contains a NUL
/// character.
pub fn message(source: &str, users: BTreeMap<i64, String>) -> Result<Rendered<'_>, Problem> {
    if source.contains('\0') {
        return Err(model::nul_in_source());
    }
    let (html, links, mentions) = body(source, users);
    Ok(Rendered { source, html, links, mentions })
}

/// A message with the previews of its links.
#[derive(Debug)]
pub struct Previewed {
    /// With a quotation for each preview at its end.
    pub html: String,
    /// The byte at which the quotations begin.
    pub start: usize,
    pub previews: Vec<PreviewModel>,
}

/// Adds the previews of its links to the HTML of a message. It depends on nothing but the arguments.
pub fn render(source: &str, mentions: Mentions, mut previews: Vec<PreviewModel>) -> Previewed {
    let (mut html, ..) = body(source, mentions.users);
    let start = html.len();
    previews.truncate(PREVIEWS_PER_MESSAGE_MAX);
    previews.retain(|preview| {
        let quote = to_html(quote(preview));
        let fits = quote.len() <= PREVIEW_HTML_BYTES_MAX;
        if fits {
            html.push_str(&quote);
        }
        fits
    });
    Previewed { html, start, previews }
}

/// Returns the HTML of a message without previews, the addresses to preview, and whom it mentions. A message shown as
/// plain text has neither, because it shows no links and no marks.
fn body(source: &str, users: BTreeMap<i64, String>) -> (String, Vec<String>, Mentions) {
    let html_bytes_max = (HTML_BYTES_PER_SOURCE_BYTE_MAX * source.len() + FREE_HTML_BYTES).min(HTML_BYTES_MAX);
    let Document { events, mentions, .. } = markdown::parse(source, users);
    let links = links(&events);
    // Cleaning takes most of the time, so HTML that is too long already is not cleaned.
    let html = Some(unclean_html(events)).filter(|html| html.len() <= html_bytes_max).map(|html| clean(&html));
    match html.filter(|html| html.len() <= html_bytes_max) {
        Some(html) => (html, links, mentions),
        None => (to_html(markdown::plain_events(source)), Vec::new(), Mentions::default()),
    }
}

/// Removes everything that a message may not contain.
pub fn clean(html: &str) -> String {
    CLEANER.clean(html).to_string()
}

/// Returns the addresses of the pages to preview: the first links of the message, without duplicates.
fn links(events: &[Event<'_>]) -> Vec<String> {
    let mut found = Vec::new();
    for event in events {
        let Event::Start(Tag::Link { dest_url, .. }) = event else { continue };
        let Some(mut url) = markdown::web_address(dest_url) else { continue };
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

fn to_html(events: Vec<Event<'_>>) -> String {
    clean(&unclean_html(events))
}

fn unclean_html(events: Vec<Event<'_>>) -> String {
    let mut html = String::new();
    push_html(&mut html, events.into_iter());
    html
}

/// Returns a preview as events, not as HTML: the text of another site is escaped by the same code as the message.
fn quote(preview: &PreviewModel) -> Vec<Event<'_>> {
    let mut events = vec![
        Event::Start(Tag::BlockQuote(None)),
        Event::Start(Tag::Paragraph),
        Event::Start(markdown::link(preview.url.as_str().into())),
        Event::Text(preview.title.as_str().into()),
        Event::End(TagEnd::Link),
        Event::End(TagEnd::Paragraph),
    ];
    if let Some(description) = &preview.description {
        events.extend([
            Event::Start(Tag::Paragraph),
            Event::Text(description.as_str().into()),
            Event::End(TagEnd::Paragraph),
        ]);
    }
    events.push(Event::End(TagEnd::BlockQuote(None)));
    events
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
