-- +goose Up
-- Each event carries the SHA-256 of the one before it and of its own columns
-- (store/chain.go). What was written before this migration has no hash: the
-- chain begins after it, at the anchor.
ALTER TABLE events ADD COLUMN hash TEXT COLLATE "C" NOT NULL DEFAULT '';
INSERT INTO meta (name, value)
  SELECT 'events.anchor', coalesce(max(id), 0) || ':' || '0000000000000000000000000000000000000000000000000000000000000000' FROM events;
INSERT INTO meta (name, value)
  SELECT 'events.head', coalesce(max(id), 0) || ':' || '0000000000000000000000000000000000000000000000000000000000000000' FROM events;

-- +goose Down
DELETE FROM meta WHERE name IN ('events.anchor', 'events.head');
ALTER TABLE events DROP COLUMN hash;
