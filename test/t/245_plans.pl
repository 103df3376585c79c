# Statements of ours are planned by index from the rows they are asked about, whatever
# statistics said when they were (P10: no work that grows with the backlog). They are planned
# here while the queue and the table are all but empty and analyzed as such, and then meet
# thousands of rows. Neither do settings of the planner matter, nor do ours reach a trigger.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

use constant ROWS => 4000;

# What one statement is asked about at the most is 500 rows.
use constant BOUND => 1000;

my $node = new_node('plans', 'max_connections = 20', 'autovacuum = off',
	q(shared_preload_libraries = 'llm_enrich,auto_explain'), 'auto_explain.log_min_duration = 0',
	'auto_explain.log_nested_statements = on', 'auto_explain.log_analyze = on',
	'auto_explain.log_timing = off', 'auto_explain.log_format = json', q(log_line_prefix = '%b: '),
	'enable_nestloop = off', 'enable_indexscan = off', 'enable_tidscan = off');
my $provider = start_provider();
setup_model($node, $provider, options => { max_concurrency => 200 });

# Statements of ours since an offset in the log: how many, and those that looked at more than they may. One over a
# whole job may look at each of its rows, a few times. All that a worker runs is ours; of what others run, the
# statements with arguments. What each node of a plan produced, or looked at and threw away, counts. A plan is written
# a line to a property, those of a node before those below it: to read it as JSON takes half a minute of a processor.
sub look_at_plans
{
	my ($offset, $whole) = @_;
	my ($seen, $is_worker, $text, @nodes, @bad) = (0);

	foreach my $line (split /\n/, slurp_file($node->logfile, $offset))
	{
		if ($line =~ /^(.*): LOG:  duration: [\d.]+ ms  plan:$/)
		{
			($is_worker, $text, @nodes) = (scalar($1 =~ /^llm_enrich/), '');
			next;
		}
		next if !defined $text;
		if ($line ne "\t}")
		{
			next unless $line =~ /^\t\s+"([\w ]+)": (.*?),?$/;
			my ($key, $value) = ($1, $2);

			$value =~ s/^"|"$//g;
			$text = $value if $key eq 'Query Text';
			push @nodes, {} if $key eq 'Node Type';
			$nodes[-1]{$key} = $value if @nodes;
			next;
		}
		die "no plan was read of: $text\n" if $text eq '' || !@nodes || grep { !defined $_->{'Actual Loops'} } @nodes;
		if ($is_worker || $text =~ /\$1/)
		{
			my $bound = defined $whole && $text =~ $whole ? 4 * ROWS : BOUND;

			$seen++;
			foreach my $n (@nodes)
			{
				my $rows = $n->{'Actual Rows'};

				$rows += $n->{"Rows Removed by $_"} // 0 foreach 'Filter', 'Join Filter', 'Index Recheck';
				$rows *= $n->{'Actual Loops'};
				push @bad, "$rows rows: $n->{'Node Type'} " . ($n->{'Index Name'} // $n->{'Relation Name'} // '') . ' in '
				  . substr $text, 0, 60 if $rows > $bound;
			}
		}
		undef $text;
	}
	return ($seen, @bad);
}

# Have every statement planned for next to nothing: the queue's indexes are as high as they were
# when it was long, and it is known to be empty.
$node->safe_psql('postgres', qq(
	CREATE TABLE past (id int PRIMARY KEY, body text, summary jsonb);
	INSERT INTO past SELECT i, 'Past ' || i FROM generate_series(1, @{[ROWS]}) i;
	UPDATE past SET summary = llm_summarize(body, 20);
	CREATE TABLE note (id int PRIMARY KEY, body text, summary jsonb);
	INSERT INTO note SELECT i, 'Note ' || i FROM generate_series(1, 10) i;
	VACUUM ANALYZE note;
	CREATE FUNCTION planned_as_ever() RETURNS trigger LANGUAGE plpgsql AS \$\$
	BEGIN
		IF current_setting('enable_seqscan') = 'off' OR current_setting('enable_nestloop') = 'on' THEN
			RAISE 'a trigger runs with settings of ours';
		END IF;
		RETURN NEW;
	END \$\$;
	CREATE TRIGGER look BEFORE UPDATE ON note FOR EACH ROW EXECUTE FUNCTION planned_as_ever();));
wait_idle($node);
$node->safe_psql('postgres', 'VACUUM ANALYZE llm.queue, llm.job, llm.job_cost, llm.ledger, llm.dead_letter');
foreach my $id (1 .. 8)
{
	$node->safe_psql('postgres', "UPDATE note SET summary = llm_summarize(body, 20) WHERE id = $id");
	wait_idle($node);
}

my $offset = -s $node->logfile;
$provider->script({ latency_ms => 20 });
# every second row asks what another one asks, too
$node->safe_psql('postgres', qq(
	INSERT INTO note SELECT i, 'Note ' || i - i % 2 FROM generate_series(101, 100 + @{[ROWS]}) i;
	UPDATE note SET summary = llm_summarize(body, 20) WHERE id BETWEEN 101 AND 100 + @{[ROWS / 2]};
	UPDATE note SET summary = llm_summarize(body, 20) WHERE id > 100 + @{[ROWS / 2]};
	CALL llm.wait(timeout => '3 minutes');));
wait_idle($node);
is($node->safe_psql('postgres', q(SELECT count(*) FROM note WHERE summary ? 'summary')), ROWS + 8, 'all are answered, and triggers are planned as ever');

my ($seen, @bad) = look_at_plans($offset);
cmp_ok($seen, '>', 50, 'statements were looked at');
is(scalar @bad, 0, 'P10: planned for an empty queue, no statement looks at more than it is asked about');
diag(join "\n", @bad) if @bad;

# the other way round: planned when all of the queue is one job's and ready
sending($node, 'off');
$node->safe_psql('postgres', qq(
	UPDATE note SET summary = llm_summarize(body || '!', 20) WHERE id > 100;
	VACUUM ANALYZE llm.queue;));
$offset = -s $node->logfile;
sending($node, 'on');
$node->safe_psql('postgres', q(UPDATE note SET summary = llm_summarize(body || '?', 20) WHERE id <= 8));
wait_idle($node);
($seen, @bad) = look_at_plans($offset);
cmp_ok($seen, '>', 50, 'statements were looked at');
is(scalar @bad, 0, 'P10: planned for a queue that is one long job, none does either');
diag(join "\n", @bad) if @bad;

# many answers at once that need no request, and many jobs that wait for the same reason
$offset = -s $node->logfile;
sending($node, 'off');
# autovacuum has just found the queue empty, and could not give back its pages: it seems to be empty for good
$node->safe_psql('postgres', q(
	UPDATE pg_class SET relpages = 20, reltuples = 0 WHERE oid = 'llm.queue'::regclass;
	UPDATE note SET summary = llm_summarize(body || '.', 20) WHERE id > 100;
	SET enable_nestloop = on;
	SET enable_indexscan = on;
	SELECT llm.cancel(job => llm.last_job());
	RESET enable_nestloop;
	RESET enable_indexscan;
	DO $$BEGIN
		FOR i IN 1 .. 64 LOOP
			EXECUTE pg_catalog.format('UPDATE note SET summary = llm_summarize(body, %s) WHERE id = %s', 20 + i, 100 + i);
		END LOOP;
	END$$;
	UPDATE llm.model SET server = 'none';));
sending($node, 'on');
ok($node->poll_query_until('postgres', q(SELECT count(*) = 64 FROM llm.job WHERE reason LIKE '%none%' AND state = 'open')),
	'the jobs say what they wait for');
$node->safe_psql('postgres', q(UPDATE llm.model SET server = 'sim'));
$node->reload;
wait_idle($node);
# the statement of llm.cancel is the one that is asked about a whole job
($seen, @bad) = look_at_plans($offset, qr/^WITH mine AS MATERIALIZED/);
cmp_ok($seen, '>', 50, 'statements were looked at');
is(scalar @bad, 0, 'P10: nor with a whole job cancelled and with many jobs that wait');
diag(join "\n", @bad) if @bad;

ledger_equals_meter($node, $provider, 'P3: ledger equals meter');

done_testing();
