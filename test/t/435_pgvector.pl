# Vectors in the types of pgvector, where that is installed: each in its own row (P5), by every way of storing, and with
# the number of dimensions that the column has.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

my $node = new_node('pgvector', 'llm_enrich.max_tries = 1');

plan skip_all => 'pgvector is not installed here'
	if $node->safe_psql('postgres', q(SELECT count(*) FROM pg_available_extensions WHERE name = 'vector')) == 0;

my $provider = start_provider();
setup_model($node, $provider, model => 'text-embedding-3-small');

sql(q(CREATE EXTENSION vector;
	CREATE TABLE item (id int PRIMARY KEY, body text, plain real[], emb vector(3), any_size vector);
	INSERT INTO item SELECT i, 'Customer ' || i || ' writes [[mark:item-' || i || ']]' FROM generate_series(1, 300) i));
my $has_half = sql(q(SELECT to_regtype('halfvec') IS NOT NULL)) eq 't';
sql('ALTER TABLE item ADD COLUMN half halfvec(3)') if $has_half;
my $half = $has_half ? ', half = llm_embed(body, 3)::halfvec(3)' : '';

sql("UPDATE item SET plain = llm_embed(body, 3), emb = llm_embed(body, 3)::vector(3), any_size = llm_embed(body, 3)$half");
wait_idle($node);
is(sql(q(SELECT count(*) FROM item WHERE emb::real[] = plain AND any_size = emb AND plain[1] = id)), 300,
	'P5: each vector in its own row');
SKIP:
{
	skip 'this pgvector has no halfvec', 1 if !$has_half;
	is(sql('SELECT count(*) FROM item WHERE half = plain::halfvec(3)'), 300, 'and of half the precision');
}
is(sql('SELECT count(*) FROM llm.dead_letter'), 0, 'none has failed');

sql(q(INSERT INTO item (id, body, emb) SELECT id + 1000, body, llm_embed(body, 3) FROM item WHERE id <= 5));
sql(q(UPDATE item SET emb = NULL WHERE id <= 5;
	UPDATE item SET emb = s.v FROM (SELECT id, llm_embed(body, 3)::vector(3) AS v FROM item) s WHERE s.id = item.id
		AND item.id <= 5));
wait_idle($node);
is(sql(q(SELECT count(*) FROM item a JOIN item b ON b.id IN (a.id + 1000, a.id) WHERE a.id <= 5
	AND b.emb::real[] = a.plain)), 10,
	'from a SELECT, and in a sub-select');
is(sql(q(SELECT id FROM item WHERE id <= 300 ORDER BY emb <-> (SELECT emb FROM item WHERE id = 7) LIMIT 1)), 7,
	'the nearest one is itself');

sql('UPDATE item SET emb = llm_embed(body, 4)::vector(3) WHERE id = 1');
wait_idle($node);
is(sql(q(SELECT string_agg(reason, ',') FROM llm.dead_letter)), 'not_writable',
	'P4: another number of dimensions than the column has: its answer is kept');
is(sql(q(SELECT count(*) FROM llm.dead_letter WHERE answer IS NOT NULL)), 1, 'and can be looked at');
ledger_equals_meter($node, $provider);

done_testing();
