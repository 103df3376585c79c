# What moves house and what stays: pg_dump and pg_restore, another schema, two databases
# at once, DROP EXTENSION and CREATE EXTENSION in one session.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
my $node = new_node('dump', { extension => 0 });
my $provider = start_provider();
$provider->script({ latency_ms => 5, latency_jitter_ms => 20 });

# What must come back as it was, as one text.
sub belongings
{
	my $db = shift;

	return $node->safe_psql($db, q(
		SELECT srvname, srvoptions FROM pg_foreign_server ORDER BY 1;
		SELECT srvname, usename, umoptions FROM pg_user_mappings ORDER BY 1, 2;
		SELECT * FROM llm.model ORDER BY alias;
		SELECT * FROM llm.price ORDER BY id;
		SELECT * FROM llm.ledger ORDER BY id;
		SELECT extname, nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace ORDER BY 1));
}

sub counts
{
	my ($db, @tables) = @_;

	return $node->safe_psql($db, 'SELECT ' . join ', ', map { "(SELECT count(*) FROM $_)" } @tables);
}

# ---------------------------------------------------------------------------
# A schema named llm that is somebody else's; the functions in a schema of their own
# ---------------------------------------------------------------------------

$node->safe_psql('postgres', 'CREATE DATABASE old');
$node->safe_psql('old', 'CREATE SCHEMA llm');
my (undef, undef, $stderr) = $node->psql('old', "\\set VERBOSITY verbose\nCREATE EXTENSION llm_enrich");
like($stderr, qr/ERROR:  42P06: schema "llm" already exists/, 'a schema llm that is there already is not taken over');
$node->safe_psql('old', 'DROP SCHEMA llm; CREATE SCHEMA ai; CREATE EXTENSION llm_enrich SCHEMA ai');
is($node->safe_psql('old', q(
	SELECT string_agg(proname, ' ' ORDER BY proname COLLATE "C")
	FROM (SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'ai'::regnamespace) p)),
	'llm_agg llm_classify llm_complete llm_embed llm_extract llm_filter llm_is_pending llm_redact llm_score llm_sentiment'
		. ' llm_status llm_summarize llm_summarize_agg llm_translate', 'the functions are in the schema asked for');

setup_model($node, $provider, db => 'old', options => { requests_per_minute => 60000, timeout => '30s' });
setup_model($node, $provider, db => 'old', alias => 'second', model => 'sim-2', is_default => 0);
$node->safe_psql('old', q(
	SELECT llm.set_price('fast', input_per_mtok => 0.5, output_per_mtok => 4);
	CREATE USER MAPPING FOR CURRENT_USER SERVER sim OPTIONS (api_key 'sk-mine');
	CREATE TABLE ticket (id int PRIMARY KEY, body text, label jsonb);
	CREATE INDEX ON ticket (id) WHERE ai.llm_is_pending(label);
	INSERT INTO ticket SELECT i, CASE i % 2 WHEN 0 THEN 'a billing question ' ELSE 'a bug ' END || i FROM generate_series(1, 100) i;
	UPDATE ticket SET label = ai.llm_classify(body, '{billing,bug}');
	CALL llm.wait();
	UPDATE ticket SET label = ai.llm_classify(body, '{billing,bug}', model => 'second') WHERE id <= 10;
	CALL llm.wait()));
is($node->safe_psql('old', q(
	SELECT count(*) FROM ticket WHERE label->>'label' = CASE id % 2 WHEN 0 THEN 'billing' ELSE 'bug' END)),
	100, 'calls by their qualified names are answered');
ledger_equals_meter($node, $provider, 'P3: ledger equals meter', db => 'old');

# ---------------------------------------------------------------------------
# Dump and restore
# ---------------------------------------------------------------------------

# Some work stays behind in the queue.
sending($node, 'off');
$node->safe_psql('old', q(
	INSERT INTO ticket VALUES (101, 'a bug 101', NULL);
	UPDATE ticket SET label = ai.llm_classify(body, '{calm,angry}') WHERE id > 98));
is(counts('old', 'llm.queue', 'llm.ledger', 'llm.price'), '3|110|3', 'there is something to dump');
# who pauses is named in the dump, not numbered
$node->safe_psql('old', q(CREATE ROLE "Mrs. Pause"; SET ROLE "Mrs. Pause"; SELECT llm.pause(everything => true)));
my $before = belongings('old');

$node->run_log([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('old') ]) or die 'pg_dump failed';
$node->safe_psql('postgres', 'DROP ROLE "Mrs. Pause"; CREATE ROLE "Mrs. Pause"');
foreach my $target ('restored', 'again')
{
	$node->safe_psql('postgres', "CREATE DATABASE $target");
	$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr($target), $dump ], "$target: pg_restore");
	is(belongings($target), $before, "$target: servers, mappings, models, prices and ledger are what they were");
	is($node->safe_psql($target, q(
		SELECT p.role::oid = r.oid FROM llm.pause p, pg_roles r WHERE r.rolname = 'Mrs. Pause')), 't',
		"$target: who had paused has paused, whatever its number");
	is(counts($target, 'llm.queue', 'llm.job', 'llm.recipe', 'llm.dead_letter'), '0|0|0|0', "$target: queue and jobs stay behind");
	is($node->safe_psql($target, 'SELECT count(*) FROM ticket WHERE ai.llm_is_pending(label)'), 3, "$target: cells come as they are");
}
is(belongings('old'), $before, 'and nothing has changed where they come from');

# One takes back, the other asks again.  The schema of the functions may have another name by then.
$node->safe_psql('again', 'ALTER SCHEMA ai RENAME TO brain');
is($node->safe_psql('again', q(SELECT llm.reset_orphans('ticket', 'label'))), 3, 'pending cells are found, whatever the schema is called');
is($node->safe_psql('again', q(BEGIN; UPDATE ticket SET label = brain.llm_classify(body) WHERE id = 1;
	SELECT brain.llm_status(label) FROM ticket WHERE id = 1; ROLLBACK)), 'pending', 'so are the functions');
like(($node->psql('again', 'ALTER EXTENSION llm_enrich SET SCHEMA public'))[2], qr/extension "llm_enrich" does not support SET SCHEMA/,
	'the extension itself stays in its schema');
$node->safe_psql('again', 'ALTER SCHEMA brain RENAME TO ai');
is($node->safe_psql('again', q(SELECT id, label FROM ticket WHERE id > 98 ORDER BY id)),
	qq(99|{"label": "bug"}\n100|{"label": "billing"}\n101|), 'what pending cells held comes back');

sending($node, 'on');
wait_idle($node, 'old');
$provider->reset;
$node->safe_psql('restored', q(
	UPDATE ticket SET label = ai.llm_classify(body, '{calm,angry}') WHERE ai.llm_is_pending(label);
	CALL llm.wait()));
is($node->safe_psql('restored', q(SELECT count(*) FROM ticket WHERE id > 98 AND label->>'label' = 'calm' AND NOT label ? 'llm_enrich')),
	3, 'pending cells are asked again, and answered');
is($provider->meter->{requests}, 3, 'one request each');
is($node->safe_psql('restored', q(SELECT count(*), count(DISTINCT id), count(DISTINCT request) FROM llm.ledger)), '113|113|113',
	'the ledger goes on');
is($node->safe_psql('restored', q(
	WITH new AS (SELECT * FROM llm.ledger ORDER BY id DESC LIMIT 3),
		former AS (SELECT * FROM llm.ledger EXCEPT SELECT * FROM new)
	SELECT (SELECT min(id) FROM new) > (SELECT max(id) FROM former),
		(SELECT min(task) FROM new) > (SELECT max(task) FROM former),
		(SELECT min(request) FROM new) > (SELECT max(request) FROM former),
		(SELECT min(job) FROM new) > (SELECT max(job) FROM former))), 't|t|t|t', 'so do its numbers, and none is used twice');
is($node->safe_psql('restored', q(
	SELECT bool_and(l.cost = (l.input_tokens * 0.5 + l.output_tokens * 4) / 1000000)
	FROM (SELECT * FROM llm.ledger ORDER BY id DESC LIMIT 3) l)), 't', 'the price that came along is paid');
$node->safe_psql('restored', q(SELECT llm.set_price('fast', input_per_mtok => 1, output_per_mtok => 2)));
is(counts('restored', 'llm.price'), 4, 'and the next one gets a number of its own');

# ---------------------------------------------------------------------------
# Two databases at once
# ---------------------------------------------------------------------------

my @databases = ('restored', 'again');
foreach my $db (@databases)
{
	$provider->script({ latency_ms => 300 }, $db);
	setup_model($node, $provider, db => $db, server => "sim_$db", lane => $db, alias => $db, model => "sim-$db", is_default => 0,
		options => { max_concurrency => 10 });
	$node->safe_psql($db, "UPDATE ticket SET label = ai.llm_classify(body, '{billing,bug}', model => '$db')");
}
ok($node->poll_query_until('postgres', q(
	SELECT count(*) = 2 FROM pg_stat_activity
	WHERE backend_type = 'llm_enrich sender' AND datname IN ('restored', 'again'))),
	'two databases are served at once');
foreach my $db (@databases)
{
	wait_idle($node, $db);
	is($node->safe_psql($db, q(
		SELECT count(*) FROM ticket WHERE label->>'label' IN ('billing', 'bug') AND NOT label ? 'llm_enrich')),
		101, "$db: every row is answered");
	ledger_equals_meter($node, $provider, "P3: $db: ledger equals meter", db => $db, lane => $db, server => "sim_$db");
}

# ---------------------------------------------------------------------------
# DROP EXTENSION and CREATE EXTENSION in one session, with work pending
# ---------------------------------------------------------------------------

sending($node, 'off');
my $base_url = $provider->base_url('moved');
my $session = $node->background_psql('again', on_error_stop => 1);

$session->query_safe($_) foreach (
	'SET search_path = public, ai',
	q(PREPARE ask AS UPDATE ticket SET label = llm_classify(body, '{billing,bug}') WHERE id = $1),
	q(UPDATE ticket SET label = NULL),
	q(UPDATE ticket SET label = llm_classify(body, '{billing,bug}')),
	'EXECUTE ask(1)',
	'SET client_min_messages = warning',
	'DROP EXTENSION llm_enrich CASCADE',
	'RESET client_min_messages');
is($node->safe_psql('again', q(SELECT count(*) FROM ticket WHERE label ? 'llm_enrich')), 101, 'DROP EXTENSION leaves the cells as they are');
my $last_task = $node->safe_psql('again', q(SELECT max((label #>> '{llm_enrich,task}')::bigint) FROM ticket));
like(($node->psql('again', q(UPDATE ticket SET label = ai.llm_classify(body))))[2], qr/function ai\.llm_classify\(text\) does not exist/, 'and no function');

# Its numbers begin behind those of the markers that were left, which are nobody's now.
$session->query_safe($_) foreach (
	'CREATE EXTENSION llm_enrich SCHEMA ai',
	"CREATE SERVER moved FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai', base_url '$base_url')",
	q(SELECT llm.add_model('moved', server => 'moved', model => 'sim-1', is_default => true, input_per_mtok => 1, output_per_mtok => 1)),
	'EXECUTE ask(101)',
	'EXECUTE ask(100)',
	q(UPDATE ticket SET label = llm_classify(body, '{billing,bug}') WHERE id < 100));
is(counts('again', 'llm.queue', 'llm.ledger'), '101|0', 'CREATE EXTENSION begins with nothing, and takes every row');
is($node->safe_psql('again', "SELECT min(id) > $last_task FROM llm.queue"), 't', 'P5: no task has the number of a marker that was left');
sending($node, 'on');
is($session->query_safe('CALL llm.wait(); SELECT done, failed, superseded FROM llm.job WHERE id = llm.last_job()'), '99|0|0',
	'the session goes on');
$session->quit;
wait_idle($node, 'again');
is($node->safe_psql('again', q(
	SELECT count(*) FROM ticket
	WHERE label = jsonb_build_object('label', CASE id % 2 WHEN 0 THEN 'billing' ELSE 'bug' END))),
	101, 'P2: every row is answered');
is($provider->meter('moved')->{requests}, 101, 'by one request each');
ledger_equals_meter($node, $provider, 'P3: ledger equals meter', db => 'again', lane => 'moved');

done_testing();
