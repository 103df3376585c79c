# Beside all that a database goes through while work is under way: prepared transactions
# and crashes, signals, old snapshots, autovacuum, maintenance, poolers, keys that change.
# The server's settings are odd ones throughout.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

my $node = new_node('living', 'max_prepared_transactions = 5', 'autovacuum_naptime = 1s', 'allow_in_place_tablespaces = on',
	"datestyle = 'SQL, DMY'", 'intervalstyle = sql_standard', 'extra_float_digits = -10', 'bytea_output = escape',
	"timezone = 'Asia/Kolkata'", "default_transaction_isolation = 'repeatable read'");
my $provider = start_provider();
my $key_file = PostgreSQL::Test::Utils::tempdir() . '/key';

sub requests { return $provider->meter->{requests}; }

sub worker
{
	my $kind = shift;

	wait_until("count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'llm_enrich $kind'", "there is a $kind");
	return sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'llm_enrich $kind'");
}

# A table of so many rows; its key has a type that settings change the looks of.
sub make_table
{
	my ($name, $rows) = @_;

	sql("CREATE TABLE $name (at timestamptz, n float8, body text, label jsonb, PRIMARY KEY (at, n));",
		"INSERT INTO $name SELECT '2026-03-04 05:06:07.123456+00', i / 7.0, 'The invoice is wrong ' || i, NULL FROM generate_series(1, $rows) i");
	return;
}

sub enrich { return sql("UPDATE $_[0] SET label = llm_classify(body, '{billing,bug}'); SELECT llm.last_job()"); }

sub all_done
{
	my ($name, $job, $rows, $what) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until("state = 'finished' FROM llm.job WHERE id = $job", "job $job is finished");
	return is(
		sql(qq(SELECT (SELECT done FROM llm.job WHERE id = $job), count(*)
			FROM $name WHERE label = '{"label": "billing"}')),
		"$rows|$rows", $what);
}

sub write_key
{
	my $key = shift;

	append_to_file("$key_file.new", "$key\n");
	chmod 0600, "$key_file.new";
	rename "$key_file.new", $key_file or die "could not rename: $!";
	$node->reload;
	return;
}

write_key('right');
setup_model($node, $provider, options => { api_key_file => $key_file });
$provider->script({ key => 'right', latency_ms => 1 });

# ---------------------------------------------------------------------------
# Prepared transactions, and a crash between
# ---------------------------------------------------------------------------

make_table('prepared', 3);
sql(q(BEGIN; UPDATE prepared SET label = llm_classify(body, '{billing,bug}') WHERE n < 0.4; PREPARE TRANSACTION 'kept';));
sql(q(BEGIN; UPDATE prepared SET label = llm_classify(body, '{billing,bug}') WHERE n > 0.4; PREPARE TRANSACTION 'undone';));
$node->stop('immediate');
$node->start;
wait_until(q(count(*) = 1 FROM llm.health WHERE kind = 'launcher' AND state = 'running'), 'the launcher runs');
is(sql('SELECT count(*) FROM llm.queue'), 0, 'P1: after a crash a prepared transaction is still not committed');
sql(q(ROLLBACK PREPARED 'undone'));
is(requests(), 0, 'P1: and nothing is sent');
sql(q(COMMIT PREPARED 'kept'));
wait_until(q(count(*) = 2 FROM prepared WHERE label = '{"label": "billing"}'), 'what was prepared is answered');
is(requests(), 2, 'P3: what COMMIT PREPARED brought was asked once');
is(sql('SELECT count(*) FROM prepared WHERE label IS NULL'), 1, 'P1: what ROLLBACK PREPARED took away, never');
is(sql('SELECT count(*) FROM llm.queue'), 0, 'P2: no task is left');

# ---------------------------------------------------------------------------
# Signals
# ---------------------------------------------------------------------------

# Everybody is cancelled again and again, also where nothing runs that could be.
make_table('cancelled', 1000);
$provider->script({ latency_ms => 20 });
my %pid = map { $_ => worker($_) } qw(launcher sender writer);
my $job = enrich('cancelled');
my $canceller = $node->background_psql('postgres');
$canceller->query_safe(q(
	DO $$
	BEGIN
		FOR i IN 1 .. 100 LOOP
			PERFORM pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'llm_enrich %';
			PERFORM pg_stat_clear_snapshot(), pg_sleep(0.005);
		END LOOP;
	END $$));
$canceller->quit;
all_done('cancelled', $job, 1000, 'P2: pg_cancel_backend loses nothing');
is(join(',', map { worker($_) } qw(launcher sender writer)), join(',', @pid{qw(launcher sender writer)}), 'and ends nobody');

# A write-back is what can be cancelled: it is put off.
make_table('slow', 1);
sql(q(CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN NEW; END $$;
	CREATE TRIGGER sleep BEFORE UPDATE ON slow FOR EACH ROW WHEN (NEW.label ? 'label') EXECUTE FUNCTION sleep();
	ALTER SYSTEM SET llm_enrich.writeback_timeout = '60s'; SELECT pg_reload_conf()));
$job = enrich('slow');
wait_until(q(count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'llm_enrich writer' AND wait_event = 'PgSleep'),
	'a trigger sleeps');
sql("SELECT pg_cancel_backend($pid{writer})");
wait_until("count(*) = 1 FROM llm.queue WHERE job = $job AND state = 'waiting'", 'the write-back is put off');
is(worker('writer'), $pid{writer}, 'a write-back that is cancelled is put off, and its writer stays');
sql('DROP TRIGGER sleep ON slow; ALTER SYSTEM RESET llm_enrich.writeback_timeout; SELECT pg_reload_conf()');
wait_until(q(label = '{"label": "billing"}' FROM slow), 'the row is written');
pass('P4: and written when nothing is in its way');

# SIGQUIT is a crash; the others of us end, and come back.
make_table('quit', 300);
foreach my $kind (qw(launcher sender writer))
{
	$provider->script({ latency_ms => 100 });
	$job = enrich('quit');
	my $pid = worker($kind);

	crash_server($node, $pid, 'QUIT') or die "the $kind is gone";
	all_done('quit', $job, 300, "P2: SIGQUIT to the $kind loses nothing");
}
$provider->script({ latency_ms => 1 });
is(sql("SELECT count(*) FROM llm.ledger WHERE outcome NOT IN ('ok', 'unknown')"), 0, 'P3: a request is known, or unknown');

# ---------------------------------------------------------------------------
# An old snapshot, autovacuum and maintenance
# ---------------------------------------------------------------------------

# what they did until now is counted
wait_until(q(bool_and(state = 'idle') FROM llm.health WHERE kind IN ('sender', 'writer')), 'the workers rest');
sql('SELECT pg_stat_reset(); ALTER TABLE llm.queue SET (autovacuum_vacuum_threshold = 2000)');
$provider->reset;
$provider->script({ key => 'right' });
my $ledger = sql('SELECT count(*) FROM llm.ledger');
my $old = $node->background_psql('postgres');
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
$old->query_safe('SELECT count(*) FROM llm.queue');
make_table('watched', 2000);
$job = enrich('watched');
all_done('watched', $job, 2000, 'P6: an old snapshot holds up nothing');
is(requests(), 2000, 'P3: each row was asked once');
is(sql('SELECT count(*) FROM llm.ledger') - $ledger, 2000, 'P3: and is on the ledger once');
is($old->query_safe(q(SELECT count(*) FROM llm.queue)), 0, 'the snapshot is still as old');
$old->query_safe('COMMIT');
$old->quit;
wait_until(q(bool_and(n_tup_ins >= 2000 AND last_autovacuum IS NOT NULL) FROM pg_stat_all_tables
	WHERE relid IN ('llm.queue'::regclass, 'llm.ledger'::regclass)), 'autovacuum has been there');
is(sql(q(SELECT n_tup_ins, n_tup_del FROM pg_stat_all_tables WHERE relid = 'llm.queue'::regclass)), '2000|2000',
	'workers tell the statistics what they did, and autovacuum comes');

# Commands that need a table for themselves, ours and the user's.
sql(q(CREATE TABLESPACE elsewhere LOCATION ''));
make_table('kept_up', 1500);
$provider->script({ latency_ms => 20, latency_jitter_ms => 40 });
$job = enrich('kept_up');
my $log_start = -s $node->logfile;
wait_until("done > 0 FROM llm.job WHERE id = $job", 'work is under way');
foreach my $command (
	'REINDEX TABLE llm.queue', 'VACUUM FULL llm.queue', 'REINDEX TABLE CONCURRENTLY llm.queue', 'CLUSTER llm.queue USING queue_pkey',
	'VACUUM FULL llm.ledger', 'VACUUM FULL llm.job', 'ALTER TABLE llm.queue SET TABLESPACE elsewhere', 'ANALYZE llm.queue',
	'REINDEX TABLE kept_up', 'VACUUM FULL kept_up', 'CLUSTER kept_up USING kept_up_pkey', 'REINDEX TABLE CONCURRENTLY kept_up',
	'ALTER TABLE kept_up SET TABLESPACE elsewhere', 'ALTER TABLE kept_up ADD more int DEFAULT 7',
	'ALTER TABLE kept_up ALTER body TYPE varchar(1000)', 'BEGIN; LOCK TABLE llm.queue; SELECT pg_sleep(0.3); COMMIT')
{
	my ($status, undef, $stderr) = $node->psql('postgres', $command);

	is($stderr, '', "$command while work is under way");
}
all_done('kept_up', $job, 1500, 'P2: and all of it is answered');
# whom a command takes a lock from gives way: a worker after a second, autovacuum after deadlock_timeout
my $gives_way = qr/\s+canceling (?:statement due to lock timeout|autovacuum task)/;
unlike(slurp_file($node->logfile, $log_start), qr/^.*(?:ERROR|FATAL):(?!$gives_way).*$/m,
	'without an error of anybody');

# ---------------------------------------------------------------------------
# Poolers, parallel plans, two databases and one limit, keys
# ---------------------------------------------------------------------------

make_table('pooled', 40);
sql('CREATE ROLE ana; GRANT SELECT, UPDATE ON pooled TO ana; GRANT USAGE ON FOREIGN SERVER sim TO ana');
my $pooled = $node->background_psql('postgres', on_error_stop => 1);
foreach my $i (1 .. 40)
{
	$pooled->query_safe($_) foreach ($i % 2 ? 'SET ROLE ana' : 'SET search_path = public'),
		'PREPARE ask AS UPDATE pooled SET label = llm_classify(body, \'{billing,bug}\') WHERE n = $1 / 7.0::float8',
		"EXECUTE ask($i)", 'DISCARD ALL';
}
$pooled->quit;
wait_until(q(count(*) = 40 FROM pooled WHERE label = '{"label": "billing"}'), 'every row is answered');
pass('a session that is handed on with DISCARD ALL goes on');

sql('ALTER TABLE watched SET (parallel_workers = 2)');
like(sql('SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;',
		q(EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF)
			SELECT count(*) FROM watched WHERE NOT llm_is_pending(label) AND llm_status(label) = 'done')),
	qr/Workers Launched: [12]\b.*rows=\d/s, 'cells are looked at by parallel workers, too');
$job = sql('SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;',
	q(UPDATE watched SET label = llm_classify(body, '{billing,bug}') WHERE n IN (SELECT max(n) FROM watched UNION SELECT min(n) FROM watched);
	SELECT llm.last_job()));
all_done("(SELECT * FROM watched ORDER BY n LIMIT 2) w", $job, 2, 'a statement with parallel plans beneath it is deferred');

# Of any five requests that come one after the other the first must have been answered before the last.
my @databases = ('postgres', 'other');
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION llm_enrich');
$provider->script({ latency_ms => 200 }, 'shared');
foreach my $db (@databases)
{
	setup_model($node, $provider, db => $db, server => 'shared', lane => 'shared', alias => 'shared',
		model => 'sim-shared', is_default => 0, options => { max_concurrency => 4 });
	$node->safe_psql($db, q(CREATE TABLE shared (id int PRIMARY KEY, body text, label jsonb);
		INSERT INTO shared SELECT i, 'The invoice is wrong ' || i FROM generate_series(1, 24) i;
		UPDATE shared SET label = llm_classify(body, '{billing,bug}', model => 'shared')));
}
foreach my $db (@databases)
{
	wait_idle($node, $db);
	is($node->safe_psql($db, q(SELECT count(*) FROM shared WHERE label = '{"label": "billing"}')), 24, "P2: $db: every row is answered");
}
my @at = map { $_->{at} } $provider->log('shared');
is(scalar @at, 48, 'P3: two databases asked once for each row');
is(scalar(grep { $at[ $_ + 4 ] - $at[$_] < 199 } 0 .. $#at - 4), 0, 'P7: and share one limit: never are more than four under way');

# The key file is replaced while requests are on their way.
make_table('keyed', 1500);
$provider->script({ key => 'right', latency_ms => 500 });
$job = enrich('keyed');
wait_until("done > 0 FROM llm.job WHERE id = $job", 'work is under way');
write_key('wrong');
wait_until(q(count(*) = 1 FROM llm.health WHERE kind = 'target' AND state LIKE 'paused%'), 'the wrong key is noticed');
my $tries = sql("SELECT max(tries) FROM llm.queue WHERE job = $job");
write_key('right');
all_done('keyed', $job, 1500, 'P2: with the right key again everything is answered');
is($tries, 0, 'and no task was charged for it');
wait_until(q(NOT EXISTS (SELECT FROM llm.health WHERE kind IN ('target', 'problem'))), 'llm.health has nothing to complain about');

done_testing();
