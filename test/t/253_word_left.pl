# What becomes of a task that a user has ended while it was under way, or while its answer was put off (P2, P4).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use LLMTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('word');
my $provider = start_provider();

setup_model($node, $provider, options => { max_concurrency => 1 });
sql(q(CREATE TABLE ticket (id int PRIMARY KEY, body text, kind text, label jsonb);
	INSERT INTO ticket SELECT i, 'The invoice is wrong, number ' || i || '.' FROM generate_series(1, 10) i));

# Another question takes the cell while the first one is under way, and is to be asked again.
$provider->script({ sequence => [ { match => 'billing', times => -1, action => 'error_500' } ] });
$provider->hold;
sql(q(UPDATE ticket SET kind = llm_classify(body, '{billing,bug}')->>'label' WHERE id = 1));
my $job = sql('SELECT max(id) FROM llm.job');
wait_until(q(EXISTS (SELECT FROM llm.queue WHERE state = 'claimed')), 'it is under way');
sql(q(UPDATE ticket SET kind = llm_classify(body, '{invoice,bug}')->>'label' WHERE id = 1));
$provider->go_on;
wait_idle($node);
is(sql("SELECT superseded, cancelled, done, failed FROM llm.job WHERE id = $job"), '1|0|0|0',
	'P2: a task whose cell another question has taken ends as superseded');
is(sql('SELECT kind FROM ticket WHERE id = 1'), 'invoice', 'and the other one is answered');

# An answer waits for a row that a user has locked, while later ones are written; then it is cancelled.
my $holder = $node->background_psql('postgres');

$provider->script({});
sql(q(UPDATE ticket SET label = '"before"'));
$provider->hold;
sql(q(UPDATE ticket SET label = llm_classify(body, '{billing,bug}') WHERE id >= 2));
$job = sql('SELECT max(id) FROM llm.job');
$holder->query_safe('BEGIN; SELECT FROM ticket WHERE id = 2 FOR UPDATE');
$provider->go_on;
wait_until("(SELECT done = 8 FROM llm.job WHERE id = $job)", 'the others are written');
my $task = sql(q(SELECT id FROM llm.queue WHERE state IN ('waiting', 'answered') AND answer IS NOT NULL));
isnt($task, '', 'P6: an answer waits for its row');
sql("SELECT llm.cancel(task => $task)");
$holder->query_safe('COMMIT');
$holder->quit;
my $began = time;
wait_idle($node);
cmp_ok(time - $began, '<', 15, 'P2: cancelled then, it ends when the row is free, and not a minute later');
is(sql('SELECT label FROM ticket WHERE id = 2'), '"before"', 'and its cell has what it held');

done_testing();
