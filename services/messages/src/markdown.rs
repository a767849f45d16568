//! Markdown to harmless events: the first of two independent defences against HTML that a browser would execute.
//!
//! Raw HTML becomes text, links become web links or text, images become links, nesting is limited, bare addresses
//! become links, codes such as `:tada:` become emoji, and mentions are marked. `render` turns the events into HTML and
//! cleans it again.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use linkify::{LinkFinder, LinkKind};
use pulldown_cmark::{CowStr, Event, HeadingLevel, LinkType, Options, Parser, Tag, TagEnd, TextMergeStream};
use regress::Regex;
use url::Url;

use crate::mentions::{self, Mentions, Span};

/// Deeper structure is dropped and its text is kept: 8,192 nested block quotes are expensive for a browser.
const NESTING_LEVELS_MAX: usize = 16;

/// A table adds the cells that a row lacks. The HTML of more events is too long for a message (`HTML_BYTES_MAX` of
/// `render`), because each event has at least one byte.
const EVENTS_MAX: usize = 65_536;

/// Not in a word or a time, such as `10:30:45`.
static EMOJI_CODE: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r"(?<![\p{L}\p{N}_]):[a-z0-9_+\-]+:(?![\p{L}\p{N}_])";
    Regex::with_flags(pattern, "u").expect("a valid pattern")
});

/// Longer addresses are shown as text. Browsers and proxies support this length.
pub const URL_BYTES_MAX: usize = 2048;

/// A message without raw HTML, except the marks of mentions; every link is a web address.
#[derive(Default)]
pub struct Document<'a> {
    pub events: Vec<Event<'a>>,
    /// Whom the events mark.
    pub mentions: Mentions,
    /// What may be the nickname of a mentioned user, in lower case.
    pub candidates: BTreeSet<String>,
    /// The users that can be mentioned.
    users: BTreeMap<i64, String>,
    /// For each open tag of the source its end tag, or nothing when the tag was dropped.
    open: Vec<Option<TagEnd>>,
    in_link: bool,
    in_code: bool,
    in_raw_html: bool,
}

/// Parses a message. `users` are those that it can mention.
pub fn parse(source: &str, users: BTreeMap<i64, String>) -> Document<'_> {
    let options = Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TABLES | Options::ENABLE_TASKLISTS;
    let parsed = Parser::new_ext(source, options).map(|event| match event {
        Event::Html(text) | Event::InlineHtml(text) => Event::Text(text),
        // Not a checkbox, which nobody could check.
        Event::TaskListMarker(is_done) => Event::Text(CowStr::Borrowed(if is_done { "☑ " } else { "☐ " })),
        other => other,
    });
    let mut document = Document { users, ..Document::default() };
    for event in TextMergeStream::new(parsed) {
        document.push(event);
        if document.events.len() > EVENTS_MAX {
            break;
        }
    }
    document
}

/// Returns the message as one paragraph of text.
pub fn plain_events(source: &str) -> Vec<Event<'_>> {
    let mut document = Document::default();
    document.start(Tag::Paragraph);
    document.push_lines(source);
    document.end();
    document.events
}

/// Parses an absolute `http` or `https` address of at most `URL_BYTES_MAX` bytes.
pub fn web_address(text: &str) -> Option<Url> {
    if text.len() > URL_BYTES_MAX {
        return None;
    }
    // The normalized address is used, because a browser may parse an unusual one differently.
    let url = Url::parse(text).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host() && url.as_str().len() <= URL_BYTES_MAX).then_some(url)
}

impl<'a> Document<'a> {
    fn push(&mut self, event: Event<'a>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(_) => self.end(),
            Event::Text(text) if self.in_raw_html => self.push_lines(&text),
            Event::Text(text) if self.in_link || self.in_code => self.events.push(Event::Text(text)),
            Event::Text(text) => self.push_with_links(&text),
            // In a chat, a line break of the source is shown.
            Event::SoftBreak => self.events.push(Event::HardBreak),
            Event::Code(_) | Event::HardBreak | Event::Rule => self.events.push(event),
            // Extensions that are not enabled, and HTML, which has become text.
            _ => {}
        }
    }

    fn start(&mut self, tag: Tag<'a>) {
        let kept = if self.open.iter().flatten().count() < NESTING_LEVELS_MAX { self.accept(tag) } else { None };
        self.open.push(kept.as_ref().map(Tag::to_end));
        self.events.extend(kept.map(Event::Start));
    }

    /// Returns the tag as it is allowed here, or nothing.
    fn accept(&mut self, tag: Tag<'a>) -> Option<Tag<'a>> {
        match tag {
            Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. } => {
                if self.in_link {
                    return None;
                }
                let address = web_address(&dest_url)?;
                self.in_link = true;
                Some(link(String::from(address).into()))
            }
            Tag::HtmlBlock => {
                self.in_raw_html = true;
                Some(Tag::Paragraph)
            }
            Tag::CodeBlock(_) => {
                self.in_code = true;
                Some(tag)
            }
            Tag::Heading { level, .. } => {
                Some(Tag::Heading { level: demoted(level), id: None, classes: Vec::new(), attrs: Vec::new() })
            }
            // Without the alignment of its columns, which would be styles.
            Tag::Table(_) => Some(Tag::Table(Vec::new())),
            _ => Some(tag),
        }
    }

    fn end(&mut self) {
        let closed = self.open.pop().flatten();
        match closed {
            Some(TagEnd::Link) => {
                self.in_link = false;
                // A link without text, such as `[](https://a.example)`, shows its address.
                if let Some(Event::Start(Tag::Link { dest_url, .. })) = self.events.last() {
                    let shown = dest_url.clone();
                    self.events.push(Event::Text(shown));
                }
            }
            Some(TagEnd::CodeBlock) => self.in_code = false,
            Some(TagEnd::Paragraph) => self.in_raw_html = false,
            _ => {}
        }
        self.events.extend(closed.map(Event::End));
    }

    /// Adds text, turns bare addresses into links, and marks mentions.
    fn push_with_links(&mut self, text: &str) {
        let mut finder = LinkFinder::new();
        finder.kinds(&[LinkKind::Url]);
        for span in finder.spans(text) {
            match span.kind().and_then(|_| web_address(span.as_str())) {
                Some(address) => self.events.extend([
                    Event::Start(link(String::from(address).into())),
                    Event::Text(span.as_str().to_owned().into()),
                    Event::End(TagEnd::Link),
                ]),
                None => self.push_with_mentions(span.as_str()),
            }
        }
    }

    fn push_with_mentions(&mut self, text: &str) {
        let text = with_emoji(text);
        mentions::add_candidates(&text, &mut self.candidates);
        for span in mentions::spans(&text, &self.users) {
            let (mark, shown) = match span {
                Span::Text(text) => {
                    self.events.push(Event::Text(text.to_owned().into()));
                    continue;
                }
                Span::User(id, shown) => {
                    self.mentions.users.extend(self.users.get(&id).map(|nickname| (id, nickname.clone())));
                    (format!("<mark data-user-id=\"{id}\">"), shown)
                }
                Span::Everyone(shown) => {
                    self.mentions.everyone = true;
                    ("<mark>".to_owned(), shown)
                }
            };
            self.events.extend([
                Event::InlineHtml(mark.into()),
                Event::Text(shown.to_owned().into()),
                Event::InlineHtml("</mark>".into()),
            ]);
        }
    }

    fn push_lines(&mut self, text: &str) {
        let mut first = true;
        for line in text.trim_end().lines() {
            if !std::mem::take(&mut first) {
                self.events.push(Event::HardBreak);
            }
            self.events.push(Event::Text(line.to_owned().into()));
        }
    }
}

/// Replaces codes of emoji. Others stay as they are.
fn with_emoji(text: &str) -> Cow<'_, str> {
    if !text.contains(':') {
        return text.into();
    }
    let replaced = EMOJI_CODE.replace_all_with(text, |found| {
        let code = &text[found.range()];
        emojis::get_by_shortcode(code.trim_matches(':')).map_or(code, |emoji| emoji.as_str()).to_owned()
    });
    replaced.into()
}

/// Returns the tag of a link to a web address.
pub fn link(address: CowStr<'_>) -> Tag<'_> {
    Tag::Link { link_type: LinkType::Inline, dest_url: address, title: CowStr::Borrowed(""), id: CowStr::Borrowed("") }
}

/// The page itself uses h1 and h2.
fn demoted(level: HeadingLevel) -> HeadingLevel {
    match level {
        HeadingLevel::H1 => HeadingLevel::H3,
        HeadingLevel::H2 => HeadingLevel::H4,
        HeadingLevel::H3 => HeadingLevel::H5,
        HeadingLevel::H4 | HeadingLevel::H5 | HeadingLevel::H6 => HeadingLevel::H6,
    }
}
