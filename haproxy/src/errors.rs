//! HAProxy's own error responses: a page for browsers that ask for HTML, RFC 9457 problems for other clients.

const PROBLEMS_PAGE: &str = "/api/docs/problems";
/// `%[be_name]` is the name of the service.
const UNAVAILABLE: &str = "%[be_name] is unavailable at the moment; try again in 1 s";

/// Status, heading in docs/problems.md, title, detail, seconds of `Retry-After`.
type Row = (u16, &'static str, &'static str, &'static str, Option<u8>);
const ERRORS: [Row; 9] = [
    (400, "bad-request", "Bad request", "this is not a well-formed HTTP request", None),
    (404, "not-found", "Not found", "there is nothing at this path", None),
    (408, "request-timeout", "Request timeout", "the request did not arrive in time; send it again", None),
    (413, "too-large", "Too large", "the body is larger than any operation accepts", None),
    (500, "internal", "Internal error", "the balancer failed; its log has the reason", None),
    (501, "bad-request", "Not implemented", "the balancer does not know this kind of request", None),
    (502, "unavailable", "Bad gateway", UNAVAILABLE, Some(1)),
    (503, "unavailable", "Service unavailable", UNAVAILABLE, Some(1)),
    (504, "unavailable", "Gateway timeout", UNAVAILABLE, Some(1)),
];
/// The responses of rules. HAProxy has no `http-error` for the first two.
const MISDIRECTED: Row = (
    421,
    "misdirected-request",
    "Misdirected request",
    "this server does not have the requested host name; FLACK_PUBLIC_HOSTS lists its names",
    None,
);
const HEADERS_TOO_LARGE: Row =
    (431, "headers-too-large", "Header fields too large", "the request has too many header fields", None);
const TOO_MANY: Row = (
    429,
    "too-many-requests",
    "Too many requests",
    "too many requests or connections from your address; wait 10 s",
    Some(10),
);

/// Returns the `http-error` lines of the configuration.
pub fn http_errors() -> String {
    ERRORS.iter().map(|row| format!("    http-error {}", response(row))).collect::<Vec<_>>().join("\n")
}

/// Returns the action for a host name that is not known.
pub fn misdirected() -> String {
    format!("deny {}", response(&MISDIRECTED))
}

/// Returns the action for a request with too many headers.
pub fn headers_too_large() -> String {
    format!("deny {}", response(&HEADERS_TOO_LARGE))
}

/// Returns the action for a request beyond a quota: 429 with the fields of draft-ietf-httpapi-ratelimit-headers-10. The
/// quota is for `window_seconds`, or for any time.
pub fn refuse(policy: &str, quota: u64, window_seconds: Option<u8>) -> String {
    let window = window_seconds.map(|seconds| format!(";w={seconds}")).unwrap_or_default();
    let policy = format!(r#"\"{policy}\""#);
    format!(
        "deny {} hdr RateLimit-Policy \"{policy};q={quota}{window}\" hdr RateLimit \"{policy};r=0;t=10\"",
        response(&TOO_MANY)
    )
}

/// Returns a response as HAProxy's actions take it. The variable `txn.html` selects one of two formats.
fn response((status, kind, title, detail, retry): &Row) -> String {
    let html = [
        format!("<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{status}: "),
        format!("</title><h1>{title}</h1><p>"),
        ".</p></html>".to_owned(),
    ];
    let json = [
        format!(r#"{{"type":"{PROBLEMS_PAGE}#{kind}","title":"{title}","status":{status},"detail":""#),
        r#"","error":""#.to_owned(),
        r#""}"#.to_owned(),
    ];
    let [first, second, last] = std::array::from_fn(|part| {
        format!("%[var(txn.html,0),iif('{}','{}')]", html[part], json[part]).replace('"', "\\\"")
    });
    let retry = retry.map(|seconds| format!(" hdr Retry-After {seconds}")).unwrap_or_default();
    format!(
        "status {status} content-type application/problem+json hdr Vary Accept hdr X-Content-Type-Options nosniff \
         lf-string \"{first}{detail}{second}{detail}{last}\"{retry}"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// The body of a line for clients that do not ask for HTML.
    fn json_body(line: &str) -> Value {
        let line = line.replace("\\\"", "\"");
        let parts = line.split("%[var(txn.html,0),iif('").skip(1);
        let parts = parts.map(|part| part.split_once("','").expect("two formats").1.replacen("')]", "", 1));
        let body: String = parts.collect();
        serde_json::from_str(&body[..=body.rfind('}').expect("an object")]).expect("JSON")
    }

    #[test]
    fn every_error_is_a_problem_for_clients_that_do_not_ask_for_html() {
        let rules = [misdirected(), headers_too_large(), refuse("writes", 7, Some(10))];
        for line in http_errors().lines().chain(rules.iter().map(String::as_str)) {
            let body = json_body(line);
            assert_eq!(body["detail"], body["error"]);
            for member in ["type", "title", "status", "detail"] {
                assert!(body.get(member).is_some(), "{member} is missing in {line}");
            }
        }
    }

    #[test]
    fn a_refusal_names_its_quota() {
        let headers = r#" hdr RateLimit-Policy "\"writes\";q=7;w=10" hdr RateLimit "\"writes\";r=0;t=10""#;
        assert!(refuse("writes", 7, Some(10)).ends_with(headers));
        assert!(refuse("connections", 7, None).contains(r#""\"connections\";q=7" "#));
    }
}
