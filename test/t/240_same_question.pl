# The same question is paid once: who asks what is being asked already gets that answer,
# at no cost and with a row on the ledger that says who paid (P3, P4). However the one that
# asks ends, the others do not wait for it in vain (P2).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

use constant {
	ROWS => 10_000,
	TEXTS => 3_000,

	# more than one transaction hands an answer on to
	CROWD => 11_000,
};

my $node = new_node('same', 'llm_enrich.enabled = off');
my $provider = start_provider();
setup_model($node, $provider);
my $requests = 0;

sub await
{
	my ($query, $what) = @_;

	return if $node->poll_query_until('postgres', $query);
	diag(sql('SELECT state, reason, not_before, same_as IS NOT NULL, count(*) FROM llm.queue GROUP BY 1, 2, 3, 4'));
	die $what;
}

sub enable
{
	sql("ALTER SYSTEM SET llm_enrich.enabled = $_[0]");
	sql('SELECT pg_reload_conf()');
	await("SELECT current_setting('llm_enrich.enabled') = '$_[0]'", 'the setting does not change');
	return;
}

# Requests since the last look.
sub asked
{
	my $before = $requests;

	$requests = $provider->meter->{requests};
	return $requests - $before;
}

# A table of rows with these texts, each asked for in one statement, but not sent yet.
# Returns the job.
sub queue_texts
{
	my ($table, $select, $option) = @_;

	sending($node, 'off');
	sql("CREATE TABLE $table (id int PRIMARY KEY, body text, summary jsonb); INSERT INTO $table (id, body) $select");
	my $job = sql("UPDATE $table SET summary = llm_summarize(body, 20", $option // '', '); SELECT llm.last_job()');
	is(sql("SELECT count(*) FROM llm.queue WHERE job = $job AND state = 'ready'"), sql("SELECT count(DISTINCT body) FROM $table"),
		"$table: one task of each text is to be sent") unless $option;
	return $job;
}

sub outcome
{
	my $job = shift;

	await("SELECT state = 'finished' FROM llm.job WHERE id = $job", "job $job does not end");
	return sql("SELECT string_agg(n || ' ' || v.state, ', ' ORDER BY v.state) FROM llm.job,
		LATERAL (VALUES (done, 'done'), (failed, 'failed'), (superseded, 'superseded'), (cancelled, 'cancelled'),
			(row_gone, 'row_gone')) v(n, state)
		WHERE id = $job AND n > 0");
}

# The task of a row.
sub task { return sql("SELECT llm.marker_task(summary) FROM $_[0] WHERE id = $_[1]"); }

sub kill_sender
{
	my $select = "FROM pg_stat_activity WHERE backend_type = 'llm_enrich sender'";

	await("SELECT count(*) = 1 $select", 'there is no sender');
	crash_server($node, sql("SELECT pid $select")) or die 'there was no sender to kill';
	return;
}

my $ten = q(SELECT i, 'The one text [[mark:T]]' FROM generate_series(1, 10) i);

# One statement
my $job = queue_texts('note', "SELECT i, 'Text ' || i % @{[TEXTS]} || ' of a customer [[mark:' || i % @{[TEXTS]} || ']]'
	FROM generate_series(1, @{[ROWS]}) i");
enable('on');
is(outcome($job), ROWS . ' done', 'P2: every task is done');
is(asked(), TEXTS, 'P3: as many calls as texts');
is(sql("SELECT count(*) FROM note
		WHERE summary ->> 'summary' LIKE '%[[mark:' || id % @{[TEXTS]} || ']]' AND NOT summary ? 'llm_enrich'"),
	ROWS, 'P5: every cell has the answer to its own text');
is(sql("SELECT count(*), sum(cost), sum(input_tokens + output_tokens), count(request), count(DISTINCT task) FROM llm.ledger
	WHERE outcome = 'cached' AND lane = 'cache' AND job = $job"), join('|', ROWS - TEXTS, 0, 0, 0, ROWS - TEXTS),
	'P3: each repeat is on the ledger and cost nothing');
is(sql("SELECT count(*) FROM llm.ledger c JOIN llm.ledger p ON p.task = c.paid_by AND p.outcome = 'ok' AND p.cost > 0
	JOIN note n ON n.id = (c.key ->> 'id')::int JOIN note m ON m.id = (p.key ->> 'id')::int
	WHERE c.outcome = 'cached' AND n.body = m.body AND (c.server, c.model) = (p.server, p.model)"),
	ROWS - TEXTS, 'P3: and says who paid');
is(sql("SELECT requests, cost = (SELECT sum(cost) FROM llm.ledger WHERE job = $job) FROM llm.job_cost WHERE job = $job"),
	TEXTS . '|t', 'the running sums count what was paid');

# More followers than one transaction serves; and a crash in between
$job = queue_texts('crowd', "SELECT i, 'The one text' FROM generate_series(1, @{[CROWD]}) i");
enable('on');
is(outcome($job), CROWD . ' done', 'P2: a crowd is served');
is(asked(), 1, 'P3: for one call');
$job = queue_texts('kept', $ten);
my $leader = sql("SELECT id FROM llm.queue WHERE job = $job AND state = 'ready'");
sql("UPDATE llm.queue SET state = 'waiting', reason = 'same_question', not_before = 'infinity', answer = '{\"summary\": \"kept\"}', attempts = 1
	WHERE id = $leader");
enable('on');
kill_sender();
is(outcome($job), '10 done', 'P4: an answer that was kept back for others is handed on after a crash');
is(sql(q(SELECT count(*) FROM kept WHERE summary = '{"summary": "kept"}')), 10, 'P4: to all of them');
is(asked(), 0, 'P3: nothing was asked again');
$job = queue_texts('stranded', $ten);
sql("DELETE FROM llm.queue WHERE job = $job AND state = 'ready'; UPDATE llm.job SET total = 9 WHERE id = $job");
enable('on'); # the sender begins again, and looks at all of it
is(outcome($job), '9 done', 'P2: followers of a task that is not there are not stranded');
is(asked(), 1, 'one of them asks');
$job = queue_texts('killed', $ten);
$provider->hold;
enable('on');
await("SELECT count(*) = 1 FROM llm.queue WHERE job = $job AND state = 'claimed'", 'nothing is under way');
kill_sender();
$provider->go_on;
is(outcome($job), '10 done', 'P2: the sender is killed while one asks');
is(sql("SELECT string_agg(outcome || ' ' || n, ', ' ORDER BY outcome) FROM (SELECT outcome, count(*) AS n FROM llm.ledger
	WHERE job = $job GROUP BY 1) l"), 'cached 9, ok 1, unknown 1', 'P3: what may have been sent is on the ledger');
asked();

# The one that asks fails
$provider->script({ sequence => [ { match => 'The one text', action => 'refusal', times => 1 } ] });
$job = queue_texts('refused', $ten);
enable('on');
is(outcome($job), '9 done, 1 failed', 'P2: when it is refused the next one asks');
is(asked(), 2, 'P3: for one more call');
$provider->script({ context_tokens => 5 });
$job = queue_texts('long', $ten);
enable('on');
is(outcome($job), '10 failed', 'what is too long is too long for all of them');
is(asked(), 1, 'P3: which one call told');
is(sql("SELECT DISTINCT reason, message IS NOT NULL, cost FROM llm.dead_letter WHERE job = $job"), 'too_long|t|0', 'and nobody paid for');
$provider->script({});

# What users do meanwhile
foreach my $case (
	[ 'cancelled', sub { sql("SELECT llm.cancel(task => $_[1])") }, '1 cancelled, 9 done', 1 ],
	[ 'superseded', sub { sql("UPDATE $_[0] SET summary = NULL WHERE llm.marker_task(summary) = $_[1]") }, '9 done, 1 superseded', 1 ],
	[ 'asked_else', sub { sql("UPDATE $_[0] SET summary = llm_summarize(body, 9) WHERE llm.marker_task(summary) = $_[1]") },
		'9 done, 1 superseded', 2 ],
	[ 'deleted', sub { sql("DELETE FROM $_[0] WHERE llm.marker_task(summary) = $_[1]") }, '9 done, 1 row_gone', 1 ],
	[ 'all_cancelled', sub { sql("SELECT llm.cancel(relation => '$_[0]')") }, '10 cancelled', 0 ])
{
	my ($name, $change, $expected, $calls) = @{$case};

	foreach my $who ('leader', 'follower')
	{
		my $table = "${who}_$name";

		$job = queue_texts($table, $ten);
		$change->($table, sql("SELECT id FROM llm.queue WHERE job = $job AND state = '"
			. ($who eq 'leader' ? 'ready' : 'waiting') . "' ORDER BY id LIMIT 1"));
		enable('on');
		is(outcome($job), $expected, "P2: $who $name");
		wait_idle($node);
		is(asked(), $calls, "P3: $who $name: no more calls than questions that are left");
	}
}
$job = queue_texts('locked', $ten);
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN');
$holder->query_safe("SELECT FROM llm.queue WHERE job = $job AND state = 'waiting' ORDER BY id LIMIT 1 FOR UPDATE");
enable('on');
await("SELECT done = 9 FROM llm.job WHERE id = $job", 'a locked follower holds up the others');
pass('P6: a follower that somebody has locked holds up nobody');
$holder->query_safe('ROLLBACK');
$holder->quit;
kill_sender(); # which looks at all of it again
is(outcome($job), '10 done', 'P2: and is answered when it is free');
asked();

# Different statements at the same time
sql('CREATE ROLE ana; CREATE ROLE ben; GRANT USAGE ON FOREIGN SERVER sim TO ana, ben; GRANT CREATE ON SCHEMA public TO ana, ben;');

sub at_once
{
	my ($name, $roles, $options, $calls, $why) = @_;

	$provider->hold;
	my $number = 0;
	foreach my $role (@{$roles})
	{
		my $table = "${name}_" . ++$number;

		sql("SET ROLE $role; CREATE TABLE $table (id int PRIMARY KEY, body text, summary jsonb);
			INSERT INTO $table VALUES (1, 'The $name text'), (2, 'The $name text');
			UPDATE $table SET summary = llm_summarize(body, 20$options);");
		await("SELECT count(*) > 0 FROM llm.queue WHERE state = 'claimed'", 'nothing is under way');
	}
	await("SELECT NOT EXISTS (SELECT FROM llm.queue WHERE state = 'ready')", 'not all wait for one answer') if $calls == 1;
	$provider->go_on;
	wait_idle($node);
	is(sql("SELECT sum(done) FROM llm.job WHERE relation_name LIKE 'public.$name\\_%'"), 2 * @{$roles}, "P2: $why: all are answered");
	is(asked(), $calls, "P3: $why: $calls calls");
	return;
}

at_once('sessions', [qw(ana ana ana)], '', 1, 'three statements of one role');
at_once('roles', [qw(ana ben)], '', 2, 'two roles share nothing');
at_once('sampled', [qw(ana ana)], q(, options => '{"temperature": 1}'), 4, 'who samples wants an answer of his own');
# A statement asks, and that takes until the provider goes on; another one waits for its answer.  Returns both jobs.
sub one_behind_the_other
{
	my ($name, $step, $between) = @_;
	my @jobs;

	$provider->script({ sequence => [ { match => "The $name text", %{$step} } ] });
	$provider->hold;
	foreach my $number (1, 2)
	{
		my $table = "${name}_$number";

		push @jobs, sql("CREATE TABLE $table (id int PRIMARY KEY, body text, summary jsonb);
			INSERT INTO $table VALUES (1, 'The $name text'), (2, 'The $name text');
			UPDATE $table SET summary = llm_summarize(body, 20); SELECT llm.last_job()");
		await("SELECT count(*) = 1 FROM llm.queue WHERE job = $jobs[0] AND state = 'claimed'", 'nothing is under way');
		$between->() if $between && $number == 1;
	}
	return @jobs;
}

sub await_stranger
{
	await("SELECT count(*) = 1 FROM llm.queue f JOIN llm.queue l ON l.id = f.same_as WHERE l.job = $_[0] AND f.job = $_[1]",
		'the second statement does not wait for the first');
	return;
}

foreach my $case (
	[ 'paused', "state = 'paused'", 'is paused' ],
	[ 'late', 'deadline = clock_timestamp()', 'has a deadline' ])
{
	my ($name, $change, $why) = @{$case};
	my @jobs = one_behind_the_other($name, { action => 'error_500' });

	await_stranger(@jobs);
	sql("UPDATE llm.job SET $change WHERE id = $jobs[0]");
	$provider->go_on;
	is(outcome($jobs[1]), '2 done', "P6: nobody waits for a task whose job $why");
	sql("SELECT llm.resume(job => $jobs[0])") if $name eq 'paused';
	is(outcome($jobs[0]), $name eq 'paused' ? '2 done' : '2 failed', "P2: a job that $why ends all the same");
	is(asked(), $name eq 'paused' ? 3 : 2, 'P3: each of them asks once more, if at all');
}
my @jobs = one_behind_the_other('changed', { action => 'ok' }, sub { sql("SELECT llm.alter_model('fast', model => 'sim-2')") });
$provider->go_on;
is(outcome($jobs[1]), '2 done', 'the model of an alias is changed while one asks');
is(sql("SELECT DISTINCT model FROM llm.ledger WHERE job = $jobs[1]"), 'sim-2', 'who asks then asks the new one');
is(outcome($jobs[0]), '2 done', 'P2: and the first is answered by the old one');
sql("SELECT llm.alter_model('fast', model => 'sim-1')");
asked();

# The deadline passes while one asks, in vain
$provider->script({ sequence => [ { match => 'The one text', action => 'refusal' } ] });
$job = queue_texts('too_late', $ten);
$provider->hold;
enable('on');
await("SELECT count(*) = 1 FROM llm.queue WHERE job = $job AND state = 'claimed'", 'nothing is under way');
sql("UPDATE llm.job SET deadline = clock_timestamp() WHERE id = $job");
$provider->go_on;
is(outcome($job), '10 failed', 'P2: repeats end with their deadline');
is(asked(), 1, 'P3: unsent');

# Answers that are kept for others, and whose rows somebody has locked
$job = queue_texts('held', "SELECT i, 'Text ' || i % 150 FROM generate_series(1, 300) i");
sql("UPDATE llm.queue SET state = 'waiting', reason = 'same_question', not_before = 'infinity', answer = '{\"summary\": \"kept\"}',
	attempts = 1 WHERE job = $job AND state = 'ready'");
$holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN');
$holder->query_safe("SELECT FROM llm.queue WHERE job = $job AND not_before = 'infinity' FOR UPDATE");
enable('on');
await("SELECT count(pg_terminate_backend(pid)) = 1 FROM pg_stat_activity WHERE backend_type = 'llm_enrich sender'", 'there is no sender');
await("SELECT done = 150 FROM llm.job WHERE id = $job", 'an answer is not handed on while its own row is locked');
my $commits = "SELECT xact_commit FROM pg_stat_database WHERE datname = 'postgres'";
my $before = sql($commits);
sql('SELECT pg_sleep(1)');
cmp_ok(sql($commits) - $before, '<', 100, 'P10: the sender does not spin meanwhile');
$holder->query_safe('ROLLBACK');
$holder->quit;
kill_sender(); # which looks at all of it again
is(outcome($job), '300 done', 'P2: all are written when the rows are free');
is(asked(), 0, 'P3: nothing was asked');

is(sql(q(SELECT count(*) FROM llm.ledger c JOIN llm.ledger p ON p.task = c.paid_by WHERE c.role <> p.role)), 0, 'P9: no answer went to another role');
is(sql('SELECT count(*) FROM llm.queue'), 0, 'P2: nothing is left');

done_testing();
