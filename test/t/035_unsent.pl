# What is not sent is not paid: tasks that two sessions cancel at once, tasks past their
# deadline, rows whose marker a view would hide. And what a view shows while it is pending.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

my $node = new_node('unsent', 'llm_enrich.enabled = off');
my $provider = start_provider();
setup_model($node, $provider);
sql('CREATE ROLE ana; GRANT USAGE ON FOREIGN SERVER sim TO ana; GRANT CREATE ON SCHEMA public TO ana;');

sub requests { return $provider->meter->{requests}; }

# A table of 4 rows that is ana's.
sub make_table
{
	my $name = shift;

	sql("SET ROLE ana; CREATE TABLE $name (id int PRIMARY KEY, body text, label jsonb);
		INSERT INTO $name SELECT i, 'The invoice is wrong ' || i FROM generate_series(1, 4) i;");
	return;
}

sub enrich
{
	my ($name, $options) = @_;

	return sql("SET ROLE ana; UPDATE $name SET label = llm_classify(body, '{billing,bug}'",
		defined $options ? ", options => '$options'" : '', '); SELECT llm.last_job();');
}

# Counts of a job when all its tasks are final, but for those that are 0.
sub outcome
{
	my $job = shift;

	sql("CALL llm.wait(job => $job, timeout => '3 minutes')");
	return sql("SELECT string_agg(n || ' ' || v.state, ', ' ORDER BY v.state) FROM llm.job,
		LATERAL (VALUES (done, 'done'), (failed, 'failed'), (superseded, 'superseded'), (cancelled, 'cancelled'),
			(row_gone, 'row_gone')) v(n, state)
		WHERE id = $job AND n > 0");
}

# Two sessions cancel the same tasks, and the one that holds them undoes it.
make_table('twice');
make_table('other');
my $job = enrich('twice');
my $first = $node->background_psql('postgres');
$first->query_safe('BEGIN');
is($first->query_safe("SELECT llm.cancel(job => $job)"), 4, 'a session cancels');
is(sql("SELECT llm.cancel(job => $job)"), 4, 'so does another, and does not wait');
sending($node, 'on');
is(outcome(enrich('other')), '4 done', 'other work goes on meanwhile');
is(sql("SELECT count(*) FROM llm.queue WHERE job = $job AND state = 'ready'"), 4, 'the tasks are locked');
my $before = requests();
$first->query_safe('ROLLBACK');
$first->quit;
make_table('more');
is(outcome(enrich('more')), '4 done', 'the sender takes what it finds');
is(outcome($job), '4 cancelled', 'P2: what the second session cancelled is cancelled, though the first undid it');
is(requests(), $before + 4, 'P1: and was never sent');
is(sql("SELECT count(*) FROM twice WHERE label IS NULL"), 4, 'the cells have back what they held');
$node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM llm.cancellation') or die 'a cancellation stays';
pass('no cancellation is left');

# A deadline.
$before = requests();
make_table($_) foreach qw(late past early);
is(outcome(enrich('past', '{"deadline": "2020-01-31 18:00+01"}')), '4 failed', 'nothing is sent after its deadline');
sending($node, 'off');
$job = enrich('late', '{"deadline": "1 second"}');
is(outcome($job), '4 failed', 'what is unsent at its deadline fails by itself');
is(sql("SELECT DISTINCT reason || ' ' || attempts || ' ' || COALESCE(cost, 0) FROM llm.dead_letter WHERE job = $job"),
	'deadline 0 0', 'for that reason');
is(sql("SELECT DISTINCT label #>> '{llm_enrich,error}' FROM late"), 'deadline', 'and its cell says so');
is(requests(), $before, 'P3: unpaid');
sending($node, 'on');
is(outcome(enrich('early', '{"deadline": "2 hours"}')), '4 done', 'what is sent before its deadline is answered');
is(sql("SELECT llm.retry(job => $job)"), 4, 'a retry');
is(outcome(sql('SELECT max(id) FROM llm.job')), '4 done', 'has no deadline');
make_table('single');
same_day();
sql("SET ROLE ana; UPDATE single SET label = llm_classify(body, '{billing,bug}', options => '{\"deadline\": \"$_->[1]\"}') WHERE id = $_->[0]")
	foreach [ 1, '2999-01-01 00:00+00' ], [ 2, '2999-01-01 00:00+00' ], [ 3, '2999-01-02 00:00+00' ];
is(sql(q(SELECT string_agg(to_char(deadline AT TIME ZONE 'UTC', 'DD'), ' ' ORDER BY id) FROM llm.job WHERE relation = 'single'::regclass)), '01 02',
	'single rows share a job when their deadline is the same');

# 60 late tasks do not open the job's breaker: there is nothing to stop any more.
sql("SET ROLE ana; CREATE TABLE many (id int PRIMARY KEY, body text, label jsonb); INSERT INTO many SELECT i, 'x' FROM generate_series(1, 60) i;");
is(outcome(enrich('many', '{"deadline": "2020-01-31"}')), '60 failed', 'late tasks pause no job');

# Views and policies that show pending rows get their answers.
make_table('base');
sql("SET ROLE ana; CREATE VIEW todo AS SELECT * FROM base WHERE label IS NULL OR llm_is_pending(label);");
$before = requests();
my ($rc, undef, $err) = $node->psql('postgres', 'SET ROLE ana; CREATE VIEW empty AS SELECT * FROM base WHERE label IS NULL;
	UPDATE empty SET label = llm_classify(body);');
like($err, qr/would be hidden by view "empty"/, 'a view that would lose its rows is refused');
is(sql('SELECT count(*) FROM base WHERE label IS NOT NULL'), 0, 'and nothing is queued');
is(outcome(enrich('todo')), '4 done', 'through a view that shows what is pending, the answers come');
is(sql("SELECT count(*) FROM base WHERE label = '{\"label\": \"billing\"}'"), 4, 'each into its cell');
is(sql('SELECT count(*) FROM todo'), 0, 'and the view is empty');
is(requests(), $before + 4, 'P3: paid once each');
make_table('guarded');
sql('ALTER TABLE guarded OWNER TO CURRENT_USER; ALTER TABLE guarded ENABLE ROW LEVEL SECURITY; GRANT SELECT, UPDATE ON guarded TO ana;',
	'CREATE POLICY reading ON guarded FOR SELECT USING (true);',
	'CREATE POLICY filling ON guarded FOR UPDATE USING (label IS NULL OR llm_is_pending(label)) WITH CHECK (true);');
is(outcome(enrich('guarded')), '4 done', 'the same under row security');
ledger_equals_meter($node, $provider, 'P3: ledger equals meter');

done_testing();
