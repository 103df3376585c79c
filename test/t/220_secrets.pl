# Keys (P9): wherever one could have got to, it is searched for. The key of a file is known
# to the sender alone, also when a provider sends it back; it is changed without a restart.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

# None looks like a key of any provider, so that no rule about looks can find it.
my %key = (
	file => 'Vq7-first/0f3b91',
	next => 'Vq7-second/77aa02',
	env => 'Wz3-variable-55e1',
	map => 'Xk9-mapping-1b2c');
my $key_file = PostgreSQL::Test::Utils::tempdir() . '/provider.key';

sub write_key
{
	my $value = shift;

	open my $file, '>', $key_file or die "$key_file: $!";
	print $file "$value\n";
	close $file;
	return;
}

write_key($key{file});
$ENV{LLM_TEST_KEY} = $key{env};
my $node = new_node('secrets', { extension => 0 }, "shared_preload_libraries = 'llm_enrich, pg_stat_statements'",
	'log_statement = all', 'log_min_messages = debug5', 'log_min_error_statement = debug5', 'log_duration = on',
	'pg_stat_statements.track = all', 'llm_enrich.max_tries = 1', 'shared_buffers = 4MB', 'max_connections = 20');
delete $ENV{LLM_TEST_KEY};
$node->safe_psql('postgres', 'CREATE EXTENSION llm_enrich; CREATE EXTENSION pg_stat_statements');
my $provider = start_provider();
setup_model($node, $provider, server => $_, lane => $_, alias => $_, is_default => 0) foreach qw(file env map);

# A key typed into SQL is as visible as a password that is: typed where nobody looks.
sub map_key
{
	my $statement = shift;

	$node->safe_psql('postgres', "SET log_min_messages = panic; SET log_statement = none; SET log_duration = off;
		SET pg_stat_statements.track = none; $statement");
	return;
}

sub enrich
{
	my ($table, $model, $call) = @_;

	$call //= "llm_classify(body, '{billing,bug}', model => '$model')";
	return sql("UPDATE $table SET label = $call; SELECT llm.last_job()");
}

sub outcome
{
	my $job = shift;

	sql("CALL llm.wait(job => $job, timeout => '3 minutes')");
	return sql("SELECT format('done %s failed %s', done, failed) FROM llm.job WHERE id = $job");
}

# An error of the provider in which the key stands: plain, as JSON may escape it, and in parts.
sub echo
{
	my ($status, $value, $code) = @_;
	my $escaped = $value =~ s{/}{\\/}gr;

	return { action => 'status', status => $status, times => 1,
		body => qq({"error":{"message":"Incorrect key: $value, or $escaped, of 'Bearer $value'","type":"$value","code":"$code","param":"$value"}}) };
}

my %seen; # place => text
my %of; # server => key now

sub take
{
	my ($place, $text) = @_;

	$seen{$place} .= "$text\n";
	return;
}

sub psql_take
{
	my ($place, $statement) = @_;
	my ($rc, $out, $err) = $node->psql('postgres', $statement);

	take($place, "$out\n$err");
	return $rc;
}

sql("ALTER SERVER file OPTIONS (ADD api_key_file '$key_file'); ALTER SERVER env OPTIONS (ADD api_key_env 'LLM_TEST_KEY')");
map_key("CREATE USER MAPPING FOR PUBLIC SERVER map OPTIONS (api_key '$key{map}')");
%of = map { $_ => $key{$_} } qw(file env map);
sql('CREATE TABLE t (id int PRIMARY KEY, body text, label jsonb);',
	"INSERT INTO t SELECT i, 'The invoice is wrong ' || i FROM generate_series(1, 5) i;",
	'CREATE TABLE two AS SELECT * FROM t LIMIT 2; ALTER TABLE two ADD PRIMARY KEY (id);',
	'CREATE TABLE one AS SELECT * FROM t LIMIT 1; ALTER TABLE one ADD PRIMARY KEY (id)');

# Each kind of key goes out, and whatever the provider does with it does not come in again.
foreach my $lane (qw(file env map))
{
	my $value = $of{$lane};

	$provider->script({ key => $value, latency_ms => 100 }, $lane);
	is(outcome(enrich('t', $lane)), 'done 5 failed 0', "the provider got the key of the $lane");
	my $job = enrich('t', $lane);
	psql_take('pg_stat_activity', 'SELECT * FROM pg_stat_activity');
	outcome($job);

	$provider->script({ sequence => [ echo(401, $value, 'invalid_api_key') ] }, $lane);
	psql_take('llm.check', "SELECT llm.check('$lane')");
	psql_take('llm.health', 'SELECT * FROM llm.health');
	like($seen{'llm.check'}, qr/Incorrect key: \*+, or \*+, of 'Bearer \*+'/, "P9: the key of the $lane is blacked out in what llm.check() says");
	my @refusals = map { echo(400, $value, 'invalid_request') } 1 .. 2;

	$provider->script({ sequence => [ echo(500, $value, 'server_error'), @refusals ] }, $lane);
	$job = enrich('two', $lane);
	sql('SELECT pg_reload_conf()'); # ends the pause that a refused key began
	is(outcome($job), 'done 0 failed 2', 'requests are refused, with the key in the message');
	$provider->script({ answers => { invoice => "no JSON but $value" } }, $lane);
	is(outcome(enrich('two', $lane)), 'done 0 failed 2', 'answers are at fault, with the key in it');
	$provider->script({ answers => { invoice => "your key is $value" } }, $lane);
	is(outcome(enrich('two', $lane, "llm_complete(body, model => '$lane')")), 'done 2 failed 0', 'answers are fine, with the key in it');
	is(sql('SELECT DISTINCT label FROM two'), '{"text": "your key is ' . '*' x length($value) . '"}', 'P9: which does not get into the cell');
	$provider->script({ key => $value }, $lane);
}
like(sql('SELECT string_agg(last_answer, $$,$$) FROM llm.dead_letter'), qr/no JSON but \*+/, 'P9: nor into llm.dead_letter');

is(sql(q(SELECT count(*) FROM llm.ledger WHERE request_id !~ '^req_[0-9a-f]{32}$')), 0,
	"a provider's ids of requests are not taken for keys");

# A key is changed: nothing is lost, and the next request has the new one.
$provider->script({ latency_ms => 2000, key => $key{file} }, 'file');
my $job = enrich('one', 'file');
$provider->wait_in_flight(1, 'file');
$provider->hold;
write_key($key{next});
sql('SELECT pg_reload_conf()');
$provider->go_on;
is(outcome($job), 'done 1 failed 0', 'a request in flight at a reload is not lost');
$provider->script({ key => $key{next} }, 'file');
is(outcome(enrich('t', 'file')), 'done 5 failed 0', 'the next request has the new key of the file');
write_key('not-the-key-any-more');
sql('SELECT pg_reload_conf()');
$job = enrich('t', 'file');
ok($node->poll_query_until('postgres', "SELECT reason IS NOT NULL FROM llm.job WHERE id = $job"), 'a wrong key makes tasks wait');
unlink $key_file;
sql('SELECT pg_reload_conf()');
ok($node->poll_query_until('postgres', "SELECT reason LIKE 'could not read key file%' FROM llm.job WHERE id = $job"), 'a missing one, too');
write_key($key{next});
sql('SELECT pg_reload_conf()');
is(outcome($job), 'done 5 failed 0', 'and a right one fixes it');
map_key("ALTER USER MAPPING FOR PUBLIC SERVER map OPTIONS (SET api_key '$key{map}-2')");
$provider->script({ key => "$key{map}-2" }, 'map');
is(outcome(enrich('t', 'map')), 'done 5 failed 0', 'the key of a user mapping is in force at once');

# Only the sender has ever seen the key of a file.
sub memory_has
{
	my ($pid, $text) = @_;
	my $tail = '';

	no warnings 'portable'; # addresses have 64 bits
	open my $maps, '<', "/proc/$pid/maps" or return;
	open my $memory, '<:raw', "/proc/$pid/mem" or return;
	while (my $line = <$maps>)
	{
		my ($from, $to) = $line =~ /^([0-9a-f]+)-([0-9a-f]+) r/ or next;

		next if $line =~ /\[(vvar|vsyscall)/ || !sysseek($memory, hex $from, 0);
		for (my $left = hex($to) - hex($from); $left > 0;)
		{
			my $got = sysread($memory, my $bytes, $left < 1 << 20 ? $left : 1 << 20);

			last unless $got;
			return 1 if index($tail . $bytes, $text) >= 0;
			$tail = substr $bytes, -length $text;
			$left -= $got;
		}
		$tail = '';
	}
	return 0;
}

SKIP:
{
	my $client = $node->background_psql('postgres');
	$client->query_safe('UPDATE t SET label = llm_classify(body, \'{a,b}\', model => \'file\') WHERE id = 1');
	$client->query_safe('CALL llm.wait()');
	my %pid = map { reverse split /\|/ } split /\n/, sql("SELECT pid, backend_type || ' ' || pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()");
	my ($sender) = map { $pid{$_} } grep { /^llm_enrich sender/ } keys %pid;
	my $finds = memory_has($sender, $key{next});

	skip 'the memory of other processes cannot be read here', 2 unless defined $finds;
	ok($finds, 'the memory of the sender holds the key of the file');
	is(join(', ', grep { $pid{$_} != $sender && (memory_has($pid{$_}, $key{next}) || memory_has($pid{$_}, $key{file})) } sort keys %pid), '',
		'P9: that of no other process does');
	$client->quit;
}

# Everywhere else.
psql_take($_, "SELECT * FROM $_")
	foreach split /\n/, sql(q(SELECT c.oid::regclass::text FROM pg_class c WHERE relnamespace = 'llm'::regnamespace AND relkind IN ('r', 'v')
		UNION ALL SELECT unnest('{pg_stat_statements,pg_foreign_server,pg_settings,pg_file_settings,pg_stat_activity,t,two}'::text[])));
psql_take('pg_user_mappings of others', "CREATE ROLE nosy; SET ROLE nosy; SELECT * FROM pg_user_mappings");
$node->run_log([ 'pg_dumpall', '--no-sync', '-f', "$PostgreSQL::Test::Utils::tmp_check/dump.sql", '-d', $node->connstr('postgres') ]);
take('pg_dumpall', slurp_file("$PostgreSQL::Test::Utils::tmp_check/dump.sql"));
cmp_ok(length $seen{pg_dumpall}, '>', 1000, 'there is a dump to search');
$node->stop;
# at this level PostgreSQL itself writes its environment into the log when it starts: a message each, or a line
take('server log', slurp_file($node->logfile) =~ s/^(?:.*DEBUG: )?\s+LLM_TEST_KEY=\S+$//mr);
like($seen{'server log'}, qr/DEBUG:  /, 'there is a log full of debug output to search');
cmp_ok(scalar(keys %seen), '>', 15, 'and many other places');

my $typed = "OPTIONS (\n    api_key '$key{map}-2'\n)";
$seen{pg_dumpall} =~ s/\Q$typed\E//; # a superuser's dump has what was typed into SQL
is(join(', ', grep { my $place = $_; grep { index($seen{$place}, $_) >= 0 } values %key } sort keys %seen), '',
	'P9: no key is in any table, view, message, dump, statistics or the log');

# All files of the server: tables, indexes, write-ahead log, statistics, temporary files.
my @found;
foreach my $file (split /\n/, `find @{[ $node->data_dir ]} -type f`)
{
	my $bytes = slurp_file($file);

	push @found, $file if grep { index($bytes, $key{$_}) >= 0 } qw(file next env);
}
is("@found", '', 'P9: the keys of file and environment are in no file of the server');

done_testing();
