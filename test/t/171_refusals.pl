# A row that its provider always turns away, by whatever status, is its own fault as soon as
# others pass: it fails, with the provider's sentence, and nobody else waits for it. Where
# everything is turned away the target is to blame, and no task loses a try (P6, P7).
#
# Each part has a lane and a model of its own, so that all of them run at once.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use JSON::PP ();
use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

my $node = new_node('refusals');
my $provider = start_provider('--key', 'right');

# How a provider turns a request away.
sub step
{
	my ($status, %more) = @_;
	my %error = (error => { message => "turned away with $status", %more });

	return (action => 'status', status => $status, body => \%error) if $status ne 'error in a 200';
	return (action => 'status', status => 200, body => { error => { message => 'turned away in a 200', code => 429 } });
}

# A table of 40 rows, queued; those in @$refused are always turned away.
sub start_job
{
	my ($name, $status, $refused, %script) = @_;
	my @steps = map { { match => "[[mark:$_]]", times => -1, step($status) } } @$refused;

	$provider->script({ latency_ms => 20, %script, sequence => \@steps }, $name);
	setup_model($node, $provider, server => $name, lane => $name, alias => $name, model => "sim-$name",
		is_default => 0);
	sql("CREATE USER MAPPING FOR PUBLIC SERVER $name OPTIONS (api_key 'right');
		CREATE TABLE $name (id int PRIMARY KEY, body text, label jsonb);
		INSERT INTO $name SELECT i, 'billing [[mark:' || i || ']]' FROM generate_series(1, 40) i");
	return sql("UPDATE $name SET label = llm_classify(body, '{billing,bug}', model => '$name'); SELECT llm.last_job()");
}

my @statuses = (401, 402, 403, 404, 405, 302, 429, 503, 529, 'error in a 200');

sub name_of { my ($what, $status) = @_; $status =~ s/\W/_/g; return "${what}_$status"; }

# ---------------------------------------------------------------------------
# One of 40, another one for each status, and the last of all for one of them
# ---------------------------------------------------------------------------

my %job;
my $row = 4;
foreach my $status (@statuses)
{
	$job{$status} = start_job(name_of('one', $status), $status, [ $row += 3 ]);
}
$job{last} = start_job('one_last', 403, [40]);
$job{two} = start_job('one_two', 403, [ 9, 10 ]);

# All of 40, for each status.
my %all;
$all{$_} = start_job(name_of('all', $_), $_, [ 1 .. 40 ]) foreach @statuses;

foreach my $status (@statuses, 'last')
{
	my $name = name_of('one', $status);
	my $job = $job{$status};

	sql("CALL llm.wait(job => $job, timeout => '3 minutes')");
	is(sql("SELECT done, failed FROM llm.job WHERE id = $job"), '39|1', "P6: one of 40 refused, $status: 39 are done");
	is(sql("SELECT reason FROM llm.dead_letter WHERE job = $job"), 'rejected', "$status: the one failed by itself");
	like(sql("SELECT message FROM llm.dead_letter WHERE job = $job"),
		$status eq '302' ? qr/redirect/ : qr/turned away|HTTP status/, "$status: with the provider's sentence");
	cmp_ok($provider->meter($name)->{requests}, '<=', 45, "$status: it took no more than five requests more");
	ledger_equals_meter($node, $provider, "P3: $status: ledger equals meter", lane => $name, server => $name);
}
sql("CALL llm.wait(job => $job{two}, timeout => '3 minutes')");
is(sql("SELECT done, failed FROM llm.job WHERE id = $job{two}"), '38|2', 'P6: two of 40 refused: 38 are done');
is(sql(q(SELECT count(*) FROM llm.health WHERE subject ~ '^task ')), 0, 'llm.health names none of them any more');

foreach my $status (@statuses)
{
	my $job = $all{$status};

	is(sql("SELECT count(*), max(tries) FROM llm.queue WHERE job = $job"),
		'40|0', "P7: all of 40 refused, $status: no task fails, or loses a try");
	wait_until("(SELECT why IS NOT NULL FROM llm.progress WHERE job = $job)", "$status: llm.progress says why they wait");
	like(sql("SELECT why FROM llm.progress WHERE job = $job"),
		qr/^the provider refuses the key: turned away with $status\. ALTER USER MAPPING/,
		"$status: in the provider's words, and what to type") if $status =~ /^40[13]$/;
	is(sql("SELECT count(*) FROM (SELECT task FROM llm.ledger WHERE job = $job GROUP BY task HAVING count(*) > 1) t"),
		0, "$status: each probe was of another row");
}

# ---------------------------------------------------------------------------
# Fixed
# ---------------------------------------------------------------------------

foreach my $status (401, 429)
{
	my $name = name_of('all', $status);

	$provider->script({}, $name);
	like(sql("SELECT llm.check('$name')"), qr/^ok/, "$status: llm.check() is sent although the target is shut");
	sql("CALL llm.wait(job => $all{$status}, timeout => '1 minute')");
	is(sql("SELECT done FROM llm.job WHERE id = $all{$status}"), 40, "$status: and its answer ends that");
}

# Shut for a day.
$provider->script({ sequence => [ { action => 'rate_limit', retry_after => 86400 } ] }, 'day');
setup_model($node, $provider, server => 'day', lane => 'day', alias => 'day', model => 'sim-day', is_default => 0);
sql(q(CREATE USER MAPPING FOR PUBLIC SERVER day OPTIONS (api_key 'right');
	CREATE TABLE day (id int PRIMARY KEY, body text, label jsonb); INSERT INTO day VALUES (1, 'billing')));
my $day = sql(q(UPDATE day SET label = llm_classify(body, '{billing,bug}', model => 'day'); SELECT llm.last_job()));
wait_until(q(EXISTS (SELECT FROM llm.health
		WHERE kind = 'target' AND subject LIKE '%/ sim-day' AND state LIKE 'cooling until %')),
	'the target cools down');
wait_until("(SELECT why IS NOT NULL FROM llm.progress WHERE job = $day)", 'the job says why it waits');
like(sql(q(SELECT llm.check('day'))), qr/^ok/, 'llm.check() is the probe of a target that was told to wait for a day');
sql("CALL llm.wait(job => $day, timeout => '1 minute')");
is(sql("SELECT done FROM llm.job WHERE id = $day"), 1, 'and ends the wait of the task that was told so');

# A check that is refused does not shorten what was told.
$provider->script({ sequence => [ { action => 'rate_limit', retry_after => 86400 }, { action => 'status', status => 503, body => {} } ] }, 'day');
sql('UPDATE day SET label = NULL');
sql(q(UPDATE day SET label = llm_classify(body, '{billing,bug}', model => 'day')));
wait_until(q(EXISTS (SELECT FROM llm.health
		WHERE kind = 'target' AND subject LIKE '%/ sim-day' AND state LIKE 'cooling until %')),
	'it cools down again');
my $until = q(SELECT state FROM llm.health WHERE kind = 'target' AND subject LIKE '%/ sim-day');
my $told = sql($until);
like(sql(q(SELECT llm.check('day'))), qr/^rate_limited/, 'a check that is refused says so');
my $day_long = length('cooling until YYYY-MM-DD');
is(substr(sql($until), 0, $day_long), substr($told, 0, $day_long),
	'and the target waits as long as it was told');

$node->stop('fast');
done_testing();
