# Each dialect by its own form of the provider: all operations, and the ledger equal to the meter by class of tokens
# (P3). Faults are in 424_dialect_faults.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use JSON::PP qw(decode_json);
use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

# Rows of each dialect.
my $rows = 60;

# name => path in the base_url, options of the server, which classes of input the form tells apart
my %dialect = (
	anthropic => { path => '/v1', tells => 'cached cache_write reasoning' },
	azure => { path => '', options => { query => 'api-version=2024-10-21' }, tells => 'cached cache_write reasoning' },
	bedrock => { path => '', tells => 'cached cache_write' },
	gemini => { path => '/v1beta', tells => 'cached reasoning' },
	mistral => { path => '/mistral/v1', tells => 'cached cache_write reasoning' },
	ollama => { path => '', tells => '' });

my $node = new_node('dialects');
my $provider = start_provider();

# What the ledger has of a server, and what the provider billed, by class.
sub classes_equal
{
	my ($name, $tells) = @_;
	my $billed = $provider->meter($name)->{billed};
	my ($requests, @got) = split /\|/, sql(qq(
		SELECT count(DISTINCT request), coalesce(sum(input_tokens), 0), coalesce(sum(cached_tokens), 0),
			coalesce(sum(cache_write_tokens), 0), coalesce(sum(output_tokens), 0), coalesce(sum(reasoning_tokens), 0)
		FROM llm.ledger WHERE server = '$name' AND NOT estimated));
	my %told = map { $_ => scalar($tells =~ /\b$_\b/) } qw(cached cache_write reasoning);
	my %want = map { $_ => $told{$_} ? $billed->{"${_}_tokens"} : 0 } keys %told;
	my @want = (0, $want{cached}, $want{cache_write}, $billed->{completion_tokens}, $want{reasoning});

	$want[0] = $billed->{prompt_tokens} - $want[1] - $want[2];
	cmp_ok($billed->{prompt_tokens}, '>', 0, "$name: something was billed");
	is("@got", "@want", "P3: $name: input, cached, cache write, output and reasoning as the provider billed them");
	is($requests, $provider->meter($name)->{requests}, "P3: $name: as many requests");
	return;
}

sql(qq(
	CREATE TABLE ticket (dialect text, id int, body text NOT NULL, label jsonb, parts jsonb, words jsonb,
		PRIMARY KEY (dialect, id))));

foreach my $name (sort keys %dialect)
{
	my $with = $dialect{$name};
	my $base = 'http://127.0.0.1:' . $provider->port . "/x/$name$with->{path}";

	setup_model($node, $provider, server => $name, lane => $name, alias => $name, is_default => 0,
		options => { dialect => $name, base_url => $base, %{ $with->{options} // {} } });
	$provider->script({ cached_fraction => 0.3, cache_write_fraction => 0.1, reasoning_tokens => 7 }, $name);
	sql(qq(
		INSERT INTO ticket SELECT '$name', i, format('the billing is wrong by %s [[mark:$name-%s]]', i, i)
		FROM generate_series(1, $rows) i));
	sql(qq(
		UPDATE ticket SET label = llm_classify(body, '{billing,bug,other}', model => '$name') WHERE dialect = '$name'));
}
wait_idle($node);

foreach my $name (sort keys %dialect)
{
	is(sql("SELECT count(*) FROM ticket WHERE dialect = '$name' AND label->>'label' = 'billing'"), $rows,
		"P2: $name: each row is answered");
	classes_equal($name, $dialect{$name}{tells});
}

# ---------------------------------------------------------------------------
# The other operations
# ---------------------------------------------------------------------------

foreach my $name (sort keys %dialect)
{
	$provider->script({ reasoning_tokens => 3 }, $name);
	sql(qq(
		UPDATE ticket SET parts = llm_extract(body, '{"type": "object", "required": ["amount"],
				"properties": {"amount": {"type": "number", "minimum": 0},
					"summary": {"type": "string", "maxLength": 200}}}', model => '$name'),
			words = llm_complete(body, instructions => 'Be brief.', model => '$name',
				options => '{"max_tokens": 500, "temperature": 1}')
		WHERE dialect = '$name' AND id <= 5));
}
wait_idle($node);
foreach my $name (sort keys %dialect)
{
	is(sql("SELECT count(parts->'amount'), count(words->>'text') FROM ticket WHERE dialect = '$name' AND id <= 5"), '5|5',
		"$name: extract and complete");
}

# ---------------------------------------------------------------------------
# A host without the native form is asked by a tool from then on
# ---------------------------------------------------------------------------

$provider->script({
		sequence => [ {
			match => '"output_config"', times => -1, action => 'status', status => 400,
			body => { type => 'error', error => { type => 'invalid_request_error',
				message => 'output_config.format: Extra inputs are not permitted' } } } ] }, 'anthropic');
my $before = $provider->meter('anthropic')->{requests};
sql(q(
	UPDATE ticket SET label = llm_classify(body, '{wrong,right}', model => 'anthropic')
	WHERE dialect = 'anthropic' AND id <= 20));
wait_idle($node);
is(sql(q(
	SELECT count(*) FROM ticket WHERE dialect = 'anthropic' AND id <= 20 AND label->>'label' = 'wrong')), '20',
	'a host without the native form answers by a tool');
my ($last) = decode_json($provider->last_body('anthropic'));
is($last->{tool_choice}{name}, 'answer', 'which the model must call');

$node->stop;
done_testing();
