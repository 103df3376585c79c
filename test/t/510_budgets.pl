# Budgets are hard (P8).
#
# What may be spent is never exceeded, however many sessions queue, wait for answers and fail, and
# whichever process is killed: at each look the provider's own meter is within what is spent and reserved,
# and that within the budget. What waits says why, and goes on as soon as it may.
#
#     LLM_BUDGET_SAMPLES=1000 tools/check tap 510_budgets

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use LLMTest qw(!sql);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $samples = $ENV{LLM_BUDGET_SAMPLES} // 150;
my $node = new_node('budgets', 'llm_enrich.max_tries = 3');
my $provider = start_provider();

sub sql { return $node->safe_psql('postgres', $_[0]); }

sub until_true
{
	my ($query, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok($node->poll_query_until('postgres', $query), $name);
}

# ---------------------------------------------------------------------------
# One budget, many sessions, faults and crashes
# ---------------------------------------------------------------------------

my @lanes = qw(a b c d);
my %input = map { $_ => sprintf '%.4f', 0.5 + rand 3 } @lanes;
my %output = map { $_ => sprintf '%.4f', 5 + rand 10 } @lanes;

foreach my $lane (@lanes)
{
	setup_model($node, $provider, server => "s_$lane", lane => $lane, alias => $lane, is_default => 0,
		options => { timeout => '1s' },
		prices => {
			input_per_mtok => $input{$lane},
			cached_input_per_mtok => 'NULL',
			cache_write_per_mtok => 'NULL',
			output_per_mtok => $output{$lane}
		});
	$provider->script({
		latency_ms => 20, latency_jitter_ms => 40, error_500 => 0.05, hang => 0.03, cut => 0.04,
		malformed => 0.04, wrong_label => 0.04 }, $lane);
}

# What the provider has worked for, in dollars.
sub metered
{
	my $dollars = 0;

	foreach my $lane (@lanes)
	{
		my $meter = $provider->meter($lane);

		foreach my $part (@$meter{qw(billed unseen)})
		{
			$dollars += $part->{prompt_tokens} * $input{$lane} / 1e6;
			$dollars += $part->{completion_tokens} * $output{$lane} / 1e6;
		}
	}
	return $dollars;
}

sql(q(
	CREATE TABLE work (id int PRIMARY KEY, model text, body text, label jsonb);
	INSERT INTO work SELECT g, (ARRAY['a', 'b', 'c', 'd'])[1 + g % 4],
		'invoice ' || g || ' is wrong ' || repeat('and late ', (g * 7919) % 400) FROM generate_series(1, 48000) g));
my $budget = sql('SELECT llm.set_budget(1.00)');

my @children;

sub in_background
{
	my ($code) = @_;
	my $pid = fork() // die "could not fork: $!";

	if ($pid == 0)
	{
		open STDOUT, '>', '/dev/null';
		open STDERR, '>', '/dev/null';
		eval { $code->() };
		POSIX::_exit(0);
	}
	push @children, $pid;
	return;
}

foreach my $session (0 .. 15)
{
	in_background(sub {
		foreach my $part (0 .. 4)
		{
			my $from = ($session * 5 + $part) * 600;
			my $model = (qw(a b c d))[ ($session + $part) % 4 ];

			$node->psql('postgres', "UPDATE work SET label = llm_classify(body, '{billing,bug,other}', model => '$model')
				WHERE id > $from AND id <= $from + 600 AND id % 4 = 0");
			usleep(rand 300_000);
		}
	});
}
foreach my $session (0 .. 1)
{
	in_background(sub {
		while (1)
		{
			$node->psql('postgres', "SET llm_enrich.on_error = 'null'; SET llm_enrich.patience = '2s';
				SELECT llm_classify('is this a bug ' || g, '{bug,other}', model => ('{a,b,c,d}'::text[])[1 + g % 4])
				FROM generate_series(1, 8) g");
			usleep(100_000);
		}
	});
}

my ($worst, $over, $below, $kills, $seen) = (0, 0, 0, 0, 0);
my $amount = 1.00;

foreach my $sample (1 .. $samples)
{
	my $meter = metered();
	my ($spent, $reserved, $cap) = split /\|/, sql("SELECT spent, reserved, amount FROM llm.budget WHERE id = $budget");

	if ($meter > $spent + $reserved + 1e-9)
	{
		$below++;
		diag("sample $sample: the meter is at $meter, spent $spent, reserved $reserved");
	}
	if ($spent + $reserved > $cap + 1e-9)
	{
		$over++;
		diag("sample $sample: spent $spent, reserved $reserved");
	}
	$worst = $spent + $reserved if $spent + $reserved > $worst;
	$seen++;
	if ($kills < 5 && $sample > ($kills + 1) * $samples / 7)
	{
		my $pid = sql("SELECT max(pid) FROM pg_stat_activity WHERE backend_type = 'llm_enrich sender'");

		# one that is killed takes the server with it
		$kills++ if $pid && ($kills % 2 ? kill('TERM', $pid) : crash_server($node, $pid));
	}
	usleep(20_000);
}
is($kills, 5, 'the sender was killed five times');
is($below, 0, "P8: at each of $seen looks the meter was within what was spent and reserved");
is($over, 0, "P8: at each of $seen looks that was within the budget");
kill 'TERM', @children;
waitpid $_, 0 foreach @children;
note("at most $worst of the budget were spent or reserved");

# ---------------------------------------------------------------------------
# What waits, and raising the budget
# ---------------------------------------------------------------------------

until_true(q(SELECT count(*) > 0 AND bool_and(reason ~ '^budget') FROM llm.job j
	WHERE state = 'open' AND EXISTS (SELECT FROM llm.queue q WHERE q.job = j.id AND q.state = 'ready')
	AND NOT EXISTS (SELECT FROM llm.queue q WHERE q.state = 'claimed')),
	'P8: the rest waits and says that it is for a budget');
# calls of those that were ended may still wait
until_true(q(SELECT NOT EXISTS (SELECT FROM llm.letter)
	AND count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'client backend'), 'nobody asks any more');
like(sql(q(SELECT why FROM llm.progress WHERE waiting > 0 LIMIT 1)), qr/^budget \d+: of 1 dollars/,
	'llm.progress says so');
is(sql(q(SELECT count(*) FROM llm.progress WHERE why ~ '^budget' AND eta IS NOT NULL)), '0', 'and promises no time');
my ($needed, $left, $waiting, $reserved) =
	split /\|/, sql("SELECT needed, \"left\", waiting, reserved FROM llm.budget WHERE id = $budget");
cmp_ok($needed, '>', $left, 'P8: what is left does not do for what is needed');
cmp_ok($waiting, '>', 0, 'jobs wait for the budget');
is($reserved + 0, 0, 'nothing is reserved when nothing is under way');
cmp_ok($left, '<', 0.01, 'the last hundredth of the budget was used');
until_true("SELECT state = 'spent'
	AND hint = 'SELECT llm.set_budget(..., per => ''total''); or SELECT llm.drop_budget($budget);'
	FROM llm.health WHERE kind = 'budget'", 'llm.health says what never comes by itself, and what to type');

my $before = sql('SELECT count(*) FROM llm.ledger');
sql('SELECT llm.set_budget(1.10)');
my $began = time;
$node->poll_query_until('postgres', "SELECT count(*) > $before FROM llm.ledger") or die 'it did not go on';
cmp_ok(time - $began, '<', 20, 'P8: a raised budget lets work go on, and not at the next sweep');
sql("SELECT llm.cancel(relation => 'work')");
$provider->script({}, $_) foreach @lanes;
wait_idle($node);
is(sql(q(SELECT spent = (SELECT sum(cost) FROM llm.ledger) AND reserved = 0 FROM llm.budget)), 't',
	'what is spent is what the ledger says, to the last digit');
sql("SELECT llm.drop_budget($budget)");

# ---------------------------------------------------------------------------
# Many rows in one request, and answers that are kept
# ---------------------------------------------------------------------------

setup_model($node, $provider, server => 's_v', lane => 'v', alias => 'v', is_default => 0,
	model => 'text-embedding-3-small',
	prices => {
		input_per_mtok => 10,
		cached_input_per_mtok => 'NULL',
		cache_write_per_mtok => 'NULL',
		output_per_mtok => 0
	});
sql(q(
	CREATE TABLE vectors (id int PRIMARY KEY, body text, emb real[]);
	INSERT INTO vectors SELECT g, repeat('a lot of words ', 20) || g FROM generate_series(1, 1000) g));
$budget = sql(q(SELECT llm.set_budget(0.05, model => 'v')));
sql(q(UPDATE vectors SET emb = llm_embed(body, model => 'v')));
until_true(q(SELECT bool_and(reason ~ '^budget') FROM llm.job j WHERE state = 'open'
	AND NOT EXISTS (SELECT FROM llm.queue q WHERE q.state = 'claimed')), 'P8: vectors wait for a budget');
my ($rows, $requests) = split /\|/, sql(q(SELECT count(*), count(DISTINCT request) FROM llm.ledger
	WHERE model = 'text-embedding-3-small'));
cmp_ok($rows, '>', 0, 'and as many as it allows were asked for');
cmp_ok($requests, '<', $rows, 'many in a request');
is(sql(q(SELECT spent + reserved <= amount AND reserved = 0 FROM llm.budget)), 't', 'P8: within the budget');
sql(q(SELECT llm.set_budget(100, model => 'v')));
wait_idle($node);
is(sql('SELECT count(*) FROM vectors WHERE emb[2] = length(body)'), 1000, 'the rest when it is raised');
sql("SELECT llm.drop_budget($budget)");

$node->append_conf('postgresql.conf', "llm_enrich.keep_answers = '1d'");
$node->reload;
sql(q(
	CREATE TABLE again (id int PRIMARY KEY, body text, label jsonb);
	INSERT INTO again SELECT g, 'kept ' || g FROM generate_series(1, 50) g));
$budget = sql(q(SELECT llm.set_budget(1, model => 'a')));
sql(q(UPDATE again SET label = llm_classify(body, '{billing,bug,other}', model => 'a')));
wait_idle($node);
my $spent = sql('SELECT spent FROM llm.budget');
sql(q(UPDATE again SET label = NULL));
sql(q(UPDATE again SET label = llm_classify(body, '{billing,bug,other}', model => 'a')));
wait_idle($node);
is(sql(q(SELECT count(*) FROM llm.ledger WHERE outcome = 'cached')), 50, 'the second time answers were kept');
is(sql('SELECT spent, reserved FROM llm.budget'), "$spent|0", 'which takes nothing of a budget, and holds nothing back');
sql("SELECT llm.drop_budget($budget)");

done_testing();
