# The life of the processes: who is started when, who stands in whose way, and
# what comes back after which accident (P2, P6).
#
# Requests hang for as long as this file runs, so every command here meets
# workers that are busy.

use strict;
use warnings;

use File::Basename qw(dirname);
use lib dirname(__FILE__);

use LLMTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

# Far from the ten minutes that requests hang, or from a sweep. The promise is a second or two, which a busy machine
# does not keep.
my $AT_ONCE = 30;

my $provider = start_provider();
$provider->script({ latency_ms => 600_000 });

# A database with the extension, a model and a table.
sub make_database
{
	my ($node, $db) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $db");
	$node->safe_psql($db, 'CREATE EXTENSION llm_enrich');
	$node->safe_psql($db, 'CREATE TABLE tickets (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text, label jsonb)');
	setup_model($node, $provider, db => $db);
	return;
}

# Statements that queue one task.
sub work
{
	return q(INSERT INTO tickets (body) VALUES ('the invoice is wrong');
		UPDATE tickets SET label = llm_classify(body, '{billing,bug}') WHERE label IS NULL);
}

# Ids of the workers of a database, as "sender|writer"; a missing one is empty.
sub workers
{
	my ($node, $db) = @_;

	return $node->safe_psql('postgres', qq(
		SELECT max(pid) FILTER (WHERE backend_type = 'llm_enrich sender'),
			max(pid) FILTER (WHERE backend_type = 'llm_enrich writer')
		FROM pg_stat_activity WHERE datname = '$db'));
}

# Wait until the database has the worker of that kind, or (''; not wanted) none at all.
sub wait_worker
{
	my ($node, $db, $kind, $name) = @_;
	my $wanted = $kind eq '' ? 0 : 1;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok(
		$node->poll_query_until('postgres', qq(
			SELECT count(*) = $wanted FROM pg_stat_activity
			WHERE datname = '$db' AND backend_type LIKE 'llm_enrich $kind%')),
		$name);
}

# Queue a task and wait until the sender is there; its request hangs.
sub keep_busy
{
	my ($node, $db) = @_;

	$node->safe_psql($db, work());
	return $node->poll_query_until('postgres', qq(
		SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = '$db' AND backend_type = 'llm_enrich sender'))
	  || die "no sender in database $db";
}

# Run statements that must succeed at once.
sub at_once
{
	my ($node, $db, $sql, $name) = @_;
	my $began = time;
	my ($status, $stdout, $stderr) = $node->psql($db, $sql);
	my $took = time - $began;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($stderr, '', "P6: $name succeeds while requests hang");
	return cmp_ok($took, '<', $AT_ONCE, "P6: $name is not held up");
}

sub launcher
{
	my $node = shift;

	return $node->safe_psql('postgres', q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'llm_enrich launcher'));
}

my $node = new_node('main', { extension => 0 },
	'max_prepared_transactions = 5', 'allow_in_place_tablespaces = on', 'llm_enrich.idle_timeout = 60s');

ok($node->poll_query_until('postgres', q(SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'llm_enrich launcher')),
	'the launcher runs');
wait_worker($node, 'postgres', '', 'a database without the extension has no workers');

# ---------------------------------------------------------------------------
# The extension comes and goes
# ---------------------------------------------------------------------------

make_database($node, 'work');
is($node->safe_psql('work', q(SELECT string_agg(kind || ' ' || state, ', ' ORDER BY kind) FROM llm.health WHERE kind = 'launcher')),
	'launcher running', 'llm.health shows the launcher');
is($node->safe_psql('work', 'SELECT count(*) FROM llm.health WHERE problem IS NOT NULL'), '0', 'llm.health shows no problem');
keep_busy($node, 'work');
ok( $node->poll_query_until('work', q(
		SELECT count(*) = 2 FROM llm.health JOIN pg_stat_activity USING (pid)
		WHERE subject = datname AND backend_type = 'llm_enrich ' || kind AND datname = 'work')),
	'a commit starts sender and writer, and llm.health shows them');

my $before = workers($node, 'work');
at_once($node, 'work', 'SET client_min_messages = error; BEGIN; DROP EXTENSION llm_enrich CASCADE; ROLLBACK', 'DROP EXTENSION, rolled back,');
wait_worker($node, 'work', 'sender', 'after its ROLLBACK the database is served again');
isnt(workers($node, 'work'), $before, 'by other processes');

at_once($node, 'work', 'SET client_min_messages = error; DROP EXTENSION llm_enrich CASCADE', 'DROP EXTENSION');
wait_worker($node, 'work', '', 'after DROP EXTENSION no worker is left');
$node->safe_psql('work', 'CREATE EXTENSION llm_enrich');
setup_model($node, $provider, db => 'work');
$node->safe_psql('work', work());
wait_worker($node, 'work', 'sender', 'after CREATE EXTENSION the database is served again');

# ---------------------------------------------------------------------------
# Commands that need a database for themselves
# ---------------------------------------------------------------------------

make_database($node, 'doomed');
keep_busy($node, 'doomed');
$node->poll_query_until('postgres', q(SELECT count(*) = 2 FROM pg_stat_activity
	WHERE datname = 'doomed' AND backend_type LIKE 'llm_enrich %')) or die 'no two workers';
$node->safe_psql('postgres', 'CREATE ROLE stranger LOGIN CREATEDB');
$before = workers($node, 'doomed');
foreach my $command ('DROP DATABASE doomed', 'ALTER DATABASE doomed RENAME TO mine',
	'CREATE DATABASE mine TEMPLATE doomed', 'ALTER DATABASE doomed IS_TEMPLATE true')
{
	my ($status, undef, $stderr) = $node->psql('postgres', $command, extra_params => [ '-U', 'stranger' ]);

	like($stderr, qr/must be owner|permission denied/, "P9: $command is refused to a stranger");
}
is(workers($node, 'doomed'), $before, 'P9: and stops nobody');
at_once($node, 'postgres', 'DROP DATABASE doomed', 'DROP DATABASE');
is($node->safe_psql('postgres', q(SELECT count(*) FROM pg_database WHERE datname = 'doomed')), '0', 'the database is gone');

at_once($node, 'postgres', 'ALTER DATABASE work RENAME TO labour', 'ALTER DATABASE RENAME');
wait_worker($node, 'labour', 'sender', 'the renamed database is served again');

at_once($node, 'postgres', 'CREATE DATABASE copy TEMPLATE labour', 'CREATE DATABASE TEMPLATE');
wait_worker($node, 'labour', 'sender', 'the copied database is served again');
wait_worker($node, 'copy', 'sender', 'so is the copy, which has the same tasks');
at_once($node, 'postgres', 'DROP DATABASE copy', 'DROP DATABASE of the copy');

$node->safe_psql('postgres', q(CREATE TABLESPACE elsewhere LOCATION ''));
at_once($node, 'postgres', 'ALTER DATABASE labour SET TABLESPACE elsewhere', 'ALTER DATABASE SET TABLESPACE');
wait_worker($node, 'labour', 'sender', 'the moved database is served again');

at_once($node, 'postgres', 'ALTER DATABASE labour IS_TEMPLATE true', 'ALTER DATABASE IS_TEMPLATE');
wait_worker($node, 'labour', '', 'a template has no workers');
$node->safe_psql('labour', work());
ok($node->poll_query_until('labour', q(SELECT state = 'not running' FROM llm.health WHERE kind = 'sender')),
	'what is committed in it is put off');
is(workers($node, 'labour'), '|', 'and starts nobody');
$node->safe_psql('postgres', 'ALTER DATABASE labour IS_TEMPLATE false');
wait_worker($node, 'labour', 'sender', 'it is served again when it is no template any more');

# A failed command must leave nothing behind either.
my ($status, undef, $stderr) = $node->psql('postgres', 'BEGIN; DROP DATABASE labour');
like($stderr, qr/cannot run inside a transaction block/, 'DROP DATABASE inside a transaction fails as ever');
wait_worker($node, 'labour', 'sender', 'and the database is served again');

# ---------------------------------------------------------------------------
# Wakes and switches
# ---------------------------------------------------------------------------

make_database($node, 'prepared');
$node->safe_psql('prepared', 'BEGIN;' . work() . q(; PREPARE TRANSACTION 'later'));
is($node->safe_psql('prepared', 'SELECT count(*) FROM llm.queue'), '0', 'P1: a prepared transaction queues nothing yet');
my $began = time;
$node->safe_psql('prepared', q(COMMIT PREPARED 'later'));
wait_worker($node, 'prepared', 'sender', 'COMMIT PREPARED wakes the database');
cmp_ok(time - $began, '<', 20, 'without waiting for the sweep');
at_once($node, 'postgres', 'DROP DATABASE prepared', 'DROP DATABASE');

$node->append_conf('postgresql.conf', 'llm_enrich.enabled = off');
$node->reload;
ok($node->poll_query_until('labour', q(SELECT state = 'off' FROM llm.health WHERE kind = 'setting')), 'llm.health says that sending is off');
at_once($node, 'labour', work(), 'an UPDATE with sending off');
$node->restart;
$node->safe_psql('labour', work());
ok($node->poll_query_until('labour', q(SELECT count(*) = 1 FROM llm.health WHERE kind = 'launcher' AND state = 'running')), 'the launcher runs');
my $switched_on = $node->safe_psql('labour', 'SELECT clock_timestamp()');
$node->append_conf('postgresql.conf', 'llm_enrich.enabled = on');
$node->reload;
ok( $node->poll_query_until('labour', q(SELECT pid IS NOT NULL FROM llm.health WHERE kind = 'sender')),
	'switched on, the sender starts by itself');
is($node->safe_psql('labour', "SELECT since > '$switched_on' FROM llm.health WHERE kind = 'sender'"), 't', 'and not before');

# ---------------------------------------------------------------------------
# Accidents
# ---------------------------------------------------------------------------

keep_busy($node, 'labour');
my ($sender) = split /\|/, workers($node, 'labour');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($sender)");
ok( $node->poll_query_until('postgres', qq(
		SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'llm_enrich sender' AND pid <> $sender)),
	'P2: a sender that was ended with work left comes back');

my $launcher = launcher($node);
$node->safe_psql('postgres', "SELECT pg_terminate_backend($launcher)");
make_database($node, 'orphan');
$node->safe_psql('orphan', work());
wait_worker($node, 'orphan', 'sender', 'P2: what was committed while there was no launcher is served');
isnt(launcher($node), $launcher, 'by a new launcher');
at_once($node, 'postgres', 'DROP DATABASE orphan', 'DROP DATABASE after that');

($sender) = split /\|/, workers($node, 'labour');
crash_server($node, $sender) or die 'there was no sender to kill';
ok( $node->poll_query_until('postgres', qq(
		SELECT count(*) = 1 FROM pg_stat_activity
		WHERE datname = 'labour' AND backend_type = 'llm_enrich sender' AND pid <> $sender)),
	'P2: after kill -9 of a sender the server comes back, and so does the sender');
keep_busy($node, 'labour');

$began = time;
$node->stop('fast');
cmp_ok(time - $began, '<', $AT_ONCE, 'P6: a fast shutdown is not held up by requests that hang');

# ---------------------------------------------------------------------------
# Too few processes
# ---------------------------------------------------------------------------

# one for us, one for PostgreSQL's logical replication launcher, and one: a writer without work does not keep it
my $small = new_node('small', { extension => 0 }, 'max_worker_processes = 3');
make_database($small, 'first');
make_database($small, 'second');
keep_busy($small, 'first');
$small->safe_psql('second', work());
ok( $small->poll_query_until('second', q(
		SELECT problem = 'no worker slot' AND hint LIKE '%max_worker_processes%' FROM llm.health WHERE kind = 'sender')),
	'llm.health says that there are too few processes, and what to do');
like(slurp_file($small->logfile),
	qr/no process is free for the llm_enrich \w+ of database "(first|second)"/, 'so does the log');
at_once($small, 'postgres', 'DROP DATABASE first', 'DROP DATABASE');
wait_worker($small, 'second', 'sender', 'the other database gets the processes');
$small->stop('fast');

# ---------------------------------------------------------------------------
# A standby
# ---------------------------------------------------------------------------

my $primary = new_node('primary', { init => [ allows_streaming => 1 ], extension => 0 });
make_database($primary, 'work');
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
keep_busy($primary, 'work');
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
is($standby->safe_psql('postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'llm_enrich %')),
	'0', 'nothing runs on a standby');
is($standby->safe_psql('work', q(SELECT state FROM llm.health WHERE kind = 'launcher')), 'standby', 'llm.health says so there');
like(($standby->psql('work', $_->[0]))[2], $_->[1], "and $_->[0]")
	foreach [ 'SELECT llm.check()', qr/llm\.check\(\) cannot be asked on a standby/ ],
	[ q(SELECT llm.cancel('tickets')), qr/cannot execute llm\.cancel\(\) in a read-only transaction/ ];
$primary->stop('immediate');
$standby->promote;
wait_worker($standby, 'work', 'sender', 'P2: after promotion what is queued is served');
$standby->stop('fast');

# ---------------------------------------------------------------------------
# Not preloaded
# ---------------------------------------------------------------------------

my $plain = PostgreSQL::Test::Cluster->new('plain');
$plain->init;
$plain->start;
$plain->safe_psql('postgres', 'CREATE EXTENSION llm_enrich');
($status, undef, $stderr) = $plain->psql('postgres', '\set VERBOSITY verbose
	SELECT * FROM llm.health');
like($stderr, qr/55000.*HINT:  Add "llm_enrich" to "shared_preload_libraries"/s, 'without preload a function says what to do');
$plain->stop('fast');

$provider->stop;
done_testing();
