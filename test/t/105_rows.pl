# What the sender writes without SQL: every kind of answer on the ledger and in the queue,
# and sums that are those of the ledger (P3). What it keeps in mind for the ledger is given
# up when it may not be true any more; a row that somebody has changed is settled as it is
# now (P2). And it sleeps while an answer waits for company (P10).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

use constant ROWS => 60;

my $node = new_node('rows', 'llm_enrich.max_tries = 2', 'llm_enrich.max_retry_share = 1',
	'llm_enrich.idle_timeout = 1h',
	# P6: a standby that never comes, and for which only those wait who want to
	'wal_level = replica', 'max_wal_senders = 1', q(synchronous_standby_names = 'nobody'), 'synchronous_commit = local');
my $provider = start_provider();

# ----------------------------------------------------------------------------
# Every outcome
# ----------------------------------------------------------------------------

my $ledger = q(SELECT string_agg(to_jsonb(l)::text, E'\n' ORDER BY l.id) FROM llm.ledger l);

# Each of the first rows meets a fault of its own; most of these always.
my @always = qw(malformed_content refusal truncated wrong_label content_filter);
my @sequence = (
	(map { { match => "customer ${_}0 ", times => -1, action => $always[ $_ - 1 ] } } 1 .. @always),
	{ match => 'customer 11 ', times => 1, action => 'error_500' },
	{ match => 'customer 12 ', times => 1, action => 'rate_limit', retry_after => 0.1 },
	{ match => 'customer 13 ', times => 1, action => 'malformed_content' },
	{
		match => 'customer 14 ',
		times => -1,
		action => 'status',
		status => 400,
		body => { error => { message => 'no', type => 'invalid_request_error' } }
	});

sub worker
{
	my ($db, $kind) = @_;
	my $pid = $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE datname = '$db' AND backend_type = 'llm_enrich $kind'");

	return $pid =~ /^\d+$/ ? $pid : die "$db has no $kind";
}

# Ask in the database, and stop the writer meanwhile, whose number is returned: what the sender stored stays.
sub ask
{
	my ($db) = @_;

	setup_model($node, $provider, db => $db, lane => $db);
	$provider->script(
		{ cached_fraction => 0.25, cache_write_fraction => 0.25, reasoning_tokens => 3, sequence => \@sequence },
		$db);
	$node->safe_psql($db, qq(
		CREATE TABLE note (id int PRIMARY KEY, body text, label jsonb);
		INSERT INTO note SELECT i, 'A wish of customer ' || i || ' here' FROM generate_series(1, @{[ROWS]}) i;));
	$node->safe_psql($db, "UPDATE note SET label = llm_classify(body, '{x,y}') WHERE id = 1");
	wait_idle($node, $db);
	my $writer = worker($db, 'writer');
	$node->poll_query_until($db, 'SELECT bool_and(announced = state) FROM llm.job') or die 'the job is not announced';
	stop_at_rest($node, $writer);
	$node->safe_psql($db, q(
		SET application_name = 'shop';
		SET llm_enrich.tags = '{"team": "x"}';
		UPDATE note SET label = llm_classify(body, '{a,b}');));
	$node->poll_query_until($db, "SELECT count(*) = @{[ROWS]} FROM llm.queue WHERE outcome IS NOT NULL")
		or die "$db: not every row was answered: " . $node->safe_psql($db, 'SELECT * FROM llm.queue WHERE outcome IS NULL');
	return $writer;
}

$node->safe_psql('postgres', 'CREATE DATABASE direct');
$node->safe_psql('direct', 'CREATE EXTENSION llm_enrich');

my $stopped = ask('direct');
is($node->safe_psql('direct', q(
	SELECT state, outcome, error, count(*), bool_and(landed > 0), bool_and(reason IS NULL AND not_before IS NULL),
		bool_and((answer IS NOT NULL) = (state = 'answered')), sum(tries), sum(outages)
	FROM llm.queue GROUP BY 1, 2, 3 ORDER BY 1, 2, 3)),
	join("\n", 'answered|answered|invalid_output|1|t|t|t|1|0', 'answered|answered||53|t|t|t|0|1',
		'failed|failed|invalid_output|2|t|t|t|4|0', 'failed|failed|refused|2|t|t|t|2|0',
		'failed|failed|rejected|1|t|t|t|1|0', 'failed|failed|truncated|1|t|t|t|1|0'),
	'P2: every task is what its answer made of it, with the transaction that settled it');
is($node->safe_psql('direct', q(SELECT last_answer IS NOT NULL AND message <> '' FROM llm.queue WHERE key->>'id' = '13')), 't',
	'a second answer leaves what was wrong with the first');
my $written = $node->safe_psql('direct', $ledger);
like($written, qr/"tags": \{"team": "x"\}.*"application_name": "shop"/, 'P3: the ledger has what the job says of itself');
foreach my $outcome (qw(ok invalid refused truncated rate_limited error))
{
	like($written, qr/"outcome": "$outcome"/, "one that is $outcome among its rows");
}
is($node->safe_psql('direct', q(SELECT count(*) FROM llm.ledger WHERE at < now() - interval '1 hour' OR task IS NULL OR job IS NULL
	OR attempt IS NULL OR latency_ms IS NULL OR server <> 'sim' OR lane <> 'realtime' OR key IS NULL OR relation <> 'public.note'
	OR column_name <> 'label' OR operation <> 'classify' OR cost IS NULL)), 0, 'and each of them is complete');
is($node->safe_psql('direct', q(SELECT count(*) FROM llm.job_cost c JOIN (SELECT job, count(*) AS requests,
		sum(input_tokens + cached_tokens + cache_write_tokens) AS input, sum(output_tokens) AS output, sum(cost) AS cost
		FROM llm.ledger GROUP BY job) l ON l.job = c.job
	WHERE (c.requests, c.input_tokens, c.output_tokens, c.cost)
		IS DISTINCT FROM (l.requests, l.input, l.output, l.cost))),
	0, 'P3: sums are those of the ledger');
kill 'CONT', $stopped;
wait_idle($node, 'direct');
ledger_equals_meter($node, $provider, 'P3: ledger equals meter', db => 'direct', lane => 'direct');

# ----------------------------------------------------------------------------
# What the sender keeps in mind
# ----------------------------------------------------------------------------

# Two more rows of the direct database, asked in a session of that name: the last one's row on the ledger.
sub ask_as
{
	my ($application) = @_;

	$node->safe_psql('direct', qq(
		SET application_name = '$application';
		UPDATE note SET label = llm_classify(body || ' $application', '{a,b}') WHERE id IN (30, 31);));
	wait_idle($node, 'direct');
	return $node->safe_psql('direct', q(SELECT application_name, job, cost = output_tokens FROM llm.ledger ORDER BY id DESC LIMIT 1));
}

my ($job) = ask_as('one') =~ /^one\|(\d+)\|f$/ or die 'the row on the ledger is of another job';
my $pid = worker('direct', 'sender');

$node->safe_psql('direct', q(SELECT llm.set_price('fast', input_per_mtok => 0, output_per_mtok => 1000000)));
my ($next) = ask_as('two') =~ /^two\|(\d+)\|t$/;
isnt($next, undef, 'P3: a new price is paid from then on');
$node->safe_psql('direct', "TRUNCATE llm.job; ALTER TABLE llm.job ALTER COLUMN id RESTART WITH $job");
is(ask_as('three'), "three|$job|t", 'P3: a job with the number of one that is gone is booked as itself');
is(worker('direct', 'sender'), $pid, 'and all that time there was one sender');

# ----------------------------------------------------------------------------
# A row that is not as it was claimed
# ----------------------------------------------------------------------------

# Somebody changes it by hand, and commits when the sender waits for him.
$provider->hold;
stop_at_rest($node, my $writer = worker('direct', 'writer'));
$node->safe_psql('direct', "UPDATE note SET label = llm_classify(body || ' again', '{a,b}') WHERE id <= 2");
$node->poll_query_until('direct', q(SELECT count(*) = 2 FROM llm.queue WHERE state = 'claimed')) or die 'nothing was claimed';
my $hand = $node->background_psql('direct');
$hand->query_safe(q(BEGIN; UPDATE llm.queue SET message = 'touched' WHERE key->>'id' = '1'));
$provider->go_on;
$node->poll_query_until('direct', "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid") or die 'the sender waits for nobody';
$hand->query_safe('COMMIT');
$hand->quit;
$node->poll_query_until('direct', q(SELECT count(*) = 2 FROM llm.queue WHERE state = 'answered')) or die 'the row was not settled';
is($node->safe_psql('direct', q(SELECT string_agg(concat_ws(' ', key->>'id', message, answer IS NOT NULL, landed > 0), ', ' ORDER BY key->>'id')
	FROM llm.queue)), '1 touched t t, 2 t t', 'P2: it is settled as it is now');
kill 'CONT', $writer;
wait_idle($node, 'direct');

# ----------------------------------------------------------------------------
# While an answer waits for company
# ----------------------------------------------------------------------------

# Milliseconds of processor time that the sender takes for 400 rows, one after the other.
sub processor_time
{
	my ($run) = @_;
	my $clock = sub { return (split / /, slurp_file("/proc/$pid/schedstat"))[0] / 1e6 };
	my $before = $clock->();

	$node->safe_psql('direct', "UPDATE many SET label = llm_classify(body || ' in run $run', '{a,b}')");
	$node->poll_query_until('direct', 'SELECT count(*) < 2 FROM llm.queue') or die 'rows are left';
	my $used = $clock->() - $before;
	wait_idle($node, 'direct');
	return $used;
}

# Alone, an answer is stored at once; beside a request that takes long, it waits a millisecond for that one's.
SKIP:
{
	skip 'the system does not tell processor time to the microsecond', 1 unless -r "/proc/$$/schedstat";
	$node->safe_psql('direct', q(
		CREATE TABLE many (id int PRIMARY KEY, body text, label jsonb);
		INSERT INTO many SELECT i, 'text ' || i FROM generate_series(1, 400) i;
		ALTER SERVER sim OPTIONS (ADD max_concurrency '1');));
	my ($small, $large) = (0, 0);

	# other processes get in the way of a measurement, on a busy machine of most; a sender that does
	# not sleep takes 400 ms more each time
	for (my $run = 1; $small < 2 && $large < 5; $run++)
	{
		$node->safe_psql('direct', q(ALTER SERVER sim OPTIONS (SET max_concurrency '1')));
		my $alone = processor_time("$run alone");
		$node->safe_psql('direct', q(ALTER SERVER sim OPTIONS (SET max_concurrency '2')));
		$provider->script({ sequence => [ { match => "text 1 in run $run beside", action => 'ok', delay_ms => 6000 } ] }, 'direct');
		my $extra = processor_time("$run beside") - $alone;
		note "sender: $alone ms alone, $extra ms more beside a slow one";
		$extra < 350 ? $small++ : $large++;
	}
	is($small, 2, 'P10: the sender sleeps while an answer waits for company');
}

done_testing();
