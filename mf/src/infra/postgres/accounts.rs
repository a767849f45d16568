//! Databases and roles: one pair for each owner.

use flack_catalogue::SERVICES;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, Connection};

use crate::ports::Ports;
use crate::secrets::Secrets;

/// Whether the superuser can sign in; the error says why not (yet).
pub async fn ready(ports: &Ports, secrets: &Secrets) -> Result<(), sqlx::Error> {
    connect(ports, secrets).await?.close().await
}

/// Makes what is missing, and gives every role the password that is in the stack's secrets.
pub async fn set_up(ports: &Ports, secrets: &Secrets) -> Result<(), sqlx::Error> {
    let mut connection = connect(ports, secrets).await?;
    // A statement that fails is written to the log, and these hold passwords.
    sqlx::query("set log_min_error_statement = panic").execute(&mut connection).await?;
    for service in &SERVICES {
        let name = service.database;
        // Names are our own words, passwords are letters and digits: nothing here needs quoting beyond quotes.
        let password = &secrets.account(service.name).postgres;
        let role: bool = sqlx::query_scalar("select exists (select from pg_roles where rolname = $1)")
            .bind(name)
            .fetch_one(&mut connection)
            .await?;
        let verb = if role { "alter" } else { "create" };
        execute(&mut connection, format!(r#"{verb} role "{name}" login password '{password}'"#)).await?;

        let database: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
            .bind(name)
            .fetch_one(&mut connection)
            .await?;
        if !database {
            execute(&mut connection, format!(r#"create database "{name}" owner "{name}""#)).await?;
        }
        execute(&mut connection, format!(r#"revoke connect, temporary on database "{name}" from public"#))
            .await?;
    }
    for shared in ["postgres", "template1"] {
        execute(&mut connection, format!("revoke connect, temporary on database {shared} from public"))
            .await?;
    }
    connection.close().await
}

async fn execute(connection: &mut PgConnection, statement: String) -> Result<(), sqlx::Error> {
    sqlx::query(AssertSqlSafe(statement)).execute(connection).await.map(|_| ())
}

async fn connect(ports: &Ports, secrets: &Secrets) -> Result<PgConnection, sqlx::Error> {
    connect_to(ports, secrets, "postgres").await
}

/// As the superuser, to any database: what `mf events` looks at belongs to many owners.
pub async fn connect_to(
    ports: &Ports,
    secrets: &Secrets,
    database: &str,
) -> Result<PgConnection, sqlx::Error> {
    // `new_without_pgpass`: what the operator's own PG* variables and files say is about other servers.
    let options = PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(ports.postgres)
        .username("postgres")
        .password(&secrets.postgres)
        .database(database)
        .ssl_mode(PgSslMode::Disable);
    PgConnection::connect_with(&options).await
}
