//! The one table: by kind, scope and key.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, ToSql, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// As the calls below see it, inside of a transaction or not.
pub(super) struct Table<'a>(pub(super) &'a Connection);

/// Scope of the kinds that have none.
pub(super) const ALL: &str = "";

impl Table<'_> {
    pub(super) fn get<T: FromSql>(
        &self,
        kind: &str,
        scope: &str,
        key: impl AsRef<[u8]>,
    ) -> rusqlite::Result<Option<T>> {
        let sql = "SELECT value FROM entry WHERE kind = ? AND scope = ? AND key = ?";
        let mut statement = self.0.prepare_cached(sql)?;
        statement.query_row(params![kind, scope, key.as_ref()], |row| row.get("value")).optional()
    }

    /// `at`: see the schema.
    pub(super) fn put(
        &self,
        (kind, scope): (&str, &str),
        key: impl AsRef<[u8]>,
        value: impl ToSql,
        at: i64,
    ) -> rusqlite::Result<()> {
        let sql = "INSERT OR REPLACE INTO entry (kind, scope, key, value, at)
                   VALUES (?, ?, ?, ?, ?)";
        let mut statement = self.0.prepare_cached(sql)?;
        statement.execute(params![kind, scope, key.as_ref(), value, at]).map(drop)
    }

    pub(super) fn delete(
        &self,
        kind: &str,
        scope: &str,
        key: impl AsRef<[u8]>,
    ) -> rusqlite::Result<()> {
        let sql = "DELETE FROM entry WHERE kind = ? AND scope = ? AND key = ?";
        self.0.prepare_cached(sql)?.execute(params![kind, scope, key.as_ref()]).map(drop)
    }

    /// Keys and values of a scope, in the order of the keys.
    pub(super) fn list<T: FromSql>(
        &self,
        kind: &str,
        scope: &str,
    ) -> rusqlite::Result<Vec<(Vec<u8>, T)>> {
        let sql = "SELECT key, value FROM entry WHERE kind = ? AND scope = ? ORDER BY key";
        let mut statement = self.0.prepare_cached(sql)?;
        statement
            .query_map([kind, scope], |row| Ok((row.get("key")?, row.get("value")?)))?
            .collect()
    }

    pub(super) fn delete_scope(&self, kind: &str, scope: &str) -> rusqlite::Result<()> {
        let sql = "DELETE FROM entry WHERE kind = ? AND scope = ?";
        self.0.prepare_cached(sql)?.execute([kind, scope]).map(drop)
    }

    /// What was kept before `cutoff`; how many.
    pub(super) fn delete_older(&self, kind: &str, cutoff: i64) -> rusqlite::Result<u32> {
        let sql = "DELETE FROM entry WHERE kind = ? AND at < ?";
        let count = self.0.prepare_cached(sql)?.execute(params![kind, cutoff])?;
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }
}

/// A value kept as JSON.
pub(super) struct Json<T>(pub(super) T);

impl<T: Serialize> ToSql for Json<T> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let failed = |error| rusqlite::Error::ToSqlConversionFailure(Box::new(error));
        Ok(ToSqlOutput::from(serde_json::to_vec(&self.0).map_err(failed)?))
    }
}

impl<T: DeserializeOwned> FromSql for Json<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Json<T>> {
        let parsed = serde_json::from_slice(value.as_blob()?);
        parsed.map(Json).map_err(|error| FromSqlError::Other(Box::new(error)))
    }
}

/// One key of two parts that nobody can make look like another two.
pub(super) fn pair(first: &str, second: &str) -> String {
    format!("{}:{first}{second}", first.len())
}
