//! The preview of a linked page: title and description, read from the part of the page that was fetched.

use std::{cell::RefCell, rc::Rc};

use flack_api::events::PreviewModel;
use lol_html::{HtmlRewriter, MemorySettings, Settings, element, text};
use url::Url;

/// Longer texts are truncated.
pub const TITLE_CHARACTERS_MAX: usize = 200;
pub const DESCRIPTION_CHARACTERS_MAX: usize = 500;

/// Longer raw texts are ignored while parsing. Entities make a raw text longer than the decoded one.
const RAW_TEXT_BYTES_MAX: usize = 8192;

/// Memory limit of the parser.
const PARSER_MEMORY_BYTES_MAX: usize = 1_048_576;

/// Raw texts of a page. Open Graph properties (`og:`) take precedence.
#[derive(Default)]
struct Found {
    title: String,
    og_title: Option<String>,
    description: Option<String>,
    og_description: Option<String>,
}

/// Returns the preview of a page, or nothing when it has neither title nor description.
pub fn preview(url: &Url, body: &[u8]) -> Option<PreviewModel> {
    let found = read(body);
    let title = found.og_title.and_then(|raw| shown(&raw, TITLE_CHARACTERS_MAX));
    let title = title.or_else(|| shown(&found.title, TITLE_CHARACTERS_MAX));
    let description = found.og_description.and_then(|raw| shown(&raw, DESCRIPTION_CHARACTERS_MAX));
    let description = description.or_else(|| found.description.and_then(|raw| shown(&raw, DESCRIPTION_CHARACTERS_MAX)));
    if title.is_none() && description.is_none() {
        return None;
    }
    let title = title.or_else(|| url.host_str().map(str::to_owned))?;
    Some(PreviewModel { url: url.to_string(), title, description })
}

fn read(body: &[u8]) -> Found {
    let found = Rc::new(RefCell::new(Found::default()));
    let settings = Settings::new()
        .append_element_content_handler(text!("head > title", |chunk| {
            let title = &mut found.borrow_mut().title;
            if title.len() + chunk.as_str().len() <= RAW_TEXT_BYTES_MAX {
                title.push_str(chunk.as_str());
            }
            Ok(())
        }))
        .append_element_content_handler(element!("meta[content]", |meta| {
            let Some(content) = meta.get_attribute("content") else { return Ok(()) };
            let name = meta.get_attribute("property").or_else(|| meta.get_attribute("name")).unwrap_or_default();
            let mut found = found.borrow_mut();
            let slot = match name.to_ascii_lowercase().as_str() {
                "og:title" => &mut found.og_title,
                "og:description" => &mut found.og_description,
                "description" => &mut found.description,
                _ => return Ok(()),
            };
            if slot.is_none() && content.len() <= RAW_TEXT_BYTES_MAX {
                *slot = Some(content);
            }
            Ok(())
        }))
        .with_memory_settings(MemorySettings::new().with_max_allowed_memory_usage(PARSER_MEMORY_BYTES_MAX))
        .with_adjust_charset_on_meta_tag(true)
        .with_strict(false);
    // The rewritten page is discarded.
    let mut parser = HtmlRewriter::new(settings, |_: &[u8]| {});
    // What was read before an error is used.
    if parser.write(body).is_ok() {
        parser.end().ok();
    }
    found.take()
}

/// Decodes entities, folds white space, removes control characters and truncates. Returns nothing for an empty text.
fn shown(raw: &str, characters_max: usize) -> Option<String> {
    let decoded = html_escape::decode_html_entities(raw);
    let cleaned: String =
        decoded.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    let folded = cleaned.split_whitespace().collect::<Vec<_>>().join(" ");
    if folded.is_empty() {
        return None;
    }
    if folded.chars().count() <= characters_max {
        return Some(folded);
    }
    Some(folded.chars().take(characters_max - 1).chain(['…']).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str) -> Option<(String, Option<String>)> {
        let url = Url::parse("https://a.example/x").expect("a literal that parses");
        preview(&url, body.as_bytes()).map(|preview| (preview.title, preview.description))
    }

    #[test]
    fn title_and_description_are_decoded_and_folded() {
        let body = "<!doctype html><html><head><title>\n A &amp; B\n &#39;c&#39; </title>\
                    <meta name=\"Description\" content=\"x &lt;b&gt; y\"></head><body><title>no</title>";
        assert_eq!(of(body), Some(("A & B 'c'".to_owned(), Some("x <b> y".to_owned()))));
    }

    #[test]
    fn open_graph_properties_take_precedence() {
        let body = "<head><title>t</title><meta name=description content=d>\
                    <meta property=og:title content=ot><meta property='og:description' content=od></head>";
        assert_eq!(of(body), Some(("ot".to_owned(), Some("od".to_owned()))));
        let body = "<head><title>t</title><meta property=og:title content=' '></head>";
        assert_eq!(of(body), Some(("t".to_owned(), None)));
    }

    #[test]
    fn a_page_without_a_title_is_named_by_its_host() {
        let body = "<head><meta name=description content=d></head>";
        assert_eq!(of(body), Some(("a.example".to_owned(), Some("d".to_owned()))));
    }

    #[test]
    fn a_page_without_title_and_description_has_no_preview() {
        for body in ["", "plain text", "{\"title\": \"x\"}", "<head><title> \n </title></head>", "\u{0}\u{1}<"] {
            assert_eq!(of(body), None, "{body:?}");
        }
        let url = Url::parse("https://a.example/x").expect("a literal that parses");
        assert_eq!(preview(&url, &[0xff, 0xfe, 0x00, 0x3c, 0x80]), None);
    }

    #[test]
    fn long_texts_are_truncated_and_an_incomplete_page_is_read() {
        let long = "ü".repeat(3000);
        let (title, description) =
            of(&format!("<head><title>{long}</title><meta name=description content='{long}'><meta na"))
                .expect("a title");
        assert_eq!(title.chars().count(), TITLE_CHARACTERS_MAX);
        assert_eq!(description.expect("a description").chars().count(), DESCRIPTION_CHARACTERS_MAX);
    }

    #[test]
    fn the_limits_hold_for_an_endless_page() {
        assert_eq!(of(&format!("<head><title>{}", "x".repeat(262_144))), None);
        assert_eq!(of(&format!("<head><meta content={}", "x".repeat(262_144))), None);
        assert_eq!(of(&"<div>".repeat(50_000)), None);
    }

    #[test]
    fn a_declared_charset_is_used() {
        let url = Url::parse("https://a.example/x").expect("a literal that parses");
        let body = b"<head><meta charset=iso-8859-1><title>Gr\xfc\xdfe</title></head>";
        assert_eq!(preview(&url, body).expect("a title").title, "Grüße");
    }
}
