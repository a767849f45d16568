use std::net::Ipv4Addr;

use tokio::sync::oneshot::{Receiver, error::TryRecvError};

use super::*;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

/// A queue with one core, which is in use, and requests that wait for it.
struct Scene {
    queue: &'static Queue,
    busy: Option<Permit>,
    waiting: Vec<(String, Receiver<Permit>)>,
}

impl Scene {
    fn new() -> Self {
        let queue: &'static Queue = Box::leak(Box::new(Queue::new(1)));
        assert!(queue.enter(origin(Class::Known, HERE, "first")).is_none(), "the core is free");
        Self { queue, busy: Some(Permit { queue, has_failures: false }), waiting: Vec::new() }
    }

    fn add(&mut self, class: Class, address: IpAddr, account: &str) {
        let granted = self.queue.enter(origin(class, address, account)).expect("the core is in use");
        self.waiting.push((account.to_owned(), granted));
    }

    /// Returns the accounts of the requests that have lost their places.
    fn refused(&mut self) -> Vec<String> {
        let refused =
            self.waiting.extract_if(.., |(_, granted)| granted.try_recv().err() == Some(TryRecvError::Closed));
        refused.map(|(account, _)| account).collect()
    }

    /// Serves all, and returns the accounts in the order in which they were served.
    fn serve(mut self) -> Vec<String> {
        let mut served = Vec::new();
        drop(self.busy.take());
        while !self.waiting.is_empty() {
            let granted = |(index, (_, granted)): (usize, &mut (String, Receiver<Permit>))| {
                granted.try_recv().ok().map(|permit| (index, permit))
            };
            let (index, permit) = self.waiting.iter_mut().enumerate().find_map(granted).expect("one has the core");
            served.push(self.waiting.remove(index).0);
            drop(permit);
        }
        served
    }
}

fn origin(class: Class, address: IpAddr, account: &str) -> Origin {
    Origin { class, address, account: account.to_owned() }
}

#[test]
fn addresses_take_turns_and_so_do_the_accounts_of_an_address() {
    let mut scene = Scene::new();
    for _ in 0..3 {
        scene.add(Class::New, HERE, "mallory");
    }
    scene.add(Class::New, HERE, "ada");
    scene.add(Class::New, THERE, "bob");
    assert_eq!(scene.serve(), ["mallory", "bob", "ada", "mallory", "mallory"]);
}

#[test]
fn known_accounts_go_first_and_every_fourth_turn_is_for_the_last_class() {
    let mut scene = Scene::new();
    scene.add(Class::WithFailures, THERE, "guess");
    scene.add(Class::WithFailures, THERE, "guess");
    scene.add(Class::New, HERE, "new");
    scene.add(Class::KnownWithFailures, HERE, "guessed");
    for _ in 0..4 {
        scene.add(Class::Known, HERE, "ada");
    }
    assert_eq!(scene.serve(), ["ada", "ada", "ada", "guess", "ada", "guessed", "new", "guess"]);
}

#[test]
fn a_full_queue_refuses_the_longest_line_of_the_last_class() {
    let mut scene = Scene::new();
    let places = scene.queue.places(HASH_TIME_ASSUMED);
    assert_eq!(places, 30, "so many hashes of 50 ms take 1.5 s");
    for number in 0..places {
        scene.add(Class::WithFailures, HERE, if number % 2 == 0 { "mallory" } else { "oscar" });
    }
    scene.add(Class::WithFailures, HERE, "mallory");
    assert_eq!(scene.refused(), ["mallory"], "it has one request more than the other");
    scene.add(Class::WithFailures, THERE, "bob");
    scene.add(Class::Known, HERE, "ada");
    assert_eq!(scene.refused().len(), 2);
    let served = scene.serve();
    assert!(served[..4].contains(&"ada".to_owned()) && served[..4].contains(&"bob".to_owned()), "{served:?}");
}

#[test]
fn a_request_whose_client_has_gone_leaves_its_place_and_its_turn_to_others() {
    let mut scene = Scene::new();
    for _ in 0..scene.queue.places(HASH_TIME_ASSUMED) {
        scene.add(Class::Known, HERE, "gone");
    }
    scene.waiting.truncate(1);
    scene.add(Class::WithFailures, THERE, "bob");
    assert!(scene.refused().is_empty());
    drop(scene.waiting.remove(0));
    assert_eq!(scene.serve(), ["bob"]);
}

#[test]
fn a_core_is_free_again_when_its_request_has_gone() {
    let mut scene = Scene::new();
    scene.add(Class::Known, HERE, "gone");
    drop(scene.busy.take());
    // It has got the core and ends before it uses it.
    scene.waiting.clear();
    assert!(scene.queue.enter(origin(Class::Known, HERE, "next")).is_none());
}

#[test]
fn guesses_leave_one_of_several_cores_to_others() {
    let queue: &'static Queue = Box::leak(Box::new(Queue::new(2)));
    assert!(queue.enter(origin(Class::WithFailures, THERE, "guess")).is_none());
    let mut second = queue.enter(origin(Class::KnownWithFailures, HERE, "guess")).expect("it waits");
    assert!(queue.enter(origin(Class::New, HERE, "ada")).is_none(), "a core is free for her");
    drop(Permit { queue, has_failures: false });
    assert_eq!(second.try_recv().err(), Some(TryRecvError::Empty), "the core of the first guess is still in use");
    drop(Permit { queue, has_failures: true });
    assert!(second.try_recv().is_ok());
}

#[test]
fn the_number_of_places_follows_from_the_measured_time() {
    let queue: &'static Queue = Box::leak(Box::new(Queue::new(2)));
    let assumed = queue.places(HASH_TIME_ASSUMED);
    let started = Instant::now();
    Permit { queue, has_failures: false }.run(|| while started.elapsed() < 2 * HASH_TIME_ASSUMED {});
    assert!(queue.places(queue.state().hash_time) < assumed);
    assert_eq!(queue.places(Duration::from_mins(1)), 2);
    assert_eq!(queue.places(Duration::ZERO), PLACES_MAX);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_served_in_time_gets_503() {
    let Scene { queue, busy, .. } = Scene::new();
    let began = tokio::time::Instant::now();
    let problem = queue.acquire(origin(Class::Known, HERE, "ada")).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(2), "the callers of users do not wait longer");
    assert_eq!((problem.status, problem.retry_after_seconds), (503, Some(1)));
    drop(busy);
}
