-- +goose Up
-- Scopes of quota in use by a running server. What is left here at a start was
-- in use when a server ended without settling: its files are counted anew.
CREATE TABLE quota_marks (
  account TEXT COLLATE "C" PRIMARY KEY NOT NULL
);

-- +goose Down
DROP TABLE quota_marks;
