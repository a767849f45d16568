//! Databases and roles: one pair per service.

use flack_catalogue::Service;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, Connection};

use crate::ports::Ports;
use crate::secrets::Secrets;

/// Checks that the superuser can connect.
pub async fn ready(ports: &Ports, secrets: &Secrets) -> Result<(), sqlx::Error> {
    connect(ports, secrets).await?.close().await
}

/// Creates missing databases and roles of services, and sets every role's password to the one in the stack's secrets.
pub async fn set_up(ports: &Ports, secrets: &Secrets, services: &[Service]) -> Result<(), sqlx::Error> {
    let mut connection = connect(ports, secrets).await?;
    // PostgreSQL logs a failed statement, and these contain passwords.
    sqlx::query("set log_min_error_statement = panic").execute(&mut connection).await?;
    for service in services {
        let name = service.database;
        // Safe to format: names are from the catalogue, and passwords are letters and digits.
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
        execute(&mut connection, format!(r#"revoke connect, temporary on database "{name}" from public"#)).await?;
    }
    for shared in ["postgres", "template1"] {
        execute(&mut connection, format!("revoke connect, temporary on database {shared} from public")).await?;
    }
    // A server that ran already does not have the rules of new roles in `pg_hba.conf`.
    sqlx::query("select pg_reload_conf()").execute(&mut connection).await?;
    connection.close().await
}

async fn execute(connection: &mut PgConnection, statement: String) -> Result<(), sqlx::Error> {
    sqlx::query(AssertSqlSafe(statement)).execute(connection).await.map(|_| ())
}

async fn connect(ports: &Ports, secrets: &Secrets) -> Result<PgConnection, sqlx::Error> {
    connect_to(ports, secrets, "postgres").await
}

/// Connects to a database as the superuser.
pub async fn connect_to(ports: &Ports, secrets: &Secrets, database: &str) -> Result<PgConnection, sqlx::Error> {
    // Without the operator's PG* variables and ~/.pgpass, which are for other servers.
    let Some(host) = ports.postgres_host(database) else {
        return Err(sqlx::Error::Configuration(format!("the PostgreSQL of {database} does not run").into()));
    };
    let options = PgConnectOptions::new_without_pgpass()
        .host(&host.to_string())
        .port(ports.postgres)
        .username("postgres")
        .password(&secrets.postgres)
        .database(database)
        .ssl_mode(PgSslMode::Disable);
    PgConnection::connect_with(&options).await
}
