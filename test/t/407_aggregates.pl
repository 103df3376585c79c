# Aggregates over rows: one question where all fits the model, else parts at the same time and their
# answers put together, in order; what it costs, and what becomes of it when something fails (P3, P4, P10).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use Encode ();
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use LLMTest;

my $provider = start_provider();
my $node = new_node('aggregates', 'llm_enrich.keep_answers = 1d', 'llm_enrich.notices = on');

setup_model($node, $provider);

sub requests { return $provider->meter->{requests}; }

# How many requests a statement makes.
sub asked
{
	my $before = requests();

	sql(@_);
	return requests() - $before;
}

# The texts of the last request.
sub texts
{
	my $body = decode_json($provider->last_body);

	return decode_json(Encode::encode_utf8($body->{messages}[-1]{content}));
}

# Context of the model, told by an option.
sub set_context
{
	my ($tokens) = @_;

	sql(qq(SELECT llm.alter_model('fast', options => '{"context_tokens": $tokens}')));
	return;
}

$provider->script({ latency_ms => 5 });
sql(q(
	CREATE TABLE t (id int PRIMARY KEY, g int, body text);
	INSERT INTO t VALUES (1, 1, 'The first text'), (2, 1, NULL), (3, 2, 'A "quoted" one'), (4, 2, E' \t\u00a0'),
		(5, 3, E'Two\nlines and a \\\\ and é'), (6, 3, 'The first text');));

# ---------------------------------------------------------------------------
# One question
# ---------------------------------------------------------------------------

like(sql(q(SELECT llm_summarize_agg(body ORDER BY id) FROM t)), qr/\w/, 'a summary of all rows');
is(requests(), 1, 'P3: is one request');
is_deeply(texts(), [ 'The first text', 'A "quoted" one', "Two\nlines and a \\ and \x{e9}", 'The first text' ],
	'of all texts in their order, but for NULL and blank ones');
is(sql(q(SELECT lane, operation, outcome, relation IS NULL, cost > 0 FROM llm.ledger)), 'immediate|summarize_agg|ok|t|t',
	'P3: and is on the ledger');
like(sql(q(SELECT llm_agg(body, 'Which "texts" are there?' ORDER BY id DESC) FROM t)), qr/\w/, 'an instruction of one\'s own');
is(texts()->[0], 'The first text', 'ORDER BY of the aggregate');
is(texts()->[3], 'The first text', 'to the last');
like($provider->last_body, qr/Do this task once, for all of the texts together: \\"Which \\\\\\"texts\\\\\\" are there\?\\"/,
	'the instruction is a JSON string');
sql(q(SELECT llm_agg(DISTINCT body, 'a') FROM t));
is(scalar @{ texts() }, 3, 'DISTINCT');
sql(q(SELECT llm_agg(body, 'b') FILTER (WHERE g = 2) FROM t));
is_deeply(texts(), ['A "quoted" one'], 'FILTER');
is(asked(q(SELECT llm_agg(body, 'b') FILTER (WHERE g = 2) FROM t)), 0, 'P4: an answer is kept');
is(asked(q(SELECT llm_agg(body, 'c'), count(*) FROM t HAVING llm_agg(body, 'c') <> '')), 1,
	'P3: an aggregate that stands twice is asked once');
is(asked(q(SELECT (SELECT llm_agg(body, 'd') FROM t u WHERE u.g = t.g) FROM t GROUP BY g)), 3, 'in a sub-select');
is(asked(q(SELECT g, llm_agg(body, 'e') FROM t GROUP BY g ORDER BY g LIMIT 2)), 2, 'P3: LIMIT bounds the groups that are asked about');
is(asked(q(SELECT g, llm_agg(body, 'f') FROM t GROUP BY g HAVING count(*) > 5)), 0, 'P3: HAVING without an aggregate of ours comes first');
is(asked(q(SELECT g, llm_agg(body, 'g') FROM t GROUP BY GROUPING SETS ((g), ()))), 4, 'grouping sets');
is(asked(q(SELECT * FROM (SELECT g, llm_agg(body, 'h') AS a FROM t GROUP BY g) s JOIN t USING (g))), 3, 'below a join');
is(asked(q(DO $$ DECLARE a text; BEGIN SELECT llm_agg(body, 'i') INTO a FROM t; IF a IS NULL THEN RAISE 'none'; END IF; END $$)), 1,
	'in PL/pgSQL');
is(asked(q(PREPARE p (text) AS SELECT llm_agg(body, $1) FROM t; EXECUTE p ('j'); EXECUTE p ('k');)), 2, 'PREPARE');
is(asked(q(BEGIN; DECLARE c SCROLL CURSOR FOR SELECT g, llm_agg(body, 'l') FROM t GROUP BY g ORDER BY g;
	FETCH ALL FROM c; FETCH BACKWARD ALL FROM c; COMMIT)), 3, 'a cursor');
is(asked(q(SELECT llm_agg(body, 'm', NULL, '{"temperature": 0.5, "tags": {"team": "a"}}') FROM t)), 1, 'options');
is(sql(q(SELECT tags FROM llm.ledger ORDER BY id DESC LIMIT 1)), '{"team": "a"}', 'tags are on the ledger');
is(asked(q(SELECT llm_agg(DISTINCT body, 'n'), llm_summarize_agg(body, 7) FROM t)), 2, 'two of them');
ledger_equals_meter($node, $provider, 'P3: ledger and meter agree');

# What it says of itself.
like(error_of(q(SELECT llm_agg(body, 'told') FROM t)), qr/NOTICE:  00000: 1 call, 0\.\d+ US dollars/, 'a NOTICE');
like(sql(q(EXPLAIN (ANALYZE, COSTS OFF) SELECT llm_agg(body, 'told again') FROM t)), qr/Asked: 1\n/, 'EXPLAIN ANALYZE');
like(sql(q(EXPLAIN SELECT llm_agg(body, 'told') FROM t)), qr/Estimated Calls: 1\n/, 'EXPLAIN estimates');

# ---------------------------------------------------------------------------
# Groups at the same time
# ---------------------------------------------------------------------------

sql(q(CREATE TABLE grouped AS SELECT i AS id, i % 24 AS g, 'group ' || i % 24 || ' row ' || i AS body FROM generate_series(1, 240) i;
	ANALYZE grouped));
$provider->script({ latency_ms => 1000 });
my $query = q(SELECT g, llm_summarize_agg(body ORDER BY id), count(*) FROM grouped GROUP BY g ORDER BY g);
my $began = time;
my $many = sql($query);
my $took = time - $began;
note("24 groups at 1 s: $took s");
cmp_ok($took, '<', 24 * 0.75, 'groups are in flight together');
$provider->script({ latency_ms => 0 });
is(sql('SET llm_enrich.max_in_flight = 1;', $query), $many, 'and each has its own answer');
is(sql(q(SELECT count(*) FROM llm.letter)), 0, 'no letter is left');

# ---------------------------------------------------------------------------
# Parts
# ---------------------------------------------------------------------------

# 400 bytes are 100 tokens to the simulated provider.
sql(q(CREATE TABLE big AS SELECT i AS id, rpad('row ' || i || ' [[mark:' || i || ']] ', 400, 'abc ') AS body
	FROM generate_series(1, 10000) i;
	ANALYZE big));
set_context(100000);
$provider->script({ latency_ms => 100, context_tokens => 100000 });
my $marks = scalar keys %{ $provider->marks };
is($marks, 0, 'no mark was sent yet');
my $calls = asked(q(SELECT llm_summarize_agg(body ORDER BY id) FROM big));
note("10,000 rows of 100 tokens, 100,000 fit: $calls calls");
cmp_ok($calls, '<=', 12, 'P10: 10,000 rows of 100 tokens: at most 12 calls where 100,000 tokens fit');
cmp_ok($calls, '>=', 11, 'and as many as it takes');
is(sql(qq(SELECT count(*) FILTER (WHERE outcome <> 'ok') FROM (SELECT outcome FROM llm.ledger ORDER BY id DESC LIMIT $calls) l)),
	0,
	'none of them was too long');
my @last = map { /\[\[mark:(\d+)\]\]/ ? $1 : 0 } @{ texts() };
is(scalar @last, $calls - 1, 'the last one has the answers of all parts');
is_deeply(\@last, [ sort { $a <=> $b } @last ], 'in the order of the parts');
is($last[0], 1, 'from the first row on');
ledger_equals_meter($node, $provider, 'P3: ledger and meter agree');
is(asked(q(SELECT llm_summarize_agg(body ORDER BY id) FROM big)), 0, 'P4: all of it is kept');

like(sql(q(SELECT calls, input_tokens FROM llm.estimate('SELECT llm_summarize_agg(body, 40 ORDER BY id) FROM big'))),
	qr/^1[12]\|1[01]\d{5}$/, 'an estimate knows the parts');

# The parts are at the same time, also where no node stands above.
$provider->script({ latency_ms => 5000 });
$began = time;
sql(q(SELECT (SELECT llm_summarize_agg(body, 20 ORDER BY id) FROM big WHERE id % 2 = n) FROM generate_series(1, 1) n));
$took = time - $began;
note("half of it at 5 s: $took s");
cmp_ok($took, '<', 20, 'parts are in flight together');

# More than the model takes, and texts that do not fit alone.
set_context(20000);
$provider->script({ context_tokens => 8000 });
$calls = asked(q(SELECT llm_agg(body, 'too long' ORDER BY id) FROM big WHERE id <= 150));
cmp_ok($calls, '>', 3, 'what the model refuses as too long is asked about in halves');
is(sql(qq(SELECT bool_and(outcome IN ('ok', 'error')), bool_or(outcome = 'error') FROM (SELECT outcome FROM llm.ledger ORDER BY id DESC LIMIT $calls) l)),
	't|t', 'P3: and what was refused is on the ledger');
$calls = asked(q(SET llm_enrich.max_in_flight = 2;
	SELECT (SELECT llm_agg(body, 'equal parts')
		FROM (VALUES (repeat('alpha ', 8000)), (repeat('alpha ', 8000)), (repeat('beta ', 9600))) v(body))));
cmp_ok($calls, '>', 3, 'also parts that are equal and share a letter, beside as many as may be in flight');
$provider->script({ latency_ms => 0 });
set_context(2000);
$calls = asked(q(SELECT llm_agg(string_agg, 'one long text') FROM (SELECT string_agg(body, ' ' ORDER BY id) FROM big WHERE id <= 50) s));
cmp_ok($calls, '>=', 4, 'a text that does not fit is cut');
$calls = asked(q(SELECT llm_summarize_agg(body, 300 ORDER BY id) FROM big WHERE id <= 100));
cmp_ok($calls, '>', 10, 'small models are asked in more stages');
ledger_equals_meter($node, $provider, 'P3: ledger and meter agree');

# ---------------------------------------------------------------------------
# What goes wrong
# ---------------------------------------------------------------------------

# 500 rows of 100 tokens are six parts of 10,000 tokens.
set_context(10000);
my $failing = q(SELECT llm_agg(body, 'fail' ORDER BY id) FROM big WHERE id <= 500);
$provider->script({ latency_ms => 50,
	sequence => [ { match => 'row 200 ', times => 1, action => 'status', status => 400, delay_ms => 3000,
			body => { error => { message => 'this text is not liked', type => 'invalid_request_error' } } } ] });
like(error_of($failing), qr/38000: llm_agg\(\) got no answer: rejected: .*not liked/, 'a part that fails is an error');
$node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM llm.letter)') or die 'letters stay';
$provider->script({ latency_ms => 5 });
is(asked($failing), 2, 'P4: asked again, the part that failed and the last stage: the others were kept');
like(error_of(q(SET llm_enrich.max_immediate_calls = 2; SELECT llm_agg(body, 'dear' ORDER BY id) FROM big WHERE id <= 500)),
	qr/54000: the command has asked 2 times already/, 'P10: parts are calls of the command');
like(error_of(q(SET llm_enrich.max_cost = 0.000001; SELECT llm_agg(body, 'dearer' ORDER BY id) FROM big WHERE id <= 500)),
	qr/55000: llm_agg\(\) got no answer/, 'P8: and have its cap');
$provider->script({ status => 400, body => { error => { message => 'no', type => 'invalid_request_error' } } });
is(sql(q(SET llm_enrich.on_error = 'null'; SELECT llm_agg(body, 'null' ORDER BY id) IS NULL FROM big WHERE id <= 500)), 't',
	'on_error null: NULL, and not an answer about a part');
$provider->script({ latency_ms => 3000 });
my $interrupted = error_of(q(SET statement_timeout = '500ms';
	DO $$ DECLARE a text; began timestamptz := clock_timestamp(); BEGIN
		SELECT llm_agg(body, 'slow' ORDER BY id) INTO a FROM big WHERE id <= 500;
	EXCEPTION WHEN query_canceled THEN RAISE NOTICE 'after % ms', round(1000 * extract(epoch FROM clock_timestamp() - began)); END $$;));
like($interrupted, qr/after \d+ ms/, 'a time-out ends the wait for parts');
cmp_ok($interrupted =~ /after (\d+) ms/ ? $1 : 9999, '<', 2500, 'before an answer comes');
$node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM llm.letter)') or die 'letters stay';
ledger_equals_meter($node, $provider, 'P3: ledger and meter agree');

# Who may
$provider->script({ latency_ms => 0 });
sql('CREATE ROLE guest; GRANT SELECT ON t TO guest');
like(error_of(q(SET ROLE guest; SELECT llm_agg(body, 'guest') FROM t)), qr/42501: role "guest" may not use server/, 'P9: without USAGE nobody asks');
sql('GRANT USAGE ON FOREIGN SERVER sim TO guest');
is(sql(q(SET ROLE guest; SELECT llm_agg(body, 'guest') IS NOT NULL FROM t)), 't', 'P9: with it he does');

done_testing();
