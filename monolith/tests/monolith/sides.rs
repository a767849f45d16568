//! The two sides of the part users, with a database each: the monolith, and the service. An internal listener passes
//! requests on between them as the balancer does.

use std::sync::Arc;

use axum::Router;
use flack_api::{
    Layered,
    users::{self, UsersApi, UsersClient},
};
use flack_common::{
    auth::Verifier,
    authority::Authority,
    database,
    events::{Events, InProcess},
    forward::Forwarding,
    process::Background,
    quota::WriteLimit,
    registry::{Registry, keys},
};
use flack_handover::{Entry, Part, Record, Side};
use flack_monolith::SERVICE;
use flack_testing::{Client, Etcd, eventually};
use flack_users::config::GuessLimits;
use sqlx::{Connection as _, PgConnection, PgPool, postgres::PgConnectOptions};
use tokio::net::TcpListener;

use crate::support::{Monolith, limits};

/// Both sides. Dropping the value stops them.
pub struct Sides {
    pub etcd: Etcd,
    pub monolith: Monolith,
    pub service: Client,
    pub flack: PgPool,
    pub users: PgPool,
    background: Background,
}

impl Drop for Sides {
    fn drop(&mut self) {
        self.background.stopping().cancel();
        self.background.drained().cancel();
    }
}

/// Writes the record of a part.
pub async fn put(registry: &Registry, part: Part, record: Record) {
    let entry = Entry { part, record, updated_at: None, updated_by: None };
    registry.put(&keys::authority(part.service().name), entry.encode(), None).await.expect("etcd answers");
}

impl Sides {
    /// Starts both sides; a user may write `writes_max` times in 10 s. `flack` is an empty database.
    pub async fn start(flack: PgPool, record: Record, writes_max: u32) -> Self {
        let (etcd, background) = (Etcd::start().await, Background::default());
        let registry = etcd.registry();
        for part in Part::ALL {
            put(&registry, part, Record::initial(Side::Monolith)).await;
        }
        put(&registry, Part::Users, record).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));

        let events = Events::InProcess(InProcess::new(SERVICE));
        let monolith = Monolith::start(&flack, events, Some(registry.clone()), Some(&url), writes_max).await;
        // The parts have different owners.
        sqlx::query("alter table tokens drop constraint if exists tokens_user_id_fkey")
            .execute(&flack)
            .await
            .expect("no foreign key");
        let users = database_beside(&flack).await;
        let service = service(&users, &registry, &url, writes_max, &background).await;
        let router =
            Router::new().nest("/internal/monolith", monolith.router.clone()).nest("/internal/users", service.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { etcd, monolith, service: Client::new(service), flack, users, background }
    }

    pub async fn put(&self, record: Record) {
        put(&self.etcd.registry(), Part::Users, record).await;
    }

    /// Waits until the database of a side has this role.
    pub async fn wait_for_role(&self, pool: &PgPool, role: &str) {
        eventually(role, async || {
            let held: String = sqlx::query_scalar("select role from ownership where part = 'users'")
                .fetch_one(pool)
                .await
                .expect("a role");
            held == role
        })
        .await;
    }
}

/// Creates a second database, whose name follows from that of the first one. The next run of the test replaces it.
async fn database_beside(pool: &PgPool) -> PgPool {
    let options = PgConnectOptions::clone(&pool.connect_options());
    // At the beginning, because PostgreSQL cuts off the end of a long name.
    let name = options.get_database().expect("a name").replace("_sqlx_test_", "users_");
    let mut connection = PgConnection::connect_with(&options).await.expect("a connection");
    for statement in [format!("drop database if exists \"{name}\" with (force)"), format!("create database \"{name}\"")]
    {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await.expect("a database");
    }
    let pool = PgPool::connect_with(options.database(&name)).await.expect("the database");
    database::migrate(&pool, &flack_users::MIGRATIONS).await.expect("the tables");
    pool
}

/// Starts the service as `flack_users::build` does.
async fn service(
    pool: &PgPool,
    registry: &Registry,
    internal_url: &str,
    writes_max: u32,
    background: &Background,
) -> Router {
    let authority = Authority::from_registry("users", registry).await.expect("the records");
    authority.keep_fences(pool, background).await.expect("the fences follow");
    let verifier = Verifier::from_registry(registry, background).await.expect("the keys");
    let ownership = authority.of("users");
    let api = flack_users::start(pool, GuessLimits::default(), ownership, background).await.expect("it starts");
    let forwarding = Forwarding::new(&authority, Some(internal_url), pool, background);
    let forward = forwarding.layer::<dyn UsersApi>("users", |url, http| Arc::new(UsersClient::new(url, http)));
    let api: Arc<dyn UsersApi> = Arc::new(Layered::new(forward, api as _));
    users::router(Arc::new(Layered::new(WriteLimit::new(&limits(writes_max)), api)), verifier)
}
