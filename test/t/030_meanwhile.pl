# What can happen to a table, a column, a row and a role's rights between question and
# answer. Each task ends in the state that names what happened, and costs no other (P4, P5, P6).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

my $node = new_node('meanwhile', 'llm_enrich.writeback_timeout = 500ms', 'llm_enrich.enabled = off');
my $provider = start_provider();
setup_model($node, $provider);
sql('CREATE ROLE ana; GRANT USAGE ON FOREIGN SERVER sim TO ana; GRANT CREATE ON SCHEMA public TO ana; CREATE SCHEMA elsewhere;',
	'GRANT USAGE ON SCHEMA elsewhere TO ana; CREATE SCHEMA closed;');

# Counts of a job when all its tasks are final, but for those that are 0.
sub outcome
{
	my $job = shift;

	sql("CALL llm.wait(job => $job, timeout => '3 minutes')");
	return sql("SELECT string_agg(n || ' ' || v.state, ', ' ORDER BY v.state) FROM llm.job,
		LATERAL (VALUES (done, 'done'), (failed, 'failed'), (superseded, 'superseded'),
			(row_gone, 'row_gone')) v(n, state)
		WHERE id = $job AND n > 0");
}

sub reasons
{
	my $job = shift;

	return sql("SELECT string_agg(DISTINCT reason || COALESCE(' ' || substring(message FROM '^[0-9A-Z]{5}(?=:)'), ''), ', ')
		FROM llm.dead_letter WHERE job = $job");
}

sub enable
{
	sql("ALTER SYSTEM SET llm_enrich.enabled = $_[0]");
	sql('SELECT pg_reload_conf()');
	return;
}

# A table of 4 rows that is ana's, 2 about billing and 2 about a bug, with more columns and
# commands if need be ($t: its name).
sub make_table
{
	my ($name, %option) = @_;
	my $type = $option{type} // 'jsonb';
	my ($create, $more) = map { s/\$t(?=\b|_)/$name/gr } $option{create}
	  // "CREATE TABLE $name (id int PRIMARY KEY, body text, label $type" . ($option{columns} // '') . ');', $option{more} // '';

	sql("SET ROLE ana; $create", "INSERT INTO $name (id, body) SELECT i, CASE WHEN i <= 2 THEN 'The invoice is wrong' ELSE 'A bug' END
		FROM generate_series(1, 4) i;", 'RESET ROLE;', $more);
	return;
}

sub enrich
{
	my ($name, $before) = @_;

	return sql('SET ROLE ana;', $before // '', "UPDATE $name SET label = llm_classify(body, '{billing,bug}'); SELECT llm.last_job();");
}

my $halves = 'CREATE TABLE $t (id int PRIMARY KEY, body text, label jsonb) PARTITION BY RANGE (id);
	CREATE TABLE $t_1 PARTITION OF $t FOR VALUES FROM (1) TO (3);
	CREATE TABLE $t_2 PARTITION OF $t FOR VALUES FROM (3) TO (10);';

my $view = 'CREATE TABLE $t_below (nr int PRIMARY KEY, body text, label jsonb);
	CREATE VIEW $t AS SELECT nr AS id, label, body FROM $t_below;';

# Name, options of make_table(), what happens meanwhile, outcome, reasons, and a query with its result.
my $label = q(SELECT count(*) FROM $t WHERE label::jsonb ->> 'label' IN ('billing', 'bug'));
my @cases = (
	# the column
	[ 'column_dropped', {}, 'ALTER TABLE $t DROP label', '4 failed', 'column_gone' ],
	[ 'column_renamed', {}, 'ALTER TABLE $t RENAME label TO tag', '4 done', undef,
		q(SELECT count(*) FROM $t WHERE tag ->> 'label' IN ('billing', 'bug')), 4 ],
	[ 'column_anew', {}, 'ALTER TABLE $t DROP label, ADD label jsonb', '4 superseded' ],
	[ 'column_to_text', {}, 'ALTER TABLE $t ALTER label TYPE text USING label::text', '4 done', undef, $label, 4 ],
	[ 'column_to_jsonb', { type => 'text' }, 'ALTER TABLE $t ALTER label TYPE jsonb USING label::jsonb', '4 done', undef, $label, 4 ],
	[ 'column_to_json', {}, 'ALTER TABLE $t ALTER label TYPE json', '4 done', undef, $label, 4 ],
	[ 'column_to_int', {}, 'ALTER TABLE $t ALTER label TYPE int USING 1', '4 failed', 'not_writable' ],
	[ 'column_too_short', {}, q(ALTER TABLE $t ALTER label TYPE varchar(20) USING 'x'), '4 superseded' ],
	# the key
	[ 'key_renamed', {}, 'ALTER TABLE $t RENAME id TO number', '4 done' ],
	[ 'key_to_text', {}, 'ALTER TABLE $t ALTER id TYPE text', '4 done', undef, $label, 4 ],
	[ 'key_to_uuid', {}, q(ALTER TABLE $t ALTER id TYPE uuid USING lpad(id::text, 32, '0')::uuid), '4 failed', 'not_writable 22P02' ],
	[ 'key_shifted', {}, 'UPDATE $t SET id = -id WHERE id > 2', '2 done, 2 row_gone' ],
	[ 'keys_swapped', {}, 'UPDATE $t SET id = id + 10 WHERE id < 3; UPDATE $t SET id = 13 - id WHERE id > 10', '2 done, 2 superseded' ],
	[ 'key_unprotected', {}, 'ALTER TABLE $t DROP CONSTRAINT $t_pkey; INSERT INTO $t (id, body) SELECT id, \'twin\' FROM $t', '4 done', undef, $label, 4 ],
	# the table
	[ 'table_renamed', {}, 'ALTER TABLE $t RENAME TO new_name', '4 done' ],
	[ 'table_moved', {}, 'ALTER TABLE $t SET SCHEMA elsewhere', '4 done' ],
	[ 'schema_closed', {}, 'ALTER TABLE $t SET SCHEMA closed', '4 failed', 'forbidden 42501' ],
	[ 'table_dropped', {}, 'DROP TABLE $t', '4 failed', 'relation_gone' ],
	[ 'table_anew', {}, 'CREATE TEMP TABLE copy AS SELECT * FROM $t; DROP TABLE $t; CREATE TABLE $t AS SELECT * FROM copy; GRANT ALL ON $t TO ana',
		'4 failed', 'relation_gone' ],
	[ 'table_to_view', {}, 'ALTER TABLE $t RENAME TO $t_below; CREATE VIEW $t AS SELECT * FROM $t_below', '4 done', undef, $label, 4 ],
	[ 'table_rewritten', {}, 'DELETE FROM $t WHERE id = 1; ALTER TABLE $t ADD n serial; CLUSTER $t USING $t_pkey', '3 done, 1 row_gone' ],
	[ 'table_truncated', {}, 'TRUNCATE $t', '4 row_gone' ],
	[ 'table_given_away', {}, 'ALTER TABLE $t OWNER TO CURRENT_USER', '4 failed', 'forbidden 42501' ],
	[ 'table_unlogged', {}, 'ALTER TABLE $t SET UNLOGGED', '4 done' ],
	# the row
	[ 'value_over_text', { type => 'text' },
		q(UPDATE $t SET label = '{ no JSON' WHERE id = 1; UPDATE $t SET label = '' WHERE id = 2), '2 done, 2 superseded' ],
	[ 'value_over_json', { type => 'json' }, q(UPDATE $t SET label = '[{"llm_enrich": 1}]' WHERE id = 1), '3 done, 1 superseded' ],
	[ 'value_around_marker', {}, q(UPDATE $t SET label = jsonb_build_object('mine', label) WHERE id = 1), '3 done, 1 superseded' ],
	[ 'value_beside_marker', {}, q(UPDATE $t SET label = label || '{"mine": 1}' WHERE id = 1), '4 done', undef, $label, 4 ],
	[ 'other_column', {}, q(UPDATE $t SET body = 'another'), '4 done', undef, $label, 4 ],
	[ 'deleted_and_back', {}, q(CREATE TEMP TABLE copy AS SELECT * FROM $t; DELETE FROM $t; INSERT INTO $t SELECT * FROM copy), '4 done', undef, $label, 4 ],
	# constraints
	[ 'check_fails', {}, q(ALTER TABLE $t ADD CHECK (label ->> 'label' <> 'bug')), '2 done, 2 failed', 'not_writable 23514' ],
	[ 'domain_fails', { create => 'CREATE DOMAIN $t_domain AS jsonb; CREATE TABLE $t (id int PRIMARY KEY, body text, label $t_domain);' },
		q(ALTER DOMAIN $t_domain ADD CHECK (VALUE ->> 'label' <> 'bug')), '2 done, 2 failed', 'not_writable 23514' ],
	[ 'unique_fails', {}, q(CREATE UNIQUE INDEX ON $t ((label ->> 'label'))), '2 done, 2 failed', 'not_writable 23505' ],
	[ 'deferred_unique_fails', { columns => q(, kind text GENERATED ALWAYS AS (label ->> 'label') STORED) },
		q(ALTER TABLE $t ADD UNIQUE (kind) DEFERRABLE INITIALLY DEFERRED), '2 done, 2 failed', 'not_writable 23505' ],
	[ 'foreign_key_fails', { columns => q(, kind text GENERATED ALWAYS AS (label ->> 'label') STORED) },
		q(CREATE TABLE $t_kinds AS SELECT 'bug' AS kind; ALTER TABLE $t_kinds ADD PRIMARY KEY (kind); GRANT ALL ON $t_kinds TO ana;
			ALTER TABLE $t ADD FOREIGN KEY (kind) REFERENCES $t_kinds DEFERRABLE INITIALLY DEFERRED),
		'2 done, 2 failed', 'not_writable 23503' ],
	[ 'not_null_fails', { columns => q(, kind text GENERATED ALWAYS AS (CASE WHEN label ->> 'label' = 'bug' THEN NULL ELSE 'x' END) STORED) },
		q(ALTER TABLE $t ALTER kind SET NOT NULL), '2 done, 2 failed', 'not_writable 23502' ],
	[ 'cast_fails', {}, q(CREATE INDEX ON $t (((label ->> 'label')::varchar(20)::bool)) WHERE label ->> 'label' = 'bug'), '2 done, 2 failed', 'not_writable 22P02' ],
	# triggers and rules
	[ 'trigger_fails', {}, q(CREATE FUNCTION $t_f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF NEW.label ->> 'label' = 'bug' THEN PERFORM * FROM nowhere; END IF; RETURN NEW; END $$;
		CREATE TRIGGER f BEFORE UPDATE ON $t FOR EACH ROW EXECUTE FUNCTION $t_f()),
		'2 done, 2 failed', 'not_writable 42P01' ],
	[ 'trigger_suppresses', {}, q(CREATE FUNCTION $t_f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		RETURN CASE WHEN NEW.id = 1 THEN NULL ELSE NEW END; END $$;
		CREATE TRIGGER f BEFORE UPDATE ON $t FOR EACH ROW EXECUTE FUNCTION $t_f()),
		'3 done, 1 failed', 'not_writable' ],
	[ 'trigger_audits', { more => q(CREATE SCHEMA $t_s; GRANT ALL ON SCHEMA $t_s TO ana; SET ROLE ana; CREATE TABLE $t_s.audit (n int);
		CREATE FUNCTION $t_f() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN INSERT INTO audit VALUES (NEW.id); RETURN NEW; END $$;
		CREATE TRIGGER f AFTER UPDATE ON $t FOR EACH ROW EXECUTE FUNCTION $t_f();), before => 'SET search_path = public, $t_s;' },
		'SELECT', '4 done', undef, 'SELECT count(*) FROM $t_s.audit', 8 ],
	[ 'trigger_asks_on', { more => q(SET ROLE ana; CREATE TABLE $t_2 (id int PRIMARY KEY, label jsonb); INSERT INTO $t_2 SELECT generate_series(1, 4);
		CREATE FUNCTION $t_f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			UPDATE $t_2 SET label = llm_summarize('summary of ' || NEW.body) WHERE id = NEW.id; RETURN NEW; END $$;
		CREATE TRIGGER f AFTER UPDATE ON $t FOR EACH ROW WHEN (NEW.label ? 'label') EXECUTE FUNCTION $t_f();) }, 'SELECT', '4 done' ],
	[ 'trigger_updates_its_row', {}, q(CREATE FUNCTION $t_f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF pg_trigger_depth() = 1 AND NEW.label ->> 'label' = 'bug' THEN UPDATE $t SET body = 'mine' WHERE id = NEW.id; END IF; RETURN NEW; END $$;
		CREATE TRIGGER f BEFORE UPDATE ON $t FOR EACH ROW EXECUTE FUNCTION $t_f()),
		'2 done, 2 failed', 'not_writable 27000' ],
	[ 'trigger_writes_after_us', {}, q(CREATE FUNCTION $t_f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		UPDATE $t SET label = '{"by": "trigger"}' WHERE id = NEW.id; RETURN NULL; END $$;
		CREATE TRIGGER f AFTER UPDATE ON $t FOR EACH ROW WHEN (NEW.label ? 'label') EXECUTE FUNCTION $t_f()),
		'4 done', undef, q(SELECT count(*) FROM $t WHERE label ->> 'by' = 'trigger'), 4 ],
	[ 'trigger_cancels', {}, q(CREATE FUNCTION $t_f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		PERFORM llm.cancel(task => llm.marker_task(OLD.label)); RETURN NEW; END $$;
		CREATE TRIGGER f BEFORE UPDATE ON $t FOR EACH ROW WHEN (NEW.label ? 'label') EXECUTE FUNCTION $t_f()),
		'4 done', undef, $label, 4 ],
	[ 'trigger_fails_to_serialize', { more => 'SET ROLE ana; CREATE SEQUENCE $t_n' },
		q(CREATE FUNCTION $t_f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF nextval('$t_n') < 4 THEN RAISE 'not now' USING ERRCODE = 'serialization_failure'; END IF;
		RETURN NEW; END $$;
		CREATE TRIGGER f BEFORE UPDATE ON $t FOR EACH ROW WHEN (NEW.label ? 'label') EXECUTE FUNCTION $t_f()),
		'4 done', undef, $label, 4 ],
	[ 'rule_diverts', {}, q(CREATE RULE r AS ON UPDATE TO $t WHERE NEW.id = 1 DO INSTEAD NOTHING), '4 failed', 'not_writable 0A000' ],
	# row security
	[ 'policy_hides', {}, q(ALTER TABLE $t ENABLE ROW LEVEL SECURITY; ALTER TABLE $t FORCE ROW LEVEL SECURITY; CREATE POLICY p ON $t USING (id > 1)),
		'3 done, 1 failed', 'not_visible' ],
	[ 'policy_refuses', {}, q(ALTER TABLE $t ENABLE ROW LEVEL SECURITY; ALTER TABLE $t FORCE ROW LEVEL SECURITY;
		CREATE POLICY p ON $t USING (true) WITH CHECK (label ->> 'label' <> 'bug')),
		'2 done, 2 failed', 'forbidden 42501' ],
	# partitions and children
	(map { my ($case, @rest) = @{$_}; [ $case, { create => $halves }, @rest ] }
		[ 'partition_detached', 'ALTER TABLE $t DETACH PARTITION $t_2', '2 done, 2 failed', 'relation_gone' ],
		[ 'partition_dropped', 'DROP TABLE $t_2', '2 done, 2 row_gone' ],
		[ 'partition_split', 'ALTER TABLE $t DETACH PARTITION $t_2; CREATE TABLE $t_3 PARTITION OF $t FOR VALUES FROM (3) TO (4);
			CREATE TABLE $t_4 PARTITION OF $t FOR VALUES FROM (4) TO (5);
			INSERT INTO $t SELECT * FROM $t_2; DROP TABLE $t_2',
			'4 done', undef, $label, 4 ],
		[ 'row_moved', 'UPDATE $t SET id = 5 WHERE id = 1', '3 done, 1 row_gone' ]),
	[ 'child_released', { create => 'CREATE TABLE $t (id int PRIMARY KEY, body text, label jsonb);
			CREATE TABLE $t_child (PRIMARY KEY (id)) INHERITS ($t);',
		more => q(INSERT INTO $t_child VALUES (1, 'The same key', NULL), (9, 'A bug', NULL);) },
		'ALTER TABLE $t_child NO INHERIT $t', '4 done, 2 failed', 'relation_gone' ],
	# views
	(map { my ($case, @rest) = @{$_}; [ $case, { create => $view }, @rest ] }
		[ 'view_stays', 'DELETE FROM $t_below WHERE nr = 1', '3 done, 1 row_gone', undef, $label, 3 ],
		[ 'view_narrowed', 'CREATE OR REPLACE VIEW $t AS SELECT nr AS id, label, body FROM $t_below WHERE nr > 1', '3 done, 1 failed', 'not_visible' ],
		[ 'view_hides_answers', q(CREATE OR REPLACE VIEW $t AS SELECT nr AS id, label, body FROM $t_below
			WHERE label IS NULL OR llm_is_pending(label)), '4 done', undef, q(SELECT count(*) FROM $t_below WHERE label ? 'label'), 4 ],
		[ 'view_hides_pending', 'CREATE OR REPLACE VIEW $t AS SELECT nr AS id, label, body FROM $t_below WHERE label IS NULL', '4 failed', 'not_visible' ],
		[ 'view_dropped', 'DROP VIEW $t', '4 failed', 'relation_gone' ],
		[ 'view_not_updatable', 'CREATE OR REPLACE VIEW $t AS SELECT DISTINCT nr AS id, label, body FROM $t_below', '4 failed', 'not_writable 0A000' ]),
);

# All of it is queued first and changed then, before anything is sent.
my %job;
foreach (@cases)
{
	my ($case, $option, $change) = @{$_};
	my $before = $option->{before} // '';

	s/\$t(?=\b|_)/$case/g foreach $before, $change;
	make_table($case, %{$option});
	$job{$case} = enrich($case, $before);
	sql($change);
}
enable('on');
foreach (@cases)
{
	my ($case, undef, undef, $expected, $reasons, $query, $result) = @{$_};

	is(join(': ', grep { $_ ne '' } outcome($job{$case}), reasons($job{$case})), join(': ', grep { defined } $expected, $reasons), $case);
	is(sql($query =~ s/\$t(?=\b|_)/$case/gr), $result, "$case: $query") if defined $query;
}
my $dropped = join ', ', @job{qw(table_dropped table_anew view_dropped column_dropped)};
is(sql("SELECT count(*) FROM llm.ledger WHERE job IN ($dropped)"), 0, 'P3: nothing is asked for a table or column that was dropped before');
is(sql("SELECT count(*), sum(cost) FROM llm.dead_letter WHERE job IN ($dropped) AND answer IS NULL"), '16|0', 'P3: nor paid');
is(sql("SELECT count(*) FROM llm.dead_letter WHERE job NOT IN ($dropped) AND answer IS NULL"), 0, 'P4: every other dead letter has its paid answer');
$node->poll_query_until('postgres', q(SELECT count(*) = 4 FROM trigger_asks_on_2 WHERE label ? 'summary')) or die 'no chain';
pass('a trigger of the write-back asks the next question');

# What was repaired is written from the dead letters, without another request.
my $requests = $provider->meter->{requests};
sql('ALTER TABLE partition_detached ATTACH PARTITION partition_detached_2 FOR VALUES FROM (3) TO (10);',
	'ALTER TABLE table_given_away OWNER TO ana; DROP TRIGGER f ON trigger_fails; ALTER POLICY p ON policy_hides USING (true);');
foreach my $case (qw(partition_detached table_given_away trigger_fails policy_hides))
{
	my $count = sql("SELECT llm.retry(job => $job{$case})");

	is(outcome(sql('SELECT max(id) FROM llm.job')), "$count done", "P4: $case, repaired and retried");
	is(sql($label =~ s/\$t/$case/r), 4, "P4: $case: every cell has its answer");
}
is($provider->meter->{requests}, $requests, 'P4: and nothing was paid twice');

# Nobody is held up (P6).
sub done_or_die
{
	my ($job, $count) = @_;

	$node->poll_query_until('postgres', "SELECT done = $count FROM llm.job WHERE id = $job")
		or die "job $job: " . sql("SELECT done, failed FROM llm.job WHERE id = $job");
	return;
}

make_table('normal');
make_table('child', columns => q(, kind text GENERATED ALWAYS AS (label ->> 'label') STORED),
	more => q(CREATE TABLE kinds (kind text PRIMARY KEY); INSERT INTO kinds VALUES ('billing'), ('bug');
		GRANT ALL ON kinds TO ana; ALTER TABLE $t ADD FOREIGN KEY (kind) REFERENCES kinds;));
make_table('parent', more => 'CREATE TABLE of_parent (id int REFERENCES $t);');
make_table('halves', create => $halves);
make_table('claimed_name', more => q(CREATE UNIQUE INDEX ON $t ((label ->> 'label')) WHERE id = 3 OR id > 4;));
make_table('locker', more => q(CREATE TABLE busy (n int); GRANT ALL ON busy TO ana; CREATE FUNCTION lock_it() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN IF NEW.label ? 'label' THEN LOCK TABLE busy; END IF; RETURN NEW; END $$;
	CREATE TRIGGER f BEFORE UPDATE ON $t FOR EACH ROW EXECUTE FUNCTION lock_it();));
make_table('stubborn', more => q(CREATE FUNCTION hang_on() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.id > 2 OR NOT NEW.label ? 'label' THEN RETURN NEW; END IF;
		LOOP
			BEGIN
				SET LOCAL statement_timeout = 0;
				PERFORM pg_sleep(60);
			EXCEPTION WHEN query_canceled OR others THEN
				BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN NULL; END;
			END;
		END LOOP;
	END $$;
	CREATE TRIGGER f BEFORE UPDATE ON $t FOR EACH ROW EXECUTE FUNCTION hang_on();));
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN');
$holder->query_safe(q(SELECT FROM kinds WHERE kind = 'billing' FOR UPDATE));
$holder->query_safe('INSERT INTO of_parent SELECT id FROM parent');
$holder->query_safe('LOCK TABLE busy IN ACCESS SHARE MODE');
$holder->query_safe(q(INSERT INTO claimed_name VALUES (5, '', '{"label": "bug"}')));
my %busy = map { $_ => enrich($_) } qw(stubborn child parent claimed_name locker);
my $normal = enrich('normal');
done_or_die($normal, 4);
pass('P6: a table is written while a trigger holds on, catching every cancel');
done_or_die($busy{child}, 2);
pass('P6: a locked foreign key holds up only the rows that need it');
done_or_die($busy{parent}, 4);
pass('P6: rows that others refer to are written at once');
done_or_die($busy{claimed_name}, 3);
pass('P6: a value that an open transaction has taken holds up only its row');
done_or_die($busy{stubborn}, 2);
pass('P6: rows beside those whose trigger holds on are written');
is(sql("SELECT done FROM llm.job WHERE id = $busy{locker}"), 0, 'a trigger waits for a lock');
$holder->query_safe('ROLLBACK');
# a partition, now
$holder->query_safe('BEGIN');
my $altered = enrich('halves');
$holder->query_safe('ALTER TABLE halves_2 ADD CHECK (id > 0)');
done_or_die(enrich('normal', "SET llm_enrich.tags = '{}';"), 4);
pass('P6: others are written while a partition is altered');
$holder->query_safe('COMMIT');
$holder->quit;
done_or_die($busy{$_}, 4) foreach qw(child claimed_name locker);
done_or_die($altered, 4);
pass('P4: all of it is written when the locks are gone');
sql('DROP TRIGGER f ON stubborn');
done_or_die($busy{stubborn}, 4);
pass('P4: and when the trigger is');

# ---------------------------------------------------------------------------
# An open transaction that cancels, or asks again, while the sender is at work
# ---------------------------------------------------------------------------

# What the sender claims between the statement's snapshot and its locks is not locked by it.
sub beside
{
	my ($what, $statement) = @_;
	my $user = $node->background_psql('postgres');

	sql(q(UPDATE many SET label = NULL; UPDATE many SET label = llm_classify(body, '{billing,bug}')));
	$node->poll_query_until('postgres', q(SELECT EXISTS (SELECT FROM llm.queue WHERE state = 'claimed'))) or die 'nothing is sent';
	$user->query_safe('BEGIN');
	$user->query_safe($statement);
	done_or_die(enrich('normal', 'RESET llm_enrich.tags;'), 4);
	pass("P6: others go on beside an open transaction that $what");
	$user->query_safe('ROLLBACK');
	$user->quit;
	sql(q(SELECT llm.cancel(relation => 'many')));
	# what the open transaction had locked when somebody came for it is looked for once a minute
	wait_forward($node, 'SELECT NOT EXISTS (SELECT FROM llm.queue)') or die 'tasks are left in llm.queue';
	return;
}

sql(q(CREATE TABLE many (id int PRIMARY KEY, body text, label jsonb);
	INSERT INTO many SELECT i, 'A bug ' || i FROM generate_series(1, 20000) i));
beside('cancels', q(SELECT llm.cancel(relation => 'many')));
beside('asks again', q(UPDATE many SET label = llm_classify(body, '{billing,bug,other}')));

# Whatever database and role have set, keys are found again and answers are written.
sql(q(CREATE TYPE mood AS ENUM ('good', 'bad'); SET timezone = 'Asia/Kolkata';
	SET ROLE ana;
	CREATE TABLE keys (a timestamptz, b float8, c bytea, d interval, e numeric, f uuid, g boolean, h char(5), i "char",
		j mood, k varchar(9), l int[], m date, n oid, o inet, body text, label jsonb,
		PRIMARY KEY (a, b, c, d, e, f, g, h, i, j, k, l, m, n, o));
	INSERT INTO keys SELECT '2026-03-04 05:06:07.123456+00', x, '\x00ff27', '-1 day 02:03:04.5', 1.500,
		lpad('1', 32, '0')::uuid, true, 'a', 'b', 'bad', 'k''"\', '{1,NULL,3}', '2026-03-04', 4000000000, '10.0.0.1/8', 'A bug'
		FROM unnest('{0.1,1e-300,Infinity,-0}'::float8[]) x;));
my %odd = (
	datestyle => "'SQL, DMY'", intervalstyle => 'sql_standard', extra_float_digits => -10, bytea_output => 'escape',
	timezone => "'America/Caracas'", search_path => 'elsewhere', default_transaction_isolation => 'serializable',
	statement_timeout => "'1ms'", lock_timeout => "'1ms'", row_security => 'off', default_transaction_read_only => 'on',
	# 19 has no other strings any more
	$node->safe_psql('postgres', 'SHOW server_version_num') < 190000 ? (standard_conforming_strings => 'off') : ());
sql(map { "ALTER DATABASE postgres SET $_ = $odd{$_};" } sort keys %odd);
# ours from the start: even a SET may take a millisecond
$ENV{PGOPTIONS} = '-c statement_timeout=0';
my $set = 'SET lock_timeout = 0; SET default_transaction_read_only = off; SET search_path = public;';
sql("$set SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'llm_enrich %'");
my $job = sql("$set SET ROLE ana; UPDATE keys SET label = llm_classify(body, '{billing,bug}'); SELECT llm.last_job();");
sql("$set CALL llm.wait(job => $job, timeout => '3 minutes')");
is(sql("$set SELECT count(*) FROM keys WHERE label ->> 'label' = 'bug'"), 4, 'P5: keys of all kinds are found under odd settings');
sql("$set ALTER DATABASE postgres RESET ALL");
delete $ENV{PGOPTIONS};
ledger_equals_meter($node, $provider, 'P3: ledger equals meter');

done_testing();
