//! Previews of linked pages, also after a worker was killed.

use std::sync::Arc;

use crate::support::{ADA, CORRELATION_ID, Service, pages::Pages};
use flack_api::{Context, events::PreviewModel};
use flack_common::{authority::Ownership, fetch::PublicFetcher};
use flack_messages::{
    preview::{self, Job, Outcome},
    render::render,
};
use http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

fn work(service: &Service, fetcher: PublicFetcher) -> JoinHandle<()> {
    tokio::spawn(preview::run(
        service.store.clone(),
        fetcher,
        Arc::clone(&service.linked),
        Ownership::always(),
        CancellationToken::new(),
    ))
}

fn html(message: &Value) -> &str {
    message["html"].as_str().expect("a text")
}

#[sqlx::test(migrations = false)]
async fn a_preview_is_appended_to_the_message_as_a_change_of_it(pool: PgPool) {
    let service = Service::start(pool).await;
    let pages = Pages::with_title("A &lt;page&gt;").await;
    work(&service, PublicFetcher::for_tests(pages.address));
    let posted = service.post(ADA, &format!("see {}", pages.url())).await;
    let message =
        service.wait_for_message(&posted["id"], "a preview", |message| html(message).contains("<blockquote>")).await;
    assert!(html(&message).starts_with(html(&posted)), "{message}");
    assert!(html(&message).contains(&format!("<a href=\"{}\"", pages.url())), "{message}");
    assert!(html(&message).contains(">A &lt;page&gt;</a></p>\n<p>About it.</p>"), "{message}");
    assert_eq!(message["source"], posted["source"]);
    // The journal row has the correlation id of the request that linked the page.
    let journal = "select operation || ' ' || version || ' ' || correlation_id from journal
                   where entity = 'message' order by id desc limit 1";
    assert_eq!(service.row::<String>(journal).await, format!("update 2 {CORRELATION_ID}"));
}

#[sqlx::test(migrations = false)]
async fn version_2_has_previews_as_data_until_the_message_is_edited(pool: PgPool) {
    let service = Service::start(pool).await;
    let pages = Pages::with_title("A &lt;page&gt;").await;
    work(&service, PublicFetcher::for_tests(pages.address));
    let posted = service.post(ADA, &format!("ü see {}", pages.url())).await;
    service.wait_for_message(&posted["id"], "a preview", |message| html(message).contains("<blockquote>")).await;
    let path = format!("/api/v2/messages/{}", posted["id"]);
    let message = service.get(&path, StatusCode::OK).await;
    assert_eq!(html(&message), html(&posted));
    let preview = json!({ "url": pages.url(), "title": "A <page>", "description": "About it." });
    assert_eq!(message["previews"], json!([preview]));
    // As an instance of the previous version edits it.
    service.execute("update messages set html = '<p>edited</p>'").await;
    let message = service.get(&path, StatusCode::OK).await;
    assert_eq!((html(&message), &message["previews"]), ("<p>edited</p>", &Value::Null));
}

#[sqlx::test(migrations = false)]
async fn a_preview_that_is_too_long_does_not_shorten_the_message_when_it_is_edited(pool: PgPool) {
    let service = Service::start(pool).await;
    let posted = service.post(ADA, &format!("see https://a.example/{}", "a".repeat(2000))).await;
    let jobs = service.store.take(10).await.expect("jobs");
    let preview = PreviewModel { url: jobs[0].url.clone(), title: "&".repeat(200), description: Some("&".repeat(500)) };
    let outcome = Outcome::Fetched(Some(preview));
    service.store.finish(&Context::background(), &jobs[0], &outcome, render).await.expect("no error");
    let edited = "b".repeat(9000);
    service.execute("update messages set html = repeat('b', 9000)").await;
    let message = service.get(&format!("/api/v2/messages/{}", posted["id"]), StatusCode::OK).await;
    assert_eq!((html(&message), &message["previews"]), (&*edited, &Value::Null));
    assert_eq!(service.row::<i64>("select count(previews_start) from messages").await, 0);
}

#[sqlx::test(migrations = false)]
async fn the_previews_of_several_pages_are_in_the_order_of_their_links(pool: PgPool) {
    let service = Service::start(pool).await;
    let pages = Pages::with_title("T").await;
    work(&service, PublicFetcher::for_tests(pages.address));
    let source = [1, 2, 3, 4].map(|number| format!("{}/{number}", pages.url())).join(" ");
    let posted = service.post(ADA, &source).await;
    let message = service
        .wait_for_message(&posted["id"], "three previews", |message| html(message).matches("<blockquote>").count() == 3)
        .await;
    let quotes = &html(&message)[html(&posted).len()..];
    let places: Vec<_> = (1..=3).map(|number| quotes.find(&format!("/{number}\"")).expect("a quote")).collect();
    assert!(places.is_sorted(), "{quotes}");
    assert_eq!(pages.requests(), 3);
}

#[sqlx::test(migrations = false)]
async fn a_link_to_an_internal_address_is_refused_without_a_request(pool: PgPool) {
    let service = Service::start(pool).await;
    let pages = Pages::with_title("secret").await;
    work(&service, PublicFetcher::new());
    let sources = [
        pages.url(),
        format!("http://localhost:{}/", pages.address.port()),
        "http://127.0.0.1/".to_owned(),
        "http://localhost/".to_owned(),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://[::1]/".to_owned(),
        "http://0x7f.1/".to_owned(),
        "http://10.0.0.1/".to_owned(),
    ];
    for source in sources {
        service.post(ADA, &format!("<{source}>")).await;
    }
    let states = "select string_agg(distinct state, ' ') || ' ' || count(*) from link_previews";
    service.wait_for_row("every preview refused", states, "failed 8").await;
    assert_eq!(pages.requests(), 0);
    assert_eq!(service.row::<i64>("select count(*) from messages where html like '%blockquote%'").await, 0);
    assert_eq!(service.row::<i16>("select max(attempts) from link_previews").await, 1);
}

#[sqlx::test(migrations = false)]
async fn a_job_of_a_killed_worker_is_taken_again_after_its_lease(pool: PgPool) {
    let service = Service::start(pool).await;
    let pages = Pages::with_title("T").await;
    let posted = service.post(ADA, &pages.url()).await;
    // Taken by a worker that was killed.
    let taken = service.store.take(10).await.expect("a job");
    assert_eq!(taken.len(), 1);
    assert!(service.store.take(10).await.expect("no error").is_empty(), "a job was taken twice");
    service.execute("update link_previews set next_attempt_at = now()").await;

    work(&service, PublicFetcher::for_tests(pages.address));
    service.wait_for_message(&posted["id"], "a preview", |message| html(message).contains("<blockquote>")).await;
    assert_eq!(service.row::<i16>("select attempts from link_previews").await, 2);
}

#[sqlx::test(migrations = false)]
async fn a_waiting_job_is_taken_after_a_restart(pool: PgPool) {
    let service = Service::start(pool).await;
    let pages = Pages::with_title("T").await;
    let posted = service.post(ADA, &pages.url()).await;
    let first = work(&service, PublicFetcher::for_tests(pages.address));
    first.abort();
    assert!(first.await.is_err_and(|error| error.is_cancelled()));
    // The worker of another process, which was not woken.
    let fetcher = PublicFetcher::for_tests(pages.address);
    let (store, stopping) = (service.store.clone(), CancellationToken::new());
    tokio::spawn(preview::run(store, fetcher, Arc::default(), Ownership::always(), stopping));
    service.wait_for_message(&posted["id"], "a preview", |message| html(message).contains("<blockquote>")).await;
}

#[sqlx::test(migrations = false)]
async fn a_job_that_kills_its_workers_fails_after_the_last_attempt(pool: PgPool) {
    let service = Service::start(pool).await;
    service.post(ADA, "https://a.example").await;
    for _ in 0..preview::ATTEMPTS_MAX {
        assert_eq!(service.store.take(10).await.expect("a job").len(), 1);
        service.execute("update link_previews set next_attempt_at = now()").await;
    }
    assert!(service.store.take(10).await.expect("no error").is_empty());
    assert_eq!(service.row::<String>("select state from link_previews").await, "failed");
}

#[sqlx::test(migrations = false)]
async fn an_unavailable_page_is_tried_again_a_limited_number_of_times(pool: PgPool) {
    let service = Service::start(pool).await;
    let pages = Pages::serve(|_| (StatusCode::SERVICE_UNAVAILABLE, String::new())).await;
    service.post(ADA, &pages.url()).await;
    work(&service, PublicFetcher::for_tests(pages.address));
    let waiting = "select state || ' ' || attempts || ' ' || (next_attempt_at > now()) from link_previews";
    for attempt in 1..preview::ATTEMPTS_MAX {
        // The lease of a running fetch is in the future as well; the back-off is shorter or longer than it.
        let query = "select attempts::text from link_previews where state = 'pending' and
                     next_attempt_at - now() not between interval '25 seconds' and interval '31 seconds'
                     and next_attempt_at > now()";
        service.wait_for_row("a later attempt", query, &attempt.to_string()).await;
        service.execute("update link_previews set next_attempt_at = now()").await;
        service.linked.notify_one();
    }
    service.wait_for_row("the last attempt", "select state from link_previews", "failed").await;
    assert!(service.row::<String>(waiting).await.starts_with(&format!("failed {}", preview::ATTEMPTS_MAX)));
    assert_eq!(pages.requests(), usize::try_from(preview::ATTEMPTS_MAX).expect("small"));
}

#[sqlx::test(migrations = false)]
async fn a_page_without_a_title_and_a_missing_page_do_not_change_the_message(pool: PgPool) {
    let service = Service::start(pool).await;
    let pages = Pages::serve(|request| match request {
        0 => (StatusCode::OK, "<p>nothing".to_owned()),
        _ => (StatusCode::NOT_FOUND, "<title>Not found</title>".to_owned()),
    })
    .await;
    work(&service, PublicFetcher::for_tests(pages.address));
    service.post(ADA, &pages.url()).await;
    service.wait_for_row("no title", "select state from link_previews", "fetched").await;
    service.post(ADA, &pages.url()).await;
    let last = "select state from link_previews order by id desc limit 1";
    service.wait_for_row("not found", last, "failed").await;
    assert_eq!(service.row::<i64>("select max(version) from messages").await, 1);
}

#[sqlx::test(migrations = false)]
async fn an_edit_drops_old_previews_also_of_running_jobs(pool: PgPool) {
    let service = Service::start(pool).await;
    let pages = Pages::with_title("T").await;
    let id = service.post(ADA, "https://before.example").await["id"].clone();
    let before: Vec<Job> = service.store.take(10).await.expect("a job");
    service.put(ADA, &id, &format!("now {}", pages.url()), StatusCode::NO_CONTENT).await;

    let late = preview_of(&before[0]);
    service.store.finish(&Context::background(), &before[0], &late, render).await.expect("no error");
    let message = service.get(&format!("/api/messages/{id}"), StatusCode::OK).await;
    assert!(!html(&message).contains("before"), "{message}");

    work(&service, PublicFetcher::for_tests(pages.address));
    let message = service.wait_for_message(&id, "a preview", |message| html(message).contains("<blockquote>")).await;
    assert!(html(&message).contains(">T</a>") && !html(&message).contains("before"), "{message}");
}

#[sqlx::test(migrations = false)]
async fn a_job_that_two_workers_finish_changes_the_message_once(pool: PgPool) {
    let service = Service::start(pool).await;
    service.post(ADA, "https://a.example").await;
    let job = service.store.take(1).await.expect("a job").remove(0);
    for _ in 0..2 {
        service.store.finish(&Context::background(), &job, &preview_of(&job), render).await.expect("no error");
    }
    assert_eq!(service.row::<i64>("select version from messages").await, 2);
}

#[sqlx::test(migrations = false)]
async fn a_stopped_worker_finishes_its_jobs(pool: PgPool) {
    let service = Service::start(pool).await;
    let stopping = CancellationToken::new();
    let stop = stopping.clone();
    let pages = Pages::serve(move |_| {
        stop.cancel();
        (StatusCode::OK, "<head><title>T</title></head>".to_owned())
    })
    .await;
    service.post(ADA, &pages.url()).await;
    let (store, fetcher) = (service.store.clone(), PublicFetcher::for_tests(pages.address));
    preview::run(store, fetcher, Arc::default(), Ownership::always(), stopping).await;
    assert_eq!(service.row::<String>("select state from link_previews").await, "fetched");
}

fn preview_of(job: &Job) -> Outcome {
    Outcome::Fetched(Some(PreviewModel { url: job.url.clone(), title: "before".to_owned(), description: None }))
}
