-- +goose Up
-- Factors needed to log in, and codes by time (RFC 6238). totp_step is the last
-- step whose code was used: none up to it is taken again.
ALTER TABLE users ADD COLUMN auth TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN totp_secret TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN totp_step BIGINT NOT NULL DEFAULT 0;
ALTER TABLE groups ADD COLUMN auth TEXT NOT NULL DEFAULT '';
ALTER TABLE administrators ADD COLUMN totp_secret TEXT NOT NULL DEFAULT '';
ALTER TABLE administrators ADD COLUMN totp_step BIGINT NOT NULL DEFAULT 0;
ALTER TABLE tokens ADD COLUMN verified INTEGER NOT NULL DEFAULT 0;

CREATE TABLE recovery_codes (
  holder TEXT NOT NULL, -- 'user:' or 'administrator:' and the id
  hash   TEXT NOT NULL, -- SHA-256, hex
  PRIMARY KEY (holder, hash)
);

-- +goose Down
DROP TABLE recovery_codes;
ALTER TABLE tokens DROP COLUMN verified;
ALTER TABLE administrators DROP COLUMN totp_step;
ALTER TABLE administrators DROP COLUMN totp_secret;
ALTER TABLE groups DROP COLUMN auth;
ALTER TABLE users DROP COLUMN totp_step;
ALTER TABLE users DROP COLUMN totp_secret;
ALTER TABLE users DROP COLUMN auth;
