# The bill: what llm.bill() says is what the ledger says, to the last digit, before and after rows are summed and
# when rows of the ledger are gone (P3).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

use constant ROWS => 300;

my $node = new_node('bill', "llm_enrich.bill_tags = 'team, run'", 'llm_enrich.max_tries = 2', "timezone = 'UTC'");
my $provider = start_provider();
setup_model($node, $provider);

sub sql { return $node->safe_psql('postgres', join "\n", @_); }

sql(qq(
	CREATE TABLE one (id int PRIMARY KEY, body text, label jsonb);
	CREATE TABLE two (id int PRIMARY KEY, body text, label jsonb);
	INSERT INTO one SELECT i, 'The invoice of customer ' || i || ' is wrong' FROM generate_series(1, @{[ROWS]}) i;
	INSERT INTO two SELECT i, 'It crashes on start, customer ' || i || ', for the ' || i % 5 || '. time'
	FROM generate_series(1, @{[ROWS]}) i));

# What the bill and the ledger say, compared.
sub bill_equals_ledger
{
	my ($name, $ledger) = @_;
	my $columns = join ', ', map { "sum($_)" } qw(input_tokens cached_tokens cache_write_tokens output_tokens reasoning_tokens);

	$ledger //= sql("SELECT count(DISTINCT request), $columns, trim_scale(sum(cost)),
		trim_scale(COALESCE(sum(cost) FILTER (WHERE outcome NOT IN ('ok', 'cached')), 0)), count(DISTINCT relation) FROM llm.ledger");
	foreach my $by ('{}', '{day,relation,tag:team}', '{hour,server,model}', '{outcome,lane,relation,role,operation,column}')
	{
		is(sql("SELECT sum(requests), $columns, trim_scale(sum(cost)), trim_scale(sum(wasted) - COALESCE((SELECT sum(dropped_cost)
				FROM llm.ended_sum WHERE '$by'::text[] <@ '{hour,day,week,month,relation,column,role,operation,tag:team}'), 0)),
				(SELECT count(DISTINCT relation) FROM llm.bill('{relation}') WHERE requests > 0)
			FROM llm.bill('$by')"), $ledger, "P3: $name: the bill by $by");
	}
	return $ledger;
}

sub wait_summed
{
	$node->poll_query_until('postgres', 'SELECT up_to = (SELECT max(id) FROM llm.ledger) FROM llm.ledger_summed')
		or die 'the ledger is not summed';
	return;
}

$provider->script({ wrong_label => 0.1, cached_fraction => 0.3, error_500 => 0.05 });
sql(qq(SET llm_enrich.tags = '{"team": "red", "private": "x"}'; UPDATE one SET label = llm_classify(body, '{billing,bug}')),
	qq(; SET llm_enrich.tags = '{"team": "blue"}'; UPDATE two SET label = llm_classify(body, '{billing,bug}');));
wait_idle($node);
bill_equals_ledger('at the end');
wait_summed();
my $ledger = bill_equals_ledger('summed');
is(sql(q(SELECT string_agg(DISTINCT tags::text, ' ' ORDER BY tags::text) FROM llm.bill('{tag:team}') WHERE requests > 0)),
	'{"team": "blue"} {"team": "red"}', 'declared tags are kept, others are not');
is(sql(q(SELECT string_agg(DISTINCT relation || ' ' || rows_done, ', ') FROM llm.bill('{relation}'))),
	sql(q(SELECT string_agg(DISTINCT r || ' ' || n, ', ') FROM (SELECT relation_name AS r, sum(done) AS n FROM llm.job
		GROUP BY 1) v)), 'rows that are done are counted as llm.job counts them');

# An answer that no cell took was paid all the same.
$provider->reset;
$provider->script({ latency_ms => 500 });
sql(q(UPDATE one SET label = llm_classify(body, '{a,b}') WHERE id <= 10));
$node->poll_query_until('postgres', q(SELECT count(*) = 10 FROM llm.queue WHERE state = 'claimed')) or die 'nothing was claimed';
sql(q(UPDATE one SET label = NULL WHERE id <= 10));
wait_idle($node);
is(sql(q(SELECT sum(superseded),
		sum(dropped_cost) = (SELECT sum(cost) FROM llm.ledger WHERE job = (SELECT max(id) FROM llm.job))
	FROM llm.ended_sum WHERE job = (SELECT max(id) FROM llm.job))), '10|t', 'P3: what was paid for them counts as wasted');
wait_summed();
$ledger = bill_equals_ledger('with superseded tasks');

# The ledger goes, the bill stays.
my $old = sql(q(SELECT llm.bill('{day,relation,tag:team}') UNION ALL SELECT llm.bill('{hour,model}')));
sql('DELETE FROM llm.ledger');
is(sql(q(SELECT llm.bill('{day,relation,tag:team}') UNION ALL SELECT llm.bill('{hour,model}'))), $old,
	'the bill is the same without the ledger');

# And what comes later is added.
sql(q(UPDATE one SET label = llm_classify(body, '{c,d}') WHERE id <= 5));
wait_idle($node);
is(sql(q(SELECT sum(requests) FROM llm.bill('{}'))), (split /\|/, $ledger)[0] + 5, 'later requests are added');

# A long prompt has prices of its own, for the whole request.
sql(q(SELECT llm.set_price(alias, 1, 2, tiers => '[{"above_tokens": 1000000, "output_per_mtok": 100},
	{"above_tokens": 20, "input_per_mtok": 10}, {"above_tokens": 1, "input_per_mtok": 4}]') FROM llm.model));
sql(q(UPDATE one SET label = llm_classify(body, '{e,f}') WHERE id = 7));
wait_idle($node);
is(sql(q(SELECT input_tokens > 20, cost = (10 * (input_tokens + cached_tokens) + 2 * output_tokens) * 0.000001
	FROM llm.ledger ORDER BY id DESC LIMIT 1)), 't|t', 'P3: the highest tier that the input is above holds');

done_testing();
