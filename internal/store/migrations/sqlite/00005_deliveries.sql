-- +goose Up
-- The outbox: events on their way to a hook.
CREATE TABLE deliveries (
  id         INTEGER PRIMARY KEY AUTOINCREMENT,
  message    TEXT    NOT NULL UNIQUE, -- the same for the same event and hook
  hook       TEXT    NOT NULL,
  event      INTEGER NOT NULL,
  kind       TEXT    NOT NULL,
  body       TEXT    NOT NULL,
  created_at INTEGER NOT NULL,
  next_at    INTEGER NOT NULL, -- not tried before
  tries      INTEGER NOT NULL,
  claimed    INTEGER NOT NULL, -- 1: being delivered
  dead_at    INTEGER NOT NULL, -- 0: alive
  problem    TEXT    NOT NULL  -- of the last try
) STRICT;
CREATE INDEX deliveries_due ON deliveries (hook, dead_at, next_at);

-- +goose Down
DROP TABLE deliveries;
