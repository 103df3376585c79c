# A model that does not answer, refuses everybody or has refused a row is answered for by its
# fallback, and is asked again as soon as it is well. Two providers, each with its own meter.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

my $node = new_node('fallback', 'llm_enrich.max_tries = 2', 'llm_enrich.idle_timeout = 1h',
	'llm_enrich.keep_answers = 0', "llm_enrich.patience = '20s'");
my $first = start_provider();
my $second = start_provider();

setup_model($node, $first, server => 'first', options => { max_concurrency => 8 });
setup_model($node, $second, server => 'second', alias => 'slow', is_default => 0,
	prices => { input_per_mtok => '1', output_per_mtok => '10' },
	options => { max_concurrency => 8 });
$node->safe_psql('postgres', q(
	SELECT llm.alter_model('fast', fallback => 'slow');
	CREATE TABLE ticket (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text, label jsonb);
	CREATE ROLE analyst;
	GRANT USAGE ON FOREIGN SERVER first TO analyst;
	GRANT SELECT, INSERT, UPDATE ON ticket TO analyst));

# So many rows with a text of their own, by a role; what tells their requests on the ledger.
my $calls = 0;

sub ask
{
	my ($n, $text, %with) = @_;

	$text .= ' ' . ++$calls;
	$node->safe_psql('postgres', ($with{role} ? "SET ROLE $with{role};" : '') . qq(
		INSERT INTO ticket (body, label) SELECT '$text ' || i, llm_classify('$text ' || i, '{billing,bug}')
		FROM generate_series(1, $n) i));
	return "key->>'id' IN (SELECT id::text FROM ticket WHERE body LIKE '$text %')";
}

# Requests that brought answers, by server.
sub answered
{
	my $which = shift;

	return $node->safe_psql('postgres', qq(
		SELECT string_agg(server || ' ' || n, ', ' ORDER BY server)
		FROM (SELECT server, count(*) AS n FROM llm.ledger WHERE $which AND outcome = 'ok' GROUP BY 1) l));
}

# All requests, in order.
sub story
{
	my $which = shift;

	return $node->safe_psql('postgres', "SELECT string_agg(server || ' ' || outcome, ', ' ORDER BY attempt) FROM llm.ledger WHERE $which");
}

sub wait_for
{
	wait_idle($node);
	return $_[0];
}

# Until the first one answers again: each row asked may be the one that tries it.
sub until_well
{
	foreach (1 .. 60)
	{
		return 1 if answered(wait_for(ask(1, 'is it well'))) eq 'first 1';
		wait_forward($node, 'SELECT true');
	}
	return 0;
}

is(answered(wait_for(ask(10, 'all is well'))), 'first 10', 'a model that answers is asked itself');
is($second->meter->{requests}, 0, 'and its fallback is not');

# An answer that refuses everybody.
sub refusal
{
	my ($status, $code) = @_;

	return { status => $status, body => { error => { message => "That is $code.", type => $code, code => $code } } };
}

# What is wrong with the first one, and whether a person has to fix it.
foreach my $case (
	[ 'an outage', { error_500 => 1 } ],
	[ 'a refused key', refusal(401, 'invalid_api_key') ],
	[ 'a spent quota', refusal(429, 'insufficient_quota') ],
	[ 'an unknown model', refusal(404, 'model_not_found') ],
	[ 'an overload', { error_503 => 1 } ])
{
	my ($what, $script) = @{$case};

	$first->script($script);
	my $before = $first->meter->{requests};
	my $rows = wait_for(ask(60, $what));
	my $tried = $first->meter->{requests} - $before;

	is(answered($rows), 'second 60', "$what: the fallback answers all");
	cmp_ok($tried, '<=', 30, "$what: few requests are lost on the first one ($tried)");
	my $instead = qr/^model "slow" at server "second" is asked instead: .*llm\.check\('fast'\)/;
	like(wait_text($node, q(SELECT problem || ' ' || hint FROM llm.health WHERE subject = 'fallback of model "fast"'), $instead),
		$instead, "$what: llm.health says so");
	is($node->safe_psql('postgres', qq(
		SELECT count(*) FROM llm.ledger WHERE $rows AND server = 'second' AND outcome = 'ok'
			AND cost = (input_tokens * 1 + output_tokens * 10) / 1000000.0)), 60, "$what: at the price of who answers");
	$first->script({});
	ok(until_well(), "$what: it is asked again when it is well");
	my $quiet = $second->meter->{requests};
	is(answered(wait_for(ask(20, 'well again'))), 'first 20', "$what: and new tasks go there");
	is($second->meter->{requests}, $quiet, "$what: no ping-pong");
	ok($node->poll_query_until('postgres', q(SELECT count(*) = 0 FROM llm.health WHERE subject = 'fallback of model "fast"')),
		"$what: llm.health has forgotten it");
}

# A row on its own tries a model that is out, in vain, when it is time for that: then its fallback is asked, and not
# once more the model, however much time passes.
$first->script({ error_500 => 1 });
wait_for(ask(10, 'out'));
my $lost = 0;
foreach (1 .. 3)
{
	my $row = ask(1, 'alone');
	wait_forward($node, 'SELECT NOT EXISTS (SELECT FROM llm.queue)');
	my $story = story($row);
	like($story, qr/second ok$/, 'a row on its own is answered by the fallback');
	$lost += () = $story =~ /first error/g;
}
# the clock goes a minute forward between two looks, so that it may be time again
cmp_ok($lost, '<=', 15, 'after a request or two that try the model');
$first->script({});
ok(until_well(), 'which is asked again when it is well');

# One row, and others that pass.
$first->script({ sequence => [ { match => 'nasty', action => 'refusal', times => -1 } ] });
my $rows = wait_for(ask(1, 'nasty'));
is(story($rows),
	'first refused, second ok', 'a row that is refused is asked once more, at the fallback');
is(answered(wait_for(ask(5, 'nice'))), 'first 5', 'others are not');
$second->script({ sequence => [ { match => 'nasty', action => 'refusal', times => -1 } ] });
$rows = wait_for(ask(1, 'nasty'));
is(story($rows),
	'first refused, second refused', 'refused there, too: no third time');
is($node->safe_psql('postgres', "SELECT reason FROM llm.dead_letter WHERE $rows"), 'refused', 'it has failed');
$second->script({ sequence => [ map { { match => 'nasty', action => $_ } } qw(wrong_label error_500) ] });
$rows = wait_for(ask(1, 'nasty'));
is(story($rows),
	'first refused, second invalid, second error, second ok', 'whatever happens at the fallback, it stays there');
$second->script({});

# A limit is none of these.
$first->script({ sequence => [ { action => 'rate_limit', retry_after => 0.2, times => 3 } ] });
is(answered(wait_for(ask(10, 'limited'))), 'first 10', 'a rate limit is waited for');
$first->script({});

# Statements that wait.
$first->script(refusal(401, 'invalid_api_key'));
is($node->safe_psql('postgres', q(SELECT count(llm_classify('immediate ' || i, '{billing,bug}')) FROM generate_series(1, 10) i)), 10,
	'immediate calls are answered by the fallback');
is($node->safe_psql('postgres', q(SELECT string_agg(DISTINCT server, ',') FROM llm.ledger WHERE lane = 'immediate' AND outcome = 'ok')),
	'second', 'and the ledger says so');
like($node->safe_psql('postgres', q(SELECT * FROM llm.check('fast'))), qr/first.*That is invalid_api_key/s, 'llm.check asks the model that it names');
$first->script({ sequence => [ { match => 'nasty', action => 'refusal', times => -1 } ] });
$node->safe_psql('postgres', q(SELECT * FROM llm.check('fast')));
ok(until_well(), 'well again');
is($node->safe_psql('postgres', q(SELECT llm_classify('nasty immediate', '{billing,bug}') IS NOT NULL)), 't',
	'a refused call is asked at the fallback');

# Who may not use the fallback's server does not.
$first->script(refusal(401, 'invalid_api_key'));
my $untouched = $second->meter->{requests};
$rows = ask(5, 'analyst', role => 'analyst');
$node->poll_query_until('postgres', "SELECT reason IS NOT NULL FROM llm.job WHERE role_name = 'analyst'") or die 'it does not wait';
is($second->meter->{requests}, $untouched, 'P9: without USAGE on its server the fallback is not asked');
my $refused = qr/role "analyst" may not use server "second" GRANT USAGE/;
like(wait_text($node, q(SELECT problem || ' ' || hint FROM llm.health WHERE subject = 'model "slow"'), $refused),
	$refused, 'and llm.health says what to type');
$node->safe_psql('postgres', 'GRANT USAGE ON FOREIGN SERVER second TO analyst');
is(answered(wait_for($rows)), 'second 5', 'with it, it is');
$first->script({});
ok(until_well(), 'well again');

# Each other's fallback, and both down.
$node->safe_psql('postgres', q(SELECT llm.alter_model('slow', fallback => 'fast')));
$first->script({ error_500 => 1 });
is(answered(wait_for(ask(30, 'cycle'))), 'second 30', 'a cycle: one hop');
$second->script({ error_500 => 1 });
$rows = ask(20, 'both');
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM llm.job WHERE state = 'open' AND reason LIKE 'cooling down%'") or die 'it does not wait';
is($node->safe_psql('postgres', "SELECT count(*) FROM llm.dead_letter WHERE $rows"), 0, 'both down: tasks wait');
my $asked = $first->meter->{requests} + $second->meter->{requests};
$second->script({});
ok(wait_forward($node, "SELECT count(*) > 0 FROM llm.ledger WHERE $rows AND server = 'second' AND outcome = 'ok'"),
	'a fallback that was down, too, is tried for them, and asked when it is well');
$first->script({});
wait_forward($node, "SELECT NOT EXISTS (SELECT FROM llm.queue)");
is($node->safe_psql('postgres', "SELECT count(*) FROM ticket WHERE body LIKE 'both %' AND label->>'label' IS NOT NULL"), 20, 'P2: and are answered by the one that comes back');
cmp_ok($asked, '<', 1000, 'no storm meanwhile');

wait_idle($node);
ledger_equals_meter($node, $first, 'P3: the ledger is the meter of the first one', server => 'first');
ledger_equals_meter($node, $second, 'P3: and of the second one', server => 'second');

# What a dead sender had sent to a fallback is booked to that one, whatever was named.
$node->safe_psql('postgres', q(SELECT * FROM llm.check('slow')));
$first->script({ error_500 => 1 });
is(answered(wait_for(ask(30, 'an outage before a crash'))), 'second 30', 'an outage: the fallback answers');
$second->hold;
ask(4, 'a crash');
$node->poll_query_until('postgres', q(SELECT count(*) > 0 FROM llm.queue WHERE state = 'claimed' AND asked = 'slow'))
	or die 'nothing is asked of the fallback';
my $sent = $node->safe_psql('postgres', q(SELECT string_agg(request::text, ',') FROM llm.queue WHERE state = 'claimed' AND asked = 'slow'));
$node->safe_psql('postgres', q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'llm_enrich sender'));
like(wait_text($node, "SELECT count(*) FROM llm.ledger WHERE request IN ($sent)", qr/^[1-9]/), qr/^[1-9]/, 'the next sender books what was sent');
is($node->safe_psql('postgres', qq(
	SELECT string_agg(DISTINCT concat_ws(' ', outcome, server, model, cost = (input_tokens * 1 + output_tokens * 10) / 1000000.0), ',')
	FROM llm.ledger WHERE request IN ($sent))), 'unknown second sim-1 t', 'P3: to the fallback, at its price');
$second->go_on;
$first->script({});
wait_idle($node);

# A fallback that answers no such request, or is no model at all: it is left out, and its job goes on. llm.health says
# so until the fallback answers, is none any more, or nobody is left who has seen it.
sub second_is_well
{
	$second->script({});
	return $node->safe_psql('postgres', q(SELECT * FROM llm.check('slow')));
}
my $left = q(SELECT problem FROM llm.health WHERE subject = 'fallback of model "fast"');
foreach my $case (
	[ 'a wrong kind', { status => 404, body => { error => {
		message => 'This is not a chat model and thus not supported in the v1/chat/completions endpoint.',
		type => 'invalid_request_error', param => 'model', code => undef } } }, qr/This is not a chat model/,
		\&second_is_well, 'when it answers' ],
	[ 'a name that nobody knows', refusal(404, 'model_not_found'), qr/model_not_found/,
		sub { $node->safe_psql('postgres', q(SELECT llm.alter_model('fast', fallback => ''))) },
		'when it is none any more' ],
	[ 'a sender that ends', refusal(404, 'model_not_found'), qr/model_not_found/,
		sub { $node->safe_psql('postgres', q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE backend_type = 'llm_enrich sender')) },
		'when the sender has ended' ])
{
	my ($what, $script, $words, $repair, $when) = @{$case};
	my ($rc, $out, $err);

	second_is_well();
	$node->safe_psql('postgres', q(SELECT llm.alter_model('fast', fallback => 'slow')));
	$first->script(refusal(401, 'invalid_api_key'));
	$second->script($script);
	$rows = ask(5, "left out $what");
	my $left_out = qr/^model "slow" at server "second" is left out: .*$words/s;
	like(wait_text($node, $left, $left_out), $left_out, "$what: llm.health says that the fallback is left out");
	$rc = $node->psql('postgres', q(SELECT llm_classify('now', '{billing,bug}')), stdout => \$out, stderr => \$err);
	isnt($rc, 0, "$what: a statement that waits has no answer");
	unlike($err, $words, "$what: and hears of the model that it named");
	$first->script({});
	ok(wait_forward($node, 'SELECT NOT EXISTS (SELECT FROM llm.queue)'), "$what: the job goes on with that one");
	is(answered($rows), 'first 5', "$what: which answers all");
	is($node->safe_psql('postgres', q(SELECT count(*) FROM llm.job WHERE state = 'paused')), 0, "$what: no job is paused");
	$repair->();
	ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM ($left) h"), "$what: llm.health forgets it $when");
}

# What may be typed.
sub refused
{
	my ($sql, $pattern, $name) = @_;
	my ($code, $out, $err) = $node->psql('postgres', $sql);

	return like($err, $pattern, $name);
}

refused(q(SELECT llm.alter_model('fast', fallback => 'fast')), qr/model "fast" cannot be its own fallback/, 'not its own');
refused(q(SELECT llm.alter_model('fast', fallback => 'none')), qr/model "none" does not exist/, 'not one that is not there');
refused(q(SELECT llm.add_model('new', server => 'first', model => 'sim-1', fallback => '')), qr/model "" does not exist/, 'nor none at all');
refused(q(SELECT llm.drop_model('slow')), qr/model "slow" is the fallback of model "fast".*alter_model\('fast', fallback/s,
	'one that is used is not dropped');
$node->safe_psql('postgres', q(SELECT llm.alter_model('fast', fallback => ''); SELECT llm.drop_model('slow')));
is($node->safe_psql('postgres', q(SELECT fallback IS NULL FROM llm.model WHERE alias = 'fast')), 't', 'and taken away it is');

done_testing();
