-- People who signed in. What is known of them is in `sealed`, bound to `id`. `handle` is the SHA-256 of
-- the value of the browser's cookie; `subject` and `provider_session` are digests. Times are in
-- seconds since 1970: `checked_at` is when the sign-in was last compared with the revocations.
CREATE TABLE sign_ins (
    id TEXT NOT NULL PRIMARY KEY,
    handle TEXT NOT NULL,
    account TEXT NOT NULL,
    holder TEXT NOT NULL,
    subject TEXT NOT NULL,
    provider_session TEXT NOT NULL,
    seen_at BIGINT NOT NULL,
    checked_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    sealed TEXT NOT NULL
);
CREATE UNIQUE INDEX sign_ins_handle ON sign_ins (handle);
CREATE INDEX sign_ins_account ON sign_ins (account, id);
CREATE INDEX sign_ins_holder ON sign_ins (holder, subject);
CREATE INDEX sign_ins_end ON sign_ins (ends_at);

-- What is waited for and what was granted: requests to an identity provider, device flows,
-- authorization codes, access tokens and families of refresh tokens. `id` and `also` are digests of
-- what its holder shows; `state` is compared and changed in one statement, so that each is used once.
CREATE TABLE sign_in_grants (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    also TEXT,
    sign_in TEXT,
    family TEXT,
    state BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    sealed TEXT NOT NULL,
    PRIMARY KEY (kind, id)
);
CREATE UNIQUE INDEX sign_in_grants_also ON sign_in_grants (kind, also);
CREATE INDEX sign_in_grants_sign_in ON sign_in_grants (sign_in);
CREATE INDEX sign_in_grants_family ON sign_in_grants (family);
CREATE INDEX sign_in_grants_expiry ON sign_in_grants (expires_at);
