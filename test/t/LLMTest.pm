# LLMTest.pm
#	  What the tests of this folder share: a server with the extension, the
#	  simulated provider, and the assertion that both count the same.
#
#	  my $node = new_node('main', 'llm_enrich.max_tries = 2');
#	  my $provider = start_provider();
#	  setup_model($node, $provider);
#	  $provider->script({ latency_ms => 50 });
#	  ...
#	  wait_idle($node);
#	  ledger_equals_meter($node, $provider, 'P3: every request is on the ledger');
#
# Servers and providers end with the test, however it ends.

package LLMTest;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

our @EXPORT =
  qw(new_node sql error_of wait_until crash_server start_provider setup_model sending wait_idle wait_claimed
	wait_forward wait_text stop_at_rest requests_at_once same_day ledger_equals_meter);

# The test's first server, which sql() and what follows it ask
my $first;

# A running server that preloads the extension, which is created in database
# postgres. Further arguments are lines of postgresql.conf, or one hash of
# options first: init => [...] for PostgreSQL::Test::Cluster's init(),
# extension => 0 to leave CREATE EXTENSION to the test, start => 0.
sub new_node
{
	my ($name, @conf) = @_;
	my %option = @conf && ref $conf[0] ? %{ shift @conf } : ();
	my $node = bless PostgreSQL::Test::Cluster->new($name), 'LLMTest::Node';

	$first //= $node;
	my $with = (grep { exists $option{$_} && !$option{$_} } qw(extension start)) ? 'plain' : 'extension';
	{
		# a copy, where tools/check has made one
		local $ENV{INITDB_TEMPLATE} = "$ENV{LLM_TEMPLATES}/$with" if exists $ENV{LLM_TEMPLATES};
		$node->init(@{ $option{init} // [] });
	}
	# the test framework turns restarts off, and here crashes are part of the matter
	$node->append_conf('postgresql.conf', join "\n", "shared_preload_libraries = 'llm_enrich'",
		'restart_after_crash = on', 'max_worker_processes = 16',
		# for states that are made by hand; 230_guard tries without
		'llm_enrich.allow_table_writes = on',
		# numbers of jobs; 188_notices has them on
		'llm_enrich.notices = off',
		# most tests count requests of questions that they ask again and again; 405_kept tries with
		'llm_enrich.keep_answers = 0', @conf, '');
	return $node if exists $option{start} && !$option{start};
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION IF NOT EXISTS llm_enrich') if $with eq 'extension';
	return $node;
}

# What statements print, in one psql; they have to succeed.
sub sql { return $first->safe_psql('postgres', join "\n", @_); }

# The error of statements, as SQLSTATE and text.
sub error_of
{
	my (undef, undef, $stderr) = $first->psql('postgres', join "\n", '\set VERBOSITY verbose', @_);

	return $stderr;
}

# Wait until a condition holds; what follows SELECT.
sub wait_until
{
	my ($condition, $what) = @_;

	$first->poll_query_until('postgres', "SELECT $condition") or die "did not come about: $what";
	return;
}

# Kill a process of a server, with -9 unless told otherwise, after which the postmaster ends all the others and begins
# again, and wait until it has; false if there was no such process. It is looked for with
# psql -c: poll_query_until() writes into a pipe that a psql refused during recovery does not
# read, and may die of that.
sub crash_server
{
	my ($node, $pid, $signal) = @_;
	my $query = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid)";

	kill $signal // 'KILL', $pid or return 0;
	foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		my ($back) = run_command([ 'psql', '-XAt', '-d', $node->connstr('postgres'), '-c', $query ]);

		return 1 if $back eq 't';
		usleep(100_000);
	}
	die 'the server did not come back';
}

# The simulated provider on a free port; arguments are its options.
sub start_provider
{
	return LLMTest::Provider->new(@_);
}

# Let a server and a model alias of the extension point to a provider.
#	  db, server, lane, alias, model, is_default, prices (per million tokens)
#	  options => { requests_per_minute => 60, ... } of the server
sub setup_model
{
	my ($node, $provider, %option) = @_;
	my %with = (
		db => 'postgres',
		server => 'sim',
		lane => 'default',
		alias => 'fast',
		model => 'sim-1',
		is_default => 1,
		prices => {},
		options => {},
		%option);
	my %price = (
		input_per_mtok => '0.25',
		cached_input_per_mtok => '0.025',
		cache_write_per_mtok => '0.3125',
		output_per_mtok => '2.00',
		%{ $with{prices} });
	my %server = (dialect => 'openai', base_url => $provider->base_url($with{lane}), %{ $with{options} });
	my $options = join ', ', map { "$_ " . quoted($server{$_}) } sort keys %server;
	my $prices = join ', ', map { "$_ => $price{$_}" } sort keys %price;
	my $known = $node->safe_psql($with{db}, 'SELECT 1 FROM pg_foreign_server WHERE srvname = ' . quoted($with{server}));

	$node->safe_psql($with{db}, "CREATE SERVER $with{server} FOREIGN DATA WRAPPER llm_enrich OPTIONS ($options)")
		unless $known;
	$node->safe_psql($with{db},
			'SELECT llm.add_model('
		  . quoted($with{alias})
		  . ', server => '
		  . quoted($with{server})
		  . ', model => '
		  . quoted($with{model})
		  . ', is_default => '
		  . ($with{is_default} ? 'true' : 'false')
		  . ", $prices)");
	return;
}

# Switch sending on, or off while nothing is on its way. A reload comes back before the processes have
# read anything, and nothing may be sent of what is queued next: a sender without tasks that has read it leaves.
sub sending
{
	my ($node, $on_or_off) = @_;

	$node->safe_psql('postgres', "ALTER SYSTEM SET llm_enrich.enabled = $on_or_off");
	$node->reload;
	return if $on_or_off eq 'on';
	$node->poll_query_until('postgres',
		q(SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'llm_enrich sender')))
	  or die 'the sender has not left';
	return;
}

# Wait until no task is on its way; dies, and says what is left, if that takes too long.
sub wait_idle
{
	my ($node, $db) = @_;
	$db //= 'postgres';

	return if $node->poll_query_until($db, 'SELECT NOT EXISTS (SELECT FROM llm.queue)');
	diag($node->safe_psql($db, 'SELECT state, reason, error, count(*) FROM llm.queue GROUP BY 1, 2, 3'));
	die 'tasks are left in llm.queue';
}

# Wait until all tasks that there are, or those of a job, are claimed, but for those that wait for the answer to another
# of them. With the provider held before they are queued they stay so until it goes on; a window grows all the same.
sub wait_claimed
{
	my ($node, $job) = @_;
	my $where = defined $job ? "WHERE job = $job" : '';

	return if $node->poll_query_until('postgres',
		"SELECT bool_or(state = 'claimed') AND bool_and(state = 'claimed' OR state = 'waiting' AND same_as IS NOT NULL) FROM llm.queue $where");
	diag($node->safe_psql('postgres', $_)) foreach 'SELECT job, state, reason, error, count(*) FROM llm.queue GROUP BY 1, 2, 3, 4',
	  'SELECT * FROM llm.health', q(SELECT * FROM pg_stat_activity WHERE backend_type LIKE 'llm_enrich%'), 'SELECT id, state, reason FROM llm.job';
	die 'not all tasks were claimed';
}

# Wait until what a query says matches a pattern; what it said last.
sub wait_text
{
	my ($node, $query, $pattern) = @_;
	my $text;

	foreach (1 .. 5 * $PostgreSQL::Test::Utils::timeout_default)
	{
		$text = $node->safe_psql('postgres', $query);
		last if $text =~ $pattern;
		usleep(200_000);
	}
	return $text;
}

# Stop a process of the server while it waits for something to do, outside of any transaction, and where a
# condition holds. One that is stopped elsewhere may hold what every session needs, so that each look has an end.
sub stop_at_rest
{
	my ($node, $pid, $condition) = @_;
	my $query = "SELECT xact_start IS NULL AND wait_event_type = 'Extension' AND " . ($condition // 'true')
	  . " FROM pg_stat_activity WHERE pid = $pid";

	foreach (1 .. 1000)
	{
		my ($rests, $late) = ('');

		kill 'STOP', $pid or die "could not stop process $pid: $!";
		$node->psql('postgres', $query, stdout => \$rests, timeout => 20, timed_out => \$late);
		return if !$late && defined $rests && $rests eq 't';
		kill 'CONT', $pid;
		usleep(10_000);
	}
	die "process $pid never rests";
}

# How many requests may have left to a server before the first of them was answered: one, but half a second
# without an answer lets more go, as a busy machine may take for an answer that comes at once.
sub requests_at_once
{
	my ($node, $server) = @_;
	my $ms = $node->safe_psql('postgres', 'SELECT COALESCE(max(latency_ms), 0) FROM llm.ledger WHERE server = ' . quoted($server));
	my $rounds = int(($ms + 250) / 500);

	return (1, 2, 4, 16, 64)[ $rounds > 4 ? 4 : $rounds ];
}

# Wait until a query says t, and set the server's clock a minute forward for each look at it: for what
# happens once a minute, or is put off. A server that crashes is back at the true time.
sub wait_forward
{
	my ($node, $query, $db) = @_;

	foreach (1 .. 5 * $PostgreSQL::Test::Utils::timeout_default)
	{
		my $answer = $node->safe_psql($db // 'postgres', qq(
			CREATE FUNCTION pg_temp.forward(float8) RETURNS timestamptz
				LANGUAGE C AS 'llm_enrich', 'llm_enrich_test_clock';
			$query;
			SELECT FROM pg_temp.forward(60)));

		return 1 if $answer =~ /^t$/m;
		usleep(200_000);
	}
	return 0;
}

# Single rows share a job for a day, in UTC: for a test that takes a minute at most, wait until
# the day has so much left.
sub same_day
{
	usleep(100_000) while time % 86_400 >= 86_400 - 60;
	return;
}

# Test that the ledger has as many requests as the provider received, and of the
# answers that came to us as many tokens as it billed.
#	  db, lane, server: the ledger's rows of that server only
sub ledger_equals_meter
{
	my ($node, $provider, $name, %option) = @_;
	my $meter = $provider->meter($option{lane});
	my $where = defined $option{server} ? 'WHERE server = ' . quoted($option{server}) : '';
	my @got = split /\|/, $node->safe_psql(
		$option{db} // 'postgres', qq(
		SELECT count(DISTINCT request),
			coalesce(sum(coalesce(input_tokens, 0) + coalesce(cached_tokens, 0) + coalesce(cache_write_tokens, 0))
				FILTER (WHERE NOT estimated), 0),
			coalesce(sum(output_tokens) FILTER (WHERE NOT estimated), 0)
		FROM llm.ledger $where));

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is_deeply(
		{ requests => $got[0] + 0, input => $got[1] + 0, output => $got[2] + 0 },
		{
			requests => $meter->{requests},
			input => $meter->{billed}{prompt_tokens},
			output => $meter->{billed}{completion_tokens}
		},
		$name // 'ledger equals meter');
}

sub quoted
{
	my $text = shift;

	$text =~ s/'/''/g;
	return "'$text'";
}

package LLMTest::Node;

# A server of PostgreSQL::Test::Cluster that waits for a query's result in one session, and not by a new psql for
# each look: that took a third of the processor on a small machine, and saw late what had come.

use strict;
use warnings;

use IPC::Run ();
use PostgreSQL::Test::Utils (); # its functions would hide methods of the same name
use Test::More ();
use Time::HiRes ();

our @ISA = ('PostgreSQL::Test::Cluster');

# One look: what psql prints of a query, and its errors; undef when the session is over.
sub look
{
	my ($session, $query) = @_;
	my $mark = 'look ' . ++$session->{looks};

	@{$session}{qw(out err)} = ('', '');
	$session->{in} .= ($query // '') . "\n;\n\\echo $mark\n\\warn $mark\n";
	eval {
		$session->{timeout}->start;
		$session->{run}->pump until $session->{out} =~ /^\Q$mark\E$/m && $session->{err} =~ /^\Q$mark\E$/m;
		1;
	} or return;
	return map { s/^\Q$mark\E\n\z//mr =~ s/\n\z//r } @{$session}{qw(out err)};
}

# Wait until a query gives what is expected, 't' unless told. The session is of this wait only, so that it holds up
# nothing later; where the server ends it, another begins.
sub poll_query_until
{
	my ($self, $db, $query, $expected) = @_;
	my ($session, $out, $err);
	my $until = Time::HiRes::time + $PostgreSQL::Test::Utils::timeout_default;
	my $pause = 20_000; # microseconds, and more after each look: many files wait at a time

	$expected = 't' unless defined $expected;
	local %ENV = $self->_get_env();
	local $SIG{PIPE} = 'IGNORE';
	while (1)
	{
		my $is_last = Time::HiRes::time > $until;

		if (!defined $session)
		{
			$session = { in => '', out => '', err => '', timeout => IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default) };
			$session->{run} = eval {
				IPC::Run::start([ $self->installed_command('psql'), '-XAt', '-d', $self->connstr($db) ],
					'<', \$session->{in}, '>', \$session->{out}, '2>', \$session->{err}, $session->{timeout});
			};
		}
		($out, $err) = look($session, $query) if defined $session->{run};
		last if defined $out && $out eq $expected && $err eq '';
		if (!defined $out)
		{
			$err = $session->{err};
			eval { $session->{run}->kill_kill(grace => 1) } if defined $session->{run};
			undef $session;
		}
		if ($is_last)
		{
			Test::More::diag("poll_query_until timed out executing this query:\n$query\nexpecting this output:\n$expected\n"
				  . "last actual query output:\n" . ($out // '') . "\nwith stderr:\n" . ($err // ''));
			last;
		}
		Time::HiRes::usleep($pause);
		$pause = 200_000 if ($pause *= 1.25) > 200_000;
	}
	if (defined $session)
	{
		$session->{in} .= "\\q\n";
		eval { $session->{timeout}->start; $session->{run}->finish; 1 } or eval { $session->{run}->kill_kill };
	}
	return defined $out && $out eq $expected && $err eq '';
}

package LLMTest::Provider;

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use HTTP::Tiny;
use JSON::PP;
use POSIX ();
use PostgreSQL::Test::Utils;
use Time::HiRes qw(sleep);

my $json = JSON::PP->new->utf8->canonical->allow_nonref;
my %running;
my $number = 0;

sub new
{
	my ($class, @options) = @_;
	my $program = $ENV{LLM_PROVIDER} // abs_path(dirname(__FILE__) . '/../provider/llm-provider');
	my $file = PostgreSQL::Test::Utils::tempdir() . '/port';
	my $self = bless { number => ++$number, options => [@options] }, $class;

	die "there is no simulated provider: run make -C test/provider\n" unless defined $program && -x $program;
	pipe(my $reader, my $writer) or die "could not make a pipe: $!";
	my $pid = fork() // die "could not fork: $!";
	if ($pid == 0)
	{
		open(STDIN, '<&', $reader) or POSIX::_exit(1);
		close $writer;
		exec { $program } $program, '--port', 0, '--port-file', $file, '--exit-with-stdin', @options
			or POSIX::_exit(1);
	}
	close $reader;
	@{$self}{qw(pid stdin)} = ($pid, $writer);
	$running{ $self->{number} } = $self;
	foreach (1 .. 9000)
	{
		last if -s $file;
		sleep 0.02;
	}
	chomp(my $port = -s $file ? PostgreSQL::Test::Utils::slurp_file($file) : '');
	die "the simulated provider did not start\n" unless $port =~ /^\d+$/;
	$self->{port} = $port;
	return $self;
}

sub port { return $_[0]->{port}; }

# What the option base_url of a server wants. Lanes are counted and scripted apart.
sub base_url
{
	my ($self, $lane) = @_;

	return "http://127.0.0.1:$self->{port}/x/" . ($lane // 'default') . '/v1';
}

sub ask
{
	my ($self, $method, $path, $lane, $content, %query) = @_;
	$query{lane} = $lane if defined $lane;
	my $query = join '&', map { "$_=$query{$_}" } sort keys %query;
	my $url = "http://127.0.0.1:$self->{port}$path" . ($query ne '' ? "?$query" : '');
	my $answer = HTTP::Tiny->new(timeout => 30, max_redirect => 0)
		->request($method, $url, defined $content ? { content => $json->encode($content) } : {});

	die "$method $path: $answer->{status} $answer->{content}\n" unless $answer->{success};
	return $answer->{content};
}

# Tell a lane how to behave from now on.
sub script
{
	my ($self, $script, $lane) = @_;

	$self->ask('POST', '/script', $lane // 'default', $script);
	return;
}

# Forget scripts and counts, of one lane or of all.
sub reset
{
	my ($self, $lane) = @_;

	$self->ask('POST', '/reset', $lane);
	return;
}

# What a lane counted, as a hash.
sub meter
{
	my ($self, $lane) = @_;

	return $json->decode($self->ask('GET', '/meter', $lane // 'default'));
}

# How often each text [[mark:TEXT]] in a prompt was asked, as a hash.
sub marks
{
	my ($self, $lane, %query) = @_;

	return $json->decode($self->ask('GET', '/meter/marks', $lane // 'default', undef, %query));
}

# The last requests, as a list of hashes.
sub log
{
	my ($self, $lane, %query) = @_;

	return @{ $json->decode($self->ask('GET', '/meter/log', $lane // 'default', undef, %query)) };
}

# Requests of the log as text, one JSON object to a line: up to limit of them whose
# numbers are above since.
sub requests
{
	my ($self, $lane, %query) = @_;

	return $self->ask('GET', '/meter/requests', $lane // 'default', undef, %query);
}

# The body of the last request as it was sent, byte for byte.
sub last_body
{
	my ($self, $lane) = @_;

	return $self->ask('GET', '/meter/last-body', $lane // 'default');
}

# Wait until so many requests of a lane have come and are not answered.
sub wait_in_flight
{
	my ($self, $requests, $lane) = @_;

	foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return if $self->meter($lane)->{in_flight} >= $requests;
		sleep 0.1;
	}
	die "there are no $requests requests in flight\n";
}

# It reads nothing and answers nothing until go_on(): requests reach its machine and stay in flight, for as
# long as a test needs. Neither script() nor meter() or log() in between.
sub hold
{
	my $self = shift;

	kill 'STOP', $self->{pid} or die "could not stop the provider: $!";
	waitpid($self->{pid}, POSIX::WUNTRACED());
	return;
}

sub go_on
{
	my $self = shift;

	kill 'CONT', $self->{pid} or die "could not continue the provider: $!";
	return;
}

# End the provider, as if its machine had gone.
sub stop
{
	my $self = shift;

	return unless defined delete $running{ $self->{number} };
	local $?;
	close $self->{stdin};
	foreach (1 .. 50)
	{
		return if waitpid($self->{pid}, POSIX::WNOHANG()) != 0;
		kill 'KILL', $self->{pid} if $_ == 25;
		sleep 0.1;
	}
	return;
}

END
{
	$_->stop foreach values %running;
}

1;
