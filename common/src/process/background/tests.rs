use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

const TEST_TIMEOUT: Duration = Duration::from_secs(20);

type Runs = Arc<AtomicU32>;

fn count(runs: &Runs) -> u32 {
    runs.load(Ordering::Relaxed)
}

async fn all_ended(background: &Background) {
    background.drain();
    tokio::time::timeout(TEST_TIMEOUT, background.ended()).await.expect("the tasks did not end");
}

#[tokio::test(start_paused = true)]
async fn a_supervised_task_that_fails_or_panics_is_restarted_until_it_ends_without_error() {
    let (background, runs) = (Background::default(), Runs::default());
    let counter = Arc::clone(&runs);
    background.supervise("unstable", move || {
        let run = counter.fetch_add(1, Ordering::Relaxed);
        async move {
            match run {
                0 => anyhow::bail!("it failed"),
                1 => panic!("expected by the test"),
                _ => Ok(()),
            }
        }
    });
    all_ended(&background).await;
    assert_eq!(count(&runs), 3);
    assert_eq!(background.statuses()["unstable"], TaskStatus::Ended);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_always_fails_is_restarted_with_growing_pauses() {
    let (background, runs) = (Background::default(), Runs::default());
    let counter = Arc::clone(&runs);
    background.supervise("broken", move || {
        counter.fetch_add(1, Ordering::Relaxed);
        async { anyhow::Result::<()>::Err(anyhow::anyhow!("it failed")) }
    });
    sleep(Duration::from_mins(1)).await;
    assert!((8..=14).contains(&count(&runs)), "{runs:?} runs in a minute");
    assert!(matches!(background.statuses()["broken"], TaskStatus::WaitingToRestart { .. }));
    background.stop();
    all_ended(&background).await;
}

#[tokio::test(start_paused = true)]
async fn periodic_work_runs_at_once_then_at_intervals_and_when_notified_until_the_process_stops() {
    let (background, runs, wake) = (Background::default(), Runs::default(), Arc::new(Notify::new()));
    let counter = Arc::clone(&runs);
    background.every_or_notified("periodic", Duration::from_secs(10), Arc::clone(&wake), move || {
        counter.fetch_add(1, Ordering::Relaxed);
        async {}
    });
    sleep(Duration::from_secs(1)).await;
    assert_eq!(count(&runs), 1);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(count(&runs), 2);
    wake.notify_one();
    sleep(Duration::from_millis(1)).await;
    assert_eq!(count(&runs), 3);
    background.stop();
    all_ended(&background).await;
    assert_eq!((count(&runs), &background.statuses()["periodic"]), (3, &TaskStatus::Ended));
}

#[tokio::test(start_paused = true)]
async fn periodic_work_that_fails_or_panics_is_tried_again_within_a_minute_and_its_status_shows_it() {
    let (background, runs) = (Background::default(), Runs::default());
    let counter = Arc::clone(&runs);
    background.every("periodic", Duration::from_hours(1), move || {
        let run = counter.fetch_add(1, Ordering::Relaxed);
        async move {
            match run {
                0 => anyhow::bail!("it failed"),
                1 => panic!("expected by the test"),
                _ => Ok(()),
            }
        }
    });
    sleep(Duration::from_secs(1)).await;
    let failed = TaskStatus::WaitingToRestart { restarts: 0, error: "it failed".to_owned() };
    assert_eq!(background.statuses()["periodic"], failed);
    sleep(2 * RETRY_INTERVAL_MAX).await;
    assert_eq!((count(&runs), &background.statuses()["periodic"]), (3, &TaskStatus::Running { restarts: 0 }));
    sleep(2 * RETRY_INTERVAL_MAX).await;
    assert_eq!(count(&runs), 3, "after a success the interval is valid again");
    background.stop();
    all_ended(&background).await;
}

#[tokio::test]
async fn a_task_that_is_not_restarted_stays_visible_after_its_failure() {
    let background = Background::default();
    background.spawn("fails", async { anyhow::Result::<()>::Err(anyhow::anyhow!("it failed")) });
    background.spawn("panics", async { assert_eq!(1, 2, "expected by the test") });
    background.spawn("ends", async {});
    all_ended(&background).await;
    let statuses = background.statuses();
    assert_eq!(statuses["fails"], TaskStatus::Failed { error: "it failed".to_owned() });
    let TaskStatus::Failed { error } = &statuses["panics"] else { panic!("{statuses:?}") };
    assert!(error.starts_with("panicked: ") && error.contains("expected by the test"), "{error}");
    assert_eq!(statuses["ends"], TaskStatus::Ended);
}

#[tokio::test]
async fn the_process_waits_until_the_last_shutdown_guard_is_dropped() {
    let background = Background::default();
    let guard = background.shutdown_guard();
    background.drain();
    let mut ended = Box::pin(background.ended());
    assert!(futures::poll!(&mut ended).is_pending());
    drop(guard);
    tokio::time::timeout(TEST_TIMEOUT, ended).await.expect("no guard is left");
}
