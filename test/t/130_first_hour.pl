# The first hour: whatever is missing or wrong, somebody is told what to type next,
# in the statement where that can know it, else in llm.health and llm.progress.why.
# Once it has been typed, what was queued is answered: nothing is lost (P2), no try is
# charged, and every request is on the ledger (P3).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

use constant UPDATE => q(UPDATE ticket SET label = llm_classify(body, '{invoice,crash,other}') WHERE label IS NULL);

my $key_file = PostgreSQL::Test::Utils::tempdir() . '/openai.key';
my $provider = start_provider();
$provider->script({ key => 'sk-right', models => ['sim-1'] });

my $node = new_node('first_hour', { start => 0 }, 'log_statement = none');
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "''");
$node->start;

# Run a statement that is refused, or warned of; its hint, as it stands.
sub hint_of
{
	my ($sql, $name, $expected) = @_;
	my (undef, undef, $stderr) = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql");

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	like($stderr, $expected, $name);
	return $stderr =~ /^HINT:\s+(.*)$/m ? $1 : '';
}

# Type what a hint says.
sub type
{
	my $sql = shift;

	note("typed: $sql");
	return $node->safe_psql('postgres', $sql);
}

# Wait until the open job says that it waits for this; the hint of the row of llm.health
# with that problem. Both are patterns for LIKE.
sub hint_of_wait
{
	my ($name, $why, $problem) = @_;
	my $open = q(FROM llm.progress WHERE state <> 'finished' AND waiting > 0);
	my $shown;

	$node->poll_query_until('postgres', "SELECT why LIKE " . LLMTest::quoted("$why%") . " $open")
		or diag($node->safe_psql('postgres', "SELECT waiting, why $open"));
	$shown = wait_text($node, q(
		SELECT problem || ' HINT: ' || hint FROM llm.health WHERE problem LIKE ) . LLMTest::quoted($problem // $why) . ' LIMIT 1',
		qr/HINT: ./);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	like($shown, qr/HINT: ./, "$name: llm.progress says why, and llm.health what to type");
	is($node->safe_psql('postgres', 'SELECT max(tries) FROM llm.queue'), 0, "$name: no try is charged");
	return $shown =~ s/.* HINT: //r;
}

# Three rows that have not been asked about.
sub new_rows
{
	$node->safe_psql('postgres', q(
		INSERT INTO ticket (body) VALUES ('the invoice is wrong'), ('it is a crash'), ('hello')));
	return;
}

# Everything that was queued is answered.
sub all_answered
{
	my $name = shift;

	wait_idle($node);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($node->safe_psql('postgres', q(
		SELECT bool_and(label = jsonb_build_object('label',
				CASE id % 3 WHEN 1 THEN 'invoice' WHEN 2 THEN 'crash' ELSE 'other' END)),
			(SELECT count(*) FROM llm.dead_letter), (SELECT sum(total - done) FROM llm.job)
		FROM ticket)), 't|0|0', "$name: every row is answered");
	ledger_equals_meter($node, $provider, "P3: $name: ledger equals meter", server => 'openai');
	return;
}

# ---------------------------------------------------------------------------
# Not loaded at start
# ---------------------------------------------------------------------------

$node->safe_psql('postgres', q(
	CREATE EXTENSION llm_enrich;
	CREATE TABLE ticket (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text, label jsonb);
	CREATE TABLE bare (id int, body text, label jsonb);
	INSERT INTO bare VALUES (1, 'the invoice is wrong')));
new_rows();
foreach my $sql (UPDATE, 'SELECT * FROM llm.health', 'SELECT * FROM llm.progress', q(SELECT llm.check()))
{
	like(hint_of($sql, "not preloaded: $sql", qr/ERROR:  55000: "llm_enrich" was not loaded at server start/),
		qr/^Add "llm_enrich" to "shared_preload_libraries" and restart the server\.$/, 'and how to load it');
}
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "'llm_enrich'");
$node->restart;

# ---------------------------------------------------------------------------
# No server, no model, no default, no primary key, no right
# ---------------------------------------------------------------------------

my $hint = hint_of(UPDATE, 'no server and no model', qr/ERROR:  55000: there is no default model/);
my ($create_server, $add_model) = $hint =~ /^First (CREATE SERVER .*?); then (SELECT llm\.add_model\(.*)$/;
ok($add_model, 'the hint has both statements') or BAIL_OUT($hint);
is($node->safe_psql('postgres', q(SELECT hint FROM llm.health WHERE kind = 'server')), "$create_server;", 'llm.health has the one');
is($node->safe_psql('postgres', q(SELECT hint FROM llm.health WHERE kind = 'model')), $add_model, 'and the other');
is(hint_of($add_model, 'a model of no server', qr/ERROR:  42704: server "openai" does not exist/), "$create_server;",
	'so has llm.add_model()');

# As typed, but for the address, and without the key.
my $base_url = $provider->base_url;
$create_server =~ s{provider 'openai'}{provider 'openai', base_url '$base_url'} or die $create_server;
$create_server =~ s{, api_key_file '[^']*'}{} or die $create_server;
type($create_server);
type($add_model =~ s/, is_default => true//r);
$hint = hint_of(UPDATE, 'no default model', qr/ERROR:  55000: there is no default model/);
like($hint, qr/"fast"/, 'the hint names those there are');
type($hint =~ s/.*(SELECT .*)'\.\.\.'(.*)/$1'fast'$2/r);
like(hint_of(q(UPDATE ticket SET label = llm_classify(body, model => 'fats')), 'no such model', qr/ERROR:  42704: model "fats" does not exist/),
	qr/^Models are: "fast"\./, 'the hint names those there are');

$hint = hint_of(q(UPDATE bare SET label = llm_classify(body, '{invoice,crash,other}')), 'no primary key',
	qr/ERROR:  0A000: cannot defer llm_classify\(\) for relation "bare"\n.*DETAIL:  It has no key by which a row could be found again/s);
is($hint, 'Add a primary key.', 'the hint says so');

$node->safe_psql('postgres', 'CREATE ROLE analyst; GRANT SELECT, INSERT, UPDATE ON ticket TO analyst');
my $grant = hint_of('SET ROLE analyst; ' . UPDATE, 'a role without USAGE', qr/ERROR:  42501: role "analyst" may not use server "openai"/);
is($grant, 'GRANT USAGE ON FOREIGN SERVER openai TO analyst;', 'the hint has the statement');
is($node->safe_psql('postgres', q(SELECT count(*) FROM llm.queue)), 0, 'a statement that is refused queues nothing');

# ---------------------------------------------------------------------------
# Keys and names: one statement, one trouble after the other
# ---------------------------------------------------------------------------

$node->safe_psql('postgres', q(
	CREATE SERVER far FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai', base_url 'https://llm.example/v1');
	SELECT llm.add_model('far', server => 'far', model => 'gpt-5-mini')));
like(hint_of(q(BEGIN; UPDATE ticket SET label = llm_classify(body, model => 'far'); ROLLBACK),
		'no key for an https server', qr/NOTICE:  00000: server "far" has no key for role "postgres"/),
	qr/^ALTER SERVER far OPTIONS \(ADD api_key_file '\.\.\.'\); or CREATE USER MAPPING FOR postgres SERVER far OPTIONS \(api_key '\.\.\.'\);$/,
	'the hint has both ways');

$node->safe_psql('postgres', UPDATE);
$hint = hint_of_wait('no key', 'the provider refuses the key', 'Incorrect API key provided.');
$hint =~ /^(ALTER SERVER openai OPTIONS \(ADD api_key_file )'\.\.\.'\);/ or die $hint;
type("$1'$key_file')");

$hint = hint_of_wait('no key file', "could not read key file \"$key_file\": No such file or directory");
like($hint, qr/must exist and be readable/, 'the file must be there');
append_to_file($key_file, "sk-wrong\n");
chmod 0000, $key_file or die $!;
hint_of_wait('key file of somebody else', "could not read key file \"$key_file\": Permission denied");
chmod 0600, $key_file or die $!;

$hint = hint_of_wait('wrong key', 'the provider refuses the key', 'Incorrect API key provided.');
$hint =~ /Put the right key into "\Q$key_file\E"; then (SELECT pg_reload_conf\(\));/ or die $hint;
like($node->safe_psql('postgres', 'SELECT llm.check()'), qr/^error: .*: Incorrect API key provided\. \(HTTP status 401\)/, 'llm.check() says it, too');
unlink $key_file;
append_to_file($key_file, "sk-right\n");
chmod 0600, $key_file or die $!;
type($1);

$hint = hint_of_wait('unknown model', 'the provider does not know the model',
	'The model `gpt-5-mini` does not exist or you do not have access to it.');
$hint =~ /^(SELECT llm\.alter_model\('fast', model => )'\.\.\.'\);/ or die $hint;
type("$1'sim-1')");
all_answered('the keys and the model');
is($node->safe_psql('postgres', 'SELECT count(*) FROM llm.health WHERE problem IS NOT NULL AND kind <> $$target$$'), 0,
	'llm.health has no problem left');
ok($node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM llm.health WHERE problem IS NOT NULL)'),
	'nor a target that nobody waits for');

type('ALTER TABLE bare ADD PRIMARY KEY (id)');
$node->safe_psql('postgres', q(UPDATE bare SET label = llm_classify(body, '{invoice,crash,other}')));
wait_idle($node);
is($node->safe_psql('postgres', q(SELECT label->>'label' FROM bare)), 'invoice', 'with a primary key the table is taken');

# ---------------------------------------------------------------------------
# An address where nobody listens
# ---------------------------------------------------------------------------

my $address = 'http://127.0.0.1:9/v1';
my $lane = $provider->base_url('astray');

new_rows();
$node->safe_psql('postgres', qq(
	CREATE SERVER astray FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai', base_url '$address');
	SELECT llm.add_model('astray', server => 'astray', model => 'sim-1');
	) . UPDATE =~ s/}'/}', model => 'astray'/r);
$hint = hint_of_wait('wrong address', 'cooling down: could not connect: %', 'could not connect: %');
$hint =~ /: (ALTER SERVER astray OPTIONS \(SET base_url )'\.\.\.'\);$/ or die $hint;
type("$1'$lane')");
all_answered('the address');
is($provider->meter('astray')->{requests}, 3, 'the address: each row is asked once');

# ---------------------------------------------------------------------------
# Sending disabled, and a right that is lost meanwhile
# ---------------------------------------------------------------------------

type($grant);
new_rows();
sending($node, 'off');
$node->safe_psql('postgres', 'SET ROLE analyst; ' . UPDATE);
$hint = hint_of_wait('sending disabled', 'llm_enrich.enabled is off', 'nothing is sent, in any database; tasks stay queued');
$node->safe_psql('postgres', q(REVOKE USAGE ON FOREIGN SERVER openai FROM analyst));
my $before = $provider->meter->{requests};
$hint =~ /^(ALTER SYSTEM SET llm_enrich\.enabled = on); (SELECT pg_reload_conf\(\));$/ or die $hint;
type($1);
type($2);
$hint = hint_of_wait('a right lost', 'role "analyst" may not use server "openai"');
is($provider->meter->{requests}, $before, 'a right lost: nothing is sent');
is($hint, $grant, 'a right lost: the hint has the statement');
type($hint);
all_answered('the setting and the right');

# ---------------------------------------------------------------------------
# Library and SQL of different versions
# ---------------------------------------------------------------------------

my $version = $node->safe_psql('postgres', q(SELECT extversion FROM pg_extension WHERE extname = 'llm_enrich'));

$node->safe_psql('postgres', q(UPDATE pg_extension SET extversion = '0.0.1' WHERE extname = 'llm_enrich'));
$node->restart;
new_rows();
$node->safe_psql('postgres', UPDATE);
$hint = hint_of_wait('another version', "restart needed: the library in memory is version $version, the extension is version 0.0.1");
like($hint, qr/^Restart the server if .* version 0\.0\.1 now; otherwise run ALTER EXTENSION llm_enrich UPDATE\.$/,
	'another version: the hint has both ways');
# as the update's script would, had there been such a version
$node->safe_psql('postgres', "UPDATE pg_extension SET extversion = '$version' WHERE extname = 'llm_enrich'");
$node->restart;
all_answered('another version');

# ---------------------------------------------------------------------------
# No worker slot
# ---------------------------------------------------------------------------

# PostgreSQL takes one for itself, the launcher one; one is left, which sender and writer take in turn.
sub restart_with
{
	my $processes = shift;

	$node->safe_psql('postgres', "ALTER SYSTEM SET max_worker_processes = $processes");
	$node->restart;
	return;
}

restart_with(3);
new_rows();
$node->safe_psql('postgres', UPDATE);
all_answered('one process for sender and writer');
is($node->safe_psql('postgres', q(SELECT count(*) FROM llm.ledger WHERE task IN (SELECT task FROM llm.ledger GROUP BY task HAVING count(*) > 1 AND bool_and(outcome = 'ok')))),
	0, 'P4: answers that waited for the writer are not asked for again');

# What databases say that wait for a process is in 189_few_processes.
done_testing();
