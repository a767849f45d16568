//! Markdown to a stream of harmless events: the first of two walls between what people type and what browsers run.
//!
//! Here raw HTML becomes text, links become web links or text, images become links, nesting gets a floor, and bare
//! addresses become links. Turning events into HTML, and cleaning that once more, is `render`'s.

use linkify::{LinkFinder, LinkKind};
use pulldown_cmark::{CowStr, Event, HeadingLevel, LinkType, Options, Parser, Tag, TagEnd, TextMergeStream};
use url::Url;

/// Quotes in lists in quotes ... deeper than anybody reads. Text further down stays, its structure does not:
/// 8,192 nested block quotes cost a browser far more than us.
const NESTING_LEVELS_MAX: usize = 16;

/// Longer addresses are shown as text. Browsers and proxies agree on this much.
pub const URL_BYTES_MAX: usize = 2048;

/// The message as events that contain no raw HTML and no link but to the web.
pub fn events(source: &str) -> Vec<Event<'_>> {
    let parsed = Parser::new_ext(source, Options::ENABLE_STRIKETHROUGH).map(|event| match event {
        Event::Html(text) | Event::InlineHtml(text) => Event::Text(text),
        other => other,
    });
    let mut document = Document::default();
    for event in TextMergeStream::new(parsed) {
        document.push(event);
    }
    document.events
}

/// The message as one paragraph of text, for what cannot be shown otherwise.
pub fn plain_events(source: &str) -> Vec<Event<'_>> {
    let mut document = Document::default();
    document.start(Tag::Paragraph);
    document.push_lines(source);
    document.end();
    document.events
}

/// The web address that `text` is, in its normal form; nothing for other schemes, relative links and the overlong.
pub fn web_address(text: &str) -> Option<Url> {
    if text.len() > URL_BYTES_MAX {
        return None;
    }
    // In its normal form, because a browser's idea of an odd address may differ from ours.
    let url = Url::parse(text).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host() && url.as_str().len() <= URL_BYTES_MAX)
        .then_some(url)
}

/// What has been let through so far, and what is open.
#[derive(Default)]
struct Document<'a> {
    events: Vec<Event<'a>>,
    /// One for each tag that is open in the source: how to close it here, nothing when it was left out.
    open: Vec<Option<TagEnd>>,
    in_link: bool,
    in_code: bool,
    in_raw_html: bool,
}

impl<'a> Document<'a> {
    fn push(&mut self, event: Event<'a>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(_) => self.end(),
            Event::Text(text) if self.in_raw_html => self.push_lines(&text),
            Event::Text(text) if self.in_link || self.in_code => self.events.push(Event::Text(text)),
            Event::Text(text) => self.push_with_links(&text),
            // In a chat, a new line is a new line.
            Event::SoftBreak => self.events.push(Event::HardBreak),
            Event::Code(_) | Event::HardBreak | Event::Rule => self.events.push(event),
            // Extensions that are not switched on, and HTML, which is text by now.
            _ => {}
        }
    }

    fn start(&mut self, tag: Tag<'a>) {
        let kept =
            if self.open.iter().flatten().count() < NESTING_LEVELS_MAX { self.accept(tag) } else { None };
        self.open.push(kept.as_ref().map(Tag::to_end));
        self.events.extend(kept.map(Event::Start));
    }

    /// The tag as it may appear here.
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
            _ => Some(tag),
        }
    }

    fn end(&mut self) {
        let closed = self.open.pop().flatten();
        match closed {
            Some(TagEnd::Link) => {
                self.in_link = false;
                // `[](https://a.example)` and images without a description: the address is better than nothing to click.
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

    /// Bare addresses become links.
    fn push_with_links(&mut self, text: &str) {
        let mut finder = LinkFinder::new();
        finder.kinds(&[LinkKind::Url]);
        for span in finder.spans(text) {
            let shown = Event::Text(span.as_str().to_owned().into());
            match span.kind().and_then(|_| web_address(span.as_str())) {
                Some(address) => self.events.extend([
                    Event::Start(link(String::from(address).into())),
                    shown,
                    Event::End(TagEnd::Link),
                ]),
                None => self.events.push(shown),
            }
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

/// A link to a web address; also how `render` links a preview's title.
pub fn link(address: CowStr<'_>) -> Tag<'_> {
    Tag::Link {
        link_type: LinkType::Inline,
        dest_url: address,
        title: CowStr::Borrowed(""),
        id: CowStr::Borrowed(""),
    }
}

/// The page's own headings are h1 and h2; a message is further in.
fn demoted(level: HeadingLevel) -> HeadingLevel {
    match level {
        HeadingLevel::H1 => HeadingLevel::H3,
        HeadingLevel::H2 => HeadingLevel::H4,
        HeadingLevel::H3 => HeadingLevel::H5,
        HeadingLevel::H4 | HeadingLevel::H5 | HeadingLevel::H6 => HeadingLevel::H6,
    }
}
