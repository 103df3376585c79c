# What a budget holds for, and what becomes of work that does not fit (P8): scopes and combinations of them, two budgets
# over one task, prices that change, the cap on output, rows that are too dear, and the last hundredth.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use LLMTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('scopes', 'llm_enrich.max_tries = 1');
my $provider = start_provider();

sub until_true
{
	my ($query, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok($node->poll_query_until('postgres', $query), $name);
}

setup_model($node, $provider, server => 's_one', lane => 'one', alias => 'one');
setup_model($node, $provider, server => 's_one', lane => 'one', alias => 'one_more', is_default => 0);
setup_model($node, $provider, server => 's_one', lane => 'one', alias => 'large', is_default => 0, model => 'sim-2');
setup_model($node, $provider, server => 's_two', lane => 'two', alias => 'two', is_default => 0);
sql(q(
	CREATE ROLE team;
	CREATE ROLE ana IN ROLE team;
	CREATE ROLE bob;
	GRANT USAGE ON FOREIGN SERVER s_one, s_two TO ana, bob;
	CREATE TABLE notes (id int PRIMARY KEY, body text, label jsonb);
	CREATE TABLE mails (LIKE notes INCLUDING ALL);
	INSERT INTO notes SELECT g, 'a note on the bill ' || g FROM generate_series(1, 1000) g;
	INSERT INTO mails SELECT g, 'a mail about a bug ' || g FROM generate_series(1, 1000) g;
	CREATE VIEW some_notes AS SELECT * FROM notes WHERE id > 100;
	GRANT SELECT, UPDATE ON notes, mails, some_notes TO ana, bob));

# ---------------------------------------------------------------------------
# Scopes
# ---------------------------------------------------------------------------

# What each budget is to have of the ledger.
my @scopes = (
	[ '', 'true' ],
	[ q(role => 'team'), q(role = 'ana') ],
	[ q(role => 'bob'), q(role = 'bob') ],
	[ q(relation => 'notes'), q(relation = 'public.notes') ],
	[ q(relation => 'some_notes'), q(relation = 'public.some_notes') ],
	[ q(model => 'one'), q(server = 's_one' AND model = 'sim-1') ],
	[ q(model => 'large'), q(server = 's_one' AND model = 'sim-2') ],
	[ q(server => 's_one'), q(server = 's_one') ],
	[ q(server => 's_two'), q(server = 's_two') ],
	[ q(tag => 'team', value => 'red'), q(tags->>'team' = 'red') ],
	[ q(tag => 'team', value => '7'), q(tags->>'team' = '7') ],
	[ q(role => 'team', relation => 'notes'), q(role = 'ana' AND relation = 'public.notes') ],
	[ q(server => 's_one', tag => 'team', value => 'red'), q(server = 's_one' AND tags->>'team' = 'red') ],
	[ q(role => 'bob', model => 'two', relation => 'mails'),
		q(role = 'bob' AND server = 's_two' AND relation = 'public.mails') ],
	[ q(model => 'large', server => 's_two'), 'false' ]);
my @budgets;

sub set_budgets
{
	@budgets = map { sql("SELECT llm.set_budget(50, per => 'month'" . ($_->[0] eq '' ? '' : ", $_->[0]") . ')') } @scopes;
	return;
}

sub budgets_equal_ledger
{
	my ($when) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	foreach my $i (0 .. $#scopes)
	{
		is(sql("SELECT spent = (SELECT COALESCE(sum(cost), 0) FROM llm.ledger WHERE $scopes[$i][1]), reserved, \"left\" = 50 - spent
			FROM llm.budget WHERE id = $budgets[$i]"), 't|0|t', "P8: $when: the budget of " . ($scopes[$i][0] || 'the database'));
	}
	return;
}

my $from = 0;

# Four more rows.
sub ask
{
	my ($role, $relation, $model, $tags) = @_;

	$from += 4;
	return "SET ROLE $role; SET llm_enrich.tags = '$tags';
		UPDATE $relation SET label = llm_classify(body, '{billing,bug,other}', model => '$model')
		WHERE id > CASE WHEN '$relation' = 'some_notes' THEN 100 ELSE 0 END + $from - 4 AND id <= 104 AND id % 100 BETWEEN $from - 3 AND $from;
		RESET ROLE;";
}

set_budgets();
sql(ask('ana', 'notes', 'one', '{"team": "red"}'), ask('ana', 'mails', 'two', '{}'), ask('bob', 'notes', 'one_more', '{"team": 7}'),
	ask('bob', 'mails', 'two', '{"team": "blue", "x": 1}'), ask('bob', 'mails', 'large', '{"team": "red"}'),
	ask('ana', 'notes', 'two', '{"team": "red"}'));
sql(q(UPDATE some_notes SET label = llm_classify(body, '{billing,bug}') WHERE id BETWEEN 191 AND 200));
sql(q(SET ROLE ana; SELECT llm_classify('a bug in a SELECT', '{bug,other}')));
sql(q(SELECT llm_classify('another one', '{bug,other}', model => 'large')));
wait_idle($node);
budgets_equal_ledger('spent since');
isnt(sql("SELECT spent FROM llm.budget WHERE id = $_"), 0, "something was spent of $_") foreach @budgets[ 0 .. 13 ];

# ---------------------------------------------------------------------------
# What was spent before; the same scope replaces
# ---------------------------------------------------------------------------

my @before = @budgets;
set_budgets();
is("@budgets", "@before", 'the same scope and period is the same budget');
sql(q(SELECT llm.drop_budget(id) FROM llm.budget));
is(sql(q(BEGIN; SELECT llm.set_budget(50, per => 'month', role => 'team') AS id \gset
	SELECT spent = (SELECT sum(cost) FROM llm.ledger WHERE role = 'ana') FROM llm.budget WHERE id = :id; ROLLBACK)), 't',
	'what the period has spent shows at once');
set_budgets();
until_true('SELECT count(*) = ' . @scopes . ' FROM llm.budget_period', 'the sender does');
budgets_equal_ledger('spent before');
sql(q(SELECT llm.drop_budget(id) FROM llm.budget));

# ---------------------------------------------------------------------------
# Two budgets over one task: the tighter one holds
# ---------------------------------------------------------------------------

sub waits_for
{
	my ($budget, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $ok = until_true(qq(SELECT count(*) > 0 AND bool_and(reason ~ '^budget $budget:') FROM llm.job
		WHERE state = 'open'
		AND NOT EXISTS (SELECT FROM llm.queue WHERE state = 'claimed')), $name);

	diag(sql(q(SELECT job, why FROM llm.progress WHERE state = 'open')), sql('TABLE llm.budget')) unless $ok;
	return $ok;
}

# More that may be spent than has been.
sub set_budget
{
	my ($more, $scope) = @_;
	my $spent = sql('SELECT COALESCE(sum(cost), 0) FROM llm.ledger');

	return sql("SELECT llm.set_budget($spent + $more, " . ($scope || q(per => 'total')) . ')');
}

my $count = sql('SELECT count(*) FROM llm.ledger');
my $tight = sql(q(SELECT llm.set_budget(0.002 +
	(SELECT COALESCE(sum(cost), 0) FROM llm.ledger WHERE relation = 'public.mails'), relation => 'mails')));
my $loose = set_budget(1);
sql(q(UPDATE mails SET label = llm_classify(body, '{billing,bug}') WHERE id > 104));
waits_for($tight, 'P8: the job waits for the tighter budget');
is(sql("SELECT bool_and(spent + reserved <= amount), sum(waiting), sum(waiting) FILTER (WHERE id = $tight),
	count(needed) FILTER (WHERE id = $loose) FROM llm.budget"), 't|1|1|0', 'P8: both hold, and one is waited for');
cmp_ok(sql('SELECT count(*) FROM llm.ledger'), '>', $count, 'something was sent of it');
until_true("SELECT \"left\" < needed FROM llm.budget WHERE id = $tight", 'what is left does not do');

# The other one becomes the tighter one, and then none is.
set_budget(0.0015);
sql("SELECT llm.set_budget(amount + 1, relation => 'mails') FROM llm.budget WHERE id = $tight");
waits_for($loose, 'P8: then for the other one');
is(sql('SELECT bool_and(spent + reserved <= amount) FROM llm.budget'), 't', 'P8: both hold');

# ---------------------------------------------------------------------------
# Raised again and again, and each time it goes on
# ---------------------------------------------------------------------------

my $slowest = 0;
foreach my $raise (1 .. 12)
{
	$count = sql('SELECT count(*) FROM llm.ledger');
	my $began = time;
	set_budget(0.0015);
	$node->poll_query_until('postgres', "SELECT count(*) > $count FROM llm.ledger") or die 'it did not go on';
	$slowest = time - $began if time - $began > $slowest;
	waits_for($loose, "raised for the $raise. time, some go on and the rest waits") if $raise % 4 == 0;
}
cmp_ok($slowest, '<', 20, 'P8: each time before the next sweep');
note("the slowest after $slowest s");
sql(q(SELECT llm.cancel('mails')));
wait_idle($node);

# ---------------------------------------------------------------------------
# Prices that change
# ---------------------------------------------------------------------------

set_budget(0.02);
$provider->script({ latency_ms => 30 }, 'one');
$count = sql('SELECT count(*) FROM llm.ledger');
sql(q(UPDATE notes SET label = llm_classify(body, '{billing,bug,other,price}')));
$node->poll_query_until('postgres', "SELECT count(*) > $count FROM llm.ledger") or die 'nothing was sent';
sql(q(SELECT llm.set_price('one', 25, 200)));
waits_for($loose, 'P8: prices rise a hundredfold: the job waits');
is(sql('SELECT spent + reserved <= amount, spent = (SELECT sum(cost) FROM llm.ledger), reserved FROM llm.budget WHERE id = ' . $loose),
	't|t|0', 'P8: it holds, with what each request cost when it was sent');
$count = sql('SELECT count(*) FROM llm.ledger');
sql(q(SELECT llm.set_price('one', 0.25, 2)));
until_true("SELECT count(*) > $count FROM llm.ledger", 'P8: they fall, and what is left does again');
sql(q(SELECT llm.cancel('notes')));
wait_idle($node);

# ---------------------------------------------------------------------------
# The cap on output
# ---------------------------------------------------------------------------

$provider->script({}, 'one');

sub cap_of
{
	my ($options, $operation) = @_;

	sql("SELECT " . ($operation // q(llm_classify('cap ' || random(), '{bug,other}')) =~ s/\)\z/, options => '$options')/r));
	return $provider->last_body('one') =~ /"max_(?:completion_)?tokens":\s*(\d+)/ ? $1 : 'none';
}

set_budget(10);
is(cap_of('{}'), 256, 'P8: under a budget a request has an output cap: four times what the operation needs');
is(cap_of('{"max_tokens": 20}'), 20, 'max_tokens, where that is less');
is(cap_of('{"max_tokens": 1000}'), 256, 'but not more');
is(cap_of('{"max_tokens": 5000}', q(llm_summarize('cap ' || random(), 30, options => '{"max_tokens": 5000}'))), 544,
	'by the words of a summary');
sql(q(SELECT llm.drop_budget(id) FROM llm.budget));
is(cap_of('{}'), 'none', 'and none without a budget');

# ---------------------------------------------------------------------------
# Rows that are too dear, and the last hundredth
# ---------------------------------------------------------------------------

# 100,000 bytes may be as many tokens, so 0.025 dollars.
sql(q(
	CREATE TABLE sizes (id int PRIMARY KEY, body text, label jsonb);
	INSERT INTO sizes SELECT g, repeat('long ', CASE WHEN g % 10 = 0 THEN 20000 ELSE 5 * (g * 37 % 100) END) || g FROM generate_series(1, 100) g));
$loose = set_budget(0.002);
my $own = sql(q(SELECT llm.set_budget(0.02, relation => 'sizes')));
sql(q(UPDATE sizes SET label = llm_classify(body, '{bug,other}')));
waits_for($loose, 'P8: what fits has been sent, the rest waits');
is(sql(q(SELECT string_agg(reason || ' ' || (key->>'id'), ', ' ORDER BY (key->>'id')::int) FROM llm.dead_letter
	WHERE relation_name = 'public.sizes')), join(', ', map { "too_dear $_" } map { 10 * $_ } 1 .. 10),
	'P8: rows that no period can pay have failed as too_dear, and the others have passed them');
like(sql(q(SELECT message FROM llm.dead_letter WHERE reason = 'too_dear' LIMIT 1)),
	qr/may cost 0\.02\d* dollars, and budget \d+ has 0\.0\d+ in all/,
	'with what they may cost');
is(sql(q(SELECT count(*) FROM llm.ledger l JOIN llm.dead_letter d ON d.task = l.task WHERE d.reason = 'too_dear')), 0,
	'unpaid');
until_true(qq(SELECT "left" < needed FROM llm.budget WHERE id = $loose), 'P8: what is left does for none that waits');
is(sql(q(SELECT (SELECT max(length(s.body)) FROM sizes s JOIN llm.queue q ON (q.key->>'id')::int = s.id)
	> (SELECT max(length(body)) FROM sizes WHERE label->>'label' IS NOT NULL))), 't', 'shorter rows have passed longer ones');
sql(qq(SELECT llm.set_budget(0.5, relation => 'sizes')), q(; SELECT llm.set_budget(100);));
wait_idle($node);
is(sql(q(SELECT count(*) FROM sizes WHERE label->>'label' IS NOT NULL)), 90, 'all others when it is raised');
sql(q(SELECT llm.retry('sizes')));
wait_idle($node);
is(sql(q(SELECT count(*) FROM sizes WHERE label->>'label' IS NOT NULL)), 100, 'and the dear ones by llm.retry');

# What was passed over is more than one claim takes, and lies before what was sent.
sql(q(
	CREATE TABLE mixed (id int PRIMARY KEY, body text, label jsonb);
	INSERT INTO mixed SELECT g, repeat('mixed ', CASE WHEN g <= 600 THEN 600 ELSE 1 END) || g FROM generate_series(1, 640) g));
$provider->script({ latency_ms => 5 }, 'one');
$loose = set_budget(0.0015);
sql(q(UPDATE mixed SET label = llm_classify(body, '{bug,other}')));
waits_for($loose, 'P8: long rows wait');
is(sql(q(SELECT count(*) FILTER (WHERE id > 600) > 0, count(*) FILTER (WHERE id <= 600) FROM mixed
	WHERE label->>'label' IS NOT NULL)), 't|0', 'short ones have passed them');
my $began = time;
set_budget(100);
wait_idle($node);
cmp_ok(time - $began, '<', 50, 'P8: raised, all of them go on, without a pause');

# ---------------------------------------------------------------------------
# What many requests have taken tells what the next may cost
# ---------------------------------------------------------------------------

sub reserved_of
{
	my ($labels) = @_;

	$provider->script({}, 'one');
	$provider->hold;
	sql("UPDATE mixed SET label = llm_classify(repeat('long text ', 2000), '$labels') WHERE id = 1");
	wait_claimed($node);
	my $reserved = sql('SELECT reserved FROM llm.queue');
	$provider->go_on;
	wait_idle($node);
	return $reserved;
}

until_true(q(SELECT max(s.requests) >= 600 FROM llm.recipe_stat s JOIN llm.recipe r ON r.id = s.recipe
	WHERE r.spec = '{"labels": ["bug", "other"]}'), 'a recipe has been asked often, and what it took is written');
my $unknown = reserved_of('{bug,other,third}');
my $known = reserved_of('{bug,other}');
cmp_ok($unknown, '>', 0.005, 'P8: of a new question a byte of 20,000 is a token');
cmp_ok($known, '<', 0.4 * $unknown, 'P8: of a known one as many as were seen, and a tenth more');
cmp_ok($known, '>', sql('SELECT max(cost) FROM llm.ledger WHERE job = (SELECT max(id) FROM llm.job)'),
	'P8: which is above what it costs');

# ---------------------------------------------------------------------------
# Another service tier
# ---------------------------------------------------------------------------

my $at_tier = q(llm_classify('a tier ' || random(), '{bug,other}', options => '{"service_tier": "%s"}'));
my $last = q(SELECT estimated, error, cost < 0.0001 FROM llm.ledger ORDER BY id DESC LIMIT 1);

set_budget(10);
sql('SELECT ' . sprintf $at_tier, 'default');
is(sql($last), 'f||t', 'the usual service tier has the price that is known');
sql('SELECT ' . sprintf $at_tier, 'flex');
is(sql($last), 't|It was answered in service tier "flex", of which no price is known: the cost is an estimate.|t',
	'P3: one that costs less is booked as an estimate, not above the usual price');
my ($code, $out, $err) = $node->psql('postgres', 'SELECT ' . sprintf $at_tier, 'priority');
like($err, qr/budget: what service tier "priority" costs is not known/, 'P8: one that may cost more is not asked for under a budget');
sql(q(SELECT llm.alter_model('one_more', options => '{"extra_body": {"service_tier": "priority"}}');
	UPDATE notes SET label = llm_classify(body, '{c,d}', model => 'one_more') WHERE id = 1));
until_true(q(SELECT reason ~ '^budget: what service tier "priority"' FROM llm.job ORDER BY id DESC LIMIT 1),
	'P8: nor where the model has it among its habits');
sql(q(SELECT llm.drop_budget(id) FROM llm.budget));
wait_idle($node);
is(sql($last) =~ s/"priority".*estimate/ /r, 't|It was answered in service tier  .|t', 'without one it is, as an estimate');
sql(q(SELECT llm.alter_model('one_more', options => '{}')));
$loose = set_budget(10);

# ---------------------------------------------------------------------------
# A server gets another name while it is asked
# ---------------------------------------------------------------------------

my $server = sql(q(SELECT llm.set_budget(10, server => 's_two')));
my $had = sql("SELECT spent FROM llm.budget WHERE id = $server");
$provider->hold;
sql(q(UPDATE mails SET label = llm_classify(body, '{a,b,c}', model => 'two') WHERE id <= 10));
wait_claimed($node);
sql(q(ALTER SERVER s_two RENAME TO s_new));
is(sql(qq(SELECT server, reserved > 0 FROM llm.budget WHERE id = $server)), 's_new|t', 'a budget follows its server to another name');
$provider->go_on;
wait_idle($node);
is(sql(qq(SELECT spent - $had = (SELECT sum(cost) FROM llm.ledger WHERE job = (SELECT max(id) FROM llm.job)), reserved
	FROM llm.budget WHERE id = $server)), 't|0', 'P8: what was under way counts');
sql(q(UPDATE mails SET label = llm_classify(body, '{a,b,d}', model => 'two') WHERE id <= 10));
wait_idle($node);
is(sql(q(SELECT string_agg(DISTINCT server || ' ' || (cost > 0), ',') FROM llm.ledger WHERE job = (SELECT max(id) FROM llm.job))),
	's_new true', 'its models and prices have followed, too');
is(sql(q(SELECT spent = (SELECT sum(cost) FROM llm.ledger) FROM llm.budget
	WHERE server IS NULL AND relation IS NULL AND per = 'total')),
	't', 'P8: to the last digit');

# However many jobs there were of a role or a table, the names that these had are found by index.
my ($plan_code, $plan_out, $plans) = $node->psql('postgres', q(
	CREATE ROLE busy;
	INSERT INTO llm.job (role, role_name, application_name, relation, relation_name, column_name, key_columns,
		operation, recipe, state, announced)
	SELECT 'busy'::regrole, 'busy' || i % 3, '', 'notes'::regclass, 'public.notes' || i % 4, 'label', '{id}',
		'classify', 1, 'finished', 'finished' FROM generate_series(1, 3000) i;
	SELECT llm.set_budget(5, role => 'busy', relation => 'notes') AS budget \gset
	LOAD 'auto_explain';
	SET auto_explain.log_min_duration = 0;
	SET auto_explain.log_nested_statements = on;
	SET auto_explain.log_analyze = on;
	SET client_min_messages = log;
	SELECT llm.spent_before(:budget, '-infinity');));
my @looked_at = $plans =~ /Scan[^\n]* on job\b[^\n]* rows=(\d+)[^\n]* loops=/g;
cmp_ok(scalar @looked_at, '>', 0, 'plans were looked at');
is(scalar(grep { $_ > 100 } @looked_at), 0, 'P10: a budget is opened without a look at all jobs of its role and table');

done_testing();
