-- What a change of the feed made of what: the whole thing before and after, without its secrets. Apart
-- from the feed, which every broker reads; kept as long as the change itself. The change has the digests.
CREATE TABLE change_documents (
    sequence BIGINT NOT NULL PRIMARY KEY,
    old_document TEXT,
    new_document TEXT
);
