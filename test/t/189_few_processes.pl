# Fewer processes than databases want: nobody keeps one that it has no use for, those with long work
# share them, and what waits says why (P6).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use LLMTest;

use constant DATABASES => 10;

# One for the launcher, one for PostgreSQL's logical replication launcher: three databases at a time.
my $node = new_node('few', 'max_worker_processes = 8');
my $provider = start_provider();
my @databases = map { "db$_" } 1 .. DATABASES;

foreach my $db (@databases)
{
	$provider->script({ latency_ms => 200 }, $db);
	$node->safe_psql('postgres', "CREATE DATABASE $db");
	$node->safe_psql($db, q(CREATE EXTENSION llm_enrich;
		CREATE TABLE ticket (id int PRIMARY KEY, body text, label jsonb);
		INSERT INTO ticket SELECT i, 'The invoice of customer ' || i || ' is wrong' FROM generate_series(1, 20) i));
	setup_model($node, $provider, db => $db, lane => $db, alias => $db);
}

my $ask = q(UPDATE ticket SET label = llm_classify(body, '{billing,bug}'));
my $done = q(SELECT count(*) = 20 FROM ticket WHERE llm_status(label) = 'done');

# Workers that only looked for the extension are gone, and none has work.
$node->poll_query_until('postgres', q(SELECT count(*) < 6 FROM pg_stat_activity WHERE backend_type ~ '^llm_enrich (sender|writer)$'))
  or die 'the first workers stay';

# ---------------------------------------------------------------------------
# Short work: each leaves when it has nothing to do
# ---------------------------------------------------------------------------

my $began = time;
$node->safe_psql($_, $ask) foreach @databases;
my $asked = time - $began;

# a database without a process says so
my %why;
foreach my $db (@databases)
{
	my $row = $node->safe_psql($db, q(SELECT string_agg(concat_ws(' ', kind, state, problem), ', ' ORDER BY kind)
		FROM llm.health WHERE kind IN ('sender', 'writer') AND pid IS NULL AND state <> 'not running'));

	$why{$db} = $row if $row ne '';
}
note(map { "$_: $why{$_}\n" } sort keys %why);
foreach my $db (@databases)
{
	$node->poll_query_until($db, $done) or die "$db is not served";
}
my $seconds = time - $began;
cmp_ok($seconds, '<', 120,
	sprintf('P6: ten databases are served one after the other (%.1f s, of which %.1f s to ask)', $seconds, $asked));
my @silent = grep { $why{$_} !~ /no worker slot/ } keys %why;
is_deeply(\@silent, [], 'those that wait say that there is no process');
ledger_equals_meter($node, $provider, "P3: $_: ledger equals meter", db => $_, lane => $_) foreach @databases[0, 9];

# ---------------------------------------------------------------------------
# Long work: a share each
# ---------------------------------------------------------------------------

my @long = @databases[0 .. 2];
foreach my $db (@long)
{
	$node->safe_psql($db, qq(ALTER SERVER sim OPTIONS (ADD max_concurrency '2');
		INSERT INTO ticket SELECT i, 'The invoice of customer ' || i || ' is late' FROM generate_series(21, 3000) i;
		UPDATE ticket SET label = llm_classify(body, '{late,wrong}')));
}
$node->poll_query_until('postgres', q(SELECT count(*) = 6 FROM pg_stat_activity
	WHERE backend_type ~ '^llm_enrich (sender|writer)$' AND datname IN ('db1', 'db2', 'db3')))
  or die 'the long ones do not work';
$began = time;
$node->safe_psql('db9', "UPDATE ticket SET label = NULL; $ask");
$node->poll_query_until('db9', q(SELECT problem = 'no worker slot' FROM llm.health WHERE kind = 'sender')) or die 'no reason';
pass('a database that waits for a process says so');
$node->poll_query_until('db9', $done) or die 'db9 is not served';
cmp_ok(time - $began, '<', 150, sprintf('P6: long work makes room for others (%.1f s)', time - $began));
foreach my $db (@long)
{
	is($node->safe_psql($db, 'SELECT count(*) FROM llm.job WHERE state <> $$finished$$'), 1, "$db has not ended");
	my $before = $node->safe_psql($db, 'SELECT done FROM llm.job ORDER BY id DESC LIMIT 1');
	$node->poll_query_until($db, "SELECT done > $before FROM llm.job ORDER BY id DESC LIMIT 1") or die "$db stands still";
	is($node->safe_psql($db, q(SELECT count(*) FROM llm.ledger WHERE outcome <> 'ok')), 0,
		'and nothing of it was lost when it let go');
}

$node->stop('fast');
done_testing();
