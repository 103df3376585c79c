# Sessions whose provider hangs have as many questions under way as a sender holds, and more: the
# questions of others are taken all the same, and answered, and find memory for theirs (P6).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

use constant SESSIONS => 4;
use constant IN_FLIGHT => 1000;

my $provider = start_provider();
my $node = new_node('held', "llm_enrich.patience = '60s'");

setup_model($node, $provider);
setup_model($node, $provider, server => 'hanging', lane => 'hanging', alias => 'hangs', is_default => 0,
	options => { timeout => '600s', max_concurrency => 4 });
$provider->script({ hang => 1 }, 'hanging');

my @sessions = map {
	my %session = (in => '', out => '', err => '');

	$session{run} = IPC::Run::start([
			'psql', '-XAtq', '-d', $node->connstr('postgres'),
			'-c', "SET application_name = 'hangs'; SET llm_enrich.max_immediate_calls = 10000;"
				. 'SET llm_enrich.max_in_flight = ' . IN_FLIGHT,
			'-c', "SELECT count(llm_complete('session $_ row ' || i, model => 'hangs')) FROM generate_series(1, 5000) i"
		],
		\@session{qw(in out err)});
	\%session;
} 1 .. SESSIONS;

$node->poll_query_until('postgres', 'SELECT count(*) = ' . SESSIONS
		. q( FROM pg_stat_activity WHERE application_name = 'hangs' AND wait_event_type = 'Extension'))
  or die 'the sessions do not wait';
$node->poll_query_until('postgres', 'SELECT count(*) = 4 FROM llm.letter') or die 'no request hangs';

foreach my $number (1 .. 3)
{
	is($node->safe_psql('postgres', "SELECT llm_complete('Hello $number')->>'text' <> ''"), 't',
		"P6: another session is answered, $number");
}
is($node->safe_psql('postgres', q(SELECT count(llm_complete('Hello again ' || i)) FROM generate_series(1, 100) i)), 100,
	'P6: and where it asks about a hundred rows');
is($node->safe_psql('postgres', q(SELECT count(*) FROM pg_stat_activity WHERE application_name = 'hangs'
	AND wait_event_type = 'Extension')), SESSIONS, 'while the others wait');

$node->safe_psql('postgres', q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hangs'));
$_->{run}->finish foreach @sessions;
is($node->safe_psql('postgres', q(SELECT llm_complete('Hello at last')->>'text' <> '')), 't',
	'P6: when they have left, too');

# Four requests hang still, so nothing more is sent there: long questions fill the memory for letters, but for what is
# others'. So do those of sessions that have left, until their requests end.
my ($free_kb) = `df -Pk /dev/shm` =~ /^\S+\s+\d+\s+\d+\s+(\d+)/m;

SKIP:
{
	skip 'a small /dev/shm', 1 if ($free_kb // 0) < 1024 * 1024;

	$node->safe_psql('postgres', 'CREATE ROLE greedy LOGIN; GRANT USAGE ON FOREIGN SERVER hanging TO greedy');
	@sessions = map {
		my %session = (in => '', out => '', err => '');

		$session{run} = IPC::Run::start([
				'psql', '-XAtq', '-d', $node->connstr('postgres'), '-U', 'greedy',
				'-c', "SET application_name = 'greedy'",
				'-c', q(SELECT count(llm_complete(repeat(repeat('x', 1000), 2090) || i, model => 'hangs')) FROM generate_series(1, 64) i)
			],
			\@session{qw(in out err)});
		\%session;
	} 1 .. SESSIONS;
	$node->poll_query_until('postgres', 'SELECT count(*) = ' . SESSIONS
		. q( FROM pg_stat_activity WHERE application_name = 'greedy' AND wait_event_type = 'Extension'))
	  or die 'the sessions do not wait';
	is($node->safe_psql('postgres', q(SELECT llm_complete(repeat('Hello ', 2000000))->>'text' <> '')), 't',
		'P6: a long question of another role has room');
	$node->safe_psql('postgres', q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'greedy'));
	$_->{run}->finish foreach @sessions;
}

done_testing();
