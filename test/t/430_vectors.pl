# Vectors: many inputs in one request. Each vector is in its own row, whatever the order of the answer; the parts of a
# request's usage add up (P3); one bad input costs only itself (P4, P5).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

use constant ROWS => $ENV{LLM_VECTORS} // 10_000;

# Inputs of a request, at most (src/send/load.c).
use constant WIDTH => 128;

my $node = new_node('vectors', 'llm_enrich.max_tries = 3', 'llm_enrich.keep_answers = 1d');
my $provider = start_provider();
setup_model($node, $provider, model => 'text-embedding-3-small', options => { max_concurrency => 8 });

sub fails_like
{
	my ($statement, $pattern, $name) = @_;
	my ($out, $err);

	$node->psql('postgres', $statement, stdout => \$out, stderr => \$err);
	like($err, $pattern, $name);
	return;
}

# A table of so many rows, each with a mark that ends in its number.
sub make_table
{
	my ($name, $rows) = @_;

	sql(qq(CREATE TABLE $name (id int PRIMARY KEY, body text, emb real[]);
		INSERT INTO $name SELECT i, 'Customer ' || i || ' writes ' || repeat('a lot ', i % 7)
			|| '[[mark:$name-' || i || ']]' FROM generate_series(1, $rows) i));
	return;
}

# Rows that hold a vector of their own: it begins with the number and the length of its input.
sub own_vectors { return sql("SELECT count(*) FROM $_[0] WHERE emb[1] = id AND emb[2] = length(body)"); }

# Requests that carried a task of the table.
sub requests_of { return sql("SELECT count(DISTINCT request) FROM llm.ledger WHERE relation LIKE '%$_[0]'"); }

# All at once.
make_table('many', ROWS);
sql('UPDATE many SET emb = llm_embed(body)');
wait_idle($node);
is(own_vectors('many'), ROWS, 'P5: ' . ROWS . ' rows have their own vectors');
cmp_ok(requests_of('many'), '<=', ROWS / 100, 'in a hundredth as many requests');
is(sql('SELECT count(*) FROM llm.ledger'), ROWS, 'P3: each task has a row on the ledger');
ledger_equals_meter($node, $provider, 'P3: parts of usage add up to what the provider billed');
is(sql(q(SELECT sum(cost) = sum(input_tokens) * 0.25 / 1000000 FROM llm.ledger)), 't', 'P3: and so does their cost');
is(sql('SELECT requests FROM llm.job_cost'), requests_of('many'), 'the job counts requests, not tasks');
my $marks = $provider->marks();
is_deeply([ scalar keys %$marks, scalar grep { $_ != 1 } values %$marks ], [ ROWS, 0 ], 'P3: each input was sent once');

# One bad input among a hundred.
$provider->reset;
make_table('poisoned', 100);
sql(q(UPDATE poisoned SET body = 'venom ' || body WHERE id = 42));
$provider->script({ sequence => [ { match => 'venom', times => -1, action => 'status', status => 400,
	body => { error => { message => 'The input is not acceptable.', type => 'invalid_request_error', param => undef, code => undef } } } ] });
my $before = sql('SELECT max(id) FROM llm.ledger');
sql('UPDATE poisoned SET emb = llm_embed(body)');
wait_idle($node);
is(own_vectors('poisoned'), 99, 'one bad input in a hundred: 99 rows have their vectors');
is(sql('SELECT string_agg(key ->> $$id$$, $$,$$) || $$ $$ || min(reason) FROM llm.dead_letter'), '42 rejected',
	'and only the bad one failed');
cmp_ok(requests_of('poisoned'), '<=', 16, 'its request was split in halves until it stood alone');
is(sql('SELECT tries FROM llm.dead_letter'), 1, 'it alone was charged, once');
is(sql("SELECT count(*) FROM llm.ledger WHERE id > $before AND outcome <> 'ok' AND cost <> 0"), 0,
	'refused requests cost nothing');
is(sql("SELECT count(DISTINCT request) FROM llm.ledger WHERE id > $before"), $provider->meter->{requests},
	'P3: each request is on the ledger');

# Too long, among others.
$provider->reset;
$provider->script({ context_tokens => 100 });
make_table('long', 50);
sql(q(UPDATE long SET body = repeat('word ', 200) || body WHERE id IN (7, 8)));
sql('UPDATE long SET emb = llm_embed(body)');
wait_idle($node);
is(own_vectors('long'), 48, 'two that are too long: the others have their vectors');
is(sql(q(SELECT string_agg(key ->> 'id', ',' ORDER BY task) FROM llm.dead_letter WHERE reason = 'too_long')), '7,8',
	'P4: only they failed');

# An answer with a vector too few, or with one that is too short.
$provider->reset;
$provider->script({ sequence => [ { action => 'wrong_label' }, { action => 'malformed_content' } ] });
make_table('lacking', 60);
$before = sql('SELECT max(id) FROM llm.ledger');
sql('UPDATE lacking SET emb = llm_embed(body, 16)');
wait_idle($node);
is(own_vectors('lacking'), 60, 'a vector that is missing is asked for again');
is(sql(qq(SELECT string_agg(outcome || n, ' ' ORDER BY outcome) FROM (SELECT outcome, count(*) AS n FROM llm.ledger
	WHERE id > $before GROUP BY 1) o)), 'invalid2 ok60', 'P3: only its own task is booked as invalid');
is(sql('SELECT DISTINCT cardinality(emb) FROM lacking'), 16, 'of so many dimensions as were asked for');

# Limits and lost connections, and a sender that dies.
$provider->reset;
$provider->script({ latency_ms => 300, latency_jitter_ms => 600, rate_limit => 0.1, retry_after => 0.05,
	error_500 => 0.05, cut_mid => 0.02 });
make_table('rough', 3000);
sql('UPDATE rough SET emb = llm_embed(body)');
$node->poll_query_until('postgres', q(SELECT count(emb) > 200 AND EXISTS (SELECT FROM llm.queue WHERE state = 'claimed') FROM rough))
	or die 'nothing goes on';
crash_server($node, sql(q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'llm_enrich sender')));
wait_idle($node);
is(own_vectors('rough') + sql(q(SELECT count(*) FROM llm.dead_letter WHERE relation_name LIKE '%rough')), 3000,
	'P2: whatever happens, each task has an end');
is(sql(q(SELECT count(*) FROM (SELECT request FROM llm.ledger WHERE relation LIKE '%rough' GROUP BY request
	HAVING count(DISTINCT outcome) > 1) r)), 0, 'P3: what went together is booked together');
cmp_ok(requests_of('rough'), '>=', $provider->meter->{requests}, 'P3: each request is on the ledger');

# Cells of other types, and expressions around a call.
$provider->reset;
sql(q(CREATE DOMAIN unit AS real[] CHECK (cardinality(VALUE) = 4);
	CREATE TABLE typed (id int PRIMARY KEY, body text, own unit, words text, first float8, doubles float8[], j jsonb);
	INSERT INTO typed VALUES (3, 'three [[mark:3]]'), (4, NULL)));
sql(q(UPDATE typed SET own = llm_embed(body, 4), words = llm_embed(body, 2), first = (llm_embed(body))[1],
	doubles = llm_embed(body, 2), j = to_jsonb(llm_embed(body, 2))));
wait_idle($node);
is(sql('SELECT own[1:2], words, first, doubles, j FROM typed WHERE id = 3'), '{3,16}|{3,16}|3|{3,16}|[3, 16]',
	'a domain, text, an element, another array, jsonb');
is(sql('SELECT num_nulls(own, words, first, doubles, j) FROM typed WHERE id = 4'), 5, 'NULL in, NULL out');

# In a SELECT.
is(sql(q(SELECT llm_embed('five [[mark:5]]', 2))), '{5,15}', 'an immediate call gives real[]');
is(sql(q(SELECT id FROM many WHERE id BETWEEN 20 AND 29 ORDER BY abs((llm_embed(body, 1))[1] - 25), id LIMIT 3)),
	"25\n24\n26", 'rows in order of a distance');
fails_like(q(SELECT llm_embed('x', 0)), qr/invalid value for argument "dimensions"|dimensions/, 'no dimensions');
fails_like(q(SELECT llm_embed('x', options => '{"temperature": 0.5}')), qr/llm_embed does not take "temperature"/,
	'no temperature');
is(sql(q(SELECT llm.preview('embed', 'abc', dimensions => 3)::text)),
	'{"input": ["abc"], "model": "text-embedding-3-small", "dimensions": 3}', 'the preview of a request');

# With the real type, where it is installed.
SKIP:
{
	skip 'pgvector is not installed', 2 unless sql(q(SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'));
	sql(q(CREATE EXTENSION vector; CREATE TABLE nearest (id int PRIMARY KEY, body text, emb vector(4));
		INSERT INTO nearest SELECT i, 'row [[mark:' || i || ']]' FROM generate_series(1, 200) i));
	sql('UPDATE nearest SET emb = llm_embed(body, 4)::vector');
	wait_idle($node);
	is(sql(q(SELECT count(*) FROM nearest WHERE (emb::real[])[1] = id)), 200, 'vectors of pgvector');
	is(sql(q(SELECT id FROM nearest ORDER BY emb <-> (SELECT emb FROM nearest WHERE id = 100) LIMIT 1)), 100,
		'and the nearest one');
}

# Every dialect that has vectors, in its own form; the one that has none says so.
my %dialects = (
	azure => { base_url => sub { $provider->base_url('azure') =~ s/\/v1$//r }, query => 'api-version=2024-10-21' },
	gemini => { base_url => sub { $provider->base_url('gemini') =~ s/\/v1$/\/v1beta/r } },
	mistral => { base_url => sub { $provider->base_url('mistral') =~ s/\/v1$/\/mistral\/v1/r } },
	ollama => { base_url => sub { $provider->base_url('ollama') =~ s/\/v1$//r } },
	anthropic => { base_url => sub { $provider->base_url('anthropic') } });
foreach my $dialect (sort keys %dialects)
{
	my %option = (%{ $dialects{$dialect} }, dialect => $dialect);

	$option{base_url} = $option{base_url}->();
	setup_model($node, $provider, server => "s_$dialect", alias => $dialect, model => 'vec', lane => $dialect, is_default => 0,
		options => \%option);
	sql("CREATE USER MAPPING FOR PUBLIC SERVER s_$dialect OPTIONS (api_key 'secret')");
	next if $dialect eq 'anthropic';
	make_table("t_$dialect", 300);
	sql("UPDATE t_$dialect SET emb = llm_embed(body, 5, model => '$dialect')");
	wait_idle($node);
	is(own_vectors("t_$dialect"), 300, "$dialect: 300 rows have their vectors");
	is(requests_of("t_$dialect"), 3, "$dialect: in three requests");
	ledger_equals_meter($node, $provider, "P3: $dialect: the ledger is the meter", lane => $dialect, server => "s_$dialect");
}
fails_like(q(SELECT llm_embed('x', model => 'anthropic')), qr/dialect "anthropic" makes no vectors/, 'anthropic: there are none');
make_table('t_anthropic', 3);
fails_like(q(UPDATE t_anthropic SET emb = llm_embed(body, model => 'anthropic')), qr/dialect "anthropic" makes no vectors/,
	'P6: also where rows are to be queued');

# Vectors are kept for the same question only where that is asked for.
$provider->reset;
make_table('twice', 200);
my $kept_before = sql('SELECT count(*) FROM llm.answer');
sql(q(UPDATE twice SET emb = llm_embed(body, 5)));
wait_idle($node);
is(sql('SELECT count(*) FROM llm.answer'), $kept_before, 'vectors are not kept');
sql(q(UPDATE twice SET emb = NULL; UPDATE twice SET emb = llm_embed(body, 5, options => '{"reuse": true}')));
wait_idle($node);
is(sql('SELECT count(*) FROM llm.answer') - $kept_before, 200, 'unless the call says so');
my $asked = requests_of('twice');
sql(q(UPDATE twice SET emb = NULL; UPDATE twice SET emb = llm_embed(body, 5, options => '{"reuse": true}')));
wait_idle($node);
is(requests_of('twice'), $asked, 'then nothing is asked');
is(own_vectors('twice'), 200, 'and each row has its own vector');
is(sql(q(SELECT (llm_embed(body, 5, options => '{"reuse": true}'))[1] FROM twice WHERE id = 7)), 7,
	'also while a statement waits');
sql(q(UPDATE twice SET emb = llm_embed(body, 4, options => '{"reuse": true}') WHERE id = 7));
wait_idle($node);
is(sql('SELECT cardinality(emb) FROM twice WHERE id = 7'), 4, 'of another number of dimensions it is asked for');

# Vectors of another model are no use: the fallback is not asked.
$provider->reset;
sql(q(SELECT llm.alter_model('ollama', fallback => 'fast')));
make_table('bound', 3);
$provider->script({ status => 400 }, 'ollama');
sql(q(UPDATE bound SET emb = llm_embed(body, model => 'ollama')));
wait_idle($node);
is(sql(q(SELECT count(*) FROM llm.ledger WHERE relation LIKE '%bound' AND server <> 's_ollama')), 0,
	'what its model refuses goes to no fallback');
is(sql(q(SELECT count(*) FROM llm.dead_letter WHERE relation_name LIKE '%bound' AND reason = 'rejected')), 3,
	'and fails');

$node->stop;
done_testing();
