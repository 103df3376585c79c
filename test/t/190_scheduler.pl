# Who gets the slots, and that nothing turns in circles: many jobs, many roles, a
# target that takes all it can get, sending switched off, settings changed and
# rows locked while work is under way (P2, P6).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use List::Util qw(max);
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use LLMTest;

use constant SLOTS => 64;

# One target takes at most three quarters of them.
use constant CAP => 48;

my $node = new_node('scheduler', 'llm_enrich.max_connections = ' . SLOTS);
my $provider = start_provider('--key', 'right');

# Share of a processor that the sender uses while nothing changes for it, and somebody else does so much work.
sub busy
{
	my $pid = sql(q(SELECT pid FROM llm.health WHERE kind = 'sender'));
	my $used = sub { my @field = split / /, slurp_file("/proc/$pid/stat"); return $field[13] + $field[14] };
	my $before = $used->();
	my $start = time;

	sql('SELECT 1') foreach 1 .. 40;
	return ($used->() - $before) / POSIX::sysconf(POSIX::_SC_CLK_TCK()) / (time - $start);
}

# Test that the sender does not turn in circles, where the kernel tells.
sub stays_calm
{
	my $name = shift;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
SKIP:
	{
		skip 'there is no /proc', 1 unless -r "/proc/$$/stat";
		cmp_ok(busy(), '<', 0.2, $name);
	}
	return;
}

# A server, an alias and a lane, all of one name; the model has it too, or all would share limits.
sub make_target
{
	my ($name, $key, %options) = @_;

	setup_model($node, $provider, server => $name, lane => $name, alias => $name, model => "sim-$name",
		is_default => $name eq 'good' ? 1 : 0, options => \%options);
	sql("CREATE USER MAPPING FOR PUBLIC SERVER $name OPTIONS (api_key '$key'); GRANT USAGE ON FOREIGN SERVER $name TO PUBLIC");
	return;
}

make_target('good', 'right');
make_target('wrong', 'wrong');
make_target('stuck', 'right', max_concurrency => 256);
sql(q(
	CREATE TABLE ticket (id int PRIMARY KEY, body text NOT NULL, label jsonb);
	INSERT INTO ticket SELECT i, 'billing ' || i FROM generate_series(1, 2000) i;
	GRANT SELECT, UPDATE ON ticket TO PUBLIC;));

# So many jobs of two rows each.
sub enqueue_jobs
{
	my ($jobs, $model, $before) = @_;

	sql(map { ($before ? $before->($_) : '')
		. qq(UPDATE ticket SET label = llm_classify(body, '{billing,bug}', model => '$model')
			WHERE id IN (2 * $_ - 1, 2 * $_);) } 1 .. $jobs);
	return;
}

# ---------------------------------------------------------------------------
# Many jobs
# ---------------------------------------------------------------------------

my $noticed = time; # a paused target is probed once a minute
enqueue_jobs(300, 'wrong');
wait_until(q(EXISTS (SELECT FROM llm.job WHERE reason IS NOT NULL)), 'the wrong key is noticed');
my $refused = $provider->meter('wrong')->{requests};
sql(q(UPDATE ticket SET label = llm_classify(body, '{billing,bug}') WHERE id > 1000));
wait_until(q(NOT EXISTS (SELECT FROM ticket WHERE id > 1000 AND label IS DISTINCT FROM '{"label": "billing"}')), 'the last job is done');
is(sql(q(SELECT count(*) FROM llm.job WHERE state = 'open' AND model = 'wrong')), 300,
	'P6: 300 jobs whose key is refused do not hold up another target');
cmp_ok($provider->meter('wrong')->{requests} - $refused, '<=', int((time - $noticed) / 60), 'and nothing more was sent for them');
is(sql(q(SELECT count(*), max(tries) FROM llm.queue)), '600|0', 'nor charged');
sql(q(ALTER USER MAPPING FOR PUBLIC SERVER wrong OPTIONS (SET api_key 'right')));
wait_idle($node);
is(sql(q(SELECT count(*) FROM ticket WHERE label = '{"label": "billing"}' AND id <= 600)), 600,
	'P2: with the right key all of them are answered');
cmp_ok(sql(q(SELECT extract(epoch FROM max(at) - min(at) FILTER (WHERE outcome = 'ok')) FROM llm.ledger WHERE server = 'wrong')),
	'<', 30, 'the 300th without waiting for a sweep');
ledger_equals_meter($node, $provider, "P3: ledger equals meter ($_)", lane => $_, server => $_) foreach qw(good wrong);

# As many jobs as the sender has in mind of one role and model; each ends while its key is refused,
# and as many that come after them are seen all the same.
sql(q(ALTER USER MAPPING FOR PUBLIC SERVER wrong OPTIONS (SET api_key 'wrong'); UPDATE ticket SET label = NULL));
foreach my $turn (1, 2)
{
	my $since = time;

	enqueue_jobs(256, 'wrong');
	wait_until(q((SELECT count(*) = 256 FROM llm.job WHERE state = 'open' AND reason IS NOT NULL)),
		'all of them say why they wait');
	cmp_ok(time - $since, '<', 30, 'P6: they are seen without waiting for a sweep');
	is(sql(q(SELECT llm.cancel(relation => 'ticket'))), 512, 'jobs that wait are cancelled');
	wait_until(q(NOT EXISTS (SELECT FROM llm.job WHERE state = 'open')), 'they are finished');
}
sql(q(ALTER USER MAPPING FOR PUBLIC SERVER wrong OPTIONS (SET api_key 'right')));
enqueue_jobs(1, 'wrong');
ok($node->poll_query_until('postgres', q(SELECT count(*) = 2 FROM ticket WHERE label = '{"label": "billing"}')),
	'P2: jobs that ended while they waited make room for the next');

# ---------------------------------------------------------------------------
# Many roles
# ---------------------------------------------------------------------------

sql(map { "CREATE ROLE role_$_;" } 1 .. 300);
sql('TRUNCATE llm.ledger; UPDATE ticket SET label = NULL');
$provider->reset;
enqueue_jobs(300, 'good', sub { "SET ROLE role_$_[0];" });
wait_idle($node);
is(sql(q(SELECT count(*) FROM ticket WHERE label = '{"label": "billing"}')), 600, 'P2: 300 roles have their answers');
is(sql(q(SELECT count(*), min(requests), max(requests) FROM llm.cost_by_role WHERE role LIKE 'role\_%')), '300|2|2',
	'each role its two requests');
ledger_equals_meter($node, $provider, 'P3: ledger equals meter', lane => 'good');

# ---------------------------------------------------------------------------
# A target that takes all it can get
# ---------------------------------------------------------------------------

$provider->script({ hang => 1 }, 'stuck');
sql(q(UPDATE ticket SET label = llm_classify(body, '{billing,bug}', model => 'stuck') WHERE id <= 200));
wait_until("(SELECT count(*) FROM llm.queue WHERE state = 'claimed') >= " . CAP, 'the stuck target has what it may have');
is(sql("SELECT count(*) FROM llm.queue WHERE state = 'claimed'"), CAP, 'P6: a target that hangs gets three quarters of the slots');
stays_calm('and the sender does not turn in circles');
sql(q(UPDATE ticket SET label = llm_classify(body, '{billing,bug}') WHERE id > 1000));
wait_until(q(NOT EXISTS (SELECT FROM ticket WHERE id > 1000 AND label IS DISTINCT FROM '{"label": "billing"}')), 'another target goes on');
is(sql("SELECT count(*) FROM llm.queue WHERE state = 'claimed'"), CAP, 'P6: another target goes on beside it');
is(sql(q(SELECT llm.cancel(relation => 'ticket'))), 200, 'cancel all of it');
wait_until("NOT EXISTS (SELECT FROM llm.queue WHERE state <> 'claimed')", 'what was not sent is gone');
sql(q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'llm_enrich sender'));
wait_idle($node);
is(sql(q(SELECT count(*) FROM ticket WHERE llm_is_pending(label))), 0, 'and what hung, when its sender ends');
is(sql("SELECT count(*) FROM llm.ledger WHERE server = 'stuck' AND outcome = 'unknown' AND estimated"), CAP, 'P3: it is on the ledger as unknown');
is($provider->meter('stuck')->{requests}, CAP, 'and was not sent again');

# ---------------------------------------------------------------------------
# Two targets in trouble beside a third
# ---------------------------------------------------------------------------

# Rows a second of a third target, from COMMIT to the last cell. Its provider takes its time, so
# that the rate is that of the requests in flight and not that of a busy machine.
sub rate
{
	my $job = sql(q(UPDATE third SET label = llm_classify(body, '{billing,bug}', model => 'third');
		SELECT llm.last_job()));

	sql("CALL llm.wait(job => $job, timeout => '1 minute')");
	return sql("SELECT done / extract(epoch FROM finished_at - created_at) FROM llm.job WHERE id = $job");
}

sub median { return (sort { $a <=> $b } @_)[ @_ / 2 ]; }

make_target('third', 'right', max_concurrency => 16);
make_target('refused', 'wrong');
make_target('hanging', 'right', max_concurrency => 16);
$provider->script({ latency_ms => 20 }, 'third');
$provider->script({ hang => 1 }, 'hanging');
sql(q(CREATE TABLE third AS SELECT * FROM ticket; ALTER TABLE third ADD PRIMARY KEY (id);
	UPDATE third SET label = NULL));
rate(); # the window opens
my (@alone, @beside);
my $since = time;
foreach (1 .. 6)
{
	# another try is for a machine that had others to serve
	last if @beside >= 3 && max(@beside) >= 0.9 * max(@alone);
	push @alone, rate();
	sql(q(UPDATE ticket SET label = NULL;
		UPDATE ticket SET label = llm_classify(body, '{billing,bug}', model => 'refused') WHERE id <= 1000;
		UPDATE ticket SET label = llm_classify(body, '{billing,bug}', model => 'hanging') WHERE id > 1000));
	wait_until("(SELECT count(*) FROM llm.queue WHERE state = 'claimed') = 16", 'requests hang');
	push @beside, rate();
	sql(q(SELECT llm.cancel(relation => 'ticket')));
	wait_until("NOT EXISTS (SELECT FROM llm.queue WHERE state <> 'claimed')", 'what was not sent is gone');
	sql(q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'llm_enrich sender'));
	wait_idle($node);
}
# a paused target is probed once a minute
my $most = 1 + int((time - $since) / 60);
note(sprintf '2000 rows: alone %.0f, beside them %.0f rows a second (medians of %d)', median(@alone), median(@beside), scalar @alone);
cmp_ok(max(@beside), '>=', 0.9 * max(@alone),
	'P6: beside a server that hangs and one whose key is wrong, 2000 rows of a third take no longer than alone');
cmp_ok($provider->meter('refused')->{requests}, '<=', $most - 1 + requests_at_once($node, 'refused'), 'P7: the wrong key was met by one request, over all jobs');

# ---------------------------------------------------------------------------
# Settings changed under way
# ---------------------------------------------------------------------------

sql('TRUNCATE llm.ledger; UPDATE ticket SET label = NULL');
$provider->reset;
$provider->script({ latency_ms => 200 }, 'good');
sql(q(UPDATE ticket SET label = llm_classify(body, '{billing,bug}')));
wait_until(q(EXISTS (SELECT FROM llm.ledger)), 'the first answers');
sql('ALTER SYSTEM SET llm_enrich.enabled = off');
$node->reload;
wait_until(q(NOT EXISTS (SELECT FROM llm.queue WHERE state IN ('claimed', 'answered'))),
	'what was in flight is settled');
my $sent = $provider->meter('good')->{requests};
is(sql('SELECT count(*) FROM llm.ledger'), $sent, 'switched off: what was in flight is on the ledger');
is(sql(q(SELECT count(*) FROM ticket WHERE label = '{"label": "billing"}')), $sent, 'and in its cell');
cmp_ok($sent, '<', 2000, 'the rest waits');
stays_calm('the sender does not turn in circles');
is($provider->meter('good')->{requests}, $sent, 'and sends nothing');
is(sql('SELECT count(*), max(tries) FROM llm.queue'), (2000 - $sent) . '|0', 'P2: no task is lost or charged');
sql('ALTER SYSTEM SET llm_enrich.enabled = on');
$node->reload;
foreach my $tries (1 .. 5)
{
	wait_until("(SELECT count(*) FROM llm.ledger) >= $sent + $tries * 100", 'it goes on');
	sql("ALTER SYSTEM SET llm_enrich.max_tries = $tries");
	$node->reload;
}
wait_idle($node);
is(sql(q(SELECT count(*) FROM ticket WHERE label = '{"label": "billing"}')), 2000, 'switched on, and reloaded five times: every row is answered');
is($provider->meter('good')->{requests}, 2000, 'once');
ledger_equals_meter($node, $provider, 'P3: ledger equals meter', lane => 'good');

# ---------------------------------------------------------------------------
# Rows that a user has locked
# ---------------------------------------------------------------------------

$provider->reset;
$provider->script({ sequence => [ { match => 'billing 20"', times => -1, action => 'error_500' } ] }, 'good');
my $job = sql(q(UPDATE ticket SET label = llm_classify(body, '{billing,bug}') WHERE id <= 20; SELECT llm.last_job()));
wait_until("(SELECT count(*) = 1 AND bool_and(state = 'waiting' AND reason = 'backoff') FROM llm.queue)", 'one row waits for its time');
my $session = $node->background_psql('postgres');
# it is under way now and then: what is cancelled then is not locked
my $cancelled;
foreach (1 .. 100)
{
	$session->query_safe('BEGIN');
	$cancelled = $session->query_safe("SELECT llm.cancel(job => $job)");
	last if $session->query_safe('SELECT count(*) FROM llm.cancellation') == 0;
	$session->query_safe('ROLLBACK');
}
is($cancelled, 1, 'somebody cancels and does not commit');
$provider->script({}, 'good');
wait_until("EXISTS (SELECT FROM llm.queue WHERE state = 'waiting' AND not_before < clock_timestamp())", 'its time comes');
stays_calm('the sender does not turn in circles about locked rows');
sql(q(UPDATE ticket SET label = llm_classify(body, '{billing,bug}') WHERE id > 1000));
wait_until("NOT EXISTS (SELECT FROM llm.queue WHERE job <> $job)", 'others go on');
pass('P6: others go on');
$session->query_safe('ROLLBACK');
$session->quit;
sql("CALL llm.wait(job => $job, timeout => '1 minute')");
is(sql("SELECT done, finished_at < clock_timestamp() FROM llm.job WHERE id = $job"), '20|t', 'P2: after its ROLLBACK they are answered');

done_testing();
