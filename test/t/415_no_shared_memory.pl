# The operating system gives no more shared memory: a question waits for some, an answer that finds none is
# said to have found none, and those who are there afterwards are served (P4, P6).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

use LLMFault;
use LLMTest;

make_faults();

my $node = new_node('noshared', { start => 0 }, 'llm_enrich.keep_answers = 1d');
start_faulty($node);
$node->safe_psql('postgres', 'CREATE EXTENSION llm_enrich');
my $provider = start_provider();
setup_model($node, $provider);

# Answers that have no room in what there is of shared memory.
$provider->script({ answers => { long => 'x' x 3_000_000, huge => 'y' x 12_000_000 } });

# A session that goes on while the test does.
sub begin
{
	my $statement = shift;
	my %session = (in => '', out => '', err => '');

	$session{run} = IPC::Run::start([
			'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-d', $node->connstr('postgres'),
			'-c', "SET application_name = 'asks'", '-c', $statement
		],
		\@session{qw(in out err)}, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	return \%session;
}

# What it prints in the end, and its errors.
sub finish
{
	my $session = shift;

	$session->{run}->finish;
	return ($session->{out} =~ s/\n\z//r, $session->{err});
}

sub wait_asking
{
	wait_until(q(EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'asks'
		AND wait_event_type = 'Extension')), 'the session waits');
	return;
}

# ---------------------------------------------------------------------------
# For the question: larger than what there is from the start
# ---------------------------------------------------------------------------

wish(no_shared => 1);
my $session = begin(q(SELECT llm_complete(repeat('question one ', 100000))->>'text'));
wait_asking();
sql(q(SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'asks'));
my ($out, $err) = finish($session);
like($err, qr/ERROR:  57014: canceling statement/, 'P6: a question that waits for room can be cancelled');

$session = begin(q(SET llm_enrich.patience = '1s'; SELECT llm_complete(repeat('question ', 100000))));
($out, $err) = finish($session);
like($err, qr/ERROR:  53200: there was no shared memory for the question within \d+ s/,
	'P6: nor does it wait for ever');

$session = begin(q(SELECT llm_complete(repeat('question two ', 100000))->>'text'));
wait_asking();
wish(no_shared => 0);
($out, $err) = finish($session);
is($err, '', 'P6: without an error');
like($out, qr/\w/, 'P6: it is asked when there is room');

# ---------------------------------------------------------------------------
# For the answer
# ---------------------------------------------------------------------------

sub ask_long
{
	my $prompt = shift;

	$provider->hold;
	my $asking = begin(qq(SELECT llm_complete('$prompt')->>'text'));
	wait_until('EXISTS (SELECT FROM llm.letter)', 'the request is under way');
	wish(no_shared => 1);
	$provider->go_on;
	my (undef, $error) = finish($asking);
	wish(no_shared => 0);
	return $error;
}

like(ask_long('a long one'), qr/ERROR:  55000: llm_complete\(\) got no answer: there is no shared memory for the answer/,
	'an answer without room is said to have none');
my $sender = sql(q(SELECT pid FROM llm.health WHERE kind = 'sender'));
is(sql(q(SELECT llm_complete('a short one')->>'text' <> '')), 't', 'P6: the next question is answered');
my $before = $provider->meter->{requests};
is(sql(q(SELECT length(llm_complete('a long one')->>'text'))), 3_000_000, 'P4: the answer is kept');
is($provider->meter->{requests}, $before, 'P4: and not paid twice');

sql(q(SELECT llm.set_price('fast', input_per_mtok => 0.1 + 1e-1200, output_per_mtok => 1)));
like(ask_long('a huge one'), qr/there is no shared memory for the answer/, 'also where what it cost has a thousand digits');
is(sql(q(SELECT llm_complete('another short one')->>'text' <> '')), 't', 'P6: the next question is answered');
is(sql(q(SELECT pid FROM llm.health WHERE kind = 'sender')), $sender, 'by the same sender');

# ---------------------------------------------------------------------------
# For rows ahead
# ---------------------------------------------------------------------------

wish(no_shared => 1);
$session = begin(q(SELECT count(llm_complete(repeat('ahead ' || i || ' ', 1000000))) FROM generate_series(1, 3) i));
wait_asking();
wish(no_shared => 0);
($out, $err) = finish($session);
is($err, '', 'P6: nor is there one');
is($out, 3, 'P6: where rows are asked ahead');

ledger_equals_meter($node, $provider, 'P3: ledger and meter agree');

done_testing();
