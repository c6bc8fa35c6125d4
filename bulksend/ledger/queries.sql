-- Named statements of the SQLite ledger: a line `-- name --`, what it is for, the statement.

-- add_job --
INSERT INTO job (name, state) VALUES (:name, 'incomplete') ON CONFLICT (name) DO NOTHING;

-- find_job --
SELECT id, name, state, started_at, finished_at, holder, rows, sends, vendor, accepted, rejected, unknown, sending, summary,
       stop_requested
FROM job WHERE name = :name;

-- has_sends --
SELECT EXISTS (SELECT 1 FROM send WHERE job_id = :job_id AND scope = 'send');

-- check_jobs --
PRAGMA integrity_check(job);

-- has_sends_of_nobody --
-- From one job's sends to the next one's, without reading those between.
WITH RECURSIVE sent (id) AS (
    SELECT min(job_id) FROM send
    UNION ALL
    SELECT (SELECT min(job_id) FROM send WHERE job_id > sent.id) FROM sent WHERE sent.id IS NOT NULL
)
SELECT EXISTS (SELECT 1 FROM sent WHERE id IS NOT NULL AND id NOT IN (SELECT id FROM job));

-- is_counted_right --
SELECT (accepted, rejected, unknown, sending) = (
    SELECT count(*) FILTER (WHERE state = 'accepted'), count(*) FILTER (WHERE state = 'rejected'),
           count(*) FILTER (WHERE state = 'unknown'), count(*) FILTER (WHERE state = 'sending')
    FROM send WHERE job_id = :job_id AND scope = 'send'
)
FROM job WHERE id = :job_id;

-- start_job --
UPDATE job SET state = 'running', holder = :holder, stop_requested = 0,
               started_at = CASE WHEN :is_run THEN :now ELSE started_at END,
               vendor = coalesce(:vendor, vendor)
WHERE id = :job_id;

-- end_job --
UPDATE job SET state = :state, holder = NULL, stop_requested = 0, summary = :summary,
               finished_at = CASE WHEN :finished THEN :now ELSE finished_at END
WHERE id = :job_id AND state = 'running';

-- save_summary --
UPDATE job SET summary = :summary WHERE id = :job_id;

-- set_size --
UPDATE job SET rows = :rows, sends = :sends WHERE id = :job_id;

-- recover --
-- What a dead process left in flight: nobody knows whether it arrived.
UPDATE send SET state = 'unknown', reason = 'the process ended while the call was under way', status = NULL, at = :now,
                repeats = repeats + 1
WHERE job_id = :job_id AND state = 'sending' AND scope = :scope;

-- recovered --
UPDATE job SET sending = 0, unknown = unknown + :turned WHERE id = :job_id;

-- intend --
-- new or pending → sending, for each of a JSON list; anything else changes no row, and the caller raises. One statement
-- for many sends: SQLite works through them by itself, without asking the interpreter back for each.
INSERT INTO send (job_id, scope, key, account, row, step, state, attempts, fingerprint, at)
SELECT :job_id, json_extract(value, '$.scope'), json_extract(value, '$.key'), json_extract(value, '$.account'),
       json_extract(value, '$.row'), json_extract(value, '$.step'), 'sending', 1, json_extract(value, '$.fingerprint'),
       :now
FROM json_each(:rows) WHERE true
ON CONFLICT (job_id, scope, key) DO UPDATE
SET state = 'sending', attempts = attempts + 1, account = excluded.account, row = excluded.row,
    fingerprint = excluded.fingerprint, at = excluded.at
WHERE state = 'pending' AND step = excluded.step;

-- invalid --
-- new → rejected without a call, for each of a JSON list.
INSERT INTO send (job_id, scope, key, account, row, step, state, attempts, fingerprint, reason, at)
SELECT :job_id, 'send', json_extract(value, '$.key'), json_extract(value, '$.account'), json_extract(value, '$.row'), 0,
       'rejected', 0, json_extract(value, '$.fingerprint'), json_extract(value, '$.reason'), :now
FROM json_each(:rows) WHERE true
ON CONFLICT (job_id, scope, key) DO UPDATE
SET state = 'rejected', reason = excluded.reason, at = excluded.at
WHERE state = 'pending';

-- change --
-- For each of a JSON list: a row that is not in the state that it comes from is not changed, and the caller raises. The
-- list is made first, and each of its rows led to its send by key: else all sends of the job are gone through.
UPDATE send
SET state = new.state, step = new.step,
    refs = CASE WHEN new.ref IS NULL THEN refs ELSE json_insert(refs, '$[#]', new.ref) END,
    reason = new.reason, status = new.status, at = :now,
    repeats = CASE WHEN send.step = new.step THEN send.repeats ELSE 0 END + new.repeats
FROM (
    WITH listed AS MATERIALIZED (
        SELECT :job_id AS job_id, json_extract(value, '$.scope') AS scope, json_extract(value, '$.key') AS key,
               json_extract(value, '$.frm') AS frm, json_extract(value, '$.to') AS state,
               json_extract(value, '$.step') AS step, json_extract(value, '$.ref') AS ref,
               json_extract(value, '$.reason') AS reason, json_extract(value, '$.status') AS status,
               json_extract(value, '$.repeats') AS repeats
        FROM json_each(:rows)
    )
    SELECT * FROM listed
) AS new
WHERE send.job_id = new.job_id AND send.scope = new.scope AND send.key = new.key AND send.state = new.frm;

-- count --
UPDATE job SET accepted = accepted + ?2, rejected = rejected + ?3, unknown = unknown + ?4, sending = sending + ?5
WHERE id = ?1;

-- look_up --
SELECT key, account, row, step, state, attempts, repeats, fingerprint, refs, reason, status, at
FROM send WHERE job_id = :job_id AND scope = :scope AND key IN (SELECT value FROM json_each(:keys));

-- look_up_in --
SELECT key, account, row, step, state, attempts, repeats, fingerprint, refs, reason, status, at
FROM send WHERE job_id = :job_id AND scope = 'send' AND key IN (SELECT value FROM json_each(:keys))
      AND state IN (SELECT value FROM json_each(:states));

-- of_accounts --
SELECT key, account, row, step, state, attempts, repeats, fingerprint, refs, reason, status, at
FROM send WHERE job_id = :job_id AND scope = 'account';

-- by_state --
SELECT key, account, row, step, state, attempts, repeats, fingerprint, refs, reason, status, at
FROM send WHERE job_id = :job_id AND state = :state AND scope = 'send' AND key > :after ORDER BY key LIMIT :most;

-- request_stop --
UPDATE job SET stop_requested = 1 WHERE name = :name AND state = 'running';

-- stop_requested --
SELECT stop_requested FROM job WHERE id = :job_id;

-- members_of --
SELECT key, chunk, number FROM member WHERE job_id = :job_id AND key IN (SELECT value FROM json_each(:keys));

-- add_member --
INSERT INTO member (job_id, key, chunk, number) VALUES (?1, ?2, ?3, ?4);

-- last_chunk --
SELECT coalesce(max(number), 0) FROM member WHERE job_id = :job_id;

-- open_members --
SELECT member.key, member.chunk, member.number
FROM member LEFT JOIN send ON send.job_id = member.job_id AND send.scope = 'send' AND send.key = member.chunk
WHERE member.job_id = :job_id AND (member.number, member.key) > (:number, :key)
      AND coalesce(send.state, 'pending') = :state
ORDER BY member.number, member.key LIMIT :most;

-- find_buckets --
-- Those of a JSON list that there are, as one JSON list; times are whole microseconds here, and seconds in the table.
WITH listed AS MATERIALIZED (
    SELECT json_extract(value, '$[0]') AS identity, json_extract(value, '$[1]') AS endpoint FROM json_each(:names)
)
SELECT json_group_array(json_array(
    bucket.identity, bucket.endpoint,
    CAST(round(next_at * 1e6) AS INTEGER), CAST(round(paused_at * 1e6) AS INTEGER),
    CAST(round(paused_until * 1e6) AS INTEGER), CAST(round(leased_at * 1e6) AS INTEGER)
))
FROM listed CROSS JOIN bucket ON bucket.identity = listed.identity AND bucket.endpoint = listed.endpoint;

-- set_buckets --
INSERT INTO bucket (identity, endpoint, next_at, paused_at, paused_until, leased_at)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]') / 1e6,
       json_extract(value, '$[3]') / 1e6, json_extract(value, '$[4]') / 1e6, json_extract(value, '$[5]') / 1e6
FROM json_each(:buckets) WHERE true
ON CONFLICT (identity, endpoint) DO UPDATE
SET next_at = excluded.next_at, paused_at = excluded.paused_at, paused_until = excluded.paused_until,
    leased_at = excluded.leased_at;

-- find_segment --
SELECT desired, fingerprint, job, finished_at FROM segment WHERE identity = :identity AND segment = :segment;

-- finish_segment --
INSERT INTO segment (identity, segment, desired, fingerprint, job, finished_at)
VALUES (:identity, :segment, :desired, :fingerprint, :job, :now)
ON CONFLICT (identity, segment) DO UPDATE
SET desired = :desired, fingerprint = :fingerprint, job = :job, finished_at = :now;

-- use_override --
-- Changes no row when this hash was used before by another.
INSERT INTO override (identity, segment, hash, by, at) VALUES (:identity, :segment, :hash, :by, :now)
ON CONFLICT (identity, segment, hash) DO UPDATE SET at = :now WHERE by = :by;

-- overrides --
SELECT count(*) FROM override WHERE identity = :identity AND segment = :segment;

-- ledger_id --
SELECT id FROM ledger;

-- save_history --
INSERT INTO history (job_id, began_at, data) VALUES (:job_id, :began_at, :data)
ON CONFLICT (job_id, began_at) DO UPDATE SET data = :data;

-- forget_history --
DELETE FROM history WHERE job_id = :job_id AND began_at NOT IN (
    SELECT began_at FROM history WHERE job_id = :job_id ORDER BY began_at DESC LIMIT :most
);

-- histories --
SELECT data FROM history WHERE job_id = :job_id ORDER BY began_at;

-- add_audit --
-- After the change itself: the step is the one that the send is at now.
INSERT INTO audit (job_id, key, row, account, step, frm, became, reason, by, host, at)
SELECT job_id, key, row, account, step, ?3, ?4, ?5, ?6, ?7, ?8
FROM send WHERE job_id = ?1 AND scope = 'send' AND key = ?2;

-- audit --
SELECT id, key, row, account, step, frm, became, reason, by, host, at
FROM audit WHERE job_id = :job_id AND id > :after ORDER BY id LIMIT :most;
