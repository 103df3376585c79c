# Networks that people have, with real servers on loopback: https with a private authority, a client
# certificate, a proxy with CONNECT and a password, IPv6. What is wrong names the option (P10), costs nothing
# (P3), and neither the key nor the proxy's password shows anywhere (P9).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use IO::Socket::INET;
use PostgreSQL::Test::Cluster;
use Test::More;
use Time::HiRes qw(sleep);

use LLMTest;

plan skip_all => 'python3 or openssl is not installed' unless -x '/usr/bin/python3' && -x '/usr/bin/openssl';

use constant {
	KEY => 'network-key-0123456789abcdef',
	PASSWORD => 'proxy-password-0123456789',
};

my $node = new_node('networks');
my $provider = start_provider('--key', KEY);
my $dir = PostgreSQL::Test::Utils::tempdir();
my @stdins;
my @pids;

sub openssl
{
	system(qq(cd '$dir' && openssl $_[0] >>openssl.log 2>&1)) == 0 or die "openssl $_[0] failed";
	return;
}

# Run a program that ends with its standard input and writes its port to a file; the port.
sub start
{
	my ($name, @command) = @_;

	pipe(my $reader, my $writer) or die "could not make a pipe: $!";
	my $pid = fork() // die "could not fork: $!";
	if ($pid == 0)
	{
		open(STDIN, '<&', $reader) or POSIX::_exit(1);
		close $writer;
		exec @command or POSIX::_exit(1);
	}
	close $reader;
	push @stdins, $writer;
	push @pids, $pid;
	return unless defined $name;
	for (1 .. 9000)
	{
		last if -s "$dir/$name.port";
		sleep 0.02;
	}
	chomp(my $port = PostgreSQL::Test::Utils::slurp_file("$dir/$name.port"));
	return $port;
}

sub relay
{
	my ($name, @options) = @_;

	return start($name, '/usr/bin/python3', "$FindBin::RealBin/../hosts/relay", "$dir/$name.port", $provider->port, @options);
}

# A server with these options and a model, both of that name; and one row that asks it.
sub server
{
	my ($name, $options) = @_;

	sql(qq(CREATE SERVER $name FOREIGN DATA WRAPPER llm_enrich
			OPTIONS (dialect 'openai', api_key_file '$dir/key', timeout '20s', $options);
		SELECT llm.add_model('$name', server => '$name', model => '$name', input_per_mtok => 1, output_per_mtok => 2);
		INSERT INTO q (via, body, label) SELECT '$name', b, llm_classify(b, '{bug,billing}', model => '$name')
		FROM (VALUES ('the bill is wrong')) v(b)));
	return;
}

sub done
{
	my ($name, $what) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok($node->poll_query_until('postgres', "SELECT label ? 'label' FROM q WHERE via = '$name'"), $what);
}

# It waits, and health says what to type; nothing was spent.
sub waits
{
	my ($name, $hint, $what) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->poll_query_until('postgres', qq(SELECT EXISTS (SELECT FROM llm.health WHERE kind = 'problem' AND subject = 'model "$name"')));
	like(sql(qq(SELECT hint FROM llm.health WHERE kind = 'problem' AND subject = 'model "$name"')), $hint, $what);
	is(sql(qq(SELECT coalesce(sum(cost), 0), count(*) FILTER (WHERE outcome <> 'error') FROM llm.ledger WHERE server = '$name')),
		'0|0', "$what: nothing is spent");
	return;
}

# ---------------------------------------------------------------------------
# Certificates
# ---------------------------------------------------------------------------

append_to_file("$dir/key", KEY . "\n");
append_to_file("$dir/password", PASSWORD . "\n");
append_to_file("$dir/wrong", "wrong-password\n");
append_to_file("$dir/host.ext", "subjectAltName = IP:127.0.0.1\n");
foreach my $ca (qw(ca other))
{
	openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=$ca -keyout $ca.key -out $ca.pem");
}
foreach my $who (qw(host client))
{
	openssl("req -newkey rsa:2048 -nodes -subj /CN=$who -keyout $who.key -out $who.csr");
	openssl("x509 -req -in $who.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out $who.pem"
		  . ($who eq 'host' ? ' -extfile host.ext' : ''));
}
sql('CREATE TABLE q (via text PRIMARY KEY, body text, label jsonb)');

my $tls = relay('tls', '--cert', "$dir/host.pem", '--key', "$dir/host.key");
my $url = "https://127.0.0.1:$tls/x/default/v1";

server('private', "base_url '$url'");
waits('private', qr/ALTER SERVER private OPTIONS \(ADD ca_file/, 'an authority that is not known');
sql("ALTER SERVER private OPTIONS (ADD ca_file '$dir/other.pem')");
waits('private', qr/OPTIONS \((?:ADD|SET) ca_file/, 'a wrong authority');
sql("ALTER SERVER private OPTIONS (SET ca_file '$dir/ca.pem')");
done('private', 'https with a private authority');

my $mutual = relay('mutual', '--cert', "$dir/host.pem", '--key', "$dir/host.key", '--client-ca', "$dir/ca.pem");
server('mutual', "base_url 'https://127.0.0.1:$mutual/x/default/v1', ca_file '$dir/ca.pem'");
waits('mutual', qr/ALTER SERVER mutual OPTIONS \(ADD client_cert_file/, 'no client certificate');
sql("ALTER SERVER mutual OPTIONS (ADD client_cert_file '$dir/client.pem', ADD client_key_file '$dir/client.key')");
done('mutual', 'https with a client certificate');

server('nofile', "base_url '$url', ca_file '$dir/nowhere.pem'");
waits('nofile', qr/must exist, be PEM, and be readable/, 'a file that is not there');

# ---------------------------------------------------------------------------
# IPv6, and the key in other places
# ---------------------------------------------------------------------------

SKIP:
{
	skip 'there is no IPv6 here', 1 unless -e '/proc/net/if_inet6';
	my $six = relay('six', '--ipv6');

	server('six', "base_url 'http://[::1]:$six/x/default/v1'");
	done('six', 'IPv6');
}
server('places', "base_url '$url', ca_file '$dir/ca.pem', key_header 'api-key: %s', headers '{\"X-Also\": \"Bearer %s\"}', query 'and=%s'");
done('places', 'the key in a header of another name, in one more, and in the query');

# ---------------------------------------------------------------------------
# A proxy with CONNECT and a password
# ---------------------------------------------------------------------------

SKIP:
{
	my ($program) = grep { -x } qw(/usr/bin/tinyproxy /usr/sbin/tinyproxy);

	skip 'tinyproxy is not installed', 6 unless defined $program;
	my $port = PostgreSQL::Test::Cluster::get_free_port();

	append_to_file("$dir/proxy.conf", join '',
		map { "$_\n" } "Port $port", 'Listen 127.0.0.1', 'Timeout 60', "LogFile \"$dir/proxy.log\"", 'LogLevel Connect',
		'Allow 127.0.0.1', 'BasicAuth enrich ' . PASSWORD, "ConnectPort $tls");
	start(undef, $program, '-d', '-c', "$dir/proxy.conf");
	for (1 .. 200)
	{
		last if IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port);
		sleep 0.05;
	}
	server('proxied',
		"base_url '$url', ca_file '$dir/ca.pem', proxy 'http://enrich\@127.0.0.1:$port', proxy_password_file '$dir/wrong'");
	waits('proxied', qr/proxy_password_file/, 'a wrong password');
	sql("ALTER SERVER proxied OPTIONS (SET proxy_password_file '$dir/password')");
	done('proxied', 'through a proxy with a password');
	like(PostgreSQL::Test::Utils::slurp_file("$dir/proxy.log"), qr/CONNECT 127\.0\.0\.1:$tls/, 'by CONNECT');
}

# ---------------------------------------------------------------------------
# P9: neither the key nor the password anywhere
# ---------------------------------------------------------------------------

my ($everything) = run_command([ 'pg_dump', '-d', $node->connstr('postgres') ]);
my $seen = join "\n", $everything, PostgreSQL::Test::Utils::slurp_file($node->logfile),
  map { sql("SELECT v::text FROM $_ v") }
  (qw(llm.health llm.ledger llm.job llm.queue llm.dead_letter llm.habit llm.progress),
  qw(pg_foreign_server pg_user_mappings pg_stat_activity));
foreach my $secret (KEY, PASSWORD, 'wrong-password')
{
	unlike($seen, qr/\Q$secret\E/, "$secret is in no log, view, catalog or dump");
}

close $_ foreach @stdins;
kill 'TERM', @pids;
waitpid $_, 0 foreach @pids;
done_testing();
