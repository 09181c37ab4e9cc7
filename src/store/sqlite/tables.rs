//! The tables, as the steps that led to them: a fresh file takes every step, an older one those it has not taken, so
//! that both end with the same schema. A step never changes once a file has taken it. Times are seconds, ids are ULIDs
//! in text (time-ordered, so that indexes append), digests are 32 bytes. Events are immutable: triggers refuse to
//! change or delete one.

/// Version of the schema, in `user_version`.
pub(super) const VERSION: i64 = 4;

/// The steps; the nth leads to version n.
pub(super) const STEPS: [&str; VERSION as usize] = [VERSION_1, VERSION_2, VERSION_3, VERSION_4];

/// Version 1.
const VERSION_1: &str = "
CREATE TABLE sequence (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  epoch INTEGER NOT NULL CHECK (epoch >= 1),
  size INTEGER NOT NULL CHECK (size >= 0),
  at INTEGER NOT NULL,
  last BLOB NOT NULL CHECK (length(last) = 32)
) STRICT;
INSERT INTO sequence VALUES (1, 1, 0, 0, zeroblob(32));

CREATE TABLE events (
  place INTEGER PRIMARY KEY,
  run TEXT,
  bytes BLOB NOT NULL CHECK (length(bytes) BETWEEN 1 AND 65535)
) STRICT;
CREATE INDEX events_of_run ON events (run, place) WHERE run IS NOT NULL;
CREATE TRIGGER events_never_change BEFORE UPDATE ON events
  BEGIN SELECT RAISE(ABORT, 'an event is immutable'); END;
CREATE TRIGGER events_never_go BEFORE DELETE ON events
  BEGIN SELECT RAISE(ABORT, 'an event is immutable'); END;
CREATE TABLE texts (
  place INTEGER NOT NULL REFERENCES events (place),
  name TEXT NOT NULL,
  salt BLOB NOT NULL CHECK (length(salt) = 16),
  value TEXT NOT NULL,
  PRIMARY KEY (place, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE rules (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  policy BLOB NOT NULL CHECK (length(policy) = 32),
  catalog BLOB NOT NULL CHECK (length(catalog) = 32),
  directory BLOB NOT NULL CHECK (length(directory) = 32)
) STRICT;
CREATE TABLE directories (digest BLOB PRIMARY KEY CHECK (length(digest) = 32), document TEXT NOT NULL) STRICT;
CREATE TABLE freezes (key TEXT PRIMARY KEY, generation INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE writers (
  name TEXT PRIMARY KEY,
  holder TEXT NOT NULL,
  generation INTEGER NOT NULL,
  until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE runs (
  id TEXT PRIMARY KEY,
  agent TEXT NOT NULL,
  environment TEXT NOT NULL,
  requester TEXT NOT NULL,
  prompt_digest BLOB,
  phase TEXT NOT NULL,
  opened_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE grants (
  id TEXT PRIMARY KEY,
  place INTEGER NOT NULL,
  run TEXT NOT NULL REFERENCES runs (id),
  epoch INTEGER NOT NULL,
  claiming_agent TEXT NOT NULL,
  claim_key TEXT NOT NULL,
  state TEXT NOT NULL,
  revision INTEGER NOT NULL,
  approve_by INTEGER NOT NULL,
  claim_until INTEGER,
  evidence TEXT,
  bytes BLOB NOT NULL
) STRICT;
CREATE INDEX grants_open ON grants (run, place) WHERE state IN ('pending', 'approved');
CREATE INDEX grants_open_key ON grants (claim_key) WHERE state IN ('pending', 'approved');
CREATE INDEX grants_pending_due ON grants (approve_by) WHERE state = 'pending';
CREATE INDEX grants_approved_due ON grants (claim_until) WHERE state = 'approved';
CREATE TABLE approvals (
  grant_id TEXT NOT NULL REFERENCES grants (id),
  nth INTEGER NOT NULL,
  record TEXT NOT NULL,
  PRIMARY KEY (grant_id, nth)
) STRICT, WITHOUT ROWID;

CREATE TABLE leases (
  id TEXT PRIMARY KEY,
  place INTEGER NOT NULL,
  run TEXT NOT NULL REFERENCES runs (id),
  agent TEXT NOT NULL,
  phase TEXT NOT NULL,
  environment TEXT NOT NULL,
  provider TEXT NOT NULL,
  revocability TEXT NOT NULL,
  grant_id TEXT REFERENCES grants (id),
  key TEXT NOT NULL,
  target TEXT NOT NULL,
  state TEXT NOT NULL,
  opened_at INTEGER NOT NULL,
  not_after INTEGER NOT NULL,
  hard_end INTEGER NOT NULL,
  sent BLOB NOT NULL CHECK (length(sent) = 32),
  reference TEXT,
  ended_at INTEGER,
  end_reason TEXT,
  outcome TEXT,
  revocation TEXT NOT NULL,
  retry_at INTEGER,
  CHECK ((ended_at IS NULL) = (end_reason IS NULL)),
  CHECK ((phase = 'execute') = (grant_id IS NOT NULL))
) STRICT, WITHOUT ROWID;
-- INVARIANT: one-use, whatever the code above does: one lease per grant that was not refused.
CREATE UNIQUE INDEX leases_spend_once ON leases (grant_id) WHERE grant_id IS NOT NULL AND state <> 'refused';
CREATE INDEX leases_of_run ON leases (run, place);
CREATE INDEX leases_of_key ON leases (key);
CREATE INDEX leases_by_place ON leases (place);
CREATE INDEX leases_of_target ON leases (provider, target, hard_end);
CREATE INDEX leases_executing ON leases (agent)
  WHERE phase = 'execute' AND state IN ('intent', 'unknown', 'minted', 'released');
CREATE INDEX leases_due ON leases (CASE state WHEN 'unknown' THEN hard_end ELSE not_after END)
  WHERE state IN ('intent', 'unknown', 'minted', 'released');
CREATE INDEX leases_retry ON leases (retry_at) WHERE retry_at IS NOT NULL;
CREATE TABLE reservations (
  lease TEXT NOT NULL,
  key TEXT NOT NULL,
  amount INTEGER NOT NULL CHECK (amount >= 0),
  PRIMARY KEY (lease, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX reservations_of_key ON reservations (key, amount);
";

/// Version 2: budgets over time, freezes, playbooks, reviews, administration grants, decisions, observations.
const VERSION_2: &str = "
ALTER TABLE runs ADD COLUMN asked_in_person INTEGER NOT NULL DEFAULT 0 CHECK (asked_in_person IN (0, 1));
ALTER TABLE runs ADD COLUMN attestation TEXT NOT NULL DEFAULT 'registered_key';

-- No guardrails had the digest that stands here: the next start puts the rules in force again.
CREATE TABLE rules_2 (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  policy BLOB NOT NULL CHECK (length(policy) = 32),
  catalog BLOB NOT NULL CHECK (length(catalog) = 32),
  directory BLOB NOT NULL CHECK (length(directory) = 32),
  guardrails BLOB NOT NULL CHECK (length(guardrails) = 32),
  authors TEXT NOT NULL
) STRICT;
INSERT INTO rules_2 SELECT one, policy, catalog, directory, zeroblob(32),
  json_object('policy', json_array(), 'catalog', json_array(), 'directory', json_array(),
    'guardrails', json_array()) FROM rules;
DROP TABLE rules;
ALTER TABLE rules_2 RENAME TO rules;

ALTER TABLE grants ADD COLUMN playbook BLOB CHECK (length(playbook) = 32);
ALTER TABLE grants ADD COLUMN inverse_of TEXT;
CREATE INDEX grants_of_run ON grants (run);
CREATE INDEX grants_suggested ON grants (place) WHERE state = 'suggested';

ALTER TABLE leases ADD COLUMN action TEXT;
ALTER TABLE leases ADD COLUMN proposing_agent TEXT;
-- Every grant was proposed by its run's agent.
UPDATE leases SET proposing_agent = (SELECT agent FROM runs WHERE id = leases.run) WHERE phase = 'execute';
ALTER TABLE leases ADD COLUMN released_at INTEGER;

CREATE TABLE reservations_2 (
  lease TEXT NOT NULL,
  key TEXT NOT NULL,
  at INTEGER NOT NULL,
  amount INTEGER NOT NULL CHECK (amount >= 0),
  PRIMARY KEY (lease, key)
) STRICT, WITHOUT ROWID;
INSERT INTO reservations_2
  SELECT lease, key, coalesce((SELECT opened_at FROM leases WHERE id = lease), (SELECT at FROM sequence)), amount
  FROM reservations;
DROP TABLE reservations;
ALTER TABLE reservations_2 RENAME TO reservations;
-- Kept for good: whether a key will be asked for again, and over how long a window, is the caller's alone to know.
CREATE INDEX reservations_of_key ON reservations (key, at, amount);

-- Version 1 froze nothing.
DROP TABLE freezes;
CREATE TABLE freezes (
  key TEXT PRIMARY KEY,
  actor TEXT NOT NULL,
  at INTEGER NOT NULL,
  renewed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE administrations (
  id TEXT PRIMARY KEY,
  place INTEGER NOT NULL,
  state TEXT NOT NULL,
  revision INTEGER NOT NULL,
  approve_by INTEGER NOT NULL,
  approvals TEXT NOT NULL,
  bytes BLOB NOT NULL
) STRICT;
CREATE INDEX administrations_pending ON administrations (place) WHERE state = 'pending';
CREATE INDEX administrations_due ON administrations (approve_by) WHERE state = 'pending';

CREATE TABLE playbooks (
  digest BLOB PRIMARY KEY CHECK (length(digest) = 32),
  place INTEGER NOT NULL,
  administration TEXT NOT NULL UNIQUE REFERENCES administrations (id),
  state TEXT NOT NULL,
  not_after INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX playbooks_by_place ON playbooks (place);

CREATE TABLE reviews (
  id TEXT PRIMARY KEY,
  place INTEGER NOT NULL,
  grant_id TEXT NOT NULL REFERENCES grants (id),
  lease TEXT NOT NULL UNIQUE REFERENCES leases (id),
  run TEXT NOT NULL REFERENCES runs (id),
  playbook BLOB REFERENCES playbooks (digest),
  owner TEXT NOT NULL,
  opened_at INTEGER NOT NULL,
  due_at INTEGER NOT NULL,
  state TEXT NOT NULL,
  decided_by TEXT,
  decided_at INTEGER,
  CHECK ((state = 'open') = (decided_by IS NULL)),
  CHECK ((decided_by IS NULL) = (decided_at IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX reviews_by_place ON reviews (place);
CREATE INDEX reviews_of_playbook ON reviews (playbook, place);
CREATE INDEX reviews_open ON reviews (place) WHERE state = 'open';
CREATE INDEX reviews_open_due ON reviews (playbook, due_at) WHERE state = 'open';

CREATE TABLE observations (
  place INTEGER NOT NULL,
  agent TEXT NOT NULL,
  at INTEGER NOT NULL,
  run TEXT NOT NULL REFERENCES runs (id),
  source TEXT NOT NULL,
  trust TEXT NOT NULL
) STRICT;
CREATE INDEX observations_untrusted ON observations (agent, at) WHERE trust = 'untrusted';

CREATE TABLE decisions (
  id TEXT PRIMARY KEY,
  at INTEGER NOT NULL,
  grant_id TEXT NOT NULL,
  moment TEXT NOT NULL,
  facts TEXT NOT NULL,
  tier TEXT NOT NULL,
  reasons TEXT NOT NULL
) STRICT;
CREATE INDEX decisions_by_time ON decisions (at, id);
";

/// Version 3: the Merkle tree over the events. `leaves` outlive pruned events, so that every proof stays valid; `nodes`
/// are the roots of complete subtrees of 256, 65,536, … entries. Whoever takes this step fills both from the events.
const VERSION_3: &str = "
-- An event's leaf stands beside its bytes, and moves to `leaves` when they are pruned.
ALTER TABLE events ADD COLUMN leaf BLOB NOT NULL CHECK (length(leaf) = 32)
  DEFAULT x'0000000000000000000000000000000000000000000000000000000000000000';
CREATE TABLE leaves (place INTEGER PRIMARY KEY, hash BLOB NOT NULL CHECK (length(hash) = 32)) STRICT;
CREATE TABLE nodes (
  level INTEGER NOT NULL,
  place INTEGER NOT NULL,
  hash BLOB NOT NULL CHECK (length(hash) = 32),
  PRIMARY KEY (level, place)
) STRICT, WITHOUT ROWID;
CREATE TABLE sequence_3 (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  epoch INTEGER NOT NULL CHECK (epoch >= 1),
  size INTEGER NOT NULL CHECK (size >= 0),
  at INTEGER NOT NULL,
  peaks BLOB NOT NULL,
  root BLOB NOT NULL CHECK (length(root) = 32),
  pruned INTEGER NOT NULL CHECK (pruned BETWEEN 0 AND size)
) STRICT;
INSERT INTO sequence_3 SELECT one, epoch, size, at, x'', zeroblob(32), 0 FROM sequence;
DROP TABLE sequence;
ALTER TABLE sequence_3 RENAME TO sequence;

-- Events of what people sign about the broker itself belong to no run.
CREATE INDEX events_of_administration ON events (json_extract(CAST(bytes AS TEXT), '$.grant'), place)
  WHERE run IS NULL AND json_extract(CAST(bytes AS TEXT), '$.grant') IS NOT NULL;
-- The ends of epochs, which are few; an event of a run costs it one look at a column.
CREATE INDEX events_of_fences ON events (place)
  WHERE run IS NULL AND json_extract(CAST(bytes AS TEXT), '$.type') = 'store.fenced';
DROP TRIGGER events_never_go;
CREATE TRIGGER events_never_go BEFORE DELETE ON events WHEN OLD.place >= (SELECT pruned FROM sequence)
  BEGIN SELECT RAISE(ABORT, 'an event is immutable'); END;
DROP TRIGGER events_never_change;
CREATE TRIGGER events_never_change BEFORE UPDATE ON events
  WHEN OLD.leaf <> zeroblob(32) OR NEW.place <> OLD.place OR NEW.run IS NOT OLD.run OR NEW.bytes <> OLD.bytes
  BEGIN SELECT RAISE(ABORT, 'an event is immutable'); END;
CREATE TRIGGER leaves_never_change BEFORE UPDATE ON leaves
  BEGIN SELECT RAISE(ABORT, 'a leaf is immutable'); END;
CREATE TRIGGER leaves_never_go BEFORE DELETE ON leaves
  BEGIN SELECT RAISE(ABORT, 'a leaf is immutable'); END;

-- What a pruning looks for.
CREATE INDEX runs_open ON runs (opened_at) WHERE phase <> 'closed';
CREATE INDEX grants_with_words ON grants (place) WHERE evidence IS NOT NULL;

CREATE TABLE checkpoints (
  size INTEGER PRIMARY KEY,
  origin TEXT NOT NULL,
  root BLOB NOT NULL CHECK (length(root) = 32),
  note TEXT NOT NULL,
  at INTEGER NOT NULL
) STRICT;
CREATE TABLE cosignatures (
  size INTEGER NOT NULL REFERENCES checkpoints (size) ON DELETE CASCADE,
  witness TEXT NOT NULL,
  line TEXT NOT NULL,
  at INTEGER NOT NULL,
  PRIMARY KEY (size, witness)
) STRICT, WITHOUT ROWID;
CREATE TABLE cursors (name TEXT PRIMARY KEY, place INTEGER NOT NULL CHECK (place >= 0)) STRICT, WITHOUT ROWID;
";

/// Version 4: public halves of the broker's own keys. Working keys sign from `begins` to before `ends`; the key that
/// vouches for them and the log's key are the last ones known, one each.
const VERSION_4: &str = "
CREATE TABLE own_keys (
  purpose TEXT NOT NULL CHECK (purpose IN ('token', 'log', 'working')),
  thumbprint TEXT NOT NULL,
  jwk TEXT NOT NULL,
  begins INTEGER,
  ends INTEGER,
  certificate TEXT,
  PRIMARY KEY (purpose, thumbprint),
  CHECK ((purpose = 'working') = (begins IS NOT NULL AND ends IS NOT NULL AND certificate IS NOT NULL))
) STRICT, WITHOUT ROWID;
";
