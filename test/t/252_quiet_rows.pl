# Quiet cells by the thousand: every row its own answer, once (P2, P3), and never over
# somebody else's value or on another row (P5).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

use constant ROWS => 20_000;

my $node = new_node('quiet_rows', 'llm_enrich.max_tries = 1');
my $provider = start_provider();
setup_model($node, $provider);
my %script = (latency_ms => 1, latency_jitter_ms => 20);
$provider->script(\%script);

sql(qq(CREATE TABLE note (id bigint PRIMARY KEY, body text NOT NULL, gist text, other int);
	INSERT INTO note SELECT i, 'Customer ' || i || ' writes about an invoice [[mark:' || i || ']]' FROM generate_series(1, @{[ROWS]}) i));

# the same statement twice while the answers are pending
sending($node, 'off');
sql('UPDATE note SET gist = llm_summarize(body, 20)');
sql('UPDATE note SET gist = llm_summarize(body, 20)');
is(sql('SELECT count(*), count(DISTINCT cell) FROM llm.queue'), join('|', ROWS, ROWS), 'asked twice, queued once');
is(sql(q(SELECT count(*), count(gist) FROM note)), ROWS . '|0', 'the cells keep their value');
sending($node, 'on');
wait_idle($node);
is(sql(q(SELECT count(*) FROM note WHERE gist LIKE '%[[mark:' || id || ']]%' AND gist NOT LIKE '{%')), ROWS,
	'P5: every cell holds the answer to its own row, as text');
is($provider->meter->{requests}, ROWS, 'P3: as many requests as rows');
ledger_equals_meter($node, $provider, 'P3: known tokens are those that were billed');

# others write meanwhile
sending($node, 'off');
sql('UPDATE note SET gist = NULL WHERE id <= 4000');
sql('UPDATE note SET gist = llm_summarize(body, 21) WHERE id <= 4000');
sql(q(UPDATE note SET gist = 'of another session' WHERE id <= 1000));
sql('UPDATE note SET other = 1 WHERE id BETWEEN 1001 AND 2000');
sql(q(UPDATE note SET body = 'changed ' || body WHERE id BETWEEN 2001 AND 2500));
sql('DELETE FROM note WHERE id BETWEEN 2501 AND 3000');
sql(q(INSERT INTO note SELECT i, 'another row', NULL FROM generate_series(2501, 2750) i));
my $job = sql('SELECT max(id) FROM llm.job');
sending($node, 'on');
wait_idle($node);
is(sql("SELECT done, superseded, row_gone, failed FROM llm.job WHERE id = $job"), '2000|1750|250|0',
	'what was overwritten, or is another row, is superseded');
is(sql(q(SELECT count(*) FROM note WHERE gist = 'of another session')), 1000, 'P5: what was written meanwhile stays');
is(sql(q(SELECT count(*) FROM note WHERE id BETWEEN 1001 AND 2000 AND gist LIKE '%[[mark:' || id || ']]%')), 1000,
	'a change of another column does not matter');
is(sql(q(SELECT count(gist) FROM note WHERE id BETWEEN 2001 AND 2750)), 0, 'P5: no answer to another text');

# the same keys, loaded again
sending($node, 'off');
sql(q(UPDATE note SET gist = NULL));
sql('UPDATE note SET gist = llm_summarize(body, 22) WHERE id > 19000');
sql(q(BEGIN; TRUNCATE note; INSERT INTO note SELECT i, 'row ' || i || ' of the next load' FROM generate_series(1, 20000) i; COMMIT));
sending($node, 'on');
wait_idle($node);
is(sql('SELECT count(gist) FROM note'), 0, 'P5: no old answer on a new row');

# one answer in several columns of a row is one request
sql('ALTER TABLE note ADD COLUMN kind text, ADD COLUMN is_bug boolean');
my $before = $provider->meter->{requests};
sql(q(UPDATE note SET kind = llm_classify(body, '{bug,other}')->>'label', is_bug = llm_classify(body, '{bug,other}')->>'label' = 'bug'
	WHERE id <= 500));
wait_idle($node);
is(sql('SELECT count(*) FROM note WHERE id <= 500 AND kind IS NOT NULL AND is_bug IS NOT NULL'), 500, 'both columns have it');
is($provider->meter->{requests} - $before, 500, 'P3: and it was asked once');

# three nights, one row in ten always fails
sql(q(CREATE TABLE night (id int PRIMARY KEY, body text NOT NULL, category text);
	INSERT INTO night SELECT i, CASE WHEN i % 10 = 0 THEN 'poison ' ELSE 'invoice ' END || i FROM generate_series(1, 200) i));
$provider->script({ %script, answers => { poison => '{"label": "nonsense"}', invoice => '{"label": "billing"}' } });
my $nightly = q(UPDATE night SET category = llm_classify(body, '{billing,bug}')->>'label' WHERE category IS NULL);
sql($nightly);
wait_idle($node);
my $first = $provider->meter->{requests};
is(sql(q(SELECT count(category), count(*) FROM night)), '180|200', 'the first night');
is(sql(q(SELECT count(*), count(DISTINCT cell) FROM llm.dead_letter WHERE relation_name = 'public.night')), '20|20',
	'what fails is kept');
foreach my $night ('second', 'third')
{
	my (undef, undef, $stderr) = $node->psql('postgres', $nightly);

	like($stderr, qr/NOTICE:  20 rows were not asked again.*HINT:  SELECT llm\.retry\(job => \d+\)/s,
		"the $night night says so");
	wait_idle($node);
}
is($provider->meter->{requests}, $first, 'P3: each failing row was asked in the first night only');
is(sql(q(SELECT status, count(*) FROM llm.cell WHERE relation = 'public.night' GROUP BY 1)), 'failed|20',
	'llm.cell shows them');
is(sql(q(SELECT llm.cell_status('night', 'category', '{"id": 10}'), llm.cell_status('night', 'category', '{"id": 1}'))), 'failed|',
	'and llm.cell_status one');
$provider->script({ %script, answers => { poison => '{"label": "bug"}' } });
my (undef, undef, $hint) = $node->psql('postgres', $nightly);
$hint =~ /SELECT (llm\.retry\(job => \d+\))/ or die "no hint: $hint";
is(sql("SELECT $1"), 20, 'what the hint says can be typed');
wait_idle($node);
is(sql(q(SELECT count(category) FROM night)), 200, 'and the cells are filled');
is(sql(q(SELECT count(*) FROM llm.dead_letter)), 0, 'nothing is left');
ledger_equals_meter($node, $provider, 'P3: known tokens are those that were billed');

# three nights, of rows for which no label fits
sql(q(UPDATE night SET category = NULL; UPDATE night SET body = 'nothing ' || id WHERE id % 10 = 0;
	CREATE TABLE figure (id int PRIMARY KEY, body text, n int);
	INSERT INTO figure SELECT id, body FROM night WHERE id <= 20));
$provider->script({ %script, answers => { nothing => '{"label": null}', invoice => '{"label": "billing"}' } });
$nightly = q(UPDATE night SET category = llm_classify(body, '{billing,bug}', allow_none => true)->>'label'
		WHERE category IS NULL;
	UPDATE figure SET n = CASE WHEN body ~ 'nothing'
		THEN (llm_classify(body, '{billing,bug}', allow_none => true)->>'label')::int END WHERE n IS NULL);
sql($nightly);
wait_idle($node);
is(sql(q(SELECT count(category), count(*) FROM night)), '180|200', 'no label fits one row in ten');
is(sql(q(SELECT count(*) FROM llm.dead_letter)), 0, 'which is no failure');
is(sql(q(SELECT column_name, count(*) FROM llm.none_answer GROUP BY 1 ORDER BY 1)), "category|20\nn|2",
	'but remembered');
$first = $provider->meter->{requests};
foreach my $night ('second', 'third')
{
	my (undef, undef, $stderr) = $node->psql('postgres', $nightly);

	like($stderr,
		qr/20 rows were not asked again: .*discard\('public.night', 'category', reason => '{none}'\).* 2 rows were/s,
		"the $night night says so");
	wait_idle($node);
}
is($provider->meter->{requests}, $first, 'P3: they were asked in the first night only');
sql(q(UPDATE night SET category = llm_classify(body, '{billing,bug,other}', allow_none => true)->>'label'
	WHERE category IS NULL AND id <= 20));
wait_idle($node);
is($provider->meter->{requests}, $first + 2, 'another question is asked');
is(sql(q(SELECT count(*), count(DISTINCT cell) FROM llm.none_answer WHERE column_name = 'category')), '20|20', 'and takes the place of the first');
is(sql(q(SELECT llm.discard('night', 'category', reason => '{none}'))), 20, 'what the hint says can be typed');
$provider->script({ %script, answers => { nothing => '{"label": "bug"}' } });
sql(q(UPDATE night SET category = llm_classify('really ' || body, '{billing,bug}')->>'label' WHERE category IS NULL));
wait_idle($node);
is(sql(q(SELECT count(category) FROM night)), 200, 'and the cells are filled');
is(sql(q(SELECT count(*) FROM llm.none_answer WHERE column_name = 'category')), 0, 'nothing is left');
ledger_equals_meter($node, $provider, 'P3: known tokens are those that were billed');

# llm.retry passes over cells that moved on: what would come back would be paid and dropped
sql(q(CREATE TABLE moved (id int PRIMARY KEY, body text NOT NULL, category text);
	INSERT INTO moved SELECT i, 'poison ' || i FROM generate_series(1, 8) i;
	CREATE TABLE coded (code char(3) PRIMARY KEY, body text NOT NULL, label jsonb);
	INSERT INTO coded VALUES ('abc', 'poison of abc')));
$provider->script({ %script, answers => { poison => '{"label": "nonsense"}' } });
sql(q(UPDATE moved SET category = llm_classify(body, '{billing,bug}')->>'label'),
	q(; UPDATE coded SET label = llm_classify(body, '{billing,bug}')));
wait_idle($node);
is(sql('SELECT count(*) FROM llm.dead_letter'), 9, 'all have failed');
sending($node, 'off');
sql(q(UPDATE moved SET category = 'by hand' WHERE id <= 2;
	UPDATE moved SET body = 'another ' || body WHERE id = 3;
	DELETE FROM moved WHERE id = 4;
	UPDATE moved SET category = llm_classify(body, '{billing,bug,other}')->>'label' WHERE id = 5));
$provider->script({ %script, answers => { poison => '{"label": "bug"}' } });
$first = $provider->meter->{requests};
is(sql(q(SELECT llm.retry('moved'))), 3,
	'P3: not asked again: filled by hand, another row, gone, under way with another question');
is(sql(q(SELECT llm.retry('coded'))), 1, 'a row is found by its key of type char(3)');
is(sql('SELECT count(*) FROM llm.dead_letter'), 0, 'and their letters are closed');
sending($node, 'on');
wait_idle($node);
is($provider->meter->{requests}, $first + 5, 'P3: what was asked was asked once');
is(sql(q(SELECT string_agg(id || ' ' || coalesce(category, '-'), ', ' ORDER BY id) FROM moved)),
	'1 by hand, 2 by hand, 3 -, 5 bug, 6 bug, 7 bug, 8 bug', 'P5: each cell has what it is to have');
is(sql(q(SELECT label FROM coded)), '{"label": "bug"}', 'the other kind of cells, too');
ledger_equals_meter($node, $provider, 'P3: known tokens are those that were billed');

done_testing();
