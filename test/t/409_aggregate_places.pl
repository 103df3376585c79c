# Aggregates of ours in all places where an aggregate may stand: how many requests each makes, that what can be
# decided without an answer is, and that what is refused says why (P3, P10).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

my $provider = start_provider();
my $node = new_node('aggregate_places');

setup_model($node, $provider);

# Four groups with texts, that of NULL among them, and one without.
sql(q(
	CREATE TABLE t (id int PRIMARY KEY, g int, body text);
	INSERT INTO t SELECT i, i % 3, 'text ' || i FROM generate_series(1, 12) i;
	INSERT INTO t VALUES (13, 3, NULL), (14, 3, '  '), (15, NULL, 'a text of no group');
	CREATE TABLE k AS SELECT i AS g, 'k' || i AS name FROM generate_series(0, 3) i;
	CREATE VIEW v AS SELECT g, llm_agg(body, 'view' ORDER BY id) AS a FROM t GROUP BY g;
	CREATE FUNCTION f(int) RETURNS text LANGUAGE sql AS 'SELECT llm_agg(body, $$function$$) FROM t WHERE g = $1';
	ANALYZE;));

# Each statement, the requests that it makes, and the rows that it gives.
my @places = (
	[ q(SELECT g, llm_agg(body, 'x') FROM t GROUP BY g), 4, 5 ],
	[ q(SELECT llm_agg(body, 'x') FROM t WHERE g = 3), 0, 1 ],
	[ q(SELECT llm_agg(body, 'x') FROM t WHERE false), 0, 1 ],
	[ q(SELECT llm_agg(body, 'x') FROM t WHERE false GROUP BY g), 0, 0 ],
	[ q(SELECT g, llm_agg(body, 'x') FILTER (WHERE id > 6) FROM t GROUP BY g), 4, 5 ],
	[ q(SELECT g, llm_agg(body, 'x') FILTER (WHERE id > 12) FROM t GROUP BY g), 1, 5 ],
	[ q(SELECT llm_agg(DISTINCT left(body, 4), 'x' ORDER BY left(body, 4)) FROM t), 1, 1 ],
	[ q(SELECT g, id % 2, llm_agg(body, 'x') FROM t WHERE g < 3 GROUP BY GROUPING SETS ((g, id % 2), (g), ())), 10, 10 ],
	# from 18 on a set's order is not that of its input, and all groups are sorted
	[ q(SELECT g, llm_agg(body, 'x') FROM t GROUP BY ROLLUP (g) ORDER BY g LIMIT 2), $node->pg_version >= 18 ? 5 : 2, 2 ],
	[ q(SELECT g, grouping(g), llm_agg(body, 'x') FROM t GROUP BY CUBE (g)), 5, 6 ],
	[ q(SELECT g, llm_agg(body, 'x'), llm_agg(body, 'x') || '!', llm_agg(body, 'y') FROM t GROUP BY g), 8, 5 ],
	[ q(SELECT g, CASE WHEN count(*) > 2 THEN llm_agg(body, 'x') END FROM t GROUP BY g), undef, 5 ],
	# HAVING: what needs no answer comes first, wherever it stands
	[ q(SELECT g FROM t GROUP BY g HAVING llm_agg(body, 'x') IS NOT NULL), 4, 4 ],
	[ q(SELECT g FROM t GROUP BY g HAVING count(*) > 9 AND llm_agg(body, 'x') IS NOT NULL), 0, 0 ],
	[ q(SELECT g FROM t GROUP BY g HAVING llm_agg(body, 'x') IS NOT NULL AND count(*) > 9), 0, 0 ],
	[ q(SELECT g FROM t GROUP BY g HAVING llm_agg(body, 'x') <> '' AND count(*) = 1 AND llm_agg(body, 'y') <> ''), 2, 1 ],
	[ q(SELECT g, llm_agg(body, 'x') FROM t GROUP BY g HAVING count(*) > 9), 0, 0 ],
	[ q(SELECT * FROM (SELECT g, count(*) AS n, llm_agg(body, 'x') FROM t GROUP BY g) s WHERE n > 9), 0, 0 ],
	# sub-selects, joins, views
	[ q(SELECT name, (SELECT llm_agg(body, 'x') FROM t WHERE t.g = k.g) FROM k), 3, 4 ],
	[ q(SELECT name, a FROM k, LATERAL (SELECT llm_agg(body, 'x') AS a FROM t WHERE t.g = k.g) s), 3, 4 ],
	[ q(SELECT name, a FROM k LEFT JOIN LATERAL (SELECT llm_agg(body, 'x') AS a FROM t WHERE t.g = k.g) s ON true), 3, 4 ],
	[ q(SELECT * FROM v), 4, 5 ],
	[ q(SELECT * FROM v WHERE g = 1), 1, 1 ],
	[ q(SELECT count(*) FROM v), 0, 1 ],
	[ q(SELECT name, a FROM v JOIN k USING (g)), 3, 4 ],
	[ q(SELECT f(g) FROM k), 3, 4 ],
	[ q(WITH x AS (SELECT g, llm_agg(body, 'x') AS a FROM t GROUP BY g) SELECT * FROM x x1 JOIN x x2 USING (g)), 4, 4 ],
	[ q(SELECT llm_agg(body, 'x') FROM t UNION ALL SELECT llm_agg(body, 'y') FROM t), 2, 2 ],
	[ q(SELECT llm_agg(a, 'of others') FROM (SELECT llm_agg(body, 'x') AS a FROM t GROUP BY g) s), 5, 1 ],
	[ q(SELECT llm_translate(llm_agg(body, 'x'), 'German') FROM t GROUP BY g), 8, 5 ],
	[ q(SELECT id FROM t WHERE body = (SELECT llm_agg(body, 'x') FROM t WHERE g = 0)), 1, undef ],
	[ q(SELECT id FROM t WHERE body IN (SELECT llm_agg(body, 'x') FROM t GROUP BY g)), 4, undef ],
	# sorts, window functions over groups, cursors
	[ q(SELECT g, llm_agg(body, 'x') AS a FROM t GROUP BY g ORDER BY a), 4, 5 ],
	[ q(SELECT DISTINCT llm_agg(body, 'x') FROM t GROUP BY g), 4, 5 ],
	[ q(SELECT g, first_value(llm_agg(body, 'x')) OVER (ORDER BY g) FROM t GROUP BY g), 4, 5 ],
	[ q(SELECT id, (SELECT llm_agg(u.body, 'x') FROM t u WHERE u.id BETWEEN t.id - 2 AND t.id) FROM t WHERE id < 6), 5, 5 ],
	[ q(BEGIN; DECLARE c CURSOR FOR SELECT llm_agg(body, 'x') FROM t GROUP BY g ORDER BY g; FETCH 1 FROM c), 1, 1 ],
);

foreach my $place (@places)
{
	my ($statement, $requests, $rows) = @$place;
	my $before = $provider->meter->{requests};
	my $given = sql("\\pset null (null)", "\\pset recordsep '<<>>'", $statement);
	my $made = $provider->meter->{requests} - $before;

	if (defined $requests)
	{
		is($made, $requests, "P10: $requests requests: $statement");
	}
	else
	{
		cmp_ok($made, '<=', 4, "P10: at most one to a group: $statement");
	}
	is(scalar(my @given = split /<<>>/, $given), $rows, "$rows rows") if defined $rows;
}
$node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM llm.letter)') or die 'letters stay';
ledger_equals_meter($node, $provider, 'P3: ledger and meter agree');

# What hashes, sorts or works in parallel gives the same groups by as many requests.
foreach my $setting ('enable_hashagg = off', 'enable_sort = off', 'work_mem = \'64kB\'',
	'parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2')
{
	my $before = $provider->meter->{requests};

	is(sql("SET $setting; SELECT count(llm_agg) FROM (SELECT llm_agg(body, 'x') FROM t GROUP BY g) s"), 4, "groups with $setting");
	is($provider->meter->{requests} - $before, 4, 'P10: a request each');
}

# Refused, before anything is asked.
my $before = $provider->meter->{requests};
foreach my $refused (
	[ q(SELECT llm_agg(body, 'x') OVER () FROM t), qr/0A000: .*cannot be used as window functions.*HINT:  Use them with GROUP BY/s ],
	[ q(SELECT llm_agg(body, 'x') FILTER (WHERE id > 3) OVER (ORDER BY id ROWS 2 PRECEDING) FROM t), qr/0A000: .*cannot be used as window functions/ ],
	[ q(SELECT * FROM llm.estimate('SELECT llm_agg(body, $$x$$) OVER () FROM t')), qr/0A000: .*cannot be used as window functions/ ],
	[ q(SELECT g, llm_agg(body, body) FROM t GROUP BY g), qr/22023: .*different arguments.*HINT:  Use constants/s ],
	[ q(CREATE MATERIALIZED VIEW m AS SELECT llm_agg(body, 'x') FROM t), qr/0A000: .*cannot be evaluated here.*HINT:  Ask first/s ],
	[ q(UPDATE t SET body = (SELECT llm_agg(body, 'x') FROM t)), qr/0A000: .*cannot be evaluated here.*HINT:  Ask first/s ],
	[ q(SELECT * FROM llm.estimate('UPDATE t SET body = (SELECT llm_agg(body, $$x$$) FROM t)')), qr/0A000: .*cannot be evaluated here/ ],
	[ q(WITH w AS (DELETE FROM k RETURNING g) SELECT llm_agg(body, 'x') FROM t), qr/0A000: .*cannot be evaluated here/ ],
	[ q(DELETE FROM k WHERE name = (SELECT llm_agg(body, 'x') FROM t)), qr/0A000: .*cannot be evaluated here/ ])
{
	my ($statement, $pattern) = @$refused;
	my ($stdout, $stderr);

	$node->psql('postgres', "\\set VERBOSITY verbose\n$statement", stdout => \$stdout, stderr => \$stderr);
	like($stderr, $pattern, "refused: $statement");
}
is($provider->meter->{requests}, $before, 'P10: and nothing was asked');

# An estimate asks nothing, and knows what would be.
is(sql(q(SELECT string_agg(calls::text, ',') FROM llm.estimate('SELECT g, llm_agg(body, $$x$$) FROM t GROUP BY g'))), '4',
	'an estimate of groups');
cmp_ok(sql(q(SELECT sum(calls) FROM llm.estimate('SELECT g, llm_agg(body, $$x$$), random() FROM t GROUP BY g'))), '>', 0,
	'also by the plan alone');
cmp_ok(sql(q(SELECT sum(calls) FROM llm.estimate('SELECT g FROM t WHERE random() < 2 GROUP BY g
	HAVING llm_agg(body, $$x$$) LIKE $$%y%$$'))), '>=', 2, 'and where an aggregate stands in HAVING only');
is($provider->meter->{requests}, $before, 'P10: and nothing was asked');

done_testing();
