# A table whose trigger takes long, beside a normal one: the normal one is as fast as alone,
# and the other one gets its share of the writer's time (P6).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use List::Util qw(max min);
use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

my $node = new_node('slow');
my $provider = start_provider();
setup_model($node, $provider);
$provider->script({ latency_ms => 20 });

sub enrich
{
	my ($table, $where) = @_;

	return sql("UPDATE $table SET label = llm_classify(body, '{billing,bug}') WHERE", $where // 'true', '; SELECT llm.last_job()');
}

sub written
{
	my $job = shift;

	return sql("SELECT done FROM llm.job WHERE id = $job");
}

# A job runs to its end; milliseconds that it took.
sub finish
{
	my $job = shift;

	sql("CALL llm.wait(job => $job, timeout => '2 minutes')");
	return sql("SELECT (1000 * extract(epoch FROM finished_at - created_at))::int FROM llm.job WHERE id = $job");
}

sub put_off
{
	return scalar(() = slurp_file($node->logfile) =~ /write-back to \S+ was put off/g);
}

my $sleeps = q(EXISTS (SELECT FROM pg_stat_activity
	WHERE backend_type = 'llm_enrich writer' AND wait_event = 'PgSleep'));

# The trigger takes as many seconds as are set for its table, and notices when that changes.
sql(q(CREATE TABLE pace (name text PRIMARY KEY, seconds float8);
	CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$
	DECLARE
		start timestamptz := clock_timestamp();
	BEGIN
		WHILE clock_timestamp() < start + (SELECT make_interval(secs => seconds) FROM pace WHERE name = TG_TABLE_NAME)
		LOOP
			PERFORM pg_sleep(0.02);
		END LOOP;
		RETURN NEW;
	END $$;
	CREATE TABLE normal (id int PRIMARY KEY, body text, label jsonb);
	INSERT INTO normal SELECT i, 'The invoice is wrong ' || i FROM generate_series(1, 60000) i;));
foreach my $table (qw(sleepy steady lonely stubborn common))
{
	sql("CREATE TABLE $table (id int PRIMARY KEY, body text, label jsonb); INSERT INTO pace VALUES ('$table', 0);
		INSERT INTO $table SELECT i, 'The invoice of $table is wrong ' || i FROM generate_series(1, 200) i;
		CREATE TRIGGER dawdle BEFORE UPDATE ON $table FOR EACH ROW
			WHEN (NEW.label ? 'label') EXECUTE FUNCTION dawdle();");
}

sub set_pace
{
	my ($table, $seconds) = @_;

	sql("UPDATE pace SET seconds = $seconds WHERE name = '$table'");
	return;
}

# Alone and beside it, in turn.
my (%rate, @sleepy);
foreach my $round (0 .. 2)
{
	my @ids = map { 'id BETWEEN ' . ($_ * 2000 + 1) . ' AND ' . ($_ * 2000 + 2000) } 2 * $round, 2 * $round + 1;

	push @{ $rate{alone} }, 2000 / finish(enrich('normal', $ids[0]));
	set_pace('sleepy', 10);
	push @sleepy, enrich('sleepy', "id % 20 = $round");
	wait_until($sleeps, 'a trigger sleeps');
	push @{ $rate{beside} }, 2000 / finish(enrich('normal', $ids[1]));
	is(written($sleepy[-1]), 0, 'the other trigger still slept') if $round == 0;
	set_pace('sleepy', 0);
	finish($sleepy[-1]);
}
note(map { sprintf '%s: %s rows/ms; ', $_, join ' ', map { sprintf '%.2f', $_ } @{ $rate{$_} } } sort keys %rate);
cmp_ok(max(@{ $rate{beside} }), '>=', 0.9 * max(@{ $rate{alone} }),
	'P6: beside a table whose trigger sleeps 10 s another one is written at the rate that it has alone');
is(sql(q(SELECT count(*) FROM sleepy WHERE label = '{"label": "billing"}')), 30, 'P4: what slept is written');
is(put_off(), 0, 'P6: what is stopped for others has not failed');

# A trigger that catches the cancel gets the next one.
sql(q(CREATE FUNCTION hang_on() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		WHILE (SELECT seconds > 0 FROM pace WHERE name = TG_TABLE_NAME) LOOP
			BEGIN
				PERFORM pg_sleep(0.2);
			EXCEPTION WHEN query_canceled THEN
				BEGIN PERFORM pg_sleep(0.2); EXCEPTION WHEN query_canceled THEN NULL; END;
			END;
		END LOOP;
		RETURN NEW;
	END $$;
	ALTER TABLE stubborn DISABLE TRIGGER dawdle;
	CREATE TRIGGER hang_on BEFORE UPDATE ON stubborn FOR EACH ROW WHEN (NEW.label ? 'label') EXECUTE FUNCTION hang_on();));
set_pace('stubborn', 1);
my $stubborn = enrich('stubborn', 'id = 1');
wait_until($sleeps, 'a trigger hangs on');
finish(enrich('normal', 'id <= 100'));
is(put_off(), 0, 'P6: a trigger that catches the cancel gives way to others');
is(written($stubborn), 0, 'which it would not do by itself');
set_pace('stubborn', 0);
finish($stubborn);
is(written($stubborn), 1, 'P4: and its row is written when it comes back');

# Nobody else has work: a row may take its time.
set_pace('sleepy', 1);
my $waiting = enrich('sleepy', 'id % 50 = 3');
finish($waiting);
is(written($waiting), 4, 'P6: rows whose trigger sleeps 1 s are written when others have no work');

# The jobs of one slow table take turns.
set_pace('common', 0.02);
my @common = map { enrich('common', $_) } 'id <= 180', 'id > 180';
wait_until("done = 20 FROM llm.job WHERE id = $common[1]", 'the second job is written');
is(sql("SELECT state FROM llm.job WHERE id = $common[0]"),
	'open', 'P6: a long job of a slow table does not hold up a short one of the same table');
set_pace('common', 0);
finish($common[0]);

# Others have work all the time.
set_pace('steady', 0.02);
set_pace('lonely', 0.4);
$provider->script({ latency_ms => 40 });
my $busy = enrich('normal');
wait_until("done > 0 FROM llm.job WHERE id = $busy", 'the normal table is written');
my %slow = (steady => enrich('steady'), lonely => enrich('lonely', 'id = 7'));
foreach my $count (20, 40, 60)
{
	wait_until("done >= $count FROM llm.job WHERE id = $slow{steady}", 'a slow table gets on');
}
is(sql("SELECT state FROM llm.job WHERE id = $busy"),
	'open', 'P6: a table whose trigger takes 20 ms a row gets on beside a busy one');
wait_until("done = 1 FROM llm.job WHERE id = $slow{lonely}", 'a row that needs more than a slice is written');
is(sql("SELECT state FROM llm.job WHERE id = $busy"), 'open', 'P6: and a row that takes 400 ms is not called off for ever');
sql("SELECT llm.cancel(job => $busy)");
finish($slow{steady});
is(written($slow{steady}), 200, 'P6: when others are done it is soon written');
is(put_off(), 0, 'P6: none of it has failed');
wait_idle($node);
is(sql('SELECT count(*) FROM llm.dead_letter'), 0, 'P4: no answer is lost');
is(sql(q(SELECT bool_and(total = done + failed + superseded + cancelled + row_gone) FROM llm.job)),
	't', 'P2: each task ended once');
ledger_equals_meter($node, $provider, 'P3: ledger equals meter');

done_testing();
