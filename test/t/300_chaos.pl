# Everything at once: a provider that fails a third of its requests, users who change,
# delete, move, cancel and ask again what is under way, and processes of ours that are
# killed all the while. At the end every task is final, every cell holds what it should,
# nothing was written twice, and the ledger and the provider's books agree request by
# request (P1 to P5).
#
#	LLM_CHAOS_TASKS	rows to ask about: 2,000; "make chaos" takes 20,000
#	LLM_CHAOS_SEED	start of the dice, those of the provider included

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use JSON::PP ();
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

use LLMTest qw(!wait_until);

use constant TASKS => $ENV{LLM_CHAOS_TASKS} // 2_000;
use constant SEED => $ENV{LLM_CHAOS_SEED} // 15;

# Requests under way at a time, in all.
use constant SLOTS => 64;

# Answers at fault before a task fails.
use constant TRIES => 3;

# One accident for so many rows, and at least seven: one of each kind.
use constant ACCIDENTS => 7 + int(TASKS / 1_000);

# What each of two users does, one transaction after the other.
use constant DEEDS => 12 + int(TASKS / 1_000);

# A wait ends in failure after so many looks, five a second, that find nothing new.
use constant LOOKS => 900;

# Each table is asked about in so many slices, each by a model of its own: limits are kept
# per model, so that the faults of one hold up one slice.
use constant SLICES => 3 + int(TASKS / 2_000);

# Values of the enum: label number i mod LABELS is right for row i.
use constant LABELS => 31;

use constant FAULTS => {
	latency_ms => 20, latency_jitter_ms => 60,
	rate_limit => 0.10, retry_after => 0.05,
	error_500 => 0.05, error_503 => 0.05,
	malformed => 0.02, malformed_content => 0.02, wrong_label => 0.01,
	cut => 0.03, cut_mid => 0.02,
	hang => 0.02, enum_by_mark => JSON::PP::true,
	cached_fraction => 0.25, cache_write_fraction => 0.125 };

srand(SEED);
note(sprintf 'seed %d, %d rows, %d accidents', SEED, TASKS, ACCIDENTS);

my $node = new_node('chaos', 'llm_enrich.max_connections = ' . SLOTS, 'llm_enrich.max_tries = ' . TRIES,
	"log_line_prefix = '%m [%p] %b '");
my $provider = start_provider('--seed', SEED, '--log', 10 * TASKS);

setup_model($node, $provider, alias => 'm0', model => 'sim-0', options => { timeout => '2s' });
$provider->script(FAULTS);

# ---------------------------------------------------------------------------
# Rows
# ---------------------------------------------------------------------------

# Every table has its share of the rows; a mark tells the provider's log which row was asked.
my %share = (ticket => 0.30, event => 0.25, reply => 0.15, echo => 0.15, spare => 0.15);
my %rows = map { $_ => int(TASKS * $share{$_}) } keys %share;

sql(q(
	CREATE ROLE ana; CREATE ROLE bob; CREATE ROLE carla;
	GRANT USAGE ON FOREIGN SERVER sim TO ana, bob, carla;
	CREATE TABLE ticket (id int PRIMARY KEY, body text NOT NULL, label jsonb, should text NOT NULL DEFAULT 'NULL');
	CREATE TABLE event (region text, id int, body text NOT NULL, label jsonb, PRIMARY KEY (region, id))
		PARTITION BY LIST (region);
	CREATE TABLE event_north PARTITION OF event FOR VALUES IN ('north');
	CREATE TABLE event_south PARTITION OF event FOR VALUES IN ('south');
	CREATE TABLE reply (id int PRIMARY KEY, body text NOT NULL, label json);
	CREATE TABLE echo (id int PRIMARY KEY, body text NOT NULL, label jsonb);
	CREATE TABLE spare (id int PRIMARY KEY, body text NOT NULL, label jsonb);
	CREATE TABLE note (id int PRIMARY KEY, body text NOT NULL, label jsonb);
	CREATE TABLE ghost (id int PRIMARY KEY, body text NOT NULL, label jsonb);
	GRANT ALL ON ticket, note, ghost TO ana;
	GRANT ALL ON event, echo TO bob;
	GRANT ALL ON reply, spare TO carla;

	-- what each write-back of a task made of its cell
	CREATE TABLE written (task bigint NOT NULL, place text NOT NULL, status text NOT NULL);
	GRANT INSERT ON written TO PUBLIC;
	CREATE FUNCTION note_writing() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF current_setting('llm_enrich.writeback') = 'on' THEN
			INSERT INTO public.written VALUES ((OLD.label::jsonb #>> '{llm_enrich,task}')::bigint,
				TG_TABLE_NAME || ' ' || OLD.id, coalesce(NEW.label::jsonb #>> '{llm_enrich,status}', 'done'));
		END IF;
		RETURN NULL;
	END $$;),
	map { qq(CREATE TRIGGER note_writing AFTER UPDATE ON $_ FOR EACH ROW EXECUTE FUNCTION note_writing();) }
		qw(ticket event reply echo spare note ghost));
sql(qq(
	INSERT INTO ticket SELECT i, format('Customer %s has a question about an invoice [[mark:t%s]]', i, i)
		FROM generate_series(1, $rows{ticket}) i;
	INSERT INTO event
		SELECT CASE WHEN i % 2 = 0 THEN 'north' ELSE 'south' END, i, format('Machine %s stopped [[mark:e%s]]', i, i)
		FROM generate_series(1, $rows{event}) i;
	INSERT INTO reply SELECT i, format('Please answer letter %s [[mark:r%s]]', i, i)
		FROM generate_series(1, $rows{reply}) i;
	INSERT INTO echo SELECT i, format('The same as others [[mark:o%s]]', i % 7) FROM generate_series(1, $rows{echo}) i;
	INSERT INTO spare SELECT i, format('Perhaps of interest, %s [[mark:s%s]]', i, i)
		FROM generate_series(1, $rows{spare}) i;));

my $labels = join ',', map { "l$_" } 0 .. LABELS - 1;
my $schema = '{"type": "object", "properties": {"mark": {"type": "string"}}, "required": ["mark"],
	"additionalProperties": false}';
my @tables = qw(ticket event reply echo spare);
my %call = (
	ticket => 'llm_summarize(body, 20',
	event => "llm_classify(body, '{$labels}'",
	reply => "llm_complete(body, '$schema'",
	echo => "llm_extract(body, '$schema'",
	spare => 'llm_summarize(body, 20');

my %first_model = map { $tables[$_] => 1 + $_ * SLICES } 0 .. $#tables;

sql(qq(
	SELECT llm.add_model('m' || i, server => 'sim', model => 'sim-' || i, input_per_mtok => 0.25,
		cached_input_per_mtok => 0.025, cache_write_per_mtok => 0.3125, output_per_mtok => 2.00)
	FROM generate_series(1, @{[@tables * SLICES]}) i));

# The statement that asks about rows of a slice of a table, some slice if none is named.
sub ask
{
	my ($table, $where, $slice) = @_;

	$slice //= int rand SLICES;
	return "UPDATE $table SET " . ($table eq 'ticket' ? "should = 'answer', " : '')
		. "label = $call{$table}, model => 'm" . ($first_model{$table} + $slice)
		. "') WHERE id % @{[SLICES]} = $slice AND ($where)";
}

# ---------------------------------------------------------------------------
# Users
# ---------------------------------------------------------------------------

# Transactions that may be repeated: who loses the connection does not know whether it was committed.
# Only one user writes to a table, so that the two do not deadlock.
sub some { return 'id % 97 = ' . int rand 97; }

my $single = 0;
my %deed = (
	overwrite => sub {
		q(SET ROLE ana; UPDATE ticket SET label = '{"label": "mine"}', should = 'mine' WHERE ) . some();
	},
	clear => sub { q(SET ROLE ana; UPDATE ticket SET label = NULL, should = 'NULL' WHERE ) . some() },
	delete => sub { 'SET ROLE ana; DELETE FROM ticket WHERE ' . some() },
	same => sub { 'SET ROLE ana; ' . ask(ticket => 'llm_is_pending(label)') },
	other => sub {
		my $ask = ask(ticket => 'id % 11 = ' . int rand 11);
		'SET ROLE ana; ' . $ask =~ s/body, 20/body, 30/r;
	},
	undo => sub {
		q(SET ROLE ana; BEGIN; INSERT INTO ghost SELECT i, 'x', llm_summarize('Never asked [[mark:g' || i || ']]')
			FROM generate_series(1, 20) i; ROLLBACK; BEGIN; SAVEPOINT s;
			UPDATE ticket SET label = llm_complete('Never asked [[mark:g0]]') WHERE id % 7 = 0; ROLLBACK TO s; COMMIT);
	},
	single => sub {
		$single++;
		qq(SET ROLE ana; INSERT INTO note VALUES ($single, '', llm_summarize('A note [[mark:n$single]]', 20))
			ON CONFLICT DO NOTHING);
	},
	hold => sub {
		my $rest = int rand 5;
		qq(SET ROLE ana; BEGIN; SELECT count(*) FROM (SELECT FROM ticket WHERE id % 5 = $rest FOR UPDATE) x;
			SELECT pg_sleep(0.3); COMMIT);
	},
	move => sub {
		q(SET ROLE bob; UPDATE event SET region = CASE region WHEN 'north' THEN 'south' ELSE 'north' END
			WHERE ) . some();
	},
	again => sub { 'SET ROLE bob; ' . ask(event => 'id % 13 = ' . int rand 13) },
	echo => sub { 'SET ROLE bob; ' . ask(echo => 'id % 17 = ' . int rand 17) },
	cancel => sub { q(SET ROLE carla; SELECT llm.cancel(relation => 'spare')) },
	want => sub { 'SET ROLE carla; ' . ask(spare => 'id % 3 = ' . int rand 3) },
	letter => sub { 'SET ROLE carla; ' . ask(reply => 'llm_is_pending(label::jsonb) OR label IS NULL') });
my @kinds = ([qw(overwrite same clear delete other undo single hold)], [qw(move again cancel want letter echo)]);

# So many deeds of some kinds, in turn.
sub deeds
{
	my @of = @_;

	return map { $deed{ $of[ $_ % @of ] }->() } 1 .. DEEDS;
}

# Run psql: its status, 2 while the server is away, its output and its complaint. It may have
# gone without reading what was written to it.
sub try_psql
{
	my @result = eval { $node->psql('postgres', $_[0]) };

	return @result if @result;
	die $@ unless $@ =~ /Broken pipe/;
	return (2, '', $@);
}

# The n-th of so many deeds comes when its share of the work is done, or all of it.
sub wait_for_work
{
	my ($share) = @_;
	my $requests = int($share * TASKS);

	foreach (1 .. LOOKS)
	{
		my ($status, $done) = try_psql(
			"SELECT (SELECT count(*) FROM llm.ledger) >= $requests OR NOT EXISTS (SELECT FROM llm.queue)");
		return 1 if $status == 0 && $done eq 't';
		sleep 0.2;
	}
	return 0;
}

# Repeat a transaction while the server is down or goes down; any other failure is one of the test.
sub insist
{
	my ($deed) = @_;
	my $message = '';

	foreach (1 .. LOOKS)
	{
		(my ($status), undef, $message) = try_psql($deed);
		return '' if $status == 0;
		last if $status != 2;
		sleep 0.2;
	}
	return "$deed: $message";
}

# A user is a process; what went wrong for it is in its file.
sub start_user
{
	my ($number, @deeds) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir() . "/user$number";
	my $pid = fork() // die "could not fork: $!";

	return { pid => $pid, file => $file } if $pid != 0;
	my $wrong = '';
	foreach my $i (0 .. $#deeds)
	{
		$wrong .= "no work was done any more\n" unless wait_for_work($i / @deeds);
		$wrong .= insist($deeds[$i]);
		last if $wrong ne '';
	}
	PostgreSQL::Test::Utils::append_to_file($file, $wrong);
	POSIX::_exit(0);
}

# ---------------------------------------------------------------------------
# Accidents
# ---------------------------------------------------------------------------

my $sender_deaths = 0;
my $restarts = 0;

# Wait for a condition that holds while the server is up; it may be away meanwhile.
sub wait_until
{
	my ($condition, $what) = @_;

	foreach (1 .. LOOKS)
	{
		my ($status, $holds) = try_psql("SELECT $condition");
		return if $status == 0 && $holds eq 't';
		sleep 0.2;
	}
	die "$what: not in time (seed @{[SEED]})";
}

# Wait until no task is left, as long as requests are made.
sub wait_for_all
{
	my ($seen, $looks) = (-1, 0);

	while ($looks++ < LOOKS)
	{
		my ($status, $stand) = try_psql(
			'SELECT (SELECT count(*) FROM llm.queue), (SELECT count(*) FROM llm.ledger)');
		my ($left, $requests) = split /\|/, $stand // '';
		next if $status != 0;
		return if $left == 0;
		($seen, $looks) = ($requests, 0) if $requests != $seen;
	}
	continue
	{
		sleep 0.2;
	}
	die "tasks are left in llm.queue (seed @{[SEED]})";
}

# The process of a kind that runs now, 0 when there is none.
sub process
{
	my $kind = shift;

	return sql("SELECT coalesce(max(pid), 0) FROM pg_stat_activity WHERE backend_type = 'llm_enrich $kind'");
}

sub crash
{
	my $pid = process($_[0]) || return 0;

	return 0 unless crash_server($node, $pid);
	$restarts++;
	$sender_deaths++;
	return 1;
}

sub terminate
{
	my $pid = process($_[0]) || return 0;

	sql("SELECT pg_terminate_backend($pid, 30000)");
	$sender_deaths += $_[0] eq 'sender';
	return 1;
}

sub power_cut
{
	$node->stop('immediate');
	$node->start;
	$sender_deaths++;
	return 1;
}

my @accidents = (
	[ \&crash, 'sender' ], [ \&terminate, 'sender' ], [ \&crash, 'writer' ], [ \&power_cut ],
	[ \&crash, 'launcher' ], [ \&terminate, 'writer' ], [ \&terminate, 'launcher' ]);

# ---------------------------------------------------------------------------
# The run
# ---------------------------------------------------------------------------

my %role = (ticket => 'ana', event => 'bob', echo => 'bob', reply => 'carla', spare => 'carla');
foreach my $table (@tables)
{
	sql("SET ROLE $role{$table};", ask($table => 'true', $_)) foreach 0 .. SLICES - 1;
}

my @users = map { start_user($_, deeds(@{ $kinds[$_] })) } 0 .. $#kinds;

my $happened = 0;
foreach my $i (0 .. ACCIDENTS - 1)
{
	my ($end, @what) = @{ $accidents[ $i % @accidents ] };
	my $requests = int(TASKS * ($i + 1) / (ACCIDENTS + 1));

	wait_until("(SELECT count(*) FROM llm.ledger) >= $requests
			AND EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'llm_enrich " . ($what[0] // 'sender') . "')
		OR NOT EXISTS (SELECT FROM llm.queue)", 'work');
	$happened += $end->(@what);
}
foreach my $user (@users)
{
	waitpid $user->{pid}, 0;
	is(slurp_file($user->{file}), '', 'P6: no statement of a user failed but with the server');
}
wait_for_all();
cmp_ok($happened, '>=', ACCIDENTS - 1, 'accidents happened');

# ---------------------------------------------------------------------------
# All final
# ---------------------------------------------------------------------------

# What a question that should find nothing finds.
sub none
{
	my ($question, $name) = @_;
	my $found = sql("SELECT x::text FROM ($question) x LIMIT 20");

	return ok($found eq '', $name) || diag($found);
}

my $sums = q(done + failed + superseded + cancelled + row_gone);

sub all_final
{
	my $when = shift;

	none("SELECT id, state, total, done, failed, superseded, cancelled, row_gone FROM llm.job
		WHERE total <> $sums OR (total IS NOT NULL AND state <> 'finished')", "P2: $when, every job's tasks are final");
	none('SELECT task, status, array_agg(place) FROM written GROUP BY task, status HAVING count(*) > 1',
		"P5: $when, no task was written twice");
	# a cancelled cell is written too: it gets back what it held
	is(sql(q(SELECT sum(done) FROM llm.job WHERE relation <> 'spare'::regclass)),
		sql(q(SELECT count(*) FROM written WHERE status = 'done' AND place NOT LIKE 'spare %')),
		'P5: as many were written as are done');
	is(sql("SELECT sum($sums) FROM llm.job WHERE total IS NULL AND relation = 'note'::regclass"),
		sql('SELECT count(*) FROM note'), 'P2: each single row was one task');
	return;
}

all_final('after the chaos');
none('SELECT task, array_agg(status) FROM written GROUP BY task HAVING count(*) > 1',
	'P5: as done and as failed neither');
none(q(SELECT task, reason, tries, message FROM llm.dead_letter
	WHERE reason NOT IN ('invalid_output', 'lost', 'timeout') OR tries <> ) . TRIES, 'P2: what failed had its tries');

# With a provider that is well again nothing need stay without its answer.
$provider->script({ enum_by_mark => JSON::PP::true });
sql('SELECT llm.retry(job => job) FROM (SELECT DISTINCT job FROM llm.dead_letter) d');
wait_for_all();
# those whose key was changed under way
sql('SET ROLE bob;', ask(event => "label ? 'llm_enrich'", $_)) foreach 0 .. SLICES - 1;
wait_for_all();
all_final('after a retry');
none('SELECT * FROM llm.dead_letter', 'P4: and nothing has failed for good');

# What came too late to cancel anything goes when the writer has nothing to do.
$node->append_conf('postgresql.conf', "llm_enrich.idle_timeout = '1s'");
$node->reload;
wait_until('NOT EXISTS (SELECT FROM llm.cancellation)', 'late cancellations go');
pass('and no cancellation is left');

# ---------------------------------------------------------------------------
# Every cell holds what it should
# ---------------------------------------------------------------------------

none(q(SELECT id, should, label FROM ticket WHERE CASE should
		WHEN 'answer' THEN label->>'summary' LIKE '%[[mark:t' || id || ']]%' AND NOT label ? 'llm_enrich'
		WHEN 'mine' THEN label = '{"label": "mine"}'
		ELSE label IS NULL END IS NOT TRUE), 'P5: tickets');
none("SELECT id, label FROM event WHERE label IS DISTINCT FROM jsonb_build_object('label', 'l' || id % @{[LABELS]})",
	'P5: events');
none(q(SELECT id, label FROM reply WHERE label::jsonb IS DISTINCT FROM jsonb_build_object('mark', 'r' || id)),
	'P5: replies');
none(q(SELECT id, label FROM echo WHERE label IS DISTINCT FROM jsonb_build_object('mark', 'o' || id % 7)),
	'P5: echoes');
none(q(SELECT id, label FROM note WHERE (label->>'summary' LIKE '%[[mark:n' || id || ']]%') IS NOT TRUE), 'P5: notes');
none(q(SELECT id, label FROM spare WHERE label IS NOT NULL AND (label->>'summary' LIKE '%[[mark:s' || id || ']]%'
	AND NOT label ? 'llm_enrich') IS NOT TRUE), 'P5: what was cancelled is empty, or as answered before');

# ---------------------------------------------------------------------------
# The ledger and the provider's books
# ---------------------------------------------------------------------------

# The provider's log becomes a table; a line has no control character in it.
sql('CREATE TABLE line (entry jsonb)');
for (my $since = 0;;)
{
	my $page = $provider->requests(undef, since => $since, limit => 5_000);
	last if $page eq '';
	sql("COPY line FROM STDIN WITH (FORMAT csv, DELIMITER E'\\x01', QUOTE E'\\x02');\n$page\\.\n");
	$since = sql("SELECT max((entry->>'number')::bigint) FROM line");
}
sql(q(
	CREATE TABLE asked AS
	SELECT entry->>'request_id' AS name, entry->>'mark' AS mark, entry->>'outcome' AS outcome, entry ? 'billed' AS told,
		(u->>'prompt_tokens')::bigint AS prompt, (u->>'cached_tokens')::bigint AS cached,
		(u->>'cache_write_tokens')::bigint AS cache_write, (u->>'completion_tokens')::bigint AS completion
	FROM line CROSS JOIN LATERAL coalesce(entry->'billed', entry->'unseen') AS u;
	CREATE UNIQUE INDEX ON asked (name);
	CREATE TABLE booked AS
	SELECT l.*, CASE WHEN relation LIKE '%echo' THEN 'o' || (key->>'id')::int % 7
		ELSE substr(split_part(relation, '.', 2), 1, 1) || (key->>'id') END AS mark
	FROM llm.ledger l WHERE request IS NOT NULL;
	CREATE UNIQUE INDEX ON booked (request);
	CREATE INDEX ON booked (request_id);
	ANALYZE asked; ANALYZE booked;
	CREATE TABLE unheard AS SELECT * FROM asked a
		WHERE NOT EXISTS (SELECT FROM booked b WHERE b.request_id = a.name);));
my $meter = $provider->meter;
is(sql('SELECT count(*) FROM asked'), $meter->{requests}, 'the log is whole');
none(q(SELECT * FROM asked WHERE mark LIKE 'g%' OR mark IS NULL), 'P1: nothing that was undone was asked');
none(q(SELECT request_id, array_agg(request) FROM booked GROUP BY 1 HAVING request_id IS NOT NULL AND count(*) > 1),
	'P3: no answer is on the ledger twice');
none(q(SELECT b.request, b.outcome, b.request_id, b.mark, a.mark AS asked, b.input_tokens, b.cached_tokens,
		b.cache_write_tokens, b.output_tokens, a.told, a.prompt, a.cached, a.cache_write, a.completion
	FROM booked b LEFT JOIN asked a ON a.name = b.request_id
	WHERE b.request_id IS NOT NULL AND (a.mark = b.mark AND (a.told OR a.prompt = 0) = NOT b.estimated
		AND (b.estimated OR (a.prompt, a.cached, a.cache_write, a.completion) = (b.input_tokens + b.cached_tokens
			+ b.cache_write_tokens, b.cached_tokens, b.cache_write_tokens, b.output_tokens))) IS NOT TRUE),
	'P3: each answer is on the ledger as the provider counted it, to the token');
none(q(SELECT b.outcome, a.outcome AS happened, count(*) FROM booked b JOIN asked a ON a.name = b.request_id
	WHERE (b.outcome, a.outcome) NOT IN (('ok', 'ok'), ('ok', 'wrong_label'), ('invalid', 'malformed'),
		('invalid', 'malformed_content'), ('invalid', 'wrong_label'), ('rate_limited', 'rate_limited'),
		('rate_limited', 'server_error'), ('error', 'server_error')) GROUP BY 1, 2), 'P3: and as what it was');
none(q(SELECT request, outcome, error FROM booked WHERE request_id IS NULL
	AND NOT (outcome IN ('unknown', 'timeout') AND estimated AND cost > 0)),
	'P3: what was not heard of is unknown, and estimated');
none(q(SELECT mark, u.n AS asked, b.n AS booked FROM (SELECT mark, count(*) AS n FROM unheard GROUP BY 1) u
	LEFT JOIN (SELECT mark, count(*) AS n FROM booked WHERE request_id IS NULL GROUP BY 1) b USING (mark)
	WHERE b.n >= u.n IS NOT TRUE), 'P3: each request that came to the provider is on the ledger');
is(sql(q(SELECT (SELECT sum(input_tokens + cached_tokens + cache_write_tokens) FROM booked WHERE NOT estimated)
		+ coalesce(sum(prompt), 0) FROM unheard WHERE told)), $meter->{billed}{prompt_tokens},
	'P3: input: known tokens, and those of answers that came too late, are what was billed');
is(sql(q(SELECT (SELECT sum(output_tokens) FROM booked WHERE NOT estimated)
		+ coalesce(sum(completion), 0) FROM unheard WHERE told)), $meter->{billed}{completion_tokens},
	'P3: output: the same');
none(q(SELECT c.*, l.* FROM llm.job_cost c FULL JOIN (SELECT job, count(*) AS n, sum(cost) AS sum FROM llm.ledger
		WHERE request IS NOT NULL GROUP BY 1) l USING (job) WHERE (c.requests = l.n AND c.cost = l.sum) IS NOT TRUE),
	"P3: the jobs' running sums are those of the ledger");

# Only what was under way when a sender died may be asked again for it.
my $resent = sql(q(SELECT count(*) FROM booked WHERE outcome = 'unknown' AND error LIKE 'the sender ended%'));
cmp_ok($resent, '>', 0, 'requests were under way');
cmp_ok($resent, '<=', SLOTS * $sender_deaths, 'P3: no more were asked again than slots times deaths');
is(sql(q(SELECT count(*) FROM unheard WHERE outcome NOT IN ('cut', 'hung'))) <= $resent ? 'ok' : 'more', 'ok',
	'P3: no answer that came was thrown away otherwise');

# ---------------------------------------------------------------------------
# The server
# ---------------------------------------------------------------------------

my $log = slurp_file($node->logfile);
is(scalar(() = $log =~ /all server processes terminated; reinitializing/g), $restarts,
	'the server restarted for what we killed, only');
is(join("\n", grep { !/terminating background worker/ } $log =~ /^.* llm_enrich \w+ (?:ERROR|FATAL): (?!\s*canceling statement due to lock timeout).*$/mg), '',
	'no process of ours met an error');
is(join("\n", $log =~ /^.*(?:PANIC|TRAP|signal (?:6|7|8|11)\b).*$/mg), '', 'and nothing else broke');

note(sprintf '%d requests, %d on the ledger, %d asked again after %d deaths of a sender, %d restarts',
	$meter->{requests}, sql('SELECT count(*) FROM booked'), $resent, $sender_deaths, $restarts);
diag('LLM_CHAOS_SEED=' . SEED . ' LLM_CHAOS_TASKS=' . TASKS) unless Test::More->builder->is_passing;

done_testing();
