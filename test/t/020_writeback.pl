# Answers on their way into cells: with the rights of the role that asked, never
# over somebody else's value, and nobody is held up by a row that cannot be written.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

my $node = new_node('writeback', 'llm_enrich.writeback_timeout = 500ms', "llm_enrich.carry_settings = 'app.tenant'");
my $provider = start_provider();
setup_model($node, $provider);

# A table of so many rows that ana may enrich; she has no right to read key or label.
sub make_table
{
	my ($name, $rows, $more) = @_;

	sql(qq(CREATE TABLE $name (id int PRIMARY KEY, body text, label jsonb, tenant text DEFAULT 'a');
		INSERT INTO $name SELECT i, 'The invoice is wrong, billing failed ' || i FROM generate_series(1, $rows) i;
		GRANT SELECT (body), UPDATE (label) ON $name TO ana;), $more // '');
	return;
}

sub enrich
{
	my ($name, $before) = @_;

	return sql('SET ROLE ana;', $before // '',
		"UPDATE $name SET label = llm_classify(body, '{billing,bug}'); SELECT llm.last_job();");
}

# Queue all of a table's rows, and do something while they are with the provider.
sub meanwhile
{
	my ($name, $before, $meanwhile) = @_;

	$provider->hold;
	my $job = enrich($name, $before);
	wait_claimed($node, $job);
	sql($meanwhile);
	$provider->go_on;
	return $job;
}

# Counts of a job when all its tasks are final.
sub outcome
{
	my $job = shift;

	sql("CALL llm.wait(job => $job, timeout => '3 minutes')");
	return sql("SELECT format('done %s failed %s superseded %s cancelled %s row_gone %s',
		done, failed, superseded, cancelled, row_gone) FROM llm.job WHERE id = $job");
}

sub reasons
{
	my $job = shift;

	return sql("SELECT string_agg(DISTINCT reason, ',') FROM llm.dead_letter WHERE job = $job");
}

sub labels
{
	my $name = shift;

	return sql(qq(SELECT count(*) FROM $name WHERE label = '{"label": "billing"}'));
}

sub answered_or_put_off
{
	my $job = shift;

	$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM llm.queue
		WHERE job = $job AND state IN ('ready', 'claimed')") or die 'no answer came';
	return;
}

sql('CREATE ROLE ana; GRANT USAGE ON FOREIGN SERVER sim TO ana; GRANT CREATE ON SCHEMA public TO ana;');

# Rights.
make_table('plain', 1200);
is(outcome(enrich('plain')), 'done 1200 failed 0 superseded 0 cancelled 0 row_gone 0',
	'UPDATE on the column is all the right that it takes');
is(labels('plain'), 1200, 'every cell has its answer');

make_table('revoked', 20);
my $job = meanwhile('revoked', '', 'REVOKE ALL ON revoked FROM ana; REVOKE ALL (body, label) ON revoked FROM ana;');
is(outcome($job), 'done 0 failed 20 superseded 0 cancelled 0 row_gone 0', 'P9: a lost right fails the write-back');
is(reasons($job), 'forbidden', 'as forbidden');
is(sql("SELECT count(*) FROM llm.dead_letter WHERE job = $job AND answer = '{\"label\": \"billing\"}'"), 20,
	'P4: and the answers are kept');

make_table('tenants', 10, q(UPDATE tenants SET tenant = 'b' WHERE id > 6;
	ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
	CREATE POLICY tenant ON tenants USING (tenant = current_setting('app.tenant')); GRANT SELECT (tenant) ON tenants TO ana;));
is(outcome(enrich('tenants', q(SET app.tenant = 'b';))), 'done 4 failed 0 superseded 0 cancelled 0 row_gone 0',
	'row security reads a carried setting');
$job = meanwhile('tenants', q(SET app.tenant = 'a';), q(UPDATE tenants SET tenant = 'c' WHERE id = 1));
is(outcome($job), 'done 5 failed 1 superseded 0 cancelled 0 row_gone 0', 'a row that row security hides is not written');
is(reasons($job), 'not_visible', 'and not taken for gone');

sql('CREATE ROLE leaver; GRANT USAGE ON FOREIGN SERVER sim TO leaver;');
make_table('left_alone', 3, 'GRANT SELECT, UPDATE ON left_alone TO leaver;');
$provider->hold;
$job = sql(q(SET ROLE leaver;
	UPDATE left_alone SET label = llm_classify(body, '{billing,bug}'); SELECT llm.last_job();));
wait_claimed($node, $job);
sql('DROP OWNED BY leaver; DROP ROLE leaver;');
$provider->go_on;
is(outcome($job), 'done 0 failed 3 superseded 0 cancelled 0 row_gone 0', 'tasks of a dropped role fail');
is(reasons($job), 'role_gone', 'as role_gone');

# Somebody was there meanwhile.
make_table('changing', 10);
$job = meanwhile('changing', '', q(UPDATE changing SET label = '{"label": "mine"}' WHERE id <= 2; DELETE FROM changing WHERE id = 3;
	UPDATE changing SET id = 100 WHERE id = 4; UPDATE changing SET label = NULL WHERE id = 5;));
is(outcome($job), 'done 5 failed 0 superseded 3 cancelled 0 row_gone 2', 'P5: changed cells are left alone, gone rows counted');
is(sql(q(SELECT count(*) FROM changing WHERE label->>'label' = 'mine')), 2, "P5: nobody's value is written over");

make_table('dropped', 5);
$job = meanwhile('dropped', '', 'DROP TABLE dropped');
is(outcome($job), 'done 0 failed 5 superseded 0 cancelled 0 row_gone 0', 'DROP TABLE does not wait, its tasks fail');
is(reasons($job), 'relation_gone', 'as relation_gone');

# Triggers.
make_table('picky', 300, q(CREATE FUNCTION picky() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.id % 100 = 0 AND NEW.label->>'label' = 'billing' THEN RAISE 'not this one'; END IF;
		RETURN NULL;
	END $$;
	CREATE CONSTRAINT TRIGGER picky AFTER UPDATE ON picky DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION picky();));
$provider->script({ latency_ms => 1 });
$job = enrich('picky');
is(outcome($job), 'done 297 failed 3 superseded 0 cancelled 0 row_gone 0', 'a failing deferred trigger costs only its rows');
is(sql(q(SELECT count(*) FROM picky WHERE label #>> '{llm_enrich,error}' = 'not_writable')), 3,
	'and their cells say so');

make_table('poisoned', 50, q(CREATE TABLE seen (what text); GRANT INSERT ON seen TO PUBLIC;
	CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$
	DECLARE hostile text; message text;
	BEGIN
		INSERT INTO public.seen VALUES (format('as %s', current_user));
		SET search_path = evil; SET statement_timeout = '1ms'; SET datestyle = 'German';
		PERFORM pg_advisory_lock(4711);
		IF to_regclass('pg_temp.queue') IS NULL THEN CREATE TEMP TABLE queue (id int); END IF;
		FOREACH hostile IN ARRAY '{RESET ROLE, SET ROLE NONE, RESET SESSION AUTHORIZATION, DELETE FROM llm.queue}'::text[]
		LOOP
			BEGIN
				EXECUTE hostile;
				INSERT INTO public.seen VALUES (format('%s as %s', hostile, current_user));
			EXCEPTION WHEN OTHERS THEN NULL;
			END;
		END LOOP;
		RETURN NULL;
	END $$;
	CREATE CONSTRAINT TRIGGER poison AFTER UPDATE ON poisoned DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
		WHEN (current_setting('llm_enrich.writeback')::boolean) EXECUTE FUNCTION poison();));
is(outcome(enrich('poisoned')), 'done 50 failed 0 superseded 0 cancelled 0 row_gone 0', 'a hostile trigger harms nothing');
is(sql('SELECT DISTINCT what FROM seen'), 'as ana', 'P9: it never leaves its role');
is(sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"), 0, 'the session is as new: advisory locks');
is(sql("SELECT count(*) FROM pg_class WHERE relname = 'queue' AND relpersistence = 't'"), 0, 'and temporary tables');
is(outcome(enrich('plain')), 'done 1200 failed 0 superseded 0 cancelled 0 row_gone 0', 'and the next job is served');

# Nobody is held up (P6).
make_table('locked', 20);
make_table('altered', 20);
make_table('sleepy', 20, q(CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.id = 7 AND NEW.label->>'label' = 'billing' THEN PERFORM pg_sleep(60); END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER sleep BEFORE UPDATE ON sleepy FOR EACH ROW EXECUTE FUNCTION sleep();));
$provider->hold;
my @jobs = map { enrich($_) } qw(locked altered sleepy);
wait_claimed($node);
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN');
$holder->query_safe('SELECT FROM locked WHERE id IN (3, 4) FOR UPDATE');
$holder->query_safe('ALTER TABLE altered ADD COLUMN more int');
$provider->go_on;
answered_or_put_off($_) foreach @jobs;
is(outcome(enrich('picky', "SET application_name = 'other';")), 'done 297 failed 3 superseded 0 cancelled 0 row_gone 0',
	'P6: another job is served while rows and tables are locked and a trigger sleeps');
$node->poll_query_until('postgres', "SELECT done = 18 FROM llm.job WHERE id = $jobs[0]") or die 'rows beside a locked one wait';
is(sql("SELECT count(*) FROM llm.queue WHERE job = $jobs[0]"), 2, 'P6: only the locked rows wait');
$node->poll_query_until('postgres', "SELECT done = 19 FROM llm.job WHERE id = $jobs[2]") or die 'rows beside a sleeping one wait';
pass('P6: only the row whose trigger sleeps waits');
ok($node->poll_query_until('postgres', "SELECT string_agg(DISTINCT reason, ',') = 'locked' FROM llm.queue WHERE state = 'waiting'"),
	'and they say why');
$holder->query_safe('COMMIT');
$holder->quit;
is(outcome($jobs[0]), 'done 20 failed 0 superseded 0 cancelled 0 row_gone 0', 'P4: locked rows are written after all');
is(outcome($jobs[1]), 'done 20 failed 0 superseded 0 cancelled 0 row_gone 0', 'P4: the altered table, too');
sql('DROP TRIGGER sleep ON sleepy');
is(outcome($jobs[2]), 'done 20 failed 0 superseded 0 cancelled 0 row_gone 0', 'P4: and the row that slept');

# One row of a hundred is refused.
make_table('hundred', 100, q(CREATE FUNCTION refuse_one() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.id = 42 AND NEW.label ? 'label' THEN RAISE 'not this one'; END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER refuse_one BEFORE UPDATE ON hundred FOR EACH ROW EXECUTE FUNCTION refuse_one();));
my $requests = $provider->meter->{requests};
$job = enrich('hundred');
is(outcome($job), 'done 99 failed 1 superseded 0 cancelled 0 row_gone 0', 'P4: of 100 rows one is refused, 99 are applied');
is($provider->meter->{requests}, $requests + 100, 'P3: 100 were billed');
is(sql("SELECT count(*) || ' ' || count(DISTINCT task) FROM llm.ledger WHERE job = $job AND outcome = 'ok'"), '100 100', 'P3: once each');
is(sql("SELECT format('%s %s %s %s', key ->> 'id', reason, attempts, answer) FROM llm.dead_letter WHERE job = $job"),
	'42 not_writable 1 {"label": "billing"}', 'P4: the one is a dead letter with its answer');
is(labels('hundred'), 99, 'P5: and its cell has none');
sql('DROP TRIGGER refuse_one ON hundred');
is(sql("SELECT llm.retry(job => $job)"), 1, 'the trigger is repaired: one is retried');
is(outcome(sql('SELECT max(id) FROM llm.job')), 'done 1 failed 0 superseded 0 cancelled 0 row_gone 0', 'P4: and applied');
is(labels('hundred'), 100, 'P4: every cell has its answer');
is($provider->meter->{requests}, $requests + 100, 'P4: without another request');
is(sql("SELECT count(*) FROM llm.dead_letter WHERE relation = 'hundred'::regclass"), 0, 'no dead letter is left');

# Killed at any moment: each task ends once.
make_table('crashing', 3000);
$job = enrich('crashing');
foreach (1 .. 3)
{
	$node->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'llm_enrich writer'");
	sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'llm_enrich writer'");
}
is(outcome($job), 'done 3000 failed 0 superseded 0 cancelled 0 row_gone 0', 'P2: a killed writer loses nothing');
is(labels('crashing'), 3000, 'P2: and every cell has its answer');
ledger_equals_meter($node, $provider, 'P3: ledger equals meter');

done_testing();
