//! HAProxy's own error responses: a page for browsers that ask for HTML, RFC 9457 problems for other clients.

const PROBLEMS_PAGE: &str = "/api/docs/problems";
/// `%[be_name]` is the name of the service.
const UNAVAILABLE: &str = "%[be_name] is unavailable at the moment; try again in 1 s";

/// Status, heading in docs/problems.md, title, detail, seconds of `Retry-After`.
const ERRORS: [(u16, &str, &str, &str, Option<u8>); 10] = [
    (400, "bad-request", "Bad request", "this is not a well-formed HTTP request", None),
    (404, "not-found", "Not found", "there is nothing at this path", None),
    (408, "request-timeout", "Request timeout", "the request did not arrive in time; send it again", None),
    (413, "too-large", "Too large", "the body is larger than 1048576 bytes", None),
    (429, "too-many-requests", "Too many requests", "too many requests from your address; wait 10 s", Some(10)),
    (500, "internal", "Internal error", "the balancer failed; its log has the reason", None),
    (501, "bad-request", "Not implemented", "the balancer does not know this kind of request", None),
    (502, "unavailable", "Bad gateway", UNAVAILABLE, Some(1)),
    (503, "unavailable", "Service unavailable", UNAVAILABLE, Some(1)),
    (504, "unavailable", "Gateway timeout", UNAVAILABLE, Some(1)),
];

/// Returns the `http-error` lines of the configuration. The variable `txn.html` selects one of two formats.
pub fn http_errors() -> String {
    let line = |(status, kind, title, detail, retry): &(u16, &str, &str, &str, Option<u8>)| {
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
            "    http-error status {status} content-type application/problem+json \
             hdr Vary Accept lf-string \"{first}{detail}{second}{detail}{last}\"{retry}"
        )
    };
    ERRORS.iter().map(line).collect::<Vec<_>>().join("\n")
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
        for line in http_errors().lines() {
            let body = json_body(line);
            assert_eq!(body["detail"], body["error"]);
            for member in ["type", "title", "status", "detail"] {
                assert!(body.get(member).is_some(), "{member} is missing in {line}");
            }
        }
    }
}
