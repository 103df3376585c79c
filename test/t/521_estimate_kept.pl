# Rows whose answers are kept cost nothing: what is said before a statement runs knows it, and so does what makes a
# dear statement wait.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

my $provider = start_provider();
my $node = new_node('estimate_kept', 'llm_enrich.keep_answers = 1d', 'fsync = off', 'log_min_messages = warning');

setup_model($node, $provider);

# Standard error of a session, where notices are.
sub notices
{
	my ($stdout, $stderr);

	$node->psql('postgres', join("\n", @_), stdout => \$stdout, stderr => \$stderr);
	return $stderr;
}

# tasks, calls, input tokens, the costs, seconds: of a statement; what comes before it is typed first.
sub estimate
{
	my ($statement, @before) = @_;

	return split /\|/, sql(@before, 'SELECT * FROM llm.estimate(' . LLMTest::quoted($statement) . ')');
}

sub calls { return (estimate(@_))[1]; }

my $call = q(llm_classify(body, '{billing,bug,feature,other}'));

sql(q(
	CREATE TABLE t (id int PRIMARY KEY, body text, label jsonb);
	INSERT INTO t SELECT i, 'text ' || i FROM generate_series(1, 40) i;
	ANALYZE t;));
is(calls("UPDATE t SET label = $call"), 40, 'nothing is kept: all rows are asked about');
unlike(notices("SELECT FROM llm.estimate('SELECT 1')"), qr/kept/, 'and nothing is said of kept answers');
sql("SELECT $call FROM t WHERE id <= 25");
is($provider->meter->{requests}, 25, 'some rows are asked about');

my ($tasks, $calls, undef, undef, $low, $high) = estimate("UPDATE t SET label = $call");

is("$tasks $calls", '40 15', 'what is kept is not asked again');
like(notices("SELECT FROM llm.estimate('UPDATE t SET label = ' || " . LLMTest::quoted($call) . ')'),
	qr/kept answers serve 25 calls more/, 'which is said');
is(calls("SELECT $call FROM t"), 15, 'nor by a SELECT');
is(join(' ', (estimate("SELECT $call FROM t WHERE id <= 25"))[ 1, 2, 4, 5, 6 ]), '0 0 0 0 0', 'all of it kept: it costs nothing');

# ---------------------------------------------------------------------------
# What is not the same is asked
# ---------------------------------------------------------------------------

is(calls(q(SELECT llm_classify(body, '{billing,bug,feature}') FROM t)), 40, 'another question is asked');
is(calls(q(SELECT llm_classify(body, '{billing,bug,feature,other}', options => '{"reuse": false}') FROM t)), 40,
	'so is one that wants no kept answer');
is(calls(q(SELECT llm_classify(body, '{billing,bug,feature,other}', options => '{"temperature": 0.5}') FROM t)), 40,
	'and one with a temperature');
sql(q(CREATE ROLE guest; GRANT USAGE ON FOREIGN SERVER sim TO guest; GRANT SELECT ON t TO guest));
is(calls("SELECT $call FROM t", 'SET ROLE guest;'), 40, 'P9: another role asks for itself, and learns of no answer');
sql("SET ROLE guest; SELECT $call FROM t WHERE id <= 3");
is(calls("SELECT $call FROM t", 'SET ROLE guest;'), 37, 'its own are kept, too');

# A key in the URL is not needed to know the question again.
setup_model($node, $provider, server => 'keyed', lane => 'keyed', alias => 'keyed', is_default => 0,
	options => { query => 'key=%s' });
sql(q(CREATE USER MAPPING FOR PUBLIC SERVER keyed OPTIONS (api_key 'k-123456')));
sql("SET llm_enrich.model = 'keyed'; SELECT $call FROM t WHERE id <= 10");
is($provider->meter('keyed')->{requests}, 10, 'a server whose key stands in the URL is asked');
is(calls("SELECT $call FROM t", q(SET llm_enrich.model = 'keyed';)), 30, 'and its answers are known again');
is(calls("SELECT $call FROM t"), 15, 'beside those of the other one');

# Vectors are kept where that is asked for.
my $vector = q(llm_embed(body, options => '{"reuse": true}'));

sql("SELECT $vector FROM t WHERE id <= 12");
is(calls("SELECT $vector FROM t"), 28, 'vectors that are kept cost nothing');
is(calls('SELECT llm_embed(body) FROM t'), 40, 'those that are not are asked for');

# ---------------------------------------------------------------------------
# Dear statements wait, cheap ones do not
# ---------------------------------------------------------------------------

my $before = $provider->meter->{requests};

unlike(notices('SET llm_enrich.confirm_above = 0;', "UPDATE t SET label = $call WHERE id <= 25"), qr/paused/,
	'what is kept altogether need not wait');
wait_idle($node);
is(sql(q(SELECT count(*) FROM t WHERE label ? 'label')), 25, 'and is written');
my $told = notices('SET llm_enrich.confirm_above = 0;', "UPDATE t SET label = $call");
like($told, qr/rows queued and paused: 40, with 15 calls, for/, 'else only what is asked counts');
like($told, qr/Kept answers serve 25 calls more/, 'which is said');
is($provider->meter->{requests}, $before, 'nothing was sent');

my $billed = $provider->meter->{billed};
my ($job) = $told =~ /llm\.resume\(job => (\d+)\)/;

sql("SELECT llm.resume(job => $job)");
wait_idle($node);
is($provider->meter->{requests}, $before + 15, 'resumed, it asks what is not kept');
my $cost = ($provider->meter->{billed}{prompt_tokens} - $billed->{prompt_tokens}) * 0.25e-6 +
  ($provider->meter->{billed}{completion_tokens} - $billed->{completion_tokens}) * 2e-6;
cmp_ok($cost, '>=', $low, 'which costs no less than the estimate said');
cmp_ok($cost, '<=', $high, 'and no more');
ledger_equals_meter($node, $provider, 'P3: ledger and meter agree', server => 'sim');

# ---------------------------------------------------------------------------
# Of many rows some are looked up
# ---------------------------------------------------------------------------

sql(q(
	CREATE TABLE many (id int PRIMARY KEY, body text, label jsonb);
	INSERT INTO many SELECT i, 'one of many ' || i FROM generate_series(1, 9000) i;
	CREATE TABLE large AS SELECT i AS id, 'one of many ' || 1 + i % 3000 AS body FROM generate_series(1, 200000) i;
	ANALYZE many; ANALYZE large;));
sql('SET llm_enrich.max_immediate_calls = 10000;', "SELECT count(*) FROM (SELECT $call FROM many WHERE id <= 1500 OFFSET 0) s");
(undef, $calls) = estimate("UPDATE many SET label = $call");
cmp_ok(abs($calls - 7500), '<', 600, 'of many rows it is known about how many are kept');
(undef, $calls) = estimate("SELECT $call FROM large");
cmp_ok(abs($calls - 1500), '<', 300, 'so it is of a sample');
(undef, $calls) = estimate("SELECT $call FROM many WHERE id <= 1500");
is($calls, 0, 'and exactly, where they are fewer');
$told = notices('SET llm_enrich.confirm_above = 0;', "BEGIN; UPDATE many SET label = $call; ROLLBACK");
($calls) = $told =~ /with (\d+) calls/;
cmp_ok(abs($calls - 7500), '<', 600, 'likewise at the end of a statement');

done_testing();
