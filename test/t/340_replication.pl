# Two servers with the extension that replicate each other's tables: what one has asked
# for, the other never asks for again (P3), never mixes up with its own (P5), and gets as
# an ordinary update. A publication may have all tables, those of schema llm among them.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest qw(!sql);

my $provider = start_provider();
my @conf = ({ init => [ allows_streaming => 'logical' ], extension => 0 }, 'max_logical_replication_workers = 8', 'wal_retrieve_retry_interval = 100ms');
my $north = new_node('north', @conf);
my $south = new_node('south', @conf);
# not a copy of one that was made before: when it is created says where its task numbers begin
$_->safe_psql('postgres', 'CREATE EXTENSION llm_enrich') foreach $north, $south;

# Each has a lane of its own, so that the provider counts them apart.
setup_model($north, $provider, lane => 'north');
setup_model($south, $provider, lane => 'south');

sub sql
{
	my ($node, @statements) = @_;

	return $node->safe_psql('postgres', join "\n", @statements);
}

# Let one server have what the other publishes, and wait until both have the same.
sub subscribe
{
	my ($from, $to, $name, $what) = @_;
	my $source = $from->connstr('postgres') =~ s/'/''/gr;

	sql($from, "CREATE PUBLICATION $name $what");
	sql($to, "CREATE SUBSCRIPTION $name CONNECTION '$source' PUBLICATION $name");
	$to->wait_for_subscription_sync($from, $name);
	return;
}

sub requests { return $provider->meter($_[0])->{requests}; }

# Every row of our own tables, by table.
sub own_rows
{
	my $node = shift;
	my $tables = sql($node, q(SELECT string_agg(format('SELECT %L, count(*), md5(string_agg(t::text, %L ORDER BY t::text)) FROM %s t',
		c.relname, ',', c.oid::regclass), ' UNION ALL ') FROM pg_class c
		WHERE relnamespace = 'llm'::regnamespace AND relkind = 'r' AND relname NOT IN ('job')));

	return sql($node, "$tables ORDER BY 1");
}

# What was asked for before anybody subscribed, and what is still on its way then.
$provider->script({ latency_ms => 600_000 }, 'north');
foreach my $node ($north, $south)
{
	sql($node, q(CREATE TABLE ticket (id int PRIMARY KEY, body text, label jsonb);
		CREATE TABLE local_note (id int PRIMARY KEY, body text, note jsonb)));
}
sql($north, q(INSERT INTO ticket SELECT i, 'The invoice is wrong, billing failed ' || i FROM generate_series(1, 20) i;
	UPDATE ticket SET label = llm_classify(body, '{billing,bug}')));
$north->poll_query_until('postgres', q(SELECT count(*) = 20 FROM llm.queue WHERE state = 'claimed')) or die 'nothing is under way';
sql($south, q(INSERT INTO local_note VALUES (1, 'A bug in the editor', NULL);
	UPDATE local_note SET note = llm_classify(body, '{billing,bug}');
	CALL llm.wait()));
is(sql($south, q(SELECT note FROM local_note)), '{"label": "bug"}', 'the subscriber has work of its own');

$south->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM llm.ledger_unsummed)') or die 'the ledger was not summed';
my $before = own_rows($south);
subscribe($north, $south, 'everything', 'FOR ALL TABLES');
is(sql($south, q(SELECT count(*) FROM pg_subscription_rel WHERE srrelid = 'llm.queue'::regclass AND srsubstate IN ('r', 's'))), 1,
	'the queue is one of all tables');
is(sql($south, q(SELECT count(*) FROM ticket WHERE llm_is_pending(label))), 20, 'a subscriber gets cells with their markers');
is(own_rows($south), $before, 'and takes nothing into its own tables from the first copy');
is(sql($south, q(SELECT count(*) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
		WHERE relnamespace = 'llm'::regnamespace AND tgname = 'ignore_replicated' AND tgenabled = 'R')),
	sql($south, q(SELECT count(*) FROM pg_class WHERE relnamespace = 'llm'::regnamespace AND relkind = 'r')),
	'as none of the tables in schema llm does');

# Nothing is sent for them, whatever wakes the workers there, and the answers come.
$provider->script({ latency_ms => 1 }, 'north');
sql($north, q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'llm_enrich sender'));
wait_idle($north);
sql($north, q(UPDATE ticket SET label = llm_classify(body, '{calm,angry}') WHERE id <= 5;
	CALL llm.wait();
	INSERT INTO ticket VALUES (21, 'A bug', llm_classify('A bug', '{billing,bug}'));
	CALL llm.wait();
	SELECT llm.set_price('fast', input_per_mtok => 1, output_per_mtok => 2)));
sql($south, q(UPDATE local_note SET note = llm_classify('The invoice is wrong', '{billing,bug}');
	CALL llm.wait()));
$north->wait_for_catchup('everything');
is(sql($south, 'SELECT * FROM ticket ORDER BY id'), sql($north, 'SELECT * FROM ticket ORDER BY id'), 'the answers come as they are');
is(sql($south, 'SELECT count(*) FROM ticket WHERE label IS NULL OR label ? \'llm_enrich\''), 0, 'all of them');
is(requests('south'), 2, 'P3: the subscriber has sent its own work only');
is(sql($south, 'SELECT count(*), count(DISTINCT relation) FROM llm.ledger'), '2|1', 'P3: and its ledger is its own');
ledger_equals_meter($_->[0], $provider, 'P3: ledger equals meter', lane => $_->[1]) foreach [ $north, 'north' ], [ $south, 'south' ];
is(sql($south, q(SELECT count(*), sum(done) FROM llm.job)), '1|2', 'so are its jobs');

# Retention there takes nothing away here.
sql($north, 'DELETE FROM llm.ledger; DELETE FROM llm.job');
$north->wait_for_catchup('everything');
is(sql($south, 'SELECT (SELECT count(*) FROM llm.ledger), (SELECT count(*) FROM llm.job)'), '2|1',
	'what the publisher deletes of its own is not deleted here');

# Numbers have nothing in common, so that a marker means one task only.
is(sql($south, q(SELECT last_value FROM llm.task_id)) <=> sql($north, q(SELECT last_value FROM llm.task_id)), 1,
	'P5: task numbers begin later where the extension was created later');

# The subscriber's own statement about a replicated row; the publisher's next change wins.
$provider->hold;
my $job = sql($south, q(UPDATE ticket SET label = llm_classify(body, '{short,long}') WHERE id <= 4; SELECT llm.last_job()));
sql($north, q(UPDATE ticket SET label = '{"label": "by hand"}' WHERE id = 1));
$north->wait_for_catchup('everything');
$provider->go_on;
sql($south, "CALL llm.wait(job => $job, timeout => '1 minute')");
is(sql($south, "SELECT done, superseded FROM llm.job WHERE id = $job"), '3|1', 'the subscriber may ask about replicated rows, too');
is(sql($south, q(SELECT label FROM ticket WHERE id = 1)), '{"label": "by hand"}', 'P5: and never writes over what came meanwhile');

# A trigger of the subscriber that asks when a row comes is a statement of the subscriber.
sql($south, q(CREATE FUNCTION ask() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.local_note VALUES (NEW.id, NEW.body, public.llm_classify(NEW.body, '{billing,bug}'));
		RETURN NULL;
	END $$;
	CREATE TRIGGER ask AFTER INSERT ON ticket FOR EACH ROW EXECUTE FUNCTION ask();
	ALTER TABLE ticket ENABLE ALWAYS TRIGGER ask));
sql($north, q(INSERT INTO ticket VALUES (22, 'The invoice is wrong', NULL)));
$north->wait_for_catchup('everything');
wait_idle($south);
is(sql($south, 'SELECT note FROM local_note WHERE id = 22'), '{"label": "billing"}', 'a trigger may ask about what is being applied');

# The other way round at the same time.
sql($_, 'CREATE TABLE back (id int PRIMARY KEY, body text, label jsonb)') foreach $north, $south;
subscribe($south, $north, 'back', 'FOR TABLE back');
my %sent = map { $_ => requests($_) } qw(north south);
sql($south, q(INSERT INTO back SELECT i, 'A bug ' || i FROM generate_series(1, 30) i;
	UPDATE back SET label = llm_classify(body, '{billing,bug}');
	CALL llm.wait()));
$south->wait_for_catchup('back');
is(sql($north, q(SELECT count(*) FROM back WHERE label = '{"label": "bug"}')), 30, 'the publisher of one table may be the subscriber of another');
is(requests('north'), $sent{north}, 'P3: it sends nothing for it');
is(requests('south'), $sent{south} + 30, 'P3: the other asked once for each row');
ledger_equals_meter($south, $provider, 'P3: ledger equals meter', lane => 'south');
foreach my $node ($north, $south)
{
	is(sql($node, 'SELECT count(*) FROM llm.queue'), 0, 'P2: no task is left');
	unlike(slurp_file($node->logfile), qr/duplicate key|ERROR:  (?!canceling|terminating)/, 'and nothing stood in the way of replication');
}

# Restoring data with triggers disabled leaves them enabled for everybody.
sql($south, q(ALTER TABLE llm.queue DISABLE TRIGGER ALL; ALTER TABLE llm.queue ENABLE TRIGGER ALL;
	UPDATE local_note SET note = llm_classify('A bug', '{billing,bug}') WHERE id = 1;
	CALL llm.wait()));
is(sql($south, 'SELECT note FROM local_note WHERE id = 1'), '{"label": "bug"}', 'P2: even then no task of our own is lost');

done_testing();
