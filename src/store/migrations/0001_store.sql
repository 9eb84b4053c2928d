-- One row: what this store is, and the last change of its feed. A writer locks it first, so that
-- changes are numbered in the order in which they are committed, without a gap.
CREATE TABLE store (
    id BIGINT NOT NULL PRIMARY KEY,
    store_id TEXT NOT NULL,
    head BIGINT NOT NULL,
    -- Seconds since 1970. What was issued before is not known here: codes and assertions of that
    -- time count as used.
    not_before BIGINT NOT NULL
);

-- The directory. `body` is the thing in the shape of AWS's own export; `folded` is its name, unique
-- in account and kind without regard to case; `version` is the change that wrote it.
CREATE TABLE resources (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    account TEXT NOT NULL,
    folded TEXT NOT NULL,
    unique_id TEXT,
    version BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (kind, id)
);
CREATE UNIQUE INDEX resources_folded ON resources (kind, folded);
CREATE UNIQUE INDEX resources_unique_id ON resources (unique_id);
CREATE INDEX resources_account ON resources (account);

-- What refers to what: attachments, boundaries, memberships, owners.
CREATE TABLE links (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    target_kind TEXT NOT NULL,
    target TEXT NOT NULL,
    PRIMARY KEY (kind, id, target_kind, target)
);
CREATE INDEX links_target ON links (target_kind, target);

-- The change feed. Who, what, and before and after (policies by digest, secrets not at all).
CREATE TABLE changes (
    sequence BIGINT NOT NULL PRIMARY KEY,
    changed_at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    detail TEXT NOT NULL
);

CREATE TABLE revocations (
    selector TEXT NOT NULL,
    account TEXT NOT NULL,
    value TEXT NOT NULL,
    before_sequence BIGINT NOT NULL,
    before_seconds BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (selector, account, value)
);
CREATE INDEX revocations_expiry ON revocations (expires_at);

-- The last TOTP time step that each device's code was accepted for (RFC 6238). It only grows.
CREATE TABLE spent_steps (
    serial_number TEXT NOT NULL PRIMARY KEY,
    step BIGINT NOT NULL
);

-- Assertions and tokens that are good once.
CREATE TABLE seen (
    issuer TEXT NOT NULL,
    id TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (issuer, id)
);
CREATE INDEX seen_expiry ON seen (expires_at);

-- When a long-term key was last used, written now and then; not part of the feed.
CREATE TABLE access_key_use (
    access_key_id TEXT NOT NULL PRIMARY KEY,
    used_at BIGINT NOT NULL,
    region TEXT NOT NULL,
    service TEXT NOT NULL
);

-- The brokers on this store, and how far each has followed the feed.
CREATE TABLE nodes (
    node TEXT NOT NULL PRIMARY KEY,
    host TEXT NOT NULL,
    confirmed BIGINT NOT NULL,
    seen_at BIGINT NOT NULL
);
