# What a statement says that has asked while it waited: a NOTICE, and EXPLAIN ANALYZE (P3).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

my $provider = start_provider();
my $node = new_node('told', 'llm_enrich.notices = on', 'llm_enrich.keep_answers = 1d');

setup_model($node, $provider);
$provider->script({ latency_ms => 5 });

# What a statement tells, and what its answers cost.
sub told
{
	my ($stdout, $stderr);

	$node->psql('postgres', join("\n", @_), stdout => \$stdout, stderr => \$stderr);
	$stderr =~ s/^psql:<stdin>:\d+: //mg;
	return $stderr;
}

sub cost_of
{
	my ($n) = @_;

	return sql("SELECT trim_scale(round(sum(cost), 6)) FROM (SELECT cost FROM llm.ledger ORDER BY id DESC LIMIT $n) l");
}

sql(q(CREATE TABLE t (id int PRIMARY KEY, body text);
	INSERT INTO t SELECT i, 'The invoice is wrong [[mark:' || i || ']]' FROM generate_series(1, 27) i));

my $notice = told(q(SELECT llm_classify('one text', '{a,b}')));
is($notice, 'NOTICE:  1 call, ' . cost_of(1) . ' US dollars', 'one call, and what it cost');
is(told(q(SELECT llm_classify('one text', '{a,b}'))), 'NOTICE:  1 call, 1 kept, 0 US dollars', 'a kept one');
told(q(SELECT llm_classify(body, '{a,b}') FROM t WHERE id <= 3));
$notice = told(q(SELECT llm_classify(body, '{a,b}') FROM t));
is($notice, 'NOTICE:  27 calls, 3 kept, ' . cost_of(27) . ' US dollars', '27 calls, 3 of them kept');
is(told(q(SELECT id FROM t WHERE llm_classify(body, '{a,b}') IS NULL)), 'NOTICE:  27 calls, 27 kept, 0 US dollars',
	'a condition');
$notice = told(q(DO $$ BEGIN PERFORM llm_classify('two', '{a,b}'); PERFORM llm_classify('three', '{a,b}'); END $$));
is($notice, 'NOTICE:  2 calls, ' . cost_of(2) . ' US dollars', 'a block is one command');
is(told('SELECT 1'), '', 'who asks nothing is told nothing');
is(told(q(SET llm_enrich.notices = off; SELECT llm_classify('four', '{a,b}'))), '', 'or does not want to be');
is(told(q(SET llm_enrich.on_error = 'null'; SELECT llm_classify('  ', '{a,b}'))), '', 'a blank input is no call');
$provider->script({ sequence => [ { action => 'malformed_content' } ] });
$notice = told(q(SELECT llm_classify('five', '{a,b}')));
is($notice, 'NOTICE:  1 call, 2 requests, ' . cost_of(2) . ' US dollars', 'one that was asked for again');
$provider->script({ latency_ms => 5 });
sql(q(SELECT llm.add_model('free', server => 'sim', model => 'sim-9')));
is(told(q(SELECT llm_classify('six', '{a,b}', model => 'free'))), 'NOTICE:  1 call, cost not known', 'no price is known');
like(told(q(SET llm_enrich.max_cost = 1; SELECT llm_classify('seven', '{a,b}', model => 'free'))),
	qr/\AERROR: .*: SELECT llm\.set_price\('free', input_per_mtok => \.\.\., output_per_mtok => \.\.\.\);\nHINT:  Without a budget and/,
	'under a cap that is an error, which says what to type, and not to raise a budget');
like(told(q(SELECT 1 / (3 - id), llm_classify(body, '{a,c}') FROM t ORDER BY id)), qr/^ERROR:  division by zero$/m,
	'a statement that fails');
is(told('SELECT 1'), '', 'leaves nothing for the next one');

# EXPLAIN ANALYZE
my $plan = sql(q(EXPLAIN (ANALYZE, COSTS OFF, SUMMARY OFF)
	SELECT llm_classify(body, '{a,b}'), llm_classify(body, '{a,d}') FROM t));
like($plan, qr/^  Asked: 27\n  Kept: 27\n  Failed: 0\n  Requests: 27\n/m, 'EXPLAIN ANALYZE: asked and kept');
like($plan, qr/^  Input Tokens: [1-9]\d*\n  Output Tokens: [1-9]\d*\n  Cost In US Dollars: ([\d.]+)$/m,
	'tokens and cost');
my ($cost) = $plan =~ /Cost In US Dollars: ([\d.]+)/;
is($cost, sql(q(SELECT trim_scale(round(sum(cost), 6)) FROM (SELECT cost FROM llm.ledger WHERE outcome = 'ok'
	ORDER BY id DESC LIMIT 27) l)), 'P3: as on the ledger');
like($plan, qr/^  Waited: [\d.]+ ms\n  Most In Flight: [1-9]\d*$/m, 'how long it waited, and for how many at a time');
unlike(sql(q(EXPLAIN (COSTS OFF) SELECT llm_classify(body, '{a,b}') FROM t)), qr/Asked/, 'EXPLAIN alone asks nothing');

# auto_explain looks at a statement that has ended, when no snapshot is active any more
is(sql(q(LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_analyze = on;
	SET auto_explain.log_nested_statements = on;
	SELECT count(l) FROM (SELECT llm_classify(body, '{a,b}') AS l FROM t OFFSET 0) s;
	SELECT llm_agg(body, 'told once more') IS NOT NULL FROM t)), "27\nt", 'P4: auto_explain takes no answer away');
like(slurp_file($node->logfile), qr/Calls Ahead: 1\s+Asked: 0\s+Kept: 27\n/, 'and shows what was asked');
ledger_equals_meter($node, $provider, 'P3: ledger and meter agree');

done_testing();
