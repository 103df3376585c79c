# The user's own conditions on an answer: the model is told which one does not hold and is asked again;
# the row fails when it has used its tries. They are evaluated as the role that asked, as the session meant them.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

my $node = new_node('checks', 'llm_enrich.max_tries = 3', 'llm_enrich.keep_answers = 0');
my $provider = start_provider();

setup_model($node, $provider);
sql(q(
	CREATE TABLE ticket (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text, label jsonb, kind text);
	CREATE ROLE asker;
	GRANT USAGE ON FOREIGN SERVER sim TO asker;
	GRANT SELECT, INSERT, UPDATE ON ticket TO asker;
	CREATE SCHEMA rules;
	GRANT USAGE ON SCHEMA rules TO asker;
	CREATE FUNCTION rules.fine(jsonb) RETURNS boolean LANGUAGE plpgsql AS
		$$ BEGIN RETURN $1->>'label' = 'other'; END $$));

# The first answer, the one after the first remark, and the one after the second.
my %answers = (
	'the invoice' => '{"label": "billing"}',
	q(<> 'billing') => '{"label": "bug"}',
	q(<> 'bug') => '{"label": "other"}');
my $checks = q(checks => ARRAY[$$answer->>'label' <> 'billing'$$,
	$$answer->>'label' <> 'bug' AND input LIKE 'the invoice%'$$]);
my $call = "'{billing,bug,other}', $checks";

sub requests { return $provider->meter->{requests}; }

# Fails twice and then holds: a cell that shows its task, a quiet one, and a statement that waits.
foreach my $case (
	[ 'a cell with a marker', "UPDATE ticket SET label = llm_classify(body, $call)", "label->>'label'" ],
	[ 'a quiet cell', "UPDATE ticket SET kind = llm_classify(body, $call)", 'kind' ])
{
	my ($what, $statement, $value) = @{$case};

	sql(q(TRUNCATE ticket; INSERT INTO ticket (body) VALUES ('the invoice of May')));
	$provider->script({ answers => \%answers });
	my $before = requests();
	sql($statement);
	wait_idle($node);
	is(sql("SELECT $value FROM ticket"), 'other', "$what: the third answer is in the cell");
	is(requests() - $before, 3, "$what: three requests, and the model was told why each time");
	like($provider->last_body, qr/does not satisfy the condition answer->>'label' <> 'bug' AND input/, "$what: in these words");
	is(sql(q(SELECT string_agg(outcome, ' ' ORDER BY id) FROM llm.ledger WHERE job = (SELECT max(id) FROM llm.job))),
		'ok ok ok', "$what: each answer is paid, and ok on the ledger");
}
my $before = requests();
is(sql("SELECT llm_classify('the invoice of June', $call)->>'label'"), 'other', 'immediate: the third answer');
is(requests() - $before, 3, 'immediate: by three requests');
like($provider->last_body, qr/does not satisfy the condition answer->>'label' <> 'bug'/,
	'immediate: the model is told');

# The same question of several rows: each answer is checked where it is written.
sql(q(TRUNCATE ticket; INSERT INTO ticket (body) SELECT 'the invoice of July' FROM generate_series(1, 10)));
sql("UPDATE ticket SET label = llm_classify(body, $call)");
wait_idle($node);
is(sql(q(SELECT count(*) FROM ticket WHERE label->>'label' = 'other')), 10, 'followers: all have an answer that will do');

# Never.
sql(q(TRUNCATE ticket; INSERT INTO ticket (body) VALUES ('the invoice of August')));
$provider->script({});
$before = requests();
sql(q(UPDATE ticket SET label = llm_classify(body, '{billing,bug}', checks => ARRAY['false'])));
wait_idle($node);
is(requests() - $before, 3, 'a condition that never holds: max_tries requests');
is(sql(q(SELECT reason, tries, answer IS NULL, last_answer IS NOT NULL FROM llm.dead_letter)), 'check_failed|3|t|t',
	'then the row has failed');
is(sql(q(SELECT label->'llm_enrich'->>'error' FROM ticket)), 'check_failed', 'its cell says so');
is(sql(q(SELECT llm.retry(reason => '{check_failed}'))), 1, 'and it can be asked again');
wait_idle($node);
is(requests() - $before, 6, 'which asks, since no answer was kept');
my ($code, $out, $err) =
  $node->psql('postgres', q(SELECT llm_classify('the invoice', '{billing,bug}', checks => ARRAY['false'])));
like($err, qr/llm_classify\(\) got no answer: check_failed: The answer does not satisfy the condition false/,
	'immediate: an error');

# One that raises.
$before = requests();
sql(q(TRUNCATE ticket; INSERT INTO ticket (body) VALUES ('the invoice of September')));
sql(q(UPDATE ticket SET label = llm_classify(body, '{billing,bug}', checks => ARRAY[$$(answer->>'label')::int > 0$$])));
wait_idle($node);
is(requests() - $before, 3, 'a condition that raises: max_tries requests');
like($provider->last_body, qr/raises an error for the answer: invalid input syntax for type integer/,
	'and the model is told');
like(sql(q(SELECT message FROM llm.dead_letter)), qr/invalid input syntax for type integer/, 'as is who looks at the dead letter');

# NULL holds, as for a CHECK constraint; several rows, some of which fail.
sql(q(TRUNCATE ticket; INSERT INTO ticket (body) SELECT 'the invoice ' || i FROM generate_series(1, 50) i));
sql(q(UPDATE ticket SET label = llm_classify(body, '{billing,bug}', checks => ARRAY['NULL', $$input NOT LIKE '%7'$$])));
wait_idle($node);
is(sql(q(SELECT count(*) FILTER (WHERE label->>'label' IS NOT NULL), count(*) FILTER (WHERE llm_status(label) = 'failed')
	FROM ticket)),
	'45|5', 'one bad row costs only itself');

# As the role, by the path of its session.
sql(q(TRUNCATE ticket; INSERT INTO ticket (body) VALUES ('the invoice of October')));
$provider->script({ answers => { 'the invoice' => '{"label": "other"}' } });
sql(q(SET ROLE asker; SET search_path = rules, public;
	UPDATE ticket SET label = llm_classify(body, '{billing,bug,other}', checks => ARRAY['fine(answer)'])));
wait_idle($node);
is(sql(q(SELECT label->>'label' FROM ticket)), 'other', 'P9: a function is found by the path of who asked');

sql(q(REVOKE EXECUTE ON FUNCTION rules.fine FROM PUBLIC));
($code, $out, $err) = $node->psql('postgres', q(SET ROLE asker;
	UPDATE ticket SET label = llm_classify(body, '{billing,bug,other}', checks => ARRAY['rules.fine(answer)'])));
like($err, qr/permission denied for function fine/, 'P9: one that the role may not call is refused when the statement runs');
sql(q(GRANT EXECUTE ON FUNCTION rules.fine TO asker));
sending($node, 'off');
sql(q(SET ROLE asker;
	UPDATE ticket SET label = llm_classify(body || '!', '{billing,bug,other}', checks => ARRAY['rules.fine(answer)'])));
sql(q(REVOKE EXECUTE ON FUNCTION rules.fine FROM asker));
sending($node, 'on');
wait_idle($node);
is(sql(q(SELECT reason, answer->>'label' FROM llm.dead_letter WHERE role = 'asker'::regrole)), 'not_writable|other',
	'P4: a right that was lost meanwhile: the answer is kept');
sql(q(GRANT EXECUTE ON FUNCTION rules.fine TO asker));
$before = requests();
sql(q(SELECT llm.retry(reason => '{not_writable}')));
wait_idle($node);
is(sql(q(SELECT label->>'label' FROM ticket)), 'other', 'and is written once the right is back');
is(requests() - $before, 0, 'without a request');

# One that raises what a lock or a cancel raises is a condition that raises: it is no lock that ends some day.
foreach my $code (qw(55P03 57014))
{
	sql(qq(CREATE OR REPLACE FUNCTION rules.never(jsonb) RETURNS boolean LANGUAGE plpgsql
		AS \$\$BEGIN RAISE 'never mind' USING ERRCODE = '$code'; END\$\$;
		TRUNCATE ticket, llm.dead_letter; INSERT INTO ticket (body) VALUES ('the invoice of $code');
		UPDATE ticket SET label = llm_classify(body, '{billing,bug,other}', checks => ARRAY['rules.never(answer)'])));
	wait_idle($node);
	is(sql(q(SELECT reason, tries FROM llm.dead_letter)), 'check_failed|3', "P2: a condition that raises $code fails");
	like(sql(q(SELECT message FROM llm.dead_letter)), qr/raises an error for the answer: never mind/, 'with its words');
}

# What a condition means is settled when the statement runs: a function that fits better and comes later is not taken.
sql(q(CREATE SCHEMA common; GRANT USAGE ON SCHEMA common TO asker;
	CREATE FUNCTION common.good(varchar) RETURNS boolean LANGUAGE sql AS 'SELECT true';
	CREATE OPERATOR common.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = texteq);
	TRUNCATE ticket; INSERT INTO ticket (body) VALUES ('the invoice of November')));
sending($node, 'off');
sql(q(SET ROLE asker; SET search_path = common, public;
	UPDATE ticket SET label = llm_classify(body, '{billing,bug,other}',
	checks => ARRAY[$$good(answer->>'label')$$,
		$$input === input AND '03/04/2026'::date < now()::date + 100000$$])));
sql(q(CREATE FUNCTION common.good(text) RETURNS boolean LANGUAGE sql AS 'SELECT false'));
$before = requests();
sending($node, 'on');
wait_idle($node);
is(sql(q(SELECT llm_status(label) FROM ticket)) . ' ' . (requests() - $before), 'done 1',
	'P9: what somebody creates meanwhile is not called');

# A function that returns a value of its own: "answer" is that.
$provider->script({});
is(sql(q(SELECT pg_typeof(llm_filter('the invoice', 'is it one?', checks => ARRAY[$$jsonb_typeof(answer) = 'boolean'$$])))), 'boolean',
	'the answer of llm_filter is a boolean');

# One that asks a model, which the name of its function does not tell: no other answer would do better.
sql(q(CREATE FUNCTION rules.asks(text) RETURNS boolean LANGUAGE plpgsql AS
	$$ BEGIN RETURN llm_filter($1, 'is it one?'); END $$));
foreach my $case ([ 'label', q(llm_status(label)) ], [ 'kind', q(coalesce(kind, 'failed')) ])
{
	my ($column, $status) = @{$case};

	sql(q(TRUNCATE ticket; INSERT INTO ticket (body) VALUES ('the invoice of December')));
	my $one = requests();
	sql(qq(UPDATE ticket SET $column = llm_classify(body, '{billing,bug}', checks => ARRAY['rules.asks(input)'])));
	wait_idle($node);
	is(requests() - $one, 1, "a condition that asks, column $column: one request");
	is(sql("SELECT $status FROM ticket"), 'failed', 'and the row has failed');
	like(sql(q(SELECT reason || ' ' || message FROM llm.dead_letter ORDER BY task DESC LIMIT 1)),
		qr/^not_writable 38003: llm_filter\(\) cannot be evaluated where an answer is written/,
		'with what is wrong with it');
}
is(sql(q(SELECT llm_classify('the invoice', '{billing,bug}',
	checks => ARRAY['rules.asks(input) IS NOT NULL'])->>'label')),
	'billing', 'immediate: it may ask');

# What is refused when the statement runs.
foreach my $case (
	[ q('{}'), qr/invalid value for argument "checks"/ ],
	[ q(ARRAY[NULL::text]), qr/invalid value for argument "checks"/ ],
	[ q(ARRAY['label = 1']), qr/column "label" does not exist.*condition "label = 1" of argument "checks"/s ],
	[ q(ARRAY['answer->>']), qr/syntax error/ ],
	[ q(ARRAY['(SELECT true)']), qr/cannot use subquery/ ],
	[ q(ARRAY['true; DROP TABLE ticket']), qr/syntax error/ ],
	[ q(ARRAY['true FROM ticket']), qr/a condition must be one expression/ ],
	[ q(ARRAY['*']), qr/a condition must be one expression/ ],
	[ q(ARRAY['true AS x']), qr/a condition must be one expression/ ],
	[ q(ARRAY['answer']), qr/must be type boolean, not type jsonb/ ],
	[ q(ARRAY[$$llm_classify(input, '{a,b}') IS NULL$$]), qr/a condition cannot ask a model/ ])
{
	my ($given, $pattern) = @{$case};

	($code, $out, $err) =
	  $node->psql('postgres', "UPDATE ticket SET label = llm_classify(body, '{billing,bug}', checks => $given)");
	like($err, $pattern, "refused: $given");
}
ledger_equals_meter($node, $provider, 'P3: the ledger is the meter');

done_testing();
