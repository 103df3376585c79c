# A call where nothing is written is answered while the statement waits: where it may stand,
# what it costs, who may ask, and what becomes of it when somebody leaves (P3, P6, P9).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

use LLMTest;

my $provider = start_provider();
my $node = new_node('immediate', 'llm_enrich.idle_timeout = 5s', 'deadlock_timeout = 10s');

setup_model($node, $provider);

sub requests { return $provider->meter->{requests}; }

# An answer is a function of the input: the echo of its mark.
$provider->script({ latency_ms => 5 });
sql(q(
	CREATE TABLE t (id int PRIMARY KEY, body text, label jsonb);
	INSERT INTO t SELECT i, 'The invoice is wrong [[mark:' || i || ']]' FROM generate_series(1, 20) i;));

# ---------------------------------------------------------------------------
# What everybody types first
# ---------------------------------------------------------------------------

like(sql(q(SELECT llm_classify('I was charged twice', '{billing,bug}'))), qr/^\{"label": "(?:billing|bug)"\}$/,
	'a call in a SELECT gives its answer');
is(requests(), 1, 'P3: it is one request');
is(sql(q(SELECT lane, operation, outcome, role = current_user, job IS NULL, task IS NOT NULL, cost > 0, relation IS NULL
	FROM llm.ledger)),
	'immediate|classify|ok|t|t|t|t|t', 'P3: which is on the ledger');
is(sql('SELECT count(*) FROM llm.letter'), '0', 'and its letter is gone');
is(sql(q(SELECT count(*) FROM (SELECT llm_classify(body, '{billing,bug}') AS label FROM t) s WHERE label ? 'label')), '20',
	'twenty rows have twenty answers');
is(sql(q(SELECT llm_classify(NULL, '{a,b}') IS NULL)), 't', 'NULL asks nothing');
is(requests(), 21, 'P3: NULL is no request');
ledger_equals_meter($node, $provider, 'P3: ledger and meter agree');

# ---------------------------------------------------------------------------
# Where it may stand: the cases of ADR 56
# ---------------------------------------------------------------------------

sql(q(
	CREATE FUNCTION simple(text) RETURNS jsonb LANGUAGE plpgsql AS $$
		DECLARE v jsonb; BEGIN v := llm_classify($1, '{a,b}'); RETURN v; END $$;
	CREATE FUNCTION in_sql(text) RETURNS jsonb LANGUAGE sql AS $$ SELECT llm_classify($1, '{a,b}') $$;
	CREATE FUNCTION queried(text) RETURNS jsonb LANGUAGE plpgsql AS $$
		BEGIN RETURN (SELECT llm_classify($1, '{a,b}') FROM t WHERE id = 1); END $$;
	CREATE FUNCTION asks_then_writes() RETURNS jsonb LANGUAGE plpgsql AS $$ DECLARE v jsonb; BEGIN
		v := llm_classify('x', '{a,b}'); UPDATE t SET body = body WHERE id = 1; RETURN v; END $$;
	CREATE PROCEDURE takes(v jsonb) LANGUAGE plpgsql AS $$ BEGIN IF v IS NULL THEN RAISE 'none'; END IF; END $$;
	CREATE PROCEDURE asks() LANGUAGE plpgsql AS $$
		DECLARE v jsonb; BEGIN v := llm_classify('x', '{a,b}'); COMMIT; v := llm_classify('y', '{a,b}'); END $$;
	CREATE VIEW v AS SELECT id, llm_classify(body, '{a,b}') AS l FROM t WHERE id < 3;
	CREATE TABLE copied (l jsonb);
	CREATE TABLE triggered (id int PRIMARY KEY, body text, l jsonb);
	CREATE FUNCTION set_l() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN new.l := llm_classify(new.body, '{a,b}'); RETURN new; END $$;
	CREATE TRIGGER set_l BEFORE INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION set_l();
	CREATE TABLE defaulted (id int PRIMARY KEY, l jsonb DEFAULT llm_classify('x', '{a,b}'));
	CREATE TABLE checked (id int, body text CHECK (llm_classify(body, '{a,b}') IS NOT NULL));
	CREATE TABLE old (id int PRIMARY KEY, l jsonb); INSERT INTO old VALUES (1, '{}');
	CREATE MATERIALIZED VIEW mat AS SELECT llm_classify('x', '{a,b}') AS l WITH NO DATA;
));

# What asks, and how many requests each makes.
my @asks = (
	[ 'a VALUES list' => q(VALUES (llm_classify('x', '{a,b}'))), 1 ],
	[ 'WHERE' => q(SELECT id FROM t WHERE id < 3 AND llm_classify(body, '{a,b}') IS NOT NULL), 2 ],
	[ 'ORDER BY' => q(SELECT id FROM t WHERE id < 3 ORDER BY llm_classify(body, '{a,b}')->>'label'), 2 ],
	[ 'a sub-select' => q(SELECT (SELECT llm_classify('x', '{a,b}'))), 1 ],
	[ 'a part of the answer' => q(SELECT llm_classify('x', '{a,b}')->>'label'), 1 ],
	[ 'CASE, where it is reached' => q(SELECT CASE WHEN id = 1 THEN llm_classify(body, '{a,b}') END FROM t), 1 ],
	[ 'COALESCE, where it is reached' => q(SELECT coalesce('{}'::jsonb, llm_classify(body, '{a,b}')) FROM t), 0 ],
	[ 'LIMIT' => q(SELECT llm_classify(body, '{a,b}') FROM t LIMIT 3), 3 ],
	[ 'a view' => q(SELECT * FROM v), 2 ],
	[ 'a PL/pgSQL expression' => q(SELECT simple('x')), 1 ],
	[ 'a SQL function' => q(SELECT in_sql('x')), 1 ],
	[ 'a query in a function' => q(SELECT queried('x')), 1 ],
	[ 'a function that writes afterwards' => q(SELECT asks_then_writes()), 1 ],
	[ 'a function in FROM' => q(SELECT * FROM simple('x')), 1 ],
	[ 'DO' => q(DO $$ DECLARE v jsonb; BEGIN v := llm_classify('x', '{a,b}'); END $$), 1 ],
	[ 'PERFORM in DO' => q(DO $$ BEGIN PERFORM llm_classify('x', '{a,b}'); END $$), 1 ],
	[ 'an argument of CALL' => q(CALL takes(llm_classify('x', '{a,b}'))), 1 ],
	[ 'a procedure that commits' => q(CALL asks()), 2 ],
	[ 'PREPARE and EXECUTE' => q(PREPARE p (text) AS SELECT llm_classify($1, '{a,b}'); EXECUTE p ('x');), 1 ],
	[ 'an argument of EXECUTE' => q(PREPARE p (jsonb) AS SELECT $1; EXECUTE p (llm_classify('x', '{a,b}'));), 1 ],
	[ 'EXPLAIN' => q(EXPLAIN SELECT llm_classify('x', '{a,b}')), 0 ],
	[ 'EXPLAIN ANALYZE' => q(EXPLAIN ANALYZE SELECT llm_classify('x', '{a,b}')), 1 ],
	[ 'a cursor' =>
		q(BEGIN; DECLARE c CURSOR FOR SELECT llm_classify(body, '{a,b}') FROM t; FETCH ALL FROM c; COMMIT;), 20 ],
	[ 'a cursor that is held' =>
		q(BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT llm_classify(body, '{a,b}') FROM t WHERE id < 3; COMMIT;
			FETCH 1 FROM c;), 2 ],
	[ 'a FOR loop' =>
		q(DO $$ DECLARE r record; BEGIN FOR r IN SELECT llm_classify(body, '{a,b}') FROM t WHERE id < 3 LOOP END LOOP;
			END $$), 2 ],
	[ 'COPY TO' => q(COPY (SELECT llm_classify('x', '{a,b}')) TO STDOUT), 1 ],
	[ 'a read-only transaction' => q(BEGIN READ ONLY; SELECT llm_classify('x', '{a,b}'); COMMIT;), 1 ],
	[ 'REPEATABLE READ' => q(BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT llm_classify('x', '{a,b}'); COMMIT;), 1 ],
	[ 'a transaction that has written' =>
		q(BEGIN; UPDATE t SET body = body WHERE id = 2; SELECT llm_classify('x', '{a,b}'); ROLLBACK;), 1 ],
	[ 'a subtransaction' => q(BEGIN; SAVEPOINT s; SELECT llm_classify('x', '{a,b}'); ROLLBACK TO s; COMMIT;), 1 ],
	[ 'WHERE of UPDATE' => q(UPDATE t SET body = body WHERE id < 3 AND llm_classify(body, '{a,b}') IS NOT NULL), 2 ],
	[ 'WHERE of DELETE' => q(DELETE FROM t WHERE id < 3 AND llm_classify(body, '{a,b}') IS NULL), 2 ],
	[ 'WHERE of a sub-select of UPDATE' =>
		q(UPDATE t SET body = body
			WHERE id IN (SELECT id FROM t u WHERE id < 3 AND llm_classify(u.body, '{a,b}') IS NOT NULL)), 2 ],
	[ 'WHERE of INSERT ... SELECT' =>
		q(INSERT INTO copied SELECT '{}' FROM t WHERE id < 3 AND llm_classify(body, '{a,b}') IS NOT NULL), 2 ],
	[ 'WHERE of a SELECT beside WITH that writes' =>
		q(WITH w AS (UPDATE t SET body = body WHERE id = 1 RETURNING id)
			SELECT * FROM w WHERE llm_classify('x', '{a,b}') IS NOT NULL), 1 ],
	[ 'FOR UPDATE' => q(SELECT llm_classify(body, '{a,b}') FROM t WHERE id = 1 FOR UPDATE), 1 ],
	[ 'a row that nobody reads' => q(SELECT llm_classify(body, '{a,b}') FROM t WHERE false), 0 ],
);
foreach my $case (@asks)
{
	my ($name, $statement, $expected) = @$case;
	my $before = requests();

	is(error_of($statement), '', "$name: no error");
	is(requests() - $before, $expected, "P3: $name: $expected requests");
}

# What writes does not wait, and says what to do.
my @refused = (
	[ 'CREATE TABLE AS' => q(CREATE TABLE ctas AS SELECT llm_classify('x', '{a,b}') AS l), 'UPDATE ... SET' ],
	[ 'SELECT INTO' => q(SELECT llm_classify('x', '{a,b}') AS l INTO ctas), 'UPDATE ... SET' ],
	[ 'EXPLAIN ANALYZE CREATE TABLE AS' =>
		q(EXPLAIN ANALYZE CREATE TABLE ctas AS SELECT llm_classify('x', '{a,b}') AS l), 'UPDATE ... SET' ],
	[ 'CREATE TABLE AS EXECUTE' =>
		q(PREPARE p AS SELECT llm_classify('x', '{a,b}') AS l; CREATE TABLE ctas AS EXECUTE p), 'UPDATE ... SET' ],
	[ 'CREATE MATERIALIZED VIEW' =>
		q(CREATE MATERIALIZED VIEW m AS SELECT llm_classify('x', '{a,b}') AS l), 'UPDATE ... SET' ],
	[ 'REFRESH MATERIALIZED VIEW' => q(REFRESH MATERIALIZED VIEW mat), 'UPDATE ... SET' ],
	[ 'COPY FROM' => qq(COPY defaulted (id) FROM STDIN;\n1\n\\.\n), 'UPDATE ... SET' ],
	[ 'ALTER TABLE ADD' => q(ALTER TABLE old ADD m jsonb DEFAULT llm_classify('x', '{a,b}')), 'UPDATE ... SET' ],
	[ 'ALTER TABLE USING' => q(ALTER TABLE old ALTER l TYPE json USING llm_classify('x', '{a,b}')), 'UPDATE ... SET' ],
	[ 'a CHECK' => q(INSERT INTO checked VALUES (1, 'x')), 'Assign the call itself' ],
	[ 'a trigger' => q(INSERT INTO triggered VALUES (1, 'x')), 'not in a trigger' ],
	[ 'a function in SET' => q(UPDATE t SET label = simple(body) WHERE id = 1), 'Assign the call itself' ],
	[ 'a SQL function in SET' => q(UPDATE t SET label = in_sql(body) WHERE id = 1), 'Assign the call itself' ],
	[ 'a query of a function in SET' => q(UPDATE t SET label = queried(body) WHERE id = 1), 'Assign the call itself' ],
	[ 'a function in WHERE of UPDATE' =>
		q(UPDATE t SET body = body WHERE simple(body) IS NOT NULL), 'Assign the call itself' ],
	[ 'INSERT of a function' => q(INSERT INTO copied SELECT simple('x')), 'Assign the call itself' ],
	[ 'a result beside WITH that writes' =>
		q(WITH w AS (UPDATE t SET body = body WHERE id = 1 RETURNING id)
			SELECT simple('x') FROM w), 'Assign the call itself' ],
);
foreach my $case (@refused)
{
	my ($name, $statement, $hint) = @$case;
	my $before = requests();
	my $error = error_of("BEGIN; $statement; ROLLBACK;");

	like($error, qr/0A000: llm_classify\(\) cannot be evaluated here/, "$name is refused");
	like($error, qr/HINT:.*\Q$hint\E/, "$name: and says what to do");
	is(requests() - $before, 0, "P3: $name: nothing was asked");
}
like(error_of(q(UPDATE t SET body = body WHERE id = 1 RETURNING llm_classify(body, '{a,b}'))), qr/0A000: .*\n.*/,
	'RETURNING is refused');
is(sql(q(SELECT count(*) FROM llm.queue)), '0', 'P1: no refused call has left a task');

# What was asked is paid, whatever becomes of the transaction.
my $rows = sql('SELECT count(*) FROM llm.ledger');
sql(q(BEGIN; SELECT llm_classify('rolled back', '{a,b}'); ROLLBACK;));
is(sql('SELECT count(*) FROM llm.ledger') - $rows, 1, 'P3: ROLLBACK leaves the ledger row');

# ---------------------------------------------------------------------------
# Who may ask, and how much
# ---------------------------------------------------------------------------

sql('CREATE ROLE guest; GRANT SELECT ON t TO guest');
like(error_of(q(SET ROLE guest; SELECT llm_classify('x', '{a,b}'))), qr/42501: role "guest" may not use server/,
	'P9: without USAGE nobody asks');
sql('GRANT USAGE ON FOREIGN SERVER sim TO guest');
is(error_of(q(SET ROLE guest; SELECT llm_classify('x', '{a,b}'))), '', 'P9: with it he does');
is(sql(q(SELECT role FROM llm.ledger ORDER BY id DESC LIMIT 1)), 'guest', 'P3: in his own name');
is(sql(q(SET ROLE guest; SELECT count(*) = count(*) FILTER (WHERE role = 'guest') FROM llm.ledger)), 't',
	'P9: he sees his own rows');
like(error_of(q(SET llm_enrich.max_immediate_calls = 5; SELECT llm_classify(body, '{a,b}') FROM t)),
	qr/54000: the command has asked 5 times already/, 'P10: a command asks no more often than it may');
is(error_of(q(SET llm_enrich.max_immediate_calls = 2; SELECT simple('x'), simple('y'); SELECT simple('z');)), '',
	'P10: each command by itself');
like(error_of(q(SELECT llm_classify('x', '{a,b}', model => 'none'))), qr/model "none"/, 'an unknown model is named');
like(error_of(q(SELECT llm_classify('  ', '{a,b}'))), qr/38000: .*empty_input/, 'a blank input is no question');
is(sql(q(SET llm_enrich.on_error = 'null'; SELECT llm_classify('  ', '{a,b}') IS NULL)), 't', 'or NULL');
like(error_of(q(BEGIN; SELECT llm.add_model('new', server => 'sim', model => 'sim-1', input_per_mtok => 1, output_per_mtok => 1);
	SELECT llm_classify('x', '{a,b}', model => 'new'))), qr/HINT:.*COMMIT first/, 'a model that is not committed: the hint says what to do');
is(error_of(q(SELECT llm.add_model('new', server => 'sim', model => 'sim-1', input_per_mtok => 1, output_per_mtok => 1);),
	q(SELECT llm_classify('x', '{a,b}', model => 'new'))), '', 'and committed it is known at once');

# ---------------------------------------------------------------------------
# What goes wrong
# ---------------------------------------------------------------------------

# Requests since the last call of this, by outcome.
my $seen = sql('SELECT max(id) FROM llm.ledger');

sub outcomes
{
	my $text = sql("SELECT string_agg(outcome, ',' ORDER BY id) FROM llm.ledger WHERE id > $seen");

	$seen = sql('SELECT max(id) FROM llm.ledger');
	return $text;
}

$provider->script({ sequence => [ { action => 'malformed_content' } ] });
is(error_of(q(SELECT llm_classify('again', '{a,b}'))), '', 'an answer at fault is asked for again');
is(outcomes(), 'invalid,ok', 'P3: and both are paid');
$provider->script({ sequence => [ { action => 'malformed_content', times => 3 } ] });
like(error_of(q(SELECT llm_classify('again', '{a,b}'))),
	qr/38000: llm_classify\(\) got no answer: invalid_output.*\n.*DETAIL:.*was asked 3 times, for US dollars/s,
	'until it is at fault too often: the error says what it cost');
is(outcomes(), 'invalid,invalid,invalid', 'P3: all are paid');
$provider->script({ sequence => [ { action => 'malformed_content', times => 3 } ] });
is(sql(q(SET llm_enrich.on_error = 'null'; SELECT llm_classify('again', '{a,b}') IS NULL)), 't', 'or NULL');
outcomes();
$provider->script({ sequence => [ { action => 'status', status => 429, retry_after => 0.2 } ] });
is(error_of(q(SELECT llm_classify('limited', '{a,b}'))), '', 'P7: a limit is waited for');
is(outcomes(), 'rate_limited,ok', 'P7: and no failure');
$provider->script({ sequence => [ { action => 'status', status => 429, retry_after => 30 } ] });
my $began = time;
like(error_of(q(SET llm_enrich.patience = '300ms'; SELECT llm_classify('limited', '{a,b}'))), qr/53400: .*waits \(/,
	'for as long as patience lasts');
cmp_ok(time - $began, '<', 5, 'and no longer');
like(error_of(q(SET llm_enrich.on_error = 'null'; SET llm_enrich.patience = 0; SELECT llm_classify('limited', '{a,b}') IS NULL)), qr/^$/, 'or NULL');
sql(q(SELECT llm.alter_model('fast', model => 'sim-2')));
outcomes();
$provider->script({ status => 401,
	body => { error => { message => 'Incorrect API key provided', code => 'invalid_api_key' } } });
like(error_of(q(SET llm_enrich.on_error = 'null'; SELECT llm_classify('key', '{a,b}'))),
	qr/55000: .*got no answer: .*\n/, 'a refused key is an error at once, whatever on_error says');
$provider->script({ latency_ms => 5 });
sql(q(SELECT llm.alter_model('fast', model => 'sim-3'); SELECT llm.set_price('fast', 1, 1)));

# ---------------------------------------------------------------------------
# Somebody leaves
# ---------------------------------------------------------------------------

$provider->script({ latency_ms => 10_000 });
$began = time;
like(error_of(q(SET statement_timeout = '300ms'; SELECT llm_classify('slow', '{a,b}'))), qr/57014/,
	'statement_timeout ends the wait');
cmp_ok(time - $began, '<', 8, 'at once');

# A session that waits for an answer, and its process.
sub start_asking
{
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	my $pid = $session->query('SELECT pg_backend_pid()');
	my $before = requests();

	$session->query_until(qr/start/, "\\echo start\nSELECT llm_classify('slow', '{a,b}');\n");
	$node->poll_query_until('postgres', 'SELECT EXISTS (SELECT FROM llm.letter)') or die 'no request left';
	for (my $tries = 0; requests() == $before; $tries++)
	{
		die 'no request came' if $tries > 1800;
		usleep(100_000);
	}
	return ($session, $pid);
}

$node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM llm.letter)');
my ($session, $pid) = start_asking();
$began = time;
sql("SELECT pg_cancel_backend($pid)");
$node->poll_query_until('postgres', "SELECT state = 'idle' FROM pg_stat_activity WHERE pid = $pid");
cmp_ok(time - $began, '<', 8, 'a cancel ends the wait');
$session->quit;
$node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM llm.letter)') or die 'the letter stays';
ledger_equals_meter($node, $provider, 'P3: what was given up is on the ledger with its answer');

($session, $pid) = start_asking();
sql("SELECT pg_terminate_backend($pid)");
$node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM llm.letter)') or die 'the letter stays';
ledger_equals_meter($node, $provider, 'P3: so is what a session asked that was ended');
eval { $session->quit };

($session, $pid) = start_asking();
$began = time;
sql(q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'llm_enrich sender'));
$node->poll_query_until('postgres', "SELECT state = 'idle' FROM pg_stat_activity WHERE pid = $pid");
cmp_ok(time - $began, '<', 8, 'when the sender ends, the caller hears of it');
$node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM llm.letter)') or die 'the letter stays';
is(sql(q(SELECT outcome, estimated, cost > 0 FROM llm.ledger ORDER BY id DESC LIMIT 1)), 'unknown|t|t',
	'P3: and the request is booked as unknown');
$session->quit;

# A crash, of the sender and of the session.
foreach my $victim ('sender', 'session')
{
	my $before = sql('SELECT count(*) FROM llm.ledger');

	($session, $pid) = start_asking();
	my $requests = requests();
	$pid = sql(q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'llm_enrich sender')) if $victim eq 'sender';
	ok(crash_server($node, $pid), "the $victim is killed");
	eval { $session->quit };
	$node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM llm.letter)') or die 'the letter stays';
	is(sql('SELECT count(*) FROM llm.ledger') - $before, 1, 'P3: the request is on the ledger');
	is(sql(q(SELECT outcome, estimated FROM llm.ledger ORDER BY id DESC LIMIT 1)), 'unknown|t', 'P3: as unknown');
	is(requests(), $requests, 'and is not asked again');
}

# Autovacuum evaluates expressions of statistics: nobody has asked for that, and its workers are everybody's.
my $asked = requests();
sql('ALTER SYSTEM SET autovacuum_naptime = 1; SELECT pg_reload_conf();',
	'CREATE TABLE watched (id int PRIMARY KEY, body text) WITH (autovacuum_analyze_threshold = 1, autovacuum_analyze_scale_factor = 0);',
	q(CREATE STATISTICS watched_asks ON (llm_filter(body, 'is it wrong?')), id FROM watched;),
	q(INSERT INTO watched SELECT i, 'Row ' || i FROM generate_series(1, 40) i;));
my $refusal = qr/llm_filter\(\) cannot be evaluated here.*automatic analyze of table "postgres\.public\.watched"/s;
foreach (1 .. 5 * $PostgreSQL::Test::Utils::timeout_default)
{
	last if slurp_file($node->logfile) =~ $refusal
	  || sql(q(SELECT last_autoanalyze IS NOT NULL FROM pg_stat_user_tables WHERE relname = 'watched')) eq 't';
	usleep(200_000);
}
like(slurp_file($node->logfile), $refusal, 'P6: autovacuum waits for no answer');
is(requests() - $asked, 0, 'P3: and asks nothing');
sql('ALTER SYSTEM RESET autovacuum_naptime; SELECT pg_reload_conf();');

# Who holds a lock that the sender needs, and waits for the sender, is told.
$provider->script({ latency_ms => 5 });
foreach my $table ('llm.ledger', 'llm.letter')
{
	$began = time;
	like(error_of("BEGIN; LOCK TABLE $table; SELECT llm_classify('locked', '{a,b}');"),
		qr/55000: .*could not store.*lock timeout/,
		"P6: a lock on $table: the wait ends with the reason");
	cmp_ok(time - $began, '<', 5, 'P6: soon');
	is(error_of(q(SELECT llm_classify('free', '{a,b}'))), '', 'P6: and others go on');
}

# Any size up to that of an input, many at once.
is(sql(q(SELECT llm_complete(repeat('long ', 1000000)) ? 'text')), 't', 'an input of 5 MB');
like(error_of(q(SELECT llm_complete(repeat('x', 70 * 1024 * 1024)))), qr/54000/,
	'P10: one that is too long is refused');
my @sessions = map
{
	my ($in, $out, $err) = (q(SELECT count(l) FROM (SELECT llm_classify(body, '{a,b}') AS l FROM t) s), '', '');
	{ out => \$out,
		handle => IPC::Run::start([ 'psql', '-XAt', '-d', $node->connstr('postgres') ], \$in, \$out, \$err) };
} 1 .. 8;
$_->{handle}->finish foreach @sessions;
is(join(',', map { ${ $_->{out} } =~ s/\s+//r } @sessions), join(',', (20) x 8),
	'eight sessions at once have all their answers');
is(sql(q(SELECT count(*) FROM llm.letter)), '0', 'no letter is left');

done_testing();
