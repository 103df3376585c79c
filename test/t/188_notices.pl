# What somebody is told who does not look: a statement's NOTICEs.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

my $node = new_node('notices', 'llm_enrich.enabled = off', 'llm_enrich.notices = on');
my $provider = start_provider();

setup_model($node, $provider);

sub sql { return $node->safe_psql('postgres', join(' ', @_)); }

# What a statement tells.
sub told
{
	my ($stdout, $stderr);

	$node->psql('postgres', join(' ', @_), stdout => \$stdout, stderr => \$stderr, on_error_stop => 1);
	$stderr =~ s/^psql:<stdin>:\d+: //mg;
	return $stderr;
}

sql(q(CREATE TABLE ticket (id int PRIMARY KEY, body text, label jsonb, gist text);
	INSERT INTO ticket SELECT i, 'The invoice of customer ' || i || ' is wrong' FROM generate_series(1, 30) i));

# A job for each call site; a single row, and a statement that queues nothing, tell nothing.
is(told(q(UPDATE ticket SET label = llm_classify(body, '{billing,bug}') WHERE id <= 20)),
	'NOTICE:  job 1: 20 rows are queued for column "label" of public.ticket', 'a job and its rows');
is(told(q(UPDATE ticket SET label = llm_classify(body, '{billing,bug}') WHERE id = 21)), '', 'a single row');
is(told(q(UPDATE ticket SET label = llm_classify(body, '{billing,bug}') WHERE id = 99)), '', 'no row');
is(told(q(UPDATE ticket SET label = llm_classify(body, '{x,y}'), gist = llm_summarize(body) WHERE id > 25)),
	qq(NOTICE:  job 3: 5 rows are queued for column "label" of public.ticket
NOTICE:  job 4: 5 rows are queued for column "gist" of public.ticket), 'two call sites');
is(told(q(SET llm_enrich.notices = off; UPDATE ticket SET gist = llm_summarize(body, 9) WHERE id < 5)), '',
	'switched off');
sql('CREATE TABLE many (id int PRIMARY KEY, body text, label jsonb)',
	q(; INSERT INTO many SELECT i, 'text ' || i FROM generate_series(1, 40) i));
like(told(q(UPDATE many SET label = llm_classify(body, ARRAY['a', 'b' || id % 20]))),
	qr/^(NOTICE:  job \d+: 2 rows .*\n){5}NOTICE:  15 more jobs, of 30 rows in all\nHINT:  See llm.progress.$/,
	'jobs of arguments that vary are counted');

# The same question again keeps the tasks that are on their way: nothing to tell, unless they are paused.
is(told(q(UPDATE ticket SET label = llm_classify(body, '{billing,bug}') WHERE id <= 20)), '', 'they are on their way');
sql('SELECT llm.pause(job => 1), llm.pause(job => 4)');
is(told(q(UPDATE ticket SET label = llm_classify(body, '{billing,bug}') WHERE id <= 20)),
	'NOTICE:  20 rows wait already, and what they wait for is paused
DETAIL:  Column "label" of public.ticket keeps its tasks in job 1.
HINT:  SELECT llm.resume(job => 1);', 'rows stay with a paused job');
is(told(q(UPDATE ticket SET gist = llm_summarize(body) WHERE id > 25)),
	'NOTICE:  5 rows wait already, and what they wait for is paused
DETAIL:  Column "gist" of public.ticket keeps its tasks in job 4.
HINT:  SELECT llm.resume(job => 4);', 'the same in a column of text');
sql('SELECT llm.pause(job => 3)');
is( told(q(UPDATE ticket SET label = CASE WHEN id > 25 THEN llm_classify(body, '{x,y}')
			ELSE llm_classify(body, '{billing,bug}') END WHERE id > 15 AND id <> 21)),
	'NOTICE:  5 rows wait already, and what they wait for is paused
DETAIL:  Column "label" of public.ticket keeps its tasks in job 1.
HINT:  SELECT llm.resume(job => 1);
NOTICE:  job 26: 4 rows are queued for column "label" of public.ticket
NOTICE:  5 rows wait already, and what they wait for is paused
DETAIL:  Column "label" of public.ticket keeps its tasks in job 3.
HINT:  SELECT llm.resume(job => 3);', 'some are new, some stay');
is(sql('SELECT llm.resume(job => 1)'), 1, 'the statement that was told resumes it');

# What was told did not happen when it is rolled back.
like(told(q(BEGIN; UPDATE ticket SET label = llm_classify(body, '{p,q}'); ROLLBACK)), qr/: 30 rows are queued/,
	'told before the end of the transaction');
is(sql(q(SELECT count(*) FROM llm.queue q JOIN llm.recipe r ON r.id = q.recipe WHERE r.spec::text ~ '"p"')), 0,
	'P1: and nothing is queued after ROLLBACK');

done_testing();
