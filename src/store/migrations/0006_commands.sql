-- What commands beside a broker must know of it: the ids of the master keys that it holds, separated by
-- commas, the one that it seals with first; and the cluster of its keyring. Both are empty for a broker
-- of an earlier version.
ALTER TABLE nodes ADD COLUMN master_keys TEXT NOT NULL DEFAULT '';
ALTER TABLE nodes ADD COLUMN cluster_id TEXT NOT NULL DEFAULT '';
-- Where a store was moved to. What is left behind is not served and not changed any more.
ALTER TABLE store ADD COLUMN moved_to TEXT;
