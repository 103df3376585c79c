# Killed in every way, at moments when much is under way: no task is lost, none is
# written to the wrong cell (P2, P5), and each request is on the ledger, those of which
# nobody can know any more as unknown (P3).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use List::Util qw(sum0);
use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

use constant ROWS => 2_000;

# Requests in flight at a time, as the server's option says.
use constant SLOTS => 50;

my $node = new_node('crash');
my $provider = start_provider();
setup_model($node, $provider, options => { max_concurrency => SLOTS });
$provider->script({ latency_ms => 200, latency_jitter_ms => 200 });

# The process of a kind that runs now.
sub process
{
	my $kind = shift;
	my $select = "FROM pg_stat_activity WHERE backend_type = 'llm_enrich $kind'";

	$node->poll_query_until('postgres', "SELECT count(*) = 1 $select") or die "there is no $kind";
	return $node->safe_psql('postgres', "SELECT pid $select");
}

sub crash { return crash_server($node, process($_[0])) || die "there was no $_[0] to kill"; }
sub terminate { return sql('SELECT pg_terminate_backend(' . process($_[0]) . ', 10000)'); }
sub power_cut { $node->stop('immediate'); return $node->start; }

sql(qq(
	CREATE TABLE note (id int PRIMARY KEY, body text NOT NULL, summary jsonb);
	INSERT INTO note SELECT i, 'Customer ' || i || ' writes about an invoice [[mark:' || i || ']]'
	FROM generate_series(1, @{[ROWS]}) i;));
my $job = sql('UPDATE note SET summary = llm_summarize(body, 20); SELECT llm.last_job()');

# What ends a statement of anybody else's ends no request.
my $sender = process('sender');
sql("SELECT pg_cancel_backend($sender)");
$node->poll_query_until('postgres', 'SELECT count(*) > 0 FROM llm.ledger') or die 'nothing goes on';
is(process('sender'), $sender, 'P6: pg_cancel_backend does not end the sender');
is(sql("SELECT count(*) FROM llm.ledger WHERE outcome <> 'ok'"), 0, 'P3: nor a request');

my @accidents = (
	[ \&terminate, 'sender' ], [ \&crash, 'sender' ], [ \&terminate, 'writer' ], [ \&terminate, 'launcher' ],
	[ \&crash, 'writer' ], [ \&terminate, 'sender' ], [ \&power_cut ], [ \&crash, 'launcher' ]);
my $lost = 0;
foreach my $accident (@accidents)
{
	my ($end, @what) = @$accident;
	my $seen = $node->safe_psql('postgres', 'SELECT count(*) FROM llm.ledger');

	# some of the work must be behind us, and some under way
	$node->poll_query_until('postgres', qq(
		SELECT (SELECT count(*) FROM llm.ledger) >= $seen + 100
			AND (SELECT count(*) FROM llm.queue WHERE state = 'claimed') > 0))
		or die 'nothing goes on';
	$end->(@what);
	$lost += SLOTS unless $end == \&terminate && $what[0] ne 'sender';
}
$node->poll_query_until('postgres', "SELECT state = 'finished' FROM llm.job WHERE id = $job") or die 'the job did not finish';

# P2, P5
is(sql("SELECT total, done, failed + superseded + cancelled + row_gone FROM llm.job WHERE id = $job"), join('|', ROWS, ROWS, 0),
	'P2: every task is done');
is(sql('SELECT count(*) FROM llm.queue'), 0, 'P2: none is left');
is(sql(q(SELECT count(*) FROM note
		WHERE summary->>'summary' LIKE '%[[mark:' || id || ']]%' AND NOT summary ? 'llm_enrich')), ROWS,
	'P5: every cell holds the answer to its own row');

# P3: what is on the ledger
is(sql(q(SELECT string_agg(DISTINCT outcome, ',' ORDER BY outcome) FROM llm.ledger)), 'ok,unknown', 'P3: a request is known, or unknown');
is(sql("SELECT count(*), count(DISTINCT task) FROM llm.ledger WHERE outcome = 'ok'"), join('|', ROWS, ROWS), 'P3: each task was answered once');
is(sql("SELECT count(*) = count(DISTINCT request) FROM llm.ledger"), 't', 'P3: each request is there once');
is(sql("SELECT bool_and(estimated AND cost > 0) FROM llm.ledger WHERE outcome = 'unknown'"), 't', 'P3: the unknown are estimated');
is(sql("SELECT count(*) FROM llm.ledger WHERE outcome = 'ok' AND estimated"), 0, 'P3: the known are not');
my $unknown = sql("SELECT count(*) FROM llm.ledger WHERE outcome = 'unknown'");
cmp_ok($unknown, '>', 0, 'there were requests under way');
cmp_ok($unknown, '<=', $lost, 'P3: no more were asked again than were in flight when it crashed');
is(sql("SELECT max(c.requests) = count(*) AND max(c.cost) = sum(l.cost) FROM llm.ledger l, llm.job_cost c WHERE c.job = $job"), 't',
	"the job's running sums equal the ledger");

# P3: against the meter.  A request that was claimed and not sent is on the ledger only; an answer that
# came when nobody was there any more is billed, and unknown here.  The same row costs the same each time.
my %row = map { my ($id, @row) = split /\|/; $id => \@row } split /\n/, sql(q(
	SELECT key->>'id', count(*), sum(input_tokens) FILTER (WHERE outcome = 'ok'), sum(output_tokens) FILTER (WHERE outcome = 'ok')
	FROM llm.ledger GROUP BY 1));
my $meter = $provider->meter;
my $marks = $provider->marks;
my %answered;
$answered{ $_->{mark} }++ foreach grep { $_->{outcome} eq 'ok' } $provider->log(undef, last => 10_000);

is(scalar(grep { ($marks->{$_} // 0) > $row{$_}[0] } keys %row), 0, 'P3: no row was sent more often than the ledger says');
is(scalar(grep { $answered{$_} < 1 } keys %row), 0, 'P3: none that the provider did not answer is taken for answered');
cmp_ok($meter->{requests}, '<=', ROWS + $unknown, 'P3: the ledger has all requests that the provider received');
is(sum0(map { $answered{$_} * $row{$_}[1] } keys %row), $meter->{billed}{prompt_tokens},
	'P3: input: known tokens, and those of answers that came too late, are what was billed, to the token');
is(sum0(map { $answered{$_} * $row{$_}[2] } keys %row), $meter->{billed}{completion_tokens}, 'P3: output: the same');
ok($node->poll_query_until('postgres', q(SELECT count(*) = 0 FROM llm.health WHERE kind = 'problem')),
	'llm.health has nothing to complain about');

done_testing();
