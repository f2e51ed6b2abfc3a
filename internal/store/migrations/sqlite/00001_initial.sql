-- +goose Up
-- Shared subset of SQL (docs/design/dependencies.md 3.1): times are Unix
-- microseconds (0: none), lists are JSON text ('': none), booleans are 0 or 1.
CREATE TABLE users (
  id             INTEGER PRIMARY KEY AUTOINCREMENT,
  name           TEXT    NOT NULL UNIQUE, -- BINARY collation: bytes, case counts
  comment        TEXT    NOT NULL,
  disabled       INTEGER NOT NULL,
  password_hash  TEXT    NOT NULL,
  must_change    INTEGER NOT NULL,
  key_only       INTEGER NOT NULL,
  home           TEXT    NOT NULL,
  mounts         TEXT    NOT NULL,
  rules          TEXT    NOT NULL,
  quota_bytes    INTEGER NOT NULL,
  quota_files    INTEGER NOT NULL,
  bandwidth_down INTEGER NOT NULL,
  bandwidth_up   INTEGER NOT NULL,
  max_sessions   INTEGER NOT NULL,
  protocols      TEXT    NOT NULL,
  networks       TEXT    NOT NULL,
  hours          TEXT    NOT NULL,
  expires_at     INTEGER NOT NULL,
  created_at     INTEGER NOT NULL,
  updated_at     INTEGER NOT NULL,
  last_login     INTEGER NOT NULL
) STRICT;

CREATE TABLE user_keys (
  user_id     INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  position    INTEGER NOT NULL,
  line        TEXT    NOT NULL,
  fingerprint TEXT    NOT NULL, -- SHA256:..., '' when the line cannot be read
  PRIMARY KEY (user_id, position)
) STRICT;
CREATE INDEX user_keys_fingerprint ON user_keys (fingerprint);

CREATE TABLE user_certificates (
  user_id     INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  position    INTEGER NOT NULL,
  fingerprint TEXT    NOT NULL UNIQUE,
  PRIMARY KEY (user_id, position)
) STRICT;

CREATE TABLE groups (
  id             INTEGER PRIMARY KEY AUTOINCREMENT,
  name           TEXT    NOT NULL UNIQUE,
  comment        TEXT    NOT NULL,
  home           TEXT    NOT NULL,
  mounts         TEXT    NOT NULL,
  rules          TEXT    NOT NULL,
  quota_bytes    INTEGER NOT NULL,
  quota_files    INTEGER NOT NULL,
  bandwidth_down INTEGER NOT NULL,
  bandwidth_up   INTEGER NOT NULL,
  max_sessions   INTEGER NOT NULL,
  protocols      TEXT    NOT NULL,
  networks       TEXT    NOT NULL,
  hours          TEXT    NOT NULL,
  created_at     INTEGER NOT NULL,
  updated_at     INTEGER NOT NULL
) STRICT;

CREATE TABLE memberships (
  user_id  INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  position INTEGER NOT NULL, -- order decides precedence
  group_id INTEGER NOT NULL REFERENCES groups (id),
  PRIMARY KEY (user_id, position)
) STRICT;
CREATE UNIQUE INDEX memberships_group ON memberships (group_id, user_id);

CREATE TABLE events (
  id       INTEGER PRIMARY KEY AUTOINCREMENT,
  time     INTEGER NOT NULL,
  kind     TEXT    NOT NULL,
  node     TEXT    NOT NULL,
  session  TEXT    NOT NULL,
  protocol TEXT    NOT NULL,
  listener TEXT    NOT NULL,
  account  TEXT    NOT NULL,
  remote   TEXT    NOT NULL,
  path     TEXT    NOT NULL,
  target   TEXT    NOT NULL,
  bytes    INTEGER NOT NULL,
  took_ns  INTEGER NOT NULL,
  result   TEXT    NOT NULL,
  detail   TEXT    NOT NULL
) STRICT;
CREATE INDEX events_time ON events (time);
CREATE INDEX events_account ON events (account, id);

CREATE TABLE bans (
  network    TEXT    PRIMARY KEY NOT NULL,
  reason     TEXT    NOT NULL,
  created_at INTEGER NOT NULL,
  until      INTEGER NOT NULL -- 0: for ever
) STRICT;

CREATE TABLE quota (
  account    TEXT    PRIMARY KEY NOT NULL, -- user name, or 'mount:' and the source
  used_bytes INTEGER NOT NULL,
  used_files INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE meta (
  name  TEXT PRIMARY KEY NOT NULL,
  value TEXT NOT NULL
) STRICT;

-- +goose Down
DROP TABLE meta;
DROP TABLE quota;
DROP TABLE bans;
DROP TABLE events;
DROP TABLE memberships;
DROP TABLE groups;
DROP TABLE user_certificates;
DROP TABLE user_keys;
DROP TABLE users;
