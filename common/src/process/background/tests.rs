use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

async fn all_ended(background: &Background) {
    background.drain();
    tokio::time::timeout(PATIENCE, background.ended()).await.expect("the tasks did not end");
}

#[tokio::test(start_paused = true)]
async fn a_supervised_task_that_fails_or_panics_is_started_again_until_it_ends_well() {
    let background = Background::default();
    let runs = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&runs);
    background.supervise("stumbles", move || {
        let run = counter.fetch_add(1, Ordering::Relaxed);
        async move {
            match run {
                0 => anyhow::bail!("no luck"),
                1 => panic!("as the test wants it"),
                _ => Ok(()),
            }
        }
    });
    all_ended(&background).await;
    assert_eq!(runs.load(Ordering::Relaxed), 3);
    assert_eq!(background.fares()["stumbles"], Fare::Ended);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_fails_all_the_time_is_started_ever_more_slowly() {
    let background = Background::default();
    let runs = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&runs);
    background.supervise("hopeless", move || {
        counter.fetch_add(1, Ordering::Relaxed);
        async { anyhow::Result::<()>::Err(anyhow::anyhow!("no luck")) }
    });
    tokio::time::sleep(Duration::from_mins(1)).await;
    let runs = runs.load(Ordering::Relaxed);
    assert!((8..=14).contains(&runs), "{runs} runs in a minute");
    assert!(matches!(background.fares()["hopeless"], Fare::WaitingToRestart { .. }));
    background.stop();
    all_ended(&background).await;
}

#[tokio::test]
async fn a_task_that_cannot_be_made_again_stays_visible_after_its_failure() {
    let background = Background::default();
    background.spawn("fragile", async { anyhow::Result::<()>::Err(anyhow::anyhow!("it broke")) });
    background.spawn("panics", async { assert_eq!(1, 2, "as the test wants it") });
    background.spawn("fine", async {});
    all_ended(&background).await;
    let fares = background.fares();
    assert_eq!(fares["fragile"], Fare::Failed { error: "it broke".to_owned() });
    let Fare::Failed { error } = &fares["panics"] else { panic!("{fares:?}") };
    assert!(error.starts_with("panicked: ") && error.contains("as the test wants it"), "{error}");
    assert_eq!(fares["fine"], Fare::Ended);
}

#[tokio::test]
async fn what_is_held_keeps_the_process_and_is_let_go_with_its_holder() {
    let background = Background::default();
    let held = background.hold();
    background.drain();
    let mut ended = Box::pin(background.ended());
    assert!(futures::poll!(&mut ended).is_pending());
    drop(held);
    tokio::time::timeout(PATIENCE, ended).await.expect("nothing is held any more");
}
