# A job most of whose tasks fail is paused before it has spent everything, says
# why, and goes on when somebody resumes it. Other jobs do not notice.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

use constant ROWS => 1000;

my $node = new_node('breaker', 'llm_enrich.max_tries = 2');
my $provider = start_provider();
setup_model($node, $provider, options => { max_concurrency => 16 });
setup_model($node, $provider, server => 'good', lane => 'good', alias => 'good', is_default => 0);
$node->safe_psql('postgres', qq(
	CREATE ROLE stranger;
	CREATE TABLE ticket (id int PRIMARY KEY, body text, label jsonb, summary jsonb);
	INSERT INTO ticket SELECT i, 'The invoice of customer ' || i || ' is wrong' FROM generate_series(1, @{[ROWS]}) i));

$provider->script({ wrong_label => 1, latency_ms => 100 });
$node->safe_psql('postgres', q(UPDATE ticket SET label = llm_classify(body, '{billing,bug}')));
my $job = $node->safe_psql('postgres', 'SELECT max(id) FROM llm.job');
$node->safe_psql('postgres', q(UPDATE ticket SET summary = llm_summarize(body, 20, model => 'good') WHERE id <= 300));
my $other = $node->safe_psql('postgres', 'SELECT max(id) FROM llm.job');

$node->poll_query_until('postgres', "SELECT state = 'paused' FROM llm.job WHERE id = $job") or die 'not paused';
$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM llm.queue WHERE job = $job AND state <> 'ready'")
	or die 'the rest did not come back';
my $asked = $provider->meter->{requests};
cmp_ok($asked, '<', ROWS / 2, "paused after $asked requests of @{[2 * ROWS]}");
like($node->safe_psql('postgres', "SELECT why FROM llm.progress WHERE job = $job"),
	qr/^paused: \d+ of the last \d+ tasks failed; SELECT .*job = $job; .*llm.resume\(job => $job\); goes on$/,
		'it says why and what to type');
my ($code, $out, $err) = $node->psql('postgres', "CALL llm.wait(job => $job)");
like($err, qr/job $job is paused: /, 'nobody waits for it forever');
$node->safe_psql('postgres', "CALL llm.wait(job => $other, timeout => '60 seconds')");
is($node->safe_psql('postgres', "SELECT done FROM llm.job WHERE id = $other"), 300, 'P6: another job is not held up');

($code, $out, $err) = $node->psql('postgres', "SET ROLE stranger; SELECT llm.resume(job => $job)");
like($err, qr/job $job is not a paused job of yours/, "P9: not somebody else's to resume");
is($provider->meter->{requests}, $asked, 'nothing more was sent meanwhile');

$provider->script({});
my $failed = $node->safe_psql('postgres', "SELECT failed FROM llm.job WHERE id = $job");
$node->safe_psql('postgres', "SELECT llm.resume(job => $job)");
$node->safe_psql('postgres', "CALL llm.wait(job => $job, timeout => '60 seconds')");
is($node->safe_psql('postgres', "SELECT done, failed FROM llm.job WHERE id = $job"), (ROWS - $failed) . "|$failed",
	'resumed, the rest is answered');
is($node->safe_psql('postgres', "SELECT llm.retry(job => $job)"), $failed, 'and the failed ones can be retried');
wait_idle($node);
is($node->safe_psql('postgres', "SELECT count(*) FROM ticket WHERE llm_status(label) = 'done'"), ROWS, 'P2: every row has its answer');
ledger_equals_meter($node, $provider, 'P3: ledger equals meter', server => 'sim');

done_testing();
