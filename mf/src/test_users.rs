//! Removes the users of a run of `mf verify` or `mf chaos` with their tokens and messages. The API has no operation for
//! it, so this is SQL with the superuser's account. The triggers write the deletions to the journal, as any change of
//! data: consumers follow.

use std::fmt;

use flack_catalogue::SERVICES;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use crate::infra::postgres;
use crate::stack::Stack;

/// Rows per transaction: new events wait behind the events of one transaction.
const BATCH_ROWS: i64 = 500;
/// In an order that the foreign keys of the monolith's database allow.
const TABLES: [(&str, &str); 3] = [("messages", "user_id"), ("tokens", "user_id"), ("users", "id")];

#[derive(Debug, Default)]
pub struct Removed {
    users: usize,
    messages: u64,
}

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "removed the {} users of the run and their {} messages", self.users, self.messages)
    }
}

/// Removes the users whose nicknames begin with `stem`, from the databases that own them.
pub async fn remove(stack: &Stack, stem: &str) -> sqlx::Result<Removed> {
    let mut databases = Vec::new();
    // In containers, the stage monolith has one database.
    for service in SERVICES.iter().filter(|service| stack.ports.postgres_host(service.database).is_some()) {
        databases.push(postgres::connect_to(&stack.ports, &stack.secrets, service.database).await?);
    }
    let mut users: Vec<i64> = Vec::new();
    for database in &mut databases {
        if owns_table(database, "users").await? {
            let found = sqlx::query_scalar("select id from users where starts_with(nickname, $1 || '-')").bind(stem);
            let found: Vec<i64> = found.fetch_all(database).await?;
            users.extend(found);
        }
    }
    let mut removed = Removed { users: users.len(), messages: 0 };
    for database in &mut databases {
        sqlx::query("set flack.correlation_id = 'mf'").execute(&mut *database).await?;
        for (table, column) in TABLES {
            if owns_table(database, table).await? {
                let rows = delete(database, table, column, &users).await?;
                removed.messages += if table == "messages" { rows } else { 0 };
            }
        }
    }
    Ok(removed)
}

/// Whether the database has a table and is its owner; replicas follow the owner. A service that never ran has no
/// tables.
async fn owns_table(database: &mut PgConnection, table: &str) -> sqlx::Result<bool> {
    if !sqlx::query_scalar("select to_regclass('part_tables') is not null").fetch_one(&mut *database).await? {
        return Ok(false);
    }
    let owned = sqlx::query_scalar(
        "select exists (
             select from part_tables inner join ownership using (part)
             where target = to_regclass($1) and role = 'owner'
         )",
    );
    owned.bind(table).fetch_one(database).await
}

async fn delete(database: &mut PgConnection, table: &str, column: &str, users: &[i64]) -> sqlx::Result<u64> {
    // Safe to format: the names are constants.
    let statement =
        format!("delete from {table} where id in (select id from {table} where {column} = any($1) limit {BATCH_ROWS})");
    let mut rows = 0;
    loop {
        let deleted = sqlx::query(AssertSqlSafe(statement.as_str())).bind(users).execute(&mut *database).await?;
        rows += deleted.rows_affected();
        if deleted.rows_affected() == 0 {
            return Ok(rows);
        }
    }
}
