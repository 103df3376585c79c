# Vectors while a statement waits: many rows in one request. Each row gets its own vector; one bad input costs only
# itself (P4, P5); the ledger is what the provider billed (P3), also after a cancel and a crash; a LIMIT is a bound.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest qw(!error_of);

use constant ROWS => 1000;

my $node = new_node('at_once', 'llm_enrich.max_tries = 3', 'llm_enrich.max_in_flight = 32',
	'llm_enrich.patience = 60s');
my $provider = start_provider();
setup_model($node, $provider, model => 'text-embedding-3-small', options => { max_concurrency => 8 });

sub error_of
{
	my ($out, $err);

	$node->psql('postgres', join("\n", @_), stdout => \$out, stderr => \$err);
	return $err;
}

sub await
{
	my ($query, $what) = @_;

	$node->poll_query_until('postgres', $query) or die $what;
	return;
}

# A session that runs this, and goes on.
sub start_psql
{
	my $query = shift;
	my $session = { in => '', out => '', err => '' };

	my $where = $node->connstr('postgres') . ' application_name=leaver';

	$session->{run} = IPC::Run::start([ 'psql', '-XAtq', '-d', $where, '-c', $query ],
		'<', \$session->{in}, '>', \$session->{out}, '2>', \$session->{err});
	return $session;
}

# Its own vector begins with the number and the length of an input.
my $own = 'emb[1] = id AND emb[2] = length(body)';

sub asked { return sql('SELECT count(DISTINCT request) FROM llm.ledger'); }

sql(qq(CREATE TABLE t (id int PRIMARY KEY, body text);
	INSERT INTO t SELECT i, 'Customer ' || i || ' writes ' || repeat('a lot ', i % 7) || '[[mark:' || i || ']]'
		FROM generate_series(1, @{[ROWS]}) i));

# All of them.
is(sql("SELECT count(*) FROM (SELECT *, llm_embed(body) AS emb FROM t OFFSET 0) s WHERE $own"), ROWS,
	'P5: ' . ROWS . ' rows of a SELECT have their own vectors');
cmp_ok(asked(), '<=', ROWS / 16, 'in a sixteenth as many requests');
is(sql('SELECT count(*), count(DISTINCT task), min(lane), max(lane), count(DISTINCT outcome) FROM llm.ledger'),
	ROWS . '|' . ROWS . '|immediate|immediate|1', 'P3: each call has a row on the ledger');
ledger_equals_meter($node, $provider, 'P3: parts of usage add up to what the provider billed');
is(sql(q(SELECT sum(cost) = sum(input_tokens) * 0.25 / 1000000 FROM llm.ledger)), 't', 'P3: and so does their cost');
my $marks = $provider->marks();
is_deeply([ scalar keys %$marks, scalar grep { $_ != 1 } values %$marks ], [ ROWS, 0 ], 'P3: each input was sent once');
is(sql('SELECT count(*) FROM llm.letter'), 0, 'no letter is left');

# The command is told of requests, not of calls.
my $before = asked();
my $told = error_of(q(SET llm_enrich.notices = on; SELECT llm_embed(body, 4) FROM t WHERE id <= 300));
my ($calls, $requests) = $told =~ /NOTICE:\s+(\d+) calls, (\d+) requests/;
is_deeply([ $calls, $requests ], [ 300, asked() - $before ], 'the notice counts each request once');

# LIMIT, and a cursor that is left.
$provider->reset;
$before = sql('SELECT count(*) FROM llm.ledger');
is(sql('SELECT count(*) FROM (SELECT llm_embed(body, 4) FROM t LIMIT 50) s'), 50, 'fifty rows');
is(sql('SELECT count(*) FROM llm.ledger') - $before, 50, 'LIMIT 50 pays for fifty');
is(sql('SELECT count(*) FROM (SELECT llm_embed(body, 4) FROM t LIMIT 20 OFFSET 200) s'), 20, 'twenty rows behind 200');
is(sql('SELECT count(*) FROM llm.ledger') - $before, 70, 'OFFSET skips for nothing');
sql(q(BEGIN; DECLARE c CURSOR FOR SELECT llm_embed(body, 4) FROM t; FETCH 60 FROM c; COMMIT));
await(q(SELECT NOT EXISTS (SELECT FROM llm.letter)), 'letters stay');
cmp_ok(sql('SELECT count(*) FROM llm.ledger') - $before, '<=', 70 + 60 + 60, 'a cursor has no more ahead than it has given');

# One bad input among a hundred; then one that is too long.
$provider->reset;
sql(q(UPDATE t SET body = 'venom ' || body WHERE id = 42));
$provider->script({ sequence => [ { match => 'venom', times => -1, action => 'status', status => 400,
	body => { error => { message => 'The input is not acceptable.', type => 'invalid_request_error',
		param => undef, code => undef } } } ] });
$before = sql('SELECT max(id) FROM llm.ledger');
is(sql(qq(SET llm_enrich.on_error = 'null';
	SELECT count(*) FILTER (WHERE $own), string_agg(id::text, ',') FILTER (WHERE emb IS NULL)
	FROM (SELECT *, llm_embed(body) AS emb FROM t WHERE id <= 100 OFFSET 0) s)), '99|42', 'P4: one bad input costs only itself');
is(sql("SELECT count(*) FROM llm.ledger WHERE id > $before AND outcome <> 'ok' AND cost <> 0"), 0,
	'refused requests cost nothing');
is(sql("SELECT count(DISTINCT request) FROM llm.ledger WHERE id > $before"), $provider->meter->{requests},
	'P3: each request is on the ledger');
like(error_of(q(SELECT llm_embed(body) FROM t WHERE id <= 100)),
	qr/llm_embed\(\) got no answer: rejected: .*not acceptable/,
	'P6: it is named in the error');
sql(q(UPDATE t SET body = replace(body, 'venom ', '') WHERE id = 42));

# Limits, errors and lost connections.
await(q(SELECT NOT EXISTS (SELECT FROM llm.letter)), 'letters stay');
$provider->reset;
$provider->script({ rate_limit => 0.1, retry_after => 0.05, error_500 => 0.1, wrong_label => 0.1 });
is(sql("SET llm_enrich.on_error = 'null'; SELECT count(*) FROM (SELECT *, llm_embed(body) AS emb FROM t OFFSET 0) s
	WHERE emb IS NOT NULL AND NOT ($own)"), 0, 'P5: no row has the vector of another one');
await(q(SELECT NOT EXISTS (SELECT FROM llm.letter)), 'letters stay');
is(sql(q(SELECT count(*) FROM (SELECT task FROM llm.ledger GROUP BY task
	HAVING count(*) FILTER (WHERE outcome = 'ok') > 1) s)), 0,
	'P3: nobody has paid for two vectors');

# Money: what is reserved for those that are on their way is never more than there is.
$provider->reset;
sql(q(SELECT llm.set_budget((SELECT sum(cost) FROM llm.ledger) + 0.0006)));
like(error_of(q(SELECT count(llm_embed(body)) FROM t)), qr/budget \d+: of .* are left/, 'a budget ends the statement');
await(q(SELECT NOT EXISTS (SELECT FROM llm.letter)), 'letters stay');
is(sql('SELECT sum(spent) <= sum(amount) FROM llm.budget'), 't', 'P3: and is not exceeded');
sql('SELECT llm.drop_budget(id) FROM llm.budget');

# Kept answers, and two sessions at a time.
$provider->reset;
sql(q(ALTER SYSTEM SET llm_enrich.keep_answers = '1d'));
$node->restart;
my $reused = q(SELECT count(*) FROM (SELECT id, body, llm_embed(body, options => '{"reuse": true}') AS emb FROM t
	WHERE id <= 200 OFFSET 0) s WHERE ) . $own;
is(sql($reused), 200, 'vectors that are kept');
await(q(SELECT count(*) = 200 FROM llm.answer), 'they are not kept');
$requests = $provider->meter->{requests};
is(sql($reused), 200, 'are given again');
is($provider->meter->{requests}, $requests, 'and nothing is asked');
my @sessions = map { start_psql(qq(
	SELECT count(*) FROM (SELECT id, body, llm_embed(body) AS emb FROM t OFFSET 0) s WHERE $own)) } 1 .. 2;
foreach my $session (@sessions)
{
	$session->{run}->finish;
	is($session->{out}, ROWS . "\n", 'P5: of two sessions each has its own vectors');
}

# A cancel, and a crash, while a request is on its way: what it carried is booked.
foreach my $end ('cancel', 'crash')
{
	await(q(SELECT NOT EXISTS (SELECT FROM llm.letter)), 'letters stay');
	$provider->reset;
	$before = sql('SELECT max(id) FROM llm.ledger');
	# the second round has two inputs or more
	$provider->script({ sequence => [ { match => 'Customer 1 ', action => 'ok' },
		{ times => -1, action => 'hang' } ] });
	my $session = start_psql('SELECT count(llm_embed(body)) FROM (SELECT * FROM t ORDER BY id) s');
	await(q(SELECT EXISTS (SELECT FROM llm.letter GROUP BY request HAVING count(*) > 1)), 'nothing is on its way');
	my $letters = sql('SELECT count(*) FROM llm.letter'); # more may leave meanwhile
	if ($end eq 'cancel')
	{
		sql(q(SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'leaver'));
		$session->{run}->finish;
		like($session->{err}, qr/canceling statement due to user request/, 'a cancel ends the wait');
		crash_server($node, sql(q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'llm_enrich sender'))) or die;
	}
	else
	{
		crash_server($node, sql(q(SELECT pid FROM pg_stat_activity WHERE application_name = 'leaver'))) or die;
		$session->{run}->finish;
	}
	$provider->script({});
	await(q(SELECT llm_embed('wake up') IS NOT NULL), 'there is no sender');
	await(q(SELECT NOT EXISTS (SELECT FROM llm.letter)), 'letters stay');
	cmp_ok(sql("SELECT count(*) FROM llm.ledger WHERE id > $before AND outcome = 'unknown'"), '>=', $letters,
		"P3: after a $end each call that was on its way is booked as unknown");
	is(sql("SELECT count(*) FROM (SELECT request FROM llm.ledger WHERE id > $before GROUP BY request
		HAVING count(DISTINCT outcome) > 1) s"), 0, 'as one request');
}

$node->stop;
done_testing();
