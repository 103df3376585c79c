# What vectors will cost: nothing is billed but the row's text, and nothing is written. The provider's meter lies within
# the interval, for rows that are stored and for those of a SELECT.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

my $rows = 300; # of each half
my $node = new_node('estimate_vectors', 'fsync = off', 'log_min_messages = warning');
my $provider = start_provider();

setup_model($node, $provider, model => 'text-embedding-3-small',
	prices => {
		input_per_mtok => 0.02,
		cached_input_per_mtok => 'NULL',
		cache_write_per_mtok => 'NULL',
		output_per_mtok => 0
	});

# US dollars by the provider's meter.
sub truth { return $provider->meter->{billed}{prompt_tokens} * 0.02e-6; }

# Estimate, run, and compare.
sub try_statement
{
	my ($statement, $what, $widest) = @_;
	my $tokens = $provider->meter->{billed}{prompt_tokens};
	my $before = truth();
	my ($tasks, $calls, $input, $output, $low, $high) =
	  split /\|/, sql('SELECT * FROM llm.estimate(' . LLMTest::quoted($statement) . ')');

	sql("SET llm_enrich.max_immediate_calls = 10000; $statement");
	wait_idle($node);
	my $cost = truth() - $before;

	$tokens = $provider->meter->{billed}{prompt_tokens} - $tokens;
	is("$tasks $calls $output", "$rows $rows 0", "$what: a call for each row, and no token is written");
	ok($cost >= $low && $cost <= $high, "$what: the meter is within the interval")
	  or diag("$low to $high, it was $cost");
	ok(abs($input / $tokens - 1) < $widest, "$what: tokens are about those that it told")
	  or diag("$input, it was $tokens");
	ok(($high - $low) / ($high + $low) < $widest, "$what: and the interval is no wider than it must be")
	  or diag("$low to $high");
	return;
}

my %texts = (
	short => q('row ' || i),
	prose => q('the customer writes ' || repeat('a lot of words about it ', 1 + i % 40) || i),
	quotes => q('he said "no" ' || repeat(E'\n"and" then', i % 9) || i));

my $dimensions = 100;

foreach my $name (sort keys %texts)
{
	# another number of dimensions is another recipe, of which nothing is known
	my $call = 'llm_embed(body, ' . ++$dimensions . ')';

	sql("CREATE TABLE $name (id int PRIMARY KEY, body text, emb real[]);",
		"INSERT INTO $name (id, body) SELECT i, $texts{$name} FROM generate_series(1, 3 * $rows) i; ANALYZE $name;");
	try_statement("UPDATE $name SET emb = $call WHERE id <= $rows", "$name, not known", 0.8);
	my $recipe = sql('SELECT max(id) FROM llm.recipe');

	$node->poll_query_until('postgres', "SELECT sum(requests) = $rows FROM llm.recipe_stat WHERE recipe = $recipe")
	  or die 'what the requests took was not noted';
	try_statement("UPDATE $name SET emb = $call WHERE id BETWEEN $rows + 1 AND 2 * $rows", "$name, known", 0.15);
	try_statement("SELECT $call FROM $name WHERE id > 2 * $rows", "$name, in a SELECT", 0.15);
}
ledger_equals_meter($node, $provider, 'P3: ledger and meter agree');

# At 60 requests a minute, 300 rows that share requests take seconds; alone they would take minutes.
sql(q(SELECT llm.alter_model('fast', requests_per_minute => 60)));
cmp_ok(sql(q(SELECT seconds FROM llm.estimate('UPDATE short SET emb = llm_embed(body) WHERE id <= 300'))), '<', 60,
	'rows that share requests are not held up by a limit of requests');
cmp_ok(sql(q(SELECT seconds FROM llm.estimate('SELECT llm_embed(body) FROM short WHERE id <= 300'))), '<', 60,
	'nor are those of a SELECT');
my ($stdout, $stderr);
$node->psql('postgres', 'SET llm_enrich.confirm_above = 0; BEGIN; UPDATE short SET emb = llm_embed(body, 7); ROLLBACK',
	stdout => \$stdout, stderr => \$stderr);
like($stderr, qr/rows queued and paused: 900, with 900 calls, for 0\.0000\d+ to 0\.000\d+ US dollars/,
	'and a statement that waits says the same');

done_testing();
