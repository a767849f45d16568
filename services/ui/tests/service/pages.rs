//! The files of the browser app.

use std::{collections::BTreeSet, fs, io::Read, path::Path};

use axum::body::Body;
use flack_ui::{
    assets::{ASSETS, Asset},
    pages,
};
use flate2::read::GzDecoder;
use http::{HeaderMap, HeaderName, Request, StatusCode, header};
use http_body_util::BodyExt;
use regex::Regex;
use tower::ServiceExt;

const PAGE_LINKS: &str = r#"(?:src|href)="(/static/[^"]+)""#;
/// What a browser loads before it shows the app.
const FIRST_VIEW_BYTES_MAX: usize = 60_000;
const FIRST_VIEW_REQUESTS_MAX: usize = 8;

async fn get(path: &str, known_tag: Option<&str>) -> (StatusCode, HeaderMap, String) {
    let known = known_tag.map(|tag| (header::IF_NONE_MATCH, tag));
    let (status, headers, body) = get_with(path, known).await;
    (status, headers, String::from_utf8(body).expect("text"))
}

async fn get_with(path: &str, header: Option<(HeaderName, &str)>) -> (StatusCode, HeaderMap, Vec<u8>) {
    let mut request = Request::get(path);
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    let request = request.body(Body::empty()).expect("a request");
    let (parts, body) = pages::router().oneshot(request).await.expect("a router does not fail").into_parts();
    let bytes = body.collect().await.expect("a body in memory").to_bytes();
    (parts.status, parts.headers, bytes.to_vec())
}

/// Returns the paths of all files that the page loads: what it links, and what the linked files name.
async fn links() -> BTreeSet<String> {
    let (_, _, page) = get("/", None).await;
    let mut links = all(PAGE_LINKS, &page);
    for path in links.clone() {
        links.extend(all(r#""(/static/[^"]+)""#, &get(&path, None).await.2));
    }
    links
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
    let mut wanted = all(PAGE_LINKS, &page);
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
async fn linked_files_have_a_hash_in_their_name_and_are_kept_by_browsers() {
    let hash = Regex::new(r"\.[0-9a-f]{16}\.").expect("a pattern");
    let links = links().await;
    assert!(links.len() >= 5, "{links:?}");
    for path in links {
        assert!(hash.is_match(&path), "{path}");
        let (status, headers, body) = get(&path, None).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        assert_eq!(headers[header::CACHE_CONTROL], "public, max-age=31536000, immutable", "{path}");

        // During an upgrade, the page of one version asks an instance of the other for its files.
        let of_another_build = hash.replace(&path, ".0123456789abcdef.");
        let (status, headers, present) = get(&of_another_build, None).await;
        assert_eq!((status, present), (StatusCode::OK, body), "{path}");
        assert_eq!(headers[header::CACHE_CONTROL], "no-cache", "{path}");
    }
}

#[tokio::test]
async fn the_first_view_is_small() {
    let mut paths = links().await;
    for path in paths.clone() {
        for later in all(r#"\bimport\("([^"]+)"\)"#, &get(&path, None).await.2) {
            assert!(paths.remove(&later), "{later}");
        }
    }
    paths.insert("/".to_owned());
    let (requests, mut bytes, mut plain_bytes) = (paths.len(), 0, 0);
    for path in paths {
        let (_, plain_headers, plain) = get(&path, None).await;
        let (_, headers, gzip) = get_with(&path, Some((header::ACCEPT_ENCODING, "br, gzip, deflate"))).await;
        assert_eq!(headers[header::CONTENT_ENCODING], "gzip", "{path}");
        assert_eq!(headers[header::VARY], "accept-encoding", "{path}");
        assert_ne!(headers[header::ETAG], plain_headers[header::ETAG], "{path}");
        let mut unpacked = String::new();
        GzDecoder::new(gzip.as_slice()).read_to_string(&mut unpacked).expect("gzip");
        assert!(unpacked == plain, "{path} is another file when it is compressed");
        bytes += gzip.len();
        plain_bytes += plain.len();
    }
    println!("the first view: {requests} requests, {bytes} bytes compressed, {plain_bytes} bytes uncompressed");
    assert!(bytes <= FIRST_VIEW_BYTES_MAX, "{bytes} bytes");
    assert!(requests <= FIRST_VIEW_REQUESTS_MAX, "{requests} requests");
}

#[tokio::test]
async fn the_script_has_every_module_after_those_it_imports() {
    let (_, _, page) = get("/", None).await;
    let path = all(r#"<script type="module" src="([^"]+)""#, &page).pop_first().expect("the page has a script");
    let (_, _, script) = get(&path, None).await;
    let mut defined = BTreeSet::new();
    for line in script.lines() {
        assert!(!line.starts_with("import ") && !line.starts_with("export "), "{line}");
        if let Some(module) = line.strip_prefix("modules[\"").and_then(|rest| rest.split('"').next()) {
            defined.insert(format!("js/{module}"));
        }
        for imported in all(r#"^const .* = modules\["([^"]+)"\];$"#, line) {
            // A module's own line is before its imports.
            assert!(defined.contains(&format!("js/{imported}")), "{line}");
        }
    }
    let not_modules =
        ["js/heartbeat.js", "js/interests.js", "js/scenes.js", "js/search.js", "js/theme-first.js"].map(str::to_owned);
    let modules = scripts().map(|(asset, _)| asset.path.to_owned()).filter(|path| !not_modules.contains(path));
    assert_eq!(defined, modules.collect());
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
