# Single-row statements of many sessions share a job of the day. Their task ids
# come in blocks, so they are not committed in the order of their ids: none is
# left behind until the sweep (P2).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

my $node = new_node('single');
my $provider = start_provider();
setup_model($node, $provider);
$node->safe_psql('postgres', 'CREATE TABLE note (id int PRIMARY KEY, body text, label jsonb)');

my @session = map { $node->background_psql('postgres') } 1 .. 2;

sub insert
{
	my ($session, $id) = @_;

	$session->query_safe(
		"INSERT INTO note VALUES ($id, 'row $id [[mark:$id]]', llm_classify('row $id [[mark:$id]]', '{a,b}'))");
	return;
}

sub answered
{
	my $id = shift;

	my $job = $node->safe_psql('postgres', 'SELECT max(id) FROM llm.job');

	$node->psql('postgres', "CALL llm.wait(job => $job, timeout => '3 minutes')");
	return $node->safe_psql('postgres', "SELECT llm_status(label) FROM note WHERE id = $id");
}

same_day();
insert($session[0], 1);
insert($session[1], 2);
is(answered(2), 'done', 'the second session draws higher ids');
insert($session[0], 3);
is(answered(3), 'done', 'a lower id that comes later is answered at once');
foreach my $id (4 .. 60)
{
	insert($session[ $id % 2 ], $id);
}
is(answered(60), 'done', 'and many of both');
is($node->safe_psql('postgres', "SELECT count(*) FROM note WHERE llm_status(label) = 'done'"), 60, 'P2: nothing is lost');
is($node->safe_psql('postgres', 'SELECT count(*), sum(done), bool_and(day IS NOT NULL) FROM llm.job'), '1|60|t',
	'one job of the day for all of them');

# The ledger says by whom a row was asked, though applications share a job; a role by another name has its own
my $seen = q(SELECT string_agg(concat_ws(' ', role, application_name, outcome), ', ' ORDER BY (key->>'id')::int)
	FROM llm.ledger WHERE (key->>'id')::int > 100);
$node->safe_psql('postgres', 'CREATE ROLE clerk SUPERUSER');
sending($node, 'off');
$provider->script({ sequence => [ { match => 'row 101 ', times => -1, action => 'ok', delay_ms => 3000 } ] });
$session[1]->query_safe($_) foreach "SET application_name = 'shop'", 'SET ROLE clerk';
# a new sender asks one row first; the two after it are in flight together
insert($session[1], 100);
insert($session[1], 101);
$session[1]->query_safe($_) foreach "SET application_name = 'desk'",
	"INSERT INTO note SELECT 102, body, llm_classify(body, '{a,b}') FROM note WHERE id = 101";
$node->safe_psql('postgres', 'ALTER ROLE clerk RENAME TO agent');
sending($node, 'on');
wait_idle($node);
insert($session[1], 103);
wait_idle($node);
is($node->safe_psql('postgres', q(SELECT DISTINCT p.state, j.state, p.waiting FROM llm.progress p JOIN llm.job j ON j.id = p.job)),
	'open|open|0', 'llm.progress and llm.job agree about a job of the day that waits for nothing');
is($node->safe_psql('postgres', $seen), 'clerk shop ok, clerk desk cached, agent desk ok', 'P3: the ledger names who asked');
is($node->safe_psql('postgres', "SELECT count(DISTINCT job) FROM llm.ledger WHERE (key->>'id')::int > 100"), 2, 'of two jobs');
$provider->script({ sequence => [ { match => 'row 104 ', action => 'refusal' } ] });
$session[1]->query_safe("SET application_name = 'shop'");
insert($session[1], 104);
wait_idle($node);
is($session[1]->query_safe('SELECT llm.retry(task => task) FROM llm.dead_letter'), 1, 'one was refused and is asked again');
wait_idle($node);
is($node->safe_psql('postgres', "SELECT string_agg(concat_ws(' ', role, application_name, outcome), ', ' ORDER BY id)
	FROM llm.ledger WHERE key->>'id' = '104'"), 'agent shop refused, agent shop ok', 'P3: for the same one');
$session[1]->query_safe($_) foreach 'RESET ROLE', 'RESET application_name';

# Many tasks wait for a time, of the sender's and of the writer's: who adds one has nothing to do with them
my $read = q(SELECT sum(idx_tup_read) FROM pg_stat_all_indexes
	WHERE schemaname = 'llm' AND indexrelname IN ('queue_due', 'queue_put_off'));
$node->safe_psql('postgres', q(
	INSERT INTO llm.queue (id, job, recipe, role, relation, state, reason, outcome, not_before, claimed_at, key, input)
	SELECT -i, -1, 1, 10, 0, 'waiting', 'backoff', CASE WHEN i % 2 = 0 THEN 'answered' END,
		now() + interval '10 min', now(), '{}', ''
	FROM generate_series(1, 20000) i));
my $before = $node->safe_psql('postgres', $read);
insert($session[0], $_) foreach 61 .. 70;
is(answered(70), 'done', 'P6: tasks that wait hold up nobody');
cmp_ok($node->safe_psql('postgres', $read) - $before, '<', 10_000, 'P10: nor is any of them looked at for it');
$node->safe_psql('postgres', 'DELETE FROM llm.queue WHERE job = -1');
$_->quit foreach @session;
ledger_equals_meter($node, $provider, 'P3: ledger equals meter');

done_testing();
