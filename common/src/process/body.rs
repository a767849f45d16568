//! The request body, read completely before the answer is sent.
//!
//! If a server answers and closes the connection while the client still sends, the client's TCP stack discards the
//! answer, and the client sees a connection error instead of the reason.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, HttpBody as _},
    extract::Request,
};
use bytes::BytesMut;
use flack_api::{BODY_BYTES_MAX, Problem, body_bytes_max};
use http::{StatusCode, header};
use http_body_util::BodyExt as _;
use tokio::{sync::Semaphore, time::timeout};

use super::problems;

/// Up to this size, a body that is too large is read and discarded. The balancer forwards no larger bodies with a
/// `Content-Length`, but chunked ones. After this size the answer is sent early, and `connections` discards the rest.
const DISCARDED_BYTES_MAX: usize = 16 * 1_048_576;
/// Ample time for 64 KiB. A slower client would keep a connection and memory in use; it gets 408, or 413 if it has
/// already sent too much.
const BODY_SECONDS_MAX: u64 = 10;
/// For a file: 1 MiB over a slow mobile connection.
const FILE_SECONDS_MAX: u64 = 30;
/// Files in the memory of a process, of requests that are not answered yet. A further one gets 503.
const FILES_MAX: usize = 16;
static FILES: Semaphore = Semaphore::const_new(FILES_MAX);

/// Returns the request with its whole body in memory, or the reason why it is refused.
pub async fn read(request: Request) -> Result<Request, Problem> {
    // Nobody stores a file without a token.
    let has_token = request.headers().contains_key(header::AUTHORIZATION);
    let bytes_max = if has_token { body_bytes_max(request.headers()) } else { BODY_BYTES_MAX };
    let seconds_max = if bytes_max > BODY_BYTES_MAX { FILE_SECONDS_MAX } else { BODY_SECONDS_MAX };
    if expects_continue(&request) && content_length(&request).is_some_and(|bytes| bytes > bytes_max) {
        return Err(problems::too_large(bytes_max));
    }
    if request.body().is_end_stream() {
        return Ok(request);
    }
    let (mut parts, body) = request.into_parts();
    if bytes_max > BODY_BYTES_MAX {
        let place = FILES.try_acquire().map_err(|_| Problem::unavailable("a place for the file"))?;
        // Until the request is answered.
        parts.extensions.insert(Arc::new(place));
    }
    let mut bytes = BytesMut::new();
    let collecting = timeout(Duration::from_secs(seconds_max), collect(body, bytes_max, &mut bytes));
    let result = collecting.await.unwrap_or_else(|_| {
        Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "request-timeout",
            "Request timeout",
            format!("the body did not arrive within {seconds_max} s; send the request again"),
        ))
    });
    if bytes.len() > bytes_max {
        return Err(problems::too_large(bytes_max));
    }
    result?;
    Ok(Request::from_parts(parts, Body::from(bytes.freeze())))
}

/// Whether the client waits for `100 Continue` before it sends the body.
fn expects_continue(request: &Request) -> bool {
    let expect = request.headers().get(header::EXPECT);
    expect.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

fn content_length(request: &Request) -> Option<usize> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Collects the body. Of one that is too large it keeps one byte more than `bytes_max`.
async fn collect(mut body: Body, bytes_max: usize, kept: &mut BytesMut) -> Result<(), Problem> {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::bad_request("the body did not arrive completely"))?;
        // Frames without data are trailers, which no handler reads.
        let Ok(data) = frame.into_data() else { continue };
        bytes += data.len();
        let space = bytes_max + 1 - kept.len();
        kept.extend_from_slice(&data[..data.len().min(space)]);
        if bytes > DISCARDED_BYTES_MAX {
            break;
        }
    }
    Ok(())
}
