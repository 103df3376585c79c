# Files that the operating system lets a process open: what they bound is said, they suffice for the work, and none is
# left open when requests to many addresses are over (P10).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

use LLMTest;

use constant LIMIT => 220;
use constant HOSTS => 6;

plan skip_all => 'there is no prlimit, or no /proc'
	if !-r "/proc/$$/fd" || system("prlimit --pid $$ --nofile >/dev/null 2>&1") != 0;

my @providers = map { start_provider() } 1 .. HOSTS;
my $node = new_node('descriptors', { start => 0 }, 'max_files_per_process = 120', 'llm_enrich.max_connections = 1000',
	'llm_enrich.idle_timeout = 1h');

# of this process, and so of the server; the hard one, too
system("prlimit --pid $$ --nofile=@{[LIMIT]}:@{[LIMIT]}") == 0 or die 'could not lower the limit';
$node->start;

# Sockets of the sender's.
sub sockets
{
	my $pid = sql(q(SELECT pid FROM llm.health WHERE kind = 'sender'));

	return scalar grep { (readlink($_) // '') =~ /^socket:/ } glob "/proc/$pid/fd/*";
}

sql('CREATE EXTENSION llm_enrich');
setup_model($node, $providers[$_], server => "host$_", alias => "host$_", model => "sim-$_", is_default => $_ == 0 ? 1 : 0,
	options => { max_concurrency => 200 }) foreach 0 .. HOSTS - 1;
sql(q(CREATE TABLE note (id int PRIMARY KEY, body text, label jsonb);
	INSERT INTO note SELECT i, 'note ' || i FROM generate_series(1, 1200) i));

# All hosts are asked, and each closes its connections; how many sockets there are when all is over.
sub turn
{
	$_->script({ latency_ms => 20, http_close => \1 }) foreach @providers;
	sql(qq(UPDATE note SET label = llm_classify(body, '{note,other}', model => 'host' || id % @{[HOSTS]})));
	wait_idle($node);
	is(sql(q(SELECT count(*) FROM note WHERE label = '{"label": "note"}')), 1200, 'all rows of all hosts are done');
	is(sql(q(SELECT count(*) FROM llm.ledger WHERE outcome <> 'ok')), 0, 'and no request was in vain');
	sql('UPDATE note SET label = NULL');
	return sockets();
}

my $first = turn();
my ($room) = sql(q(SELECT problem FROM llm.health WHERE problem ~ 'descriptors')) =~ /for (\d+) simultaneous requests, not for 1000/;
ok(defined $room, 'llm.health says how many requests there are descriptors for');
like(sql(q(SELECT hint FROM llm.health WHERE problem ~ 'descriptors')), qr/now @{[LIMIT]}, or ALTER SYSTEM SET llm_enrich.max_connections = $room;/,
	'and what to do');
like(slurp_file($node->logfile), qr/"llm_enrich.max_connections": there are descriptors for $room simultaneous requests/,
	'so does the log');
cmp_ok($room, '<', LIMIT, 'they are fewer than files');
my $second = turn();
cmp_ok($second, '<=', $first + 2, 'P10: no socket is left open when all is over');

# As many as there are descriptors for, and no more
$_->script({ hang => 1 }) foreach @providers;
sql(qq(UPDATE note SET label = llm_classify(body, '{note,other}', model => 'host' || id % @{[HOSTS]})));
my $in_flight = sub { my $n = 0; $n += $_->meter->{in_flight} foreach @providers; return $n };
foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
{
	last if $in_flight->() >= 0.9 * $room;
	usleep(100_000);
}
cmp_ok($in_flight->(), '>=', 0.9 * $room, 'as many are under way as may be');
cmp_ok($in_flight->(), '<=', $room, 'P10: no more are under way than there are descriptors for');
is(sql(q(SELECT count(*) FROM llm.ledger WHERE outcome <> 'ok')), 0, 'and none fails for want of one');

$node->stop;
done_testing();
