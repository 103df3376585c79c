# What somebody is told who does not look: a statement's NOTICEs, NOTIFY when a job ends or is paused, the server's log.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

use LLMTest;

my $node = new_node('notices', 'llm_enrich.enabled = off', 'llm_enrich.notices = on');
my $provider = start_provider();

setup_model($node, $provider);

# What a statement tells.
sub told
{
	my ($stdout, $stderr);

	$node->psql('postgres', join(' ', @_), stdout => \$stdout, stderr => \$stderr, on_error_stop => 1);
	$stderr =~ s/^psql:<stdin>:\d+: //mg;
	return $stderr;
}

sql(q(CREATE TABLE ticket (id int PRIMARY KEY, body text, label jsonb, gist text);
	INSERT INTO ticket SELECT i, 'The invoice of customer ' || i || ' is wrong' FROM generate_series(1, 30) i));

# A job for each call site; a single row, and a statement that queues nothing, tell nothing.
is(told(q(UPDATE ticket SET label = llm_classify(body, '{billing,bug}') WHERE id <= 20)),
	'NOTICE:  job 1: 20 rows are queued for column "label" of public.ticket', 'a job and its rows');
is(told(q(UPDATE ticket SET label = llm_classify(body, '{billing,bug}') WHERE id = 21)), '', 'a single row');
is(told(q(UPDATE ticket SET label = llm_classify(body, '{billing,bug}') WHERE id = 99)), '', 'no row');
is(told(q(UPDATE ticket SET label = llm_classify(body, '{x,y}'), gist = llm_summarize(body) WHERE id > 25)),
	qq(NOTICE:  job 3: 5 rows are queued for column "label" of public.ticket
NOTICE:  job 4: 5 rows are queued for column "gist" of public.ticket), 'two call sites');
is(told(q(SET llm_enrich.notices = off; UPDATE ticket SET gist = llm_summarize(body, 9) WHERE id < 5)), '',
	'switched off');
sql('CREATE TABLE many (id int PRIMARY KEY, body text, label jsonb)',
	q(; INSERT INTO many SELECT i, 'text ' || i FROM generate_series(1, 40) i));
like(told(q(UPDATE many SET label = llm_classify(body, ARRAY['a', 'b' || id % 20]))),
	qr/^(NOTICE:  job \d+: 2 rows .*\n){5}NOTICE:  15 more jobs, of 30 rows in all\nHINT:  See llm.progress.$/,
	'jobs of arguments that vary are counted');

# The same question again keeps the tasks that are on their way.
is(told(q(UPDATE ticket SET label = llm_classify(body, '{billing,bug}') WHERE id <= 20)),
	'NOTICE:  20 rows are being asked already
DETAIL:  Column "label" of public.ticket: the same question is on its way for them, and was not queued again.',
	'they are on their way');
sql('SELECT llm.pause(job => 1), llm.pause(job => 4)');
is(told(q(UPDATE ticket SET label = llm_classify(body, '{billing,bug}') WHERE id <= 20)),
	'NOTICE:  20 rows wait already, and what they wait for is paused
DETAIL:  Column "label" of public.ticket keeps its tasks in job 1.
HINT:  SELECT llm.resume(job => 1);', 'rows stay with a paused job');
is(told(q(UPDATE ticket SET gist = llm_summarize(body) WHERE id > 25)),
	'NOTICE:  5 rows wait already, and what they wait for is paused
DETAIL:  Column "gist" of public.ticket keeps its tasks in job 4.
HINT:  SELECT llm.resume(job => 4);', 'the same in a column of text');
sql('SELECT llm.resume(job => 4)');
is( told(q(UPDATE ticket SET gist = llm_summarize(body) WHERE id > 25)),
	'NOTICE:  5 rows are being asked already
DETAIL:  Column "gist" of public.ticket: the same question is on its way for them, and was not queued again.',
	'rows that are being asked');
sql('SELECT llm.pause(job => 3)');
is( told(q(UPDATE ticket SET label = CASE WHEN id > 25 THEN llm_classify(body, '{x,y}')
			ELSE llm_classify(body, '{billing,bug}') END WHERE id > 15 AND id <> 21)),
	'NOTICE:  5 rows wait already, and what they wait for is paused
DETAIL:  Column "label" of public.ticket keeps its tasks in job 1.
HINT:  SELECT llm.resume(job => 1);
NOTICE:  job 26: 4 rows are queued for column "label" of public.ticket
NOTICE:  5 rows wait already, and what they wait for is paused
DETAIL:  Column "label" of public.ticket keeps its tasks in job 3.
HINT:  SELECT llm.resume(job => 3);', 'some are new, some stay');
is(sql('SELECT llm.resume(job => 1)'), 1, 'the statement that was told resumes it');

# What was told did not happen when it is rolled back.
like(told(q(BEGIN; UPDATE ticket SET label = llm_classify(body, '{p,q}'); ROLLBACK)), qr/: 30 rows are queued/,
	'told before the end of the transaction');
is(sql(q(SELECT count(*) FROM llm.queue q JOIN llm.recipe r ON r.id = q.recipe WHERE r.spec::text ~ '"p"')), 0,
	'P1: and nothing is queued after ROLLBACK');

# NOTIFY, and what the log says. From here on is sent, and jobs from before are out of the way.
sub log_lines
{
	my ($offset, $pattern) = @_;
	my @lines = slurp_file($node->logfile, $offset) =~ /(?:LOG|ERROR|FATAL):\s+(.*)$/mg;

	return join "\n", grep { $_ =~ $pattern } @lines;
}

my $ear = $node->background_psql('postgres');

# What was heard until a job is in a state, once each.
my $heard = '';

sub heard
{
	my ($job, $state) = @_;

	foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		$heard .= $ear->query_safe('SELECT 1') . "\n";
		last if $heard =~ /"job": $job, "state": "$state"/;
		usleep(100_000);
	}
	my @payloads = $heard =~ /"llm_enrich" with payload "(\{.*?\})" received/g;
	$heard = '';
	return join "\n", @payloads;
}

sql(q(SELECT llm.cancel(relation => 'ticket'), llm.cancel(relation => 'many'),
	llm.resume(everything => true), llm.resume('ticket')));
wait_idle($node);
$node->poll_query_until('postgres', 'SELECT bool_and(announced = state) FROM llm.job') or die 'not announced';
$ear->query_safe('LISTEN llm_enrich');
my $from = -s $node->logfile;
sending($node, 'on');
sql(q(UPDATE ticket SET label = NULL, gist = NULL));
my $job = sql(q(UPDATE ticket SET label = llm_classify(body, '{billing,bug}'); SELECT llm.last_job()));
my $told = heard($job, 'finished');
is($told, sql(qq(SELECT format('{"job": %s, "state": "finished", "done": 30, "failed": 0, "cost": %s}', job, cost)
	FROM llm.job_cost WHERE job = $job)), 'a job that ends is told, with its cost, and nothing else of it');
is(log_lines($from, qr/job \d/), '', 'the log has nothing of that');

# Paused and resumed; what is rolled back was neither.
sending($node, 'off');
$job = sql(q(UPDATE ticket SET label = llm_classify(body, '{x,y}'); SELECT llm.last_job()));
sql("BEGIN; SELECT llm.pause(job => $job); ROLLBACK");
sql("SELECT llm.pause(job => $job)");
is(heard($job, 'paused'), qq({"job": $job, "state": "paused", "done": 0, "failed": 0, "cost": null}), 'a pause is told');
sql("SELECT llm.resume(job => $job)");
$node->wait_for_log(qr/job $job for public\.ticket goes on/, $from);
is(log_lines($from, qr/job \d/), join("\n",
	qq(job $job for public.ticket waits: paused by "@{[sql('SELECT current_user')]}"), "job $job for public.ticket goes on"),
	'one line when a job is paused, and one when it goes on');

# A target: the provider refuses the key, for several probes, and then takes it.
$from = -s $node->logfile;
$provider->script({ status => 401,
	body => { error => { message => 'Incorrect API key provided', code => 'invalid_api_key' } } });
sending($node, 'on');
$node->wait_for_log(qr/model "fast" .* waits until/, $from);
sql('SELECT llm.check()') foreach 1 .. 2;
$provider->script({});
sql('SELECT llm.check()');
is(heard($job, 'finished') =~ /"done": 30/, 1, 'it goes on');
is(log_lines($from, qr/model/) =~ s/until .*: the/until then: the/r =~ s/127.0.0.1:\d+/HOST/gr,
	qq(model "fast" (http://HOST / sim-1) waits until then: the provider refuses the key
model "fast" (http://HOST / sim-1) goes on), 'one line when a target waits, and one when it goes on');

# A budget that is met is told once. The sender says so in the job's reason; the writer looks when somebody steers.
sending($node, 'off');
$job = sql(q(UPDATE ticket SET label = llm_classify(body, '{p,q}') WHERE id < 20; SELECT llm.last_job()));
my $other = sql(q(UPDATE ticket SET label = llm_classify(body, '{p,q}') WHERE id > 20; SELECT llm.last_job()));
sql("UPDATE llm.job SET reason = 'budget: 5 of 5 dollars are spent' WHERE id = $job; SELECT llm.pause(job => $other)");
is(heard($other, 'paused'),
	join("\n", map { qq({"job": $_->[0], "state": "$_->[1]", "done": 0, "failed": 0, "cost": null}) }
		[$job, 'budget'], [$other, 'paused']), 'a budget that is met is told');
sql("UPDATE llm.job SET reason = NULL WHERE id = $job; SELECT llm.resume(job => $other)");
$node->wait_for_log(qr/job $other for public\.ticket goes on/, $from);
sql("UPDATE llm.job SET reason = 'budget: 5 of 5 dollars are spent' WHERE id = $job; SELECT llm.pause(job => $other)");
is(heard($other, 'paused'), qq({"job": $other, "state": "paused", "done": 0, "failed": 0, "cost": null}), 'once');
sql("SELECT llm.resume(job => $other)");

# A normal stop is not fatal, to whatever of ours.
sending($node, 'on');
wait_idle($node);
$from = -s $node->logfile;
$node->stop;
isnt(log_lines($from, qr/terminating.*llm_enrich launcher/), '', 'processes of ours were ended');
unlike(slurp_file($node->logfile, $from), qr/FATAL.*llm_enrich/, 'and that is not called fatal');

done_testing();
