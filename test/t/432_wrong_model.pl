# Vectors asked of a model that gives text, or text of one that gives vectors: one clear failure (P6). Where it is
# known, of the statement; else the job pauses after the first refusal, in the provider's words. Other calls of the
# model go on.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

use constant ROWS => 600;

my $node = new_node('wrong_model');
my $provider = start_provider();

sub await
{
	my ($query, $what) = @_;

	$node->poll_query_until('postgres', $query) or die $what;
	return;
}

setup_model($node, $provider);
setup_model($node, $provider, alias => 'chat', model => 'gpt-5-mini', is_default => 0);
setup_model($node, $provider, server => 's_anthropic', alias => 'claude', lane => 'anthropic', is_default => 0,
	options => { dialect => 'anthropic' });
sql(qq(CREATE TABLE t (id int PRIMARY KEY, body text, label jsonb, emb real[]);
	INSERT INTO t SELECT i, 'billing ' || i || ' [[mark:' || i || ']]' FROM generate_series(1, @{[ROWS]}) i));

# What the price list, or the dialect, tells.
like(error_of(q(SELECT llm_embed(body, model => 'chat') FROM t)),
	qr/42809: llm_embed\(\) cannot ask model "chat": "gpt-5-mini" gives text and no vectors\nHINT:  SELECT llm.add_model\('vectors'/,
	'a SELECT of vectors from a model that gives text');
setup_model($node, $provider, alias => 'vec', model => 'text-embedding-3-small', is_default => 0);
like(error_of(q(UPDATE t SET emb = llm_embed(body, model => 'chat'))),
	qr/42809: .*gives text and no vectors\nHINT:  Name one by llm_embed\(\.\.\., model => '\.\.\.'\): "vec"/,
	'the same in an UPDATE, which names the alias to take');
like(error_of(q(SELECT llm_classify(body, '{billing,bug}', model => 'vec') FROM t)),
	qr/42809: llm_classify\(\) cannot ask model "vec": "text-embedding-3-small" gives vectors and no text/, 'and of text');
like(error_of(q(UPDATE t SET label = llm_classify(body, '{billing,bug}', model => 'vec'))), qr/42809: .*gives vectors/,
	'also in an UPDATE');
like(error_of(q(SELECT llm_agg(body, 'Sum up', 'vec') FROM t)), qr/42809: .*gives vectors/, 'also in an aggregate');
like(error_of(q(UPDATE t SET emb = llm_embed(body, model => 'claude'))),
	qr/42809: .*a server of dialect "anthropic" makes no vectors/, 'a dialect that has none');
is($provider->meter->{requests}, 0, 'P6: nothing is asked');
is(sql('SELECT count(*) FROM llm.queue'), 0, 'and nothing is queued');

# What a list says of another provider's model of that name holds for nobody else.
sql(q(SELECT llm.import_prices('{"elsewhere/llama3": {"litellm_provider": "elsewhere", "mode": "chat",
	"input_cost_per_token": 1e-7, "output_cost_per_token": 1e-7}}')));
is(sql(q(SELECT provider || ' ' || kind FROM llm.price_list WHERE model = 'llama3')), 'elsewhere chat', 'another provider lists a name');
setup_model($node, $provider, alias => 'own', model => 'llama3', is_default => 0);
is(sql(q(SELECT llm_embed('some text', model => 'own') IS NOT NULL)), 't', 'what one serves oneself is asked');

# llm.check() asks for what the model gives.
like(sql(q(SELECT llm.check('vec'))), qr/^ok: "text-embedding-3-small" at server "sim" answered/, 'a model of vectors is checked');
like($provider->last_body, qr/"input"/, 'by asking for one');
$provider->reset;

# What only the provider knows.
my %refusals = (
	vectors => { match => '"input"', times => -1, action => 'status', status => 403, body => { error => {
		message => 'You are not allowed to generate embeddings from this model', type => 'invalid_request_error' } } },
	text => { match => '"messages"', times => -1, action => 'status', status => 404, body => { error => {
		message => 'This is not a chat model and thus not supported in the v1/chat/completions endpoint.',
		type => 'invalid_request_error', param => 'model', code => undef } } });
my %calls = (
	vectors => [ 'emb = llm_embed(body)', q(SELECT llm_embed('x') IS NOT NULL), 'gives no vectors: You are not allowed' ],
	text => [ q(label = llm_classify(body, '{billing,bug}')), q(SELECT llm_classify('x', '{billing,bug}') ? 'label'),
		'does not answer chats: This is not a chat model' ]);
foreach my $kind ('vectors', 'text')
{
	my ($set, $select, $words) = @{ $calls{$kind} };
	my $other = $calls{ $kind eq 'text' ? 'vectors' : 'text' };

	$provider->reset;
	$provider->script({ sequence => [ $refusals{$kind} ] });
	my $job = sql("UPDATE t SET $set; SELECT llm.last_job()");
	await("SELECT state = 'paused' FROM llm.job WHERE id = $job", 'the job is not paused');
	like(sql("SELECT reason FROM llm.job WHERE id = $job"),
		qr/^paused: model "sim-1" at server "sim" \Q$words\E.*; SELECT .*job = $job; .*llm.resume\(job => $job\); goes on$/,
		"$kind: the job pauses, in the provider's words");
	is(sql($other->[1]), 't', 'the model is asked for the other at once');
	like(sql(q(SELECT llm.check('fast'))), qr/^ok: /, 'llm.check() finds out what it gives');
	is(sql("SELECT DISTINCT reason FROM llm.dead_letter WHERE job = $job"), 'wrong_model', 'its task has the reason');
	cmp_ok(sql("SELECT count(DISTINCT request) FROM llm.ledger WHERE job = $job"), '<', $kind eq 'vectors' ? 10 : ROWS / 4, 'few requests have told it');
	like(error_of("SET llm_enrich.on_error = 'null'; $select"),
		qr/55000: .* got no answer: wrong_model: model "sim-1" at server "sim" \Q$words\E.*HINT:  Name another model/s,
		'a statement that waits is told, too');
	$provider->script({});
	sql("SELECT llm.resume(job => $job); SELECT llm.retry(reason => '{wrong_model}')");
	wait_idle($node);
	is(sql('SELECT count(*) FROM t WHERE ' . ($kind eq 'text' ? q(label ? 'label') : 'emb IS NOT NULL')), ROWS,
		'once it takes them, resume() and retry() bring all');
}

# No such address for vectors: that is no word about chats.
$provider->reset;
$provider->script({ sequence => [ { match => '"input"', times => -1, action => 'status', status => 404, body => { detail => 'Not Found' } } ] });
sql(q(UPDATE t SET emb = llm_embed(body || ' again', model => 'fast') WHERE id <= 5));
await(q(SELECT count(*) = 1 FROM llm.health WHERE subject = 'model "fast" (vectors)'), 'vectors are not paused');
is(sql(q(SELECT llm_classify('x', '{billing,bug}') ? 'label')), 't', 'P6: the model is asked for text where it is paused for vectors');
$provider->script({});
ok(wait_forward($node, 'SELECT NOT EXISTS (SELECT FROM llm.queue)'), 'and for these when it takes them');

$node->stop;
done_testing();
