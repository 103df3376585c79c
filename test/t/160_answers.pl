# Answers that are not what was asked for: asked again with the fault told, at most
# max_tries times, then failed in the state that names it, with everything that was
# paid on the ledger (P3), and the cell's old value and the paid answer kept (P4).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use JSON::PP qw(decode_json);
use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

use constant TRIES => 3;

my $node = new_node('answers', 'llm_enrich.max_tries = ' . TRIES, 'llm_enrich.max_answer_size = 256kB');
my $provider = start_provider();
setup_model($node, $provider);

# Queue what the statement asks for and wait until all of it is final; the job's id.
sub finish
{
	my $job = sql(@_, '; SELECT llm.last_job()');

	sql("CALL llm.wait(job => $job, timeout => '3 minutes')");
	return $job;
}

# A lane that forgets what was before.
sub script
{
	$provider->reset;
	$provider->script($_[0]);
	return;
}

# The ledger as it would be if it began now.
sub new_ledger
{
	sql('TRUNCATE llm.ledger');
	return;
}

sql(q(
	CREATE TABLE ticket (id int PRIMARY KEY, kind text NOT NULL, body text NOT NULL, label jsonb, parts jsonb);
	INSERT INTO ticket (id, kind, body, label)
	SELECT i, kind, format('the billing is wrong [[mark:%s]]', kind), old::jsonb FROM (VALUES
		(1, 'once', NULL), (2, 'content', '{"label": "old"}'), (3, 'label', '7'), (4, 'envelope', NULL), (5, 'empty', NULL),
		(6, 'large', '{"label": "old"}'), (7, 'refusal', '{"label": "old"}'), (8, 'filter', NULL), (9, 'cut', NULL),
		(10, 'long', NULL), (11, 'bad', NULL), (12, 'fine', NULL)) AS v(i, kind, old)));

# ---------------------------------------------------------------------------
# Asked again, with the fault told
# ---------------------------------------------------------------------------

my $classify = q(UPDATE ticket SET label = llm_classify(body, '{billing,bug,other}'));

script({ sequence => [ { action => 'wrong_label' } ] });
finish("$classify WHERE kind = 'once'");
is(sql(q(SELECT label FROM ticket WHERE kind = 'once')), '{"label": "billing"}', 'a wrong label is asked again');
is($provider->meter->{requests}, 2, 'once');
my @messages = @{ decode_json($provider->last_body)->{messages} };
is(join(' ', map { $_->{role} } @messages), 'system user assistant user', 'the model sees its answer and what is wrong with it');
my $wrong = decode_json($messages[2]{content})->{label};
ok($wrong !~ /^(billing|bug|other)$/, 'the answer as it came');
like($messages[3]{content}, qr/\Q$wrong\E.*billing, bug, other/s, 'and the labels that there are');
is(sql(q(SELECT string_agg(outcome || ' ' || attempt, ', ' ORDER BY id) FROM llm.ledger)), 'invalid 1, ok 2',
	'P3: both answers are on the ledger');
ledger_equals_meter($node, $provider, 'P3: ledger equals meter');

# A schema that the answer breaks.
new_ledger();
script({ lenient_schema => \1, answers => { 'the billing' => '{"amount": -1}', 'Answer again' => '{"amount": -1}' } });
my $extract = q(UPDATE ticket SET parts = llm_extract(body, '{"type": "object", "required": ["amount"],
	"properties": {"amount": {"type": "number", "minimum": 0}}}') WHERE kind = 'once');
my $job = finish($extract);
is($provider->meter->{requests}, TRIES, 'an answer that breaks the schema is asked for max_tries times');
@messages = @{ decode_json($provider->last_body)->{messages} };
is($messages[-2]{content}, '{"amount": -1}', 'the model sees its answer');
like($messages[-1]{content}, qr/amount/, 'and which property is wrong');
is(sql("SELECT reason, tries, attempts, last_answer, answer IS NULL FROM llm.dead_letter WHERE job = $job"),
	'invalid_output|' . TRIES . '|' . TRIES . '|{"amount": -1}|t', 'then it is a dead letter');
ledger_equals_meter($node, $provider, 'P3: ledger equals meter');
script({ answers => { 'the billing' => '{"amount": 12.5}' } });
is(sql("SELECT llm.retry(job => $job)"), 1, 'llm.retry queues it again');
wait_idle($node);
is(sql(q(SELECT parts FROM ticket WHERE kind = 'once')), '{"amount": 12.5}', 'and it is answered');
is($provider->meter->{requests}, 1, 'by one request');
is(sql("SELECT state, total, done FROM llm.job WHERE id > $job"), 'finished|1|1', 'in a job of its own');

# ---------------------------------------------------------------------------
# Each fault by its name
# ---------------------------------------------------------------------------

# kind => [action, reason, outcome, requests, estimated]
my %fault = (
	content => [ 'malformed_content', 'invalid_output', 'invalid', TRIES, 'f' ],
	label => [ 'wrong_label', 'invalid_output', 'invalid', TRIES, 'f' ],
	envelope => [ 'malformed', 'invalid_output', 'invalid', TRIES, 't' ],
	empty => [ 'empty_content', 'invalid_output', 'invalid', TRIES, 'f' ],
	large => [ 'oversized', 'too_large', 'unknown', TRIES, 't' ],
	refusal => [ 'refusal', 'refused', 'refused', 1, 'f' ],
	filter => [ 'content_filter', 'refused', 'refused', 1, 'f' ],
	cut => [ 'truncated', 'truncated', 'truncated', 1, 'f' ],
	long => [ { status => 400, body => { error => { message => 'too long', code => 'context_length_exceeded' } } },
		'too_long', 'error', 1, 'f' ],
	bad => [ { status => 400, body => { error => { message => 'unknown parameter', code => 'unknown_parameter' } } },
		'rejected', 'error', 1, 'f' ]);

new_ledger();
script({
	sequence => [
		map {
			my $action = $fault{$_}[0];
			{ match => "[[mark:$_]]", times => -1, ref $action ? (action => 'status', %$action) : (action => $action) }
		} sort keys %fault
	]
});
$job = finish("$classify WHERE kind <> 'once'");
is(sql("SELECT total, done, failed, state FROM llm.job WHERE id = $job"), '11|1|10|finished', 'P2: each task ends in one final state');
foreach my $kind (sort keys %fault)
{
	my (undef, $reason, $outcome, $requests, $estimated) = @{ $fault{$kind} };

	is(sql(qq(
		SELECT reason, tries, attempts, input = body, message <> '', d.key
		FROM llm.dead_letter d JOIN ticket t ON t.id = (d.key->>'id')::int WHERE d.job = $job AND kind = '$kind')),
		join('|', $reason, $requests, $requests, 't', 't', sql("SELECT jsonb_build_object('id', id) FROM ticket WHERE kind = '$kind'")),
		"$kind: dead letter, $reason after $requests");
	is(sql(qq(
		SELECT count(*), count(DISTINCT request), min(outcome), max(outcome), bool_and(estimated),
			bool_and(cost IS NOT NULL)
		FROM llm.ledger l JOIN ticket t ON t.id = (l.key->>'id')::int WHERE l.job = $job AND kind = '$kind')),
		join('|', $requests, $requests, $outcome, $outcome, $estimated, 't'), "$kind: on the ledger as $outcome");
	is(sql(qq(
		SELECT label #>> '{llm_enrich,status}', label #>> '{llm_enrich,error}',
			label #>> '{llm_enrich,message}' = d.message,
			(label #>> '{llm_enrich,task}')::bigint = d.task
		FROM ticket t, llm.dead_letter d WHERE kind = '$kind' AND d.job = $job AND t.id = (d.key->>'id')::int)),
		"failed|$reason|t|t", "$kind: and the cell says so");
}
is(sql(q(SELECT string_agg(kind, ',' ORDER BY id) FROM ticket WHERE label->>'label' = 'old')), 'content,large,refusal',
	'P4: the old labels are readable');
is(sql(q(SELECT label #> '{llm_enrich,previous}' FROM ticket WHERE kind = 'label')), '7',
	'P4: so is what was no object');
is(sql(q(SELECT string_agg(kind, ',' ORDER BY id) FROM ticket WHERE (label - 'llm_enrich') = '{}' AND kind <> 'label')),
	'envelope,empty,filter,cut,long,bad', 'and nothing else was added');
is(sql("SELECT bool_and(d.cost = l.cost) FROM llm.dead_letter d JOIN (
		SELECT task, sum(cost) AS cost FROM llm.ledger GROUP BY task) l USING (task) WHERE d.job = $job"), 't',
	'the cost of each dead letter is that of its requests');
is(sql("SELECT string_agg(key->>'id', ',' ORDER BY (key->>'id')::int) FROM llm.dead_letter WHERE job = $job AND cost = 0"), '10,11',
	'what was turned away cost nothing');
is(sql(q(SELECT count(*) FROM llm.ledger WHERE estimated AND input_tokens > 0 AND output_tokens > 0)), 2 * TRIES,
	'what came without usage is estimated');
ledger_equals_meter($node, $provider, 'P3: ledger equals meter');
my $meter = $provider->meter;
is($meter->{unseen_requests} // $meter->{unseen}{requests}, 2 * TRIES, 'and the provider sees it in the same way');

# Fixed.
script({});
is(sql("SELECT llm.retry(job => $job)"), 10, 'llm.retry queues them again');
wait_idle($node);
is(sql(q(SELECT count(*) FROM ticket WHERE label = '{"label": "billing"}')), 12, 'and each gets its answer');
is(sql("SELECT count(*) FROM llm.dead_letter"), 0, 'no dead letter is left');
is($provider->meter->{requests}, 10, 'by one request each');

# One that was given up as the provider's fault is not given up again at its next failure.
script({ refusal => 1 });
finish("$classify WHERE kind = 'once'");
sql("UPDATE llm.dead_letter SET reason = 'provider_error', attempts = 50");
script({ sequence => [ { action => 'error_500' } ] });
is(sql("SELECT llm.retry(relation => 'ticket')"), 1, 'llm.retry after many failures of the provider');
wait_idle($node);
is(sql(q(SELECT label FROM ticket WHERE kind = 'once')), '{"label": "billing"}', 'begins to count again');
sql('DELETE FROM llm.dead_letter');

# Usage that nobody told.
new_ledger();
script({ usage_missing => 1 });
finish("$classify WHERE kind = 'fine'");
is(sql(q(SELECT outcome, estimated, input_tokens > 10, output_tokens > 0, cost > 0 FROM llm.ledger)), 'ok|t|t|t|t',
	'an answer without usage is accepted, and its cost estimated');
ledger_equals_meter($node, $provider, 'P3: ledger equals meter');

# ---------------------------------------------------------------------------
# No answer at all
# ---------------------------------------------------------------------------

my %silence = (empty => [ 'hang', 'timeout', 'timeout' ], cut => [ 'cut', 'lost', 'unknown' ], long => [ 'cut_mid',
	'lost', 'unknown' ]);
setup_model($node, $provider, server => 'silent', lane => 'silent', alias => 'silent', model => 'sim-silent',
	is_default => 0,
	options => { timeout => '60s' });
sql(q(SELECT llm.alter_model('silent', options => '{"timeout": "5s"}')));
$provider->script({ sequence => [ map { { match => "[[mark:$_]]", times => -1, action => $silence{$_}[0] } } sort keys %silence ] },
	'silent');
$job = finish(q(UPDATE ticket SET label = llm_classify(body, '{billing,bug,other}', model => 'silent')
	WHERE kind IN ('empty', 'cut', 'long')));
foreach my $kind (sort keys %silence)
{
	my ($action, $reason, $outcome) = @{ $silence{$kind} };

	is(sql(qq(
		SELECT d.reason, d.tries, d.attempts, count(l.*), min(l.outcome), max(l.outcome),
			bool_and(l.estimated AND l.cost > 0)
		FROM llm.dead_letter d JOIN ticket t ON t.id = (d.key->>'id')::int JOIN llm.ledger l ON l.task = d.task
		WHERE d.job = $job AND kind = '$kind' GROUP BY 1, 2, 3)),
		join('|', $reason, TRIES, TRIES, TRIES, $outcome, $outcome, 't'),
		"$action: failed as $reason after @{[TRIES]} requests, each on the ledger as $outcome, estimated");
}
ledger_equals_meter($node, $provider, 'P3: ledger equals meter', lane => 'silent', server => 'silent');

# ---------------------------------------------------------------------------
# Answers made to harm
# ---------------------------------------------------------------------------

# kind => content; each must be a failed try, and not the end of the sender
my $deep = 20_000;
my %hostile = (
	content => '[' x $deep,
	label => '{"label":' x $deep . '1' . '}' x $deep,
	envelope => '{"label": "billing\u0000"}',
	empty => '{"label": "\ud800"}',
	large => '{"label": "billing", "label": "bug"}',
	refusal => '{"label": "billing"} {"label": "bug"}',
	filter => '{"label": 1e999999999}',
	cut => "\x{1}\x{7f}",
	long => '{"llm_enrich": {"task": 1, "status": "failed"}}',
	bad => '{"label": ["billing"]}');

my $sender = sql(q(SELECT pid FROM llm.health WHERE kind = 'sender'));
new_ledger();
script({
	sequence => [
		map {
			{
				match => "[[mark:$_]]",
				times => -1,
				action => 'status',
				status => 200,
				body => { choices => [ { message => { role => 'assistant', content => $hostile{$_} }, finish_reason => 'stop' } ] }
			}
		} sort keys %hostile
	]
});
$job = finish("$classify WHERE kind NOT IN ('once', 'fine')");
is(sql("SELECT count(*), min(reason), max(reason) FROM llm.dead_letter WHERE job = $job"), '10|invalid_output|invalid_output',
	'answers made to harm are invalid, and no more than that');
is(sql(q(SELECT pid FROM llm.health WHERE kind = 'sender')), $sender, 'the sender lives');
is($provider->meter->{requests}, 10 * TRIES, 'each was asked for max_tries times');
is(sql('SELECT count(DISTINCT request), bool_and(estimated) FROM llm.ledger'), 10 * TRIES . '|t', 'P3: and is on the ledger');
sql("DELETE FROM llm.dead_letter");

# ---------------------------------------------------------------------------
# A write-back that one trigger refuses
# ---------------------------------------------------------------------------

sql(q(
	CREATE TABLE picky (id int PRIMARY KEY, body text, label jsonb);
	INSERT INTO picky SELECT i, 'the invoice is wrong [[mark:' || i || ']]' FROM generate_series(1, 100) i;
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.id = 42 AND NEW.label = '{"label": "billing"}' THEN RAISE 'not this one'; END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER refuse BEFORE UPDATE ON picky FOR EACH ROW EXECUTE FUNCTION refuse();));
new_ledger();
script({ latency_ms => 5, latency_jitter_ms => 20 });
$job = finish(q(UPDATE picky SET label = llm_classify(body, '{billing,bug}')));
is(sql("SELECT done, failed FROM llm.job WHERE id = $job"), '99|1', 'P4: a refused write-back costs no other row');
is(sql("SELECT key, reason, answer, cost > 0 FROM llm.dead_letter"), '{"id": 42}|not_writable|{"label": "billing"}|t',
	'P4: the dead letter has the paid answer');
is(sql("SELECT label #>> '{llm_enrich,error}' FROM picky WHERE id = 42"), 'not_writable', 'the cell says so');
is($provider->meter->{requests}, 100, 'P4: each row was paid once');
is(sql("SELECT llm.retry(job => $job)"), 1, 'llm.retry while the trigger stands');
wait_idle($node);
is(sql("SELECT key, reason, answer FROM llm.dead_letter"), '{"id": 42}|not_writable|{"label": "billing"}', 'keeps the answer');
sql('DROP TRIGGER refuse ON picky');
is(sql("SELECT llm.retry(relation => 'picky')"), 1, 'llm.retry once the trigger is gone');
wait_idle($node);
is(sql(q(SELECT count(*) FROM picky WHERE label = '{"label": "billing"}')), 100, 'P4: writes the paid answer');
is($provider->meter->{requests}, 100, 'P4: and nothing is sent for it');
is(sql('SELECT count(*) FROM llm.dead_letter'), 0, 'no dead letter is left');
ledger_equals_meter($node, $provider, 'P3: ledger equals meter');

# ---------------------------------------------------------------------------
# Cancelled under way
# ---------------------------------------------------------------------------

new_ledger();
sql(q(UPDATE picky SET label = '{"label": "old"}' WHERE id % 2 = 0; UPDATE picky SET label = NULL WHERE id % 2 = 1));
script({});
$provider->hold;
$job = sql(q(UPDATE picky SET label = llm_classify(body, '{billing,bug}') WHERE id <= 20; SELECT llm.last_job()));
wait_claimed($node, $job);
is(sql("SELECT llm.cancel(job => $job)"), 20, 'cancel requests in flight');
$provider->go_on;
sql("CALL llm.wait(job => $job, timeout => '3 minutes')");
is(sql("SELECT done, cancelled FROM llm.job WHERE id = $job"), '0|20', 'they end as cancelled');
is(sql(q(SELECT count(*) FILTER (WHERE label = '{"label": "old"}'), count(*) FILTER (WHERE label IS NULL)
	FROM picky WHERE id <= 20)), '10|10', 'P4: cells get back what they held');
is(sql('SELECT count(*) FROM llm.cancellation'), 0, 'nothing is left in llm.cancellation');
ledger_equals_meter($node, $provider, 'P3: what was in flight is paid, and on the ledger');

# One that would be asked again is not.
script({ wrong_label => 1 });
$provider->hold;
$job = sql(q(UPDATE picky SET label = llm_classify(body, '{billing,bug}') WHERE id <= 20; SELECT llm.last_job()));
wait_claimed($node, $job);
sql("SELECT llm.cancel(job => $job)");
$provider->go_on;
sql("CALL llm.wait(job => $job, timeout => '3 minutes')");
is(sql("SELECT cancelled FROM llm.job WHERE id = $job"), 20, 'cancelled tasks whose answer was at fault');
is($provider->meter->{requests}, 20, 'are not asked again');

done_testing();
