# A column that pg_cron keeps filled, by the recipe of docs/operations.md: each run labels the rows
# that came since, and runs that overlap pending work or each other queue nothing twice.
#
# pg_cron's clock ticks once a minute; a job with the schedule @reboot runs when the
# server starts, so here a restart is a tick.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

chomp(my $sharedir = qx(pg_config --sharedir));
plan skip_all => 'the extension pg_cron is not installed (Debian: postgresql-15-cron)'
	unless -e "$sharedir/extension/pg_cron.control";

my ($recipe) = slurp_file("$FindBin::RealBin/../../docs/operations.md") =~ /^```sql[^\n]*\n(SELECT cron\.schedule\(.*?)^```$/ms
	or die 'docs/operations.md has no recipe for pg_cron';
my $provider = start_provider();
my $node = new_node('cron', { start => 0 }, "cron.database_name = 'postgres'");
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "'pg_cron,llm_enrich'");
$node->append_conf('postgresql.conf', "cron.host = '" . $node->host . "'");
$node->start;
$node->safe_psql('postgres', q(
	CREATE EXTENSION pg_cron;
	CREATE EXTENSION llm_enrich;
	CREATE TABLE tickets (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text, label jsonb)));
setup_model($node, $provider);

my $rows = 0;

sub new_tickets
{
	my $n = shift;

	$rows += $n;
	$node->safe_psql('postgres', "INSERT INTO tickets (body) SELECT 'billing question ' || i FROM generate_series(1, $n) i");
	return;
}

# Let all jobs run once; what they said, in the order of their names.
sub tick
{
	my $jobs = $node->safe_psql('postgres', 'TRUNCATE cron.job_run_details; SELECT count(*) FROM cron.job');

	$node->restart;
	$node->poll_query_until('postgres',
		"SELECT count(*) FILTER (WHERE status IN ('succeeded', 'failed')) = $jobs FROM cron.job_run_details")
		or die 'the jobs did not run: ' . $node->safe_psql('postgres', 'SELECT * FROM cron.job_run_details');
	return $node->safe_psql('postgres', q(
		SELECT string_agg(d.status || ' ' || d.return_message, ', ' ORDER BY j.jobname)
		FROM cron.job_run_details d JOIN cron.job j USING (jobid)));
}

# All tickets are labelled, each by one request.
sub all_labelled
{
	my $name = shift;

	wait_idle($node);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($node->safe_psql('postgres', q(SELECT count(*) FROM tickets WHERE label = '{"label": "billing"}' AND NOT label ? 'llm_enrich')),
		$rows, "$name: every ticket is labelled");
	is($provider->meter->{requests}, $rows, "$name: one request a ticket");
	return;
}

# A job beside the one of the recipe: the same statement, after what stands before it.
sub second_job
{
	my ($name, $before) = @_;

	$node->safe_psql('postgres', qq(
		SELECT cron.schedule('$name', '\@reboot', '$before' || command) FROM cron.job WHERE jobname = 'label tickets'));
	return;
}

sub unschedule
{
	my $name = shift;

	$node->safe_psql('postgres', "SELECT cron.unschedule('$name')");
	return;
}

# True as soon as cells are pending, in a snapshot of its own.
$node->safe_psql('postgres', q(
	CREATE FUNCTION wait_for_pending() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		WHILE NOT EXISTS (SELECT FROM tickets WHERE llm_is_pending(label)) LOOP
			PERFORM pg_sleep(0.01);
		END LOOP;
	END
	$$));

# Statements on tickets that have their snapshots wait here for a second one, not so the
# write-back. A sequence, since it is no matter of transactions.
$node->safe_psql('postgres', q(
	CREATE SEQUENCE met;
	CREATE FUNCTION meet() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM nextval('met');
		WHILE (SELECT last_value < 2 FROM met) LOOP
			PERFORM pg_sleep(0.01);
		END LOOP;
		RETURN NULL;
	END
	$$;
	CREATE TRIGGER meet BEFORE UPDATE ON tickets FOR EACH STATEMENT
		WHEN (current_setting('llm_enrich.writeback', true) IS DISTINCT FROM 'on') EXECUTE FUNCTION meet();
	ALTER TABLE tickets DISABLE TRIGGER meet));

$node->safe_psql('postgres', $recipe);
is($node->safe_psql('postgres', q(SELECT jobname, schedule FROM cron.job)), 'label tickets|* * * * *', 'the recipe is taken');
$node->safe_psql('postgres', q(SELECT cron.alter_job(jobid, schedule => '@reboot') FROM cron.job));

foreach my $workers ('off', 'on')
{
	my $mode = "cron.use_background_workers = $workers";

	$node->append_conf('postgresql.conf', $mode);

	new_tickets(3);
	is(tick(), 'succeeded UPDATE 3', "$mode: a run takes the rows without a label");
	all_labelled("$mode: first run");

	new_tickets(4);
	second_job('later', 'SELECT wait_for_pending(); ');
	$provider->hold;
	my $said = tick();
	$provider->go_on;
	is($said, 'succeeded UPDATE 4, succeeded UPDATE 0',
		"$mode: the next run takes those that came since, and a run while they are pending none");
	all_labelled("$mode: run over pending work");
	unschedule('later');

	new_tickets(5);
	second_job('twin', '');
	$node->safe_psql('postgres', 'ALTER TABLE tickets ENABLE TRIGGER meet; ALTER SEQUENCE met RESTART');
	is(join(', ', sort split /, /, tick()), 'succeeded UPDATE 0, succeeded UPDATE 5', "$mode: of two runs at once one takes them");
	all_labelled("$mode: two runs at once");
	unschedule('twin');
	$node->safe_psql('postgres', 'ALTER TABLE tickets DISABLE TRIGGER meet');
}
ledger_equals_meter($node, $provider, 'P3: ledger equals meter');

done_testing();
