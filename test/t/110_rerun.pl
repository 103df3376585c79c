# Asking again: the same question of the same input is not paid twice, another
# question supersedes the first, and no good label is lost to a failed re-run.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

use constant ROWS => 500;

my $node = new_node('rerun', 'llm_enrich.max_tries = 2');
my $provider = start_provider();
setup_model($node, $provider);
$node->safe_psql('postgres', qq(
	CREATE TABLE ticket (id int PRIMARY KEY, body text, label jsonb);
	INSERT INTO ticket SELECT i, 'The invoice of customer ' || i || ' is wrong, billing failed [[mark:' || i || ']]'
	FROM generate_series(1, @{[ROWS]}) i));

my $classify = q(UPDATE ticket SET label = llm_classify(body, '{billing,bug,other}'));

# Twice in a row, while the first is pending.
$provider->hold;
$node->safe_psql('postgres', $classify);
$node->poll_query_until('postgres', "SELECT count(*) > 0 FROM llm.queue WHERE state = 'claimed'") or die 'nothing was claimed';
$node->safe_psql('postgres', $classify);
$node->safe_psql('postgres', "$classify WHERE llm_is_pending(label)");
$provider->go_on;
wait_idle($node);
is($provider->meter->{requests}, ROWS, 'asking the same while it is pending sends nothing more');
is($node->safe_psql('postgres', q(SELECT count(*) FROM ticket WHERE label = '{"label": "billing"}')),
	ROWS, 'and every row has its answer');
ledger_equals_meter($node, $provider, 'P3: ledger equals meter');

# A re-run with a failing provider: old labels are readable, and intact after cancel.
$provider->script({ error_500 => 1 });
$node->safe_psql('postgres', "UPDATE ticket SET label = llm_classify(body, '{money,defect}')");
is($node->safe_psql('postgres', q(
	SELECT count(*) FROM ticket WHERE label->>'label' = 'billing' AND llm_is_pending(label))),
	ROWS, 'old labels stay readable beside the marker');
$node->poll_query_until('postgres', "SELECT count(*) > 0 FROM llm.ledger WHERE outcome = 'error'")
	or die 'no error on the ledger';
is($node->safe_psql('postgres', q(
	SELECT count(*) FROM ticket WHERE label->>'label' = 'billing' AND llm_is_pending(label))),
	ROWS, 'also when the provider fails');
is($node->safe_psql('postgres', "SELECT llm.cancel(relation => 'ticket')"), ROWS, 'cancel all of them');
wait_idle($node);
is($node->safe_psql('postgres', q(SELECT count(*) FROM ticket WHERE label = '{"label": "billing"}')),
	ROWS, 'P4: old labels are intact after llm.cancel');
is($node->safe_psql('postgres', q(SELECT sum(cancelled) FROM llm.job)), ROWS, 'and counted as cancelled');

# Another question supersedes the one that is pending.
$provider->reset;
$provider->script({ latency_ms => 300 });
$node->safe_psql('postgres', q(
	BEGIN;
	UPDATE ticket SET label = llm_classify(body, '{one}') WHERE id = 1;
	UPDATE ticket SET label = llm_classify(body, '{two}') WHERE id = 1;
	COMMIT;));
wait_idle($node);
is($node->safe_psql('postgres', 'SELECT label FROM ticket WHERE id = 1'), '{"label": "two"}', 'the last question wins');
is($provider->meter->{requests}, 1, 'and the first, not sent yet, costs nothing');
$provider->hold;
$node->safe_psql('postgres', q(UPDATE ticket SET label = llm_classify(body, '{one}') WHERE id = 1));
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM llm.queue WHERE state = 'claimed'")
	or die 'nothing was claimed';
$node->safe_psql('postgres', q(UPDATE ticket SET label = '{"label": "by hand"}' WHERE id = 1));
$provider->go_on;
wait_idle($node);
is($node->safe_psql('postgres', 'SELECT label FROM ticket WHERE id = 1'), '{"label": "by hand"}',
	"P5: somebody else's value is not written over");
is($node->safe_psql('postgres', 'SELECT sum(superseded) FROM llm.job'), 2, 'both tasks that lost their cell are superseded');

# A session that met an empty queue does not read all of a long one for each row that asks again.
# Sessions tell what they did before they end, and may be at it when psql is gone.
sub read_whole
{
	$node->poll_query_until('postgres', q(SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'client backend'))
	  or die 'other sessions stay';
	return $node->safe_psql('postgres', q(SELECT sum(seq_scan) FROM pg_stat_all_tables
		WHERE relid IN ('llm.queue'::regclass, 'llm.job'::regclass, 'llm.recipe'::regclass)));
}

my $asks = q(UPDATE ticket SET label = llm_classify(body, '{three}', instructions => 'Customer ' || id % 3) WHERE id);
my $before = read_whole();
$node->safe_psql('postgres', join("\n", 'BEGIN;', (map { "$asks <= 3;" } 1 .. 12), "$asks > 3; $asks > 3; ROLLBACK;"));
is(read_whole(), $before, 'P10: what a row asks is looked up by index');

done_testing();
