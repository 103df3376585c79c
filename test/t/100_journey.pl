# The whole path for 20,000 rows: nothing before COMMIT (P1), every row its own
# answer (P2, P5), every token and every cent on the ledger (P3).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

use constant ROWS => 20_000;

my $node = new_node('journey');
my $provider = start_provider();
setup_model($node, $provider);

# Answers come in random order.
my %script = (latency_ms => 1, latency_jitter_ms => 30, cached_fraction => 0.25, reasoning_tokens => 7);
$provider->script(\%script);

$node->safe_psql('postgres', qq(
	CREATE TABLE note (id bigint PRIMARY KEY, body text NOT NULL, summary jsonb);
	INSERT INTO note SELECT i, 'Customer ' || i || ' writes about an invoice [[mark:' || i || ']]', NULL
	FROM generate_series(1, @{[ROWS]}) i;
	ANALYZE note;));

# P1: a rollback leaves nothing and costs nothing.
is($node->safe_psql('postgres', qq(
	BEGIN;
	UPDATE note SET summary = llm_summarize(body, 20);
	SELECT count(*) FROM note WHERE llm_is_pending(summary);
	ROLLBACK;
	SELECT count(*) FROM llm.queue;)), ROWS . "\n0", 'P1: ROLLBACK leaves the queue empty');
is($provider->meter->{requests}, 0, 'P1: ROLLBACK sends nothing');

# P1: the same for a savepoint, a suppressed row, and an open transaction.
my $session = $node->background_psql('postgres');
$session->query_safe('BEGIN');
$session->query_safe('SAVEPOINT s');
$session->query_safe('UPDATE note SET summary = llm_summarize(body, 20) WHERE id <= 100');
$session->query_safe('ROLLBACK TO s');
$session->query_safe('UPDATE note SET summary = llm_summarize(body, 20)');
is($node->safe_psql('postgres', 'SELECT count(*) FROM llm.queue'), 0, 'P1: nothing is queued for others before COMMIT');
is($provider->meter->{requests}, 0, 'P1: nothing is sent before COMMIT');
$session->query_safe('COMMIT');
my $job = $session->query_safe('SELECT llm.last_job()');
$session->quit;

$node->safe_psql('postgres', "CALL llm.wait(job => $job, timeout => '5 minutes')");
is($node->safe_psql('postgres', qq(
	SELECT count(*) FROM note
	WHERE summary->>'summary' LIKE '%[[mark:' || id || ']]%' AND NOT summary ? 'llm_enrich')),
	ROWS, 'P5: every cell holds the answer to its own row');
is($node->safe_psql('postgres', "SELECT total, done, failed, state FROM llm.job WHERE id = $job"),
	ROWS . '|' . ROWS . '|0|finished', 'P2: every task is done');
is($node->safe_psql('postgres', 'SELECT count(*) FROM llm.queue'), 0, 'P2: final tasks leave the queue');

my $marks = $provider->marks;
is(scalar(keys %$marks), ROWS, 'every row was asked');
is(scalar(grep { $_ != 1 } values %$marks), 0, 'no row was asked twice');

# P3: to the token, and to the cent.
ledger_equals_meter($node, $provider, 'P3: ledger equals meter');
my $meter = $provider->meter;
is($node->safe_psql('postgres', q(
	SELECT sum(cached_tokens), sum(cache_write_tokens), sum(reasoning_tokens) FROM llm.ledger)),
	join('|', @{ $meter->{billed} }{qw(cached_tokens cache_write_tokens reasoning_tokens)}),
	'P3: token classes equal the meter');
is($node->safe_psql('postgres', q(
	SELECT sum(cost) = (sum(input_tokens) * 0.25 + sum(cached_tokens) * 0.025 + sum(cache_write_tokens) * 0.3125
		+ sum(output_tokens) * 2.00) / 1000000 FROM llm.ledger)), 't', 'P3: cost is tokens times price, exactly');
is($node->safe_psql('postgres', q(
	SELECT bool_and(l.key = jsonb_build_object('id', n.id)) AND count(*) = count(DISTINCT l.task)
	FROM llm.ledger l JOIN note n ON n.id = (l.key->>'id')::bigint)), 't', 'P3: each ledger row names its row');
is($node->safe_psql('postgres', qq(
	SELECT requests, cost = (SELECT sum(cost) FROM llm.ledger) FROM llm.job_cost WHERE job = $job)),
	ROWS . '|t', 'running sums equal the ledger');
is($node->safe_psql('postgres', qq(
	SELECT state, total, done, waiting, cost > 0, bar FROM llm.progress WHERE job = $job)),
	"finished|@{[ROWS]}|@{[ROWS]}|0|t|#################### 100%", 'llm.progress shows the finished job');
is($node->safe_psql('postgres', q(
	SELECT (SELECT sum(requests) FROM llm.cost_by_day), (SELECT requests FROM llm.cost_by_model),
		(SELECT requests FROM llm.cost_by_table), (SELECT requests FROM llm.cost_by_role))),
	join('|', (ROWS) x 4), 'the cost views add up');

done_testing();
