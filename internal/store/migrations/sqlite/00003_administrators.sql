-- +goose Up
CREATE TABLE administrators (
  id         INTEGER PRIMARY KEY AUTOINCREMENT,
  name       TEXT    NOT NULL UNIQUE,
  comment    TEXT    NOT NULL,
  scopes     TEXT    NOT NULL,
  groups     TEXT    NOT NULL, -- names, JSON; '': no limit
  disabled   INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE tokens (
  id               TEXT    PRIMARY KEY NOT NULL, -- public part
  administrator_id INTEGER NOT NULL REFERENCES administrators (id) ON DELETE CASCADE,
  hash             TEXT    NOT NULL, -- SHA-256 of the secret part, hex
  comment          TEXT    NOT NULL,
  scopes           TEXT    NOT NULL,
  once             INTEGER NOT NULL,
  expires_at       INTEGER NOT NULL,
  created_at       INTEGER NOT NULL,
  last_used        INTEGER NOT NULL
) STRICT;
CREATE INDEX tokens_administrator ON tokens (administrator_id);

-- +goose Down
DROP TABLE tokens;
DROP TABLE administrators;
