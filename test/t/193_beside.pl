# What one role or job does at a target leaves others their share: a job that only gets 500s, inputs of megabytes at
# a target that is silent, checks that hang (P6, P10).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

use constant TRIALS => 8; # MAX_TRIALS of send/letters.c
use constant MB => 1024 * 1024;

# Of what requests that are not over hold in memory (route.c), and inputs that one claim may add.
use constant MEMORY => 64 * MB;
use constant CLAIM => 16 * MB;

my $node = new_node('beside', 'llm_enrich.max_tries = 5', 'max_connections = 60');
my $provider = start_provider();

# Each part has a lane, a server and a model of its own.
sub make_target
{
	my ($name, %options) = @_;

	setup_model($node, $provider, server => $name, lane => $name, alias => $name, model => "sim-$name", is_default => 0,
		options => \%options);
	sql("GRANT USAGE ON FOREIGN SERVER $name TO PUBLIC");
	return;
}

sql(q(CREATE ROLE ana; CREATE ROLE eve;
	CREATE TABLE note (id int PRIMARY KEY, body text, label jsonb); GRANT ALL ON note TO PUBLIC;
	INSERT INTO note SELECT i, 'note ' || i FROM generate_series(1, 1000) i));

# ---------------------------------------------------------------------------
# A job that only gets 500s
# ---------------------------------------------------------------------------

# How often the log says that a target is left alone for a while.
sub cool_downs
{
	my $name = shift;

	return scalar(() = slurp_file($node->logfile) =~ /model "$name" \([^)]*\) waits until/g);
}

make_target('mixed', max_concurrency => 16);
$provider->script({ latency_ms => 10, sequence => [ { match => 'poison', action => 'error_500', times => -1 } ] },
	'mixed');
sql(q(CREATE TABLE poison (id int PRIMARY KEY, body text, label jsonb); GRANT ALL ON poison TO PUBLIC;
	INSERT INTO poison SELECT i, 'poison ' || i FROM generate_series(1, 200) i;
	SET ROLE eve; UPDATE poison SET label = llm_classify(body, '{a,b}', model => 'mixed')));
sql(q(SET ROLE ana; UPDATE note SET label = llm_classify(body, '{note,other}', model => 'mixed')));
wait_until(q(NOT EXISTS (SELECT FROM note WHERE llm_is_pending(label))), 'the good job is over');
my $cool_downs = cool_downs('mixed');
is(sql(q(SELECT count(*) FROM note WHERE label = '{"label": "note"}')), 1000,
	'P6: beside a job that only gets 500s another one is done');
is(sql(q(SELECT count(*) FROM llm.ledger WHERE role = 'ana' AND outcome <> 'ok')), 0, 'with one request for each row');
# the first few are; from then on answers to others say that the target is there
cmp_ok($cool_downs, '<=', 10, 'P6: the target is not taken to be out each time');
sql(q(SELECT llm.cancel('poison')));
wait_idle($node);
ledger_equals_meter($node, $provider, 'P3: ledger equals meter', lane => 'mixed', server => 'mixed');

# ---------------------------------------------------------------------------
# Inputs of megabytes
# ---------------------------------------------------------------------------

make_target('silent', max_concurrency => 256);
make_target('good');
$provider->script({ hang => 1 }, 'silent');
sql(q(CREATE TABLE book (id int PRIMARY KEY, body text, label jsonb); GRANT ALL ON book TO PUBLIC;
	INSERT INTO book SELECT i, i || repeat('x', 2 * 1024 * 1024) FROM generate_series(1, 80) i;
	SET ROLE eve; UPDATE book SET label = llm_classify(body, '{a,b}', model => 'silent')));
wait_until(q((SELECT count(*) >= 16 FROM llm.queue WHERE state = 'claimed')), 'some are under way');
sql(q(UPDATE note SET label = NULL;
	SET ROLE ana; UPDATE note SET label = llm_classify(body, '{note,other}', model => 'good')));
ok($node->poll_query_until('postgres', q(SELECT count(*) = 1000 FROM note WHERE label = '{"label": "note"}')),
	'P6: beside inputs of megabytes at a target that is silent, another one is served');
cmp_ok(sql(q(SELECT sum(octet_length(input)) FROM llm.queue WHERE state = 'claimed')), '<=', MEMORY + CLAIM,
	'P10: what is in memory at a time has a bound');
cmp_ok($provider->meter('silent')->{in_flight}, '>=', 16, 'and is used');

# ---------------------------------------------------------------------------
# Checks that hang
# ---------------------------------------------------------------------------

make_target('slow', max_concurrency => 16, timeout => '10min');
$provider->script({ sequence => [ { action => 'hang', times => TRIALS } ] }, 'slow');
my (@checks, @said);
foreach (1 .. TRIALS + 12)
{
	my $out = '';

	push @said, \$out;
	push @checks, IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', 'SET ROLE eve',
		'-c', q(SELECT * FROM llm.check('slow')) ], '<', \undef, '>', \$out, '2>', \$out);
}
# the others are told that they would have to wait
my $all = qr/(?:statement: SELECT \* FROM llm\.check\('slow'\).*?){${\ scalar @checks}}/s;
$node->wait_for_log($all);
wait_until('count(*) = ' . TRIALS . q( FROM pg_stat_activity
	WHERE query ~ '^SELECT . FROM llm.check' AND state = 'active'), 'as many wait as may');
like(sql(q(SET ROLE ana; SELECT llm.check('slow'))), qr/^ok/, q(P6: another role's check finds room beside them));
is($provider->meter('slow')->{requests}, TRIALS + 1, 'P6: of one role so many are under way at a target, and no more');
sql(q(SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query ~ '^SELECT . FROM llm.check'));
$_->finish foreach @checks;
is(scalar(grep { $$_ =~ /not sent/ } @said), 12, 'the others are told that they were not sent');

$node->stop;
done_testing();
