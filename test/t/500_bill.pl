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
$provider->hold;
sql(q(UPDATE one SET label = llm_classify(body, '{a,b}') WHERE id <= 10));
wait_claimed($node);
sql(q(UPDATE one SET label = NULL WHERE id <= 10));
$provider->go_on;
wait_idle($node);
is(sql(q(SELECT sum(superseded),
		sum(dropped_cost) = (SELECT sum(cost) FROM llm.ledger WHERE job = (SELECT max(id) FROM llm.job))
	FROM llm.ended_sum WHERE job = (SELECT max(id) FROM llm.job))), '10|t', 'P3: what was paid for them counts as wasted');
wait_summed();
$ledger = bill_equals_ledger('with superseded tasks');

# Answers that did not satisfy the call's checks were paid in vain: all of a row that has failed, all but the last of one
# that is done.
sub dropped { return sql(q(SELECT trim_scale(sum(dropped_cost)) FROM llm.ended_sum WHERE job = ), $_[0]); }
sub paid { return sql(q(SELECT trim_scale(sum(cost)) FROM llm.ledger WHERE ), $_[0]); }

$provider->reset;
sql(q(UPDATE two SET label = llm_classify(body, '{billing,bug}', checks => ARRAY['false']) WHERE id <= 3));
wait_idle($node);
my $job = sql('SELECT max(id) FROM llm.job');
is(sql("SELECT count(*) FROM llm.ledger WHERE job = $job AND outcome = 'ok'"), 6, 'three rows were asked twice');
is(dropped($job), paid("job = $job"), 'P3: what failed its checks counts as wasted');
$provider->script({ answers => { 'It crashes' => '{"label": "billing"}', q(<> 'billing') => '{"label": "bug"}' } });
sql(q(UPDATE two SET label = llm_classify(body, '{billing,bug}', checks => ARRAY[$$answer->>'label' <> 'billing'$$])
	WHERE id = 4));
wait_idle($node);
$job = sql('SELECT max(id) FROM llm.job');
is(sql('SELECT label FROM two WHERE id = 4'), '{"label": "bug"}', 'the second answer holds');
is(dropped($job), paid("job = $job AND attempt = 1"), 'P3: the first one counts as wasted');
$provider->reset;

# The same of calls that a statement waits for, and an answer that comes when the statement is over.
my $waste = q(SELECT (SELECT sum(wasted) FROM llm.bill('{role,operation,tag:team}') WHERE tags->>'team' = 'green')
	= (SELECT sum(cost) FROM llm.ledger WHERE tags->>'team' = 'green'), (SELECT count(*) FROM llm.ledger WHERE tags->>'team' = 'green'));
sql(q(SET llm_enrich.tags = '{"team": "green"}'; SET llm_enrich.on_error = 'null';
	SELECT count(llm_classify('It crashes ' || i, '{billing,bug}', checks => ARRAY['false'])) FROM generate_series(1, 2) i));
$node->poll_query_until('postgres', $waste, 't|4'); # the caller hears before it is committed
is(sql($waste), 't|4', 'P3: immediate calls: what failed its checks counts as wasted');
my $asker = $node->background_psql('postgres', on_error_stop => 0);
my $pid = $asker->query('SELECT pg_backend_pid()');
$provider->hold;
$asker->query_until(qr/start/, qq(\\echo start\nSET llm_enrich.tags = '{"team": "green"}'; SELECT llm_classify('It crashes', '{billing,bug}');\n));
$node->poll_query_until('postgres', 'SELECT EXISTS (SELECT FROM llm.letter)') or die 'no request left';
sql("SELECT pg_cancel_backend($pid)");
$node->poll_query_until('postgres', "SELECT state LIKE 'idle%' FROM pg_stat_activity WHERE pid = $pid") or die 'it waits on';
$provider->go_on;
$node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM llm.letter)') or die 'the letter stays';
$node->poll_query_until('postgres', $waste, 't|5');
is(sql($waste), 't|5', 'P3: so does what nobody waits for');
$asker->quit;

# The sender ends between the first answer, which was in vain, and the second: the next one books it no second time.
$provider->script({ sequence => [ { action => 'ok' }, { action => 'rate_limit', retry_after => 3 } ] });
$asker = $node->background_psql('postgres', on_error_stop => 0);
$asker->query_until(qr/start/, q(\echo start
	SET llm_enrich.tags = '{"team": "white"}'; SET llm_enrich.on_error = 'null';
	SELECT llm_classify('It crashes in white', '{billing,bug}', checks => ARRAY['false']);
));
$node->poll_query_until('postgres', q(SELECT count(*) = 2 FROM llm.ledger WHERE tags->>'team' = 'white'))
	or die 'the second question was not asked';
sql(q(SELECT pg_terminate_backend(pid) FROM llm.health WHERE kind = 'sender'));
$node->poll_query_until('postgres', q(SELECT count(*) = 3 FROM llm.ledger WHERE tags->>'team' = 'white'))
	or die 'the second question was not asked again';
$asker->query('SELECT 1');
$asker->quit;
$node->poll_query_until('postgres', $waste =~ s/green/white/gr, 't|3');
is(sql($waste =~ s/green/white/gr), 't|3', 'P3: what failed its checks is wasted once, though another sender has heard of it');
$provider->reset;

# The sender cannot store that the first answer was in vain: it does so when it can, though the call is over.
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN; LOCK TABLE llm.ended_sum IN EXCLUSIVE MODE');
is(sql(q(SET llm_enrich.tags = '{"team": "pink"}'; SET llm_enrich.on_error = 'null';
	SELECT llm_classify('It crashes in pink', '{billing,bug}', checks => ARRAY['false']) IS NULL)), 't',
	'the second question cannot be stored');
$holder->query_safe('ROLLBACK');
$holder->quit;
$node->poll_query_until('postgres', $waste =~ s/green/pink/gr, 't|1');
is(sql($waste =~ s/green/pink/gr), 't|1', 'P3: what was wasted is booked after a transaction of the sender has failed');

# An answer that could not be written counts as wasted until llm.retry() writes it.
sql(q(ALTER TABLE two ADD COLUMN kind text;
	CREATE FUNCTION kind_of(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT upper($1)'));
$provider->hold;
sql(q(UPDATE two SET kind = kind_of(llm_classify(body, '{billing,bug}')->>'label') WHERE id = 5));
wait_claimed($node);
sql(q(ALTER FUNCTION kind_of(text) RENAME TO kind_away));
$provider->go_on;
wait_idle($node);
$job = sql('SELECT max(id) FROM llm.job');
is(sql('SELECT reason FROM llm.dead_letter WHERE job = ' . $job), 'not_writable', 'an answer cannot be written');
is(dropped($job), paid("job = $job"), 'P3: it counts as wasted');
sql(q(ALTER FUNCTION kind_away(text) RENAME TO kind_of));
my $requests = $provider->meter->{requests};
sql("SELECT llm.retry(job => $job)");
wait_idle($node);
is(sql('SELECT kind IS NOT NULL FROM two WHERE id = 5'), 't', 'later it is');
is($provider->meter->{requests}, $requests, 'without a request');
is(sql("SELECT trim_scale(sum(dropped_cost)) FROM llm.ended_sum WHERE job >= $job"), 0, 'P3: and counts as wasted no more');

# Once more in vain, and used for another row: wasted, and not saved as well.
$node->append_conf('postgresql.conf', "llm_enrich.keep_answers = '1d'");
$node->reload;
$provider->hold;
sql(q(UPDATE two SET kind = kind_of(llm_classify(body, '{billing,bug,other}')->>'label') WHERE id = 6));
wait_claimed($node);
sql(q(ALTER FUNCTION kind_of(text) RENAME TO kind_away));
$provider->go_on;
wait_idle($node);
$job = sql('SELECT max(id) FROM llm.job');
is(dropped($job), paid("job = $job"), 'P3: another one counts as wasted');
my $saved = sql(q(SELECT sum(saved) FROM llm.bill('{}')));
sql(q(UPDATE two SET label = llm_classify(body, '{billing,bug,other}') WHERE id = 6));
wait_idle($node);
is(sql('SELECT outcome FROM llm.ledger ORDER BY id DESC LIMIT 1'), 'cached', 'it is used for another cell');
is(sql(q(SELECT sum(saved) FROM llm.bill('{}'))), $saved, 'which is no saving beside it');
sql(q(UPDATE one SET label = llm_classify(t.body, '{billing,bug,other}') FROM two t WHERE t.id = 7 AND one.id IN (1, 2)));
wait_idle($node);
cmp_ok(sql(q(SELECT sum(saved) FROM llm.bill('{}'))), '>', $saved, 'an answer that was written and is used once more is');
wait_summed();
$ledger = bill_equals_ledger('with answers that no cell took');

# The ledger goes, the bill stays.
my $old = sql(q(SELECT llm.bill('{day,relation,tag:team}') UNION ALL SELECT llm.bill('{hour,model}')));
my $by_tag = 'SELECT tag, value, requests, input_tokens, trim_scale(cost) FROM llm.cost_by_tag';
my $declared = sql("$by_tag WHERE tag = 'team'");
is(sql($by_tag), sql(q(SELECT t.key, t.value, count(DISTINCT request), sum(input_tokens), trim_scale(sum(cost))
	FROM llm.ledger, jsonb_each_text(tags) t GROUP BY 1, 2 ORDER BY 1, 2)), 'P3: llm.cost_by_tag has all tags of the ledger');
sql('DELETE FROM llm.ledger');
is(sql($by_tag), $declared, 'without the ledger llm.cost_by_tag has those that are declared');
is(sql(q(SELECT llm.bill('{day,relation,tag:team}') UNION ALL SELECT llm.bill('{hour,model}'))), $old,
	'the bill is the same without the ledger');

# So is what a budget of a declared tag has spent.
my $budget = sql(q(SELECT llm.set_budget(100, tag => 'team', value => 'red')));
is(sql("SELECT spent FROM llm.budget WHERE id = $budget"), sql(q(SELECT trim_scale(sum(cost)) FROM llm.bill('{tag:team}') WHERE tags->>'team' = 'red')),
	'and a budget of a tag reads its sums');
sql("SELECT llm.drop_budget($budget)");

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
