# Budgets when the sender's transactions fail, and when what waits for money has other troubles, too (P6, P8).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use LLMTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('trouble');
my $provider = start_provider();
my %price = (cached_input_per_mtok => 'NULL', cache_write_per_mtok => 'NULL');

setup_model($node, $provider, prices => { input_per_mtok => 1, output_per_mtok => 1, %price });
sql(q(CREATE TABLE ticket (id int PRIMARY KEY, body text, label jsonb);
	INSERT INTO ticket SELECT i, 'The invoice is wrong, number ' || i || '.' FROM generate_series(1, 50) i;
	CREATE ROLE team; CREATE ROLE member));

# ---------------------------------------------------------------------------
# Budgets cannot be read
# ---------------------------------------------------------------------------

# A task that was refused is looked at in each pass, also in one whose transaction cannot read the budgets.
my $started = sql('SELECT pg_postmaster_start_time()');
my $budget = sql('SELECT llm.set_budget(10)');

$provider->script({
	latency_ms => 1000,
	sequence => [ { match => 'number 1.', action => 'rate_limit', retry_after => 3 } ]
});
sql(q(UPDATE ticket SET label = llm_classify(body, '{billing,bug}', options => '{"max_tokens": 20}')));
wait_until(q(EXISTS (SELECT FROM llm.ledger WHERE outcome = 'rate_limited')), 'one is refused');
my $holder = $node->background_psql('postgres');
my $log = -s $node->logfile;
$holder->query_safe('BEGIN; LOCK TABLE llm.budget_rule IN ACCESS EXCLUSIVE MODE');
sql('GRANT team TO member'); # what a budget holds for may have changed
ok($node->wait_for_log(qr/canceling statement due to lock timeout/, $log), 'the sender cannot read the budgets');
$holder->query_safe('COMMIT');
$holder->quit;
wait_idle($node);
is(sql('SELECT pg_postmaster_start_time()'), $started, 'P6: nothing crashes meanwhile');
is(sql(q(SELECT count(*) FROM ticket WHERE label->>'label' = 'billing')), 50, 'P2: and every row is answered');
is(sql('SELECT spent = (SELECT sum(cost) FROM llm.ledger), reserved FROM llm.budget'), 't|0', 'P8: the budget has it all');
sql("SELECT llm.drop_budget($budget)");

# ---------------------------------------------------------------------------
# A statement's cap, and a transaction that cannot do all
# ---------------------------------------------------------------------------

# Calls one after the other; the first one is on its way when the sums are locked, and these are due when its
# answer comes.
$provider->script({});
my $cost = sql(q(SELECT max(cost) FROM llm.ledger));

sql(q(CREATE FUNCTION forward(float8) RETURNS timestamptz LANGUAGE C AS 'llm_enrich', 'llm_enrich_test_clock'));

sub ask_and_lock
{
	my ($text, $lock) = @_;

	$provider->hold;
	my $asker = $node->background_psql('postgres', on_error_stop => 0);
	$asker->query_until(qr/asked/, qq(\\echo asked
		SET llm_enrich.max_in_flight = 1; SET llm_enrich.max_cost = @{[ $cost * 20 ]};
		SELECT 'result ' || count(llm_classify(body || '$text', '{billing,bug}', options => '{"max_tokens": 20}'))
			FROM ticket WHERE id <= 3;
	));
	wait_until('EXISTS (SELECT FROM llm.letter)', 'the first call is asked');
	$holder = $node->background_psql('postgres');
	$holder->query_safe("BEGIN; LOCK TABLE $lock");
	$log = -s $node->logfile;
	sql('SELECT forward(2)');
	$provider->go_on;
	return $asker;
}

my $asker = ask_and_lock('', 'llm.ledger_sum IN ACCESS EXCLUSIVE MODE');
$asker->query_until(qr/result 3/, "\n");
pass('P8: the cap of a statement is charged once with it, and its answers do not wait for sums that are locked');
unlike(slurp_file($node->logfile, $log), qr/lock timeout/, 'P10: nor does anything fail');
sql('SELECT forward(2)');
$holder->query_safe('COMMIT');
$holder->quit;
$asker->quit;
wait_until('NOT EXISTS (SELECT FROM llm.ledger_unsummed)', 'they are summed when they can be');

# An answer is stored and a later step of the same transaction fails.
$asker = ask_and_lock(' Again.', 'llm.answer IN ACCESS EXCLUSIVE MODE');
my $since = $log;
my $failures = 0;
foreach (1 .. 3)
{
	last unless $node->wait_for_log(qr/canceling statement due to lock timeout/, $log);
	$failures++;
	$log = -s $node->logfile;
}
is($failures, 3, 'the transaction that has the answer is tried again and again');
$holder->query_safe('COMMIT');
$holder->quit;
wait_idle($node);
$asker->query('SELECT 1');
is(sql('SELECT count(*) FROM llm.letter'), 0, 'P3: what it brought is booked, whether the statement heard of it or of the failure');
unlike(slurp_file($node->logfile, $since), qr/terminated by signal/, 'P2: and nothing crashes for the letter that was told');
$asker->quit;

# ---------------------------------------------------------------------------
# A call that waits for money, whose target shuts meanwhile
# ---------------------------------------------------------------------------

# A row has all of the budget reserved when the call comes; then its request is refused.
foreach my $case ([ 'a refused key', { action => 'status', status => 401 }, qr/refuses the key/, 12 ],
	[ 'a limit', { action => 'rate_limit', retry_after => 120 }, qr/waits \(/, 20 ])
{
	my ($name, $step, $message, $most) = @$case;

	(my $model = $name) =~ s/\W/_/g;
	setup_model($node, $provider, server => $model, lane => $model, alias => $model, model => $model, is_default => 0,
		prices => { input_per_mtok => 1, output_per_mtok => 1000, %price });
	$provider->script({ sequence => [ { %$step, times => -1 } ] }, $model);
	my $cap = sql("SELECT llm.set_budget(0.02, model => '$model')"); # a request: about 0.016
	$provider->hold;
	sql(qq(UPDATE ticket SET label = llm_classify(body, '{billing,bug}', model => '$model',
		options => '{"max_tokens": 16}') WHERE id = 1));
	wait_until(q(EXISTS (SELECT FROM llm.queue WHERE state = 'claimed')), 'the row is under way');
	$asker = $node->background_psql('postgres', on_error_stop => 0);
	$asker->query_until(qr/asked/, qq(\\echo asked
		SET llm_enrich.patience = '15s';
		SELECT llm_classify('And this one?', '{billing,bug}', model => '$model', options => '{"max_tokens": 16}');
	));
	wait_until(q(EXISTS (SELECT FROM pg_stat_activity WHERE state = 'active' AND query ~ 'And this one'
		AND pid <> pg_backend_pid() AND wait_event_type = 'Extension')), 'the call waits');
	my $began = time;
	$provider->go_on;
	wait_until(q(NOT EXISTS (SELECT FROM pg_stat_activity WHERE state = 'active' AND query ~ 'And this one'
		AND pid <> pg_backend_pid())), 'the call is told');
	cmp_ok(time - $began, '<', $most, "P6: $name: a call that waited for money is told in time");
	$asker->query('SELECT 1');
	like($asker->{stderr}, $message, "$name: and is told why");
	$asker->quit;
	sql(qq(SELECT llm.cancel('ticket'); SELECT llm.drop_budget($cap)));
}

done_testing();
