# The bill of a long ledger: by day, table and tag, and by hour and model, equal to the ledger to the last digit before
# and after llm.prune() (P3), and read from sums (P10).  LLM_BILL_ROWS=10000000 is the size at which each has to take
# 200 ms at most on a machine that has nothing else to do; it fills 3 GB and takes some minutes.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use LLMTest;

use constant ROWS => $ENV{LLM_BILL_ROWS} // 20_000;
use constant { STEP => 200_000, TIMED => 1_000_000, MOST_MS => 200 };

my $node = new_node('bill_size', "llm_enrich.bill_tags = 'team'", "timezone = 'UTC'", 'max_wal_size = 8GB',
	'shared_buffers = 256MB');
my $provider = start_provider();
setup_model($node, $provider);

# The bill by some dimensions, the same from the ledger itself, and what of one is not in the other.
my $figures = 'requests, tasks, input_tokens, cached_tokens, output_tokens, cost, wasted';
my $summed = q(count(DISTINCT request), count(*) FILTER (WHERE attempt = 1), sum(input_tokens)::bigint,
	sum(cached_tokens)::bigint, sum(output_tokens)::bigint, trim_scale(sum(cost)),
	trim_scale(COALESCE(sum(cost) FILTER (WHERE outcome NOT IN ('ok', 'cached')), 0)));
my @bills = (
	[ '{day,relation,tag:team}', q(day, relation, tags ->> 'team'), q(at::date, relation, tags ->> 'team') ],
	[ '{hour,model}', 'hour, model', q(date_trunc('hour', at), model) ]);

sub difference
{
	my ($by, $columns, $keys, $zone) = @_;
	my $set = $zone ? "SET timezone = '$zone';" : '';

	return sql(qq($set
		WITH bill AS (SELECT $columns, $figures FROM llm.bill('$by')),
			ledger AS (SELECT $keys, $summed FROM llm.ledger GROUP BY 1, 2@{[ $columns =~ tr/,// > 1 ? ', 3' : '' ]})
		SELECT (SELECT count(*) FROM bill) > 0, (SELECT count(*) FROM (TABLE bill EXCEPT TABLE ledger) v),
			(SELECT count(*) FROM (TABLE ledger EXCEPT TABLE bill) v)));
}

# Milliseconds of the quickest of three.
sub quickest
{
	my $by = shift;
	my @ms = map {
		sql("EXPLAIN (ANALYZE, TIMING OFF) SELECT count(*) FROM llm.bill('$by')") =~ /Execution Time: ([\d.]+)/ ? $1 : die
	} 1 .. 3;

	return (sort { $a <=> $b } @ms)[0];
}

# 30 tables, 5 models, 20 tags, 90 days.
my $began = time;
for (my $first = 1; $first <= ROWS; $first += STEP)
{
	my $last = $first + STEP - 1 < ROWS ? $first + STEP - 1 : ROWS;

	sql(qq(
		INSERT INTO llm.ledger (at, request, task, job, attempt, latency_ms, role, server, model, relation, column_name,
			key, operation, lane, outcome, input_tokens, cached_tokens, output_tokens, cost, tags)
		SELECT '2026-01-01'::timestamptz + g / @{[ROWS]}::float8 * interval '90 days', 1000000 + g, g, g % 1000, 1, 900, 'bulk',
			'sim', 'm' || (hashint4(g) & 65535) % 5, 'public.t' || (hashint4(g + 1) & 65535) % 30, 'label',
			jsonb_build_object('id', g), 'classify', 'realtime', CASE WHEN g % 50 = 0 THEN 'invalid' ELSE 'ok' END, 100 + g % 400, g % 90, 10 + g % 30,
			(100 + g % 400) * 0.00000025 + (10 + g % 30) * 0.000002, jsonb_build_object('team', 'team ' || (hashint4(g + 2) & 65535) % 20)
		FROM generate_series($first, $last) g));
}
diag sprintf('%d rows in %.0f s', ROWS, time - $began);

# A call wakes the sender, which sums what is there.
$began = time;
sql(q(CREATE TABLE t (id int PRIMARY KEY, body text, label jsonb); INSERT INTO t VALUES (1, 'text');
	UPDATE t SET label = llm_classify(body, '{a,b}')));
foreach (1 .. 1 + ROWS / 100_000)
{
	last if $node->poll_query_until('postgres', 'SELECT up_to = (SELECT max(id) FROM llm.ledger) FROM llm.ledger_summed');
}
wait_idle($node);
diag sprintf('summed in %.0f s', time - $began);
cmp_ok(time - $began, '<', ROWS / 500, 'P10: what is behind is summed set by set, without a pause of a second after each');
sql('VACUUM ANALYZE llm.ledger_sum');

my %before;
foreach my $bill (@bills)
{
	my ($by) = @$bill;

	is(difference(@$bill), 't|0|0', "P3: the bill by $by is the ledger's to the last digit");
	$before{$by} = sql("SELECT md5(string_agg(b::text, ',' ORDER BY b::text)) FROM llm.bill('$by') b");
	my $ms = quickest($by);
	diag sprintf('%s: %.0f ms', $by, $ms);
	cmp_ok($ms, '<=', MOST_MS, "P10: the bill by $by takes ${\MOST_MS} ms at most") if ROWS >= TIMED;
}

# Hours of UTC are those of some zones, days are not.
foreach my $zone ('America/St_Johns', 'Europe/Berlin', 'Asia/Kolkata')
{
	is(difference('{hour,model}', 'hour, model', q(date_trunc('hour', at), model), $zone), 't|0|0',
		"P3: by hours of $zone");
	is(difference('{day,model}', 'day, model', 'at::date, model', $zone), 't|0|0', "P3: by days of $zone");
	is(difference('{day,relation,tag:team}', q(day, relation, tags ->> 'team'), q(at::date, relation, tags ->> 'team'), $zone),
		't|0|0', "P3: by days of $zone, tables and tags") if ROWS < TIMED;
}
is(sql(q(SELECT count(*) > 0 AND bool_and(v.by_row) FROM (
		SELECT ROW(day, relation, tags ->> 'team') > lag(ROW(day, relation, tags ->> 'team')) OVER (ORDER BY n)
			IS NOT FALSE AS by_row
		FROM llm.bill('{tag:team,relation,day}') WITH ORDINALITY b(hour, day, week, month, server, model, relation, "column", role,
			operation, lane, outcome, tags, requests, tasks, rows_done, input_tokens, cached_tokens, cache_write_tokens,
			output_tokens, reasoning_tokens, cost, cost_per_row, estimated_cost, wasted, saved, unpriced, n)) v)), 't',
	'rows come in order of day, table and tag');

sql(q(CALL llm.prune('2026-03-01')));
cmp_ok(sql('SELECT count(*) FROM llm.ledger'), '<', ROWS / 2, 'old rows are gone');
foreach my $bill (@bills)
{
	my ($by) = @$bill;

	is(sql("SELECT md5(string_agg(b::text, ',' ORDER BY b::text)) FROM llm.bill('$by') b"), $before{$by},
		"P3: the bill by $by is unchanged by llm.prune()");
}

done_testing();
