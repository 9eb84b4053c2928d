-- After how many seconds without the change feed a broker accepts nobody. Until then a broker that
-- is not heard of may still accept what was revoked. Brokers of earlier versions do not say; the
-- longest that can be configured is assumed of them.
ALTER TABLE nodes ADD COLUMN refuse_after BIGINT NOT NULL DEFAULT 129600;
