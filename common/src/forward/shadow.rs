//! Shadow reads: a share of the reads at the owner is repeated at the replica, and the answers are compared.
//!
//! It happens after the client has its answer. The results are in the table `shadow_reads` of the owner's database.

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use flack_api::{Invocation, Output, Problem};
use flack_handover::{Part, Record};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::{sync::Semaphore, time::sleep};
use tracing::warn;

use crate::process::Background;

/// Reads that are repeated at the same time. Further ones are not.
const REPEATED_AT_ONCE_MAX: usize = 16;
/// The replica is some milliseconds behind: a difference counts only if it stays while the owner's answer is the same.
const COMPARISONS_MAX: u32 = 6;
/// After the first comparison; it doubles with each further one, because a busy replica needs longer.
const COMPARISON_PAUSE: Duration = Duration::from_millis(100);
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// The last mismatches of a part that are kept.
const EXAMPLES_MAX: usize = 5;
/// Of each answer in an example, from a little before the first difference on.
const ANSWER_CHARACTERS_MAX: usize = 1_000;
const CHARACTERS_BEFORE: usize = 300;

/// Repeats reads and counts the results. Clones share the counts.
#[derive(Debug, Clone)]
pub(super) struct Shadow {
    counts: Arc<Mutex<BTreeMap<Part, Counts>>>,
    repeating: Arc<Semaphore>,
}

/// Results of one epoch that are not in the table yet.
#[derive(Debug, Default)]
struct Counts {
    epoch: i64,
    reads: i64,
    mismatches: i64,
    examples: Vec<Value>,
}

impl Shadow {
    pub(super) fn start(pool: &PgPool, background: &Background) -> Self {
        let shadow = Self { counts: Arc::default(), repeating: Arc::new(Semaphore::new(REPEATED_AT_ONCE_MAX)) };
        let (flushed, pool) = (shadow.clone(), pool.clone());
        background.every("shadow reads", FLUSH_INTERVAL, move || flush(flushed.clone(), pool.clone()));
        shadow
    }

    /// Repeats an answered read at the replica, if the record's share of the reads includes it.
    pub(super) fn repeat<Api: ?Sized + Send + Sync + 'static, T: Output>(
        &self,
        part: Part,
        record: &Record,
        owner: &Arc<Api>,
        replica: &Arc<Api>,
        mut invocation: Invocation<Api, T>,
        answer: &Result<T, Problem>,
    ) {
        let is_chosen = invocation.operation.is_read()
            // A read with a password is one of the owner: it counts guesses.
            && !invocation.operation.needs_password
            && record.stage.is_followed()
            && rand::random_range(0..100) < record.shadow_percent
            && is_decided(answer);
        if !is_chosen {
            return;
        }
        let Ok(place) = Arc::clone(&self.repeating).try_acquire_owned() else { return };
        let (this, epoch, mut expected) = (self.clone(), record.epoch, answer.clone());
        let (owner, replica) = (Arc::clone(owner), Arc::clone(replica));
        invocation.context.deadline = None;
        tokio::spawn(async move {
            let _place = place;
            let mut mismatch = None;
            for comparison in 0..COMPARISONS_MAX {
                // At a process that has another record, it waits for the same one, and is not passed back.
                invocation.context.forwarded_epoch = Some(epoch);
                invocation.context.may_read_replica = true;
                let repeated = invocation.run(&replica).await;
                invocation.context.forwarded_epoch = None;
                invocation.context.may_read_replica = false;
                let present = invocation.run(&owner).await;
                // A difference counts only if the last comparison shows it.
                mismatch = None;
                if is_decided(&repeated) && is_decided(&present) {
                    if is_equal(&expected, &repeated) || is_equal(&present, &repeated) {
                        return this.add(part, Counts { epoch, reads: 1, ..Counts::default() });
                    }
                    // Rows that change all the time decide nothing: the replica may have any state in between.
                    let is_stable = is_equal(&expected, &present);
                    mismatch = is_stable.then(|| example(&present, &repeated));
                    expected = present;
                }
                sleep(COMPARISON_PAUSE * 2_u32.pow(comparison)).await;
            }
            if let Some(mut example) = mismatch {
                let operation = invocation.operation.id;
                warn!(%part, operation, "the replica answers a read in another way than the owner");
                example["operation"] = operation.into();
                this.add(part, Counts { epoch, reads: 1, mismatches: 1, examples: vec![example] });
            }
        });
    }

    fn add(&self, part: Part, added: Counts) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = counts.entry(part).or_default();
        match added.epoch.cmp(&counts.epoch) {
            Ordering::Less => return,
            Ordering::Equal => {}
            Ordering::Greater => *counts = Counts { epoch: added.epoch, ..Counts::default() },
        }
        counts.reads += added.reads;
        counts.mismatches += added.mismatches;
        counts.examples.extend(added.examples);
        counts.examples.drain(..counts.examples.len().saturating_sub(EXAMPLES_MAX));
    }
}

/// Whether an answer depends on the data.
fn is_decided<T>(answer: &Result<T, Problem>) -> bool {
    !answer.as_ref().is_err_and(Problem::is_retryable)
}

fn is_equal<T: Output>(owner: &Result<T, Problem>, replica: &Result<T, Problem>) -> bool {
    match (owner, replica) {
        (Ok(owner), Ok(replica)) => owner == replica,
        // The correlation id is in the problem, too.
        (Err(owner), Err(replica)) => (owner.status, &owner.kind) == (replica.status, &replica.kind),
        _ => false,
    }
}

/// Returns both answers from a little before their first difference on.
fn example(owner: &impl Debug, replica: &impl Debug) -> Value {
    let (owner, replica) = (format!("{owner:?}"), format!("{replica:?}"));
    let equal = owner.chars().zip(replica.chars()).take_while(|(owner, replica)| owner == replica).count();
    let from = equal.saturating_sub(CHARACTERS_BEFORE);
    let part = |text: &str| text.chars().skip(from).take(ANSWER_CHARACTERS_MAX).collect::<String>();
    json!({ "owner": part(&owner), "replica": part(&replica) })
}

async fn flush(shadow: Shadow, pool: PgPool) -> sqlx::Result<()> {
    let counts = std::mem::take(&mut *shadow.counts.lock().unwrap_or_else(PoisonError::into_inner));
    let mut result = Ok(());
    for (part, counts) in counts {
        let written = sqlx::query("select count_shadow_reads($1, $2, $3, $4, $5)")
            .bind(part.service().name)
            .bind(counts.epoch)
            .bind(counts.reads)
            .bind(counts.mismatches)
            .bind(Value::from(counts.examples.clone()))
            .execute(&pool)
            .await;
        if let Err(problem) = written {
            // A mismatch that was lost would let an owner change that must not.
            shadow.add(part, counts);
            result = Err(problem);
        }
    }
    result
}
