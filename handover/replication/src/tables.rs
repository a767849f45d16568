//! The tables of a part, as the catalog of the database has them.

use std::{collections::BTreeSet, fmt::Write as _};

use flack_handover::Part;
use serde_json::Value;
use sqlx::PgPool;

/// Rows of a table with large rows that are in memory at once. Each may have some MiB as text.
const LARGE_ROWS_MAX: u32 = 8;

/// A table of a part.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    /// A name from the catalog, quoted by `regclass` where needed.
    pub name: String,
    /// The columns of the primary key, in its order.
    pub key: Vec<Column>,
    /// All columns; those of the key come first.
    pub columns: Vec<Column>,
    /// The columns that leave this database only to the other side's: the journal omits them.
    pub secrets: BTreeSet<String>,
    /// The columns with an identity sequence.
    pub identities: Vec<String>,
    /// Whether a column is stored outside of the row and uncompressed (`storage external`), as the content of files is.
    pub has_large_rows: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub name: String,
    pub type_name: String,
}

/// Returns the tables of a part, in the order of foreign keys.
pub(crate) async fn of_part(pool: &PgPool, part: Part) -> sqlx::Result<Vec<Table>> {
    let columns: Vec<(String, String, String, bool, bool, bool, bool)> = sqlx::query_as(
        "select target::text, attname::text, format_type(atttypid, atttypmod), key.position is not null,
             attidentity <> '', attname = any(coalesce(omit, '{}')),
             attstorage = 'e'
         from part_tables
         inner join pg_attribute on attrelid = target and attnum > 0 and not attisdropped and attgenerated = ''
         inner join pg_index on indrelid = target and indisprimary
         left join lateral unnest(indkey::int2[]) with ordinality as key (number, position) on number = attnum
         left join journaled_entities() using (target)
         where part = $1
         order by part_tables.position, key.position nulls last, attnum",
    )
    .bind(part.service().name)
    .fetch_all(pool)
    .await?;
    let mut tables: Vec<Table> = Vec::new();
    for (table, name, type_name, is_key, is_identity, is_secret, is_large) in columns {
        if tables.last().is_none_or(|last| last.name != table) {
            let (key, columns, secrets, identities) = (Vec::new(), Vec::new(), BTreeSet::new(), Vec::new());
            tables.push(Table { name: table, key, columns, secrets, identities, has_large_rows: false });
        }
        let table = tables.last_mut().expect("one was pushed");
        table.has_large_rows |= is_large;
        if is_secret {
            table.secrets.insert(name.clone());
        }
        if is_identity {
            table.identities.push(name.clone());
        }
        let column = Column { name, type_name };
        if is_key {
            table.key.push(column.clone());
        }
        table.columns.push(column);
    }
    Ok(tables)
}

impl Table {
    /// Returns how many rows are read at once, when `rows` of other tables are.
    pub(crate) fn rows_max(&self, rows: u32) -> u32 {
        if self.has_large_rows { rows.min(LARGE_ROWS_MAX) } else { rows }
    }

    pub(crate) fn column_names(&self) -> Vec<String> {
        self.columns.iter().map(|column| column.name.clone()).collect()
    }

    /// Returns `"id", "nickname"`.
    pub(crate) fn column_list(&self) -> String {
        list(&self.columns, |name| name)
    }

    /// Returns `"user_id", "key"`.
    pub(crate) fn key_list(&self) -> String {
        list(&self.key, |name| name)
    }

    /// Returns the key of a row of the table as an SQL expression of type jsonb.
    pub(crate) fn key_object(&self) -> String {
        let members = list(&self.key, |name| format!("{}, {name}", literal(name.trim_matches('"'))));
        format!("jsonb_build_object({members})")
    }

    /// Returns an SQL relation `wanted` with the columns of the key, from a JSON array of keys.
    pub(crate) fn keys_relation(&self, keys: &str) -> String {
        let mut columns = String::new();
        for Column { name, type_name } in &self.key {
            let separator = if columns.is_empty() { "" } else { ", " };
            write!(columns, "{separator}{} {type_name}", identifier(name)).expect("a string accepts text");
        }
        format!("jsonb_to_recordset({keys}) as wanted ({columns})")
    }

    /// Returns a statement that inserts rows. Its parameters are the texts of each column, as an array.
    pub(crate) fn insert(&self) -> String {
        let numbered = |expression: &dyn Fn(usize, &str) -> String| {
            let columns = self.columns.iter().enumerate();
            columns.map(|(number, column)| expression(number + 1, &column.type_name)).collect::<Vec<_>>().join(", ")
        };
        format!(
            "insert into {} ({}) overriding system value select {} from unnest({}) as texts ({})",
            self.name,
            self.column_list(),
            numbered(&|number, type_name| format!("text_{number}::{type_name}")),
            numbered(&|number, _| format!("${number}::text[]")),
            numbered(&|number, _| format!("text_{number}")),
        )
    }

    /// Returns the texts of each column of some rows.
    pub(crate) fn texts_by_column(&self, rows: &[u8]) -> Vec<Vec<Option<String>>> {
        let mut texts = vec![Vec::new(); self.columns.len()];
        for row in rows.strip_suffix(b"\n").unwrap_or(rows).split(|byte| *byte == b'\n') {
            texts.iter_mut().zip(fields(row)).for_each(|(column, text)| column.push(text));
        }
        texts
    }

    /// Returns an SQL condition on the rows after a key, up to and including another.
    pub(crate) fn range(&self, after: Option<&Value>, up_to: Option<&Value>) -> String {
        let mut condition = "true".to_owned();
        for (operator, key) in [(">", after), ("<=", up_to)] {
            let Some(key) = key else { continue };
            let key = literal(&key.to_string());
            let values = list(&self.key, |name| format!("(jsonb_populate_record(null::{}, {key})).{name}", self.name));
            write!(condition, " and ({}) {operator} ({values})", self.key_list()).expect("a string accepts text");
        }
        condition
    }

    /// Returns the key of the last row of some rows in the text format of `COPY`, whose columns are those of the table.
    pub(crate) fn last_key(&self, rows: &[u8]) -> Option<Value> {
        let last = rows.strip_suffix(b"\n")?;
        let last = &last[last.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1)..];
        Some(self.key_of(&fields(last)))
    }

    /// Returns the key of a row.
    pub(crate) fn key_of(&self, fields: &[Option<String>]) -> Value {
        let values = fields.iter().map(|field| field.clone().map_or(Value::Null, Value::String));
        Value::Object(self.key.iter().map(|column| column.name.clone()).zip(values).collect())
    }
}

fn list<T: std::fmt::Display>(columns: &[Column], show: impl Fn(String) -> T) -> String {
    let mut text = String::new();
    for column in columns {
        let separator = if text.is_empty() { "" } else { ", " };
        write!(text, "{separator}{}", show(identifier(&column.name))).expect("a string accepts text");
    }
    text
}

/// Returns a name as an SQL identifier.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Returns a text as an SQL literal. `COPY` has no parameters. With `standard_conforming_strings`, which is the default
/// and which sqlx needs as well, only the quote has a meaning.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Returns the fields of a line in the text format of `COPY`, without its line break; `None` is null.
pub(crate) fn fields(line: &[u8]) -> Vec<Option<String>> {
    line.split(|byte| *byte == b'\t')
        .map(|field| {
            if field == b"\\N" {
                return None;
            }
            let mut text = Vec::with_capacity(field.len());
            let mut bytes = field.iter().copied();
            while let Some(byte) = bytes.next() {
                text.push(match byte {
                    b'\\' => match bytes.next() {
                        Some(b'b') => 8,
                        Some(b'f') => 12,
                        Some(b'n') => b'\n',
                        Some(b'r') => b'\r',
                        Some(b't') => b'\t',
                        Some(b'v') => 11,
                        Some(other) => other,
                        None => break,
                    },
                    byte => byte,
                });
            }
            Some(String::from_utf8_lossy(&text).into_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table() -> Table {
        let column = |name: &str, type_name: &str| Column { name: name.to_owned(), type_name: type_name.to_owned() };
        let key = vec![column("user_id", "bigint"), column("channel", "text")];
        let columns = [key.clone(), vec![column("note", "text")]].concat();
        let (secrets, identities) = (BTreeSet::new(), vec![]);
        Table { name: "marks".to_owned(), key, columns, secrets, identities, has_large_rows: false }
    }

    #[test]
    fn the_last_key_of_rows_is_read_from_their_text() {
        let rows = b"1\ta\tx\n2\tit's\\ta \\\\ tab\t\\N\n";
        assert_eq!(table().last_key(rows), Some(json!({ "user_id": "2", "channel": "it's\ta \\ tab" })));
        assert_eq!(table().last_key(b""), None);
    }

    #[test]
    fn rows_are_inserted_from_the_texts_of_each_column() {
        let table = table();
        assert_eq!(
            table.insert(),
            r#"insert into marks ("user_id", "channel", "note") overriding system value select text_1::bigint, "#
                .to_owned()
                + "text_2::text, text_3::text from unnest($1::text[], $2::text[], $3::text[]) as texts (text_1, "
                + "text_2, text_3)"
        );
        let text = |text: &str| Some(text.to_owned());
        let expected = [[text("1"), text("2")], [text("a"), text("b")], [text("x\ny"), None]];
        assert_eq!(table.texts_by_column(b"1\ta\tx\\ny\n2\tb\t\\N\n"), expected);
    }

    #[test]
    fn a_quote_in_a_key_stays_in_its_literal() {
        let range = table().range(Some(&json!({ "user_id": "2", "channel": "it's" })), None);
        assert!(range.contains(r#"'{"channel":"it''s","user_id":"2"}'"#), "{range}");
        assert!(range.starts_with(r#"true and ("user_id", "channel") > ("#), "{range}");
        assert_eq!(table().key_object(), r#"jsonb_build_object('user_id', "user_id", 'channel', "channel")"#);
    }
}
