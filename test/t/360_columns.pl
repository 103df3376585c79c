# Columns that change under pending tasks: a renamed one is followed, nothing is asked for one that
# was dropped, and a job whose answers can no longer be written is paused, whatever it has done before.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest qw(!sql);

use constant ROWS => 400;

my $node = new_node('columns', 'llm_enrich.enabled = off');
my $provider = start_provider();
setup_model($node, $provider, options => { max_concurrency => 8 });

sub sql { return $node->safe_psql('postgres', join(";\n", @_)); }

# A table of that many rows, the last two fifths of which say so, and its pending job.
sub enrich
{
	my ($name, $rows) = @_;

	sql("CREATE TABLE $name (id int PRIMARY KEY, body text, label jsonb);
		INSERT INTO $name SELECT i, '$name ' || i || ' is a wrong invoice' || CASE WHEN i > 0.6 * $rows THEN ', late' ELSE '' END FROM generate_series(1, $rows) i");
	return sql("UPDATE $name SET label = llm_classify(body, '{billing,bug}'); SELECT llm.last_job()");
}

sub wait_for
{
	my ($what, $condition) = @_;

	$node->poll_query_until('postgres', "SELECT $condition") or die "not seen: $what";
	return;
}

# Renamed.
my $job = enrich('renamed', ROWS);
sql('ALTER TABLE renamed RENAME COLUMN label TO verdict; ALTER TABLE renamed RENAME COLUMN id TO nr;
	ALTER TABLE renamed ADD COLUMN label jsonb');
my $again = sql("UPDATE renamed SET label = llm_classify(body, '{billing,bug}') WHERE nr = 1; SELECT llm.last_job()");
is(sql(q(BEGIN; SELECT llm.cancel('renamed', 'verdict'); ROLLBACK; BEGIN; SELECT llm.cancel('renamed', 'label'); ROLLBACK)),
	ROWS . "\n1", 'by the name of today one cancels the tasks of a renamed column, and no others');
is(sql(q(SELECT llm.pause('renamed', 'verdict'); SELECT string_agg(state, ' ' ORDER BY id) FROM llm.job;
	SELECT llm.resume('renamed', 'label'); SELECT llm.resume('renamed', 'verdict'))), "1\npaused open\n0\n1",
	'pauses and resumes them');
is(sql(q(SELECT llm.cell_status('renamed', 'verdict', '{"id": 2}'), llm.cell_status('renamed', 'label', '{"id": 2}'),
	llm.cell_status('renamed', 'label', '{"nr": 1}'))), 'pending||pending', 'sees how one stands');
sending($node, 'on');
sql("CALL llm.wait('renamed', 'verdict', timeout => '120 s')");
is(sql("SELECT count(*) FROM llm.queue WHERE job = $job"), 0, 'and waits for them');
sql("CALL llm.wait(job => $again, timeout => '120 s')");
is(sql("SELECT done, failed FROM llm.job WHERE id = $job"), ROWS . '|0', 'P2: columns of the answer and of the key are renamed: all are answered');
is(sql(q(SELECT count(*) FROM renamed WHERE verdict = '{"label": "billing"}')), ROWS, 'each in its cell');
is(sql(q(SELECT string_agg(nr::text, ' ') FROM renamed WHERE label = '{"label": "billing"}')), '1',
	'a new column of the old name has answers of its own');

# Failed, and then renamed; and by the name of a partition.
$provider->script({ wrong_label => 1 });
$job = enrich('failing', 2);
wait_idle($node);
$provider->script({});
sql('ALTER TABLE failing RENAME COLUMN label TO verdict; ALTER TABLE failing ADD COLUMN label jsonb');
is(sql(q(SELECT llm.cell_status('failing', 'verdict', '{"id": 2}'), llm.cell_status('failing', 'label', '{"id": 2}'))), 'failed|',
	'the failed cells of a renamed column are found by its name of today');
is(sql(q(SELECT llm.retry('failing', 'label'); BEGIN; SELECT llm.retry('failing', 'verdict'); ROLLBACK;
	SELECT llm.discard('failing', 'label'), llm.discard('failing', 'verdict'))), "0\n2\n0|2", 'retried and discarded');
wait_idle($node);
sending($node, 'off');
sql(q(CREATE TABLE parted (id int PRIMARY KEY, body text, label jsonb) PARTITION BY RANGE (id);
	CREATE TABLE part PARTITION OF parted FOR VALUES FROM (1) TO (10);
	INSERT INTO parted SELECT i, 'a wrong invoice' FROM generate_series(1, 2) i;
	UPDATE parted SET label = llm_classify(body, '{billing,bug}') WHERE id = 1));
is(sql(q(SELECT llm.cell_status('part', 'label', '{"id": 1}'), llm.cell_status('parted', 'label', '{"id": 1}'),
	llm.cell_status('part', 'label', '{"id": 2}'), llm.cancel('part', 'label'))), 'pending|pending||1',
	'a cell is found by its partition, as it is cancelled');
sending($node, 'on');
wait_idle($node);

# The same question again, by the new name, and another one that takes its place.
sending($node, 'off');
my $requests = $provider->meter->{requests};
$job = enrich('asked', 2);
sql('ALTER TABLE asked RENAME COLUMN label TO verdict');
sql(q(UPDATE asked SET verdict = llm_classify(body, '{billing,bug}') WHERE id = 1),
	q(UPDATE asked SET verdict = llm_classify(body, '{billing,defect}') WHERE id = 2));
sending($node, 'on');
wait_idle($node);
is($provider->meter->{requests} - $requests, 2, 'P1: asked again by its new name, nothing is sent twice');
is(sql('SELECT count(*) FROM asked WHERE verdict IS NOT NULL AND NOT llm_is_pending(verdict)'), 2, 'and both have answers');

# The name is taken over by a new column, to which the markers were copied.
sending($node, 'off');
$job = enrich('retyped', 3);
sql('ALTER TABLE retyped ADD COLUMN new jsonb; UPDATE retyped SET new = label; ALTER TABLE retyped DROP COLUMN label;
	ALTER TABLE retyped RENAME COLUMN new TO label');
sending($node, 'on');
sql("CALL llm.wait(job => $job, timeout => '60 s')");
is(sql("SELECT done FROM llm.job WHERE id = $job"), 3, 'a column that took the place of a dropped one gets the answers');

# What comes late takes its time, so that much of it is left when the rest is done.
my $late = { latency_ms => 5, sequence => [ { match => ', late', times => -1, action => 'ok', delay_ms => 1000 } ] };
my $most_done = "done >= 0.6 * @{[ROWS]} FROM llm.job WHERE id =";

# Dropped, with a part of the job done.
foreach my $column (qw(label id))
{
	my $name = "dropped_$column";

	sending($node, 'off');
	$job = enrich($name, ROWS);
	$requests = $provider->meter->{requests};
	$provider->script($late);
	sending($node, 'on');
	wait_for('what is not late', "$most_done $job");
	sql("ALTER TABLE $name DROP COLUMN $column");
	wait_for('the look', "count(*) > 0 FROM llm.dead_letter WHERE job = $job AND reason = 'column_gone' AND attempts = 0");
	my $asked = $provider->meter->{requests} - $requests;
	sql("CALL llm.wait(job => $job, timeout => '60 s')");
	is($provider->meter->{requests} - $requests, $asked, "P1: column $column is dropped: nothing is sent after the look that finds it");
	cmp_ok($asked, '<', ROWS, 'before all was asked');
	is(sql("SELECT count(*) FROM llm.dead_letter WHERE job = $job AND reason <> 'column_gone'"), 0, 'the rest failed for that reason');
	is(sql("SELECT done + failed FROM llm.job WHERE id = $job"), ROWS, 'P2: and nothing is lost');
}

# A trigger that refuses every UPDATE, with most of the job done.
sending($node, 'off');
$job = enrich('refused', ROWS);
$requests = $provider->meter->{requests};
sending($node, 'on');
wait_for('what is not late', "$most_done $job");
sql(q(CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''closed''; END';
	CREATE TRIGGER refuse BEFORE UPDATE ON refused FOR EACH ROW EXECUTE FUNCTION refuse()));
wait_for('the pause', "state = 'paused' FROM llm.job WHERE id = $job");
like(sql("SELECT why FROM llm.progress WHERE job = $job"),
	qr/^paused: the last \d+ answers could not be written; SELECT .*job = $job; .*llm.resume\(job => $job\); goes on$/,
	'refused writes pause a job that was well before');
wait_for('what was under way', "count(*) = 0 FROM llm.queue WHERE job = $job AND state <> 'ready'");
my $left = sql("SELECT count(*) FROM llm.queue WHERE job = $job");
cmp_ok($left, '>', 0, "P1: $left rows are not asked");
$provider->script({});
sql("DROP TRIGGER refuse ON refused; SELECT llm.resume(job => $job); CALL llm.wait(job => $job, timeout => '60 s')");
sql("SELECT llm.retry(job => $job)");
wait_idle($node);
is(sql(q(SELECT count(*) FROM refused WHERE label = '{"label": "billing"}')), ROWS, 'P2: resumed and retried, all are answered');
is($provider->meter->{requests} - $requests, ROWS, 'P1: and asked once');
ledger_equals_meter($node, $provider, 'P3: ledger equals meter');

done_testing();
