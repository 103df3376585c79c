# Retention: llm.prune() deletes what is old and no longer needed, in steps (P10), and nothing
# else: not the bill of what is under way (P3), not what llm.retry() needs (P2, P4), not the
# recipe that a session has found and is about to use (P2).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

my $node = new_node('prune', 'llm_enrich.max_tries = 1', 'llm_enrich.allow_table_writes = off');
my $provider = start_provider();
setup_model($node, $provider);
setup_model($node, $provider, server => 'slow', lane => 'slow', alias => 'slow', model => 'sim-2', is_default => 0);
$provider->script({ sequence => [ { match => 'nonsense', times => -1, action => 'malformed_content' } ] });

# By hand, as nobody else can.
sub by_hand { return sql('SET llm_enrich.allow_table_writes = on;', @_); }

# What llm.prune() tells.
sub prune
{
	my ($before) = @_;
	my (undef, undef, $stderr) = $node->psql('postgres', "CALL llm.prune($before)");

	return $stderr =~ s/^psql:<stdin>:1: //mgr;
}

sub counts
{
	return sql(q(SELECT concat_ws('|', (SELECT count(*) FROM llm.ledger), (SELECT count(*) FROM llm.dead_letter),
		(SELECT count(*) FROM llm.job), (SELECT count(*) FROM llm.job_cost), (SELECT count(*) FROM llm.recipe))));
}

# Until all of the ledger is in the sums of the bill.
sub await_sums
{
	$node->poll_query_until('postgres', 'SELECT (SELECT up_to FROM llm.ledger_summed) >= (SELECT max(id) FROM llm.ledger)')
		or die 'the ledger was not summed';
	return;
}

# ----------------------------------------------------------------------------
# Who may, and how
# ----------------------------------------------------------------------------

sql(q(CREATE ROLE clerk LOGIN; CREATE ROLE keeper LOGIN IN ROLE llm_admin;
	CREATE TABLE note (id int PRIMARY KEY, body text, label jsonb);
	INSERT INTO note SELECT i, CASE i WHEN 3 THEN 'nonsense' ELSE 'text ' || i END FROM generate_series(1, 5) i));
like(($node->psql('postgres', 'CALL llm.prune(now())', extra_params => [ '-U', 'clerk' ]))[2],
	qr/permission denied to prune.*llm_admin/s, 'P9: it is for members of llm_admin');
is(($node->psql('postgres', 'CALL llm.prune(now())', extra_params => [ '-U', 'keeper' ]))[0],
	0, 'who have no other rights');
like(prune('NULL'), qr/needs to know before when/, 'a time is needed');
like(($node->psql('postgres', 'BEGIN; CALL llm.prune(now()); COMMIT'))[2], qr/cannot run inside a transaction block/,
	'and no transaction around it');

# ----------------------------------------------------------------------------
# What goes and what stays
# ----------------------------------------------------------------------------

# One job that is done, one with a dead letter, one with a task on its way.
sql(q(UPDATE note SET label = llm_classify(body, '{a,b}') WHERE id <= 2; CALL llm.wait();
	UPDATE note SET label = llm_classify(body, '{c,d}') WHERE id IN (3, 4); CALL llm.wait()));
$provider->script(
	{ sequence => [ { match => 'text 5', times => -1, action => 'rate_limit', retry_after => 600 } ] }, 'slow');
sql(q(UPDATE note SET label = llm_classify(body, '{e,f}', model => 'slow') WHERE id = 5));
$node->poll_query_until('postgres', q(SELECT count(*) = 1 FROM llm.ledger WHERE outcome = 'rate_limited')) or die 'nothing was asked';
is(counts(), '5|1|3|3|3', 'there is something to delete');
await_sums();
like(prune(q(now() - interval '1 day')),
	qr/NOTICE:  rows deleted: ledger 0, dead letters 0, jobs 0, kept answers 0, answers that were NULL 0, recipes 0$/m,
	'nothing is old');
is(counts(), '5|1|3|3|3', 'so nothing goes');

by_hand(q(UPDATE llm.ledger SET at = at - interval '2 days'; UPDATE llm.recipe SET created_at = created_at - interval '2 days';
	UPDATE llm.job SET finished_at = finished_at - interval '2 days'));
like(prune(q(now() - interval '1 day')), qr{deleted: ledger 4, dead letters 0, jobs 1, kept answers 0, answers that were NULL 0, recipes 1$}m, 'what is old goes');
is(counts(), '1|1|2|2|2', 'P3, P4: but for what is on its way, and what llm.retry() needs');
is(sql('SELECT count(*) FROM llm.ledger l JOIN llm.queue q ON q.id = l.task'), 1, 'P3: the bill of what is on its way is there');

sql(q(SELECT llm.cancel(relation => 'note')));
wait_idle($node);

# A step looks at 5,000 rows; the walk ends where nothing is old any more.
by_hand(q(INSERT INTO llm.ledger (at, role, operation, lane, outcome)
	SELECT now() - CASE WHEN i <= 12000 THEN interval '2 days' ELSE interval '0' END,
		'x', 'classify', 'realtime', 'error'
	FROM generate_series(1, 13000) i));
sql(q(UPDATE note SET label = llm_classify(body, '{i,j}') WHERE id = 1; CALL llm.wait()));
await_sums();
like(prune(q(now() - interval '1 day')), qr/deleted: ledger 12001,/, 'P10: many go in steps');
is(sql('SELECT count(*) FROM llm.ledger'), 1001, 'and the others stay');

# ----------------------------------------------------------------------------
# llm.retry() and jobs that are gone
# ----------------------------------------------------------------------------

my $job = sql('SELECT job FROM llm.dead_letter');
by_hand("DELETE FROM llm.job WHERE id = $job");
$provider->script({ sequence => [ { match => 'nonsense', times => -1, action => 'ok' } ] });
is(sql("SELECT llm.retry(job => $job)"), 1, 'P4: a dead letter whose job is gone is asked again');
$node->poll_query_until('postgres', q(SELECT llm_status(label) = 'done' FROM note WHERE id = 3)) or die 'it was not answered';
is(sql('SELECT count(*) FROM llm.dead_letter'), 0, 'P2: and answered');

# ----------------------------------------------------------------------------
# A recipe for each row, where an argument comes from a column
# ----------------------------------------------------------------------------

sql(q(CREATE TABLE wish (id int PRIMARY KEY, body text, condition text, holds boolean);
	INSERT INTO wish SELECT i, 'text', 'it is about ' || i FROM generate_series(1, 5000) i));
$provider->script({ answers => { text => '{"match": true}' } });
sql(q(UPDATE wish SET holds = llm_filter(body, condition)));
cmp_ok(sql('SELECT count(*) FROM llm.recipe'), '>', 5000, 'a recipe for each condition');
wait_idle($node);
await_sums();
by_hand(q(UPDATE llm.recipe SET created_at = created_at - interval '2 days';
	UPDATE llm.job SET finished_at = finished_at - interval '2 days', created_at = created_at - interval '2 days'));
like(prune(q(now() - interval '1 day')), qr{jobs 50\d\d, kept answers \d+, answers that were NULL 0, recipes 5\d\d\d$}m, 'P10: all of them go');
is(sql(q(SELECT count(*) FROM llm.recipe r WHERE r.spec::text ~ 'it is about')), 0, 'none is left');
is(sql(q(SELECT count(*) FROM llm.recipe_stat s WHERE NOT EXISTS (SELECT FROM llm.recipe r WHERE r.id = s.recipe))), 0,
	'nor what was learned of them');
$provider->script({});

# ----------------------------------------------------------------------------
# A recipe that somebody has just found
# ----------------------------------------------------------------------------

by_hand(q(UPDATE llm.job SET finished_at = finished_at - interval '2 days'));
sql(q(UPDATE note SET label = llm_classify(body, '{g,h}') WHERE id = 1; CALL llm.wait()));
my $recipe = sql('SELECT recipe FROM llm.job WHERE id = llm.last_job()') || sql('SELECT max(id) FROM llm.recipe');
by_hand(q(UPDATE llm.job SET day = day - 2, state = 'finished', finished_at = now() - interval '2 days'
		WHERE id = (SELECT max(id) FROM llm.job);
	UPDATE llm.recipe SET created_at = now() - interval '2 days'));

my $session = $node->background_psql('postgres', on_error_stop => 1);
$session->query_safe(q(BEGIN; UPDATE note SET label = llm_classify(body, '{g,h}') WHERE id = 2));
like(prune(q(now() - interval '1 day')), qr/recipes that nothing refers to are left to the next llm\.prune\(\)/,
	'a transaction that may have found a recipe is not passed over');
is(sql("SELECT count(*) FROM llm.recipe WHERE id = $recipe"), 1, 'P2: nor is the recipe taken away from it');
$session->query_safe('COMMIT');
$session->quit;
wait_idle($node);
is(sql('SELECT llm_status(label) FROM note WHERE id = 2'), 'done', 'P2: so that its task is answered');
prune(q(now() - interval '1 day'));
is(sql("SELECT count(*), bool_and(length(hash) = 32) FROM llm.recipe WHERE id = $recipe"), '1|t', 'and it can be found again');
my $number = sql('SELECT max(id) FROM llm.recipe');
sql(q(UPDATE note SET label = llm_classify(body, '{g,h}') WHERE id = 4; CALL llm.wait()));
is(sql('SELECT max(id) FROM llm.recipe'), $number, 'which the next statement does');

done_testing();
