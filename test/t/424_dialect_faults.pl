# Each dialect with every tenth row befallen by a fault of its provider's own: all answers of the documented form
# (test/fixtures), and what the simulated provider does in that form. Each row has one final state, the one that its
# fault calls for (P2), and the ledger has the provider's tokens class by class (P3). Then vectors, a fault in each request.
#
# By default each fault strikes once; LLM_DIALECT_ROWS=2000 asks for at least so many rows of each dialect.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use JSON::PP ();
use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

my $json = JSON::PP->new->utf8->canonical->allow_nonref;
my $rows = $ENV{LLM_DIALECT_ROWS} // 0;

# name => path in the base_url, options of the server, which classes its answers tell apart, which path has vectors
my %dialect = (
	anthropic => { path => '/v1', tells => 'cached cache_write reasoning' },
	azure => { path => '', options => { query => 'api-version=2024-10-21' }, tells => 'cached cache_write reasoning',
		vectors => 1 },
	bedrock => { path => '', tells => 'cached cache_write' },
	gemini => { path => '/v1beta', tells => 'cached reasoning', vectors => 1 },
	mistral => { path => '/mistral/v1', tells => 'cached cache_write reasoning', vectors => 1 },
	ollama => { path => '', tells => '', vectors => 1 },
	openai => { path => '/v1', tells => 'cached cache_write reasoning', vectors => 1 });

# What the provider does in each form => the row's state in the end. Ollama has no word for a refusal: what it says
# instead is no answer, and the row is asked again.
my @played = (
	[ { action => 'rate_limit', retry_after => 0.05 }, 'done' ],
	[ { action => 'refusal' }, 'refused' ],
	[ { action => 'error_500' }, 'done' ],
	[ { action => 'content_filter' }, 'refused' ],
	[ { action => 'wrong_label' }, 'done' ],
	[ { action => 'malformed_content' }, 'done' ],
	[ { action => 'truncated' }, 'truncated' ],
	[ { action => 'empty_content' }, 'done' ],
	[ { action => 'malformed' }, 'done' ],
	[ { action => 'error_503', retry_after => 0.05 }, 'done' ],
	[ { action => 'no_usage' }, 'done' ],
	[ { action => 'cut' }, 'done' ],
	[ { action => 'cut_mid' }, 'done' ]);

# Class of a documented answer => the row's state after one such answer.
my %state_after = (
	(map { $_ => 'done' } qw(ok invalid unknown transient rate_limited overloaded)),
	(map { $_ => $_ } qw(refused truncated too_long)),
	bad_request => 'rejected',
	# the target is paused, until another row shows that it was not the target
	(map { $_ => 'done' } qw(auth quota unknown_model config)));
my %pauses = map { $_ => 1 } qw(auth quota unknown_model config);

# The row is asked in a simpler way from then on: 255_hosts and 420_dialects have that.
my $steps_down = qr/json_schema|response_?(?:format|json_?schema)|output_(?:config|format)|outputConfig
	|max_(?:completion_)?tokens|schema\ is\ too\ complex/ix;

my $node = new_node('dialect_faults', 'llm_enrich.max_tries = 4');
my $provider = start_provider();

sub quoted { my $text = shift; $text =~ s/'/''/g; return "'$text'"; }

# A documented answer without the times that it tells; they are read in sql/dialect_*.sql.
sub without_waits
{
	my ($status, $headers, $body) = @_;
	my %kept = map { $_ => $headers->{$_} } grep { !/retry|reset|limit/i } keys %$headers;

	$body =~ s/\b\d+(?:\.\d+)?s\b/0.05s/g;
	return ($status, \%kept, $body);
}

# All documented answers of a dialect as steps of the provider's script: [step, state, pauses, usage as read].
sub documented
{
	my ($name) = @_;
	my @found;

	foreach my $file (sort glob "$FindBin::RealBin/../fixtures/$name/*.json")
	{
		my $fixture = $json->decode(slurp_file($file));
		my ($status, $headers, $body) = without_waits($fixture->{status}, $fixture->{headers},
			exists $fixture->{raw} ? $fixture->{raw} : $json->encode($fixture->{body}));
		my ($quoted_body, $quoted_headers) = map { quoted($_) } $body, $json->encode($headers);
		my $read = $json->decode(sql(qq(
			CREATE FUNCTION pg_temp.read(text, int, bytea, jsonb) RETURNS jsonb
				LANGUAGE C AS 'llm_enrich', 'llm_enrich_test_read';
			SELECT pg_temp.read('$name', $status, convert_to($quoted_body, 'UTF8'), $quoted_headers))));

		next if ($read->{retry_after_ms} // 0) > 100 || ($read->{class} eq 'bad_request' && $body =~ $steps_down);
		next if $read->{class} eq 'ok' && ($read->{content} // '') !~ /^\s*\{\s*"label"\s*:\s*"billing"\s*\}\s*$/;
		die "$file: no state for class $read->{class}" unless defined $state_after{ $read->{class} };
		push @found, [ { action => 'status', status => $status + 0, headers => $headers, body => $body },
			$state_after{ $read->{class} }, $pauses{ $read->{class} }, $read->{usage} ];
	}
	return @found;
}

# So many faults of a dialect. Those that pause its target are spread among the others, at most one to ten of them, and
# strike once.
sub faults_for
{
	my ($name) = @_;
	my @documented = documented($name);
	my @pausing = grep { $_->[2] } @documented;
	my @often = ((map { [@$_] } @played), grep { !$_->[2] } @documented);
	my @faults = @often;
	my $apart;

	splice @pausing, 1 + @often / 10;
	if ($name eq 'ollama')
	{
		$_->[1] = 'done' foreach grep { $_->[0]{action} =~ /^(?:refusal|content_filter)$/ } @often;
	}
	push @faults, $often[ @faults % @often ] while @faults + @pausing < $rows / 10;
	$apart = int(@faults / (@pausing + 1));
	splice @faults, $apart * ($_ + 1) + $_, 0, $pausing[$_] foreach 0 .. $#pausing;
	return @faults;
}

# What the ledger has of a server, by class, and what the provider billed, with the usage of documented answers.
sub classes_equal
{
	my ($name, $lane, $tells, @usage) = @_;
	my $meter = $provider->meter($lane);
	my %told = map { $_ => scalar($tells =~ /\b$_\b/) } qw(cached cache_write reasoning);
	my %want = (
		(map { $_ => $told{$_} ? $meter->{billed}{"${_}_tokens"} : 0 } keys %told),
		output => $meter->{billed}{completion_tokens});

	$want{input} = $meter->{billed}{prompt_tokens} - $want{cached} - $want{cache_write};
	# what cannot be is estimated: 425_absurd_usage
	foreach my $usage (grep { defined && $_->{input} < 1e6 } @usage)
	{
		$want{$_} += $usage->{$_} // 0 foreach keys %want;
	}
	my @classes = qw(input cached cache_write output reasoning);
	my ($requests, @got) = split /\|/, sql('SELECT count(DISTINCT request),',
		join(', ', map { "coalesce(sum(${_}_tokens) FILTER (WHERE NOT estimated), 0)" } @classes),
		"FROM llm.ledger WHERE server = '$name'");
	cmp_ok($meter->{billed}{prompt_tokens}, '>', 0, "$name: something was billed");
	is("@got", join(' ', @want{@classes}), "P3: $name: input, cached, cache write, output, reasoning as billed");
	is($requests, $meter->{requests}, "P3: $name: as many requests");
	return;
}

# All dialects at once: that may take longer than other tests.
sub all_idle
{
	$node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM llm.queue)') or note('it takes long');
	wait_idle($node);
	return;
}

sub add_server
{
	my ($server, $name, $lane) = @_;
	my $with = $dialect{$name};

	setup_model($node, $provider, server => $server, lane => $lane, alias => $server, model => "sim-$server",
		is_default => 0,
		options => { dialect => $name, base_url => 'http://127.0.0.1:' . $provider->port . "/x/$lane$with->{path}",
			%{ $with->{options} // {} } });
	return;
}

# ---------------------------------------------------------------------------
# Answers
# ---------------------------------------------------------------------------

my %faults = map { $_ => [ faults_for($_) ] } keys %dialect;

sql(q(CREATE TABLE ticket (dialect text, id int, body text NOT NULL, label jsonb, PRIMARY KEY (dialect, id))));
foreach my $name (sort keys %dialect)
{
	my @faults = @{ $faults{$name} };
	my @steps = map { { match => sprintf('[[mark:%s-%d]]', $name, 10 * ($_ + 1)), times => 1, %{ $faults[$_][0] } } }
	  0 .. $#faults;
	my $n = 10 * @faults;

	add_server($name, $name, $name);
	$provider->script(
		{ sequence => \@steps, cached_fraction => 0.3, cache_write_fraction => 0.1, reasoning_tokens => 7 }, $name);
	sql(qq(
		INSERT INTO ticket SELECT '$name', i, format('the billing is wrong by %s [[mark:$name-%s]]', i, i)
		FROM generate_series(1, $n) i));
	sql(qq(
		UPDATE ticket SET label = llm_classify(body, '{billing,bug,other}', model => '$name') WHERE dialect = '$name'));
}
all_idle();
foreach my $name (sort keys %dialect)
{
	my @faults = @{ $faults{$name} };
	my $n = 10 * @faults;
	my @ended = split /\n/, sql(qq(
		SELECT t.id || ' ' || coalesce(d.reason, CASE WHEN label ->> 'label' = 'billing' THEN 'done' END, label::text)
		FROM ticket t LEFT JOIN llm.dead_letter d ON d.key ->> 'dialect' = t.dialect AND (d.key ->> 'id')::int = t.id
		WHERE t.dialect = '$name' ORDER BY t.id));
	my @want = map { "$_ " . ($_ % 10 == 0 ? $faults[ $_ / 10 - 1 ][1] : 'done') } 1 .. $n;
	my @other = grep { $ended[$_] ne $want[$_] } 0 .. $n - 1;

	diag("$name: $n rows, " . @faults . ' of them with a fault');
	is(join(', ', @ended[@other]), join(', ', @want[@other]), "P2: $name: each row ends as its fault calls for");
	classes_equal($name, $name, $dialect{$name}{tells}, map { $_->[3] } @faults);
}

# ---------------------------------------------------------------------------
# Vectors: one fault in each hundred rows, so in each request
# ---------------------------------------------------------------------------

my @vector_faults = (
	{ action => 'rate_limit', retry_after => 0.05 }, { action => 'error_500' }, { action => 'wrong_label' },
	{ action => 'status', status => 400, times => -1 },
	{ action => 'malformed_content' }, { action => 'error_503', retry_after => 0.05 }, { action => 'cut_mid' },
	{ action => 'no_usage' }, { action => 'malformed' });
my $vectors = $rows || 100 * @vector_faults;

sql(q(CREATE TABLE text (dialect text, id int, body text NOT NULL, emb real[], PRIMARY KEY (dialect, id))));
foreach my $name (grep { $dialect{$_}{vectors} } sort keys %dialect)
{
	my @steps = map {
		{ match => sprintf('[[mark:v-%d]]', 100 * $_), times => 1, %{ $vector_faults[ ($_ - 1) % @vector_faults ] } }
	} 1 .. $vectors / 100;

	add_server("v_$name", $name, "v_$name");
	# a request with two of them has the first that is left: those for ever go first
	@steps = sort { $a->{times} <=> $b->{times} } @steps;
	$provider->script({ sequence => \@steps }, "v_$name");
	sql(qq(
		INSERT INTO text SELECT '$name', i, format('text %s [[mark:v-%s]]', i, i) FROM generate_series(1, $vectors) i;
		UPDATE text SET emb = llm_embed(body, 4, model => 'v_$name') WHERE dialect = '$name'));
}
all_idle();
foreach my $name (grep { $dialect{$_}{vectors} } sort keys %dialect)
{
	my $rejected = grep { $vector_faults[ ($_ - 1) % @vector_faults ]{action} eq 'status' } 1 .. $vectors / 100;

	is(sql(qq(SELECT count(*) FROM text WHERE dialect = '$name' AND emb[1] = id AND emb[2] = length(body))),
		$vectors - $rejected, "P5: $name: each row has its own vector");
	is(sql(qq(SELECT count(*) FILTER (WHERE reason = 'rejected') || ' of ' || count(*) FROM llm.dead_letter
		WHERE relation_name LIKE '%text' AND key ->> 'dialect' = '$name')), "$rejected of $rejected",
		"P4: $name: but those that its provider does not take");
	classes_equal("v_$name", "v_$name", '');
}

$node->stop;
done_testing();
