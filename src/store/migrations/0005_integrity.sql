-- Every row that grants, every revocation and every change of the feed carries a MAC under a key that
-- the database never sees: `KEYID:base64`. `chain` is the digest of a change and of all before it. `seal`
-- holds the sums of all MACs, encrypted, so that a row that is missing or from earlier is noticed.
ALTER TABLE resources ADD COLUMN mac TEXT NOT NULL DEFAULT '';
ALTER TABLE revocations ADD COLUMN mac TEXT NOT NULL DEFAULT '';
ALTER TABLE changes ADD COLUMN chain TEXT NOT NULL DEFAULT '';
ALTER TABLE changes ADD COLUMN mac TEXT NOT NULL DEFAULT '';
ALTER TABLE store ADD COLUMN chain TEXT NOT NULL DEFAULT '';
ALTER TABLE store ADD COLUMN seal TEXT NOT NULL DEFAULT '';
-- A broker of an earlier version that still runs knows the column by its old name. It cannot write rows
-- without a MAC, and is not ready.
ALTER TABLE store RENAME COLUMN head TO sequence;
