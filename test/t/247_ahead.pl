# Where answers come fast, tasks are claimed before there is room for their requests. Those
# that do not leave are ready again: somebody may cancel them, and they are no attempts (P3,
# P6). They keep nobody out: not another role, nor another database, nor llm.check() (P6). A
# sender that dies with some of them loses none (P2).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

use LLMTest;

use constant {
	ROWS => 15_000,

	# requests in flight at a time
	PLACES => 64,
};

my $node = new_node('ahead', 'max_files_per_process = 1000', 'llm_enrich.max_connections = 100');
my $provider = start_provider();
my $created = 0;

sub await
{
	my ($query, $what) = @_;

	$node->poll_query_until('postgres', $query) or die $what;
	return;
}

# A table of its own for these rows, or so many, all of them queued; the job.
sub queue_rows
{
	my $rows = shift // ROWS;
	my $table = 't' . ++$created;

	return sql(qq(
		CREATE TABLE $table (id int PRIMARY KEY, body text NOT NULL, label jsonb);
		INSERT INTO $table SELECT i, 'billing ' || i FROM generate_series(1, $rows) i;
		UPDATE $table SET label = llm_classify(body, '{billing,bug}'); SELECT llm.last_job()));
}

# Wait until the job has so many answers.
sub await_answers
{
	my ($job, $n) = @_;

	await("SELECT count(*) >= $n FROM llm.ledger WHERE job = $job", "job $job does not go on");
	return;
}

sub outcomes
{
	my $job = shift;

	await("SELECT state = 'finished' FROM llm.job WHERE id = $job", "job $job does not end");
	return sql("SELECT done || ' done, ' || cancelled || ' cancelled, ' || failed || ' failed' FROM llm.job WHERE id = $job");
}

# Claims that became no request: each takes a number, and only requests are on the ledger.
sub claimed_in_vain
{
	return sql('SELECT s.last_value - count(DISTINCT l.request) FROM llm.request_id s, llm.ledger l GROUP BY s.last_value');
}

setup_model($node, $provider, options => { max_concurrency => PLACES });
$provider->script({ latency_ms => 20 });

# How fast answers come to a job. Where that is slow for want of a fast machine, nothing is claimed ahead.
sub rate
{
	my $job = shift;

	return sql("SELECT round((count(*) / extract(epoch FROM max(at) - min(at)))::numeric) FROM llm.ledger WHERE job = $job");
}
use constant FAST => 1000;

# Held, the provider answers nothing: what is in flight stays there, and only that is claimed.
my $job = queue_rows();
await_answers($job, 2_400);
my $rate = rate($job);
note("$rate answers a second");
foreach my $round (1 .. 5)
{
	await_answers($job, 2_500 * $round);
	$provider->hold;
	await("SELECT count(*) FILTER (WHERE state = 'claimed') = @{[PLACES]}
		AND count(*) FILTER (WHERE state = 'answered') = 0 FROM llm.queue", 'more than the requests in flight stays claimed');
	last if claimed_in_vain() > PLACES;
	$provider->go_on if $round < 5;
}
SKIP:
{
	skip "the machine is too slow: $rate answers a second", 1 if claimed_in_vain() <= PLACES && $rate < FAST;
	cmp_ok(claimed_in_vain(), '>', PLACES, 'tasks were claimed that had no place, and did not leave');
}
is(sql("SELECT count(*) FROM llm.queue WHERE state = 'ready' AND (attempts <> 0 OR request IS NOT NULL OR claimed_at IS NOT NULL)"),
	0, 'P3: they are ready, as if nobody had claimed them');
my $ready = sql("SELECT count(*) FROM llm.queue WHERE state = 'ready'");
is(sql("SELECT llm.cancel(job => $job); SELECT count(*) FROM llm.queue WHERE job = $job AND state = 'ready'") =~ s/^.*\n//sr, 0,
	'P6: they can be cancelled like all that was not sent');
$provider->go_on;
is(outcomes($job), (ROWS - $ready - PLACES) . " done, " . ($ready + PLACES) . ' cancelled, 0 failed', 'P2: each task has its end')
  or diag("ready then: $ready");
wait_idle($node);
ledger_equals_meter($node, $provider, 'P3: nothing but what was sent is on the ledger');

# Cancelled before they are ready again, they do not wait for the writer's next look at all jobs, a minute later.
$job = queue_rows();
await_answers($job, 3_000);
$provider->hold;
my $start = time;
sql("SELECT llm.cancel(job => $job)");
await("SELECT count(*) = @{[PLACES]} FROM llm.queue WHERE job = $job", 'what was cancelled does not leave the queue');
cmp_ok(time - $start, '<', 50, 'P6: what is cancelled while it is claimed ahead leaves the queue');
$provider->go_on;
is(outcomes($job) =~ s/^(\d+) done, (\d+) cancelled, 0 failed$/$1 + $2/er, ROWS, 'P2: each task has its end');
wait_idle($node);
ledger_equals_meter($node, $provider, 'P3: the ledger has what was sent');

# When answers cannot be stored, what is ahead does not leave. It is claimed once more by the transaction that
# makes it ready again: somebody has come meanwhile, and all jobs are looked at from the start.
sql(q(
	CREATE TABLE one (id int PRIMARY KEY, label jsonb); INSERT INTO one VALUES (1);));
my $sender = sql(q(SELECT pid FROM llm.health WHERE kind = 'sender'));
$job = queue_rows();
foreach my $round (1 .. 3)
{
	my $log = -s $node->logfile;

	await_answers($job, 3_000 * $round);
	sql('ALTER TABLE llm.ledger ADD CONSTRAINT closed CHECK (false) NOT VALID');
	$node->wait_for_log(qr/violates check constraint "closed"/, $log);
	sql(qq(UPDATE one SET label = llm_classify('$round', '{billing,bug}')));
	sql('ALTER TABLE llm.ledger DROP CONSTRAINT closed');
}
is(outcomes($job), ROWS . ' done, 0 cancelled, 0 failed', 'P2: no task is lost when the ledger cannot be written for a while');
wait_idle($node);
is(sql(q(SELECT pid FROM llm.health WHERE kind = 'sender')), $sender, 'P2: and the sender lives');
ledger_equals_meter($node, $provider, 'P3: nothing is paid twice');

# A sender that was stopped, by a debugger or with its machine, does not know what has become of its claims. Stopped
# while it waits for answers it holds no lock, and all that has left is with the provider; what is claimed besides is
# ahead.
$job = queue_rows();
my ($requests, $ahead) = (0, 0);
foreach my $round (1 .. 25)
{
	await_answers($job, 400 * $round);
	stop_at_rest($node, $sender);
	for (my $tries = 0; $provider->meter->{in_flight} > 0; $tries++)
	{
		die 'the provider does not answer' if $tries > 100_000;
		usleep(1_000);
	}
	$requests = $provider->meter->{requests};
	$ahead = sql("SELECT count(*) FILTER (WHERE state = 'claimed') - ($requests - (SELECT count(*) FROM llm.ledger)) FROM llm.queue");
	last if $ahead > 0;
	kill 'CONT', $sender;
}
SKIP:
{
	skip "the machine is too slow: $rate answers a second", 2 if $ahead <= 0 && $rate < FAST;
	cmp_ok($ahead, '>', 0, 'a sender is stopped while it has tasks ahead');
	sql("UPDATE llm.job SET deadline = clock_timestamp() WHERE id = $job");
	await("SELECT bool_and(claimed_at < clock_timestamp() - interval '300 ms') FROM llm.queue WHERE state = 'claimed'", 'no time passes');
	kill 'CONT', $sender;
	outcomes($job);
	wait_idle($node);
	is($provider->meter->{requests}, $requests, 'P6: when it goes on, it sends none of them: their deadline has passed');
}
outcomes($job);
wait_idle($node);
ledger_equals_meter($node, $provider, 'P3: the ledger has what was sent');

# Others find their places while one backlog takes all it can get.
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION llm_enrich');
setup_model($node, $provider, db => 'other', options => { max_concurrency => PLACES });
$node->safe_psql('other', q(CREATE TABLE few (id int PRIMARY KEY, label jsonb); INSERT INTO few SELECT generate_series(1, 20)));
sql(q(
	CREATE ROLE guest; GRANT USAGE ON FOREIGN SERVER sim TO guest;
	CREATE TABLE few (id int PRIMARY KEY, label jsonb); INSERT INTO few SELECT generate_series(1, 20);
	GRANT SELECT, UPDATE ON few TO guest;));
$provider->script({ latency_ms => 40 });
$job = queue_rows(2 * ROWS);
await_answers($job, 2_000);
like(sql('SELECT llm.check()'), qr/^ok: /, 'P6: llm.check() finds a place');
sql(q(SET ROLE guest; UPDATE few SET label = llm_classify(id::text, '{billing,bug}'); CALL llm.wait();));
is(sql("SELECT count(*) FROM few WHERE label ->> 'status' IS NULL"), 20, 'P6: so does another role');
$node->safe_psql('other', q(UPDATE few SET label = llm_classify(id::text, '{billing,bug}'); CALL llm.wait();));
cmp_ok(sql("SELECT count(*) FROM llm.queue WHERE job = $job AND state = 'ready'"), '>', 0,
	'P6: and another database, all of them long before the backlog is through');
is(outcomes($job), 2 * ROWS . ' done, 0 cancelled, 0 failed', 'P2: which is done in the end');
$provider->script({ latency_ms => 20 });

# It dies in the middle.
$job = queue_rows();
await_answers($job, 3_000);
ok(crash_server($node, sql(q(SELECT pid FROM llm.health WHERE kind = 'sender'))), 'the sender is killed');
is(outcomes($job), ROWS . ' done, 0 cancelled, 0 failed', 'P2: no task is lost');
wait_idle($node);
is(sql("SELECT count(*) FROM llm.ledger WHERE job = $job AND outcome = 'ok'"), ROWS, 'P2: each has one answer');
cmp_ok(sql('SELECT count(*) FROM llm.ledger') + $node->safe_psql('other', 'SELECT count(*) FROM llm.ledger'), '>=',
	$provider->meter->{requests}, 'P3: each request is on the ledger, those of which nobody can know any more as unknown');

done_testing();
