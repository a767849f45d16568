//! The files of the browser app.

use std::{collections::BTreeSet, fs, path::Path};

use axum::body::Body;
use flack_ui::{
    assets::{ASSETS, Asset},
    pages,
};
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt;
use regex::Regex;
use tower::ServiceExt;

async fn get(path: &str, known_tag: Option<&str>) -> (StatusCode, HeaderMap, String) {
    let mut request = Request::get(path);
    if let Some(tag) = known_tag {
        request = request.header(header::IF_NONE_MATCH, tag);
    }
    let request = request.body(Body::empty()).expect("a request");
    let (parts, body) = pages::router().oneshot(request).await.expect("a router does not fail").into_parts();
    let bytes = body.collect().await.expect("a body in memory").to_bytes();
    (parts.status, parts.headers, String::from_utf8(bytes.to_vec()).expect("text"))
}

fn all(pattern: &str, text: &str) -> BTreeSet<String> {
    let pattern = Regex::new(pattern).expect("a pattern");
    pattern.captures_iter(text).map(|found| found[1].to_owned()).collect()
}

fn scripts() -> impl Iterator<Item = (&'static Asset, &'static str)> {
    let scripts = ASSETS.iter().filter(|asset| asset.path.starts_with("js/"));
    scripts.map(|asset| (asset, str::from_utf8(asset.bytes).expect("text")))
}

#[tokio::test]
async fn the_page_and_its_files_have_security_headers() {
    for path in ["/", "/static/js/main.js", "/static/none"] {
        let (_, headers, _) = get(path, None).await;
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().expect("text");
        assert!(policy.starts_with("default-src 'none';"), "{path}: {policy}");
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        assert!(!policy.contains("http"), "no other origin: {policy}");
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
        assert_eq!(headers[header::REFERRER_POLICY], "no-referrer", "{path}");
        assert!(headers.contains_key("permissions-policy"), "{path}");
    }
}

#[tokio::test]
async fn the_page_has_nothing_inline_that_its_policy_forbids() {
    let (status, headers, page) = get("/", None).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers[header::CONTENT_TYPE], "text/html; charset=utf-8");
    for forbidden in [r"<script>", r"<style", r"\sstyle=", r"\son\w+=", r"javascript:", r#"(src|href)="https?:"#] {
        assert!(!Regex::new(forbidden).expect("a pattern").is_match(&page), "{forbidden}");
    }
}

#[tokio::test]
async fn every_file_that_the_page_and_its_modules_name_is_served() {
    let (_, _, page) = get("/", None).await;
    let mut wanted = all(r#"(?:src|href)="(/static/[^"]+)""#, &page);
    for (_, text) in scripts() {
        wanted.extend(all(r#"from "\./([^"]+)""#, text).iter().map(|name| format!("/static/js/{name}")));
        wanted.extend(all(r#""(/static/[^"]+)""#, text));
    }
    assert!(wanted.len() > 15, "{wanted:?}");
    for path in wanted {
        let (status, headers, body) = get(&path, None).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        assert!(!body.is_empty(), "{path}");
        if path.starts_with("/static/js/") {
            assert_eq!(headers[header::CONTENT_TYPE], "text/javascript; charset=utf-8", "{path}");
        }
    }
}

#[test]
fn every_file_of_the_folder_is_in_the_binary() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("static");
    let mut folders = vec![folder.clone()];
    let mut files = BTreeSet::new();
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(path.strip_prefix(&folder).expect("below").to_str().expect("a name").to_owned());
            }
        }
    }
    let served: BTreeSet<String> = ASSETS.iter().map(|asset| asset.path.to_owned()).collect();
    assert_eq!(files, served);
}

#[test]
fn every_element_that_a_script_uses_is_in_the_page() {
    let page = include_str!("../../templates/page.html");
    let ids = all(r#"\bid="([^"]+)""#, page);
    for (asset, text) in scripts() {
        for id in all(r#"(?:byId|setText)\("([^"]+)""#, text) {
            assert!(ids.contains(&id), "{} uses #{id}", asset.path);
        }
    }
}

#[test]
fn html_is_inserted_into_the_page_at_one_place() {
    let inserts = Regex::new(r"innerHTML\s*=|outerHTML|insertAdjacentHTML|document\.write").expect("a pattern");
    for (asset, text) in scripts() {
        let count = inserts.find_iter(text).count();
        assert_eq!(count, usize::from(asset.path == "js/dom.js"), "{}", asset.path);
    }
}

#[tokio::test]
async fn a_cached_file_is_not_sent_again() {
    for path in ["/", "/static/css/base.css"] {
        let (_, headers, _) = get(path, None).await;
        assert_eq!(headers[header::CACHE_CONTROL], "no-cache");
        let tag = headers[header::ETAG].to_str().expect("text");
        for known in [tag.to_owned(), format!("\"other\", W/{tag}")] {
            let (status, headers, body) = get(path, Some(&known)).await;
            assert_eq!((status, body.as_str()), (StatusCode::NOT_MODIFIED, ""), "{path} {known}");
            assert!(headers.contains_key(header::CONTENT_SECURITY_POLICY));
        }
        assert_eq!(get(path, Some("\"other\"")).await.0, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_missing_file_is_404_and_other_files_cannot_be_reached() {
    for path in ["/static/none.js", "/static/../Cargo.toml", "/static/%2e%2e/Cargo.toml", "/static/js/"] {
        let (status, headers, body) = get(path, None).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json", "{path}");
        assert!(body.contains("\"status\":404"), "{path}: {body}");
    }
}
