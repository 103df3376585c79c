# Many calls of one SELECT are in flight at the same time, and the rows are those that came one
# after the other, in the same order; what is asked is what is wanted (P3, P10).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use LLMTest;

my $provider = start_provider();
my $node = new_node('many', 'llm_enrich.max_immediate_calls = 1000000');

setup_model($node, $provider);

sub requests { return $provider->meter->{requests}; }

# A statement's rows, one row after the other and many in flight; and how many requests the latter made.
sub compare
{
	my ($statement, $name) = @_;
	my $one = sql("SET llm_enrich.max_in_flight = 1; $statement");
	my $before = requests();
	my $many = sql($statement);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($many, $one, $name);
	return requests() - $before;
}

# The answer is a function of the input: a label chosen by words of it.
$provider->script({ latency_ms => 2, latency_jitter_ms => 6 });
sql(q(
	CREATE TABLE a (id int PRIMARY KEY, kind int, body text);
	INSERT INTO a SELECT i, i % 7, (ARRAY['billing', 'crash', 'refund'])[i % 3 + 1] || ' of number ' || i FROM generate_series(1, 60) i;
	CREATE TABLE b (id int PRIMARY KEY, a int, note text);
	INSERT INTO b SELECT i, (i * 13) % 60 + 1, CASE WHEN i % 5 = 0 THEN NULL ELSE 'crash ' || i % 4 END FROM generate_series(1, 90) i;
	CREATE TABLE c (kind int, word text);
	INSERT INTO c SELECT i, 'refund ' || i FROM generate_series(0, 6) i;
	CREATE FUNCTION lab(text) RETURNS text LANGUAGE sql AS $$
		SELECT llm_classify($1, '{billing,crash,refund}')->>'label' $$;
	ANALYZE));

# The rows that a statement gives are its own, whatever stands around the call.
my @statements = (
	q(SELECT id, lab(body) FROM a ORDER BY id),
	q(SELECT id, lab(body) FROM a),
	q(SELECT id FROM a WHERE lab(body) = 'crash'),
	q(SELECT id, lab(body) FROM a WHERE lab(body) <> 'crash' AND id > 10),
	q(SELECT id, lab(body) FROM a WHERE lab(body) <> 'crash' AND lab('x' || body) = 'billing'),
	q(SELECT lab('crash'), count(*) FROM a GROUP BY 1),
	q(SELECT lab(body), count(*) FROM a GROUP BY 1 ORDER BY 1),
	q(SELECT kind, lab(string_agg(body, ' ' ORDER BY id)) FROM a GROUP BY kind ORDER BY kind),
	q(SELECT kind, count(*) FROM a GROUP BY kind HAVING lab(max(body)) = 'refund' ORDER BY kind),
	q(SELECT id, CASE WHEN kind = 0 THEN NULL WHEN kind < 4 THEN lab(body) ELSE 'none' END FROM a ORDER BY id),
	q(SELECT id, coalesce(nullif(kind, 3)::text, lab(body)) FROM a ORDER BY id),
	q(SELECT id FROM a WHERE kind = 1 OR lab(body) = 'crash' ORDER BY id),
	q(SELECT id FROM a WHERE kind = 1 AND lab(body) = 'crash' ORDER BY id),
	q(SELECT id, CASE lab(body) WHEN 'crash' THEN lab('billing ' || body) ELSE body END FROM a ORDER BY id),
	q(SELECT a.id, b.id, lab(a.body), lab(b.note) FROM a JOIN b ON b.a = a.id ORDER BY 1, 2),
	q(SELECT a.id, b.id, lab(coalesce(b.note, a.body)) FROM a LEFT JOIN b ON b.a = a.id ORDER BY 1, 2),
	q(SELECT a.id FROM a JOIN c USING (kind) WHERE lab(a.body) = lab(c.word) ORDER BY 1),
	q(SELECT a.id, b.id FROM a LEFT JOIN b ON b.a = a.id AND lab(b.note) = 'crash' ORDER BY 1, 2),
	q(SELECT id, (SELECT lab(word) FROM c WHERE c.kind = a.kind) FROM a ORDER BY id),
	q(SELECT id FROM a WHERE EXISTS (SELECT FROM b WHERE b.a = a.id AND lab(b.note) = 'crash') ORDER BY id),
	q(SELECT id, lab(body) FROM a ORDER BY id LIMIT 7),
	q(SELECT id, lab(body) FROM a ORDER BY id LIMIT 7 OFFSET 5),
	q(SELECT id, lab(body) FROM a ORDER BY id OFFSET 50),
	q(SELECT id, lab(body) AS l FROM a ORDER BY l, id DESC LIMIT 9),
	q(SELECT id, lab(body) FROM a ORDER BY kind FETCH FIRST 3 ROWS WITH TIES),
	q(SELECT DISTINCT lab(body) FROM a ORDER BY 1),
	q(SELECT DISTINCT ON (kind) kind, lab(body) FROM a ORDER BY kind, id),
	q(SELECT id, lab(body), row_number() OVER (PARTITION BY lab(body) ORDER BY id) FROM a ORDER BY id),
	q(SELECT id, lab(first_value(body) OVER (ORDER BY id DESC)) FROM a ORDER BY id),
	q(SELECT lab(body) FROM a WHERE id < 5 UNION ALL SELECT lab(note) FROM b WHERE id < 5),
	q(SELECT lab(body) FROM a WHERE id < 9 UNION SELECT lab(note) FROM b WHERE id < 9 ORDER BY 1),
	q(SELECT lab(body) FROM a EXCEPT SELECT 'crash' ORDER BY 1),
	q(WITH w AS (SELECT id, lab(body) AS l FROM a) SELECT l, count(*) FROM w GROUP BY l ORDER BY l),
	q(WITH w AS (SELECT id, lab(body) AS l FROM a ORDER BY id) SELECT * FROM w WHERE l = 'crash' LIMIT 4),
	q(SELECT * FROM (SELECT id, lab(body) AS l FROM a) s WHERE l <> 'crash' ORDER BY id),
	q(SELECT * FROM (SELECT id, lab(body) AS l FROM a OFFSET 0) s
		JOIN b ON b.a = s.id AND s.l = 'refund' ORDER BY b.id),
	q(SELECT x, lab(x) FROM (VALUES ('crash'), (NULL), ('refund')) v(x)),
	q(SELECT lab(body), lab(body) FROM a WHERE id < 4),
	q(SELECT a, lab((a).body) FROM a WHERE id < 4 ORDER BY id),
	q(SELECT g, lab('crash ' || g) FROM generate_series(1, 5) g),
	q(SELECT id, lab(body) FROM a TABLESAMPLE SYSTEM (100) ORDER BY id),
	q(SELECT id, ARRAY[lab(body), lab('x' || body)] FROM a ORDER BY id),
	q(SELECT id, lab(lab(body)) FROM a ORDER BY id),
	q(SELECT sum(length(lab(body))) FROM a),
	q(SELECT count(*) FILTER (WHERE lab(body) = 'crash') FROM a),
	q(SELECT kind, count(lab(body)), string_agg(lab(body), ',' ORDER BY id), max(lab(body)) FILTER (WHERE id > 9)
		FROM a GROUP BY kind HAVING min(lab(body)) <> 'x' ORDER BY kind),
	q(SELECT kind, count(DISTINCT lab(body)), count(lab(note)) FROM a LEFT JOIN b ON b.a = a.id
		GROUP BY ROLLUP (kind) ORDER BY 1),
	q(SELECT lab(max(lab(body))) FROM a),
	q(SELECT id, lab(body) FROM a WHERE id IN (SELECT a FROM b WHERE note = 'crash 1') ORDER BY id),
	q(BEGIN; DECLARE s SCROLL CURSOR FOR SELECT id, lab(body) FROM a ORDER BY id;
		FETCH 3 FROM s; FETCH BACKWARD 2 FROM s; FETCH LAST FROM s; COMMIT),
	q(PREPARE p (int) AS SELECT id, lab(body) FROM a WHERE id < $1 ORDER BY id LIMIT $1 - 2;
		EXECUTE p (7); EXECUTE p (5)),
	q(SELECT id, lab(body) FROM a WHERE lab(body) = (SELECT lab('crash')) ORDER BY id),
	q(SELECT k.kind, s.l FROM c k
		CROSS JOIN LATERAL (SELECT lab(body) AS l FROM a WHERE a.kind = k.kind LIMIT 2) s ORDER BY 1),
);
compare($_, $_) foreach @statements;

# ---------------------------------------------------------------------------
# What is paid
# ---------------------------------------------------------------------------

sql(q(CREATE TABLE big AS SELECT i AS id, 'crash ' || i AS body FROM generate_series(1, 100000) i; ANALYZE big));
is(compare('SELECT lab(body) FROM big LIMIT 50', 'LIMIT'), 50, 'P3: LIMIT 50 is 50 requests');
is(compare('SELECT lab(body) FROM big LIMIT 5 OFFSET 20', 'OFFSET'), 5, 'P3: rows that OFFSET skips are not asked about');
is(compare('SELECT CASE WHEN id % 10 = 0 THEN lab(body) END FROM big LIMIT 50', 'CASE'), 5, 'P3: CASE asks where it is reached');
my $asked = compare(q(SELECT id FROM big
	WHERE lab(CASE WHEN id % 10 = 0 THEN 'crash ' ELSE 'refund ' END || id) = 'crash' LIMIT 10), 'a filter');
cmp_ok($asked, '>=', 100, 'P3: a filter asks for what is found');
cmp_ok($asked, '<=', 100 + 64, 'P10: and what was in flight');

# ---------------------------------------------------------------------------
# How far ahead, before the first answer is there
# ---------------------------------------------------------------------------

# 20 rows, all of which are wanted for certain: all are asked at once.  Doubling comes to 16 at most.
my $twenty = 'FROM big WHERE id BETWEEN 200 AND 219';
my @all_at_once = (
	"SELECT lab('a' || body) $twenty",
	"SELECT count(lab('b' || body)) $twenty",
	"SELECT id, lab('c' || body) $twenty ORDER BY 2, 1 LIMIT 1",
	"SELECT id $twenty AND lab('d' || body) = 'crash'",
	"SELECT lab('e' || body) FROM (SELECT body $twenty) s LIMIT 20");
like(sql("EXPLAIN (ANALYZE, COSTS OFF) $_"), qr/Most In Flight: 20\b/, "at once: $_") foreach @all_at_once;
# ... and where one may be enough, one is asked
my $first = requests();
sql("SELECT id FROM (SELECT id, lab('f' || body) AS l $twenty OFFSET 0) s WHERE l IS NOT NULL LIMIT 1");
is(requests() - $first, 1, 'P3: below a LIMIT that does not bound its rows, one at a time first');
$first = requests();
sql("BEGIN; DECLARE one_of CURSOR FOR SELECT lab('g' || body) $twenty; FETCH 1 FROM one_of; COMMIT");
is(requests() - $first, 1, 'P3: so for a cursor');
# A call's cost is that of waiting: nothing is compiled for it.
unlike(sql("SET jit = on; EXPLAIN $_"), qr/JIT/, "no JIT: $_")
	foreach ('SELECT lab(body) FROM big', 'SELECT count(lab(body)) FROM big', q(SELECT lab(body) FROM big WHERE lab(body) > 'a' ORDER BY 1));

# ---------------------------------------------------------------------------
# Sub-selects
# ---------------------------------------------------------------------------

# What a sub-select asks, or what else it does, is not done once for the question ahead and once for the call.
sql(q(
	CREATE SEQUENCE drawn;
	CREATE TABLE one (kind int, word text);
	INSERT INTO one SELECT i, 'refund ' || i FROM generate_series(0, 6) i));
my $letter = q((SELECT word FROM one WHERE one.kind = a.kind));
my %once = (
	'an aggregate in a sub-select' => q(SELECT id, lab((SELECT llm_summarize_agg(b.note ORDER BY b.id) FROM b WHERE b.a = a.id)) FROM a ORDER BY id),
	'a call in a sub-select' => qq(SELECT id, lab('x' || (SELECT lab(word) FROM one WHERE one.kind = a.kind)) FROM a ORDER BY id),
	'a call in a sub-select of a sub-select' => q(SELECT id, lab((SELECT max(o.word) FROM one o
		WHERE o.kind = (SELECT length(lab(i.word)) FROM one i WHERE i.kind = a.kind))) FROM a ORDER BY id),
	'a call in a function of FROM' => q(SELECT id, lab((SELECT max(f) FROM unnest(ARRAY[lab(a.body)]) f)) FROM a ORDER BY id),
	'a call in WITH' => q(SELECT id, lab((WITH w AS MATERIALIZED (SELECT lab(word) AS l FROM one WHERE one.kind = a.kind)
		SELECT max(v.l) FROM w v JOIN w USING (l))) FROM a ORDER BY id),
	'a call in a condition of CASE' => qq(SELECT id, CASE WHEN (SELECT lab(word) FROM one WHERE one.kind = a.kind) = 'refund'
		THEN lab(body) END FROM a ORDER BY id),
	'a call in a FILTER' => q(SELECT kind, count(lab(body)) FILTER (WHERE EXISTS (SELECT FROM one
		WHERE one.kind = a.kind AND lab(one.word) = 'refund')) FROM a GROUP BY kind ORDER BY kind),
	'a call in COALESCE' => q(SELECT id, coalesce((SELECT nullif(lab(note), 'crash') FROM b WHERE b.id = a.id), lab(body)) FROM a ORDER BY id),
	'a call in a condition beside another' => q(SELECT id FROM a WHERE lab(body) <> 'crash'
		AND EXISTS (SELECT FROM b WHERE b.a = a.id AND lab(b.note) = 'crash') ORDER BY id),
	'a call of the rows below' => q(SELECT lab(l) FROM (SELECT (SELECT lab(word) FROM one WHERE one.kind = a.kind) AS l
		FROM a ORDER BY id OFFSET 0) s LIMIT 5));
foreach my $what (sort keys %once)
{
	my $before = requests();
	sql("SET llm_enrich.max_in_flight = 1; $once{$what}");
	my $one = requests() - $before;
	is(compare($once{$what}, "$what: rows"), $one, "P3: $what: is asked once");
}
sub drawn { return sql('SELECT last_value FROM drawn'); }
foreach my $statement (
	q(SELECT lab((SELECT word || nextval('drawn') FROM one WHERE one.kind = a.kind)) FROM a),
	q(SELECT lab((SELECT word FROM one WHERE one.kind = a.kind ORDER BY random() + nextval('drawn') LIMIT 1)) FROM a),
	q(SELECT CASE WHEN (SELECT nextval('drawn') FROM one WHERE one.kind = a.kind) > 0 THEN lab(body) END FROM a))
{
	sql(q(SELECT setval('drawn', 1)));
	sql($statement);
	is(drawn(), 61, "a volatile function in a sub-select is called once for a row: $statement");
}
sql(q(SELECT setval('drawn', 1)));
sql(q(SELECT lab(body) FROM (SELECT body, (SELECT nextval('drawn') FROM one WHERE one.kind = a.kind)
	FROM a OFFSET 0) s LIMIT 5));
is(drawn(), 6, 'and not for rows that are not wanted');
like(sql(qq(EXPLAIN (COSTS OFF) SELECT lab($letter) FROM a)), qr/Calls Ahead: 1/, 'other sub-selects are evaluated for rows ahead');

# ---------------------------------------------------------------------------
# How fast
# ---------------------------------------------------------------------------

$provider->script({ latency_ms => 50 });
my $began = time;
sql('SET llm_enrich.max_in_flight = 32; SELECT lab(body) FROM big LIMIT 1000');
my $took = time - $began;
note("1000 rows at 50 ms, 32 in flight: $took s");
cmp_ok($took, '<', 1000 * 0.050 / 4, 'many are in flight');
like(sql('EXPLAIN (COSTS OFF) SELECT lab(body) FROM big LIMIT 50'), qr/Custom Scan \(LlmAsk\)/, 'EXPLAIN shows the node');
ledger_equals_meter($node, $provider, 'P3: ledger and meter agree');


# Arguments of aggregates are, too, and those that a filter drops are not asked about.
$began = time;
my $counts = sql(q(SELECT count(lab(body)), count(*) FILTER (WHERE lab(body) = 'crash'),
	count(lab('refund ' || id)) FILTER (WHERE id % 50 = 0) FROM big WHERE id <= 500));
$took = time - $began;
note("1010 arguments at 50 ms: $took s");
is($counts, '500|500|10', 'arguments of aggregates');
cmp_ok($took, '<', 1010 * 0.050 / 4, 'are in flight together');
is(compare(q(SELECT count(lab('billing ' || id)) FILTER (WHERE id % 50 = 0) FROM big WHERE id <= 500), 'a filter'), 10,
	'P3: rows that a filter drops are not asked about');

# A function that somebody may notice is not called for rows ahead.
sql('CREATE SEQUENCE seen');
sql(q(SELECT lab(body) FROM (SELECT body, nextval('seen') FROM big OFFSET 0) s LIMIT 5));
is(sql(q(SELECT last_value FROM seen)), 5, 'no reading ahead over other volatile functions');

# ---------------------------------------------------------------------------
# Letters
# ---------------------------------------------------------------------------

# Two calls that ask the same, where one answer does not serve both, have an answer each, and none is asked in vain.
sub numbered
{
	my ($number) = @_;

	return { action => 'status', status => 200, body => { choices => [ { index => 0, finish_reason => 'stop',
		message => { role => 'assistant', content => qq({"text": "number $number"}) } } ],
		usage => { prompt_tokens => 10, completion_tokens => 5, total_tokens => 15 } } };
}
setup_model($node, $provider, server => 'numbered', lane => 'numbered', alias => 'numbered', is_default => 0);
$provider->script({ sequence => [ map { numbered($_) } 1 .. 20 ] }, 'numbered');
my $twice = q(llm_complete('p' || id, model => 'numbered', options => '{"temperature": 1}'));
is(sql(qq(SELECT count(DISTINCT n) FROM (SELECT $twice->>'text' AS a, $twice->>'text' AS b FROM a WHERE id <= 10) s,
	unnest(ARRAY[a, b]) n)), 20, 'calls that ask the same, at a temperature, have an answer each');
is($provider->meter('numbered')->{requests}, 20, 'P3: and nothing is asked in vain');

# Letters ahead leave room for the call that is waited for: here those of a cursor, to a call beside it.
$provider->script({});
my $before_long = requests();
is(sql(q(
	SET llm_enrich.patience = '60s';
	BEGIN;
	DECLARE ahead CURSOR FOR SELECT n, length(lab(repeat('x', n) || i)) > 0
		FROM (VALUES (1, 1), (2, 2), (3, 3), (4, 36000000), (5, 36000001), (6, 36000002), (7, 36000003),
			(8, 5)) v(i, n);
	FETCH 3 FROM ahead;
	SELECT length(lab(repeat('y', 30000000))) > 0;
	FETCH ALL FROM ahead;
	COMMIT)), join("\n", '1|t', '2|t', '3|t', 't', '36000000|t', '36000001|t', '36000002|t', '36000003|t', '5|t'),
	'P10: letters ahead, as many bytes as there may be, do not keep a call from asking');
is(requests() - $before_long, 9, 'P3: each is asked once');

# A session that is ended with many in flight leaves no letter behind, and the server as it was.
$provider->script({ latency_ms => 1000 });
my $session = $node->background_psql('postgres', on_error_stop => 0);
my $pid = $session->query('SELECT pg_backend_pid()');
$session->query_until(qr/start/, "\\echo start\nSELECT count(lab(body)) FROM (SELECT body, lab(body) FROM big LIMIT 500) s;\n");
$node->poll_query_until('postgres', 'SELECT count(*) > 1 FROM llm.letter') or die 'not many are in flight';
my $started = sql('SELECT pg_postmaster_start_time()');
sql("SELECT pg_terminate_backend($pid)");
$node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM llm.letter)') or die 'letters stay';
is(sql('SELECT pg_postmaster_start_time()'), $started, 'the server lives');
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid"), 'the session has left');
ledger_equals_meter($node, $provider, 'P3: what it had asked is on the ledger', server => 'sim');
eval { $session->quit };

done_testing();
