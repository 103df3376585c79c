# Limits, told and found out, keys and models that a person must fix, and outages:
# they cost time and nothing else, and only the target that they belong to (P6, P7).
#
# Each part has a lane and a model of its own, so that all of them can run at once.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use JSON::PP ();
use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

my $node = new_node('limits');
my $provider = start_provider('--key', 'right');

# A server, an alias, a lane and a table of so many rows, all of one name.
sub make_target
{
	my ($name, $rows, $script, %options) = @_;
	my $key = delete $options{key} // 'right';

	$provider->script($script, $name);
	setup_model($node, $provider, server => $name, lane => $name, alias => $name, model => "sim-$name",
		is_default => 0, options => \%options);
	sql("CREATE USER MAPPING FOR PUBLIC SERVER $name OPTIONS (api_key '$key')");
	sql("CREATE TABLE $name (id int PRIMARY KEY, body text, label jsonb);
		INSERT INTO $name SELECT i, 'billing [[mark:' || i || ']]' FROM generate_series(1, $rows) i");
	return;
}

# Queue all rows of a table; the job's id.
sub enqueue
{
	my $name = shift;

	return sql("UPDATE $name SET label = llm_classify(body, '{billing,bug}', model => '$name'); SELECT llm.last_job()");
}

# Wait for the job of a target; all its rows must have their answers, and none was charged.
sub all_answered
{
	my ($name, $job, $what) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	sql("CALL llm.wait(job => $job, timeout => '2 minutes')");
	is(sql(qq(SELECT count(*) FROM $name WHERE label IS DISTINCT FROM '{"label": "billing"}')), 0, $what);
	is(sql("SELECT string_agg(DISTINCT outcome, ',' ORDER BY outcome) FROM llm.ledger WHERE job = $job AND
		outcome NOT IN ('ok', 'rate_limited', 'error')"), '', "$name: no try of a task is charged");
	ledger_equals_meter($node, $provider, "P3: $name: ledger equals meter", lane => $name, server => $name);
	return;
}

# Requests of a lane in the order of their coming, as a list of hashes with "at" in ms.
sub requests
{
	return sort { $a->{at} <=> $b->{at} || $a->{number} <=> $b->{number} } $provider->log($_[0], last => 10_000);
}

# ---------------------------------------------------------------------------
# What waits for a clock goes first, and runs while the rest is tested
# ---------------------------------------------------------------------------

# A provider that has one request a second and no burst, or two where each is to come at its time: a busy machine may
# bring one late, and then the next one in time.
my %slow = (requests_per_minute => 60, burst => 1);
make_target('told', 12, { %slow, burst => 2 }, requests_per_minute => 60);
make_target('untold', 12, \%slow);
my %paced = map { $_ => enqueue($_) } qw(told untold);

# Ten a second, no burst, and not even the headers of answers tell of it.
make_target('hidden', 100, { requests_per_minute => 600, burst => 1, hide_limits => JSON::PP::true });
$paced{hidden} = enqueue('hidden');

# One 429 among many, with Retry-After in each of its forms.
my %form = (seconds => 2, date => 2, ms => 1.5);
foreach my $form (sort keys %form)
{
	make_target($form, 100, {
		latency_ms => 50,
		retry_after_form => $form,
		sequence => [ { action => 'rate_limit', retry_after => $form{$form} } ]
	});
}
my %limited = map { $_ => enqueue($_) } sort keys %form;

# ---------------------------------------------------------------------------
# Keys and models that a person must fix
# ---------------------------------------------------------------------------

# A paused target is tried once a minute.
my $paused_at = time;
sub probes { return int((time - $paused_at) / 60); }

make_target('wrong_key', 200, {}, key => 'wrong');
make_target('wrong_model', 200, { models => ['another'] });
my $no_key = enqueue('wrong_key');
my $no_model = enqueue('wrong_model');
wait_until("EXISTS (SELECT FROM llm.job WHERE id = $_ AND reason IS NOT NULL)
	AND NOT EXISTS (SELECT FROM llm.queue WHERE job = $_ AND state = 'claimed')", 'the target is paused') foreach $no_key, $no_model;
my %burst = map { $_ => $provider->meter($_)->{requests} } qw(wrong_key wrong_model);
cmp_ok($burst{$_}, '<=', requests_at_once($node, $_) + probes(), "P7: $_: one request meets it, of 200 that are ready")
	foreach sort keys %burst;
is(sql("SELECT count(*), max(tries) FROM llm.queue WHERE job = $_"), '200|0', 'no task is charged') foreach $no_key, $no_model;
is(sql("SELECT count(*) FROM llm.ledger WHERE job IN ($no_key, $no_model) AND (outcome <> 'error' OR cost <> 0)"), 0, 'and nothing is billed');
ok($node->poll_query_until('postgres', q(SELECT count(*) = 2 FROM llm.health
	WHERE kind = 'target' AND state LIKE 'paused until %' AND problem IS NOT NULL AND hint IS NOT NULL
	AND (subject LIKE '%/ sim-wrong_key' OR subject LIKE '%/ sim-wrong_model'))), 'llm.health says what is wrong, and what to do');
like(sql("SELECT why FROM llm.progress WHERE job = $_"), qr/./, 'llm.progress says why the job waits') foreach $no_key, $no_model;

# A target of another server of the same provider, asked beside one that hangs and one that is paused.
make_target('alone', 1000, { latency_ms => 2 });
make_target('hanging', 500, { hang => 1 });
my $hanging = enqueue('hanging');
wait_until("(SELECT count(*) = 64 FROM llm.queue WHERE job = $hanging AND state = 'claimed')", 'requests hang');
my $alone = enqueue('alone');
all_answered('alone', $alone, 'P6: a target is served while another hangs and a third is paused');
is(sql("SELECT done, (SELECT count(*) FROM llm.queue q WHERE q.job = j.id AND state = 'claimed') FROM llm.job j WHERE id = $hanging"),
	'0|64', 'P6: none of the requests that hang had to end for it');
cmp_ok($provider->meter($_)->{requests} - $burst{$_}, '<=', probes(), "$_: nothing was sent meanwhile") foreach sort keys %burst;

# Fixed.
sql("ALTER USER MAPPING FOR PUBLIC SERVER wrong_key OPTIONS (SET api_key 'right')");
all_answered('wrong_key', $no_key, 'with the right key the job goes on by itself');
cmp_ok($provider->meter('wrong_key')->{requests} - $burst{wrong_key}, '<=', 200 + probes(), 'with one request for each row');
sql("SELECT llm.alter_model('wrong_model', model => 'another')");
all_answered('wrong_model', $no_model, 'with the right model the job goes on by itself');
cmp_ok($provider->meter('wrong_model')->{requests} - $burst{wrong_model}, '<=', 200 + probes(), 'with one request for each row');
wait_until(q(NOT EXISTS (SELECT FROM llm.health WHERE subject ~ 'wrong_(key|model)')), 'llm.health forgets them');

# ---------------------------------------------------------------------------
# An outage
# ---------------------------------------------------------------------------

make_target('storm', 100, { error_500 => 1 });
my $storm = enqueue('storm');
wait_until(q(EXISTS (SELECT FROM llm.health WHERE kind = 'target' AND subject LIKE '%/ sim-storm'
		AND state LIKE 'cooling until %')),
	'the outage is noticed');
wait_until("NOT EXISTS (SELECT FROM llm.queue WHERE job = $storm AND state = 'claimed')", 'what was in flight is back');
cmp_ok($provider->meter('storm')->{requests}, '<', 100, 'not every row meets the outage');
is(sql("SELECT count(*), max(tries) FROM llm.queue WHERE job = $storm"), '100|0', 'no task is lost or charged');
$provider->script({}, 'storm');
all_answered('storm', $storm, 'P2: after the outage all rows are answered');

# ---------------------------------------------------------------------------
# Retry-After
# ---------------------------------------------------------------------------

foreach my $form (sort keys %form)
{
	# a date has whole seconds only
	my $wait = 1000 * ($form eq 'date' ? $form{$form} - 1 : $form{$form});

	all_answered($form, $limited{$form}, "P7: after one 429 with Retry-After ($form) all rows are answered");
	my @requests = requests($form);
	my ($refused) = grep { $_->{status} == 429 } @requests;
	my @later = grep { $_->{at} > $refused->{at} + $wait / 2 } @requests;

	cmp_ok(scalar @requests, '<=', 102, "P7: $form: with two more requests at most");
	is(scalar(grep { $_->{status} == 429 } @requests), 1, "P7: $form: and no other 429");
	cmp_ok($later[0]{at} - $refused->{at}, '>=', $wait, "P7: $form: the next request leaves when it may");
	cmp_ok($later[-1]{at} - $refused->{at}, '<', $wait + 5000, "P7: $form: and the others soon after");
	cmp_ok($later[1]{at}, '>=', $later[0]{at} + 50, "P7: $form: after the answer to the first");
}

# ---------------------------------------------------------------------------
# One request a second
# ---------------------------------------------------------------------------

all_answered($_, $paced{$_}, "P7: $_: 12 rows at one request a second") foreach qw(told untold);
my @told = requests('told');
is(scalar @told, 12, 'P7: a limit that was told is kept before it is hit');
cmp_ok($told[-1]{at} - $told[0]{at}, '<=', 1.25 * 11_000, 'P7: and used to eight tenths');

# Not told: while it cools nothing leaves, then one request, alone.
my @untold = requests('untold');
my $until = 0;
my $early = 0;
foreach my $request (@untold)
{
	$early++ if $request->{at} < $until;
	$until = $request->{at} + 1000 if $request->{status} == 429 && $request->{at} > $until;
}
note(scalar(grep { $_->{status} == 429 } @untold), ' of ', scalar @untold, ' requests were refused');
note(join ' ', map { sprintf '%d:%d', $_->{at} - $untold[0]{at}, $_->{status} } @untold);
is($early, 0, 'P7: not told, no request leaves while its target cools down');

# A cool-down ends with one request, which is answered: two refusals in a row would be two of one cool-down.
all_answered('hidden', $paced{hidden}, 'P7: hidden: 100 rows at ten a second that nobody told of');
my @hidden = requests('hidden');
note(join ' ', map { sprintf '%d:%d', $_->{at} - $hidden[0]{at}, $_->{status} } @hidden);
# A machine that lets the sender wait lets it send what was due meanwhile at once.
cmp_ok(scalar(grep { $hidden[ $_ - 1 ]{status} == 429 && $hidden[$_]{status} == 429 } 1 .. $#hidden), '<=', 5,
	'P7: hidden: hardly ever two 429 in one cool-down, from the first request on');
cmp_ok(scalar(grep { $_->{status} == 429 } @hidden), '<=', 25, 'P7: hidden: and few cool-downs, once the pace is found out');

# ---------------------------------------------------------------------------
# Two aliases of one target, each with its own limit
# ---------------------------------------------------------------------------

make_target('wide', 400, { latency_ms => 500 }, max_concurrency => 16);
sql("SELECT llm.add_model('narrow', server => 'wide', model => 'sim-wide', max_concurrency => 2, input_per_mtok => 1, output_per_mtok => 1);
	CREATE TABLE narrow (id int PRIMARY KEY, body text, label jsonb);
	INSERT INTO narrow SELECT i, 'narrow ' || i FROM generate_series(1, 10) i");
my $wide = enqueue('wide');
wait_until("(SELECT count(*) >= 14 FROM llm.queue WHERE job = $wide AND state = 'claimed')", 'one alias has its places taken');
my $narrow = enqueue('narrow');
my $most = 0;
for (my $left = 10; $left > 0;)
{
	($left, my $claimed) = split /\|/, sql("SELECT count(*), count(*) FILTER (WHERE state = 'claimed') FROM llm.queue WHERE job = $narrow");
	$most = $claimed if $claimed > $most;
}
cmp_ok(sql("SELECT count(*) FROM llm.queue WHERE job = $wide"), '>', 0, 'P6: an alias of two at a time is served beside one of 16');
cmp_ok($most, '<=', 2, 'P7: and has two at a time');

done_testing();
