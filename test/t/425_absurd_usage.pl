# A usage that cannot be, in an answer that is good: it holds up nobody (P6), and the ledger has an estimate and says
# why.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

my $node = new_node('absurd');
my $provider = start_provider();

# input => what a provider tells as prompt_tokens and completion_tokens
my @told = ([ '1e30', '1e30' ], [ 5_000_000, 10 ], [ 10, 9_000_000 ], [ -5, -1 ], [ '"many"', '"few"' ], [ '"12"', '"3"' ], [ 900_000, 10 ]);
my @steps = map {
	{ match => "[[mark:$_]]", action => 'status', status => 200,
		body => '{"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": '
		  . '"{\"label\": \"billing\"}"}}], "usage": {"prompt_tokens": ' . $told[ $_ - 1 ][0] . ', "completion_tokens": '
		  . $told[ $_ - 1 ][1] . '}}' }
} 1 .. @told;

setup_model($node, $provider, options => { tokens_per_minute => 600_000 });
$provider->script({ sequence => \@steps });
sql(q(CREATE TABLE ticket (id int PRIMARY KEY, body text, label jsonb);
	INSERT INTO ticket SELECT i, format('the billing is wrong [[mark:%s]]', i) FROM generate_series(1, 200) i));
sql(q(UPDATE ticket SET label = llm_classify(body, '{billing,bug}')));
wait_idle($node);

is(sql(q(SELECT count(*) FROM ticket WHERE label ->> 'label' = 'billing')), 200, 'P2: all are answered');
cmp_ok(sql('SELECT extract(epoch FROM max(at) - min(at)) FROM llm.ledger'), '<', 30, 'P6: nobody waits for tokens that nobody used');
is(sql(q(SELECT string_agg(t.id || ' ' || estimated || ' ' || (input_tokens + output_tokens < 1000), ', ' ORDER BY t.id)
	FROM llm.ledger JOIN ticket t ON (key ->> 'id')::int = t.id WHERE t.id <= 7)),
	'1 true true, 2 true true, 3 true true, 4 true true, 5 true true, 6 false true, 7 false false',
	'P3: what cannot be is estimated; numbers in quotes, and what may be, are booked as told');
is(sql(q(SELECT count(*) FROM llm.ledger WHERE outcome = 'ok' AND error LIKE 'The provider told a usage of % tokens, which cannot be%')), 3,
	'and the ledger says so');
is(sql(q(SELECT count(*) FROM llm.ledger WHERE (input_tokens = 12 AND output_tokens = 3)
	OR (input_tokens = 900000 AND output_tokens = 10))), 2,
	'P3: to the token');
is(sql(q(SELECT count(*) FROM llm.health WHERE kind = 'target' AND state <> 'ok')), 0, 'the target is well');

$node->stop;
done_testing();
