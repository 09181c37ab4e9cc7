//! The rules in force: their digests and authors, and every directory document that a grant may name.

use rusqlite::{Connection, OptionalExtension, params};

use super::fault::Fault;
use super::ledger::Tx;
use super::rows;
use crate::broker::ports::{RulesAuthors, RulesDigests, RulesInForce};
use crate::domain::digest::Digest;

/// Digests of the rules in force.
pub(super) fn digests(conn: &Connection) -> Result<Option<RulesDigests>, Fault> {
    let found = conn
        .prepare_cached("SELECT policy, catalog, directory, guardrails FROM rules")?
        .query_row([], |row| {
            Ok(RulesDigests {
                policy: Digest::from_bytes(row.get("policy")?),
                catalog: Digest::from_bytes(row.get("catalog")?),
                directory: Digest::from_bytes(row.get("directory")?),
                guardrails: Digest::from_bytes(row.get("guardrails")?),
            })
        })
        .optional()?;
    Ok(found)
}

/// Authors of each part of the rules in force; nobody when none ever were.
pub(super) fn authors(conn: &Connection) -> Result<RulesAuthors, Fault> {
    match rows::one_text(conn, "SELECT authors FROM rules", [])? {
        Some(authors) => rows::json(&authors),
        None => Ok(RulesAuthors::default()),
    }
}

/// Puts rules in force and keeps the directory's document.
pub(super) fn put(tx: &Tx<'_>, rules: &RulesInForce) -> Result<(), Fault> {
    let digests = &rules.digests;
    tx.conn
        .prepare_cached("INSERT INTO directories (digest, document) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
        .execute(params![digests.directory.as_bytes(), rules.directory])?;
    tx.conn
        .prepare_cached(
            "INSERT INTO rules (one, policy, catalog, directory, guardrails, authors) VALUES (1, ?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (one) DO UPDATE SET policy = ?1, catalog = ?2, directory = ?3, guardrails = ?4, authors = ?5",
        )?
        .execute(params![
            digests.policy.as_bytes(),
            digests.catalog.as_bytes(),
            digests.directory.as_bytes(),
            digests.guardrails.as_bytes(),
            rows::text(&rules.authors)?,
        ])?;
    Ok(())
}

/// The directory document with this digest.
pub(super) fn directory(conn: &Connection, digest: &Digest) -> Result<Option<String>, Fault> {
    rows::one_text(conn, "SELECT document FROM directories WHERE digest = ?1", [digest.as_bytes()])
}
