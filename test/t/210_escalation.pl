# Attempts to get more than one's rights, all of which must fail (P9): from a trigger in
# the write-back, by names that look like ours, by forged tasks and copied markers, over
# views, providers and other roles' jobs. And rights that come and go while tasks wait.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

my $node = new_node('escalation', 'llm_enrich.max_tries = 1', 'llm_enrich.writeback_timeout = 2s');
my $provider = start_provider();
setup_model($node, $provider);
setup_model($node, $provider, server => 'slow', lane => 'slow', alias => 'slow', is_default => 0);
$provider->script({ latency_ms => 600_000 }, 'slow');
$provider->script({ answers => { nonsense => 'no JSON at all' } });

my $super = $node->safe_psql('postgres', 'SELECT current_user');

# In a session of that role, which no RESET ROLE can leave. Dies on an error.
sub as
{
	my ($role, @statements) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', join("\n", @statements),
		extra_params => [ '-U', $role ], on_error_stop => 1);

	die "$role: $err" if $rc != 0;
	chomp $out;
	return $out;
}

# The statement of a role fails, and says why.
sub refused
{
	my ($role, $statement, $message, $name) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', $statement, extra_params => [ '-U', $role ], on_error_stop => 1);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($rc != 0 && $err =~ $message, $name) or diag("rc $rc, stdout: $out, stderr: $err");
	return;
}

my $count = 0;

# A table of its owner with so many rows.
sub make_table
{
	my ($owner, $name, $rows, $key) = @_;

	as($owner, qq(CREATE TABLE $name (id @{[ $key // 'int' ]} PRIMARY KEY, body text, label jsonb);),
		"INSERT INTO $name SELECT i, 'The invoice is wrong ' || i FROM generate_series(1, $rows) i;");
	return;
}

# Queue all rows of a table; the job's number.
sub enrich
{
	my ($role, $name, @before) = @_;

	return as($role, @before, "UPDATE $name SET label = llm_classify(body, '{billing,bug}');", 'SELECT llm.last_job();');
}

# Counts of a job when all its tasks are final.
sub outcome
{
	my $job = shift;

	sql("CALL llm.wait(job => $job, timeout => '1 minute')");
	return sql("SELECT format('done %s failed %s superseded %s cancelled %s row_gone %s',
		done, failed, superseded, cancelled, row_gone) FROM llm.job WHERE id = $job");
}

sub reasons
{
	my $job = shift;

	return sql("SELECT string_agg(DISTINCT reason, ',') FROM llm.dead_letter WHERE job = $job");
}

sql("CREATE ROLE $_ LOGIN; GRANT USAGE ON FOREIGN SERVER sim, slow TO $_; GRANT CREATE, USAGE ON SCHEMA public TO $_;")
	foreach qw(ana ben mallory);
sql('CREATE ROLE boss LOGIN; GRANT llm_admin TO boss;',
	'CREATE TABLE public.seen (what text, who text, session text); GRANT SELECT, INSERT ON seen TO PUBLIC;');

# What a trigger tries while the superuser's worker runs it. Each that succeeds says so.
my @attempts = (
	'RESET ROLE', 'SET ROLE NONE', "SET ROLE $super", "SET LOCAL ROLE $super", 'SET ROLE ana',
	'RESET SESSION AUTHORIZATION', 'SET SESSION AUTHORIZATION DEFAULT', "SET SESSION AUTHORIZATION $super",
	q(SELECT set_config('role', 'none', false)), q(SELECT set_config('session_authorization', 'default', false)),
	'ALTER ROLE mallory SUPERUSER', "GRANT $super TO mallory", q(ALTER SYSTEM SET log_connections = on),
	q(COPY seen TO PROGRAM 'cat'), q(COPY (SELECT 1) TO '/tmp/never'), q(SELECT pg_read_file('/etc/passwd')),
	q(LOAD '/tmp/never'), 'SET session_replication_role = replica', 'SET llm_enrich.writeback = off',
	q(SET llm_enrich.carry_settings = 'role'), 'UPDATE pg_authid SET rolsuper = true',
	'DELETE FROM llm.queue', "UPDATE llm.job SET role = '$super'::regrole", 'INSERT INTO llm.cancellation (task) VALUES (1)',
	'SELECT public.with_role()', 'SELECT public.trusting()',
	"CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION public.event()");
my $list = join ', ', map { quoted($_) } @attempts;

sub quoted
{
	my $text = shift;

	$text =~ s/'/''/g;
	return "'$text'";
}

sql(qq(CREATE FUNCTION public.trusting() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS \$\$
	BEGIN IF session_user <> '$super' THEN RAISE 'not for %', session_user; END IF; END \$\$;));
as('mallory', qq(
	CREATE FUNCTION public.note(what text) RETURNS void LANGUAGE sql AS
		\$\$ INSERT INTO public.seen VALUES (what, current_user, session_user) \$\$;
	CREATE FUNCTION public.event() RETURNS event_trigger LANGUAGE plpgsql AS \$\$ BEGIN END \$\$;
	CREATE FUNCTION public.with_role() RETURNS void LANGUAGE plpgsql SET role = none AS \$\$ BEGIN END \$\$;
	CREATE FUNCTION public.try_all(place text) RETURNS void LANGUAGE plpgsql AS \$\$
	DECLARE statement text;
	BEGIN
		PERFORM public.note(place);
		FOREACH statement IN ARRAY ARRAY[$list]
		LOOP
			BEGIN
				EXECUTE statement;
				PERFORM public.note(place || ': ' || statement);
			EXCEPTION WHEN OTHERS THEN NULL;
			END;
			IF current_user <> 'mallory' OR session_user <> 'mallory' THEN
				PERFORM public.note(place || ': after ' || statement);
			END IF;
		END LOOP;
	END \$\$;
	CREATE FUNCTION public.row_trigger() RETURNS trigger LANGUAGE plpgsql AS \$\$
	BEGIN
		IF current_setting('llm_enrich.writeback')::boolean THEN PERFORM public.try_all(TG_NAME); END IF;
		RETURN NEW;
	END \$\$;
	CREATE FUNCTION public.deferred_trigger() RETURNS trigger LANGUAGE plpgsql AS \$\$
	BEGIN
		IF NOT current_setting('llm_enrich.writeback')::boolean THEN RETURN NULL; END IF;
		PERFORM public.try_all(TG_NAME);
		SET CONSTRAINTS ALL DEFERRED;
		INSERT INTO public.later VALUES (1);
		RETURN NULL;
	END \$\$;
	CREATE TABLE public.later (n int);
	CREATE FUNCTION public.later_trigger() RETURNS trigger LANGUAGE plpgsql AS \$\$
	BEGIN
		PERFORM public.try_all('at commit');
		IF EXISTS (SELECT FROM pg_cursors WHERE name = 'held') THEN RETURN NULL; END IF;
		EXECUTE 'DECLARE held CURSOR WITH HOLD FOR SELECT public.note(''held cursor'')';
		EXECUTE 'PREPARE left_behind AS SELECT 1'; SET search_path = mallory, public; SET datestyle = 'German';
		SET statement_timeout = '1ms'; PERFORM pg_advisory_lock(1), set_config('app.tenant', 'mallory', false);
		CREATE TEMP TABLE left_behind (n int); CREATE FUNCTION pg_temp.unnest(anyarray) RETURNS SETOF anyelement
			LANGUAGE sql AS 'SELECT \$1[1]';
		RETURN NULL;
	END \$\$;
	CREATE CONSTRAINT TRIGGER later AFTER INSERT ON public.later DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION public.later_trigger();));
make_table('mallory', 'trap', 2);
as('mallory', 'CREATE TRIGGER before BEFORE UPDATE ON trap FOR EACH ROW EXECUTE FUNCTION row_trigger();
	CREATE TRIGGER after AFTER UPDATE ON trap FOR EACH ROW EXECUTE FUNCTION row_trigger();
	CREATE CONSTRAINT TRIGGER deferred AFTER UPDATE ON trap DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION deferred_trigger();');
is(outcome(enrich('mallory', 'trap')), 'done 2 failed 0 superseded 0 cancelled 0 row_gone 0', 'a table of traps is written');
is(sql('SELECT DISTINCT what FROM seen ORDER BY 1'), "after\nat commit\nbefore\ndeferred",
	'P9: no trigger, at whatever time, becomes somebody else');
is(sql('SELECT DISTINCT who, session FROM seen'), 'mallory|mallory', 'P9: nor is the session anybody else\'s');
is(sql("SELECT count(*) FROM pg_roles WHERE rolsuper AND rolname <> '$super'"), 0, 'P9: and nobody has become superuser');

# What it left behind, as the next role's trigger sees it.
make_table('ana', 'clean', 1);
as('ana', q(CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.label ? 'label' THEN
			INSERT INTO public.seen SELECT format('%s %s %s %s %s %s',
				(SELECT count(*) FROM pg_prepared_statements WHERE name = 'left_behind'), (SELECT count(*) FROM pg_cursors WHERE name = 'held'),
				to_regclass('pg_temp.left_behind'), current_setting('datestyle'),
				current_setting('app.tenant', true), current_setting('search_path')), current_user, session_user;
		END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER look BEFORE UPDATE ON clean FOR EACH ROW EXECUTE FUNCTION look();));
sql('TRUNCATE seen');
is(outcome(enrich('ana', 'clean', 'SET search_path = ana, public;')), 'done 1 failed 0 superseded 0 cancelled 0 row_gone 0', 'the next role is served');
is(sql('SELECT * FROM seen'), '0 0  ISO, YMD  ana, public|ana|ana', 'P9: in a session as new');
is(sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"), 0, 'P9: without locks of the one before');

# A role that asks for its answers at another's table runs that one's code, as in any UPDATE, and nobody else does.
sql('TRUNCATE seen; DROP TRIGGER deferred ON trap; UPDATE trap SET label = NULL; GRANT SELECT, UPDATE ON trap TO ana');
is(outcome(enrich('ana', 'trap')), 'done 2 failed 0 superseded 0 cancelled 0 row_gone 0', "another's table is written");
is(sql('SELECT DISTINCT who, session FROM seen'), 'ana|ana', 'P9: its triggers run as the role that asked');

# Nor does a trigger end the writer, which would hold up everybody again and again.
make_table('mallory', 'fatal', 1);
make_table('ana', 'beside', 1);
as('mallory', q(CREATE FUNCTION public.fatal() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NOT current_setting('llm_enrich.writeback')::boolean THEN RETURN NEW; END IF;
		BEGIN SET exit_on_error = on; EXCEPTION WHEN insufficient_privilege THEN NULL; END;
		RAISE 'the end';
	END $$;
	CREATE TRIGGER fatal BEFORE UPDATE ON fatal FOR EACH ROW EXECUTE FUNCTION fatal();));
my $writer = sql("SELECT pid FROM llm.health WHERE kind = 'writer'");
my $fatal_job = enrich('mallory', 'fatal');
is(outcome($fatal_job), 'done 0 failed 1 superseded 0 cancelled 0 row_gone 0',
	'a trigger whose error would end the session fails its own row');
like(sql("SELECT message FROM llm.dead_letter WHERE job = $fatal_job"), qr/the end/, 'and its error is told');
is(outcome(enrich('ana', 'beside')), 'done 1 failed 0 superseded 0 cancelled 0 row_gone 0',
	'P6: others are served');
is(sql("SELECT pid FROM llm.health WHERE kind = 'writer'"), $writer, 'P6: by the same writer');

# Nor does what it left hold up the writer: its temporary type is the type of a column, and to drop
# that one takes a lock that somebody has as soon as the write-back is committed.
make_table('mallory', 'tempting', 1);
as('mallory', q(CREATE TABLE permanent (id int);
	CREATE FUNCTION public.tempt() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NOT current_setting('llm_enrich.writeback')::boolean THEN RETURN NULL; END IF;
		CREATE TEMP TABLE tempted (x int);
		ALTER TABLE permanent ADD COLUMN c tempted;
		WHILE NOT EXISTS (SELECT FROM pg_locks WHERE relation = 'permanent'::regclass AND NOT granted) LOOP
			PERFORM pg_sleep(0.001);
		END LOOP;
		RETURN NULL;
	END $$;
	CREATE CONSTRAINT TRIGGER tempt AFTER UPDATE ON tempting DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION tempt();));
my $holder = $node->background_psql('postgres', extra_params => [ '-U', 'mallory' ]);
$holder->query_until(qr/waiting/, q(\echo waiting
	BEGIN;
	DO $$
	BEGIN
		LOOP
			BEGIN
				LOCK TABLE permanent IN ACCESS SHARE MODE;
				IF EXISTS (SELECT FROM tempting WHERE label ? 'label') THEN RETURN; END IF;
				RAISE no_data_found;
			EXCEPTION WHEN no_data_found THEN PERFORM pg_sleep(0.001);
			END;
		END LOOP;
	END $$;
));
is(outcome(enrich('mallory', 'tempting')), 'done 1 failed 0 superseded 0 cancelled 0 row_gone 0',
	'a trigger that leaves a temporary type in a table is written');
ok($node->poll_query_until('postgres', q(SELECT EXISTS (SELECT FROM pg_locks
	WHERE relation = 'permanent'::regclass AND mode = 'AccessShareLock' AND granted))), 'the table is locked');
make_table('ana', 'unheld', 1);
is(outcome(enrich('ana', 'unheld')), 'done 1 failed 0 superseded 0 cancelled 0 row_gone 0',
	'P6: others are served before the lock is released');
$holder->query_safe('ROLLBACK');
$holder->quit;
is(sql(q(SELECT count(*) FROM pg_attribute WHERE attrelid = 'permanent'::regclass AND attname = 'c')), 0,
	'P9: and nothing temporary is left');

# A session may give any value to a setting whose library it has not loaded. What is carried
# is not set with more rights.
sql('ALTER ROLE mallory SET llm_enrich.carry_settings = \'plpgsql.variable_conflict, app.tenant\'; TRUNCATE seen;');
make_table('mallory', 'carried', 1);
as('mallory', q(CREATE FUNCTION public.carried() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM public.note(concat_ws(' ', current_setting('plpgsql.variable_conflict'),
			current_setting('app.tenant')));
		RETURN NEW;
	END $$;
	CREATE TRIGGER carried BEFORE UPDATE ON carried FOR EACH ROW WHEN (NEW.label ? 'label') EXECUTE FUNCTION carried();));
is(outcome(enrich('mallory', 'carried', "SET plpgsql.variable_conflict = 'use_column'; SET app.tenant = 'mine';")),
	'done 1 failed 0 superseded 0 cancelled 0 row_gone 0', 'a session with settings of a superuser is served');
is(sql('SELECT what FROM seen'), 'error mine', 'P9: the write-back has those that the role may set');
sql('ALTER ROLE mallory RESET llm_enrich.carry_settings');

# Names that look like ours, in schemas that come first. The role that runs one of them is noted.
sql('CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext; GRANT CREATE, USAGE ON SCHEMA ext TO PUBLIC; TRUNCATE seen;');
as('ana', 'CREATE DOMAIN name_key AS ext.citext; CREATE DOMAIN object AS jsonb;',
	'CREATE TABLE named (id name_key PRIMARY KEY, body text, label object);',
	q(INSERT INTO named
		VALUES ('a', 'The invoice is wrong'), ('b', 'The invoice is wrong'), ('c', 'The invoice is wrong');));
as('mallory', 'GRANT EXECUTE ON FUNCTION public.note TO PUBLIC;', map {
		my ($name, $args, $returns) = @{$_};
		my ($schema) = $name =~ /^(\w+)\./;

		"CREATE FUNCTION $name($args) RETURNS $returns LANGUAGE plpgsql AS
			\$\$ BEGIN PERFORM public.note('$name'); RETURN NULL; END \$\$;";
	} [ 'public.unnest', 'anyarray', 'anyelement' ], [ 'public.marker_task', 'jsonb', 'bigint' ],
	[ 'public.resolve', 'jsonb, text, bigint, jsonb, text, text', 'jsonb' ], [ 'public.evil_int8', 'bigint, bigint', 'boolean' ],
	[ 'public.evil_text', 'text, text', 'boolean' ], [ 'public.evil_jsonb', 'jsonb, text', 'jsonb' ],
	[ 'ext.evil_domain', 'public.name_key, public.name_key', 'boolean' ], [ 'public.evil_object', 'jsonb, public.object', 'boolean' ]);
as('mallory', 'CREATE OPERATOR public.= (leftarg = bigint, rightarg = bigint, function = evil_int8);
	CREATE OPERATOR public.= (leftarg = text, rightarg = text, function = evil_text);
	CREATE OPERATOR public.<> (leftarg = text, rightarg = text, function = evil_text);
	CREATE OPERATOR public.-> (leftarg = jsonb, rightarg = text, function = evil_jsonb);
	CREATE OPERATOR ext.= (leftarg = public.name_key, rightarg = public.name_key, function = ext.evil_domain);');
my $job = enrich('ana', 'public.named', 'SET search_path = public, ext, pg_catalog;');
is(outcome($job), 'done 3 failed 0 superseded 0 cancelled 0 row_gone 0', 'rows are found under a hostile search_path');
is(sql('SELECT count(*) FROM seen'), 0, 'P9: functions and operators that look like ours are not called')
	or diag(sql('SELECT * FROM seen'));
# the same where the table's owner is asked why a row was not written
sql('ALTER TABLE named OWNER TO CURRENT_USER; ALTER TABLE named ENABLE ROW LEVEL SECURITY; GRANT SELECT, UPDATE ON named TO ana;',
	"CREATE POLICY visible ON named USING (body <> 'hidden');");
$provider->script({});
$provider->hold;
$job = enrich('ana', 'public.named', 'SET search_path = public, ext, pg_catalog;');
wait_claimed($node, $job);
sql("UPDATE named SET body = 'hidden'");
$provider->go_on;
is(outcome($job), 'done 0 failed 3 superseded 0 cancelled 0 row_gone 0', 'rows that were hidden meanwhile are not written');
is(reasons($job), 'not_visible', 'and their owner is asked why');
is(sql('SELECT count(*) FROM seen'), 0, 'P9: nothing of the kind is called for the owner')
	or diag(sql('SELECT * FROM seen'));
$provider->script({ answers => { nonsense => 'no JSON at all' } });
as('mallory', 'DROP OPERATOR public.= (bigint, bigint), public.= (text, text), public.<> (text, text), public.-> (jsonb, text);',
	'DROP FUNCTION public.unnest(anyarray);');

# Code that the asking role did not write runs as that role: key types, checks, policies.
as('mallory', q(CREATE FUNCTION public.fine(what text, value text) RETURNS boolean LANGUAGE plpgsql AS
		$$ BEGIN PERFORM public.note(what); RETURN true; END $$;
	CREATE DOMAIN loud_key AS text CHECK (public.fine('key', VALUE));
	CREATE DOMAIN loud_object AS jsonb CHECK (public.fine('cell', VALUE::text));
	CREATE TABLE loud (id loud_key PRIMARY KEY, body text, label loud_object, CHECK (public.fine('check',
		label::text)));
	INSERT INTO loud SELECT i::text, 'The invoice is wrong' FROM generate_series(1, 3) i;
	ALTER TABLE loud ENABLE ROW LEVEL SECURITY;
	CREATE POLICY loud ON loud USING (public.fine('policy', body) AND body <> 'hidden'); GRANT SELECT, UPDATE ON loud TO ana;));
sql('TRUNCATE seen');
$provider->script({});
$provider->hold;
$job = enrich('ana', 'loud');
wait_claimed($node, $job);
as('mallory', q(UPDATE loud SET body = 'hidden' WHERE id = '2'; DELETE FROM loud WHERE id = '3';));
$provider->go_on;
is(outcome($job), 'done 1 failed 1 superseded 0 cancelled 0 row_gone 1', 'a table full of code is written and asked');
is(sql("SELECT string_agg(DISTINCT who, ',' ORDER BY who) FROM seen"), 'ana,mallory', 'P9: as its owner or as the role that asked');
$provider->script({ answers => { nonsense => 'no JSON at all' } });

# Planted before the extension came: nothing in it may use what is not its own or the system's.
sql('CREATE DATABASE planted');
$node->safe_psql('planted', q(GRANT CREATE ON SCHEMA public TO PUBLIC; SET ROLE mallory;
	CREATE SEQUENCE public.ran;
	DO $$
	DECLARE op text; l text; r text; result text; types text[] := '{int2,int4,int8,float4,float8,numeric,interval,timestamptz,date,text,name,oid}';
	BEGIN
		FOREACH op IN ARRAY '{=,<>,<,>,<=,>=,+,-,*,/,||}'::text[] LOOP FOREACH l IN ARRAY types LOOP FOREACH r IN ARRAY types LOOP
			result := CASE WHEN op = '||' THEN 'text' WHEN op ~ '[=<>]' THEN 'boolean' WHEN 'interval' IN (l,
				r) THEN 'interval' ELSE 'float8' END;
			EXECUTE format('CREATE FUNCTION public.planted(%1$s, %2$s, OUT x %3$s) LANGUAGE sql AS
					$f$ SELECT CASE WHEN nextval(''public.ran'') IS NOT NULL THEN NULL::%3$s END $f$;
				CREATE OPERATOR public.%4$s (leftarg = %1$s, rightarg = %2$s,
					function = public.planted); ', l, r, result, op);
			EXECUTE format('ALTER FUNCTION public.planted(%s, %s) RENAME TO %I', l, r, 'planted ' || op);
		END LOOP; END LOOP; END LOOP;
	END $$; RESET ROLE; CREATE EXTENSION llm_enrich;));
is($node->safe_psql('planted', q(SELECT string_agg(DISTINCT pg_describe_object(d.classid, d.objid, 0), ', ') FROM pg_depend d
	JOIN pg_operator o ON d.refclassid = 'pg_operator'::regclass AND d.refobjid = o.oid
	WHERE o.oprowner = 'mallory'::regrole AND d.classid <> 'pg_operator'::regclass)), '',
	'P9: operators that somebody put into the schema before CREATE EXTENSION are not taken');
is($node->safe_psql('planted', 'SELECT is_called FROM public.ran'), 'f', 'P9: nor is one run by it');
sql('DROP DATABASE planted');

# Forged tasks.
is(sql(q(SELECT string_agg(format('%s %s', c.oid::regclass, p), ', ') FROM pg_class c,
	unnest(CASE c.relkind WHEN 'S' THEN '{USAGE,UPDATE}'::text[] ELSE '{INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}' END) p
	WHERE c.relnamespace = 'llm'::regnamespace AND c.relkind IN ('r', 'v', 'S') AND CASE c.relkind
		WHEN 'S' THEN has_sequence_privilege('mallory', c.oid, p) ELSE has_table_privilege('mallory', c.oid, p) END)), '',
	'P9: nobody may write our tables');
is(sql("SELECT has_schema_privilege('mallory', 'llm', 'CREATE')"), 'f', 'P9: or make anything beside them');
my $forged = "INSERT INTO llm.queue (id, job, recipe, role, relation, state, outcome, key, input, answer)
	SELECT 1, 1, 1, '$super'::regrole, 'trap'::regclass, 'answered', 'answered', '{}', '', '{}'";
refused('mallory', $forged, qr/permission denied for table queue/, 'P9: a forged task is refused');
sql('GRANT pg_write_all_data TO mallory');
refused('mallory', $forged, qr/cannot write or lock rows of "llm.queue"/, 'P9: also of a role that may write all data');
refused('mallory', "INSERT INTO llm.$_", qr/cannot write or lock rows of "llm\.\w+"/, 'P9: the same in llm.' . (split)[0])
	foreach q(job (role, role_name, application_name, relation, relation_name, column_name, key_columns,
		operation, recipe)
		VALUES (10, '', '', 0, '', '', '{}', '', 1)), q(ledger (role, operation, lane, outcome) VALUES ('', '', 'cache', 'ok'));
refused('mallory', 'UPDATE llm.job SET role = 10', qr/cannot write or lock rows of "llm.job"/, 'P9: nor can it change a job');
sql('REVOKE pg_write_all_data FROM mallory');
refused('mallory', "SELECT llm.$_", qr/ERROR/, "P9: llm.$_ is refused")
	foreach "issue(NULL, '', 'x')", "keep(NULL, '', '{}'::jsonb, '{}'::jsonb, 1)", "bind(NULL, '', 1)", 'catalog_changed()', 'price_check()', 'ignore_replicated()',
	"fdw_validator('{}', 0)";
refused('mallory', $_, qr/ERROR/, 'P9: ' . substr($_, 0, 40) . '... is refused')
	foreach "CREATE FUNCTION forge(internal, bytea) RETURNS jsonb LANGUAGE internal AS 'llm_enrich_issue'",
	"CREATE FUNCTION forge(internal, bytea) RETURNS jsonb LANGUAGE c AS 'llm_enrich', 'llm_enrich_issue'",
	'CREATE AGGREGATE forge (bytea) (sfunc = llm.issue, stype = internal)',
	"UPDATE trap SET label = llm_classify(body, '{a}'), body = llm.keep(1::bigint::text::internal, '', body, body, id)::text";

# Markers copied by hand.
make_table('ana', 'origin', 3);
as('ana', 'ALTER TABLE origin ADD other jsonb; GRANT SELECT, UPDATE ON origin TO mallory;');
make_table('mallory', 'thief', 3);
$provider->script({});
$provider->hold;
$job = as('ana', 'BEGIN;', "UPDATE origin SET label = llm_classify(body, '{billing,bug}') WHERE id < 3;",
	'UPDATE origin o SET other = label, label = COALESCE(label, (SELECT label FROM origin WHERE id = 1));', 'COMMIT;', 'SELECT llm.last_job();');
wait_claimed($node, $job);
as('mallory', 'UPDATE thief t SET label = o.label FROM origin o WHERE o.id = t.id;');
$provider->go_on;
is(outcome($job), 'done 2 failed 0 superseded 0 cancelled 0 row_gone 0', 'the cells that were asked for are written');
is(sql(q(SELECT string_agg(concat(llm_status(label), ' ', llm_status(other)), ', ' ORDER BY id) FROM origin)), 'done pending, done pending, pending ',
	'P9: a marker copied to another column or row gets nothing');
is(sql(q(SELECT count(*) FILTER (WHERE llm_is_pending(label)) FROM thief)), 3, 'P9: or to another table');
# a task of one's own and a marker in a foreign cell
$provider->hold;
$job = enrich('mallory', 'thief');
wait_claimed($node, $job);
as('mallory', 'UPDATE origin o SET label = t.label FROM thief t WHERE t.id = o.id;');
$provider->go_on;
is(outcome($job), 'done 3 failed 0 superseded 0 cancelled 0 row_gone 0', 'nor does a task write elsewhere');
is(sql('SELECT count(*) FILTER (WHERE llm_is_pending(label)) FROM origin'), 3, 'P9: because its marker is there');

# A view that is turned to another table under its tasks.
make_table('ana', 'secret', 2);
make_table('mallory', 'decoy', 2);
as('mallory', 'CREATE VIEW turned AS SELECT id, body, label FROM decoy;');
$provider->hold;
$job = enrich('mallory', 'turned');
wait_claimed($node, $job);
as('mallory', 'CREATE OR REPLACE VIEW turned AS SELECT id, body, label FROM secret;');
$provider->go_on;
# what the write would run has changed since: it waits until the role that asked lets it through
$node->poll_query_until('postgres', "SELECT state = 'paused' AND reason ~ 'changed' FROM llm.job WHERE id = $job") or die 'not put off';
as('mallory', "SELECT llm.resume(job => $job);");
is(outcome($job), 'done 0 failed 2 superseded 0 cancelled 0 row_gone 0', 'a view turned to a foreign table is not written through');
is(reasons($job), 'forbidden', 'P9: and tells nothing of it');
$provider->script({ answers => { nonsense => 'no JSON at all' } });

# Everybody sees and touches his own only.
my (%job, %open);
foreach my $role (qw(ana ben))
{
	make_table($role, "own_$role", 3);
	as($role, "UPDATE own_$role SET body = 'nonsense of $role' WHERE id = 1;");
	$job{$role} = enrich($role, "own_$role");
	outcome($job{$role});
	$open{$role} = as($role, "UPDATE own_$role SET label = llm_classify(body, '{$role}', model => 'slow') WHERE id > 1;", 'SELECT llm.last_job();');
	$node->poll_query_until('postgres', "SELECT count(*) = 2 FROM llm.queue WHERE job = $open{$role} AND state = 'claimed'") or die 'not claimed';
	as($role, "SELECT llm.cancel(task => id) FROM llm.queue ORDER BY id LIMIT 1;");
}
my %own = (job => 2, queue => 2, dead_letter => 1, ledger => 3, job_cost => 1, cancellation => 1, recipe => 2);
is(as('ben', "SELECT count(*) FROM llm.$_"), $own{$_}, "P9: a role sees its own rows of llm.$_ only") foreach sort keys %own;
is(as('ben', "SELECT count(*) FILTER (WHERE what <> 'ben') FROM (SELECT role FROM llm.progress UNION ALL
	SELECT role FROM llm.cost_by_role UNION ALL SELECT replace(relation, 'public.own_', '') FROM llm.cost_by_table) v(what)"), 0,
	'P9: the same in views');
is(as('ben', "SELECT sum(requests) FROM llm.$_"), 3, "P9: llm.$_ counts its own requests") foreach qw(cost_by_day cost_by_model cost_by_table);
is(as('boss', "SELECT count(DISTINCT role) >= 3 FROM llm.$_"), 't', "members of llm_admin see all of llm.$_") foreach qw(job dead_letter ledger);
is(as('boss', "SELECT count(DISTINCT role) FROM llm.queue"), 2, 'and of llm.queue');
is(as('mallory', "SELECT count(*) FROM llm.queue"), 0, 'others see nothing');

is(as('mallory', "SELECT llm.cancel(job => $open{ana}) + llm.cancel(relation => 'own_ana') + llm.retry(job => $job{ana}) + llm.retry(relation => 'own_ana')"),
	0, "P9: nobody cancels or retries another's tasks");
is(as('mallory', "SELECT llm.cancel(task => $_) + llm.retry(task => $_)"), 0, 'P9: nor one by its number')
	foreach sql("SELECT min(id) FROM llm.queue WHERE job = $open{ana}"), sql("SELECT task FROM llm.dead_letter WHERE job = $job{ana}");
refused('mallory', "CALL llm.wait(job => $open{ana}, timeout => '1 s')", qr/there is no job $open{ana}\b/, "P9: nobody waits for another's job");
refused('mallory', "SELECT llm.resume(job => $open{ana})", qr/ERROR/, "P9: nobody resumes another's job");
is(sql("SELECT count(*) FROM llm.queue WHERE job = $open{ana}"), 2, 'they are as they were');
is(as('boss', "SELECT llm.retry(job => $job{ana})"), 1, 'members of llm_admin retry for all');
$node->poll_query_until('postgres', q(SELECT count(*) = 1 FROM llm.dead_letter WHERE relation = 'own_ana'::regclass)) or die 'no retry';
is(sql("SELECT role::regrole FROM llm.dead_letter WHERE relation = 'own_ana'::regclass"), 'ana', 'P9: and the task stays that of the role that asked');

# A member that does not inherit has the rights of llm_admin only while it is that role.
sql('CREATE ROLE deputy LOGIN NOINHERIT; GRANT llm_admin TO deputy;');
my $seen = "SELECT (SELECT count(*) FROM llm.queue)";
is(as('deputy', "$seen || ' ' || llm.cancel(job => $open{ana})"), '0 0', 'P9: who does not inherit llm_admin neither sees nor acts');
refused('deputy', "SELECT llm.add_model('x', server => 'sim', model => 'x')", qr/permission denied|must be/, 'P9: nor changes models');
like(as('deputy', 'SET ROLE llm_admin;', "$seen || ' ' || llm.cancel(job => $open{ben})"), qr/^[1-9]\d* 1$/,
	'and does both after SET ROLE llm_admin');
is(as('boss', "SELECT llm.cancel(job => $open{ana})"), 1, 'members of llm_admin cancel for all');

# Providers.
sql("CREATE ROLE keeper LOGIN; GRANT USAGE ON FOREIGN DATA WRAPPER llm_enrich TO keeper;
	CREATE SERVER kept FOREIGN DATA WRAPPER llm_enrich
		OPTIONS (dialect 'openai', base_url 'https://api.example.com/v1', api_key_file '/nowhere/key'); ALTER SERVER kept OWNER TO keeper");
refused('keeper', "ALTER SERVER kept OPTIONS ($_)", qr/only a superuser may/, "P9: the owner cannot change a server with a key file: $_")
	foreach q(SET base_url 'https://evil.example.com/v1'), q(SET api_key_file '/etc/passwd'),
		q(ADD max_concurrency '1'),
	q(DROP api_key_file, ADD api_key_env 'PGDATA', SET base_url 'https://evil.example.com/v1'), q(DROP api_key_file, SET base_url 'http://127.0.0.1/v1');
refused('keeper', "CREATE SERVER mine FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai', $_)", qr/only a superuser may/, "P9: nor make one: $_")
	foreach q(base_url 'https://evil.example.com/v1', api_key_file '/etc/postgresql/openai.key'),
		q(base_url 'https://evil.example.com/v1', api_key_env 'HOME'),
	q(base_url 'http://169.254.169.254/latest');
refused('keeper', $_, qr/ERROR:  (permission denied|must be owner)/, "P9: nor go around it: $_")
	foreach 'ALTER FOREIGN DATA WRAPPER llm_enrich NO VALIDATOR', q(SELECT llm.add_model('x', server => 'sim', model => 'x')),
	q(SELECT llm.alter_model('fast', server => 'kept')), q(ALTER SERVER sim OPTIONS (SET base_url 'https://evil.example.com/v1'));
refused('keeper', "UPDATE trap SET label = llm_classify('x', '{a}')", qr/permission denied|may not use server/, 'who may not use a server asks nothing');

# A model names its server. Nobody takes a name that became free, and with it everybody's calls.
sql("ALTER SERVER sim RENAME TO away; UPDATE llm.model SET server = 'sim' WHERE server = 'away';
	CREATE SERVER own FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai', base_url 'https://api.example.com/v1');
	ALTER SERVER own OWNER TO keeper;");
refused('keeper', $_, qr/permission denied to give a server the name "sim"/, "P9: nobody takes the name of a server that models use: $_")
	foreach q(CREATE SERVER sim FOREIGN DATA WRAPPER llm_enrich
		OPTIONS (dialect 'openai', base_url 'https://evil.example.com/v1')), 'ALTER SERVER own RENAME TO sim';
is(as('keeper', 'ALTER SERVER own RENAME TO mine;',
	"SELECT count(*) FROM pg_foreign_server WHERE srvname = 'mine';"), 1, 'other names are free');
sql('ALTER SERVER away RENAME TO sim;');
is(sql('SELECT count(*) FROM llm.model m WHERE NOT EXISTS (SELECT FROM pg_foreign_server s WHERE s.srvname = m.server)'),
	0, 'all models have their server again');

# Nor the name of a model that others' tasks wait for.
make_table('ana', 'passing', 4);
sql(q(SELECT llm.add_model('passing', server => 'sim', model => 'sim-1');
	BEGIN; SET LOCAL ROLE ana; UPDATE passing SET label = llm_classify(body, '{billing,bug}', model => 'passing');
	RESET ROLE; SELECT llm.drop_model('passing'); COMMIT));
$job = sql('SELECT max(id) FROM llm.job');
refused('keeper', q(SELECT llm.add_model('passing', server => 'mine', model => 'x')), qr/permission denied to give a model the name "passing"/,
	"P9: nobody takes the name of a model that others' tasks wait for");
is(as('keeper', q(SELECT llm.add_model('other', server => 'mine', model => 'x'); SELECT llm.drop_model('other');
	SELECT count(*) FROM llm.model WHERE server = 'mine')) =~ /0$/, 1, 'other names are free');
sql(q(SELECT llm.add_model('passing', server => 'sim', model => 'sim-1')));
is(outcome($job), 'done 4 failed 0 superseded 0 cancelled 0 row_gone 0', 'an admin gives it back, and they are answered');
sql(q(SELECT llm.drop_model('passing'); DROP SERVER mine;));

# Rights that go and come back while tasks wait.
sub meter_requests { return $provider->meter->{requests}; }

make_table('ana', 'gate', 4);
my $before = meter_requests();
sql(qq(BEGIN; SET LOCAL ROLE ana; UPDATE gate SET label = llm_classify(body, '{billing,bug}'); RESET ROLE;
	REVOKE USAGE ON FOREIGN SERVER sim FROM ana; COMMIT));
$job = sql("SELECT max(id) FROM llm.job");
ok($node->poll_query_until('postgres', qq(SELECT reason LIKE '%"ana" may not use server "sim"%' FROM llm.job WHERE id = $job)),
	'P9: who lost USAGE waits, and is told why');
ok($node->poll_query_until('postgres', q(SELECT count(*) = 1 FROM llm.health
	WHERE problem LIKE '%may not use server%' AND hint LIKE 'GRANT USAGE%')), 'with what to type');
is(meter_requests(), $before, 'P9: nothing was sent');
sql('GRANT USAGE ON FOREIGN SERVER sim TO ana');
is(outcome($job), 'done 4 failed 0 superseded 0 cancelled 0 row_gone 0', 'GRANT fixes it');

sql('CREATE ROLE team; CREATE TABLE shared (id int PRIMARY KEY, body text, label jsonb); GRANT SELECT ON shared TO ben; GRANT UPDATE ON shared TO team;',
	"GRANT team TO ben; INSERT INTO shared SELECT i, 'The invoice is wrong' FROM generate_series(1, 4) i");
$provider->script({});
$provider->hold;
$job = enrich('ben', 'shared');
wait_claimed($node, $job);
sql('REVOKE team FROM ben');
$provider->go_on;
is(outcome($job), 'done 0 failed 4 superseded 0 cancelled 0 row_gone 0', 'P9: who left the team that may UPDATE writes nothing');
is(reasons($job), 'forbidden', 'as forbidden');
is(sql(qq(SELECT count(*) FROM llm.dead_letter WHERE job = $job AND answer = '{"label": "billing"}')), 4, 'P4: the paid answers are kept');
$before = meter_requests();
sql('GRANT team TO ben; ALTER ROLE ben RENAME TO benedict;');
is(as('benedict', "SELECT llm.retry(job => $job)"), 4, 'retry, now under another name');
is(outcome(sql('SELECT max(id) FROM llm.job')), 'done 4 failed 0 superseded 0 cancelled 0 row_gone 0', 'GRANT and llm.retry write them');
is(meter_requests(), $before, 'P4: without another request');
is(sql(q(SELECT count(*) FROM shared WHERE label = '{"label": "billing"}')), 4, 'every cell has its answer');

# Dropped in the transaction that asked, so before anything is sent.
sql('CREATE ROLE leaver; GRANT USAGE ON FOREIGN SERVER sim TO leaver; GRANT SELECT, UPDATE ON shared TO leaver');
$before = meter_requests();
sql("BEGIN; SET LOCAL ROLE leaver; UPDATE shared SET label = llm_classify(body, '{bug}'); RESET ROLE; DROP OWNED BY leaver; DROP ROLE leaver; COMMIT");
$job = sql("SELECT max(id) FROM llm.job");
# the writer looks for dropped roles once a minute
wait_forward($node, "SELECT state = 'finished' FROM llm.job WHERE id = $job") or die 'the job did not finish';
is(outcome($job), 'done 0 failed 4 superseded 0 cancelled 0 row_gone 0', 'tasks of a role that is dropped fail');
is(reasons($job), 'role_gone', 'as role_gone');
is(meter_requests(), $before, 'P9: and were not sent');
# Who may update rows and not read their key is told it nowhere
sql(q(CREATE ROLE blind LOGIN; GRANT USAGE ON FOREIGN SERVER sim TO blind;
	CREATE TABLE keyed (secret text PRIMARY KEY, body text DEFAULT 'The invoice is wrong', label jsonb, gist text);
	INSERT INTO keyed SELECT 'key ' || i FROM generate_series(1, 3) i; GRANT UPDATE (label, gist), SELECT (body) ON keyed TO blind));
sql(q(SELECT llm.pause(server => 'sim')));
as('blind', q(UPDATE keyed SET label = llm_classify(body, '{billing,bug}')));
my $tells = q(SELECT count(*) FROM llm.%s t WHERE t::text ~ 'key [123]');
is(join(' ', map { as('blind', sprintf $tells, $_) } qw(queue cell dead_letter ledger)), '0 0 0 0', 'P9: no key while tasks wait');
is(sql(sprintf $tells, 'queue'), 3, 'though it is there, for those who may see all');
sql(q(SELECT llm.resume(server => 'sim')));
$node->poll_query_until('postgres', q(SELECT count(*) = 0 FROM llm.queue WHERE relation = 'keyed'::regclass)) or die 'not done';
is(join(' ', map { as('blind', sprintf $tells, $_) } qw(queue cell dead_letter ledger)), '0 0 0 0', 'P9: nor afterwards');
is(as('blind', q(SELECT count(*) > 0 AND bool_and(key IS NULL) FROM llm.ledger WHERE relation = 'public.keyed')), 't',
	'the ledger has no key');
is(as('blind', q(SELECT string_agg(format('%s %s %s', column_name, done, failed), ', ' ORDER BY job) FROM llm.progress)),
	'label 3 0', 'but what became of them is told');
# nor by a letter whose answer its column refuses, and which it asks about again
sql(q(ALTER TABLE keyed ADD COLUMN number int; GRANT UPDATE (number), SELECT (number) ON keyed TO blind));
as('blind', q(UPDATE keyed SET number = (llm_classify(body, '{billing,bug}')->>'label')::int));
$node->poll_query_until('postgres', q(SELECT count(*) = 0 FROM llm.queue WHERE relation = 'keyed'::regclass)) or die 'not done';
is(sql(sprintf $tells, 'dead_letter'), 3, 'three answers are not written');
is(join(' ', map { as('blind', sprintf $tells, $_) } qw(queue cell dead_letter ledger)), '0 0 0 0', 'P9: no dead letter tells a key');
unlike(as('blind', q(SELECT string_agg(h::text, ' ') FROM llm.health h)), qr/key [123]/, 'P9: nor does llm.health');
ledger_equals_meter($node, $provider, 'P3: ledger equals meter', server => 'sim');

done_testing();
