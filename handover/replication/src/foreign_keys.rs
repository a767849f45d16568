//! Foreign keys of a part's tables. They exist only while this database owns the parts of both tables.

use flack_handover::Part;
use sqlx::PgConnection;
use tracing::{info, warn};

/// Drops the foreign keys of a part: all of them, or those between its tables and other parts' ones.
pub(crate) async fn drop_of(connection: &mut PgConnection, part: Part, only_crossing: bool) -> sqlx::Result<()> {
    let keys: Vec<(String, String)> =
        sqlx::query_as("select referencing::text, name from part_foreign_keys($1) where is_crossing or not $2")
            .bind(part.service().name)
            .bind(only_crossing)
            .fetch_all(&mut *connection)
            .await?;
    // One transaction for each: the locks of two tables at once, not of all.
    for (table, key) in keys {
        sqlx::query("select drop_foreign_key($1::regclass, $2)")
            .bind(&table)
            .bind(&key)
            .execute(&mut *connection)
            .await?;
        info!(%part, table, key, "dropped a foreign key: this database does not own both tables");
    }
    Ok(())
}

/// Adds the dropped foreign keys among the part's own tables, for new rows. The part is about to be owned.
pub(crate) async fn restore_own(connection: &mut PgConnection, part: Part) -> sqlx::Result<()> {
    restore(
        connection,
        part,
        "select referencing, name from part_keys
         inner join part_tables as source on source.target = to_regclass(referencing)
         inner join part_tables as goal on goal.target = to_regclass(referenced)
         where source.part = $1 and goal.part = $1",
    )
    .await
}

/// Adds the dropped foreign keys of the part whose tables are all owned here, and checks the present rows.
pub(crate) async fn restore_owned(connection: &mut PgConnection, part: Part) -> sqlx::Result<()> {
    restore(
        connection,
        part,
        "select referencing, name from part_keys
         inner join part_tables as source on source.target = to_regclass(referencing)
         inner join part_tables as goal on goal.target = to_regclass(referenced)
         inner join ownership as one on one.part = source.part and one.role = 'owner'
         inner join ownership as other on other.part = goal.part and other.role = 'owner'
         where $1 in (source.part, goal.part)",
    )
    .await
}

async fn restore(connection: &mut PgConnection, part: Part, keys: &'static str) -> sqlx::Result<()> {
    let keys: Vec<(String, String)> =
        sqlx::query_as(keys).bind(part.service().name).fetch_all(&mut *connection).await?;
    for (table, key) in keys {
        sqlx::query("select restore_foreign_key($1, $2)").bind(&table).bind(&key).execute(&mut *connection).await?;
        info!(%part, table, key, "added a foreign key again");
    }
    Ok(())
}

/// Checks the rows of the foreign keys that were added again. Returns false when rows violate one; it holds for new
/// rows all the same.
pub(crate) async fn validate(connection: &mut PgConnection, part: Part) -> sqlx::Result<bool> {
    let statements: Vec<String> = sqlx::query_scalar(
        "select format('alter table %s validate constraint %I', referencing, name)
         from part_foreign_keys($1) where not is_valid",
    )
    .bind(part.service().name)
    .fetch_all(&mut *connection)
    .await?;
    let mut are_valid = true;
    for statement in statements {
        // Names from the catalog, quoted by `format`.
        match sqlx::query(sqlx::AssertSqlSafe(statement.clone())).execute(&mut *connection).await {
            Ok(_) => info!(%part, statement, "the rows satisfy the foreign key"),
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("23503") => {
                warn!(%part, statement, "rows violate the foreign key; it holds for new rows");
                are_valid = false;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(are_valid)
}
