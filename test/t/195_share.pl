# Answers at fault are asked again only while that takes no more than its share of
# what the job costs; then tasks fail at their first fault, and it is said (P8).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

use constant ROWS => 1500;

my $node = new_node('share', 'llm_enrich.max_tries = 30', 'llm_enrich.max_retry_share = 0.1');
my $provider = start_provider();

setup_model($node, $provider);
setup_model($node, $provider, server => 'good', lane => 'good', alias => 'good', model => 'sim-good', is_default => 0);
setup_model($node, $provider, server => 'slow', lane => 'slow', alias => 'slow', model => 'sim-slow', is_default => 0,
	options => { max_concurrency => 8 });
sql("CREATE SERVER unpriced FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai', max_concurrency '256', base_url '@{[$provider->base_url('unpriced')]}');
	SELECT llm.add_model('unpriced', server => 'unpriced', model => 'sim-unpriced');
	CREATE TABLE ticket (id int PRIMARY KEY, body text, label jsonb);
	INSERT INTO ticket SELECT i, 'The invoice of customer ' || i || ' is wrong' FROM generate_series(1, @{[ROWS]}) i");

# Queue the rows up to an id; the job's number.
sub enqueue
{
	my ($last, $model) = @_;

	return sql("UPDATE ticket SET label = NULL;
		UPDATE ticket SET label = llm_classify(body, '{billing,bug}', model => '$model') WHERE id <= $last;
		SELECT llm.last_job()");
}

# Wait for a job, and see that its sums are those of the ledger.
sub finish
{
	my ($job, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	sql("CALL llm.wait(job => $job, timeout => '2 minutes')");
	is(sql("SELECT (k.requests, k.cost IS NOT DISTINCT FROM l.cost, k.input_tokens + k.output_tokens, k.retry_cost, k.retry_tokens)
			= (l.requests, true, l.tokens, l.retry_cost, l.retry_tokens)
		FROM llm.job_cost k, (SELECT count(*) AS requests, sum(cost) AS cost, sum(tokens)::int8 AS tokens,
				coalesce(sum(cost) FILTER (WHERE again), 0) AS retry_cost,
				coalesce(sum(tokens) FILTER (WHERE again), 0)::int8 AS retry_tokens
			FROM (SELECT cost, input_tokens + cached_tokens + cache_write_tokens + output_tokens AS tokens,
				coalesce(bool_or(outcome = 'invalid') OVER (PARTITION BY task ORDER BY attempt
					ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), false) AS again
				FROM llm.ledger WHERE job = $job) r) l
		WHERE k.job = $job"), 't', "P3: $name: what retries cost is what the ledger says");
	return;
}

sub note_tokens
{
	note(sql("SELECT format('%s of %s requests were retries, %s of %s tokens', retries, requests, retry_tokens,
		input_tokens + output_tokens) FROM llm.job_cost WHERE job = $_[0]"));
	return;
}

# ---------------------------------------------------------------------------
# A share that is used up
# ---------------------------------------------------------------------------

# The last row hangs until all that is to be looked at has been seen.
$provider->script({ malformed_content => 0.3, sequence => [ { match => 'customer 1500 is', action => 'hang' } ] });
my $job = enqueue(ROWS, 'fast');
$node->poll_query_until('postgres', "SELECT count(*) > 20 FROM llm.dead_letter WHERE job = $job") or die 'nothing failed';
ok($node->poll_query_until('postgres', "SELECT problem LIKE 'failed tasks are not asked again: retries have taken 0.% of 0.% dollars, and \"llm_enrich.max_retry_share\" is 0.1'
	AND hint LIKE '%llm.dead_letter%' FROM llm.health WHERE subject = 'job $job'"), 'llm.health says that retries have had their share');
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM llm.queue WHERE job = $job") or die 'the others are not final';
$provider->script({});
sql(q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'llm_enrich sender'));
finish($job, 'a tenth');
is(sql("SELECT done + failed, failed > 20 FROM llm.job WHERE id = $job"), ROWS . '|t', 'P2: every task is final');
is(sql("SELECT string_agg(DISTINCT reason, ',') FROM llm.dead_letter WHERE job = $job"), 'retry_share', 'those that failed say why');
like(sql("SELECT message FROM llm.dead_letter WHERE job = $job LIMIT 1"),
	qr/^\S.*; not asked again: retries have taken 0\.\d+ of 0\.\d+ dollars, and "llm_enrich.max_retry_share" is 0\.1$/,
	'with the fault, the sums and the setting');
note(sql("SELECT format('%s of %s requests were retries, %s of %s dollars', retries, requests, retry_cost, cost)
	FROM llm.job_cost WHERE job = $job"));
is(sql("SELECT retry_cost <= 0.1 * cost, retry_cost >= 0.05 * cost FROM llm.job_cost WHERE job = $job"), 't|t',
	'retries have no more than the tenth that they may have, and use it');
my @said = slurp_file($node->logfile) =~ /LOG: +failed tasks of job $job are not asked again/g;
is(scalar @said, 1, 'the log says it once');
$node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM llm.health WHERE subject = 'job $job')")
	or die 'llm.health does not forget the job';
ledger_equals_meter($node, $provider, 'P3: ledger equals meter', server => 'sim');

# It is in sight of who waits for the job.
$provider->script({ malformed_content => 0.3, latency_ms => 20 }, 'slow');
$job = enqueue(ROWS, 'slow');
ok($node->poll_query_until('postgres',
		"SELECT why LIKE 'failed tasks are not asked again: retries have taken %' FROM llm.progress WHERE job = $job"),
	'llm.progress says it while the job runs');
sql("SELECT llm.cancel(job => $job)");
wait_idle($node);

# ---------------------------------------------------------------------------
# No price is known
# ---------------------------------------------------------------------------

$provider->script({ malformed_content => 0.3 }, 'unpriced');
$job = enqueue(500, 'unpriced');
finish($job, 'no price');
note_tokens($job);
is(sql("SELECT cost IS NULL, retry_tokens <= 0.1 * (input_tokens + output_tokens) FROM llm.job_cost WHERE job = $job"), 't|t',
	'where no price is known the share is one of tokens');
like(sql("SELECT message FROM llm.dead_letter WHERE job = $job LIMIT 1"),
	qr/retries have taken \d+ of \d+ tokens, and "llm_enrich.max_retry_share" is 0\.1$/, 'and says so');

# ---------------------------------------------------------------------------
# Retries that are decided before the first is over
# ---------------------------------------------------------------------------

# A hundred answers at fault come at once, when all others are there.  Asking again tells them to the model,
# which takes more than the first asking did.
sql("UPDATE ticket SET body = replace(body, 'invoice', 'bill') WHERE id BETWEEN 401 AND 500");
$provider->script({ latency_ms => 1000, answers => { 'The bill' => 'It may be one or the other. ' x 20 },
	sequence => [ { match => 'The bill', times => 100, action => 'ok', delay_ms => 2000 } ] }, 'unpriced');
$job = enqueue(500, 'unpriced');
finish($job, 'decided at once');
note_tokens($job);
is(sql("SELECT retries >= 20, retry_tokens <= 0.1 * (input_tokens + output_tokens) FROM llm.job_cost WHERE job = $job"), 't|t',
	'a retry is reckoned with what it tells the model before one is over');

# ---------------------------------------------------------------------------
# A small job, and failures that cost nothing
# ---------------------------------------------------------------------------

$provider->script({ sequence => [ { times => 10, action => 'malformed_content' } ] });
$job = enqueue(5, 'fast');
finish($job, 'a small job');
is(sql("SELECT done, (SELECT count(*) FROM llm.ledger l WHERE l.job = j.id) FROM llm.job j WHERE id = $job"), '5|15',
	'the first retries of a job are free');
$provider->script({ error_500 => 0.2, rate_limit => 0.1, retry_after => 0.01 }, 'good');
$job = enqueue(100, 'good');
sql("CALL llm.wait(job => $job, timeout => '2 minutes')");
is(sql("SELECT done, retries, retry_cost FROM llm.job j JOIN llm.job_cost k ON k.job = j.id WHERE id = $job"), '100|0|0',
	'what is asked again at no charge is no retry');

# ---------------------------------------------------------------------------
# All of it
# ---------------------------------------------------------------------------

$provider->script({ malformed_content => 0.5 });
sql('ALTER SYSTEM SET llm_enrich.max_retry_share = 1');
$node->reload;
$node->poll_query_until('postgres', "SELECT current_setting('llm_enrich.max_retry_share') = '1'") or die 'not reloaded';
$job = enqueue(500, 'fast');
finish($job, 'all of it');
is(sql("SELECT done, failed FROM llm.job WHERE id = $job"), '500|0', 'with a share of 1 every task is asked until it is answered');
is(sql("SELECT retry_cost > 0.3 * cost, retries = retried FROM llm.job_cost WHERE job = $job"), 't|t', 'whatever that takes');

done_testing();
