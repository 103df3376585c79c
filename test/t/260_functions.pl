# Functions that give a boolean, a number or text: answered at once where nothing is written, and
# into columns of any type where it is (P2, P3, P5).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest qw(!error_of);

my $provider = start_provider();
my $node = new_node('functions');

setup_model($node, $provider);

sub error_of
{
	my ($stdout, $stderr);

	$node->psql('postgres', join("\n", @_), stdout => \$stdout, stderr => \$stderr);
	return $stderr;
}

# What the model says to a text with that word in it
$provider->script({
	latency_ms => 1,
	answers => {
		'yes' => '{"match": true}',
		'no' => '{"match": false}',
		'seven' => '{"score": 7}',
		'quarter' => '{"score": 0.25}' }
});
sql(q(CREATE TABLE t (id int PRIMARY KEY, body text, ok boolean, x float8, i int, n numeric(6,3), words text,
	doc jsonb);
	INSERT INTO t (id, body) VALUES (1, 'yes'), (2, 'no'), (3, 'yes again'), (4, NULL);));

# ---------------------------------------------------------------------------
# In a SELECT
# ---------------------------------------------------------------------------

is(sql(q(SELECT llm_filter('yes', 'is it?'), llm_filter('no', 'is it?'), llm_filter(NULL, 'is it?') IS NULL)),
	't|f|t',
	'llm_filter() gives a boolean');
is(sql(q(SELECT llm_score('seven', 'how much?', 0, 10), llm_score('quarter', 'how much?') + 1)), '7|1.25',
	'llm_score() gives a number');
is(sql(q(SELECT id FROM t WHERE llm_filter(body, 'is it?') ORDER BY id)), "1\n3", 'llm_filter() in WHERE');
is(sql(q(SELECT count(*) FROM t WHERE NOT llm_filter(body, 'is it?'))), 1, 'NULL is neither');
is(sql(q(DO $$ BEGIN IF NOT llm_filter('yes', 'is it?') THEN RAISE 'no'; END IF; END $$; SELECT 1)), 1, 'and in PL/pgSQL');
like(error_of(q(SELECT llm_score('yes', 'how much?'))), qr/got no answer: invalid_output/, 'an answer to another question is none');

# ---------------------------------------------------------------------------
# Into columns
# ---------------------------------------------------------------------------

sql(q(UPDATE t SET ok = llm_filter(body, 'is it?'), words = llm_filter(body, 'is it?'), doc = to_jsonb(llm_filter(body, 'is it?'))));
wait_idle($node);
is(sql('SELECT id, ok, words, doc FROM t ORDER BY id'), "1|t|true|true\n2|f|false|false\n3|t|true|true\n4|||",
	'P5: a boolean in columns of three types');
sql(q(UPDATE t SET body = CASE id WHEN 1 THEN 'seven' ELSE 'quarter' END;
	UPDATE t SET x = llm_score(body, 'u', 0, 10), i = llm_score(body, 'u', 0, 10)::int + id, n = llm_score(body, 'u', 0, 10) / 3));
wait_idle($node);
is(sql('SELECT id, x, i, n FROM t WHERE id < 4 ORDER BY id'), "1|7|8|2.333\n2|0.25|2|0.083\n3|0.25|3|0.083",
	'P5: a number in columns of three types, and in expressions');
sql(q(INSERT INTO t (id, body, ok) VALUES (5, 'five', llm_filter('yes', 'is it?')), (6, 'six', false),
	(7, 'seven', llm_filter('no', 'is it?')),
	(1, 'one', llm_filter('no', 'is it?')) ON CONFLICT (id) DO UPDATE SET ok = EXCLUDED.ok));
wait_idle($node);
is(sql('SELECT id, ok FROM t WHERE id IN (1, 5, 6, 7) ORDER BY id'), "1|f\n5|t\n6|f\n7|f", 'P5: rows of VALUES, and EXCLUDED');
is(sql('SELECT count(*) FROM llm.dead_letter'), 0, 'P2: none failed');
ledger_equals_meter($node, $provider, 'P3: ledger and meter agree');

done_testing();
