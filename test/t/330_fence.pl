# A sender that is thought dead can write nothing: while it lives, what is started in
# its place waits; when it was replaced after all, it ends before it changes anything
# (P2, P3). Shared memory is made to forget it, as when its database is dropped while it
# cannot hear of it, and the launcher, which knows its children, is started again.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

use LLMTest;

use constant ROWS => 200;
use constant SLOTS => 8;

my $node = new_node('fence');
my $provider = start_provider();
setup_model($node, $provider, options => { max_concurrency => SLOTS });

# The processes of a kind.
sub processes
{
	return split /\n/, sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'llm_enrich $_[0]' ORDER BY backend_start");
}

# Let shared memory and the launcher know of no worker.
sub forget_workers
{
	my ($launcher) = processes('launcher');

	sql('SELECT forget_workers()');
	sql("SELECT pg_terminate_backend($launcher, 10000)");
	wait_until("EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'llm_enrich launcher' AND pid <> $launcher)",
		'the launcher is back');
	return;
}

# Wait until all is done. Whom shared memory does not know, nobody asks: that it looks for itself, once
# a minute, is enough.
sub finish
{
	wait_forward($node, 'SELECT NOT EXISTS (SELECT FROM llm.queue)') or die 'tasks are left in llm.queue';
	return;
}

# What cannot change while nobody may write: rows of the ledger, tasks by state.
sub stand
{
	return sql(q(SELECT (SELECT count(*) FROM llm.ledger), string_agg(state || ' ' || n, ', ' ORDER BY state)
		FROM (SELECT state, count(*) AS n FROM llm.queue WHERE state IN ('ready', 'claimed') GROUP BY 1) s));
}

sub each_row_is_answered_once
{
	my $name = shift;

	is(sql(q(SELECT count(*) FROM note WHERE summary->>'summary' LIKE '%[[mark:' || id || ']]%')), ROWS,
		"P2: $name: every row has its own answer");
	is(sql("SELECT count(*), count(DISTINCT task) FROM llm.ledger WHERE outcome = 'ok'"), join('|', ROWS, ROWS),
		"P3: $name: each was answered once");
	is(sql('SELECT count(*) = count(DISTINCT request) FROM llm.ledger'), 't', "P3: $name: no request is on the ledger twice");
	is(sql('SELECT count(DISTINCT request) FROM llm.ledger'), $provider->meter->{requests},
		"P3: $name: the ledger has as many requests as the provider received");
	return;
}

sql(qq(
	CREATE FUNCTION forget_workers() RETURNS void LANGUAGE C AS 'llm_enrich', 'llm_enrich_test_forget';
	CREATE TABLE note (id int PRIMARY KEY, body text NOT NULL, summary jsonb);
	INSERT INTO note SELECT i, 'Customer ' || i || ' writes about an invoice [[mark:' || i || ']]'
	FROM generate_series(1, @{[ROWS]}) i;));

# ---------------------------------------------------------------------------
# It lives, and is stopped with requests in flight
# ---------------------------------------------------------------------------

$provider->script({ latency_ms => 200 });
sql('UPDATE note SET summary = llm_summarize(body, 20)');
wait_until("(SELECT count(*) FROM llm.ledger) > 20 AND EXISTS (SELECT FROM llm.queue WHERE state = 'claimed')", 'it works');
my ($first) = processes('sender');

# held, the provider answers nothing, and all that is claimed has left when the sender rests
$provider->hold;
wait_until("count(*) FILTER (WHERE state = 'claimed') = @{[SLOTS]} AND count(*) FILTER (WHERE state = 'answered') = 0 FROM llm.queue",
	'all places are taken');
stop_at_rest($node, $first);
$provider->go_on;
my $before = stand();
my $sent = sql(q(SELECT count(*) FROM llm.ledger)) + SLOTS;
for (my $tries = 0; $provider->meter->{requests} < $sent; $tries++)
{
	die 'what was sent does not come' if $tries > 18_000;
	usleep(10_000);
}
my $received = $provider->meter->{requests};
forget_workers();
wait_until(q(EXISTS (SELECT FROM llm.health
		WHERE kind = 'problem' AND subject = 'sender' AND problem LIKE 'another one%')),
	'a second sender comes and says that it waits');
is(scalar(processes('sender')), 2, 'two senders live');
is(stand(), $before, 'P3: while the first lives, the second writes nothing');
is($provider->meter->{requests}, $received, 'and sends nothing');
# but for its looks whether the first has gone
ok($node->poll_query_until('postgres', qq(SELECT count(*) = 0 FROM pg_stat_activity
		WHERE backend_type = 'llm_enrich sender' AND xact_start IS NOT NULL AND pid <> $first)),
	'P6: and waits without a transaction');

kill 'CONT', $first;
wait_until("NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $first)", 'the first ends');
finish();
is(sql("SELECT count(*) FROM llm.ledger WHERE outcome <> 'ok'"), 0, 'P4: the first stored what it had in flight');
each_row_is_answered_once('thought dead');
ledger_equals_meter($node, $provider, 'P3: ledger equals meter');
# the writer was forgotten, too, and may still be giving way to another
ok( $node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM llm.health WHERE kind = 'problem')"),
	'llm.health has nothing to complain about')
	or diag(sql("SELECT * FROM llm.health WHERE kind = 'problem'"));

# ---------------------------------------------------------------------------
# It was replaced between two transactions, with answers in memory
# ---------------------------------------------------------------------------

sql('TRUNCATE llm.ledger; UPDATE note SET summary = NULL; ALTER TABLE llm.ledger ADD CONSTRAINT no_room CHECK (false) NOT VALID');
$provider->reset;
sql('UPDATE note SET summary = llm_summarize(body, 20)');
$node->wait_for_log(qr/violates check constraint "no_room"/);
($first) = processes('sender');

# An undone transaction has taken its lock along: stop it before the next one begins.
stop_at_rest($node, $first, "NOT EXISTS (SELECT FROM pg_locks WHERE pid = $first)");
sql('ALTER TABLE llm.ledger DROP CONSTRAINT no_room');
forget_workers();
finish();
my $rows = sql('SELECT count(*) FROM llm.ledger');
is(sql("SELECT count(*) > 0 AND count(*) <= @{[SLOTS]} FROM llm.ledger WHERE outcome = 'unknown'"), 't',
	'what the first had claimed is booked as unknown by the second');
kill 'CONT', $first;
wait_until("NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $first)", 'the first ends');
ok($node->log_contains(qr/FATAL: .*this sender of "llm_enrich" has been replaced/), 'P3: replaced, the first ends');
is(sql('SELECT count(*) FROM llm.ledger'), $rows, 'P3: and writes nothing');
each_row_is_answered_once('replaced');

done_testing();
