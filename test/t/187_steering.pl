# Who steers a running job is obeyed within a second: pause, priority, model, resume, everything.
# A retry pays nothing for cells that have a value; discarded letters give cells back.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use LLMTest;

my $node = new_node('steering', 'llm_enrich.max_tries = 1');
my $provider = start_provider();

# Ask so often until it is so, and how long that took; nothing else waits in between.
sub seconds_until
{
	my $query = shift;

	my $start = time;
	$node->poll_query_until('postgres', $query) or die "never: $query";
	return time - $start;
}

# Requests on their way when somebody steers come back within the latency of the provider.
setup_model($node, $provider, options => { max_concurrency => 64 });
setup_model($node, $provider, server => 'other', lane => 'other', alias => 'other', model => 'sim-other',
	is_default => 0, options => { max_concurrency => 64 });
$provider->script({ latency_ms => 20 });
$provider->script({ latency_ms => 20 }, 'other');
sql(q(CREATE TABLE ticket (id int PRIMARY KEY, body text, label jsonb);
	INSERT INTO ticket SELECT i, 'The invoice of customer ' || i || ' is wrong' FROM generate_series(1, 100000) i));
my $job = sql(q(UPDATE ticket SET label = llm_classify(body, '{billing,bug}'); SELECT llm.last_job()));
seconds_until("SELECT done > 500 FROM llm.job WHERE id = $job");

# A session that keeps its own connection, so that no time goes into making one.
my $steer = $node->background_psql('postgres');
my $moving = "SELECT count(*) FROM llm.queue WHERE job = $job AND state = 'claimed'";

# Nothing is claimed for it soon after, and not at the next sweep; llm.queue shows what has been claimed ahead.
sub stopped_soon
{
	my ($what, $stop, $go_on) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $start = time;
	$steer->query_safe($stop);
	my $stopped = 0;
	my $was = -1;
	while (!$stopped && time - $start < 30)
	{
		my $now = $provider->meter->{requests};
		$stopped = time - $start if $steer->query_safe($moving) == 0 && $now == $was;
		$was = $now;
	}
	cmp_ok($stopped, '>', 0, "$what: it stops");
	cmp_ok($stopped, '<', 20, sprintf('%s: in force soon (%.2f s)', $what, $stopped));
	my $asked = $provider->meter->{requests};
	$steer->query_safe('SELECT pg_sleep(0.5)');
	is($provider->meter->{requests}, $asked, "$what: nothing more is sent");
	$start = time;
	$steer->query_safe($go_on);
	while (time - $start < 30 && $provider->meter->{requests} == $asked) { $steer->query_safe('SELECT 1') }
	cmp_ok(time - $start, '<', 20, sprintf('%s: it goes on soon (%.2f s)', $what, time - $start));
	return;
}

stopped_soon('a job', "SELECT llm.pause(job => $job)", "SELECT llm.resume(job => $job)");
stopped_soon('a table', q(SELECT llm.pause('ticket')), q(SELECT llm.resume('ticket')));
stopped_soon('a server', q(SELECT llm.pause(server => 'sim')), q(SELECT llm.resume(server => 'sim')));
stopped_soon('a model', q(SELECT llm.pause(model => 'fast')), q(SELECT llm.resume(model => 'fast')));
stopped_soon('everything', 'SELECT llm.pause(everything => true)', 'SELECT llm.resume(everything => true)');

# It holds for later jobs, and says so
sql(q(SELECT llm.pause(model => 'other')));
my $later = sql(q(CREATE TABLE later AS SELECT * FROM ticket WHERE id <= 10; ALTER TABLE later ADD PRIMARY KEY (id);
	UPDATE later SET label = llm_classify(body, '{billing,bug}', model => 'other'); SELECT llm.last_job()));
seconds_until("SELECT reason LIKE 'model \"other\" is paused by %' FROM llm.job WHERE id = $later");
sql(q(SELECT llm.resume(model => 'other')));
sql("CALL llm.wait(job => $later, timeout => '3 minutes')");
is(sql("SELECT done FROM llm.job WHERE id = $later"), 10, 'a pause holds for later jobs, until it ends');

# Concurrency and the model of a running job
$steer->query_safe("SELECT llm.alter_job($job, max_concurrency => 3)");
seconds_until("SELECT count(*) <= 3 FROM llm.queue WHERE job = $job AND state = 'claimed'");
my $most = 0;
for (1 .. 50)
{
	my $n = $steer->query_safe($moving);
	$most = $n if $n > $most;
}
cmp_ok($most, '<=', 3, 'P7: no more than so many are in flight');
ok($node->poll_query_until('postgres', "SELECT count(*) > 0 FROM llm.queue WHERE job = $job AND state = 'claimed'"),
	'and it goes on');
my $start = time;
$steer->query_safe("SELECT llm.alter_job($job, max_concurrency => 0, model => 'other')");
my $others = $provider->meter('other')->{requests};
while (time - $start < 30 && $provider->meter('other')->{requests} == $others) { $steer->query_safe('SELECT 1') }
cmp_ok(time - $start, '<', 20, sprintf('another model is asked soon (%.2f s)', time - $start));

# Priority: a small job beside it goes first as soon as it is said
my $small = sql(q(CREATE TABLE small AS SELECT * FROM ticket WHERE id <= 200; ALTER TABLE small ADD PRIMARY KEY (id);
	UPDATE small SET label = llm_classify(body, '{billing,bug,other}', model => 'other'); SELECT llm.last_job()));
$steer->query_safe("SELECT llm.alter_job($small, priority => 10)");
sql("CALL llm.wait(job => $small, timeout => '3 minutes')");
is(sql("SELECT done FROM llm.job WHERE id = $small"), 200, 'the one of higher priority is finished first');
is(sql("SELECT state FROM llm.job WHERE id = $job"), 'open', 'while the other one is not');
# What says of tasks that have ended that they are cancelled is not looked at in each pass from now on
sql(q(INSERT INTO llm.cancellation (task) SELECT 9000000000 + i FROM generate_series(1, 3) i));
$node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM llm.cancellation)') or die 'cancellations of nothing stay';
is(sql("SELECT state FROM llm.job WHERE id = $job"), 'open', 'P6: cancellations of what has ended go while others are at work');
sql(q(SELECT llm.cancel('ticket')));
sql("CALL llm.wait(job => $job, timeout => '10 minutes')");
$steer->quit;

# llm.retry after a re-run: cells that have a value since are paid for no more
sql(q(CREATE TABLE again (id int PRIMARY KEY, body text, label jsonb);
	INSERT INTO again SELECT i, 'Row ' || i || ' of it', '{"label": "old"}' FROM generate_series(1, 40) i));
$provider->script({ wrong_label => 1 });
my $first = sql(q(UPDATE again SET label = llm_classify(body, '{billing,bug}') WHERE id <= 15; SELECT llm.last_job()));
sql("CALL llm.wait(job => $first, timeout => '3 minutes')");
is(sql("SELECT failed FROM llm.job WHERE id = $first"), 15, 'they fail');
$provider->script({});
sql(q(UPDATE again SET label = llm_classify(body, '{billing,bug}') WHERE id <= 5));
wait_idle($node);
my $asked = $provider->meter->{requests};
is(sql(q(SELECT llm.retry('again', task => task) FROM llm.dead_letter WHERE (key->>'id')::int <= 5)), "0\n" x 4 . '0',
	'cells that moved on are passed over');
wait_idle($node);
is($provider->meter->{requests}, $asked, 'P4: and nothing is paid for them');
is(sql('SELECT count(*) FROM llm.dead_letter'), 10, 'their letters are closed');
is(sql(q(SELECT llm.discard('again', reason => '{invalid_output}', task => task) FROM llm.dead_letter
	WHERE (key->>'id')::int = 6)), 1, 'one is discarded');
wait_idle($node);
is(sql('SELECT label FROM again WHERE id = 6'), '{"label": "old"}', 'its cell gets back what it held');
is(sql(q(SELECT llm.retry('again'))), 9, 'the others are asked again');
sql(q(CALL llm.wait('again', timeout => '3 minutes')));
is(sql(q(SELECT count(*) FROM again WHERE label ? 'label' AND NOT label ? 'llm_enrich')), 40, 'P2: all have a value');
is($provider->meter->{requests}, $asked + 9, 'P4: once each');
# A pause is obeyed where a request would leave; what sends nothing tells what it told before.
my $call = q(llm_classify(body, '{a,b}', model => 'other'));
my $figures = 'SELECT tasks, calls, input_tokens, output_tokens, cost_low, cost_high FROM llm.estimate';
my $unsent = join ';', q(SELECT llm.preview('classify', 'x', labels => '{a,b}', model => 'other')),
  "$figures(\$\$UPDATE again SET label = $call\$\$)", "$figures(\$\$SELECT $call FROM again\$\$)",
  "EXPLAIN (COSTS off) SELECT $call FROM again";
my $before = sql($unsent);
$asked = $provider->meter('other')->{requests};
sql(q(SELECT llm.pause(server => 'other', model => 'other')));
is(sql($unsent), $before, 'paused: previews, estimates and plans are as before');
my (undef, undef, $why) = $node->psql('postgres', q(SET llm_enrich.patience = 0; SELECT llm_classify('x', '{a,b}', model => 'other')));
like($why, qr/ERROR: .*model "other" at server "other" is paused by "\w+".*llm\.resume\(server => 'other', model => 'other'\)/s,
	'a call that would send is refused');
is($provider->meter('other')->{requests}, $asked, 'nothing was sent');
is(sql(q(SELECT llm.resume(server => 'other', model => 'other'))), 1, 'what it says can be typed');
is(sql($unsent), $before, 'and resumed, too');
ledger_equals_meter($node, $provider, 'P3: ledger equals meter', server => 'sim');

done_testing();
