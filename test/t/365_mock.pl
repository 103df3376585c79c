# A mock of providers that nobody here wrote (npm @copilotkit/aimock), in the forms of OpenAI, Anthropic and Gemini: 500
# rows each, as many requests as its journal has, and the tokens that its answers tell (P2, P3).
#
# NODE_PATH names the folder with the package; without it the test is skipped.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use HTTP::Tiny;
use JSON::PP qw(decode_json);
use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

plan skip_all => 'the package @copilotkit/aimock is not installed'
	if system(q(node -e "require('@copilotkit/aimock')" >/dev/null 2>&1)) != 0;

use constant ROWS => 500;
use constant { INPUT => 100, OUTPUT => 7 };

my $program = '
const { LLMock } = require("@copilotkit/aimock");
const mock = new LLMock({ port: 0, host: "127.0.0.1", journalMaxEntries: 100000 });
mock.on({}, { content: JSON.stringify({ label: "billing" }), usage: {
	prompt_tokens: ' . INPUT . ', completion_tokens: ' . OUTPUT . ',
	input_tokens: ' . INPUT . ', output_tokens: ' . OUTPUT . ',
	promptTokenCount: ' . INPUT . ', candidatesTokenCount: ' . OUTPUT . ' } });
mock.start().then(() => console.log(mock.url));
process.stdin.on("end", () => process.exit(0)).resume();
';
my ($in, $out, $errors) = ('', '', '');
my $mock = IPC::Run::start([ 'node', '-e', $program ], '<pipe', my $stdin = \*MOCK, '>', \$out, '2>', \$errors);
$mock->pump until $out =~ /\n/ || !$mock->pumpable;
chomp(my $url = $out);
like($url, qr/^http:/, 'the mock runs') or BAIL_OUT($errors);

my $node = new_node('mock');
my $provider = start_provider(); # setup_model() wants one

# name => where its requests go, under the base_url, and what of that the journal has
my %form = (
	openai => [ '/v1', qr{^/v1/chat/completions$} ],
	anthropic => [ '/v1', qr{^/v1/messages$} ],
	gemini => [ '/v1beta', qr{:generateContent$} ]);

sql(q(CREATE TABLE ticket (form text, id int, body text, label jsonb, PRIMARY KEY (form, id))));
foreach my $name (sort keys %form)
{
	setup_model($node, $provider, server => $name, alias => $name, model => "m-$name", is_default => 0,
		options => { dialect => $name, base_url => $url . $form{$name}[0] });
	sql("CREATE USER MAPPING FOR PUBLIC SERVER $name OPTIONS (api_key 'any')");
	sql("INSERT INTO ticket SELECT '$name', i, 'the invoice ' || i FROM generate_series(1, @{[ ROWS ]}) i;
		UPDATE ticket SET label = llm_classify(body, '{billing,bug}', model => '$name') WHERE form = '$name'");
}
wait_idle($node);
my @journal = @{ decode_json(HTTP::Tiny->new->get("$url/__aimock/journal?limit=100000")->{content}) };
foreach my $name (sort keys %form)
{
	my $path = $form{$name}[1];

	is(sql("SELECT count(*) FROM ticket WHERE form = '$name' AND label = '{\"label\": \"billing\"}'"), ROWS,
		"P2: $name: all are answered");
	is(sql("SELECT count(DISTINCT request) FROM llm.ledger WHERE server = '$name'"),
		scalar(grep { $_->{path} =~ $path } @journal),
		"P3: $name: as many requests as its journal has");
	is(sql("SELECT sum(input_tokens), sum(output_tokens), bool_or(estimated) FROM llm.ledger WHERE server = '$name'"),
		join('|', ROWS * INPUT, ROWS * OUTPUT, 'f'), "P3: $name: tokens as its answers tell");
}

$node->stop;
close MOCK;
$mock->finish;
done_testing();
