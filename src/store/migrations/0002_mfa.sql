-- How far a device's clock is known to be off, in steps; and how far off from that its last code
-- was, so that a clock that keeps drifting is followed.
ALTER TABLE spent_steps ADD COLUMN drift BIGINT NOT NULL DEFAULT 0;
ALTER TABLE spent_steps ADD COLUMN leaning BIGINT NOT NULL DEFAULT 0;

-- Wrong MFA codes, by user: when, in seconds since 1970, all of them will be forgiven, one after
-- the other.
CREATE TABLE mfa_failures (
    user_id TEXT NOT NULL PRIMARY KEY,
    forgiven_at BIGINT NOT NULL
);
