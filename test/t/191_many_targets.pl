# A role that makes many targets (aliases, keys that change) fills its own share of the table of targets and nobody
# else's, and nobody is shown what another's target has said (P6, P7, P9).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

# Of one role and database (limiter_shared.h).
use constant SHARE => 128;
use constant ALIASES => 700;

# What eve is told, and nobody else is to read.
use constant REFUSAL => 'Incorrect API key provided: that of EVE';

my $node = new_node('many_targets', 'llm_enrich.max_connections = 400');
my $provider = start_provider();

# One server, so one host: what tells targets apart are keys and models.
setup_model($node, $provider, alias => 'good');
setup_model($node, $provider, server => 'shut', lane => 'shut', alias => 'shut', model => 'shut', is_default => 0);
setup_model($node, $provider, server => 'bad', lane => 'bad', alias => 'bad', model => 'bad', is_default => 0);
sql(qq(CREATE ROLE ana; CREATE ROLE eve;
	GRANT USAGE ON FOREIGN SERVER sim, shut TO ana; GRANT USAGE ON FOREIGN SERVER bad TO eve;
	SELECT count(llm.add_model('bad' || i, server => 'bad', model => 'bad-' || i,
			input_per_mtok => 1, output_per_mtok => 1))
		FROM generate_series(1, @{[ALIASES]}) i;
	CREATE TABLE poison (id int PRIMARY KEY, body text, alias text, label jsonb);
	CREATE TABLE note (id int PRIMARY KEY, body text, label jsonb);
	GRANT ALL ON note TO ana; GRANT ALL ON poison TO eve;
	INSERT INTO note SELECT i, 'note ' || i FROM generate_series(1, 2000) i;
	INSERT INTO poison SELECT i, 'poison ' || i, 'bad' || i FROM generate_series(1, @{[ALIASES]}) i;
	SET ROLE eve; CREATE USER MAPPING FOR eve SERVER bad OPTIONS (api_key 'eve-0')));
$provider->script({ status => 401, body => { error => { message => REFUSAL, code => 'invalid_api_key' } } }, 'bad');
$provider->script({ sequence => [ { action => 'rate_limit', retry_after => 86400, times => -1 } ] }, 'shut');
$provider->script({ latency_ms => 20 });

# ---------------------------------------------------------------------------
# Refused targets beside a healthy job
# ---------------------------------------------------------------------------

# A target of ana's that was told to wait for a day.
sql(q(SET ROLE ana; UPDATE note SET label = llm_classify(body, '{note,other}', model => 'shut') WHERE id = 2000));
wait_until(q(EXISTS (SELECT FROM llm.ledger WHERE server = 'shut' AND outcome = 'rate_limited')), 'it was told');
# what ana's jobs wait for while eve's are refused, as somebody looks at it again and again
sql('CREATE TABLE seen (why text)');
my $look = q(INSERT INTO seen SELECT DISTINCT why FROM (SELECT unnest(ARRAY[reason, problem]) AS why
	FROM llm.job j LEFT JOIN llm.health h ON h.subject ~ '"(good|shut)"' WHERE j.role = 'ana'::regrole) w WHERE why IS NOT NULL;);

sql('SET ROLE eve; UPDATE poison SET label = llm_classify(body, $${a,b}$$, model => alias)');
is(sql('SELECT count(*) FROM llm.job WHERE role = $$eve$$::regrole'), ALIASES, 'each alias has a job');
sql(q(SET ROLE ana; UPDATE note SET label = llm_classify(body, '{note,other}') WHERE id < 2000));
foreach my $key (1 .. 40)
{
	sql(qq(SET ROLE eve; ALTER USER MAPPING FOR eve SERVER bad OPTIONS (SET api_key 'eve-$key')));
	sql($look) if $key % 5 == 0;
}
wait_until(q(NOT EXISTS (SELECT FROM note WHERE id < 2000 AND llm_is_pending(label))), 'the healthy job is done');
wait_until(qq((SELECT count(DISTINCT model) >= @{[ALIASES]} FROM llm.ledger WHERE server = 'bad')),
	'each alias has had its turn');
sql($look);
is(sql(q(SELECT count(*) FROM note WHERE label = '{"label": "note"}')), 1999, 'P6: all of the healthy job is done');
is($provider->meter->{requests}, 1999, 'with one request for each row');
is($provider->meter('shut')->{requests}, 1, 'P7: a target that waits is not asked again since others want its place');
wait_until(q(EXISTS (SELECT FROM llm.health WHERE problem ~ 'EVE')), 'eve is shown what she is told');
is(sql(q(SELECT count(*) FROM seen WHERE why ~ 'EVE')), 0, 'P9: nobody is shown why another role waits');
like(sql(q(SELECT reason FROM llm.job WHERE model = 'shut')), qr/cooling down/, 'each has its own reason');

# Another database's sender knows of the cool-down only by the table.
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION llm_enrich');
setup_model($node, $provider, db => 'other', server => 'shut', lane => 'shut', alias => 'shut', model => 'shut');
$node->safe_psql('other', q(GRANT USAGE ON FOREIGN SERVER shut TO ana;
	CREATE TABLE note (id int PRIMARY KEY, body text, label jsonb); GRANT ALL ON note TO ana;
	INSERT INTO note VALUES (1, 'note');
	SET ROLE ana; UPDATE note SET label = llm_classify(body, '{note,other}')));
ok($node->poll_query_until('other', q(SELECT EXISTS (SELECT FROM llm.job WHERE reason ~ 'cooling down'))),
	'P7: which is kept for all databases, whatever was refused meanwhile');
is($provider->meter('shut')->{requests}, 1, 'and nothing is sent there');
ledger_equals_meter($node, $provider, "P3: ledger equals meter ($_)", lane => $_ eq 'sim' ? 'default' : $_, server => $_)
  foreach qw(sim bad);
sql('SELECT llm.cancel($$poison$$)');
wait_until(q(NOT EXISTS (SELECT FROM llm.queue WHERE role = 'eve'::regrole)), 'they are cancelled');

# ---------------------------------------------------------------------------
# All of a role's places are in use
# ---------------------------------------------------------------------------

$provider->script({ hang => 1 }, 'bad');
sql(qq(SET ROLE eve; ALTER USER MAPPING FOR eve SERVER bad OPTIONS (SET api_key 'eve-new');
	UPDATE poison SET label = llm_classify(body, '{a,b}', model => alias) WHERE id <= @{[SHARE + 12]}));
wait_until(q((SELECT count(*) = 12 FROM llm.job WHERE role = 'eve'::regrole AND reason ~ 'too many targets')),
	'what has no place says so');
is($provider->meter('bad')->{in_flight}, SHARE, 'P6: a role has requests under way at so many targets');
sql(q(UPDATE note SET label = NULL;
	SET ROLE ana; UPDATE note SET label = llm_classify(body, '{note,other}') WHERE id <= 100));
ok($node->poll_query_until('postgres', q(SELECT count(*) = 100 FROM note WHERE label = '{"label": "note"}')),
	'P6: and another role has places of its own');

$node->stop;
done_testing();
