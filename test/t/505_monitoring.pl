# Monitoring: the counters of llm.stat are those of the ledger, before and after rows are summed and when rows of the
# ledger are gone (P3); a scrape reads a few rows, however many there are (P10); and the queries of
# monitoring/postgres_exporter.yaml give what they say to a member of pg_monitor, by the exporter itself, too, where
# that is installed.

use strict;
use warnings;

use Cwd qw(abs_path);
use FindBin;
use lib $FindBin::RealBin;
use HTTP::Tiny;
use IPC::Run ();
use List::Util qw(sum0);
use Time::HiRes qw(usleep);

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

use constant ROWS => 200;

my $file = abs_path("$FindBin::RealBin/../../monitoring/postgres_exporter.yaml");
my $node = new_node('monitoring', 'llm_enrich.max_tries = 2');
my $provider = start_provider();
setup_model($node, $provider);

sub as_monitor
{
	return $node->safe_psql('postgres', $_[0], extra_params => [ '-U', 'scraper' ]);
}

# What the counters and the ledger say, compared.
sub stat_equals_ledger
{
	my ($name, $ledger) = @_;

	$ledger //= sql(q(SELECT outcome, count(DISTINCT request), sum(input_tokens), sum(cached_tokens),
		sum(output_tokens), trim_scale(sum(cost)), sum(latency_ms)
		FROM llm.ledger WHERE server = 'sim' AND model = 'sim-1' GROUP BY outcome ORDER BY outcome));
	is(sql(q(SELECT outcome, requests, input_tokens, cached_tokens, output_tokens, cost, latency_ms FROM llm.stat
		WHERE server = 'sim' AND model = 'sim-1' ORDER BY outcome)), $ledger, "P3: $name: llm.stat is what the ledger says");
	return $ledger;
}

# The queries of the file and their columns.  Enough of YAML for this file: two levels, a block of SQL, a list.
sub queries
{
	my (%query, $name, $column);

	foreach my $line (split /\n/, slurp_file($file))
	{
		if ($line =~ /^(\w+):$/) { $name = $1; }
		elsif ($line =~ /^  (?:query: \||metrics:)$/) { next; }
		elsif ($line =~ /^    - (\w+):$/) { $column = $1; }
		elsif ($line =~ /^        usage: "(\w+)"$/) { $query{$name}{column}{$column} = $1; }
		elsif ($line =~ /^        description: "[^"]+"$/) { $query{$name}{described}++; }
		elsif ($line =~ /^    (.*)$/) { $query{$name}{sql} .= "$1\n"; }
		elsif ($line !~ /^(?:#.*)?$/) { die "not understood: $line\n"; }
	}
	return %query;
}

sql(qq(
	CREATE ROLE scraper LOGIN IN ROLE pg_monitor;
	CREATE TABLE t (id int PRIMARY KEY, body text, label jsonb);
	INSERT INTO t SELECT i, 'The invoice of customer ' || i || ' is wrong' FROM generate_series(1, @{[ROWS]}) i));
$provider->script({ wrong_label => 0.1, cached_fraction => 0.3, error_500 => 0.05 });
sql(q(UPDATE t SET label = llm_classify(body, '{billing,bug}')));
wait_idle($node);
my $ledger = stat_equals_ledger('at the end');
$node->poll_query_until('postgres', 'SELECT up_to = (SELECT max(id) FROM llm.ledger) FROM llm.ledger_summed')
	or die 'the ledger is not summed';
stat_equals_ledger('summed', $ledger);
is(as_monitor('SELECT sum(requests) FROM llm.stat'), sql('SELECT count(DISTINCT request) FROM llm.ledger'),
	'a member of pg_monitor sees all of it');
is(as_monitor('SELECT count(*) FROM llm.ledger'), 0, 'P9: and no row of the ledger');
is(sql(q(SELECT outcome, requests FROM llm.stat WHERE server = 'sim' ORDER BY 1)),
	sql(q(SELECT outcome, sum(requests) FROM llm.bill('{server,outcome}') WHERE server = 'sim' GROUP BY 1 ORDER BY 1)),
	'llm.bill says the same');

# ----------------------------------------------------------------------------
# The file
# ----------------------------------------------------------------------------

my %query = queries();
cmp_ok(scalar(keys %query), '>=', 3, 'the file has queries');
foreach my $name (sort keys %query)
{
	my ($sql, $column) = @{ $query{$name} }{qw(sql column)};
	my @names = split /\n/, as_monitor("CREATE TEMP VIEW v AS $sql;
		SELECT a.attname FROM pg_attribute a WHERE a.attrelid = 'v'::regclass AND a.attnum > 0 ORDER BY a.attname");

	is_deeply(\@names, [ sort keys %$column ], "$name: its columns are those that it names");
	is($query{$name}{described}, scalar(@names), "$name: each is described");
	my @labels = grep { $column->{$_} eq 'LABEL' } @names;
	is(as_monitor("SELECT count(*) - count(DISTINCT (" . join(', ', @labels) . ")) FROM ($sql) v"), 0,
		"$name: a row for each set of labels");
	foreach my $figure (grep { $column->{$_} ne 'LABEL' } @names)
	{
		is(as_monitor("SELECT count(*) > 0 AND bool_and($figure >= 0) FROM ($sql) v"), 't', "$name: $figure is a number");
	}
}

# What it reads does not grow with the ledger.
my $plan = as_monitor("EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF, COSTS OFF) $query{llm}{sql}");
my @rows = $plan =~ /actual rows=([\d.]+)/g;
is(scalar(grep { $_ > 50 } @rows), 0, 'P10: a scrape of the counters reads a few rows') or diag($plan);

# ----------------------------------------------------------------------------
# The exporter
# ----------------------------------------------------------------------------

SKIP:
{
	my ($exporter) = grep { -x } map { "$_/prometheus-postgres-exporter" } split /:/, $ENV{PATH};

	skip 'prometheus-postgres-exporter is not installed', 2 unless defined $exporter;
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	my $log = '';
	delete local $ENV{PGSYSCONFDIR};    # its driver refuses that
	local $ENV{DATA_SOURCE_NAME} = 'user=scraper dbname=postgres host=' . $node->host . ' port=' . $node->port . ' sslmode=disable';
	my $run = IPC::Run::start([ $exporter, "--web.listen-address=127.0.0.1:$port", "--extend.query-path=$file" ],
		'<', \undef, '>', \$log, '2>', \$log);
	my $page;
	foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		$page = HTTP::Tiny->new->get("http://127.0.0.1:$port/metrics");
		last if $page->{success} && $page->{content} =~ /^llm_/m;
		$run->pump_nb;
		last if $log =~ /^panic/m;
		usleep(100_000);
	}
	my ($requests) = $page->{content} =~ /^llm_requests_total\{[^}]*model="sim-1"[^}]*outcome="ok"[^}]*\} (\S+)$/m;
	is($requests, sql(q(SELECT requests FROM llm.stat WHERE server = 'sim' AND outcome = 'ok')), 'the exporter gives the counters')
		or diag($log);
	is_deeply([ grep { $page->{content} !~ /^\Q$_\E[{ ]/m }
			map { my $name = $_; map { "${name}_$_" } grep { $query{$name}{column}{$_} ne 'LABEL' } keys %{ $query{$name}{column} } }
			sort keys %query ], [], 'and everything that the file names');
	$run->signal('TERM');
	$run->finish;
}

# The ledger goes, the counters stay.
sql('DELETE FROM llm.ledger');
stat_equals_ledger('without the ledger', $ledger);
sql(q(UPDATE t SET label = llm_classify(body, '{c,d}') WHERE id <= 5));
wait_idle($node);
is(sql(q(SELECT (SELECT sum(requests) FROM llm.stat) - (SELECT count(DISTINCT request) FROM llm.ledger))),
	sum0(map { (split /\|/)[1] } split /\n/, $ledger), 'later requests are added');

# A refused key is seen by who watches the server, though not what the provider said of the role's work.
$provider->script({ status => 401,
	body => { error => { message => 'no key for the MERGER', code => 'invalid_api_key' } } });
sql(q(SELECT llm.add_model('barred', server => 'sim', model => 'sim-barred', input_per_mtok => 1, output_per_mtok => 1);
	CREATE ROLE asker; CREATE ROLE other; GRANT USAGE ON FOREIGN SERVER sim TO asker; GRANT ALL ON t TO asker;
	SET ROLE asker; UPDATE t SET label = llm_classify(body, '{e,f}', model => 'barred') WHERE id <= 3));
$node->poll_query_until('postgres', q(SELECT count(*) > 0 FROM llm.health WHERE kind = 'problem' AND problem ~ 'MERGER'))
	or die 'the refused key is not told';
my ($alarms, $told) = ('', '');
my $names_target = qr/^target\|.*\|the provider refuses the key/m;
foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
{
	$alarms = as_monitor("SELECT string_agg(kind, ' ' ORDER BY kind) FROM ($query{llm_health}{sql}) v WHERE problems > 0");
	$told = as_monitor('SELECT * FROM llm.health');
	last if $alarms eq 'problem target' && $told =~ $names_target;
	usleep(100_000);
}
is($alarms, 'problem target', 'a member of pg_monitor is told of a refused key');
like($told, $names_target, 'and of which target it is');
unlike($told, qr/MERGER/, 'P9: without words that hold an input');
unlike(sql('SET ROLE other; SELECT * FROM llm.health'), qr/^(?:target|problem)\|/m, 'P9: others see nothing of it');
sql(q(SELECT llm.cancel('t')));
wait_idle($node);

done_testing();
