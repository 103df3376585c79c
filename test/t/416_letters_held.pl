# Sessions whose provider hangs have as many questions under way as a sender holds, and more: the
# questions of others are taken all the same, and answered, and find memory for theirs (P6).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

use LLMTest;

use constant SESSIONS => 4;
use constant IN_FLIGHT => 1000;

my $provider = start_provider();
my $node = new_node('held', "llm_enrich.patience = '60s'", 'llm_enrich.immediate_memory = 16MB', 'llm_enrich.max_tries = 1');

setup_model($node, $provider);
setup_model($node, $provider, server => 'hanging', lane => 'hanging', alias => 'hangs', is_default => 0,
	options => { timeout => '600s', max_concurrency => 4 });
$provider->script({ hang => 1 }, 'hanging');

# A session that goes on while the test does.
sub begin
{
	my ($name, $statement) = @_;
	my %session = (in => '', out => '', err => '');

	$session{run} = IPC::Run::start([
			'psql', '-XAtq', '-d', $node->connstr('postgres'),
			'-c', "SET application_name = '$name'; SET llm_enrich.max_immediate_calls = 10000;"
				. 'SET llm_enrich.max_in_flight = ' . IN_FLIGHT,
			'-c', $statement
		],
		\@session{qw(in out err)}, IPC::Run::timeout(4 * $PostgreSQL::Test::Utils::timeout_default));
	return \%session;
}

# Until so many of the name wait for an answer, or for room.
sub wait_waiting
{
	my ($n, $name) = @_;

	$node->poll_query_until('postgres', "SELECT count(*) = $n"
			. " FROM pg_stat_activity WHERE application_name = '$name' AND wait_event_type = 'Extension'")
	  or die 'the sessions do not wait';
	return;
}

sub end_all
{
	$node->safe_psql('postgres', q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hangs'));
	$_->{run}->finish foreach @_;
	return;
}

# A question that has room, and has none with the answer whose check has failed: the call's own error is what is told.
$provider->script({ answers => { long => 'x' x 100_000 } });
my $checked = q(SELECT llm_complete(repeat('long ', %d), checks => ARRAY['false']));
my $err;
$node->psql('postgres', sprintf($checked, 1_000_000), stderr => \$err);
my ($has, $most) = $err =~ /a question of (\d+) bytes.*it may have (\d+) bytes/s or die $err;
$node->psql('postgres', sprintf($checked, 1_000_000 - ($has - $most) / 5 - 1000), stderr => \$err);
like($err, qr/check_failed/, 'P10: what has no room beside its answer ends with its own error');
unlike($err, qr/too long/, 'and no other');
ok($node->poll_query_until('postgres', 'SELECT sum(dropped_cost) = (SELECT sum(cost) FROM llm.ledger) FROM llm.ended_sum'),
	'P3: and its answer counts as wasted');
$provider->script({});

my @sessions = map {
	begin('hangs', "SELECT count(llm_complete('session $_ row ' || i, model => 'hangs')) FROM generate_series(1, 5000) i")
} 1 .. SESSIONS;

wait_waiting(SESSIONS, 'hangs');
$node->poll_query_until('postgres', 'SELECT count(*) = 4 FROM llm.letter') or die 'no request hangs';

foreach my $number (1 .. 3)
{
	is($node->safe_psql('postgres', "SELECT llm_complete('Hello $number')->>'text' <> ''"), 't',
		"P6: another session is answered, $number");
}
is($node->safe_psql('postgres', q(SELECT count(llm_complete('Hello again ' || i)) FROM generate_series(1, 100) i)), 100,
	'P6: and where it asks about a hundred rows');

# What a session waits for is not behind what it has asked ahead.
my $both = begin('hangs', q(SET llm_enrich.patience = 0; SELECT CASE WHEN
	llm_complete('first ' || i, model => CASE WHEN i = 1 THEN 'fast' ELSE 'hangs' END)->>'text' <> ''
	THEN llm_complete('[[mark:then-' || i || ']]')->>'text' END FROM generate_series(1, 1000) i));
foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
{
	last if $provider->marks->{'then-1'} || !$both->{run}->pumpable;
	$both->{run}->pump_nb;
	usleep(100_000);
}
is($provider->marks->{'then-1'}, 1, 'P6: a question that depends on an answer is asked, whatever hangs of its session');
is($both->{err}, '', 'P6: and nobody says that the sender did not take it');
is($node->safe_psql('postgres', q(SELECT count(*) FROM pg_stat_activity WHERE application_name = 'hangs'
	AND wait_event_type = 'Extension')), SESSIONS + 1, 'while the others wait');

end_all(@sessions, $both);
is($node->safe_psql('postgres', q(SELECT llm_complete('Hello at last')->>'text' <> '')), 't',
	'P6: when they have left, too');

# Long questions that are asked ahead: what they leave of the memory is for what is waited for, and for its answers.
$provider->script({ answers => { long => 'x' x 100_000 } });
@sessions = map {
	begin('hangs', "SELECT count(llm_complete('session $_ row ' || i || repeat(' long', 4000), model => 'hangs')) FROM generate_series(1, 1000) i")
} 1 .. SESSIONS;
wait_waiting(SESSIONS, 'hangs');
is($node->safe_psql('postgres', q(SELECT length(llm_complete('a long answer')->>'text'))), 100_000,
	'P6: an answer has room beside what is asked ahead');
is($node->safe_psql('postgres', q(SELECT length(llm_complete(repeat('a long question ', 100000))->>'text'))), 100_000,
	'P6: so has a question that is waited for');
$node->psql('postgres', q(SELECT llm_complete(repeat('a long question ', 300000))), stderr => \$err);
like($err, qr/a question of \d+ bytes is too long.*HINT:  Raise "llm_enrich.immediate_memory"/s,
	'P10: one that may never have room is refused');

# More than a model has room for.
my @long = map { begin('hangs', qq(SELECT llm_complete(repeat('a long question ', 18000$_), model => 'hangs'))) } 1 .. 5;
wait_waiting(SESSIONS + 5, 'hangs');
like(wait_text($node, q(SELECT problem FROM llm.health WHERE subject = 'llm_enrich.immediate_memory'), qr/./),
	qr/^\d sessions? waits? for memory for a question, until less is under way$/,
	'P6: a question without room waits, and llm.health says for what');
$node->psql('postgres', q(SET statement_timeout = '100ms';
	SELECT llm_complete(repeat('a long question ', 180000), model => 'hangs')), stderr => \$err);
like($err, qr/canceling statement due to statement timeout/, 'P6: within statement_timeout');
end_all(@sessions, @long);
is($node->safe_psql('postgres', q(SELECT length(llm_complete(repeat('a long question ', 180000))->>'text'))), 100_000,
	'P6: there is room when the others have left');

# Four requests hang still, so nothing more is sent there: long questions fill the memory for letters, but for what is
# others'. So do those of sessions that have left, until their requests end.
$node->safe_psql('postgres', 'CREATE ROLE greedy LOGIN; GRANT USAGE ON FOREIGN SERVER hanging TO greedy');
@sessions = map {
	my %session = (in => '', out => '', err => '');

	$session{run} = IPC::Run::start([
			'psql', '-XAtq', '-d', $node->connstr('postgres'), '-U', 'greedy',
			'-c', "SET application_name = 'greedy'",
			'-c', q(SELECT count(llm_complete(repeat(repeat('x', 1000), 60) || i, model => 'hangs')) FROM generate_series(1, 200) i)
		],
		\@session{qw(in out err)});
	\%session;
} 1 .. SESSIONS;
wait_waiting(SESSIONS, 'greedy');
is($node->safe_psql('postgres', q(SELECT llm_complete(repeat('Hello ', 400000))->>'text' <> '')), 't',
	'P6: a long question of another role has room');
$node->safe_psql('postgres', q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'greedy'));
$_->{run}->finish foreach @sessions;

done_testing();
