# What the sender writes without SQL is what SQL would write (P3): the ledger, its sums
# and the queue are compared with those of a database where triggers make it use SQL.
# What it keeps in mind for the ledger is given up when it may not be true any more. And it
# sleeps while an answer waits for company (P10).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

use constant ROWS => 60;

my $node = new_node('rows', 'llm_enrich.max_tries = 2', 'llm_enrich.max_retry_share = 1',
	'llm_enrich.idle_timeout = 1h', q(shared_preload_libraries = 'llm_enrich,auto_explain'),
	'auto_explain.log_min_duration = 0', 'auto_explain.log_nested_statements = on', q(log_line_prefix = '%p: '));
my $provider = start_provider();

# ----------------------------------------------------------------------------
# Every outcome, in both ways
# ----------------------------------------------------------------------------

# What may differ: numbers and times.
my $queue = q(SELECT string_agg((to_jsonb(q) - '{id,job,recipe,role,relation,request,queued_at,claimed_at,landed}'::text[]
	|| jsonb_build_object('landed', landed > 0))::text, E'\n' ORDER BY (key->>'id')::int) FROM llm.queue q);
my $ledger = q(SELECT string_agg((to_jsonb(l) - '{id,at,request,task,job,latency_ms,server,request_id}'::text[]
	|| jsonb_build_object('at', at > now() - interval '1 hour', 'numbered', l.task IS NOT NULL AND l.job IS NOT NULL,
		'server', server LIKE 'sim%', 'provider''s id', request_id LIKE 'req%', 'latency', latency_ms >= 0))::text,
	E'\n' ORDER BY (key->>'id')::int, job, attempt) FROM llm.ledger l);
my $sums = q(SELECT to_jsonb(c) - '{job}'::text[] FROM llm.job_cost c ORDER BY job);

# Each of the first rows meets a fault of its own; most of these always.
my @always = qw(malformed_content refusal truncated wrong_label content_filter);
my @sequence = (
	(map { { match => "customer ${_}0 ", times => -1, action => $always[ $_ - 1 ] } } 1 .. @always),
	{ match => 'customer 11 ', times => 1, action => 'error_500' },
	{ match => 'customer 12 ', times => 1, action => 'rate_limit', retry_after => 0.1 },
	{ match => 'customer 13 ', times => 1, action => 'malformed_content' },
	{
		match => 'customer 14 ',
		times => -1,
		action => 'status',
		status => 400,
		body => { error => { message => 'no', type => 'invalid_request_error' } }
	});

sub worker
{
	my ($db, $kind) = @_;
	my $pid = $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE datname = '$db' AND backend_type = 'llm_enrich $kind'");

	return $pid =~ /^\d+$/ ? $pid : die "$db has no $kind";
}

# Ask the same in the database, and stop the writer meanwhile: what the sender stored stays.
sub rows_of
{
	my ($db) = @_;

	setup_model($node, $provider, db => $db, lane => $db);
	$provider->script(
		{ cached_fraction => 0.25, cache_write_fraction => 0.25, reasoning_tokens => 3, sequence => \@sequence },
		$db);
	$node->safe_psql($db, qq(
		CREATE TABLE note (id int PRIMARY KEY, body text, label jsonb);
		INSERT INTO note SELECT i, 'A wish of customer ' || i || ' here' FROM generate_series(1, @{[ROWS]}) i;));
	$node->safe_psql($db, "UPDATE note SET label = llm_classify(body, '{x,y}') WHERE id = 1");
	wait_idle($node, $db);
	my $writer = worker($db, 'writer');
	kill 'STOP', $writer;
	$node->safe_psql($db, q(
		SET application_name = 'shop';
		SET llm_enrich.tags = '{"team": "x"}';
		UPDATE note SET label = llm_classify(body, '{a,b}');));
	$node->poll_query_until($db, "SELECT count(*) = @{[ROWS]} FROM llm.queue WHERE outcome IS NOT NULL")
		or die "$db: not every row was answered: " . $node->safe_psql($db, 'SELECT * FROM llm.queue WHERE outcome IS NULL');
	my @rows = map { $node->safe_psql($db, $_) } $queue, $ledger, $sums;
	kill 'CONT', $writer;
	wait_idle($node, $db);
	return @rows;
}

$node->safe_psql('postgres', 'CREATE DATABASE direct; CREATE DATABASE by_sql');
$node->safe_psql($_, 'CREATE EXTENSION llm_enrich') foreach qw(direct by_sql);

# Triggers of the kind that an auditor has, of which the table of the direct one has the wrong ones.
my $audit = q(CREATE TABLE seen (what text);
	CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN INSERT INTO public.seen VALUES (TG_TABLE_NAME || ' ' || TG_OP); RETURN NEW; END $$;);
$node->safe_psql('by_sql', $audit . q(
	CREATE TRIGGER see AFTER INSERT ON llm.ledger FOR EACH ROW EXECUTE FUNCTION see();
	CREATE TRIGGER see BEFORE UPDATE ON llm.queue FOR EACH ROW EXECUTE FUNCTION see();));
$node->safe_psql('direct', $audit . q(
	CREATE TRIGGER see AFTER DELETE ON llm.ledger FOR EACH ROW EXECUTE FUNCTION see();
	CREATE TRIGGER see AFTER DELETE ON llm.queue FOR EACH ROW EXECUTE FUNCTION see();));

my ($queue_direct, $ledger_direct, $sums_direct) = rows_of('direct');
my ($queue_by_sql, $ledger_by_sql, $sums_by_sql) = rows_of('by_sql');
is($queue_direct, $queue_by_sql, 'P3: the queue is the same, written by SQL and without');
is($ledger_direct, $ledger_by_sql, 'P3: so is the ledger');
is($sums_direct, $sums_by_sql, 'P3: and so are the sums');
is(scalar(split /\n/, $queue_direct), ROWS, 'all rows were compared');
unlike($queue_direct, qr/"landed": null/, 'each with the transaction that settled it');

# What the workers of a database ran of a statement.
sub runs_of
{
	my ($db, $statement) = @_;
	my $sender = worker($db, 'sender');
	my @runs = slurp_file($node->logfile) =~ /^$sender: LOG:  duration: .*\n\tQuery Text: \Q$statement\E/mg;

	return scalar @runs;
}

foreach my $statement ('INSERT INTO llm.ledger (at, request', 'WITH settled AS (UPDATE llm.queue')
{
	is(runs_of('direct', $statement), 0, "without SQL means without $statement ...");
	cmp_ok(runs_of('by_sql', $statement), '>', 0, 'which the other one ran');
}
cmp_ok(runs_of('direct', 'WITH picked AS MATERIALIZED'), '>', 0, 'and claiming is a statement in both');
like($ledger_direct, qr/"tags": \{"team": "x"\}.*"application_name": "shop"/, 'with what the job says of itself');
foreach my $outcome (qw(ok invalid refused truncated rate_limited error))
{
	like($ledger_direct, qr/"outcome": "$outcome"/, "one that is $outcome among them");
}
is($node->safe_psql('by_sql', q(SELECT count(*) FILTER (WHERE what = 'ledger INSERT') - (SELECT count(*) FROM llm.ledger),
	count(*) FILTER (WHERE what = 'queue UPDATE') > 0 FROM seen)), '0|t', 'triggers on our tables fire');
is($node->safe_psql('direct', 'SELECT count(*) FROM seen WHERE what <> \'queue DELETE\''), '0', 'and only those that are meant');
ledger_equals_meter($node, $provider, 'P3: ledger equals meter, written directly', db => 'direct', lane => 'direct');
ledger_equals_meter($node, $provider, 'P3: ledger equals meter, written by SQL', db => 'by_sql', lane => 'by_sql');

# ----------------------------------------------------------------------------
# What the sender keeps in mind
# ----------------------------------------------------------------------------

# Two more rows of the direct database, asked in a session of that name: the last one's row on the ledger.
sub ask_as
{
	my ($application) = @_;

	$node->safe_psql('direct', qq(
		SET application_name = '$application';
		UPDATE note SET label = llm_classify(body || ' $application', '{a,b}') WHERE id IN (30, 31);));
	wait_idle($node, 'direct');
	return $node->safe_psql('direct', q(SELECT application_name, job, cost = output_tokens FROM llm.ledger ORDER BY id DESC LIMIT 1));
}

my ($job) = ask_as('one') =~ /^one\|(\d+)\|f$/ or die 'the row on the ledger is of another job';
my $pid = worker('direct', 'sender');

$node->safe_psql('direct', q(SELECT llm.set_price('fast', input_per_mtok => 0, output_per_mtok => 1000000)));
my ($next) = ask_as('two') =~ /^two\|(\d+)\|t$/;
isnt($next, undef, 'P3: a new price is paid from then on');
$node->safe_psql('direct', "TRUNCATE llm.job; ALTER TABLE llm.job ALTER COLUMN id RESTART WITH $job");
is(ask_as('three'), "three|$job|t", 'P3: a job with the number of one that is gone is booked as itself');
is(worker('direct', 'sender'), $pid, 'and all that time there was one sender');

# ----------------------------------------------------------------------------
# A row that is not as it was claimed
# ----------------------------------------------------------------------------

# Somebody changes it by hand, and commits when the sender waits for him.
$provider->hold;
kill 'STOP', my $writer = worker('direct', 'writer');
$node->safe_psql('direct', "UPDATE note SET label = llm_classify(body || ' again', '{a,b}') WHERE id <= 2");
$node->poll_query_until('direct', q(SELECT count(*) = 2 FROM llm.queue WHERE state = 'claimed')) or die 'nothing was claimed';
my $hand = $node->background_psql('direct');
$hand->query_safe(q(BEGIN; UPDATE llm.queue SET message = 'touched' WHERE key->>'id' = '1'));
$provider->go_on;
$node->poll_query_until('direct', "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid") or die 'the sender waits for nobody';
$hand->query_safe('COMMIT');
$hand->quit;
$node->poll_query_until('direct', q(SELECT count(*) = 2 FROM llm.queue WHERE state = 'answered')) or die 'the row was not settled';
is($node->safe_psql('direct', q(SELECT string_agg(concat_ws(' ', key->>'id', message, answer IS NOT NULL, landed > 0), ', ' ORDER BY key->>'id')
	FROM llm.queue)), '1 touched t t, 2 t t', 'P2: it is settled as it is now');
cmp_ok(runs_of('direct', 'WITH settled AS (UPDATE llm.queue'), '>', 0, 'which takes SQL');
kill 'CONT', $writer;
wait_idle($node, 'direct');

# A key that an administrator may think of, by which no task is found alone.
$node->safe_psql('direct', 'ALTER TABLE llm.queue DROP CONSTRAINT queue_pkey, ADD PRIMARY KEY (job, id)');
$node->safe_psql('direct', "UPDATE note SET label = llm_classify(body || ' more', '{a,b}') WHERE id <= 2");
wait_idle($node, 'direct');
is($node->safe_psql('direct', q(SELECT count(*) FROM note WHERE id <= 2 AND llm_status(label) = 'done')), 2,
	'P2: with another key the queue is written by SQL');
$node->safe_psql('direct', 'ALTER TABLE llm.queue DROP CONSTRAINT queue_pkey, ADD PRIMARY KEY (id)');

# And sums are those of the rows as they were stored.
$node->safe_psql('by_sql', q(
	CREATE FUNCTION tax() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN NEW.cost = 7; RETURN CASE WHEN NEW.key->>'id' = '2' THEN NULL ELSE NEW END; END $$;
	CREATE TRIGGER tax BEFORE INSERT ON llm.ledger FOR EACH ROW EXECUTE FUNCTION tax();
	UPDATE note SET label = llm_classify(body || ' taxed', '{a,b}') WHERE id <= 3));
wait_idle($node, 'by_sql');
is($node->safe_psql('by_sql', 'SELECT requests, cost FROM llm.job_cost ORDER BY job DESC LIMIT 1'), '2|14',
	'P3: sums are those of the ledger, whatever a trigger made of it');

# ----------------------------------------------------------------------------
# While an answer waits for company
# ----------------------------------------------------------------------------

# Milliseconds of processor time that the sender takes for 400 rows, one after the other.
sub processor_time
{
	my ($run) = @_;
	my $clock = sub { return (split / /, slurp_file("/proc/$pid/schedstat"))[0] / 1e6 };
	my $before = $clock->();

	$node->safe_psql('direct', "UPDATE many SET label = llm_classify(body || ' in run $run', '{a,b}')");
	$node->poll_query_until('direct', 'SELECT count(*) < 2 FROM llm.queue') or die 'rows are left';
	my $used = $clock->() - $before;
	wait_idle($node, 'direct');
	return $used;
}

# Alone, an answer is stored at once; beside a request that takes long, it waits a millisecond for that one's.
SKIP:
{
	skip 'the system does not tell processor time to the microsecond', 1 unless -r "/proc/$$/schedstat";
	$node->safe_psql('direct', q(
		CREATE TABLE many (id int PRIMARY KEY, body text, label jsonb);
		INSERT INTO many SELECT i, 'text ' || i FROM generate_series(1, 400) i;
		ALTER SERVER sim OPTIONS (ADD max_concurrency '1');));
	my ($small, $large) = (0, 0);

	# other processes get in the way of a measurement now and then: two of three count
	for (my $run = 1; $small < 2 && $large < 2; $run++)
	{
		$node->safe_psql('direct', q(ALTER SERVER sim OPTIONS (SET max_concurrency '1')));
		my $alone = processor_time("$run alone");
		$node->safe_psql('direct', q(ALTER SERVER sim OPTIONS (SET max_concurrency '2')));
		$provider->script({ sequence => [ { match => "text 1 in run $run beside", action => 'ok', delay_ms => 6000 } ] }, 'direct');
		my $extra = processor_time("$run beside") - $alone;
		note "sender: $alone ms alone, $extra ms more beside a slow one";
		$extra < 250 ? $small++ : $large++;
	}
	is($small, 2, 'P10: the sender sleeps while an answer waits for company');
}

done_testing();
