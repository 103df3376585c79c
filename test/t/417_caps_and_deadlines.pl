# What a command that waits for answers may spend, and how long it may wait, also while its sender comes
# and goes (P8), and what a deadline that has passed gives (P4, P6).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

my $provider = start_provider();
my $node = new_node('caps', "llm_enrich.idle_timeout = '1s'", "llm_enrich.bill_tags = 'team'");

setup_model($node, $provider,
	prices => {
		input_per_mtok => 1,
		cached_input_per_mtok => 'NULL',
		cache_write_per_mtok => 'NULL',
		output_per_mtok => 1000
	});

# ---------------------------------------------------------------------------
# The cap of a command whose sender leaves between two calls
# ---------------------------------------------------------------------------

sql(q(
	CREATE PROCEDURE wait_until_no_sender() LANGUAGE plpgsql AS $$ BEGIN
		WHILE EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'llm_enrich sender') LOOP
			PERFORM pg_sleep(0.05);
			PERFORM pg_stat_clear_snapshot();
		END LOOP;
	END $$;));

# A request has at least 0.02 reserved, and costs a little more than 0.004.
$provider->script({ answers => { word => 'one word of many' } });
my $ask = q(PERFORM llm_complete('Say a word', options => '{"max_tokens": 20}'));
my $error = error_of("SET llm_enrich.max_cost = 0.04;
	DO \$\$ BEGIN FOR i IN 1 .. 12 LOOP $ask; CALL wait_until_no_sender(); END LOOP; END \$\$");
like($error, qr/ERROR:  55000: .*max_cost/s, 'P8: the cap of a command is met, though each call has another sender');
is(sql('SELECT count(*) > 1, sum(cost) <= 0.04 FROM llm.ledger'), 't|t', 'P8: it has not spent more');
like(error_of("SET llm_enrich.max_cost = 0.04; SELECT 1\\; DO \$\$ BEGIN FOR i IN 1 .. 3 LOOP $ask; END LOOP; END \$\$\\;
	CALL wait_until_no_sender()\\; DO \$\$ BEGIN FOR i IN 1 .. 3 LOOP $ask; END LOOP; END \$\$"), qr/ERROR:  55000: .*max_cost/s,
	'P8: nor where it is of many statements, each of which is told what it has cost');
is(error_of("SET llm_enrich.max_cost = 0.04; DO \$\$ BEGIN FOR i IN 1 .. 3 LOOP $ask; END LOOP; END \$\$;
	DO \$\$ BEGIN FOR i IN 1 .. 3 LOOP $ask; END LOOP; END \$\$"), '', 'the next command begins at nothing');

# ---------------------------------------------------------------------------
# A deadline
# ---------------------------------------------------------------------------

my $before = $provider->meter->{requests};
my $late = q(llm_complete('Too late', options => '{"deadline": "2001-01-01 00:00+00"}'));
like(error_of("SELECT $late"), qr/ERROR:  38000: llm_complete\(\) got no answer: deadline: it has passed/,
	'a deadline that has passed is an error');
is(sql("SET llm_enrich.on_error = 'null'; SELECT $late IS NULL"), 't', 'or NULL');
is(sql("SET llm_enrich.on_error = 'null'; SELECT count(*), count($late) FROM generate_series(1, 3) i"), '3|0',
	'also for rows ahead');
is($provider->meter->{requests}, $before, 'P3: and nothing is asked');

# The deadline passes at the fourth row, when some of the others are asked already.
$before = $provider->meter->{requests};
my $given = sql(q(SET llm_enrich.on_error = 'null';
	SELECT count(l) FROM (SELECT CASE WHEN i <> 4 OR pg_sleep(3) IS NOT NULL THEN a END AS l
		FROM (SELECT i, llm_complete('In time ' || i, options => jsonb_build_object('deadline', now() + interval '2 s')) AS a
			FROM generate_series(1, 100) i OFFSET 0) s) t));
cmp_ok($given, '>', 0, 'some of 100 rows come in time');
cmp_ok($given, '<', 100, 'and some do not');
is($given, $provider->meter->{requests} - $before, 'P4: what was asked in time is given, and nothing else is asked');
# It passes when the first answer, which the condition does not hold for, is there: none is asked for again.
sql(q(CREATE FUNCTION late(jsonb) RETURNS bool LANGUAGE plpgsql IMMUTABLE
		AS 'BEGIN PERFORM forward(3600); RETURN false; END';
	CREATE FUNCTION forward(float8) RETURNS timestamptz LANGUAGE C AS 'llm_enrich', 'llm_enrich_test_clock'));
$before = $provider->meter->{requests};
is(sql(q(SET llm_enrich.on_error = 'null'; SET llm_enrich.tags = '{"team": "late"}';
	SELECT llm_classify('It crashes', '{billing,bug}', checks => ARRAY['late(answer)'],
		options => jsonb_build_object('deadline', now() + interval '30 min')) IS NULL)), 't', 'an answer in vain');
is($provider->meter->{requests}, $before + 1, 'P3: after the deadline no other one is asked for');
my $waste = q(SELECT sum(wasted) > 0 AND sum(wasted) = sum(cost)
	FROM llm.bill('{tag:team}') WHERE tags->>'team' = 'late');
$node->poll_query_until('postgres', $waste);
is(sql($waste), 't', 'P3: and what was paid counts as wasted');
ledger_equals_meter($node, $provider, 'P3: ledger and meter agree');

done_testing();
