//! What is read, always from one snapshot.

use std::fmt::Write as _;
use std::sync::Arc;

use jmp_types::Timestamp;
use jmp_types::resource::{Key, Kind};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

use crate::audit::{AuditPage, AuditQuery, AuditRecord, whole};
use crate::event::EventRecord;
use crate::object::{Object, Revision};
use crate::query::{LeaseState, Page, Query};

/// The revision of the last commit.
pub(super) fn revision(connection: &Connection) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT value FROM counter WHERE name = 'revision'")?
        .query_row([], |row| unsigned(row, 0))
}

pub(super) fn object(
    connection: &Connection,
    kind: Kind,
    key: &Key,
) -> rusqlite::Result<Option<Object>> {
    connection
        .prepare_cached(
            "SELECT namespace, name, revision, json FROM object \
             WHERE kind = ?1 AND namespace = ?2 AND name = ?3",
        )?
        .query_row(params![kind.name(), key.namespace, key.name], |row| {
            stored(kind, row)
        })
        .optional()
}

pub(super) fn page(
    connection: &mut Connection,
    query: &Query,
    after: Option<&Key>,
) -> rusqlite::Result<Page> {
    let snapshot = connection.transaction()?;
    let revision = revision(&snapshot)?;
    let (text, parameters) = statement(query, after);
    let values: Vec<&dyn ToSql> = parameters.iter().map(AsRef::as_ref).collect();
    let mut statement = snapshot.prepare_cached(&text)?;
    let mut rows = statement.query(values.as_slice())?;
    let mut objects = Vec::new();
    while objects.len() < query.wanted()
        && let Some(row) = rows.next()?
    {
        let object = stored(query.kind, row)?;
        if query.labels_match(&object.json) {
            objects.push(object);
        }
    }
    Ok(query.finish(objects, revision))
}

type Parameters = Vec<Box<dyn ToSql>>;

/// The indexes are named because SQLite cannot know that there are few live leases and many ended ones.
fn statement(query: &Query, after: Option<&Key>) -> (String, Parameters) {
    let leases = &query.leases;
    let is_lease = query.kind == Kind::Lease;
    let index = match leases {
        _ if !is_lease => "",
        filter if filter.state == LeaseState::Live => "INDEXED BY lease_live",
        filter if filter.client.is_some() => "INDEXED BY lease_client",
        filter if filter.exporter.is_some() => "INDEXED BY lease_exporter",
        filter if filter.ended_since.is_some() || filter.ended_before.is_some() => {
            "INDEXED BY lease_ended"
        }
        _ => "",
    };
    let mut text = format!(
        "SELECT namespace, name, revision, json FROM object {index} WHERE kind = '{}'",
        query.kind.name()
    );
    let mut parameters: Parameters = Vec::new();
    let mut when = |condition: &str, value: Box<dyn ToSql>| {
        parameters.push(value);
        // Writing to a string cannot fail.
        let _ = write!(text, " AND {condition} ?{}", parameters.len());
    };
    if let Some(namespace) = &query.namespace {
        when("namespace =", Box::new(namespace.clone()));
    }
    if let Some(client) = leases.client.as_ref().filter(|_| is_lease) {
        when("client =", Box::new(client.clone()));
    }
    if let Some(exporter) = leases.exporter.as_ref().filter(|_| is_lease) {
        when("exporter =", Box::new(exporter.clone()));
    }
    if let Some(since) = leases.ended_since.filter(|_| is_lease) {
        when("ended >=", Box::new(since.as_microsecond()));
    }
    if let Some(before) = leases.ended_before.filter(|_| is_lease) {
        when("ended <", Box::new(before.as_microsecond()));
    }
    if let Some(after) = after {
        parameters.push(Box::new(after.namespace.clone()));
        parameters.push(Box::new(after.name.clone()));
        let last = parameters.len();
        let _ = write!(text, " AND (namespace, name) > (?{}, ?{last})", last - 1);
    }
    text.push_str(match leases.state {
        LeaseState::Live if is_lease => " AND ended IS NULL",
        LeaseState::Ended if is_lease => " AND ended IS NOT NULL",
        _ => "",
    });
    text.push_str(" ORDER BY namespace, name");
    (text, parameters)
}

pub(super) fn audit(
    connection: &Connection,
    query: &AuditQuery,
    below: u64,
) -> rusqlite::Result<AuditPage> {
    let mut statement = connection.prepare_cached(
        "SELECT number, time, actor, token_id, peer, action, resource, result, detail FROM audit \
         WHERE number < ?1 AND (?2 IS NULL OR instr(actor, ?2) > 0) AND (?3 IS NULL OR action = ?3) \
         AND (?4 IS NULL OR instr(resource, ?4) > 0) AND (?5 IS NULL OR time >= ?5) \
         AND (?6 IS NULL OR time < ?6) ORDER BY number DESC LIMIT ?7",
    )?;
    let time = |time: Option<Timestamp>| time.map(|time| whole(time).as_microsecond());
    let limit = i64::try_from(query.limit.saturating_add(1)).unwrap_or(i64::MAX);
    let rows = statement.query_map(
        params![
            i64::try_from(below).unwrap_or(i64::MAX),
            query.actor,
            query.action,
            query.resource,
            time(query.since),
            time(query.until),
            limit,
        ],
        audited,
    )?;
    Ok(query.finish(rows.collect::<rusqlite::Result<_>>()?))
}

/// A row of `audit`, all columns in their order.
pub(super) fn audited(row: &Row<'_>) -> rusqlite::Result<AuditRecord> {
    Ok(AuditRecord {
        number: unsigned(row, 0)?,
        time: time(row, 1)?,
        actor: row.get(2)?,
        token_id: row.get(3)?,
        peer: row.get(4)?,
        action: row.get(5)?,
        resource: row.get(6)?,
        result: row.get(7)?,
        detail: row.get(8)?,
    })
}

pub(super) fn events(
    connection: &Connection,
    kind: Kind,
    key: &Key,
) -> rusqlite::Result<Vec<EventRecord>> {
    let mut statement = connection.prepare_cached(
        "SELECT uid, time, reason, message, warning FROM object JOIN event ON object = id \
         WHERE kind = ?1 AND namespace = ?2 AND name = ?3 ORDER BY number",
    )?;
    let rows = statement.query_map(params![kind.name(), key.namespace, key.name], |row| {
        Ok(EventRecord {
            time: time(row, 1)?,
            kind,
            key: key.clone(),
            uid: row.get(0)?,
            reason: row.get(2)?,
            message: row.get(3)?,
            warning: row.get(4)?,
        })
    })?;
    rows.collect()
}

/// A row of namespace, name, revision and json.
pub(super) fn stored(kind: Kind, row: &Row<'_>) -> rusqlite::Result<Object> {
    Ok(Object {
        kind,
        key: Key::new(row.get::<_, String>(0)?, row.get::<_, String>(1)?),
        revision: Revision::of(unsigned(row, 2)?),
        json: Arc::from(row.get_ref(3)?.as_str()?),
    })
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

pub(super) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    Timestamp::from_microsecond(row.get(column)?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Integer, error.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::LeaseFilter;
    use crate::sqlite::schema::{MIGRATIONS, migrate};

    /// The plan for the query, in SQLite's words.
    fn plan(query: &Query) -> String {
        let mut connection = Connection::open_in_memory().expect("opens");
        migrate(&mut connection, 0, MIGRATIONS).expect("has tables");
        let (text, parameters) = statement(query, Some(&Key::new("lab", "a")));
        let values: Vec<&dyn ToSql> = parameters.iter().map(AsRef::as_ref).collect();
        let mut statement = connection
            .prepare(&format!("EXPLAIN QUERY PLAN {text}"))
            .expect("is SQL");
        let lines = statement
            .query_map(values.as_slice(), |row| row.get::<_, String>(3))
            .expect("has a plan");
        lines
            .collect::<rusqlite::Result<Vec<_>>>()
            .expect("has a plan")
            .join("; ")
    }

    #[test]
    fn live_leases_are_found_without_those_that_ended() {
        let live = Query::live_leases();
        let mut of_client = live.clone();
        of_client.leases.client = Some("alice".into());
        for query in [live.clone(), live.namespace("lab"), of_client] {
            let plan = plan(&query);
            assert!(
                plan.contains("USING INDEX lease_live (") && !plan.contains("TEMP B-TREE"),
                "{plan}"
            );
        }
    }

    #[test]
    fn lists_follow_an_index() {
        let leases = |filter| Query::new(Kind::Lease).leases(filter);
        let client = LeaseFilter {
            client: Some("alice".into()),
            ..LeaseFilter::default()
        };
        let exporter = LeaseFilter {
            exporter: Some("bench".into()),
            ..LeaseFilter::default()
        };
        let over = LeaseFilter {
            ended_since: Some(Timestamp::UNIX_EPOCH),
            ..LeaseFilter::default()
        };
        for (query, index) in [
            (
                Query::new(Kind::Exporter),
                "sqlite_autoindex_object_1 (kind=? AND (namespace,name)>",
            ),
            (
                leases(client),
                "lease_client (client=? AND (namespace,name)>",
            ),
            (
                leases(exporter),
                "lease_exporter (exporter=? AND (namespace,name)>",
            ),
            (leases(over), "lease_ended (ended>"),
        ] {
            let plan = plan(&query);
            assert!(plan.contains(index), "{plan}");
        }
    }
}
