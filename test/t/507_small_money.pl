# What is told of money and of targets, as people read it: an amount below a millionth is no zero, and llm.health names
# what keeps a job waiting as soon as the job does.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

my $node = new_node('small_money', 'llm_enrich.max_retry_share = 0', 'llm_enrich.max_tries = 30');
my $provider = start_provider();

setup_model($node, $provider, prices => { input_per_mtok => 0.000001, output_per_mtok => 0.000002 });
sql(q(
	CREATE TABLE t (id int PRIMARY KEY, body text, label jsonb);
	INSERT INTO t SELECT i, 'The invoice of customer ' || i || ' is wrong' FROM generate_series(1, 60) i));

# ---------------------------------------------------------------------------
# A share of next to nothing
# ---------------------------------------------------------------------------

$provider->script({ malformed_content => 1 });
sql(q(UPDATE t SET label = llm_classify(body, '{billing,bug}')));
$node->poll_query_until('postgres', q(SELECT count(*) > 0 FROM llm.dead_letter WHERE reason = 'retry_share'))
	or die 'no task has failed for its share';
my $message = sql(q(SELECT message FROM llm.dead_letter WHERE reason = 'retry_share' LIMIT 1));
like($message, qr/retries have taken 0\.0+[1-9]\d? of 0\.0+[1-9]\d? dollars/, 'small amounts have digits that count');
sql(q(SELECT llm.cancel('t')));
wait_idle($node);

# ---------------------------------------------------------------------------
# A target that answered a moment ago, and is paused in doubt
# ---------------------------------------------------------------------------

$provider->reset;
sql(q(SELECT llm.discard('t'); UPDATE t SET label = NULL;
	UPDATE t SET label = llm_classify(body, '{billing,bug}') WHERE id <= 20));
wait_idle($node);
is(sql(q(SELECT count(*) FROM llm.health WHERE subject ~ '^model ')), 0, 'nothing is wrong');
$provider->script({ sequence => [ { times => -1, action => 'status', status => 401 } ] });
sql(q(UPDATE t SET label = llm_classify(body, '{billing,bug}') WHERE id > 20));
$node->poll_query_until('postgres', q(SELECT count(*) > 0 FROM llm.progress WHERE state = 'open' AND why ~ 'key'))
	or die 'no job tells of the key';
is(sql(q(SELECT count(*) FROM llm.health WHERE subject ~ '^model ' AND problem IS NOT NULL AND hint IS NOT NULL)), 1,
	'llm.health knows what the job waits for, and what to do');
$provider->reset;
$node->poll_query_until('postgres', q(SELECT NOT EXISTS (SELECT FROM llm.health WHERE subject ~ '^model ')))
	or die 'llm.health does not forget it';
sql(q(SELECT llm.cancel('t')));
wait_idle($node);
is(sql(q(SELECT count(*) FROM llm.queue)), 0, 'P2: every task is final');

done_testing();
