//! The routes of the operations at one side of a part. Each needs the part's key.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::Body,
    extract::{Query, Request, State},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use flack_api::Problem;
use flack_common::{
    database::{StoreError, StoreResult},
    process::Background,
};
use flack_handover::{
    Part,
    fence::{Refusal, Role},
    protocol::{
        self, ChangesQuery, CloseRequest, Closed, Digests, DigestsRequest, LogState, PauseRequest, Position,
        RowsRequest, Status, TableState, TablesQuery, VerifyRequest,
    },
};
use http::{StatusCode, header};
use ring::hmac;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{AssertSqlSafe, PgPool, error::DatabaseError};

use crate::{
    apply,
    change_log::{self, Wakeups},
    foreign_keys,
    peer::Peer,
    replica, rows,
    tables::{self, Table, identifier, literal},
    verification::Comparison,
};

/// Counting the rows of a large table takes longer than the statements of requests.
const COUNT_SECONDS_MAX: u32 = 25;
/// Rows are read some hundred times in a second; the catalog changes only when an instance of a new version starts.
const TABLES_KNOWN: Duration = Duration::from_secs(1);
/// How often changes are deleted that the replica has applied.
const DELETE_INTERVAL: Duration = Duration::from_secs(1);

/// One side of a part, which answers.
pub(crate) struct Operations {
    service: &'static str,
    part: Part,
    pool: PgPool,
    key: SecretString,
    /// Without one, this side cannot compare itself with the other.
    peer: Option<Peer>,
    wakeups: Wakeups,
    background: Background,
    deleted_at: Mutex<Instant>,
    /// The tables of the part, and when they were read.
    known_tables: Mutex<Option<(Instant, Arc<[Table]>)>>,
}

impl Operations {
    pub(crate) fn new(
        service: &'static str,
        part: Part,
        pool: PgPool,
        key: SecretString,
        peer: Option<Peer>,
        wakeups: Wakeups,
        background: Background,
    ) -> Arc<Self> {
        let (deleted_at, known_tables) = (Mutex::new(Instant::now()), Mutex::new(None));
        Arc::new(Self { service, part, pool, key, peer, wakeups, background, deleted_at, known_tables })
    }

    /// Whether applied changes were not deleted for a while.
    fn is_delete_due(&self) -> bool {
        let mut deleted_at = self.deleted_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = deleted_at.elapsed() > DELETE_INTERVAL;
        if is_due {
            *deleted_at = Instant::now();
        }
        is_due
    }

    pub(crate) fn router(self: Arc<Self>) -> Router {
        let path = |operation: &str| format!("/internal/{}/handover/{}/{operation}", self.service, self.part);
        Router::new()
            .route(&path(protocol::CHANGES), get(changes))
            .route(&path(protocol::LOG), get(log))
            .route(&path(protocol::TABLES), get(table_states))
            .route(&path(protocol::ROWS), post(copy_rows))
            .route(&path(protocol::DIGESTS), post(digests))
            .route(&path(protocol::PROBE), post(probe))
            .route(&path(protocol::CLOSE), post(close))
            .route(&path(protocol::SEQUENCES), post(sequences))
            .route(&path(protocol::PAUSE), post(pause))
            .route(&path(protocol::DISCARD), post(discard))
            .route(&path(protocol::VERIFY), post(verify))
            .route(&path(protocol::STATUS), get(status))
            .route_layer(middleware::from_fn_with_state(Arc::clone(&self), authorize))
            .with_state(self)
    }

    async fn table(&self, name: &str) -> Result<Table, Problem> {
        let known = self.known_tables.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let tables = match known {
            Some((read_at, tables)) if read_at.elapsed() < TABLES_KNOWN => tables,
            _ => {
                let tables: Arc<[Table]> =
                    tables::of_part(&self.pool, self.part).await.map_err(StoreError::from)?.into();
                let known = Some((Instant::now(), Arc::clone(&tables)));
                *self.known_tables.lock().unwrap_or_else(PoisonError::into_inner) = known;
                tables
            }
        };
        let table = tables.iter().find(|table| table.name == name).cloned();
        table.ok_or_else(|| Problem::not_found(format!("{} has no table {name}", self.part)))
    }

    /// Returns a table with the columns in the caller's order. Both sides must have the same ones, or the replica would
    /// lack some.
    async fn table_with(&self, name: &str, columns: &[String]) -> Result<Table, Problem> {
        let mut table = self.table(name).await?;
        let (mut own, mut asked) = (table.column_names(), columns.to_vec());
        own.sort();
        asked.sort();
        if own != asked {
            return Err(refused(format!(
                "{name} has other columns at {}; upgrade both sides to one version: here {own:?}, asked {asked:?}",
                self.service
            )));
        }
        table.columns.sort_by_key(|column| columns.iter().position(|name| *name == column.name));
        Ok(table)
    }

    fn comparison(&self) -> Result<Comparison, Problem> {
        let peer = self.peer.clone().ok_or_else(|| refused("INTERNAL_URL is not set: no other side".to_owned()))?;
        Ok(Comparison::new(self.part, self.pool.clone(), peer))
    }
}

/// Refuses a call without the part's key.
async fn authorize(State(side): State<Arc<Operations>>, request: Request, next: Next) -> Response {
    let presented =
        request.headers().get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    // The comparison of two tags takes the same time wherever they differ.
    let tagging = hmac::Key::new(hmac::HMAC_SHA256, b"handover");
    let expected = hmac::sign(&tagging, side.key.expose_secret().as_bytes());
    if presented.is_some_and(|presented| hmac::verify(&tagging, presented, expected.as_ref()).is_ok()) {
        next.run(request).await
    } else {
        Problem::unauthorized(format!("the operations of {} need its hand-over key", side.part)).into_response()
    }
}

fn refused(detail: String) -> Problem {
    Problem::conflict("handover-refused", detail)
}

async fn changes(
    State(side): State<Arc<Operations>>,
    Query(query): Query<ChangesQuery>,
) -> Result<Json<protocol::Changes>, Problem> {
    let applied = Position { transaction: query.transaction, id: query.id };
    let read = change_log::read(&side.pool, side.part, &query, &side.wakeups).await.map_err(StoreError::from)?;
    let changes = read.map_err(|gone| {
        let since = gone.followed_since.map_or_else(|| "never".to_owned(), |epoch| format!("epoch {epoch}"));
        let detail = format!("changes of {} are recorded since {since}, and not from there on", side.part);
        Problem::new(StatusCode::GONE, "handover-refused", "Gone", detail)
    })?;
    if applied != Position::default() && side.is_delete_due() {
        change_log::delete_applied(&side.pool, side.part, applied).await.map_err(StoreError::from)?;
    }
    Ok(Json(changes))
}

async fn log(State(side): State<Arc<Operations>>) -> Result<Json<LogState>, Problem> {
    let (followed_since, transaction, id): (Option<i64>, Option<String>, Option<i64>) = sqlx::query_as(
        "select followed_since, transaction::text, id
         from ownership left join part_replicas on part_replicas.part = ownership.part and role = 'replica'
         where ownership.part = $1",
    )
    .bind(side.part.service().name)
    .fetch_one(&side.pool)
    .await
    .map_err(StoreError::from)?;
    let applied =
        transaction.zip(id).and_then(|(transaction, id)| Some(Position { transaction: transaction.parse().ok()?, id }));
    Ok(Json(LogState { followed_since, applied }))
}

async fn table_states(
    State(side): State<Arc<Operations>>,
    Query(query): Query<TablesQuery>,
) -> Result<Json<Vec<TableState>>, Problem> {
    let count = async || -> StoreResult<Vec<TableState>> {
        let tables = tables::of_part(&side.pool, side.part).await?;
        let mut transaction = side.pool.begin().await?;
        sqlx::query(AssertSqlSafe(format!("set local statement_timeout = '{COUNT_SECONDS_MAX}s'")))
            .execute(&mut *transaction)
            .await?;
        let mut states = Vec::new();
        for table in tables {
            let mut state =
                TableState { name: table.name.clone(), columns: table.column_names(), rows: 0, identities: [].into() };
            if query.counts_rows {
                // A name from the catalog, quoted.
                let count = AssertSqlSafe(format!("select count(*) from {}", table.name));
                state.rows = sqlx::query_scalar::<_, i64>(count).fetch_one(&mut *transaction).await?.unsigned_abs();
            }
            for column in table.identities {
                let last = last_value(&table.name, &column);
                let last = sqlx::query_scalar(AssertSqlSafe(last)).fetch_one(&mut *transaction).await?;
                state.identities.insert(column, last);
            }
            states.push(state);
        }
        Ok(states)
    };
    Ok(Json(count().await?))
}

/// Returns a query of the last value that a column's sequence has given.
fn last_value(table: &str, column: &str) -> String {
    let sequence = format!("pg_get_serial_sequence({}, {})", literal(table), literal(column));
    format!("select coalesce(pg_sequence_last_value({sequence}::regclass), 0)")
}

async fn copy_rows(State(side): State<Arc<Operations>>, Json(request): Json<RowsRequest>) -> Result<Response, Problem> {
    let table = side.table_with(&request.table, &request.columns).await?;
    let rows = rows::copy_out(&side.pool, &table, &request.selection).await.map_err(StoreError::from)?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], Body::from_stream(rows)).into_response())
}

async fn digests(
    State(side): State<Arc<Operations>>,
    Json(request): Json<DigestsRequest>,
) -> Result<Json<Digests>, Problem> {
    if request.rows_per_range == 0 || request.ranges_max == 0 {
        return Err(Problem::bad_request("rows_per_range and ranges_max are at least 1"));
    }
    let table = side.table_with(&request.table, &request.columns).await?;
    Ok(Json(rows::digests(&side.pool, &table, &request).await.map_err(StoreError::from)?))
}

async fn probe(State(side): State<Arc<Operations>>) -> Result<Json<Position>, Problem> {
    Ok(Json(change_log::probe(&side.pool, side.part).await.map_err(StoreError::from)?))
}

async fn close(
    State(side): State<Arc<Operations>>,
    Json(request): Json<CloseRequest>,
) -> Result<Json<Closed>, Problem> {
    let close = async || -> sqlx::Result<Closed> {
        let mut connection = side.pool.acquire().await?;
        // Before the fence is closed, so that writes do not wait for it. The new owner's rows may arrive at once, and
        // rows of other parts refer to them, or to rows that the new owner deletes.
        foreign_keys::drop_of(&mut connection, side.part, true).await?;
        let closing_since = Instant::now();
        let marker = sqlx::query_scalar("select close_part($1, $2)")
            .bind(side.part.service().name)
            .bind(request.epoch)
            .fetch_one(&mut *connection)
            .await?;
        Ok(Closed { marker, closing_ms: u64::try_from(closing_since.elapsed().as_millis()).unwrap_or(u64::MAX) })
    };
    let refusal = match close().await {
        Ok(closed) => return Ok(Json(closed)),
        Err(error) => {
            let code = error.as_database_error().and_then(DatabaseError::code).unwrap_or_default().into_owned();
            match code.as_str() {
                "FL001" => Refusal::Replica,
                "FL002" => {
                    let (_, fence, ..) = replica::ownership(&side.pool, side.part).await.map_err(StoreError::from)?;
                    Refusal::OldEpoch { asked: request.epoch, fence }
                }
                // A statement also waits no longer than the lock timeout.
                "55P03" | "40P01" => Refusal::LockTimeout,
                _ => return Err(StoreError::from(error).into()),
            }
        }
    };
    Err(refused(serde_json::to_string(&refusal).expect("a refusal is JSON")))
}

async fn sequences(State(side): State<Arc<Operations>>) -> Result<StatusCode, Problem> {
    let peer = side.peer.as_ref().ok_or_else(|| refused("INTERNAL_URL is not set: no other side".to_owned()))?;
    // Clients' writes wait meanwhile, so the rows are not counted.
    let owner = peer.tables(false).await.map_err(|problem| refused(problem.to_string()))?;
    let move_on = async || -> StoreResult<()> {
        let mut connection = side.pool.acquire().await?;
        for state in &owner {
            for (column, last) in &state.identities {
                let (table, own) = (&state.name, last_value(&state.name, column));
                let highest = format!("select coalesce(max({}), 0) from {table}", identifier(column));
                let statement = format!(
                    "select setval(pg_get_serial_sequence({}, {}), greatest(({own}), ({highest}), {last}, 1))",
                    literal(table),
                    literal(column)
                );
                sqlx::query(AssertSqlSafe(statement)).execute(&mut *connection).await?;
            }
        }
        // The owner is closed, and the replica has applied everything: its foreign keys can come back before it opens.
        // The applier drops them again when the attempt is undone.
        foreign_keys::restore_own(&mut connection, side.part).await?;
        replica::set_has_keys(&mut *connection, side.part, true).await?;
        Ok(())
    };
    // Only a replica: another owner's ids must not move this owner's sequences.
    let (role, ..) = replica::ownership(&side.pool, side.part).await.map_err(StoreError::from)?;
    if role != Role::Replica {
        return Err(refused(format!("{} is no replica of {}", side.service, side.part)));
    }
    move_on().await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn pause(State(side): State<Arc<Operations>>, Json(request): Json<PauseRequest>) -> Result<StatusCode, Problem> {
    replica::set_paused(&side.pool, side.part, request.is_paused).await.map_err(StoreError::from)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn discard(State(side): State<Arc<Operations>>) -> Result<StatusCode, Problem> {
    let discard = async || -> sqlx::Result<bool> {
        let tables = tables::of_part(&side.pool, side.part).await?;
        let mut connection = side.pool.acquire().await?;
        // One that has just become a replica has no state yet.
        replica::load(&mut connection, side.part).await?;
        apply::discard(&mut connection, side.part, &tables).await
    };
    let (role, ..) = replica::ownership(&side.pool, side.part).await.map_err(StoreError::from)?;
    if role != Role::Replica || !discard().await.map_err(StoreError::from)? {
        return Err(refused(format!("{} owns {} or follows its owner: its rows are kept", side.service, side.part)));
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn verify(State(side): State<Arc<Operations>>, Json(request): Json<VerifyRequest>) -> Result<Response, Problem> {
    let (role, ..) = replica::ownership(&side.pool, side.part).await.map_err(StoreError::from)?;
    if role != Role::Replica {
        return Err(refused(format!("{} is no replica of {}: it has nothing to compare", side.service, side.part)));
    }
    let comparison = side.comparison()?;
    let problem = |problem: anyhow::Error| refused(format!("{problem:#}"));
    if request.only_touched {
        comparison.of_touched_rows().await.map_err(problem)?;
        let verification = replica::verification(&side.pool, side.part).await.map_err(StoreError::from)?;
        return Ok(Json(verification).into_response());
    }
    if comparison.begin().await.map_err(problem)? {
        let stopping = side.background.stopping();
        side.background.spawn(format!("verification of {}", side.part), async move {
            stopping.run_until_cancelled(comparison.of_all_rows()).await.unwrap_or(Ok(()))
        });
    }
    Ok(StatusCode::ACCEPTED.into_response())
}

async fn status(State(side): State<Arc<Operations>>) -> Result<Json<Status>, Problem> {
    Ok(Json(replica::status(&side.pool, side.service, side.part).await.map_err(StoreError::from)?))
}
