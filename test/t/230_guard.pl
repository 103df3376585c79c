# Nobody but the extension writes its tables (P9): no role that may write all data and is above
# row security, no superuser but by a setting, no publisher; whatever way they try. What must
# pass does: the extension itself, its dumps, everybody else's tables and sequences.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

my $node = new_node('guard', { init => [ allows_streaming => 'logical' ] }, 'llm_enrich.allow_table_writes = off');
my $provider = start_provider();
setup_model($node, $provider);
my $super = $node->safe_psql('postgres', 'SELECT current_user');

sub as
{
	my ($role, $statement) = @_;

	return $node->psql('postgres', $statement, extra_params => [ '-U', $role ], on_error_stop => 1);
}

# The statement of a role fails, and says why.
sub refused
{
	my ($role, $statement, $message, $name) = @_;
	my ($rc, $out, $err) = as($role, $statement);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($rc != 0 && $err =~ $message, $name // 'P9: ' . $statement =~ s/\s+/ /gr =~ s/^(.{70}).+/$1.../r)
		or diag("rc $rc, stdout: $out, stderr: $err");
	return;
}

# Everything that is in our tables and sequences, but for the numbers of workers.
sub contents
{
	my $tables = sql(q(SELECT string_agg(format(CASE relkind WHEN 'r' THEN 'SELECT %L, md5(string_agg(t::text, %L ORDER BY t::text)) FROM %s t'
		ELSE 'SELECT %L, concat(last_value, %L) FROM %s' END, c.relname, ',', c.oid::regclass), ' UNION ALL ' ORDER BY relname)
		FROM pg_class c WHERE relnamespace = 'llm'::regnamespace AND relkind IN ('r', 'S') AND relname NOT LIKE '%_number'));

	return sql($tables);
}

# A job that is done, one that waits in the queue, and a dead letter.
$provider->script({ sequence => [ { match => 'nonsense', times => -1, action => 'malformed_content' } ] });
sql(q(
	CREATE ROLE forger LOGIN BYPASSRLS;
	GRANT pg_write_all_data, pg_read_all_data TO forger;
	CREATE TABLE note (id int PRIMARY KEY, body text, label jsonb);
	INSERT INTO note SELECT i, CASE i WHEN 1 THEN 'nonsense' ELSE 'text ' || i END FROM generate_series(1, 5) i;
	GRANT CREATE ON SCHEMA public TO forger;
	UPDATE note SET label = llm_classify(body, '{a,b}') WHERE id < 5;
	CALL llm.wait();));
sending($node, 'off');
sql(q(UPDATE note SET label = llm_classify(body, '{a,b}') WHERE id = 5));
is(sql('SELECT (SELECT count(*) FROM llm.queue), (SELECT count(*) FROM llm.dead_letter)'), '1|1', 'there is something to forge');
# what the writer has to tell of it is told
$node->poll_query_until('postgres', 'SELECT bool_and(announced = state) FROM llm.job') or die 'a job is not announced';
my $before = contents();

# ----------------------------------------------------------------------------
# BYPASSRLS with pg_write_all_data
# ----------------------------------------------------------------------------

my $guard = qr/42501|cannot (?:write or lock rows of|truncate|set|lock|create a \w+ on) "llm\.\w+"/;
my $forged = "INSERT INTO llm.queue (id, job, recipe, role, relation, state, outcome, key, input, answer)
	SELECT 1, 1, 1, '$super'::regrole, 'note'::regclass, 'answered', 'answered', '{\"id\": 5}', '', '{}'";
refused('forger', $_, $guard) foreach (
	$forged,
	"WITH forged AS ($forged RETURNING id) SELECT * FROM forged",
	"DO \$\$BEGIN EXECUTE 'UPDATE llm.queue SET role = 10'; END\$\$",
	"PREPARE p AS UPDATE llm.job SET role = 10; EXECUTE p",
	"COPY llm.queue (id) FROM stdin;\n1\n\\.",
	"MERGE INTO llm.job j USING note n ON n.id = j.id WHEN MATCHED THEN UPDATE SET role = 10",
	"INSERT INTO llm.job (role, role_name, application_name, relation, relation_name, column_name, key_columns, operation, recipe)
		VALUES (10, '', '', 0, '', '', '{}', '', 1)",
	'UPDATE llm.queue SET role = 10',
	'UPDATE llm.model SET server = server',
	'UPDATE llm.price SET input_per_mtok = 0',
	'DELETE FROM llm.ledger',
	"INSERT INTO llm.ledger (role, operation, lane, outcome) VALUES ('', '', 'cache', 'ok')",
	'INSERT INTO llm.cancellation (task) SELECT id FROM llm.queue',
	'DELETE FROM llm.dead_letter',
	'SELECT FROM llm.queue FOR UPDATE',
	'SELECT FROM llm.job FOR KEY SHARE',
	'LOCK TABLE llm.queue IN ACCESS EXCLUSIVE MODE',
	"CREATE VIEW mine AS SELECT * FROM llm.queue; UPDATE mine SET role = 10",
	"CREATE FUNCTION f() RETURNS void LANGUAGE sql AS 'UPDATE llm.queue SET role = 10'; SELECT f()");
refused('forger', $_, $guard) foreach (
	"SELECT setval('llm.task_id', 1)",
	"SELECT setval('llm.task_id', 1, false)",
	"SELECT setval(s, 1) FROM unnest('{llm.sender_number,llm.job_id_seq}'::regclass[]) s",
	"SELECT FROM (SELECT setval('llm.ledger_id_seq', 1) OFFSET 0) s",
	"DO \$\$BEGIN PERFORM setval('llm.request_id', 1); END\$\$",
	"CREATE TABLE d (id int, n bigint DEFAULT setval('llm.task_id', 1)); INSERT INTO d VALUES (1)");
refused('forger', "CREATE FUNCTION g() RETURNS bigint LANGUAGE sql AS \$\$SELECT setval('llm.task_id', 1)\$\$; SELECT g()",
	qr/a member of "pg_write_all_data" cannot call setval\(\) here/, 'P9: setval() in a function that the planner dissolves');
refused('forger', "CREATE TABLE e (id int, n bigint DEFAULT setval('llm.task_id', 1)); COPY e (id) FROM stdin;\n1\n\\.",
	qr/a member of "pg_write_all_data" cannot call setval\(\) here/, 'P9: setval() in a default of COPY');
sql('GRANT forger TO ' . $super) if $super ne 'forger';
refused($super, "PREPARE q AS SELECT setval('llm.task_id', 1, false); SET ROLE forger; EXECUTE q", qr/cannot call setval\(\) here|cannot set/,
	'P9: a plan that somebody else made');
refused('forger', 'SET llm_enrich.allow_table_writes = on', qr/permission denied/, 'P9: the setting is not for everybody');
sql('GRANT SET ON PARAMETER llm_enrich.allow_table_writes TO forger');
refused('forger', 'SET llm_enrich.allow_table_writes = on; UPDATE llm.queue SET role = 10', $guard, 'P9: and helps nobody but a superuser');
is(contents(), $before, 'P9: nothing was written');
is(sql(q(SELECT rolsuper FROM pg_roles WHERE rolname = 'forger')), 'f', 'P9: and nobody is a superuser');

# What is the role's own goes on as ever.
my ($rc, $out, $err) = as('forger', q(
	CREATE SEQUENCE own;
	SELECT setval('own', 41); SELECT nextval('own'); SELECT setval('own', 7, false); SELECT nextval('own');
	CREATE TABLE own_table (id int PRIMARY KEY, body text);
	COPY own_table FROM stdin;
1	x
\.
	UPDATE own_table SET body = 'y'; SELECT body FROM own_table FOR UPDATE; TRUNCATE own_table; BEGIN; LOCK TABLE own_table; COMMIT;
	SELECT count(*) > 0 FROM llm.ledger;));
is($err, '', 'everybody else\'s tables and sequences are written as ever');
like($out, qr/^41\n42\n7\n7\ny\nt$/m, 'and sequences have the values that they were set to');

# ----------------------------------------------------------------------------
# A superuser
# ----------------------------------------------------------------------------

refused($super, $_, $guard) foreach (
	$forged,
	'UPDATE llm.queue SET role = 10',
	'DELETE FROM llm.ledger',
	'UPDATE llm.model SET server = server',
	'TRUNCATE llm.ledger',
	'TRUNCATE llm.queue RESTART IDENTITY CASCADE',
	'ALTER TABLE llm.queue DISABLE TRIGGER ALL; UPDATE llm.queue SET role = 10',
	'SET session_replication_role = replica; DELETE FROM llm.queue',
	'BEGIN; ALTER TABLE llm.queue DISABLE ROW LEVEL SECURITY; UPDATE llm.queue SET role = 10',
	'CREATE TRIGGER t BEFORE INSERT ON llm.ledger FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()',
	'CREATE RULE r AS ON INSERT TO llm.ledger DO INSTEAD NOTHING',
	'CREATE POLICY p ON llm.queue USING (true)');
sql('ALTER TABLE llm.queue ENABLE TRIGGER ALL; ALTER TABLE llm.queue ENABLE REPLICA TRIGGER refuse_replicated, ENABLE REPLICA TRIGGER refuse_truncate,
	ENABLE REPLICA TRIGGER ignore_replicated');
refused($super, 'DELETE FROM llm.ledger', qr/HINT:  CALL llm\.prune\(before\) deletes old rows\./, 'the hint says what to do instead');
refused($super, "UPDATE llm.ledger SET cost = 0", qr/set "llm_enrich.allow_table_writes"/, 'and how to do it by hand');
is(contents(), $before, 'P9: nothing was written');
is(sql(q(SET llm_enrich.allow_table_writes = on; BEGIN; WITH u AS (UPDATE llm.queue SET message = 'by hand' RETURNING 1)
	SELECT count(*) FROM u; ROLLBACK)), '1', 'by the setting it can be done');

# What somebody has put there all the same is told.
sql(q(SET llm_enrich.allow_table_writes = on;
	CREATE TRIGGER witness AFTER INSERT ON llm.ledger
		FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()));
is(sql(q(SELECT problem, hint FROM llm.health WHERE subject = 'llm.ledger')),
	'trigger "witness" is not run when the extension writes the table|DROP TRIGGER witness ON llm.ledger;',
	'llm.health names a trigger that is not run');
sql('DROP TRIGGER witness ON llm.ledger');
is(sql(q(SELECT count(*) FROM llm.health WHERE subject LIKE 'llm.%')), 0, 'and none when there is none');

# ----------------------------------------------------------------------------
# A publisher
# ----------------------------------------------------------------------------

# One that has the very numbers of our tasks, which it would take a look into our tables to know.
my $hostile = new_node('hostile', { init => [ allows_streaming => 'logical' ] });
my $row = sql('COPY llm.queue TO stdout');
$hostile->safe_psql('postgres', "COPY llm.queue FROM stdin;\n$row\n\\.\n");
$hostile->safe_psql('postgres', 'CREATE PUBLICATION everything FOR ALL TABLES');
my $source = $hostile->connstr('postgres') =~ s/'/''/gr;
sql("CREATE SUBSCRIPTION everything CONNECTION '$source' PUBLICATION everything WITH (copy_data = false)");
foreach my $change ("UPDATE llm.queue SET role = 10, state = 'answered', outcome = 'answered', answer = '{}'", 'TRUNCATE llm.ledger')
{
	my $log = -s $node->logfile;

	$hostile->safe_psql('postgres', $change);
	$node->wait_for_log(qr/a publisher cannot change "llm\.\w+"/, $log);
	is(contents(), $before, 'P9: a publisher changes nothing: ' . substr $change, 0, 30);
	sql('DROP SUBSCRIPTION everything');
	sql("CREATE SUBSCRIPTION everything CONNECTION '$source' PUBLICATION everything WITH (copy_data = false)");
}
sql('DROP SUBSCRIPTION everything');
is(sql('SELECT rolsuper FROM pg_roles WHERE rolname = \'forger\''), 'f', 'P9: and nobody has become a superuser');

# ----------------------------------------------------------------------------
# The extension itself
# ----------------------------------------------------------------------------

sending($node, 'on');
wait_idle($node);
sql(q(SELECT llm.set_price('fast', input_per_mtok => 1, output_per_mtok => 2); SELECT llm.retry(job => job) FROM llm.dead_letter;
	CALL llm.wait(); SELECT llm.cancel(job => 1)));
is(sql(q(SELECT count(*) FROM note WHERE llm_status(label) = 'done')), 4, 'P2: the extension writes its tables as ever');
sql('CREATE ROLE keeper LOGIN IN ROLE llm_admin');
is((as('keeper', $_))[0], 0, "and so do its functions in SQL: $_")
	foreach "SELECT llm.import_prices('{}')", 'SELECT llm.forget_habits()';
ledger_equals_meter($node, $provider, 'P3: ledger equals meter');

done_testing();
