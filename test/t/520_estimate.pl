# What a statement will cost is said before it runs: the provider's meter lies within the interval, which is
# narrow once the recipe is known; an estimate leaves nothing behind; dear statements wait for a word; and
# llm.progress shows what a job was to cost and will have cost.
#
# LLM_ESTIMATE_SEEDS=20 throws the dice so often, LLM_ESTIMATE_ROWS=1000000 queues so many rows to be confirmed.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use LLMTest;

my $seeds = $ENV{LLM_ESTIMATE_SEEDS} // 1;
my $many = $ENV{LLM_ESTIMATE_ROWS} // 20_000;
my $rows = 300; # of each table and half
my $provider = start_provider();
my $node = new_node('estimate', 'fsync = off', 'log_min_messages = warning');

# Standard error of a session, where notices are.
sub notices
{
	my ($stdout, $stderr);

	$node->psql('postgres', join("\n", @_), stdout => \$stdout, stderr => \$stderr);
	return $stderr;
}

# US dollars by the provider's meter, at the prices that setup_model() sets.
sub truth
{
	my $billed = $provider->meter(shift)->{billed};

	return $billed->{prompt_tokens} * 0.25e-6 + $billed->{completion_tokens} * 2e-6;
}

# Six tables: the input of row i, the call, and what the provider does. Each seed asks another question, so
# that nothing is known of it.
my @words = qw(invoice export button theme password refund crash report slow login charge twice month);
my @languages = ('Die Rechnung stimmt nicht, bitte prüfen', 'Кнопка экспорта не работает', '导出按钮没有任何反应',
	'زر التصدير لا يعمل', 'L’écran reste noir après la mise à jour', 'エクスポートボタンが動きません');

sub prose
{
	my ($dice, $n) = @_;

	return join ' ', map { $words[ $dice->(scalar @words) ] } 1 .. $n;
}

my %tables = (
	short => {
		text => sub { prose($_[0], 3 + $_[0]->(6)) . " $_[1]" },
		call => q(llm_classify(body, '{billing,bug,feature,other}', instructions => 'Seed %d.')),
	},
	long => {
		text => sub { prose($_[0], 200 + $_[0]->(600)) . " $_[1]" },
		call => q(llm_summarize(body, 20, instructions => 'Seed %d.')),
	},
	repeats => {
		text => sub { 'the same ' . ($_[1] > $rows ? 'other ' : '') . ($_[1] % 100) },
		call => q(llm_classify(body, '{billing,bug}', instructions => 'Seed %d.')),
	},
	languages => {
		text => sub { $languages[ $_[1] % @languages ] x (1 + $_[0]->(5)) . " $_[1]" },
		call => q(llm_classify(body, '{billing,bug,feature,other}', multi => true, instructions => 'Seed %d.')),
	},
	extract => {
		text => sub { prose($_[0], 20 + $_[0]->(60)) . " for $_[1] EUR" },
		call => q(llm_extract(body, '{"type": "object", "properties": {"product": {"type": "string"},
			"amount": {"type": "number"}, "urgent": {"type": "boolean"}},
			"required": ["product", "amount", "urgent"], "additionalProperties": false}', instructions => 'Seed %d.')),
		script => { error_500 => 0.05, rate_limit => 0.05, retry_after => 0.05, malformed_content => 0.1 },
	},
	answers => {
		text => sub { prose($_[0], 10) . " row-$_[1]." },
		call => q(llm_complete(body, instructions => 'Seed %d.')),
		answers => sub { prose($_[0], 2 + $_[0]->(200)) },
	});

foreach my $name (sort keys %tables)
{
	setup_model($node, $provider, server => "sim_$name", lane => $name, alias => $name, is_default => 0);
}

# So that a seed gives the same texts again.
sub dice
{
	my $state = shift() * 7919 + 17;

	return sub {
		$state = ($state * 1103515245 + 12345) % 2147483648;
		return int($state / 65536) % $_[0];
	};
}

sub fill
{
	my ($name, $seed) = @_;
	my $table = $tables{$name};
	my $dice = dice($seed * 10 + length $name);
	my @texts = map { $table->{text}->($dice, $_) } 1 .. 2 * $rows;
	my $values = join ",\n", map { "($_, " . LLMTest::quoted($texts[ $_ - 1 ]) . ')' } 1 .. @texts;
	my %script = %{ $table->{script} // {} };

	$script{answers} = { map { ("row-$_." => $table->{answers}->($dice)) } 1 .. 2 * $rows } if $table->{answers};
	$provider->script(\%script, $name);
	sql("DROP TABLE IF EXISTS t_$name; CREATE TABLE t_$name (id int PRIMARY KEY, body text, answer jsonb);",
		"INSERT INTO t_$name (id, body) VALUES $values; ANALYZE t_$name;");
	return;
}

# Estimate, run, and compare: [within, half of the interval as a share of its middle, text].
sub try_half
{
	my ($name, $seed, $condition) = @_;
	my $call = sprintf $tables{$name}{call}, $seed;
	my $statement = "UPDATE t_$name SET answer = $call WHERE $condition";
	my $before = truth($name);
	my ($calls, $low, $high) = split /\|/, sql("SET llm_enrich.model = '$name';",
		"SELECT calls, cost_low, cost_high FROM llm.estimate(" . LLMTest::quoted($statement) . ')');

	sql("SET llm_enrich.model = '$name'; $statement");
	wait_idle($node);
	my $cost = truth($name) - $before;
	return [ $cost >= $low && $cost <= $high, ($high - $low) / ($high + $low),
		"$name, seed $seed: $calls calls, $low to $high, it was $cost" ];
}

my (@unknown, @known);

foreach my $seed (1 .. $seeds)
{
	foreach my $name (sort keys %tables)
	{
		fill($name, $seed);
		push @unknown, try_half($name, $seed, "id <= $rows");
		$node->poll_query_until('postgres',
			"SELECT coalesce(sum(requests), 0) > 20 FROM llm.recipe_stat WHERE server = 'sim_$name'
			AND recipe = (SELECT max(recipe) FROM llm.job WHERE relation_name LIKE '%t_$name')");
		push @known, try_half($name, $seed, "id > $rows");
	}
}
foreach my $kind ([ 'not known', \@unknown ], [ 'known', \@known ])
{
	my @missed = grep { !$_->[0] } @{ $kind->[1] };

	cmp_ok(scalar @missed, '<=', 1 + @{ $kind->[1] } / 20, "the meter is within the interval, recipe $kind->[0]")
	  or diag(map { "$_->[2]\n" } @missed);
	note(map { sprintf "%s (+-%.1f%%)\n", $_->[2], 100 * $_->[1] } @{ $kind->[1] });
}
my @wide = grep { $_->[1] > 0.15 } @known;
is(scalar @wide, 0, 'once the recipe is known, the interval is +-15% at most') or diag(map { "$_->[2]\n" } @wide);
ledger_equals_meter($node, $provider, "P3: ledger and meter agree on table $_", lane => $_, server => "sim_$_")
  foreach sort keys %tables;

# ---------------------------------------------------------------------------
# Nothing is left behind
# ---------------------------------------------------------------------------

sql(q(CREATE TABLE noted (id int);
	CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN INSERT INTO noted VALUES (1); RETURN new; END $$;
	CREATE TABLE still (id serial PRIMARY KEY, body text, answer jsonb);
	INSERT INTO still (body) SELECT body FROM t_short;
	CREATE TRIGGER note BEFORE UPDATE OR INSERT ON still
		FOR EACH ROW EXECUTE FUNCTION note();));
my $counts = q(SELECT sum(n_tup_ins), sum(n_tup_upd), sum(n_tup_del), (SELECT count(*) FROM noted),
	(SELECT string_agg(last_value::text, ',' ORDER BY schemaname, sequencename) FROM pg_sequences)
	FROM pg_stat_user_tables WHERE relname IN ('still', 'noted'));

# Sessions tell what they did before they end, and may be at it when psql is gone.
sub counted
{
	$node->poll_query_until('postgres', q(SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'client backend'))
	  or die 'other sessions stay';
	return sql($counts);
}
my $before = counted();
my $left = sql(q(BEGIN; SET LOCAL llm_enrich.model = 'short';),
	q(SELECT FROM llm.estimate($$UPDATE still SET answer = llm_classify(body, '{a,b}')$$);),
	q(SELECT FROM llm.estimate($$INSERT INTO still (body, answer)
		SELECT body, llm_classify(body, '{a,b}') FROM still$$);),
	q(SELECT FROM llm.estimate($$SELECT llm_classify(body, '{a,b}') FROM still FOR UPDATE$$);),
	q(SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype IN ('relation', 'tuple', 'transactionid')
		AND relation IS DISTINCT FROM 'pg_locks'::regclass;),
	q(SELECT pg_current_xact_id_if_assigned() IS NULL; COMMIT;));
is($left, "0\nt", 'no lock is left in an open transaction, and no transaction number was taken');
is(counted(), $before, 'no row, number or effect of a trigger is left');

my $explained = sql(q(SET llm_enrich.model = 'short'; EXPLAIN SELECT llm_classify(body, '{a,b}') FROM still LIMIT 10));
like($explained, qr/Models: short\n\s+Estimated Calls: 10\n.*Estimated Cost: [\d.]+ to [\d.]+ US dollars/s, 'EXPLAIN says what calls may cost');
# the planner takes a third of the rows to pass, and all of them are asked about
sql(q(CREATE TABLE passed AS SELECT i AS id, 'text ' || i AS body FROM generate_series(1, 300) i;
	ALTER TABLE passed ADD PRIMARY KEY (id); ANALYZE passed));
$explained = sql(q(SET llm_enrich.model = 'short'; SET enable_seqscan = off;
	EXPLAIN SELECT id FROM passed WHERE id < 1000 AND llm_filter(body, 'is it one?')));
like($explained, qr/Estimated Calls: (29\d|30\d)\n.*(Index|Bitmap) /s, 'of a condition, too');
unlike(sql(q(EXPLAIN (COSTS OFF) SELECT llm_classify(body, '{a,b}') FROM still)), qr/Estimated/, 'unless costs are off');

# ---------------------------------------------------------------------------
# A large table is sampled
# ---------------------------------------------------------------------------

sql(q(CREATE TABLE large AS SELECT i AS id, 'ticket ' || i || repeat(' words', 10 + i % 60) AS body, NULL::jsonb AS answer
		FROM generate_series(1, 200000) i;
	ALTER TABLE large ADD PRIMARY KEY (id); ANALYZE large;));
my $large = q(llm_classify(body, '{billing,bug,feature,other}', instructions => 'Seed 1.', model => 'short'));
my ($sampled_low, $sampled_high, $tasks) = split /\|/,
  sql("SELECT cost_low, cost_high, tasks FROM llm.estimate(\$\$UPDATE large SET answer = $large\$\$)");
my ($low, $high) = split /\|/,
  sql("SELECT cost_low, cost_high FROM llm.estimate(\$\$SELECT $large FROM (SELECT * FROM large OFFSET 0) s\$\$)");
cmp_ok($sampled_low, '<=', ($low + $high) / 2, 'all that there is lies above the lower end of a sample');
cmp_ok($sampled_high, '>=', ($low + $high) / 2, 'and below its upper end');
cmp_ok(abs($tasks / 200_000 - 1), '<', 0.15, 'rows are about those that there are');
like(notices("SELECT FROM llm.estimate(\$\$UPDATE large SET answer = $large\$\$)"), qr/a sample of \d/, 'and it is said');

# ---------------------------------------------------------------------------
# Dear statements wait
# ---------------------------------------------------------------------------

setup_model($node, $provider, server => 'sim_dear', lane => 'dear', alias => 'dear', is_default => 1);
sql("CREATE TABLE dear AS SELECT i AS id, 'ticket ' || i AS body, NULL::jsonb AS answer FROM generate_series(1, $many) i;",
	'ALTER TABLE dear ADD PRIMARY KEY (id); ANALYZE dear;');
my $update = q(UPDATE dear SET answer = llm_classify(body, '{a,b}'));
my ($start, $plain, $told) = (0, 0);

# the slower of two: the machine may have other work
foreach (1 .. 2)
{
	$start = time;
	sql("BEGIN; $update; ROLLBACK");
	$plain = time - $start if time - $start > $plain;
	sql('VACUUM FULL dear');
}
$start = time;
$told = notices('SET llm_enrich.confirm_above = 0.01;', "$update;");
cmp_ok(time - $start, '<', $plain + 1 + $plain / 2, "the notice for $many rows costs no time worth naming");
like($told, qr/rows queued and paused: $many, with $many calls, for [\d.]+ to [\d.]+ US dollars/,
	'it says what it may cost');
like($told, qr/SELECT llm\.resume\(job => (\d+)\);/, 'and what to type');
my ($job) = $told =~ /job => (\d+)/;
is(sql("SELECT state, total = $many, why LIKE '%waits to be confirmed%', estimated_cost = forecast_cost, eta IS NULL
	FROM llm.progress WHERE job = $job"), 'paused|t|t|t|t', 'the job is paused, and its forecast is the estimate');
is($provider->meter('dear')->{requests}, 0, 'nothing was sent');
sql("UPDATE dear SET answer = NULL WHERE id > 200") if $many > 200;
sql("SELECT llm.resume(job => $job)");
ok($node->poll_query_until('postgres', "SELECT state = 'finished' FROM llm.job WHERE id = $job"), 'resumed, it goes on');
is(sql("SELECT count(*) FROM dear WHERE answer ? 'label'"), 200, 'and the answers come');
is(sql("SELECT forecast_cost = cost AND estimated_cost > 0 FROM llm.progress WHERE job = $job"), 't',
	'in the end the forecast is what it has cost');
like(notices('SET llm_enrich.confirm_above = 1000;', q(UPDATE dear SET answer = llm_classify(body, '{a,c}') WHERE id <= 30)),
	qr/^(?!.*paused)/s, 'what is cheaper goes at once');
wait_idle($node);

# ---------------------------------------------------------------------------
# The rate is that of what moves now
# ---------------------------------------------------------------------------

sub forward
{
	return sql(q(CREATE FUNCTION pg_temp.forward(float8) RETURNS timestamptz
			LANGUAGE C AS 'llm_enrich', 'llm_enrich_test_clock';),
		"SELECT FROM pg_temp.forward($_[0])");
}

$provider->script({ latency_ms => 100 }, 'dear');
sql(q(SELECT llm.alter_model('dear', max_concurrency => 10)));
sql(q(UPDATE dear SET answer = llm_classify(body, '{a,d}') WHERE id <= 16000 AND id % 2 = 0));
my $slow = sql('SELECT max(id) FROM llm.job');

$node->poll_query_until('postgres', "SELECT done > 20 FROM llm.job WHERE id = $slow");
forward(3600);
$node->poll_query_until('postgres', "SELECT done > 60 AND pace_before_at IS NOT NULL FROM llm.job WHERE id = $slow");
forward(40);
$node->poll_query_until('postgres', "SELECT pace_before_final > 20 FROM llm.job WHERE id = $slow");
ok($node->poll_query_until('postgres', "SELECT rows_per_s > 0.5 AND eta < '1 hour' FROM llm.progress WHERE job = $slow"),
	'an hour without a row is forgotten a minute later');
sql("SELECT llm.cancel(job => $slow)");
wait_idle($node);
ledger_equals_meter($node, $provider, 'P3: ledger and meter agree', lane => 'dear', server => 'sim_dear');

done_testing();
