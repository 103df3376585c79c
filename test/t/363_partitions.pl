# Rows of partitioned tables are written to their partitions by name, where that comes to the same: with as many
# partitions as there may be it costs about what it costs without any, and rights, triggers and rows that are in
# another partition meanwhile are as ever (P5, P6, P9).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use List::Util qw(max);
use Test::More;
use Time::HiRes qw(time);

use LLMTest;

use constant {
	PARTITIONS => 1500,
	ROWS => 9000
};

my $node = new_node('partitions', 'max_locks_per_transaction = 512', 'fsync = off');
my $provider = start_provider();

setup_model($node, $provider, options => { max_concurrency => 64 });

# Rows of a job that end in a second, from when the statement is over.
sub rate
{
	my ($table, $labels) = @_;
	my $job = sql("UPDATE $table SET label = llm_classify(body, '{$labels}'); SELECT llm.last_job()");
	my $began = time;

	$node->poll_query_until('postgres', "SELECT state = 'finished' FROM llm.job WHERE id = $job") or die "$table is not done";
	return ROWS / (time - $began);
}

sub outcomes
{
	my $job = shift;

	$node->poll_query_until('postgres', "SELECT state = 'finished' FROM llm.job WHERE id = $job") or die "job $job is not done";
	return sql("SELECT concat_ws(' ', done, failed, superseded, row_gone) FROM llm.job WHERE id = $job");
}

# ---------------------------------------------------------------------------
# Many
# ---------------------------------------------------------------------------

sql(qq(CREATE TABLE whole (id int PRIMARY KEY, body text, label jsonb);
	INSERT INTO whole SELECT i, 'The invoice of customer ' || i || ' is wrong' FROM generate_series(0, @{[ROWS - 1]}) i;
	CREATE TABLE many (id int PRIMARY KEY, body text, label jsonb) PARTITION BY RANGE (id);
	DO \$\$ BEGIN FOR i IN 0 .. @{[PARTITIONS - 1]} LOOP
		EXECUTE format('CREATE TABLE many_%s PARTITION OF many FOR VALUES FROM (%s) TO (%s)', i, 6 * i, 6 * i + 6);
	END LOOP; END \$\$;
	INSERT INTO many SELECT * FROM whole;));
$provider->script({ latency_ms => 20 });
rate('whole', 'a,b');
# the best of three of both, in turn: the machine may have other work
my ($whole, $many) = (0, 0);
foreach my $labels ('billing,bug', 'billing,bug,c', 'billing,bug,d')
{
	$whole = max($whole, rate('whole', $labels));
	$many = max($many, rate('many', $labels));
}
cmp_ok($many, '>=', $whole * 0.5, sprintf('P6: with %d partitions %.0f rows a second, without %.0f', PARTITIONS, $many, $whole));
is(sql(q(SELECT count(*) FILTER (WHERE llm_status(label) = 'done') FROM many)), ROWS, 'each cell has its answer');

# ---------------------------------------------------------------------------
# As ever
# ---------------------------------------------------------------------------

$provider->script({});
sql(q(CREATE ROLE clerk; GRANT USAGE ON FOREIGN SERVER sim TO clerk;
	CREATE TABLE few (id int PRIMARY KEY, body text, label jsonb, gist text) PARTITION BY RANGE (id);
	DO $$ BEGIN FOR i IN 0 .. 11 LOOP
		EXECUTE format('CREATE TABLE few_%s PARTITION OF few FOR VALUES FROM (%s) TO (%s)', i, 10 * i, 10 * i + 10);
	END LOOP; END $$;
	INSERT INTO few SELECT i, 'The invoice of customer ' || i || ' is wrong' FROM generate_series(0, 119) i;
	GRANT SELECT, UPDATE (label, gist) ON few TO clerk));
sub ask
{
	my ($set, $where, $before) = @_;

	return sql(($before // ''), "SET SESSION AUTHORIZATION clerk; UPDATE few SET $set WHERE $where; SELECT llm.last_job()");
}

is(outcomes(ask(q(label = llm_classify(body, '{billing,bug}')), 'true')), '120 0 0 0',
	'P9: a role that may update the partitioned table needs no right to its partitions');
is(outcomes(ask(q(gist = llm_summarize(body, 5)), 'true')), '120 0 0 0', 'also in cells that show nothing');
is(sql(q(SELECT count(*) FROM few WHERE llm_status(label) = 'done' AND gist IS NOT NULL)), 120, 'all of them');

# What the clerk may not do by name it may still not do: also where a plan for the same partition is at hand
sending($node, 'off');
my $refused = sql(q(GRANT SELECT, UPDATE (label) ON few_3 TO clerk; SET SESSION AUTHORIZATION clerk;
	UPDATE few_3 SET label = llm_classify(body, '{x,y}'); SELECT llm.last_job()));
# fewer than the failures that pause a job which has rows left
my $lost = ask(q(label = llm_classify(body, '{x,y}')), 'id BETWEEN 40 AND 57');
sql('REVOKE ALL ON few_3, few FROM clerk; REVOKE UPDATE (label) ON few_3, few FROM clerk');
sending($node, 'on');
is(outcomes($refused), '0 10 0 0', 'P9: a right to the partition that was lost is asked for');
is(sql("SELECT DISTINCT reason FROM llm.dead_letter WHERE job = $refused"), 'forbidden', 'by name');
is(outcomes($lost), '0 18 0 0', 'P9: and so is that to the partitioned table');
is(sql("SELECT DISTINCT reason FROM llm.dead_letter WHERE job = $lost"), 'forbidden', 'likewise');
sql('GRANT SELECT, UPDATE (label, gist) ON few TO clerk');

# Triggers of the statement, and of a row; one that suppresses is not asked twice
sql(q(CREATE TABLE seen (what text); GRANT INSERT ON seen TO PUBLIC;
	CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF current_setting('llm_enrich.writeback') = 'on' THEN INSERT INTO seen VALUES (TG_ARGV[0]);
			IF TG_ARGV[0] = 'suppress' THEN RETURN NULL; END IF; END IF;
		RETURN NEW; END $$;
	CREATE TRIGGER a BEFORE UPDATE ON few FOR EACH ROW WHEN (OLD.id = 7) EXECUTE FUNCTION tell('suppress')));
is(outcomes(ask(q(label = llm_classify(body, '{p,q}')), 'id < 30')), '29 1 0 0', 'a trigger suppresses one row');
is(sql(q(SELECT reason FROM llm.dead_letter WHERE key = '{"id": 7}' ORDER BY failed_at DESC LIMIT 1)), 'not_writable', 'which is told');
is(sql('SELECT count(*) FROM seen'), 1, 'and was asked once');
sql(q(DROP TRIGGER a ON few; TRUNCATE seen;
	CREATE TRIGGER b AFTER UPDATE ON few FOR EACH STATEMENT EXECUTE FUNCTION tell('statement')));
is(outcomes(ask(q(label = llm_classify(body, '{r,s}')), 'id < 30')), '30 0 0 0', 'a trigger of the statement');
cmp_ok(sql('SELECT count(*) FROM seen'), '>', 0, 'it is run');
sql(q(DROP TRIGGER b ON few; TRUNCATE seen;
	CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF NEW.id IN (11, 12, 25) AND current_setting('llm_enrich.writeback') = 'on' THEN RAISE 'not this one'; END IF;
		RETURN NEW; END $$;
	CREATE TRIGGER c BEFORE UPDATE ON few FOR EACH ROW EXECUTE FUNCTION fail()));
is(outcomes(ask(q(label = llm_classify(body, '{t,u}')), 'id < 50')), '47 3 0 0', 'P5: a bad row costs only itself');
sql('DROP TRIGGER c ON few');

# Row security is that of the partitioned table
sql(q(ALTER TABLE few ENABLE ROW LEVEL SECURITY; CREATE POLICY all_of_it ON few TO clerk USING (true)
	WITH CHECK (id <> 3 OR current_setting('llm_enrich.writeback') <> 'on')));
is(outcomes(ask(q(label = llm_classify(body, '{v,w}')), 'id < 20')), '19 1 0 0', 'P9: a policy of the partitioned table holds');
sql('DROP POLICY all_of_it ON few; ALTER TABLE few DISABLE ROW LEVEL SECURITY');

# A partition is replaced while its rows wait: the row is where its key is
sending($node, 'off');
my $moved = ask(q(label = llm_classify(body, '{m,n}')), 'id < 30');
sql(q(BEGIN; CREATE TABLE aside AS SELECT * FROM few_1; DROP TABLE few_1;
	CREATE TABLE few_1a PARTITION OF few FOR VALUES FROM (10) TO (15);
	CREATE TABLE few_1b PARTITION OF few FOR VALUES FROM (15) TO (20);
	INSERT INTO few SELECT * FROM aside; DELETE FROM few WHERE id = 12; COMMIT));
sending($node, 'on');
is(outcomes($moved), '29 0 0 1', 'P5: rows that are in another partition now are found');

wait_idle($node);
ledger_equals_meter($node, $provider, 'P3: ledger equals meter');
done_testing();
