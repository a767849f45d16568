//! A web server with the pages that messages link.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, response::Html};
use http::StatusCode;
use tokio::net::TcpListener;

pub struct Pages {
    pub address: SocketAddr,
    requests: Arc<AtomicUsize>,
}

impl Pages {
    /// Answers the n-th request (from 0) to any path with `answer(n)`.
    pub async fn serve(answer: impl Fn(usize) -> (StatusCode, String) + Clone + Send + Sync + 'static) -> Self {
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&requests);
        let router = Router::new().fallback(move || {
            let (status, html) = answer(counter.fetch_add(1, Ordering::SeqCst));
            async move { (status, Html(html)) }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        // Ends with the test's runtime.
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, requests }
    }

    /// Serves a page with a title and a description.
    pub async fn with_title(title: &'static str) -> Self {
        Self::serve(move |_| {
            let head = format!("<title>{title}</title><meta name=description content='About it.'>");
            (StatusCode::OK, format!("<!doctype html><html><head>{head}</head><body>x</body></html>"))
        })
        .await
    }

    pub fn url(&self) -> String {
        format!("http://{}/page", self.address)
    }

    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}
