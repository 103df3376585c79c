# Answers are kept: the same question of the same role is not paid twice (P3, P4, P9, P10).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

use LLMTest;

my $provider = start_provider();
my $node = new_node('kept', 'llm_enrich.keep_answers = 1d');

setup_model($node, $provider);
$provider->script({ latency_ms => 5 });

sub requests { return $provider->meter->{requests}; }

# How many requests a statement makes.
sub requests_of
{
	my $before = requests();

	sql(@_);
	return requests() - $before;
}

sub wait_for
{
	my ($query) = @_;

	return $node->poll_query_until('postgres', $query) || die "waited in vain: $query";
}

sub settled { return wait_for('SELECT NOT EXISTS (SELECT FROM llm.letter)'); }

# ---------------------------------------------------------------------------
# A SELECT that fails
# ---------------------------------------------------------------------------

sql(q(
	CREATE TABLE t (id int PRIMARY KEY, body text, label jsonb, other jsonb);
	INSERT INTO t SELECT i, 'The invoice is wrong [[mark:' || i || ']]' FROM generate_series(1, 1000) i;));
like(error_of(q(SELECT llm_classify(body, '{a,b}'), 1 / (900 - id) FROM t ORDER BY id)), qr/22012/,
	'a SELECT fails at its 900th row');
settled();
my $paid = requests();
cmp_ok($paid, '>=', 900, 'when it has paid for those before it, and what was in flight');
is(sql('SELECT count(*) FROM llm.answer'), $paid, 'P4: all of them are kept');
is(sql(q(SELECT count(*) FROM (SELECT llm_classify(body, '{a,b}') AS l FROM t ORDER BY id) s WHERE l ? 'label')), 1000,
	'run again it has all its answers');
is(requests(), 1000, 'P4: and has asked for those only that were not kept');
is(sql(q(SELECT count(*), count(request), sum(cost), count(DISTINCT paid_by), min(lane)
	FROM llm.ledger WHERE outcome = 'cached')), "$paid|0|0|$paid|cache", 'P3: what is kept is on the ledger, and costs nothing');
is(sql(q(SELECT count(*) FROM llm.ledger c JOIN llm.ledger p ON p.task = c.paid_by AND p.outcome = 'ok'
	WHERE c.outcome = 'cached')), $paid, 'P3: with the one that paid');
is(sql(q(SELECT sum(requests), sum(tasks), saved > 0, cost > 0 FROM llm.bill(by => '{}') GROUP BY saved, cost)),
	'1000|' . (1000 + $paid) . '|t|t', 'the bill says what was saved');
ledger_equals_meter($node, $provider, 'P3: ledger and meter agree');

# ---------------------------------------------------------------------------
# What the SELECT has tried, the UPDATE need not pay again
# ---------------------------------------------------------------------------

is(requests_of(q(UPDATE t SET label = llm_classify(body, '{a,b}') WHERE id <= 300)), 0, 'an UPDATE takes what is kept');
wait_idle($node);
is(requests(), 1000, 'P3: nothing is asked');
is(sql(q(SELECT count(*) FROM t WHERE label ? 'label')), 300, 'and every cell has its answer');
is(sql(q(SELECT done, c.requests, c.cost FROM llm.job j JOIN llm.job_cost c ON c.job = j.id)), '300|0|0',
	'the job is done, for nothing');
is(sql(q(SELECT count(*) FROM llm.ledger WHERE job IS NOT NULL AND outcome = 'cached' AND relation = 'public.t'
	AND key ? 'id' AND attempt IS NULL)), 300, 'P3: with its rows on the ledger');
is(sql(q(SELECT count(*) FROM t JOIN llm.answer a ON a.answer = t.label JOIN llm.ledger l ON l.paid_by = a.task
	AND l.key->>'id' = t.id::text)), 300, 'P5: each has the answer to its own question');

# Of a target that nothing is known of one request is tried first. What is kept needs none, and comes many at a time.
$node->restart;
sql(q(UPDATE t SET label = llm_classify(body, '{a,b}') WHERE id <= 300));
wait_idle($node);
is(requests(), 1000, 'after a restart, too, nothing is asked');
cmp_ok(sql(q(SELECT count(DISTINCT xmin::text) FROM llm.ledger WHERE job = (SELECT max(id) FROM llm.job))), '<', 100,
	'P10: and what is kept comes many at a time');

# Whatever the places for requests, what is kept may be of any number of jobs.
$node->append_conf('postgresql.conf', 'llm_enrich.max_connections = 4');
$node->restart;
sending($node, 'off');
sql(join "; ", map { "UPDATE t SET label = llm_classify(body, '{a,b}') WHERE id > $_ * 5 AND id <= $_ * 5 + 5" } 0 .. 59);
sending($node, 'on');
wait_idle($node);
is(sql(q(SELECT count(*), sum(done) FROM (SELECT done FROM llm.job ORDER BY id DESC LIMIT 60) j)), '60|300',
	'P2: of sixty jobs beside four places for requests, too');
is(requests(), 1000, 'and nothing is asked for them');
unlike(slurp_file($node->logfile), qr/terminated by signal/, 'P2: nothing crashed');
$node->adjust_conf('postgresql.conf', 'llm_enrich.max_connections', undef);
$node->restart;
sql(q(UPDATE t SET other = llm_summarize(body, 10) WHERE id <= 50));
wait_idle($node);
is(requests(), 1050, 'another question is asked');
is(requests_of(q(SELECT llm_summarize(body, 10) FROM t WHERE id <= 50)), 0, 'and its answers are kept for a SELECT');

# Repeats within a statement follow the one that is kept.
sql(q(CREATE TABLE twins (id int PRIMARY KEY, l jsonb);
	INSERT INTO twins SELECT i, llm_classify('The invoice is wrong [[mark:1]]', '{a,b}') FROM generate_series(1, 50) i));
wait_idle($node);
is(requests(), 1050, 'repeats of a question that is kept: nothing is asked');
is(sql(q(SELECT count(*) FROM twins WHERE l ? 'label')), 50, 'and all have the answer');

# ---------------------------------------------------------------------------
# What is not the same
# ---------------------------------------------------------------------------

my $x = q(llm_classify('one text', '{a,b}'%s));
my $ask = sub { my ($more) = @_; return requests_of('SELECT ' . sprintf($x, $more)); };

is($ask->(''), 1, 'a question');
is($ask->(''), 0, 'asked again');
is($ask->(q(, options => '{"reuse": true}')), 0, 'asked again, in other words');
is($ask->(q(, options => '{"priority": 5, "tags": {"a": "b"}}')), 0, 'what steers the call does not change the question');
is($ask->(q(, options => '{"reuse": false}')), 1, 'reuse: false asks');
is($ask->(q(, options => '{"reuse": false}')), 1, 'each time');
is($ask->(q(, options => '{"temperature": 0.5}')), 1, 'a temperature asks');
is($ask->(q(, options => '{"temperature": 0.5}')), 1, 'each time');
is($ask->(q(, options => '{"temperature": 0}')), 1, 'a temperature of 0 is another question');
is($ask->(q(, options => '{"temperature": 0}')), 0, 'whose answer is kept');
is($ask->(q(, instructions => 'Be strict.')), 1, 'other instructions are another question');
is(requests_of(q(SELECT llm_classify('one text', '{a,c}'))), 1, 'so are other labels');
is(requests_of(q(SELECT llm_classify('One text', '{a,b}'))), 1, 'and other bytes');
like(error_of(q(SELECT llm_classify('x', '{a,b}', options => '{"reuse": 1}'))), qr/22023: .*"reuse".*\n.*true or false/,
	'reuse is true or false');
setup_model($node, $provider, alias => 'slow', model => 'sim-2', is_default => 0);
is($ask->(q(, model => 'slow')), 1, 'another model is asked');
is($ask->(q(, model => 'slow')), 0, 'and has its own answer');
is($ask->(''), 0, 'beside the first one');
sql(q(SELECT llm.add_model('same', server => 'sim', model => 'sim-1', input_per_mtok => 1, output_per_mtok => 1)));
is($ask->(q(, model => 'same')), 0, 'another name for the same model is the same');
sql(q(SELECT llm.alter_model('fast', options => '{"extra_body": {"user": "somebody"}}')));
is($ask->(''), 1, 'other members of the body are another question');
sql(q(SELECT llm.alter_model('fast', options => '{}')));
is($ask->(''), 0, 'and without them it is the first one again');

# Another role asks for itself.
sql(q(CREATE ROLE guest; GRANT USAGE ON FOREIGN SERVER sim TO guest));
is(requests_of('SET ROLE guest; SELECT ' . sprintf($x, '')), 1, 'P9: another role asks');
is(requests_of('SET ROLE guest; SELECT ' . sprintf($x, '')), 0, 'P9: and has its own answer');
is(sql('SET ROLE guest; SELECT count(*) FROM llm.answer'), 1, 'P9: which is all it sees');
like(error_of('SET ROLE guest; DELETE FROM llm.answer'), qr/42501/, 'P9: and it may delete none');
is(sql('CREATE ROLE watcher IN ROLE pg_monitor; SET ROLE watcher; SELECT count(*) FROM llm.answer'), 0,
	'P9: pg_monitor sees no answers');
sql('REVOKE USAGE ON FOREIGN SERVER sim FROM guest');
like(error_of('SET ROLE guest; SELECT ' . sprintf($x, '')), qr/42501/, 'P9: who may ask no more gets no kept answer either');

# ---------------------------------------------------------------------------
# Who asks again wants another answer
# ---------------------------------------------------------------------------

$provider->script({ latency_ms => 5, sequence => [ { action => 'malformed_content' } ] });
is($ask->(q(, instructions => 'Twice.')), 2, 'an answer at fault is asked for again');
is($ask->(q(, instructions => 'Twice.')), 0, 'and the good one is kept');
$provider->script({ latency_ms => 5, sequence => [ { action => 'malformed_content', times => 3 } ] });
sql(q(INSERT INTO twins VALUES (100, llm_classify('a hard one', '{a,b}'))));
wait_idle($node);
is(sql('SELECT reason FROM llm.dead_letter'), 'invalid_output', 'a task has failed');
$provider->script({ latency_ms => 5 });
is(requests_of(q(SELECT llm_classify('a hard one', '{a,b}'))), 1, 'while another call is answered');
is(requests_of(q(SELECT llm.retry('twins');), q(CALL llm.wait())), 1, 'llm.retry() asks all the same');
is(sql(q(SELECT l ? 'label' FROM twins WHERE id = 100)), 't', 'and writes what it got');
ledger_equals_meter($node, $provider, 'P3: ledger and meter agree');

# A target that is shut, or has no place, keeps nobody from what is there.
$provider->script({ status => 401,
	body => { error => { message => 'Incorrect API key', code => 'invalid_api_key' } } });
like(error_of(q(SELECT llm_classify('a new one', '{a,b}'))), qr/55000/, 'the key is refused');
is($ask->(''), 0, 'what is kept is given while the target is paused');
$provider->script({ latency_ms => 5 });
is(sql(q(SELECT left(llm.check(), 3))), 'ok:', 'llm.check() asks in any case');
ledger_equals_meter($node, $provider, 'P3: ledger and meter agree');

# ---------------------------------------------------------------------------
# How long, and how many
# ---------------------------------------------------------------------------

sub forward
{
	my ($seconds) = @_;

	return sql(qq(
		CREATE FUNCTION pg_temp.forward(float8) RETURNS timestamptz LANGUAGE C AS 'llm_enrich', 'llm_enrich_test_clock';
		SELECT FROM pg_temp.forward($seconds)));
}

sub configure
{
	my ($setting, $value) = @_;

	sql("ALTER SYSTEM SET $setting = '$value'");
	$node->reload;
	return;
}

forward(80_000);
is($ask->(''), 0, 'an answer is kept for a day');
forward(10_000);
is($ask->(''), 1, 'and no longer');
wait_for('SELECT count(*) = 1 FROM llm.answer');
pass('P10: what is older goes');
is($ask->(''), 0, 'what was asked again is kept again');

$provider->script({ latency_ms => 0 });
sql(q(SET llm_enrich.max_immediate_calls = 5000;
	SELECT count(llm_classify(body || ' again', '{a,b}')) FROM (SELECT body FROM t ORDER BY id) s));
is(sql('SELECT count(*) FROM llm.answer'), 1001, 'P10: a thousand are kept');
configure('llm_enrich.keep_answers_size', '64kB');
forward(60);
sql('SELECT ' . sprintf($x, ''));
wait_for('SELECT count(*) < 300 FROM llm.answer');
is(sql(q(SELECT max(bytes_so_far) - min(bytes_so_far) <= 67000, count(*) > 50 FROM llm.answer)), 't|t',
	'P10: and the oldest go when there is less room');
is(requests_of(q(SELECT llm_classify(body || ' again', '{a,b}') FROM t ORDER BY id DESC LIMIT 1)), 0, 'the newest stay');
is(requests_of(q(SELECT llm_classify(body || ' again', '{a,b}') FROM t WHERE id = 1)), 1, 'the oldest are asked again');

configure('llm_enrich.keep_answers', '0');
$node->poll_query_until('postgres', "SHOW llm_enrich.keep_answers", '0') or die 'the setting does not come';
forward(60);

sql('SELECT ' . sprintf($x, ', options => \'{"reuse": false}\''));
is($ask->(''), 1, 'where none are kept, each call asks');
is($ask->(''), 1, 'each time');
wait_for('SELECT count(*) = 0 FROM llm.answer');
pass('and those that were kept go');

# ---------------------------------------------------------------------------
# What dies
# ---------------------------------------------------------------------------

configure('llm_enrich.keep_answers', '1d');
$node->poll_query_until('postgres', "SHOW llm_enrich.keep_answers", '1d') or die 'the setting does not come';
is($ask->(''), 1, 'they are kept again');

# when the sender has read it, too
my $again;
foreach (1 .. 600)
{
	$again = $ask->('');
	last if $again == 0;
	usleep(100_000);
}
is($again, 0, 'from then on');
ok(crash_server($node, sql(q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'llm_enrich sender'))),
	'the sender is killed');
is($ask->(''), 0, 'P4: what is kept outlives it');
sql(q(CALL llm.prune(now() + interval '1 year')));
is(sql('SELECT count(*) FROM llm.answer'), 0, 'llm.prune() deletes them');
is($ask->(''), 1, 'and then the question is asked');

done_testing();
