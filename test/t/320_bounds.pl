# Memory does not grow with the backlog, nor with what a provider sends (P10): an answer
# of 200 MB, a million queued tasks. LLM_TEST_SCALE tasks are queued, 200,000 unless it is set.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

use constant FEW => 1_000;
use constant ANSWERED => 900;
use constant MB => 1024;

my $many = $ENV{LLM_TEST_SCALE} // 200_000;

plan skip_all => 'there is no /proc/PID/smaps_rollup' unless -r "/proc/$$/smaps_rollup";

my $node = new_node('bounds', 'max_wal_size = 4GB', 'shared_buffers = 256MB', 'autovacuum = off');
my $provider = start_provider();
setup_model($node, $provider, options => { max_concurrency => 4 });

# Memory of the sender's own, in kB: what it has allocated, not the buffers that it has looked at.
sub memory
{
	my $pid = sql(q(SELECT pid FROM llm.health WHERE kind = 'sender'));

	return (slurp_file("/proc/$pid/smaps_rollup") =~ /^Anonymous:\s+(\d+) kB/m)[0];
}

# The most that a worker ever had, buffers included.
sub peak
{
	my ($kind) = @_;
	my $pid = sql("SELECT pid FROM llm.health WHERE kind = '$kind'");

	return (slurp_file("/proc/$pid/status") =~ /^VmHWM:\s+(\d+) kB/m)[0];
}

# ---------------------------------------------------------------------------
# A large answer
# ---------------------------------------------------------------------------

sql(q(
	CREATE TABLE note (id int PRIMARY KEY, body text NOT NULL, label jsonb);
	INSERT INTO note SELECT i, 'billing ' || i FROM generate_series(1, 100) i;
	UPDATE note SET label = llm_classify(body, '{billing,bug}')));
wait_idle($node);
my $before = peak('sender');
$provider->script({ oversized => 1, oversized_bytes => 200_000_000 });
my $job = sql(q(UPDATE note SET label = llm_classify(body, '{billing,bug,other}') WHERE id = 1; SELECT llm.last_job()));
sql("CALL llm.wait(job => $job, timeout => '1 min')");
is(sql("SELECT reason FROM llm.dead_letter WHERE job = $job"), 'too_large', 'P10: an answer of 200 MB is too large');
cmp_ok(peak('sender') - $before, '<', 24 * MB, 'P10: and never was in memory: the sender grew by less than 24 MB at most');
is(sql("SELECT count(*) FROM llm.ledger WHERE job = $job"), $provider->meter->{requests} - 100, 'P3: each of its requests is on the ledger');

# ---------------------------------------------------------------------------
# Large answers that are small where they are stored
# ---------------------------------------------------------------------------

$provider->reset;
$job = sql(q(
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
		IF llm_is_pending(OLD.label) AND NOT llm_is_pending(NEW.label) THEN RAISE 'not now'; END IF;
		RETURN NEW;
	END$$;
	CREATE TRIGGER refuse BEFORE UPDATE ON note FOR EACH ROW EXECUTE FUNCTION refuse();
	UPDATE note SET label = llm_classify(body, '{billing,bug,feature}') WHERE id <= 19;
	SELECT llm.last_job()));
wait_idle($node);
sql(q(
	DROP TRIGGER refuse ON note;
	UPDATE llm.dead_letter SET answer = pg_catalog.jsonb_build_object('label', repeat('x', 30000000)) WHERE answer IS NOT NULL;));
$before = peak('writer');
is(sql("SELECT llm.retry(job => $job)"), 19, 'answers that were refused are retried');
wait_idle($node);
is(sql(q(SELECT count(*) FROM note WHERE length(label->>'label') = 30000000)), 19, 'answers of 30 MB are written');
note('writer grew by ', peak('writer') - $before, ' kB');
cmp_ok(peak('writer') - $before, '<', 350 * MB, 'P10: not all of them are read at a time, which would be 570 MB');

# ---------------------------------------------------------------------------
# A large backlog
# ---------------------------------------------------------------------------

sub enabled
{
	sql("ALTER SYSTEM SET llm_enrich.enabled = $_[0]");
	$node->reload;
	return;
}

# Queue so many tasks while nothing is sent; let it send until some are answered; its memory then.
sub memory_with
{
	my $rows = shift;

	enabled('off');
	sql(qq(
		DROP TABLE IF EXISTS ticket;
		CREATE TABLE ticket (id int PRIMARY KEY, body text NOT NULL, label jsonb);
		INSERT INTO ticket SELECT i, 'bug' || i FROM generate_series(1, $rows) i;));
	# a sender of its own, which has seen nothing else
	sql(q(SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE backend_type = 'llm_enrich sender'));
	sql('TRUNCATE llm.ledger');
	my $job = sql(q(UPDATE ticket SET label = llm_classify(body, '{billing,bug}'); SELECT llm.last_job()));
	is(sql("SELECT count(*) FROM llm.queue WHERE job = $job"), $rows, "$rows tasks are queued");
	enabled('on');
	wait_until('(SELECT count(*) FROM llm.ledger) >= ' . ANSWERED, 'some are answered');
	return memory();
}

$provider->reset;
$provider->script({ latency_ms => 2 });
my $few = memory_with(FEW);
my $most = memory_with($many);
note("memory of the sender: $few kB with @{[FEW]} tasks, $most kB with $many");
cmp_ok(abs($most - $few), '<=', $few / 5, "P10: with $many tasks queued the sender has within a fifth of the memory that it has with @{[FEW]}");

done_testing();
