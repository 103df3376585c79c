# What the machine does to a server: the disk is full, the clock jumps, memory,
# descriptors and names are short. Nothing is lost or asked twice (P2, P3), a paid answer
# is kept (P4), nothing of this is ever final for a task, and nothing stands still longer
# than the fault lasts (P6). fault_shim.c does all of it, within this server only.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

use LLMFault;
use LLMTest;

use constant ROWS => 200;
use constant SLOTS => 8;

make_faults();

my $node = new_node('faults', { start => 0 });
start_faulty($node);
$node->safe_psql('postgres', 'CREATE EXTENSION llm_enrich');
my $provider = start_provider();
setup_model($node, $provider, options => { max_concurrency => SLOTS });

sub sender { return sql(q(SELECT pid FROM llm.health WHERE kind = 'sender')); }

# Everything as it was before any row was asked; the provider forgets, too.
sub begin
{
	sql('TRUNCATE llm.ledger; UPDATE note SET summary = NULL');
	$provider->reset;
	$provider->script($_[0] // {});
	return;
}

sub every_row_is_answered
{
	my $name = shift;

	is(sql(q(SELECT count(*) FROM note WHERE summary->>'summary' LIKE '%[[mark:' || id || ']]%')), ROWS,
		"P2: $name: every row has its own answer");
	is(sql("SELECT count(*), count(DISTINCT task) FROM llm.ledger WHERE outcome = 'ok'"), join('|', ROWS, ROWS),
		"P3: $name: each was answered once");
	is(sql('SELECT count(*) = count(DISTINCT request), min(latency_ms) >= 0, count(*) >= ' . $provider->meter->{requests}
			. ' FROM llm.ledger'), 't|t|t', "P3: $name: every request is on the ledger, once");
	is(sql('SELECT count(*) FROM llm.dead_letter'), 0, "P2: $name: nothing failed for good")
		or diag(sql('SELECT task, reason, message, tries, attempts, last_answer FROM llm.dead_letter'),
		sql('SELECT attempt, outcome, error FROM llm.ledger WHERE task IN (SELECT task FROM llm.dead_letter) ORDER BY id'));
	return;
}

# Some rows meet a provider that is not well.
sql(qq(
	CREATE TABLE note (id int PRIMARY KEY, body text NOT NULL, summary jsonb);
	INSERT INTO note SELECT i, CASE i % 10 WHEN 1 THEN 'Trouble' ELSE 'Customer' END || ' writes about an invoice [[mark:' || i || ']]'
	FROM generate_series(1, @{[ROWS]}) i;));
my $ask = 'UPDATE note SET summary = llm_summarize(body, 20)';

# ---------------------------------------------------------------------------
# The disk is full
# ---------------------------------------------------------------------------

begin({});
$provider->hold;
sql($ask);
wait_until("(SELECT count(*) = @{[SLOTS]} FROM llm.queue WHERE state = 'claimed')", 'the first requests leave');
wish(disk_full => 1);
$provider->go_on;
my $log = -s $node->logfile;
my $full = qr/ERROR: .*could not (?:extend|write).*No space left on device/;
$log = $node->wait_for_log($full, $log) foreach 1 .. 3;
is($provider->meter->{requests}, SLOTS, 'P3: while answers cannot be stored, nothing is asked');
is(sql("SELECT count(*) FROM llm.queue WHERE state = 'claimed'"), SLOTS, 'nor claimed');
like(sql("SELECT state || ': ' || problem FROM llm.health WHERE subject = 'store'"),
	qr/^waiting: answers cannot be stored: could not (?:extend|write).*No space left on device/, 'llm.health says so');
my $sender = sender();
wish(disk_full => 0);
wait_idle($node);
is(sender(), $sender, 'the sender is the same');
is(sql("SELECT count(*) FROM llm.health WHERE subject = 'store'"), 0, 'llm.health has forgotten it');
is(sql("SELECT count(*) FROM llm.ledger WHERE outcome <> 'ok'"), 0, 'P4: the answers that it kept are stored when there is room');
every_row_is_answered('disk full');
ledger_equals_meter($node, $provider, 'P3: disk full: ledger equals meter');

# Users' rows have a disk of their own: what cannot be written waits, and says what for.
begin({});
sql(q(SET allow_in_place_tablespaces = on; CREATE TABLESPACE room LOCATION '';), qq(
	CREATE TABLE wide (id int PRIMARY KEY, body text, label jsonb) TABLESPACE room;));
$provider->hold;
# four rows fill a page
sql(q(INSERT INTO wide SELECT i, b, llm_classify(b, '{billing,bug}')
	FROM (SELECT i, i || repeat(' bug', 450) AS b FROM generate_series(1, 8) i) s));
wish(disk_full => 2);
$provider->go_on;
my $put_off = qr/LOG: .*write-back to public\.wide was put off: could not (?:extend|write).*No space left on device/;
$log = $node->wait_for_log($put_off, $log) foreach 1 .. 2;
wait_until(q((SELECT why ~ '^the write-back was put off: could not .*No space left on device' FROM llm.progress
	WHERE relation = 'public.wide')),
	'llm.progress says what answers wait for');
wish(disk_full => 0);
wait_idle($node);
is(sql(q(SELECT count(*) FROM wide WHERE label = '{"label": "bug"}')), 8, 'P4: no answer is lost to a full disk');
is(sql('SELECT count(*) FROM llm.dead_letter'), 0, 'P2: and no row has failed');
ledger_equals_meter($node, $provider, 'P3: full tablespace: ledger equals meter');

# ---------------------------------------------------------------------------
# The clock jumps
# ---------------------------------------------------------------------------

# Tasks of "Trouble" have failed before, so that they wait up to 16 s after the next error; some rows are locked.
foreach my $jump ([ 'set back', -3600 ], [ 'set forward', 3600 ])
{
	my ($name, $offset) = @$jump;
	my $lock = $node->background_psql('postgres');

	begin({ latency_ms => 100, sequence => [ { match => 'Trouble', times => -1, action => 'error_500' } ] });
	my $job = sql("BEGIN; $ask; UPDATE llm.queue SET outages = 6 WHERE input LIKE 'Trouble%'; COMMIT; SELECT llm.last_job()");
	$lock->query_safe('BEGIN; SELECT FROM note WHERE id % 10 = 2 AND llm_is_pending(summary) FOR UPDATE');
	wait_until(q((SELECT count(*) > 0 FROM llm.queue WHERE outcome IS NULL AND not_before > clock_timestamp() + '5 s')
		AND (SELECT count(*) > 0 FROM llm.queue WHERE outcome IS NOT NULL AND not_before > clock_timestamp())),
		'some wait to be asked, and some to be written');
	$provider->script({});
	wait_until("NOT EXISTS (SELECT FROM llm.queue WHERE state IN ('ready', 'claimed'))", 'nothing but that is left');
	wish(clock_s => $offset);
	$lock->query_safe('COMMIT');
	$lock->quit;
	my $started = time;
	sql("CALL llm.wait(job => $job, timeout => '2 min')");
	cmp_ok(time - $started, '<', 50, "P6: clock $name: all is done long before the hour is over");
	every_row_is_answered("clock $name");
	ledger_equals_meter($node, $provider, "P3: clock $name: ledger equals meter");
	ok($node->poll_query_until('postgres', q(SELECT count(*) = 0 FROM llm.health WHERE kind = 'problem' OR problem IS NOT NULL)),
		"clock $name: llm.health has nothing to complain about");
}
wish(clock_s => 0);

# ---------------------------------------------------------------------------
# No descriptors, and names that are not known
# ---------------------------------------------------------------------------

setup_model($node, $provider, server => 'nowhere', alias => 'nowhere', model => 'sim-2', is_default => 0,
	options => { base_url => 'http://provider.invalid/v1' });
# Its tasks have been asked so often that any other failure to connect would be their last.
begin({ http_close => \1 });
wish(victim => sender(), no_sockets => 1);
my $job = sql("$ask WHERE id > 10; SELECT llm.last_job()");
my $nowhere = sql(q(BEGIN; UPDATE note SET summary = llm_summarize(body, 20, model => 'nowhere') WHERE id <= 10;
	UPDATE llm.queue SET outages = 60 WHERE job = llm.last_job(); COMMIT; SELECT llm.last_job()));
wait_until("(SELECT count(*) >= 3 FROM llm.ledger WHERE job = $job AND error LIKE '%too many open files%')", 'there are no descriptors');
cmp_ok($provider->meter->{requests}, '<=', SLOTS, 'nothing is sent, but by connections that were open');
wish(no_sockets => 0);
sql("CALL llm.wait(job => $job, timeout => '1 min')");
is(sql("SELECT done, failed FROM llm.job WHERE id = $job"), ROWS - 10 . '|0', 'P6: with descriptors, beside a name that is not known, all is done');
wait_until("(SELECT count(*) >= 3 FROM llm.ledger WHERE job = $nowhere)", 'the name is asked for');
is(sql("SELECT bool_and(tries = 0 AND state IN ('ready', 'claimed', 'waiting')), count(*), max(outages) > 60 FROM llm.queue WHERE job = $nowhere"),
	't|10|t', 'P2: a name that is not known is never final for a task, nor charged');
is(sql("SELECT sum(cost) FROM llm.ledger WHERE outcome <> 'ok'"), 0, 'P3: what was not sent costs nothing');
wait_until("(SELECT reason LIKE '%provider.invalid%' FROM llm.job WHERE id = $nowhere)", 'the job says what it waits for');
is(sql("SELECT llm.cancel(job => $nowhere)"), 10, 'they can be cancelled');
wait_idle($node);

# ---------------------------------------------------------------------------
# Memory is short
# ---------------------------------------------------------------------------

begin({ latency_ms => 500 });
wish(failed => 0);
$job = sql("$ask; SELECT llm.last_job()");
my $give_up = time + 60;
srand(20);
while (time < $give_up && wished('failed') < 8 && sql("SELECT state FROM llm.job WHERE id = $job") eq 'open')
{
	# an allocation of the process that serves now, early or late in what it does
	wish(victim => sender() || 0, allocations => 1 + int rand 25) if wished('allocations') == 0;
	usleep(50_000);
}
my $failed = wished('failed');
wish(victim => 0, allocations => 0);
cmp_ok($failed, '>=', 3, "allocations of the sender failed ($failed)");
sql("CALL llm.wait(job => $job, timeout => '1 min')");
every_row_is_answered('out of memory');
is(sql(q(SELECT string_agg(DISTINCT outcome, ',' ORDER BY outcome) FROM llm.ledger WHERE outcome NOT IN ('ok', 'error'))) =~ /^(?:unknown)?$/,
	1, 'P3: what was sent and not kept is unknown');
is(sql("SELECT coalesce(bool_and(estimated AND cost > 0), true) FROM llm.ledger WHERE outcome = 'unknown'"), 't', 'P3: and estimated');
my %cost = map { my ($id, @tokens) = split /\|/; $id => \@tokens } split /\n/,
	sql("SELECT key->>'id', input_tokens, output_tokens FROM llm.ledger WHERE outcome = 'ok'");
my ($input, $output) = (0, 0);
foreach my $request (grep { $_->{outcome} eq 'ok' } $provider->log(undef, last => 10_000))
{
	$input += $cost{ $request->{mark} }[0];
	$output += $cost{ $request->{mark} }[1];
}
is("$input $output", join(' ', @{ $provider->meter->{billed} }{qw(prompt_tokens completion_tokens)}),
	'P3: known tokens, and those of answers that were not kept, are what was billed');

# ---------------------------------------------------------------------------
# The request of a check cannot be stored
# ---------------------------------------------------------------------------

$provider->reset;
sql('ALTER TABLE llm.letter ADD CONSTRAINT no_check CHECK (false) NOT VALID');
like(sql('SELECT llm.check()'), qr/^not sent: the sender could not store the request/, 'P6: who asked is told so, and does not wait');
is($provider->meter->{requests}, 0, 'P3: and nothing was sent');
sql('ALTER TABLE llm.letter DROP CONSTRAINT no_check');
like(sql('SELECT llm.check()'), qr/^ok: /, 'P6: the next one is answered');

done_testing();
