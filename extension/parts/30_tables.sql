-- Sequences.  Task ids are drawn in blocks of 64 by each session.  They begin at the time, in
-- microseconds of 2025, so that a marker left by an extension that was dropped, or one that came
-- from another database, never bears the number of a task here.
CREATE SEQUENCE llm.task_id INCREMENT BY 64;
SELECT pg_catalog.setval('llm.task_id', (EXTRACT(epoch FROM llm.clock()
	OPERATOR(pg_catalog.-) '2025-01-01 00:00:00+00'::timestamptz) OPERATOR(pg_catalog.*) 1000000)::bigint, false);
COMMENT ON SEQUENCE llm.task_id IS 'task ids, in blocks of 64';
CREATE SEQUENCE llm.request_id;
COMMENT ON SEQUENCE llm.request_id IS 'numbers of HTTP requests';
CREATE SEQUENCE llm.sender_number;
COMMENT ON SEQUENCE llm.sender_number IS 'number of the last sender that entered: an older one writes nothing';
CREATE SEQUENCE llm.writer_number;
COMMENT ON SEQUENCE llm.writer_number IS 'number of the last writer that entered: an older one writes nothing';

-- What the rows of a job share.  Found by content; not unique, since a unique index
-- would make two sessions that ask the same wait for each other's COMMIT.
CREATE TABLE llm.recipe (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	hash bytea NOT NULL,
	operation text NOT NULL,
	spec jsonb NOT NULL,
	created_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
CREATE INDEX recipe_hash ON llm.recipe (hash);
COMMENT ON TABLE llm.recipe IS 'what the rows of a job share: operation, labels, instructions, schema, parameters; stored once';
COMMENT ON COLUMN llm.recipe.id IS 'number of the recipe';
COMMENT ON COLUMN llm.recipe.hash IS 'SHA-256 of operation and spec';
COMMENT ON COLUMN llm.recipe.operation IS 'classify, extract, summarize, complete and so on';
COMMENT ON COLUMN llm.recipe.spec IS 'arguments of the call, the input left out';
COMMENT ON COLUMN llm.recipe.created_at IS 'when it was first used';

CREATE TABLE llm.job (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	created_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	finished_at timestamptz,
	day date,
	role oid NOT NULL,
	role_name text NOT NULL,
	application_name text NOT NULL,
	relation oid NOT NULL,
	relation_name text NOT NULL,
	column_name text NOT NULL,
	key_columns text[] NOT NULL,
	operation text NOT NULL,
	recipe bigint NOT NULL,
	model text,
	priority int NOT NULL DEFAULT 0,
	tags jsonb,
	settings jsonb,
	deadline timestamptz,
	total bigint,
	done bigint NOT NULL DEFAULT 0,
	failed bigint NOT NULL DEFAULT 0,
	superseded bigint NOT NULL DEFAULT 0,
	cancelled bigint NOT NULL DEFAULT 0,
	row_gone bigint NOT NULL DEFAULT 0,
	state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'paused', 'finished')),
	reason text,
	resumed_final bigint NOT NULL DEFAULT 0,
	resumed_failed bigint NOT NULL DEFAULT 0,
	column_numbers smallint[],
	refused bigint NOT NULL DEFAULT 0,
	shape text,
	shape_put_off text,
	cell_kind text NOT NULL DEFAULT 'marker' CHECK (cell_kind IN ('marker', 'quiet')),
	cell jsonb,
	max_concurrency int CHECK (max_concurrency > 0),
	announced text NOT NULL DEFAULT 'open',
	estimated_cost numeric,
	pace_at timestamptz,
	pace_final bigint,
	pace_before_at timestamptz,
	pace_before_final bigint,
	hides_key boolean NOT NULL DEFAULT false,
	fresh boolean NOT NULL DEFAULT false,
	max_cost numeric
) WITH (fillfactor = 50);
CREATE INDEX job_open ON llm.job (id) WHERE state <> 'finished';
CREATE INDEX job_day ON llm.job (relation, recipe, role) WHERE day IS NOT NULL AND state = 'open';
CREATE INDEX job_deadline ON llm.job (deadline) WHERE deadline IS NOT NULL AND state <> 'finished';
CREATE INDEX job_untold ON llm.job (id) WHERE state <> announced AND NOT (state = 'open' AND announced = 'budget')
	OR state = 'open' AND announced <> 'budget' AND pg_catalog.starts_with(reason, 'budget');
CREATE INDEX job_hides_key ON llm.job (id) WHERE hides_key;
-- which names a role or table had, for budgets of them
CREATE INDEX job_role ON llm.job (role, role_name);
CREATE INDEX job_relation ON llm.job (relation, relation_name);
COMMENT ON TABLE llm.job IS 'one row per call site of a statement; single-row statements share one per role, column, recipe and day';
COMMENT ON COLUMN llm.job.id IS 'number of the job';
COMMENT ON COLUMN llm.job.created_at IS 'start of the transaction that queued it';
COMMENT ON COLUMN llm.job.finished_at IS 'when the last task became final';
COMMENT ON COLUMN llm.job.day IS 'the day that single-row statements share the job, else NULL';
COMMENT ON COLUMN llm.job.role IS 'role that asked, and whose rights the write-back has';
COMMENT ON COLUMN llm.job.role_name IS 'name of that role when it asked';
COMMENT ON COLUMN llm.job.application_name IS 'application_name of the session that asked first';
COMMENT ON COLUMN llm.job.relation IS 'table or view that the statement named';
COMMENT ON COLUMN llm.job.relation_name IS 'its qualified name then';
COMMENT ON COLUMN llm.job.column_name IS 'column that gets the answers, by its name then';
COMMENT ON COLUMN llm.job.key_columns IS 'columns that find a row again, by their names then';
COMMENT ON COLUMN llm.job.operation IS 'classify, extract, summarize, complete and so on';
COMMENT ON COLUMN llm.job.recipe IS 'llm.recipe.id';
COMMENT ON COLUMN llm.job.model IS 'model alias asked for; NULL: the default model when a task is sent';
COMMENT ON COLUMN llm.job.priority IS 'higher goes first';
COMMENT ON COLUMN llm.job.tags IS 'copied to the ledger';
COMMENT ON COLUMN llm.job.settings IS 'values of llm_enrich.carry_settings, set for the write-back';
COMMENT ON COLUMN llm.job.deadline IS 'what is not sent by then fails, unpaid; NULL: never';
COMMENT ON COLUMN llm.job.total IS 'tasks queued; NULL for a job that single-row statements share';
COMMENT ON COLUMN llm.job.done IS 'tasks whose answer is in its cell';
COMMENT ON COLUMN llm.job.failed IS 'tasks that failed; see llm.dead_letter';
COMMENT ON COLUMN llm.job.superseded IS 'tasks whose cell got another value meanwhile';
COMMENT ON COLUMN llm.job.cancelled IS 'tasks cancelled';
COMMENT ON COLUMN llm.job.row_gone IS 'tasks whose row was deleted';
COMMENT ON COLUMN llm.job.state IS 'open, paused (by llm.pause, or since too many failed; see llm.resume) or finished';
COMMENT ON COLUMN llm.job.resumed_final IS 'final tasks when it was last resumed';
COMMENT ON COLUMN llm.job.resumed_failed IS 'failed ones among them';
COMMENT ON COLUMN llm.job.column_numbers IS 'pg_attribute.attnum of these columns, the one for answers first: renamed ones are followed; NULL: by name';
COMMENT ON COLUMN llm.job.refused IS 'answers in a row, up to the last one, that could not be written';
COMMENT ON COLUMN llm.job.shape IS 'hash of what a write ran and obeyed when it was asked; NULL: the owner is a member of the role; empty: not known';
COMMENT ON COLUMN llm.job.shape_put_off IS 'the same when it was found changed; llm.resume lets this one through';
COMMENT ON COLUMN llm.job.cell_kind IS 'marker: the cell shows it while its task is pending; quiet: it keeps its value';
COMMENT ON COLUMN llm.job.cell IS 'of quiet cells: the expression around the call, where there is one, and what it means';
COMMENT ON COLUMN llm.job.max_concurrency IS 'requests of the job in flight at a time, at most; NULL: as many as its target takes';
COMMENT ON COLUMN llm.job.announced IS 'state that was told last by NOTIFY and in the log; budget: it met one';
COMMENT ON COLUMN llm.job.fresh IS 'its tasks take no kept answer, since they were asked before (llm.retry)';
COMMENT ON COLUMN llm.job.estimated_cost IS 'US dollars that it was to cost when it was queued; NULL: not estimated, or of another model';
COMMENT ON COLUMN llm.job.pace_at IS 'a moment at most a minute ago, while tasks become final';
COMMENT ON COLUMN llm.job.pace_final IS 'final tasks at that moment';
COMMENT ON COLUMN llm.job.pace_before_at IS 'the moment before that one';
COMMENT ON COLUMN llm.job.pace_before_final IS 'final tasks at that one';
COMMENT ON COLUMN llm.job.hides_key IS 'the role may not read the key of these rows, and does not see it here either';
COMMENT ON COLUMN llm.job.max_cost IS 'US dollars that its requests may cost together, by llm_enrich.max_cost; NULL: no cap';
COMMENT ON COLUMN llm.job.reason IS 'why its tasks wait now';

-- What a job cost so far: written by the sender alone, as llm.job's counts are by the writer
-- alone, so that neither ever waits for the other.
CREATE TABLE llm.job_cost (
	job bigint PRIMARY KEY,
	requests bigint NOT NULL,
	input_tokens bigint NOT NULL,
	output_tokens bigint NOT NULL,
	cost numeric,
	retries bigint NOT NULL DEFAULT 0,
	retried bigint NOT NULL DEFAULT 0,
	retry_tokens bigint NOT NULL DEFAULT 0,
	retry_cost numeric NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
COMMENT ON TABLE llm.job_cost IS 'running sums of llm.ledger per job';
COMMENT ON COLUMN llm.job_cost.job IS 'llm.job.id';
COMMENT ON COLUMN llm.job_cost.requests IS 'HTTP requests so far';
COMMENT ON COLUMN llm.job_cost.input_tokens IS 'input tokens so far, cached ones included';
COMMENT ON COLUMN llm.job_cost.output_tokens IS 'output tokens so far';
COMMENT ON COLUMN llm.job_cost.cost IS 'US dollars so far; NULL when no price is known';
COMMENT ON COLUMN llm.job_cost.retries IS 'invalid answers after which the task is asked again';
COMMENT ON COLUMN llm.job_cost.retried IS 'of these, those that were asked again, and whose answer has come';
COMMENT ON COLUMN llm.job_cost.retry_tokens IS 'tokens that asking again took, all classes';
COMMENT ON COLUMN llm.job_cost.retry_cost IS 'the part of cost that asking again took';

CREATE TABLE llm.queue (
	id bigint PRIMARY KEY,
	job bigint NOT NULL,
	recipe bigint NOT NULL,
	role oid NOT NULL,
	relation oid NOT NULL,
	state text NOT NULL DEFAULT 'ready'
		CHECK (state IN ('ready', 'claimed', 'answered', 'waiting', 'failed', 'cancelled', 'superseded')),
	reason text,
	tries int NOT NULL DEFAULT 0,
	attempts int NOT NULL DEFAULT 0,
	outages int NOT NULL DEFAULT 0,
	queued_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	not_before timestamptz,
	claimed_at timestamptz,
	request bigint,
	same_as bigint,
	landed bigint,
	outcome text,
	error text,
	message text,
	application_name text,
	key jsonb NOT NULL,
	input text NOT NULL,
	last_answer text,
	answer jsonb,
	cell bigint,
	fence bytea,
	leaves jsonb,
	fallback boolean NOT NULL DEFAULT false,
	reserved numeric,
	asked text
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
CREATE INDEX queue_ready ON llm.queue (job, id) WHERE state = 'ready';
CREATE INDEX queue_settled ON llm.queue (job, landed, id) WHERE state IN ('answered', 'failed', 'cancelled', 'superseded');
CREATE INDEX queue_waiting ON llm.queue (job) WHERE state = 'waiting';
-- One for the sender and one for the writer: a look for what is due next passes over no others' entries.
CREATE INDEX queue_due ON llm.queue (not_before)
	WHERE state = 'waiting' AND not_before IS NOT NULL AND outcome IS NULL;
CREATE INDEX queue_put_off ON llm.queue (not_before)
	WHERE state = 'waiting' AND not_before IS NOT NULL AND outcome IS NOT NULL;
-- Tasks that wait for another one's answer, and those that ask themselves after it ended without one.
CREATE INDEX queue_same ON llm.queue (same_as, job, id)
	WHERE state = 'waiting' AND same_as IS NOT NULL AND not_before IS NULL;
CREATE INDEX queue_promoted ON llm.queue (same_as)
	WHERE same_as IS NOT NULL AND outcome IS NULL AND (state <> 'waiting' OR not_before IS NOT NULL);
CREATE INDEX queue_cell ON llm.queue (cell) WHERE cell IS NOT NULL;
CREATE INDEX queue_claimed ON llm.queue (id) WHERE state = 'claimed';
COMMENT ON TABLE llm.queue IS 'one row per task that is not final';
COMMENT ON COLUMN llm.queue.id IS 'number of the task, as in the cell''s marker';
COMMENT ON COLUMN llm.queue.job IS 'llm.job.id';
COMMENT ON COLUMN llm.queue.recipe IS 'llm.recipe.id';
COMMENT ON COLUMN llm.queue.role IS 'role that asked';
COMMENT ON COLUMN llm.queue.relation IS 'table that holds the row: the partition, where there is one';
COMMENT ON COLUMN llm.queue.state IS 'ready, claimed, answered, waiting; or final and about to leave';
COMMENT ON COLUMN llm.queue.reason IS 'why it waits';
COMMENT ON COLUMN llm.queue.tries IS 'tries so far: invalid answers, and requests without an answer, that are charged to the task';
COMMENT ON COLUMN llm.queue.attempts IS 'HTTP requests so far';
COMMENT ON COLUMN llm.queue.outages IS 'attempts so far that failed on the way or at the provider, limits and pauses apart';
COMMENT ON COLUMN llm.queue.queued_at IS 'start of the transaction that queued it';
COMMENT ON COLUMN llm.queue.not_before IS 'waits until then';
COMMENT ON COLUMN llm.queue.claimed_at IS 'when the last request was about to leave';
COMMENT ON COLUMN llm.queue.request IS 'number of the last request';
COMMENT ON COLUMN llm.queue.same_as IS 'task that asks the same question, and whose answer this one takes';
COMMENT ON COLUMN llm.queue.landed IS 'transaction of the sender that settled it; NULL when somebody else did';
COMMENT ON COLUMN llm.queue.outcome IS 'answered, failed, cancelled or superseded as soon as that is decided';
COMMENT ON COLUMN llm.queue.error IS 'last failure, by its short name';
COMMENT ON COLUMN llm.queue.message IS 'last failure, in a sentence';
COMMENT ON COLUMN llm.queue.application_name IS 'application_name of the session that asked, where it is another one than the job''s';
COMMENT ON COLUMN llm.queue.key IS 'values of the job''s key columns';
COMMENT ON COLUMN llm.queue.input IS 'input as it was evaluated';
COMMENT ON COLUMN llm.queue.last_answer IS 'last invalid answer';
COMMENT ON COLUMN llm.queue.answer IS 'checked answer, until it is in its cell';
COMMENT ON COLUMN llm.queue.cell IS 'number of a quiet cell: a hash of table, column and key';
COMMENT ON COLUMN llm.queue.fence IS 'of a quiet cell: what it held, and which row it was in';
COMMENT ON COLUMN llm.queue.leaves IS 'of a quiet cell: values of the expression around the call that were evaluated with the row';
COMMENT ON COLUMN llm.queue.fallback IS 'its model''s target has refused it: only the model''s fallback is asked from then on';
COMMENT ON COLUMN llm.queue.reserved IS 'US dollars that the request under way may cost at most, where a budget or a cap bounds it';
COMMENT ON COLUMN llm.queue.asked IS 'alias of the fallback that the request under way has gone to; NULL: it has gone to the job''s model';

-- What ANALYZE happens to see of a queue is wrong a second later, and turned an index scan
-- into a look at every row. Without statistics the planner trusts the indexes.
DO $$
DECLARE
	name text;
BEGIN
	FOR name IN SELECT a.attname FROM pg_catalog.pg_attribute a
		WHERE a.attrelid OPERATOR(pg_catalog.=) 'llm.queue'::regclass AND a.attnum OPERATOR(pg_catalog.>) 0
	LOOP
		EXECUTE pg_catalog.format('ALTER TABLE llm.queue ALTER COLUMN %I SET STATISTICS 0', name);
	END LOOP;
END
$$;

-- Half of what it cost to queue a long input was its compression. A server built without
-- lz4 keeps pglz.
DO $$
BEGIN
	ALTER TABLE llm.queue ALTER COLUMN input SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
	NULL;
END
$$;

-- Tasks that were under way, or locked, when somebody cancelled them.  Insert-only, so that a
-- user's open transaction never holds a lock that a worker needs, and not unique by task, so
-- that two sessions that cancel the same do not wait for each other's COMMIT.
CREATE TABLE llm.cancellation (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	task bigint NOT NULL,
	cancelled_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	superseded boolean NOT NULL DEFAULT false
);
CREATE INDEX cancellation_task ON llm.cancellation (task);
COMMENT ON TABLE llm.cancellation IS 'tasks cancelled while a request for them was under way, or another session held them';
COMMENT ON COLUMN llm.cancellation.id IS 'number of the row';
COMMENT ON COLUMN llm.cancellation.task IS 'llm.queue.id; several rows when several sessions cancelled it at once';
COMMENT ON COLUMN llm.cancellation.cancelled_at IS 'start of the transaction that cancelled it';
COMMENT ON COLUMN llm.cancellation.superseded IS 'another question was asked about its quiet cell';

-- Requests of calls that are answered while a statement waits: a row from before the request
-- leaves until its bill is stored, so that a crash leaves what has to be booked.
CREATE TABLE llm.letter (
	request bigint NOT NULL,
	task bigint NOT NULL,
	attempt int NOT NULL,
	sent_at timestamptz NOT NULL DEFAULT llm.clock(),
	role oid NOT NULL,
	role_name text NOT NULL,
	application_name text,
	server text NOT NULL,
	model text NOT NULL,
	price bigint,
	operation text NOT NULL,
	input_tokens bigint NOT NULL,
	output_tokens bigint NOT NULL,
	tags jsonb,
	reserved numeric,
	PRIMARY KEY (request, task)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
COMMENT ON TABLE llm.letter IS 'calls that a statement waits for, whose requests are under way';
COMMENT ON COLUMN llm.letter.request IS 'number of the HTTP request, which may carry several calls';
COMMENT ON COLUMN llm.letter.task IS 'number of the call, as on the ledger';
COMMENT ON COLUMN llm.letter.attempt IS 'the call''s requests are numbered from 1';
COMMENT ON COLUMN llm.letter.sent_at IS 'when it was about to leave';
COMMENT ON COLUMN llm.letter.role IS 'role that asked';
COMMENT ON COLUMN llm.letter.role_name IS 'name of that role when it asked';
COMMENT ON COLUMN llm.letter.application_name IS 'application_name of the session that asked';
COMMENT ON COLUMN llm.letter.server IS 'foreign server';
COMMENT ON COLUMN llm.letter.model IS 'provider''s name of the model';
COMMENT ON COLUMN llm.letter.price IS 'llm.price.id in force; NULL: none is known';
COMMENT ON COLUMN llm.letter.operation IS 'classify, extract, summarize, complete, check and so on';
COMMENT ON COLUMN llm.letter.input_tokens IS 'estimate, for the bill should nobody ever know better';
COMMENT ON COLUMN llm.letter.output_tokens IS 'the same of the answer';
COMMENT ON COLUMN llm.letter.tags IS 'tags of the call';
COMMENT ON COLUMN llm.letter.reserved IS 'US dollars that the request may cost at most, where a budget or a cap bounds it';

CREATE TABLE llm.dead_letter (
	task bigint PRIMARY KEY,
	failed_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	job bigint NOT NULL,
	recipe bigint NOT NULL,
	role oid NOT NULL,
	relation oid NOT NULL,
	relation_name text NOT NULL,
	column_name text NOT NULL,
	application_name text,
	key jsonb NOT NULL,
	reason text NOT NULL,
	message text,
	tries int NOT NULL,
	attempts int NOT NULL,
	cost numeric,
	input text NOT NULL,
	last_answer text,
	answer jsonb,
	cell bigint,
	fence bytea,
	leaves jsonb,
	hides_key boolean NOT NULL DEFAULT false
);
CREATE INDEX dead_letter_job ON llm.dead_letter (job);
CREATE INDEX dead_letter_cell ON llm.dead_letter (cell) WHERE cell IS NOT NULL;
COMMENT ON TABLE llm.dead_letter IS 'tasks that failed, with all that llm.retry() needs';
COMMENT ON COLUMN llm.dead_letter.task IS 'number of the task, as in the cell''s marker';
COMMENT ON COLUMN llm.dead_letter.failed_at IS 'when it became final';
COMMENT ON COLUMN llm.dead_letter.job IS 'llm.job.id';
COMMENT ON COLUMN llm.dead_letter.recipe IS 'llm.recipe.id';
COMMENT ON COLUMN llm.dead_letter.role IS 'role that asked';
COMMENT ON COLUMN llm.dead_letter.relation IS 'table that held the row';
COMMENT ON COLUMN llm.dead_letter.relation_name IS 'name of the table or view that the statement named';
COMMENT ON COLUMN llm.dead_letter.column_name IS 'column that the answer was for';
COMMENT ON COLUMN llm.dead_letter.application_name IS 'application_name of the session that asked, where it is another one than the job''s';
COMMENT ON COLUMN llm.dead_letter.key IS 'values of the key columns';
COMMENT ON COLUMN llm.dead_letter.reason IS 'invalid_output, refused, truncated, too_long, rejected, forbidden, not_visible, not_writable, check_failed, retry_share and so on';
COMMENT ON COLUMN llm.dead_letter.message IS 'the same in a sentence';
COMMENT ON COLUMN llm.dead_letter.tries IS 'tries: invalid answers, and requests without an answer';
COMMENT ON COLUMN llm.dead_letter.attempts IS 'HTTP requests';
COMMENT ON COLUMN llm.dead_letter.cost IS 'US dollars spent on the task; NULL when no price is known';
COMMENT ON COLUMN llm.dead_letter.input IS 'input as it was evaluated';
COMMENT ON COLUMN llm.dead_letter.last_answer IS 'last invalid answer, as it came';
COMMENT ON COLUMN llm.dead_letter.answer IS 'paid and checked answer that could not be written back';
COMMENT ON COLUMN llm.dead_letter.cell IS 'number of a quiet cell, which has one dead letter at most';
COMMENT ON COLUMN llm.dead_letter.fence IS 'of a quiet cell: what it held, and which row it was in';
COMMENT ON COLUMN llm.dead_letter.leaves IS 'of a quiet cell: values of the expression around the call';
COMMENT ON COLUMN llm.dead_letter.hides_key IS 'as in llm.job: the role itself does not see the letter';

CREATE TABLE llm.ledger (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	at timestamptz NOT NULL DEFAULT llm.clock(),
	request bigint,
	task bigint,
	job bigint,
	attempt int,
	latency_ms int,
	role text NOT NULL,
	application_name text,
	server text,
	model text,
	relation text,
	column_name text,
	key jsonb,
	operation text NOT NULL,
	lane text NOT NULL CHECK (lane IN ('realtime', 'batch', 'immediate', 'cache')),
	outcome text NOT NULL CHECK (outcome IN ('ok', 'invalid', 'refused', 'truncated', 'timeout', 'unknown',
		'cancelled', 'rate_limited', 'error', 'cached')),
	http_status int,
	error text,
	request_id text,
	paid_by bigint,
	input_tokens bigint NOT NULL DEFAULT 0,
	cached_tokens bigint NOT NULL DEFAULT 0,
	cache_write_tokens bigint NOT NULL DEFAULT 0,
	output_tokens bigint NOT NULL DEFAULT 0,
	reasoning_tokens bigint NOT NULL DEFAULT 0,
	cost numeric,
	estimated boolean NOT NULL DEFAULT false,
	tags jsonb
);
CREATE INDEX ledger_job ON llm.ledger (job);
CREATE INDEX ledger_task ON llm.ledger (task);
CREATE INDEX ledger_at ON llm.ledger USING brin (at);
COMMENT ON TABLE llm.ledger IS 'one row per HTTP request and task; never updated';
COMMENT ON COLUMN llm.ledger.id IS 'number of the row';
COMMENT ON COLUMN llm.ledger.at IS 'when the request was over';
COMMENT ON COLUMN llm.ledger.request IS 'number of the HTTP request';
COMMENT ON COLUMN llm.ledger.task IS 'number of the task that it carried';
COMMENT ON COLUMN llm.ledger.job IS 'llm.job.id';
COMMENT ON COLUMN llm.ledger.attempt IS 'the task''s requests are numbered from 1';
COMMENT ON COLUMN llm.ledger.latency_ms IS 'milliseconds from sending to the whole answer';
COMMENT ON COLUMN llm.ledger.role IS 'role that asked';
COMMENT ON COLUMN llm.ledger.application_name IS 'application_name of the session that asked';
COMMENT ON COLUMN llm.ledger.server IS 'foreign server';
COMMENT ON COLUMN llm.ledger.model IS 'provider''s name of the model';
COMMENT ON COLUMN llm.ledger.relation IS 'table or view';
COMMENT ON COLUMN llm.ledger.column_name IS 'column';
COMMENT ON COLUMN llm.ledger.key IS 'key of the row';
COMMENT ON COLUMN llm.ledger.operation IS 'classify, extract, summarize, complete, check and so on';
COMMENT ON COLUMN llm.ledger.lane IS 'realtime, batch, immediate or cache';
COMMENT ON COLUMN llm.ledger.outcome IS 'ok, invalid, refused, truncated, timeout, unknown, cancelled, rate_limited, error or cached';
COMMENT ON COLUMN llm.ledger.http_status IS 'HTTP status, NULL without an answer';
COMMENT ON COLUMN llm.ledger.error IS 'what was wrong, short';
COMMENT ON COLUMN llm.ledger.request_id IS 'provider''s own id of the request';
COMMENT ON COLUMN llm.ledger.paid_by IS 'task that paid, where the outcome is cached';
COMMENT ON COLUMN llm.ledger.input_tokens IS 'uncached input tokens';
COMMENT ON COLUMN llm.ledger.cached_tokens IS 'input tokens read from the provider''s cache';
COMMENT ON COLUMN llm.ledger.cache_write_tokens IS 'input tokens written to the provider''s cache';
COMMENT ON COLUMN llm.ledger.output_tokens IS 'output tokens, reasoning included';
COMMENT ON COLUMN llm.ledger.reasoning_tokens IS 'reasoning tokens';
COMMENT ON COLUMN llm.ledger.cost IS 'US dollars at the price in force when it was sent; NULL when no price is known';
COMMENT ON COLUMN llm.ledger.estimated IS 'true when the provider told no usage and tokens and cost are estimated';
COMMENT ON COLUMN llm.ledger.tags IS 'tags of the call';

SELECT pg_catalog.pg_extension_config_dump('llm.ledger', '');
SELECT pg_catalog.pg_extension_config_dump('llm.ledger_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('llm.job_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('llm.task_id', '');
SELECT pg_catalog.pg_extension_config_dump('llm.request_id', '');

-- A role sees its own rows; all rows, if it has the rights of llm_admin, as for PostgreSQL's own
-- roles: a member that does not inherit has them after SET ROLE.  Only the extension writes.
ALTER TABLE llm.recipe ENABLE ROW LEVEL SECURITY;
ALTER TABLE llm.job ENABLE ROW LEVEL SECURITY;
ALTER TABLE llm.job_cost ENABLE ROW LEVEL SECURITY;
ALTER TABLE llm.queue ENABLE ROW LEVEL SECURITY;
ALTER TABLE llm.cancellation ENABLE ROW LEVEL SECURITY;
ALTER TABLE llm.dead_letter ENABLE ROW LEVEL SECURITY;
ALTER TABLE llm.ledger ENABLE ROW LEVEL SECURITY;

-- Wrapped in a sub-select each, so that a scan asks once and not per row.
CREATE POLICY own ON llm.job FOR SELECT USING (
	role OPERATOR(pg_catalog.=) (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) current_user));
CREATE POLICY own ON llm.queue FOR SELECT USING (
	role OPERATOR(pg_catalog.=) (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) current_user)
	AND NOT job OPERATOR(pg_catalog.=) ANY (SELECT j.id FROM llm.job j WHERE j.hides_key));
CREATE POLICY own ON llm.dead_letter FOR SELECT USING (
	role OPERATOR(pg_catalog.=) (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) current_user)
	AND NOT hides_key);
CREATE POLICY own ON llm.ledger FOR SELECT USING (role OPERATOR(pg_catalog.=) current_user::text);
CREATE POLICY own ON llm.job_cost FOR SELECT USING (
	EXISTS (SELECT FROM llm.job j WHERE j.id OPERATOR(pg_catalog.=) job_cost.job));
CREATE POLICY own ON llm.recipe FOR SELECT USING (
	EXISTS (SELECT FROM llm.job j WHERE j.recipe OPERATOR(pg_catalog.=) recipe.id));
CREATE POLICY own ON llm.cancellation FOR SELECT USING (
	EXISTS (SELECT FROM llm.queue q WHERE q.id OPERATOR(pg_catalog.=) cancellation.task));
CREATE POLICY admin ON llm.job FOR SELECT USING ((SELECT pg_catalog.pg_has_role('llm_admin', 'usage')));
CREATE POLICY admin ON llm.queue FOR SELECT USING ((SELECT pg_catalog.pg_has_role('llm_admin', 'usage')));
CREATE POLICY admin ON llm.dead_letter FOR SELECT USING ((SELECT pg_catalog.pg_has_role('llm_admin', 'usage')));
CREATE POLICY admin ON llm.ledger FOR SELECT USING ((SELECT pg_catalog.pg_has_role('llm_admin', 'usage')));
CREATE POLICY admin ON llm.job_cost FOR SELECT USING ((SELECT pg_catalog.pg_has_role('llm_admin', 'usage')));
CREATE POLICY admin ON llm.recipe FOR SELECT USING ((SELECT pg_catalog.pg_has_role('llm_admin', 'usage')));
CREATE POLICY admin ON llm.cancellation FOR SELECT USING ((SELECT pg_catalog.pg_has_role('llm_admin', 'usage')));
GRANT SELECT ON llm.recipe, llm.job, llm.job_cost, llm.queue, llm.cancellation, llm.dead_letter, llm.ledger TO PUBLIC;

ALTER TABLE llm.letter ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON llm.letter FOR SELECT USING (
	role OPERATOR(pg_catalog.=) (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) current_user));
CREATE POLICY admin ON llm.letter FOR SELECT USING ((SELECT pg_catalog.pg_has_role('llm_admin', 'usage')));
GRANT SELECT ON llm.letter TO PUBLIC;

COMMENT ON SEQUENCE llm.cancellation_id_seq IS 'numbers of cancellations';
COMMENT ON SEQUENCE llm.recipe_id_seq IS 'numbers of recipes';
COMMENT ON SEQUENCE llm.job_id_seq IS 'numbers of jobs';
COMMENT ON SEQUENCE llm.ledger_id_seq IS 'numbers of ledger rows';
