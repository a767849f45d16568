use std::borrow::Cow;

use sqlx::{
    AssertSqlSafe, ConnectOptions, SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
};

use flack_api::Problem;

use super::*;

fn problem(error: sqlx::Error) -> Problem {
    StoreError::from(error).into()
}

fn migrator(migrations: &[(i64, &str)]) -> Migrator {
    let migration = |(version, sql): &(i64, &str)| {
        let sql = AssertSqlSafe((*sql).to_owned()).into_sql_str();
        let no_tx = sql.as_str().starts_with("-- no-transaction");
        Migration::new(*version, Cow::Borrowed("test"), MigrationType::Simple, sql, no_tx)
    };
    Migrator::with_migrations(migrations.iter().map(migration).collect())
}

/// The configuration for the database of a test.
fn config_of(pool: &PgPool, connections_max: u32) -> DatabaseConfig {
    DatabaseConfig { url: pool.connect_options().to_url_lossy().to_string().into(), connections_max }
}

#[sqlx::test(migrations = false)]
async fn migrations_are_applied_once_however_many_instances_start_together(pool: PgPool) {
    let service = migrator(&[(1, "create table things (id bigint)"), (2, "insert into things values (1)")]);
    let starts = (0..4).map(|_| migrate(&pool, &service));
    futures::future::try_join_all(starts).await.unwrap();
    let count: i64 = sqlx::query_scalar("select count(*) from things").fetch_one(&pool).await.unwrap();
    assert_eq!(count, 1);
}

#[sqlx::test(migrations = false)]
async fn the_shared_migrations_run_before_those_of_the_service(pool: PgPool) {
    migrate(&pool, &migrator(&[(1, "select count(*) from journal")])).await.unwrap();
}

#[sqlx::test(migrations = false)]
async fn a_database_with_a_changed_migration_is_refused_with_the_command_that_deletes_its_data(pool: PgPool) {
    migrate(&pool, &migrator(&[(7, "create table things (id bigint)")])).await.unwrap();
    let problem = migrate(&pool, &migrator(&[(7, "create table things (id int)")])).await.unwrap_err();
    let text = format!("{problem:#}");
    assert!(text.contains("own migration 7") && text.contains("`bin/mfdown --purge`"), "{text}");
}

#[sqlx::test(migrations = false)]
async fn a_migration_that_fails_is_rolled_back_and_releases_its_lock(pool: PgPool) {
    let broken = migrator(&[(1, "create table things (id bigint); select 1 / 0;")]);
    let text = format!("{:#}", migrate(&pool, &broken).await.unwrap_err());
    assert!(text.contains("own migrations failed") && text.contains("division by zero"), "{text}");
    migrate(&pool, &migrator(&[(1, "create table things (id bigint)")])).await.unwrap();
}

#[sqlx::test(migrations = false)]
async fn an_older_instance_starts_on_a_database_with_newer_migrations(pool: PgPool) {
    let first = (1, "create table things (id bigint)");
    migrate(&pool, &migrator(&[first, (2, "alter table things add name text")])).await.unwrap();
    migrate(&pool, &migrator(&[first])).await.unwrap();
}

#[sqlx::test(migrations = false)]
async fn a_migration_that_waits_for_a_table_lets_other_statements_pass(pool: PgPool) {
    let create = (1, "create table things (id bigint)");
    migrate(&pool, &migrator(&[create])).await.unwrap();
    let mut reader = pool.begin().await.unwrap();
    sqlx::query("select from things").execute(&mut *reader).await.unwrap();
    let alter = tokio::spawn({
        let pool = pool.clone();
        async move { migrate(&pool, &migrator(&[create, (2, "alter table things add name text")])).await }
    });
    let is_waiting = async || -> bool {
        let waits = "select exists (select from pg_locks where not granted and relation = 'things'::regclass)";
        sqlx::query_scalar(waits).fetch_one(&pool).await.unwrap()
    };
    // Twice, so that it has given up once. The statement ends although the reader's transaction never does.
    for _ in 0..2 {
        let waiting = async {
            while !is_waiting().await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("the migration waits for the lock");
        sqlx::query("insert into things values (1)").execute(&pool).await.unwrap();
    }
    assert!(!alter.is_finished());
    reader.commit().await.unwrap();
    alter.await.unwrap().unwrap();
    sqlx::query("select name from things").execute(&pool).await.unwrap();
}

#[sqlx::test(migrations = false)]
async fn an_index_is_created_concurrently_by_one_of_many_instances_also_after_an_interruption(pool: PgPool) {
    let table = (1, "create table things (id bigint); insert into things values (1), (1)");
    migrate(&pool, &migrator(&[table])).await.unwrap();
    // As an interrupted attempt leaves it: the index exists, but is invalid.
    let index = "create unique index concurrently things_id on things (id)";
    sqlx::query(index).execute(&pool).await.unwrap_err();
    sqlx::query("delete from things where ctid = '(0,1)'").execute(&pool).await.unwrap();

    let service = migrator(&[
        table,
        (2, "-- no-transaction\ncreate unique index concurrently things_id on things (id)"),
        (3, "alter table things add name text"),
    ]);
    let starts = (0..4).map(|_| migrate(&pool, &service));
    futures::future::try_join_all(starts).await.unwrap();
    let is_valid: bool = sqlx::query_scalar("select indisvalid from pg_index where indexrelid = 'things_id'::regclass")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert!(is_valid);
    sqlx::query("insert into things (id, name) values (1, 'a')").execute(&pool).await.unwrap_err();
}

#[sqlx::test(migrations = false)]
async fn a_correlation_id_is_valid_in_its_transaction_only(pool: PgPool) {
    const READ: &str = "select coalesce(current_setting('flack.correlation_id', true), '')";
    let pool = connect(&config_of(&pool, 1)).await.unwrap();
    let context = Context { correlation_id: "abc".to_owned(), ..Context::background() };
    let mut transaction = begin(&pool, &context).await.unwrap();
    let inside: String = sqlx::query_scalar(READ).fetch_one(&mut *transaction).await.unwrap();
    transaction.commit().await.unwrap();
    // The pool has one connection: this is the same session.
    let after: String = sqlx::query_scalar(READ).fetch_one(&pool).await.unwrap();
    assert_eq!((inside.as_str(), after.as_str()), ("abc", ""));
}

#[sqlx::test(migrations = false)]
async fn every_statement_has_a_timeout(pool: PgPool) {
    let pool = connect(&config_of(&pool, 1)).await.unwrap();
    let limit: String = sqlx::query_scalar("show statement_timeout").fetch_one(&pool).await.unwrap();
    assert_eq!(limit, format!("{STATEMENT_SECONDS_MAX}s"));
    let mut connection = pool.acquire().await.unwrap();
    sqlx::query("set statement_timeout = '10ms'").execute(&mut *connection).await.unwrap();
    let cancelled = sqlx::query("select pg_sleep(60)").execute(&mut *connection).await.unwrap_err();
    assert_eq!(problem(cancelled).status, 503);
}

#[sqlx::test(migrations = false)]
async fn without_a_free_connection_a_request_gets_503_and_the_process_stays_ready(pool: PgPool) {
    let pool = connect(&config_of(&pool, 1)).await.unwrap();
    let _busy = pool.acquire().await.unwrap();
    assert_eq!(problem(pool.acquire().await.unwrap_err()).status, 503);
    ping(&pool).await.unwrap();
}

#[sqlx::test(migrations = false)]
async fn a_connection_that_the_database_closes_is_replaced_by_a_new_one(pool: PgPool) {
    let pool = connect(&config_of(&pool, 1)).await.unwrap();
    let terminate = "select pg_terminate_backend(pg_backend_pid())";
    let closed = sqlx::query(terminate).execute(&pool).await.unwrap_err();
    assert_eq!(problem(closed).status, 503);
    ping(&pool).await.unwrap();
}

#[sqlx::test(migrations = false)]
async fn a_wrong_statement_is_an_internal_error_without_details_for_the_client(pool: PgPool) {
    let problem = problem(sqlx::query("select * from nowhere").execute(&pool).await.unwrap_err());
    assert_eq!(problem.status, 500);
    assert!(!problem.detail.contains("nowhere"), "{problem}");
}

#[sqlx::test(migrations = false)]
async fn only_a_violation_of_the_named_constraint_becomes_the_domain_error(pool: PgPool) {
    sqlx::query("create table things (id bigint constraint things_key unique)").execute(&pool).await.unwrap();
    let insert = async |constraint: &str| -> Result<(), Problem> {
        sqlx::query("insert into things values (1)")
            .execute(&pool)
            .await
            .on_constraint("things_other_key", || Problem::not_found("another thing"))
            .on_constraint(constraint, || Problem::conflict("thing-exists", "the thing exists"))?;
        Ok(())
    };
    insert("things_key").await.unwrap();
    assert_eq!(insert("things_key").await.unwrap_err().status, 409);
    assert_eq!(insert("things_third_key").await.unwrap_err().status, 500);
}

#[sqlx::test(migrations = false)]
async fn a_database_that_does_not_exist_is_an_immediate_error_without_the_password(pool: PgPool) {
    let options = (*pool.connect_options()).clone().database("flack_nowhere").password("hush");
    let url = options.to_url_lossy().to_string();
    let problem = connect(&DatabaseConfig { url: url.into(), connections_max: 1 }).await.unwrap_err();
    let text = format!("{problem:#}");
    assert!(text.contains("flack_nowhere") && text.contains("cannot be used"), "{text}");
    assert!(!text.contains("hush"), "{text}");
}

#[tokio::test]
async fn an_invalid_database_url_is_an_error_without_the_password() {
    let config = DatabaseConfig { url: "postgres://users:hush@[/x".into(), connections_max: 1 };
    let text = format!("{:#}", connect(&config).await.unwrap_err());
    assert!(text.contains("DATABASE_URL") && !text.contains("hush"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn connecting_to_an_unavailable_database_ends_after_a_timeout() {
    // Nothing listens on port 9.
    let config = DatabaseConfig { url: "postgres://flack@127.0.0.1:9/flack".into(), connections_max: 1 };
    let started = tokio::time::Instant::now();
    let text = format!("{:#}", connect(&config).await.unwrap_err());
    assert!(text.contains("127.0.0.1:9") && text.contains("has not answered"), "{text}");
    assert!(started.elapsed() < 2 * CONNECT_TIMEOUT);
}
