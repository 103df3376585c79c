# llm_enrich.max_cost and a cursor: what a FETCH has asked ahead is used by the next one, and asked once (P3).
# What it had no money for is asked by the next one, which has a cap of its own (P8).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest qw(!error_of);

use constant ROWS => 20;

my $node = new_node('capped_cursor');
my $provider = start_provider();

setup_model($node, $provider);
sql(qq(CREATE TABLE t (id int PRIMARY KEY, body text);
	INSERT INTO t SELECT i, 'The invoice of customer ' || i || ' is wrong' FROM generate_series(1, @{[ROWS]}) i));

sub error_of
{
	my ($rc, undef, $stderr) = $node->psql('postgres', join "\n", @_);

	return $rc == 0 ? '' : $stderr;
}

my $table = 't';

# Each FETCH is a command of its own: psql sends them one by one, as a client does.
sub fetches
{
	my ($max_cost, $label, @counts) = @_;

	return join '',
		"SET llm_enrich.max_cost = $max_cost;\nSET llm_enrich.max_in_flight = 4;\nBEGIN;\n",
		"DECLARE c CURSOR FOR SELECT llm_classify(body, '{billing,$label}', options => '{\"max_tokens\": 20}') FROM $table\n",
		"ORDER BY id;\n",
		(map { "FETCH $_ FROM c;\n" } @counts), "COMMIT;\n";
}

is(error_of(fetches(1, 'bug', 1, 3, 1, 5, 10)), '', 'a cursor with a cap is read by parts');
is($provider->meter->{requests}, ROWS, 'P3: each row was asked once');
is(sql('SELECT count(*) FROM llm.ledger'), ROWS, 'P3: and booked once');
ledger_equals_meter($node, $provider, 'P3: ledger equals meter', server => 'sim');

# As much as one request may cost, and a little more than one does.
my $refused = error_of(fetches('0.0000001', 'none', 1));
like($refused, qr/budget: max_cost is .* dollars/, 'a cap that allows no request says so');
my ($reserve) = $refused =~ /may cost (0?\.\d+)/ or BAIL_OUT("no reserve in: $refused");
my $cost = sql('SELECT max(cost) FROM llm.ledger');
my $before = $provider->meter->{requests};
is(error_of(fetches($reserve + 1.5 * $cost, 'other', (1) x ROWS)), '',
	'what was not affordable ahead is asked by the next FETCH');
is($provider->meter->{requests}, $before + ROWS, 'P3: each row was asked once');
like(error_of(fetches($reserve + 1.5 * $cost, 'third', ROWS)), qr/budget: max_cost/,
	'P8: one FETCH of all has no money for them');

# Rows with the same text share a letter, and so what becomes of it when it is asked again.
sql('CREATE TABLE same AS SELECT i AS id, body FROM generate_series(1, 6) i JOIN t ON t.id = least(i, 3)');
$table = 'same';
$before = $provider->meter->{requests};
is(error_of(fetches($reserve + 0.5 * $cost, 'fourth', 1, 1, 4)), '', 'P8: rows with the same text share what they are refused');
is($provider->meter->{requests}, $before + 3, 'P3: and what is asked for it');
ledger_equals_meter($node, $provider, 'P3: ledger equals meter', server => 'sim');

done_testing();
