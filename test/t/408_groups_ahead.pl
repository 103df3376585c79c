# Groups of an aggregate of which each takes several stages: their last stages are in flight together, as
# their parts are; nothing is asked twice, and the order of groups and parts stays (P3, P4, P10).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

my $groups = 30;
my $provider = start_provider();
my $node = new_node('groups_ahead', 'llm_enrich.keep_answers = 1d', 'llm_enrich.max_in_flight = 32');

setup_model($node, $provider);

# Requests on the ledger since a row of it, and how many of them brought an answer.
sub ledger_since
{
	my ($id) = @_;

	return sql(qq(SELECT count(*), count(*) FILTER (WHERE outcome = 'ok') FROM llm.ledger WHERE id > $id AND outcome <> 'cached'));
}

sub last_row { return sql('SELECT coalesce(max(id), 0) FROM llm.ledger'); }

# 60 rows of 100 tokens to a group, where 4,000 fit: two parts, and one question about their answers.
sql(qq(
	SELECT llm.alter_model('fast', options => '{"context_tokens": 4000}');
	CREATE TABLE t AS SELECT i AS id, i % $groups AS g,
			rpad('group ' || i % $groups || ' row ' || i || ' [[mark:' || i || ']] ', 400, 'abc ') AS body
		FROM generate_series(0, $groups * 60 - 1) i;
	ANALYZE t;));
my $query = q(SELECT g, llm_summarize_agg(body ORDER BY id) FROM t GROUP BY g ORDER BY g);
my $last = 'is a summary for one part';

# ---------------------------------------------------------------------------
# Parts, and no last stage: they are kept
# ---------------------------------------------------------------------------

$provider->script({ sequence => [ { match => $last, times => -1, action => 'status', status => 400,
			body => { error => { message => 'no', type => 'invalid_request_error' } } } ] });
is(sql("SET llm_enrich.on_error = 'null'; SELECT count(*), count(llm_summarize_agg) FROM ($query) s"), "$groups|0",
	'without their last stage groups are NULL');
is($provider->meter->{requests}, 3 * $groups, 'P3: two parts and a last stage of each group were asked, and none twice');
is(sql(q(SELECT count(*) FILTER (WHERE outcome = 'ok') FROM llm.ledger)), 2 * $groups, 'P3: the parts have answers');
ledger_equals_meter($node, $provider, 'P3: ledger and meter agree');

# ---------------------------------------------------------------------------
# Last stages
# ---------------------------------------------------------------------------

my $since = last_row();
$provider->reset;
$provider->script({ latency_ms => 500 });
my $many = sql($query);
my $meter = $provider->meter;
is($meter->{requests}, $groups, 'P4: what is kept is not asked again, the last stages are');
is(ledger_since($since), "$groups|$groups", 'P3: each is on the ledger');
cmp_ok($meter->{max_in_flight}, '>=', 8, 'P10: last stages of several groups are in flight together');
cmp_ok($meter->{max_in_flight}, '<=', 32, 'and no more than may be');
note("most in flight: $meter->{max_in_flight}");
is(scalar(my @rows = split /\n/, $many), $groups, 'every group has an answer');

# ---------------------------------------------------------------------------
# Both at once, none kept
# ---------------------------------------------------------------------------

sql('ALTER SYSTEM SET llm_enrich.keep_answers = 0; SELECT pg_reload_conf()');
$node->poll_query_until('postgres', q(SELECT current_setting('llm_enrich.keep_answers') = '0'))
  or die 'the setting does not come';
$provider->reset;
$provider->script({ latency_ms => 100 });
$since = last_row();
is(sql($query), $many, 'from the beginning: the same rows');
$meter = $provider->meter;
is($meter->{requests}, 3 * $groups, 'P3: parts and last stages, none twice');
note("most in flight: $meter->{max_in_flight}");
is(ledger_since($since), 3 * $groups . '|' . 3 * $groups, 'P3: all on the ledger');
cmp_ok($meter->{max_in_flight}, '<=', 32, 'P10: no more in flight than may be');
$provider->reset;
is(sql('SET llm_enrich.max_in_flight = 1;', $query), $many, 'one after the other: the same rows');
is($provider->meter->{max_in_flight}, 1, 'which are');
like(sql("EXPLAIN (ANALYZE, COSTS OFF) $query"), qr/Asked: ${\(3 * $groups)}\n/, 'EXPLAIN counts each once');

# A LIMIT bounds the groups, and with them their stages.
$provider->reset;
sql("$query LIMIT 5");
is($provider->meter->{requests}, 15, 'P10: LIMIT asks about its groups only, in all their stages');

# More stages than two.
$provider->reset;
sql(q(SELECT llm.alter_model('fast', options => '{"context_tokens": 1000}')));
my $deep = q(SELECT g, llm_summarize_agg(body, 100 ORDER BY id) FROM t WHERE g < 6 GROUP BY g ORDER BY g);
$many = sql($deep);
my $asked = $provider->meter->{requests};
cmp_ok($asked, '>', 6 * 10, 'small models are asked in more stages');
$provider->reset;
is(sql('SET llm_enrich.max_in_flight = 1;', $deep), $many, 'in the same order as one after the other');
is($provider->meter->{requests}, $asked, 'P3: by as many requests');

# What is refused as too long is left to the group's turn.
$provider->reset;
$provider->script({ latency_ms => 20, context_tokens => 600 });
is(sql("SELECT count(llm_summarize_agg) FROM ($deep) s"), 6, 'parts that are too long are halved');
$node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM llm.letter)') or die 'letters stay';

# A group that fails, and what comes before it.
$provider->reset;
sql(q(SELECT llm.alter_model('fast', options => '{"context_tokens": 4000}')));
$provider->script({ latency_ms => 20,
	sequence => [ { match => 'group 3 row', times => -1, action => 'status', status => 400,
			body => { error => { message => 'this group is not liked', type => 'invalid_request_error' } } } ] });
is(sql(qq(SET llm_enrich.on_error = 'null'; SELECT string_agg(g::text, ',' ORDER BY g) FROM ($query) s WHERE llm_summarize_agg IS NULL)),
	3, 'P4: a group that fails ahead of its turn is the only one without an answer');
my ($stdout, $stderr);
$node->psql('postgres', $query, stdout => \$stdout, stderr => \$stderr);
like($stderr, qr/got no answer: rejected: .*not liked/, 'and an error otherwise');
$node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM llm.letter)') or die 'letters stay';

# The guard of a command counts all stages.
$provider->reset;
$node->psql('postgres', "SET llm_enrich.max_immediate_calls = 20; $query", stdout => \$stdout, stderr => \$stderr);
like($stderr, qr/the command has asked 20 times already/, 'P10: stages ahead are calls of the command');
$node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM llm.letter)') or die 'letters stay';
cmp_ok($provider->meter->{requests}, '<=', 20, 'and no more is asked');

done_testing();
