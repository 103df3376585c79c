# The option "truncate": a text that is too long for the model is cut where the call says, and the ledger says so.  Where
# nobody knows how much fits, the host's refusal tells, and nobody pays for that (P3).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

my $node = new_node('truncate', 'llm_enrich.max_tries = 2');
my $provider = start_provider();
setup_model($node, $provider);

sub ask
{
	my ($where, $rows) = @_;

	sql(qq(UPDATE doc SET gist = llm_summarize(body, 10, options => '{"truncate": "$where"}') WHERE id IN ($rows)));
	wait_idle($node);
	return;
}

# ö has two bytes, so that a cut may fall inside of it
sql(q(CREATE TABLE doc (id int PRIMARY KEY, body text, gist text, kept text);
	INSERT INTO doc SELECT i, 'begins ' || i || repeat(' wörtlich genommen', 2000 * (i % 2) + 10) || ' ends ' || i
		FROM generate_series(1, 10) i));
my (undef, undef, $err) = $node->psql('postgres',
	q(SELECT llm.preview('summarize', 'x', options => '{"truncate": "left"}')));
like($err, qr/invalid value for option "truncate"\nHINT:  It must be "start", "middle" or "end"/,
	'a word that is none');

# nobody knows how much fits
$provider->script({ context_tokens => 4000 });
sql(q(UPDATE doc SET gist = llm_summarize(body, 10) WHERE id = 1));
wait_idle($node);
is(sql(q(SELECT reason FROM llm.dead_letter)), 'too_long', 'without it such a text fails');
sql(q(SELECT llm.discard('doc')));
ask('end', '1, 2');
is(sql(q(SELECT count(gist) FROM doc)), 2, 'with it, it is answered');
is(sql(q(SELECT error ~ '^the input was cut from 38\d\d\d to \d+ bytes$'
	FROM llm.ledger
	WHERE outcome = 'ok' AND error IS NOT NULL)), 't',
	'and the ledger says what was done');
cmp_ok(sql(q(SELECT count(*) FROM llm.ledger WHERE outcome = 'error')), '<=', 4, 'after a few refusals');
is(sql(q(SELECT sum(cost) FROM llm.ledger WHERE outcome = 'error')), '0', 'P3: which cost nothing');
my $learned = sql(q(SELECT value FROM llm.habit WHERE name = 'context_tokens'));
cmp_ok($learned, '<=', 4000 * 2, 'what fits is known now');
my $before = $provider->meter->{requests};
ask('end', '3, 5');
is($provider->meter->{requests}, $before + 2, 'so the next ones are not refused');
ledger_equals_meter($node, $provider, 'P3: known tokens are those that were billed');

# what is sent
my %sent;
$sent{$_} = sql(qq(SELECT llm.preview('summarize', (SELECT body FROM doc WHERE id = 1), options => '{"truncate": "$_"}')))
	foreach qw(start middle end);
like($sent{end}, qr/begins 1 wörtlich/, 'the end goes');
unlike($sent{end}, qr/ends 1/, 'all of it');
unlike($sent{start}, qr/begins 1 /, 'the start goes');
like($sent{start}, qr/ends 1/, 'and the end stays');
like($sent{middle}, qr/begins 1 .*\[…\].*ends 1/, 'the middle goes');
cmp_ok(length($sent{middle}), '<', 20_000, 'they are short');

# what is told, counts; and what is checked is what was sent
$provider->script({});
sql(q(SELECT llm.forget_habits();
	SELECT llm.alter_model('fast', options => '{"context_tokens": 1000}')));
is(sql(q(SELECT input_tokens <= 2000 FROM llm.estimate($$UPDATE doc SET gist = llm_summarize(body, 11,
	options => '{"truncate": "end"}') WHERE id IN (3, 5)$$))), 't', 'an estimate knows that, too');
cmp_ok(sql(q(SELECT input_tokens FROM llm.estimate(
	$$UPDATE doc SET gist = llm_summarize(body, 11) WHERE id IN (3, 5)$$))),
	'>', 15_000, 'and what would be sent without');
sql(q(UPDATE doc SET kept = llm_redact(body, options => '{"truncate": "end"}') WHERE id IN (7, 8)));
wait_idle($node);
is(sql(q(SELECT reason, message FROM llm.dead_letter WHERE column_name = 'kept')), '', 'a redacted text is compared with what was sent');
is(sql(q(SELECT kept = body FROM doc WHERE id = 8)), 't', 'a short one is whole');
is(sql(q(SELECT body LIKE kept || '%' AND length(kept) BETWEEN 1000 AND 4000 FROM doc WHERE id = 7)), 't',
	'a long one is its beginning');
is(sql(q(SELECT length(llm_redact(body, options => '{"truncate": "start"}')) < 4000 FROM doc WHERE id = 9)), 't',
	'also while a statement waits');
ledger_equals_meter($node, $provider, 'P3: known tokens are those that were billed');

done_testing();
