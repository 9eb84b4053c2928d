-- What a directory that is a file had when a broker last read it, and the unique ids of its users, roles,
-- groups, policies and instance profiles: the file need not state them. `identity` is what makes an entry
-- the same one under the same name: its unique id; of an access key its user's ARN. `version` is the change
-- that wrote the row. An entry that went from the file has none.
CREATE TABLE directory_entries (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    identity TEXT NOT NULL,
    version BIGINT NOT NULL,
    mac TEXT NOT NULL,
    PRIMARY KEY (kind, id)
);
-- Which directory file a broker serves: a digest of the names of its entries. Empty: the directory is in the
-- store, or the broker is of an earlier version.
ALTER TABLE nodes ADD COLUMN directory TEXT NOT NULL DEFAULT '';
