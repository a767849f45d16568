//! Problems as HTML, for a person who opened an address in a browser. API clients get `application/problem+json`.

use askama::Template;
use axum::{body::Body, response::Response};
use http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE},
};

use crate::Problem;

const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

/// Whether a browser asks for a page: `Accept` names HTML and no JSON.
pub fn accepts_html(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let accepted: String = accepted.map(str::to_ascii_lowercase).collect();
    accepted.contains("text/html") && !accepted.contains("json")
}

/// Replaces a problem by a page. Other responses stay as they are.
pub fn problem_page(mut response: Response) -> Response {
    let Some(problem) = response.extensions_mut().remove::<Problem>() else { return response };
    *response.body_mut() = Body::from(problem.to_html());
    let headers = response.headers_mut();
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

#[derive(Template)]
#[template(path = "problem.html")]
struct Page<'a> {
    problem: &'a Problem,
}

impl Problem {
    /// A small page without scripts and without other files: the part that serves those may be the one that fails.
    pub fn to_html(&self) -> String {
        Page { problem: self }.render().expect("the template has no filter that fails")
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;

    fn accepts(value: &str) -> bool {
        accepts_html(&HeaderMap::from_iter([(ACCEPT, value.parse().unwrap())]))
    }

    #[test]
    fn only_a_browser_that_opens_a_page_gets_html() {
        assert!(accepts("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"));
        for client in ["*/*", "application/json", "application/problem+json", "application/json, text/html;q=0.5", ""] {
            assert!(!accepts(client), "{client}");
        }
        assert!(!accepts_html(&HeaderMap::new()));
    }

    #[test]
    fn a_page_shows_the_text_of_the_problem_and_escapes_it() {
        let problem = Problem { correlation_id: Some("test-1".to_owned()), ..Problem::not_found("no <b>here</b>") };
        let response = problem_page(problem.clone().into_response());
        assert_eq!(response.status(), 404);
        assert_eq!(response.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
        let html = problem.to_html();
        for part in ["<h1>Not found</h1>", "test-1", "/api/docs/problems#not-found"] {
            assert!(html.contains(part), "{part} is missing in {html}");
        }
        assert!(!html.contains("<b>"), "{html}");
    }

    #[test]
    fn a_page_keeps_the_headers_of_the_problem() {
        let response = problem_page(Problem::unavailable("users").into_response());
        assert_eq!(response.headers()["retry-after"], "1");
        assert_eq!(response.headers()["vary"], "accept");
    }

    #[test]
    fn a_response_that_is_no_problem_stays() {
        let response = problem_page((http::StatusCode::NOT_FOUND, "own words").into_response());
        assert_eq!(response.headers()[CONTENT_TYPE], "text/plain; charset=utf-8");
    }
}
