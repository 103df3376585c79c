# Quiet cells: cells of any type keep their value until the answer is there (P5), with
# expressions around the call (P2, P4).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

my $node = new_node('quiet');
my $provider = start_provider();
setup_model($node, $provider);

# Every text that has the word gets that label.
my %script = (latency_ms => 1, answers => {
	invoice => '{"label": "billing"}', crash => '{"label": "bug"}', wish => '{"label": "feature"}' });
$provider->script(\%script);

sql(q(
	CREATE TYPE kind AS ENUM ('billing', 'bug', 'feature');
	CREATE DOMAIN label AS text CHECK (VALUE <> 'nonsense');
	CREATE TABLE ticket (id int PRIMARY KEY, body text, prefix text, plain text, long varchar(40), kind kind, dom label,
		tags text[], doc jsonb);
	INSERT INTO ticket (id, body, prefix) VALUES (1, 'The invoice is wrong', 'a'), (2, 'It gives a crash', 'b'),
		(3, 'I wish for more', NULL), (4, NULL, 'd')));

sql(q(UPDATE ticket SET plain = llm_classify(body, '{billing,bug,feature}')));
wait_idle($node);
is(sql('SELECT id, plain FROM ticket ORDER BY id'), "1|billing\n2|bug\n3|feature\n4|",
	'a bare call in a text column gives the label');

is(sql(q(BEGIN; UPDATE ticket SET plain = NULL,
	long = upper(prefix || ': ' || (llm_classify(body, '{billing,bug,feature}')->>'label')),
	kind = (llm_classify(body, '{billing,bug,feature}')->>'label')::kind,
	dom = llm_classify(body, '{billing,bug,feature}')->>'label',
	tags = ARRAY[llm_classify(body, '{billing,bug,feature}')->>'label', prefix];
	SELECT count(*) FROM ticket WHERE long IS NULL AND kind IS NULL; COMMIT)), 4, 'the cells keep their value meanwhile');
wait_idle($node);
is(sql('SELECT id, long, kind, dom, tags FROM ticket ORDER BY id'),
	join("\n", '1|A: BILLING|billing|billing|{billing,a}', '2|B: BUG|bug|bug|{bug,b}',
		'3||feature|feature|{feature,NULL}', '4||||{NULL,d}'),
	'expressions, an enum, a domain and an array');

done_testing();
