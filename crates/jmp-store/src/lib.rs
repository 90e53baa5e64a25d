//! Objects with revisions and watch, kept in memory or in SQLite, and the audit record.
