//! Requests of a part while its owner changes: answered here, passed on to the other side, or kept until there is an
//! owner.
//!
//! A layer around each API of a part, in the monolith and in the part's service. It wraps the API and not the HTTP
//! routes, so that calls from other parts of this process are treated in the same way. `flack_handover::request`
//! decides what happens to a request. `WriteLimit` is outside of this layer: a write counts once, at the process that
//! it reaches first, however often it is tried or passed on.
//!
//! Leaves to others: whether a write commits (the fence in the database), and who the owner is (`authority`).

mod shadow;

use std::{
    future::pending,
    sync::Arc,
    time::{Duration, Instant},
};

use flack_api::{Invocation, Layer, Output, Problem};
use flack_handover::{
    Part, Record,
    request::{self, Effect, Input, Request},
};
use sqlx::PgPool;
use tokio::{sync::Semaphore, time::timeout};
use tracing::debug;

use crate::{
    authority::{self, Authority},
    process::Background,
};
use shadow::Shadow;

/// The longest time for which a request is kept. An operator undoes an attempt that takes 1.5 s, and the former owner
/// needs some time to notice it. Shorter than the deadline of a call (`flack_api::CALL_DEADLINE`).
const KEPT_MAX: Duration = Duration::from_secs(4);
/// The requests that a process keeps at the same time. Further ones get 503.
const KEPT_REQUESTS_MAX: usize = 200;
/// The pause between two attempts of a kept request while this side is the owner but its fence is still closed: any
/// process of this side may open it.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// What the layers of a process share.
#[derive(Debug, Clone)]
pub struct Forwarding {
    authority: Authority,
    /// Without the internal listener, requests are not passed on, and no read is repeated.
    internal_url: Option<String>,
    http: reqwest::Client,
    kept: Arc<Semaphore>,
    shadow: Shadow,
}

impl Forwarding {
    /// `pool` is the database of the process, which gets the counts of repeated reads.
    pub fn new(authority: &Authority, internal_url: Option<&str>, pool: &PgPool, background: &Background) -> Self {
        Self {
            authority: authority.clone(),
            internal_url: internal_url.map(str::to_owned),
            http: crate::http::client(),
            kept: Arc::new(Semaphore::new(KEPT_REQUESTS_MAX)),
            shadow: Shadow::start(pool, background),
        }
    }

    /// Returns the layer around the API of a part. `client` makes a client of the part's other side from a base URL.
    pub fn layer<Api: ?Sized>(
        &self,
        part: &str,
        client: impl FnOnce(&str, reqwest::Client) -> Arc<Api>,
    ) -> Forward<Api> {
        let part = Part::find(part).expect("the name of a part");
        let other = self.authority.side().other().service_name(part);
        let client =
            self.internal_url.as_ref().map(|url| client(&format!("{url}/internal/{other}"), self.http.clone()));
        Forward { shared: self.clone(), part, other: client }
    }
}

/// The layer around the API of one part.
#[derive(Debug)]
pub struct Forward<Api: ?Sized> {
    shared: Forwarding,
    part: Part,
    other: Option<Arc<Api>>,
}

impl<Api: ?Sized + Send + Sync + 'static> Layer<Api> for Forward<Api> {
    async fn call<T: Output>(&self, inner: &Arc<Api>, mut invocation: Invocation<Api, T>) -> Result<T, Problem> {
        // They are about this part. Calls that its handlers make are about others.
        let forwarded_epoch = invocation.context.forwarded_epoch.take();
        let may_read_replica = std::mem::take(&mut invocation.context.may_read_replica);
        let Some(mut records) = self.shared.authority.records() else { return invocation.run(inner).await };

        let side = self.shared.authority.side();
        let mut request = Request { side, epoch: forwarded_epoch.unwrap_or(0) };
        let end = invocation.context.deadline.into_iter().fold(Instant::now() + KEPT_MAX, Instant::min);
        let mut place = None;
        loop {
            let record = authority::record_in(&records.snapshot(), self.part);
            let is_owner = record.is_some_and(|record| record.owner == side);
            // The process that has passed the request on may have read a newer record, in which this side is the owner.
            let may_be_owner = is_owner || record.is_some_and(|record| request.epoch >= record.epoch);
            let is_replica_read =
                may_read_replica && invocation.operation.is_read() && record.is_some_and(answers_reads);
            let mut problem = authority::not_the_owner(self.part, record);
            if may_be_owner || is_replica_read {
                match invocation.run(inner).await {
                    Err(refused) if authority::is_refusal(&refused) => problem = refused,
                    answer => {
                        if let (Some(record), Some(other)) = (record.filter(|_| is_owner), &self.other) {
                            self.shared.shadow.repeat(self.part, &record, inner, other, invocation, &answer);
                        }
                        return answer;
                    }
                }
            }
            if let (Some(record), Some(other)) = (record, &self.other) {
                let effect;
                (request, effect) = request::decide(&request, Input::Fenced(record));
                let epoch = if effect == Effect::Forward {
                    Some(request.epoch)
                } else {
                    read_epoch(&request, record).filter(|_| invocation.operation.is_read())
                };
                if epoch.is_some() {
                    invocation.context.forwarded_epoch = epoch;
                    debug!(part = %self.part, operation = invocation.operation.id, epoch, "passed on to the owner");
                    return invocation.run(other).await;
                }
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(problem);
            }
            if place.is_none() {
                place = Some(self.shared.kept.try_acquire().map_err(|_| problem)?);
            }
            let is_switching = is_owner && record.is_some_and(|record| record.stage.is_switching());
            let pause = if may_be_owner && !is_switching { RETRY_INTERVAL.min(left) } else { left };
            // A record that changes later wakes the request at once.
            let changed = async {
                if !records.changed().await {
                    pending::<()>().await;
                }
            };
            let _ = timeout(pause, changed).await;
        }
    }
}

/// Whether the replica of a part with this record may answer reads that were sent to it.
fn answers_reads(record: Record) -> bool {
    record.stage.is_followed() && (record.read_percent > 0 || record.shadow_percent > 0)
}

/// Returns the epoch with which a read is passed on while the owner is about to change: the present owner answers reads
/// until it has changed. If it knows by then that it is the owner no more, it passes the read on by the later epoch.
fn read_epoch(request: &Request, record: Record) -> Option<i64> {
    let before = record.epoch - 1;
    (record.owner != request.side && record.stage.is_switching() && before > request.epoch).then_some(before)
}
