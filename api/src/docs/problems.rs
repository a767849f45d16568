//! The page that the `type` of a problem links to, with a heading for each kind.

use std::sync::LazyLock;

use askama::Template;

use super::page::markdown;

pub const TEXT: &str = include_str!("../../../docs/problems.md");

pub static PAGE: LazyLock<String> =
    LazyLock::new(|| Page { html: markdown(TEXT) }.render().expect("a template without conditions renders"));

#[derive(Template)]
#[template(path = "problems.html")]
struct Page {
    html: String,
}
