# What a transaction did to servers, models and rights holds for the rows that it queued (P9).
# PostgreSQL shows a commit's rows a moment before it tells other processes of the catalogs that
# it changed; a sender that sees the rows by then sends none of them by what was in force before.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

use constant BUFFERS => 128;

# PostgreSQL's look for deadlocks wakes the waiting session: not here
my $node = new_node(
	'commit',
	'deadlock_timeout = 10min',
	'max_prepared_transactions = 2',
	'shared_buffers = ' . 8 * BUFFERS . 'kB');
my $provider = start_provider();
my $file = $node->data_dir . '/linger';

setup_model($node, $provider);
setup_model($node, $provider, server => 'other', lane => 'other', alias => 'other', is_default => 0);
sql("CREATE FUNCTION linger(path text) RETURNS void LANGUAGE C AS 'llm_enrich', 'llm_enrich_test_linger';
	CREATE ROLE clerk LOGIN; GRANT USAGE ON FOREIGN SERVER sim, other TO clerk;
	CREATE TABLE t (id int PRIMARY KEY, body text, label jsonb);
	GRANT SELECT, UPDATE ON t TO clerk;
	INSERT INTO t SELECT i, 'The invoice is wrong ' || i FROM generate_series(1, 100) i");

# A statement of the clerk, in a transaction of a superuser.
sub of_clerk
{
	my ($ids) = @_;

	return "SET LOCAL ROLE clerk; UPDATE t SET label = llm_classify(body, '{billing,bug}') WHERE id IN ($ids); RESET ROLE;";
}

# Requests that have reached the old server and the new one.
sub requests { return join ' ', map { $provider->meter($_)->{requests} } qw(default other); }

# A commit that begins, is seen and does not end. Meanwhile another row wakes the sender: it has to wait for word of
# what has changed. One more wakes it while it waits.
sub meanwhile
{
	my ($other_row, $begin, $end) = @_;
	my $late_row = $other_row + 1;
	my $before = sql('SELECT count(*) FROM llm.queue');

	$begin->();
	$node->poll_query_until('postgres', "SELECT count(*) > $before FROM llm.queue") or die 'the rows are not seen';
	sql("UPDATE t SET label = llm_classify(body, '{bug,other}') WHERE id = $other_row");

	local $Test::Builder::Level = $Test::Builder::Level + 2;
	ok($node->poll_query_until('postgres', q(SELECT count(*) = 1 FROM pg_stat_activity
			WHERE backend_type = 'llm_enrich sender' AND wait_event = 'transactionid')),
		'the sender waits until word of the change was sent');
	sql("UPDATE t SET label = llm_classify(body, '{bug,late$late_row}') WHERE id = $late_row");
	my $began = time;
	$end->();
	$node->poll_query_until('postgres', "SELECT label ? 'label' FROM t WHERE id = $_") or die "row $_ waits"
		foreach $other_row, $late_row;
	cmp_ok(time - $began, '<', 30, 'who came while it waited does not lie until the sweep of each minute');
	return;
}

# Rows and change in one transaction.
sub meanwhile_committed
{
	my ($rows, $change, $other_row) = @_;
	my $session = $node->background_psql('postgres');

	append_to_file($file, "\n");
	$session->query_safe("BEGIN; SELECT linger('$file'); $rows $change");
	meanwhile(
		$other_row,
		sub {
			$session->{stdin} .= "COMMIT;\n";
			$session->{run}->pump_nb;
		},
		sub { unlink $file or die "$file: $!"; });
	$session->quit;
	return;
}

# The same prepared. Nobody is called at its commit, but the checkpointer is told of files that are gone, between
# the rows and the word of the change: stopped, it takes as many as there are shared buffers.
sub meanwhile_prepared
{
	my ($rows, $change, $other_row) = @_;
	my $session = $node->background_psql('postgres');
	my $checkpointer = sql(q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'));

	sql(map { "CREATE TABLE gone_$_ ();" } 1 .. 2 * BUFFERS);
	sql("BEGIN; $rows $change DROP TABLE", join(', ', map { "gone_$_" } 1 .. 2 * BUFFERS), q(; PREPARE TRANSACTION 'later'));
	kill 'STOP', $checkpointer or die $!;
	meanwhile(
		$other_row,
		sub {
			$session->{stdin} .= "COMMIT PREPARED 'later';\n";
			$session->{run}->pump_nb;
		},
		sub { kill 'CONT', $checkpointer or die $!; });
	$session->quit;
	return;
}

my $revoke = 'REVOKE USAGE ON FOREIGN SERVER sim FROM clerk;';

# The clerk's rows wait; and are answered when GRANT lets them.
sub refused_until_granted
{
	my ($requests_before, $requests_after, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($node->poll_query_until('postgres', q(SELECT count(*) = 1 FROM llm.job WHERE reason LIKE '%"clerk" may not use server "sim"%')),
		"P9: $name: who lost USAGE waits, and is told why");
	is(requests(), $requests_before, "P9: $name: nothing was sent but the rows of another role");
	sql('GRANT USAGE ON FOREIGN SERVER sim TO clerk');
	wait_idle($node);
	is(requests(), $requests_after, "$name: GRANT fixes it");
	return;
}

# The sender has a route for the clerk, and no cause to look for another one.
sql('BEGIN;', of_clerk('1, 2'), 'COMMIT');
wait_idle($node);
is(requests(), '2 0', 'two rows are answered');

meanwhile_committed(of_clerk('5, 6'), '', 7);
wait_idle($node);
is(requests(), '6 0', 'rows of a commit without a change are sent when it is through');

meanwhile_committed(of_clerk('11, 12'), $revoke, 13);
refused_until_granted('8 0', '10 0', 'two rows');

# A single row joins the job of the day, which the sender may have in mind already.
sql('BEGIN;', of_clerk('20'), 'COMMIT');
wait_idle($node);
meanwhile_committed(of_clerk('21'), $revoke, 23);
refused_until_granted('13 0', '14 0', 'a single row');

# Queued in a savepoint: its own number holds no lock by the time the rows are seen.
meanwhile_committed('SAVEPOINT a; ' . of_clerk('31, 32') . ' RELEASE a;', $revoke, 33);
refused_until_granted('16 0', '18 0', 'rows of a savepoint');

meanwhile_prepared(of_clerk('51, 52'), $revoke, 53);
refused_until_granted('20 0', '22 0', 'prepared rows');

# The model goes to another server: neither words nor money go to the old one.
meanwhile_committed(of_clerk('41, 42'), q(SELECT llm.alter_model('fast', server => 'other');), 43);
wait_idle($node);
is(requests(), '22 4', 'rows go where the model leads since their own transaction');
is(sql(q(SELECT count(*) FROM t WHERE label ? 'label')), 26, 'every cell has its answer');
ledger_equals_meter($node, $provider, 'P3: ledger equals meter', server => 'sim');
ledger_equals_meter($node, $provider, 'P3: of the new server, too', server => 'other', lane => 'other');

done_testing();
