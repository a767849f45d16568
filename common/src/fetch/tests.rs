use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{Router, extract::Path, http::StatusCode, response::Redirect, routing::get};
use tokio::net::TcpListener;

use super::*;

/// A web server on this machine, and a fetcher for which it is the only allowed private address.
async fn server(router: Router) -> (String, PublicFetcher) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (format!("http://{address}"), PublicFetcher::for_tests(address))
}

fn page(html: impl Into<String>) -> axum::response::Html<String> {
    axum::response::Html(html.into())
}

#[tokio::test]
async fn an_html_page_is_fetched() {
    let (base, fetcher) = server(Router::new().route("/", get(async || page("<title>Hi</title>")))).await;
    let read = fetcher.fetch(&base).await.unwrap();
    assert_eq!(read.body, b"<title>Hi</title>");
    assert_eq!(read.url.as_str(), format!("{base}/"));
}

#[tokio::test]
async fn addresses_of_private_networks_are_refused_in_every_form() {
    let fetcher = PublicFetcher::new();
    let forms = "http://127.0.0.1/ http://127.1/ http://2130706433/ http://0x7f000001/ http://0177.0.0.1/ \
        http://0x7f.1/ http://0/ http://0.0.0.0/ http://10.0.0.1/ http://172.16.0.1/ http://192.168.1.1/ \
        http://169.254.169.254/latest/meta-data http://100.64.0.1/ http://224.0.0.1/ http://255.255.255.255/ \
        http://192.0.2.1/ http://198.51.100.1/ http://203.0.113.1/ http://[::]/ http://[::1]/ \
        http://[::ffff:127.0.0.1]/ http://[::ffff:7f00:1]/ http://[64:ff9b::7f00:1]/ http://[fc00::1]/ \
        http://[fe80::1]/ http://[ff02::1]/ http://[2001:db8::1]/ https://127.0.0.1/ http://\u{2460}27.0.0.1/";
    for form in forms.split_whitespace() {
        let problem = fetcher.fetch(form).await.expect_err(form);
        assert!(matches!(problem, FetchError::Refused(..)), "{form}: {problem}");
        assert!(!problem.is_retryable());
    }
}

#[tokio::test]
async fn names_that_resolve_to_private_addresses_are_refused() {
    for form in ["http://localhost/", "http://localhost./", "http://LOCALHOST/"] {
        let problem = PublicFetcher::new().fetch(form).await.expect_err(form);
        // Not every machine resolves `localhost.`.
        let refused = matches!(problem, FetchError::Refused(..));
        assert!(refused || form.ends_with("./"), "{form}: {problem}");
    }
}

#[tokio::test]
async fn only_http_urls_without_credentials_on_standard_ports_are_allowed() {
    let fetcher = PublicFetcher::new();
    let forms = "http://user:secret@1.1.1.1/ http://user@1.1.1.1/ ftp://1.1.1.1/ file:///etc/passwd \
        gopher://1.1.1.1/ http://1.1.1.1:8080/ http://1.1.1.1:22/ https://1.1.1.1:6443/ javascript:alert(1) \
        data:text/html,hi nonsense http://";
    for form in forms.split_whitespace() {
        let problem = fetcher.fetch(form).await.expect_err(form);
        assert!(matches!(problem, FetchError::Refused(..)), "{form}: {problem}");
        assert!(!problem.to_string().contains("secret"));
    }
}

#[tokio::test]
async fn a_redirect_to_a_private_address_is_refused() {
    let targets = ["http://10.0.0.1/", "http://localhost/", "http://127.0.0.1:1/", "//[::1]/", "file:///etc/passwd"];
    for target in targets {
        let (base, fetcher) = server(Router::new().route("/", get(async || Redirect::to(target)))).await;
        let problem = fetcher.fetch(&base).await.expect_err(target);
        assert!(matches!(problem, FetchError::Refused(..)), "{target}: {problem}");
    }
}

#[tokio::test]
async fn three_redirects_are_followed_and_a_fourth_is_not() {
    let hop = async |Path(left): Path<u8>| {
        if left == 0 { Err(page("there")) } else { Ok(Redirect::to(&format!("/{}", left - 1))) }
    };
    let (base, fetcher) = server(Router::new().route("/{left}", get(hop))).await;
    let read = fetcher.fetch(&format!("{base}/3")).await.unwrap();
    assert_eq!((read.body.as_slice(), read.url.path()), (b"there".as_slice(), "/0"));
    assert!(matches!(fetcher.fetch(&format!("{base}/4")).await, Err(FetchError::TooManyRedirects)));
}

#[tokio::test]
async fn a_long_page_is_truncated_at_the_limit() {
    let long = "é".repeat(BODY_BYTES_MAX);
    let (base, fetcher) = server(Router::new().route("/", get(async move || page(long)))).await;
    assert_eq!(fetcher.fetch(&base).await.unwrap().body.len(), BODY_BYTES_MAX);
}

#[tokio::test]
async fn an_endless_page_is_read_up_to_the_limit() {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let endless = async move || {
        let chunks = futures::stream::repeat_with(move || {
            counter.fetch_add(1024, Ordering::Relaxed);
            Ok::<_, std::io::Error>(vec![b'x'; 1024])
        });
        axum::response::Html(axum::body::Body::from_stream(chunks))
    };
    let (base, fetcher) = server(Router::new().route("/", get(endless))).await;
    assert_eq!(fetcher.fetch(&base).await.unwrap().body.len(), BODY_BYTES_MAX);
    // The server may have sent more into the buffers of the sockets.
    assert!(sent.load(Ordering::Relaxed) < 64 * BODY_BYTES_MAX);
}

#[tokio::test]
async fn a_response_that_is_not_html_is_refused() {
    let (base, fetcher) = server(
        Router::new()
            .route("/text", get(async || "plain"))
            .route("/json", get(async || axum::Json(1)))
            .route("/nothing", get(async || ())),
    )
    .await;
    for path in ["text", "json", "nothing"] {
        let problem = fetcher.fetch(&format!("{base}/{path}")).await.unwrap_err();
        assert!(matches!(problem, FetchError::NotHtml), "{path}: {problem}");
    }
}

#[tokio::test]
async fn an_error_status_is_an_error_and_only_429_and_5xx_are_retryable() {
    let answer = async |Path(status): Path<u16>| (StatusCode::from_u16(status).unwrap(), page("oops"));
    let (base, fetcher) = server(Router::new().route("/{status}", get(answer))).await;
    for (status, retryable) in [(404, false), (410, false), (429, true), (500, true), (503, true)] {
        let problem = fetcher.fetch(&format!("{base}/{status}")).await.unwrap_err();
        assert!(matches!(problem, FetchError::Status(answered) if answered == status), "{problem}");
        assert_eq!(problem.is_retryable(), retryable, "{status}");
    }
}

#[tokio::test]
async fn a_fetcher_for_tests_allows_one_port_only() {
    let (_, fetcher) = server(Router::new()).await;
    let (other, _) = server(Router::new().route("/", get(async || page("private")))).await;
    assert!(matches!(fetcher.fetch(&other).await, Err(FetchError::Refused(..))));
}
