# What llm.check() says, per provider: what is wrong in the provider's own words, what that means
# there, and what to type. And an answer that is a stream of events, which nobody asked for.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use JSON::PP qw(decode_json);
use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

my $node = new_node('check', 'llm_enrich.keep_answers = 0');
my $provider = start_provider();
my $fixtures = "$FindBin::RealBin/../fixtures";

# name => the end of base_url, and per case the fixture and what is to be said
my %dialect = (
	anthropic => [ '/v1',
		error_401 => qr/invalid x-api-key.*HTTP status 401.*header "x-api-key"\. .*sk-ant-.*api_key_file/s,
		error_400_credit => qr/credit balance.*Billing.*Raise the limit/s,
		error_404_model => qr/names look like claude-.*alter_model\('anthropic', model.*Known names: .*claude-haiku-4-5/s,
		error_529 => qr/529.*no limit of yours/s ],
	azure => [ '',
		error_401 => qr/invalid subscription key.*header "api-key"\. .*Keys and Endpoint.*api_key_file/s,
		error_404_deployment => qr/name of a deployment.*alter_model\('azure'/s,
		error_429 => qr/tokens per minute of its own/ ],
	bedrock => [ '',
		error_403_expired => qr/header "Authorization"\. .*Bedrock API key.*api_key_file/s,
		error_400_model => qr/Bedrock's names look like.*alter_model\('bedrock'/s,
		error_429 => qr/Service Quotas/ ],
	gemini => [ '/v1beta',
		error_400_key => qr/header "x-goog-api-key"\. .*AI Studio.*api_key_file/s,
		error_404 => qr/names look like gemini-.*Known names: .*gemini-/s,
		error_429 => qr/per project and model/ ],
	mistral => [ '/v1',
		error_401 => qr/header "Authorization"\. .*Mistral's keys.*api_key_file/s,
		error_400_model => qr/names look like mistral-.*Known names: .*mistral-/s,
		error_429_capacity => qr/per workspace and model/ ],
	ollama => [ '',
		error_401 => qr/Ollama itself wants no key.*api_key_file/s,
		error_404 => qr/'ollama pull NAME' brings one.*alter_model\('ollama'/s,
		error_503 => qr/OLLAMA_NUM_PARALLEL/ ],
	openai => [ '/v1',
		error_401 => qr/Incorrect API key.*header "Authorization"\. .*page of API keys.*api_key_file/s,
		error_429_quota => qr/Billing and Limits.*Raise the limit/s,
		error_404_model => qr/lists the names.*alter_model\('openai'.*Known names: .*gpt-5-mini/s,
		error_429 => qr/grow with the tier/ ]);

foreach my $name (sort keys %dialect)
{
	my ($path, %cases) = @{ $dialect{$name} };

	setup_model($node, $provider, server => $name, lane => $name, alias => $name, is_default => 0,
		options => { dialect => $name, base_url => 'http://127.0.0.1:' . $provider->port . "/x/$name$path" });
	foreach my $case (sort keys %cases)
	{
		my $fixture = decode_json(slurp_file("$fixtures/$name/$case.json"));

		$provider->script({ status => $fixture->{status}, body => $fixture->{body} }, $name);
		# each piece of the pattern has to be said, in whatever order
		my $said = sql("SELECT llm.check('$name')");
		my ($pieces) = "$cases{$case}" =~ /^\(\?\^\w*:(.*)\)$/s;
		is_deeply([ grep { $said !~ /$_/s } split /\.\*/, $pieces ], [], "$name: $case") or diag($said);
	}
	$provider->script({}, $name);
	like(sql("SELECT llm.check('$name')"), qr/^ok: [^\n]*$/, "$name: nothing is advised where nothing is wrong");
}

# A header of one's own is named.
sql(q(ALTER SERVER openai OPTIONS (ADD key_header 'X-Gateway-Key: %s')));
$provider->script({ status => 401, body => { error => { message => 'no' } } }, 'openai');
like(sql(q(SELECT llm.check('openai'))), qr/in the header "X-Gateway-Key"\./, 'key_header is what is named');

# The way there.
my $port = 9; # nobody listens there

setup_model($node, $provider, server => 'nobody', alias => 'nobody', is_default => 0,
	options => { base_url => "http://127.0.0.1:$port/v1" });
like(sql(q(SELECT llm.check('nobody'))), qr/could not connect.*\nCan this machine reach .*SET base_url.*ADD proxy/s, 'nobody listens there');
sql(qq(ALTER SERVER nobody OPTIONS (ADD proxy 'http://127.0.0.1:$port', SET base_url 'https://provider.invalid/v1')));
like(sql(q(SELECT llm.check('nobody'))), qr/The proxy cannot be reached.*SET proxy/s, 'nor a proxy');

# A stream of events: somebody has answered, and it may cost.
setup_model($node, $provider, server => 'stream', lane => 'stream', alias => 'stream', is_default => 0);
$provider->script({ status => 200, body => qq(data: {"choices":[{"delta":{"content":"bil"}}]}\n\ndata: [DONE]\n\n) }, 'stream');
like(sql(q(SELECT llm.check('stream'))), qr/^unknown: .*stream of events.*base_url/s, 'a stream is said to be one');
sql(q(CREATE TABLE ticket (id int PRIMARY KEY, body text, label jsonb)));
sql(q(INSERT INTO ticket SELECT i, 'the invoice ' || i FROM generate_series(1, 50) i));
sql(q(UPDATE ticket SET label = llm_classify(body, '{billing,bug}', model => 'stream')));
$node->poll_query_until('postgres',
	q(SELECT reason LIKE 'the target cannot be used as it is set up: %' FROM llm.job))
	or die 'not paused';
like(sql(q(SELECT why FROM llm.progress)),
	qr/stream of events.*\. ALTER SERVER stream OPTIONS \(SET base_url '\.\.\.'\);$/,
	'llm.progress says why in words, and what to type');
ok($node->poll_query_until('postgres', q(SELECT count(*) > 0 FROM llm.health
	WHERE kind = 'problem' AND problem || ' ' || hint ~ 'stream of events.*ALTER SERVER stream')), 'and llm.health');
cmp_ok($provider->meter('stream')->{requests}, '<', 5, 'the target is paused after one');
is(sql(q(SELECT bool_and(outcome = 'unknown' AND estimated AND input_tokens > 0 AND output_tokens > 0 AND cost > 0)
	FROM llm.ledger WHERE server = 'stream')), 't', 'P3: each may have been billed, and is booked so');
$provider->script({}, 'stream');
like(sql(q(SELECT llm.check('stream'))), qr/^ok/, 'fixed');
wait_idle($node);
is(sql(q(SELECT count(*) FROM ticket WHERE label->>'label' IS NOT NULL)), 50, 'P2: and all are answered');
is(sql(q(SELECT count(DISTINCT request) FROM llm.ledger WHERE server = 'stream')),
	$provider->meter('stream')->{requests}, 'P3: each request is on the ledger');

done_testing();
