# P9: between a statement and its write-back the owner of a table can have nothing run as the role
# that asked: what was added or changed meanwhile puts the job off until somebody lets it through.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest qw(!sql);

my $node = new_node('shape', 'llm_enrich.enabled = off');
my $provider = start_provider();
setup_model($node, $provider);
sql('CREATE ROLE mallory LOGIN', 'CREATE ROLE boss', 'CREATE ROLE clerk', 'GRANT boss TO clerk', 'CREATE ROLE adm',
	'GRANT llm_admin TO adm', 'GRANT CREATE ON SCHEMA public TO mallory, clerk',
	'GRANT USAGE ON FOREIGN SERVER sim TO boss, mallory');

sub sql { return $node->safe_psql('postgres', join(";\n", @_)); }

# A table of that owner, and the pending job of the role that asks.
sub enrich
{
	my ($name, $owner, $asker, $define) = @_;

	sql("SET ROLE $owner", $define // "CREATE TABLE $name (id int PRIMARY KEY, body text, label jsonb)",
		"INSERT INTO $name SELECT i, 'The invoice is wrong ' || i FROM generate_series(1, 3) i",
		"GRANT SELECT, UPDATE ON $name TO public");
	return sql("SET ROLE $asker", "UPDATE $name SET label = llm_classify(body, '{billing,bug}')", 'SELECT llm.last_job()');
}

# What a job has come to: paused, or its counts.
sub outcome
{
	my $job = shift;

	sending($node, 'on');
	$node->poll_query_until('postgres', "SELECT state <> 'open' FROM llm.job WHERE id = $job") or die "job $job is open";
	my $state = sql("SELECT state || ' ' || done || ' ' || failed FROM llm.job WHERE id = $job");
	return $state;
}

sql('SET ROLE mallory', q(CREATE FUNCTION seize() RETURNS trigger LANGUAGE plpgsql AS
	'BEGIN IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN ALTER ROLE mallory SUPERUSER; END IF; RETURN new; END'),
	q(CREATE FUNCTION harmless() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'),
	q(CREATE FUNCTION fine(jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true'));
my $trigger = 'CREATE TRIGGER z BEFORE UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION seize()';
my $super = sql('SELECT current_user');

# A trigger under a superuser's pending rows.
my $job = enrich('box', 'mallory', $super);
sql('SET ROLE mallory', sprintf($trigger, 'box'));
is(outcome($job), 'paused 0 0', "P9: a superuser's write-back waits when the owner has added a trigger");
like(sql("SELECT why FROM llm.progress WHERE job = $job"),
	qr/^paused: owner, triggers, .* of public\.box have changed since .*, then llm\.resume\(job => $job\)$/,
	'with its reason');
is(sql(q(SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory')), 'f', 'the owner got nothing');
is(sql("SELECT count(*) FROM box WHERE llm_is_pending(label)"), 3, 'the cells are pending');
my ($rc, undef, $err) = $node->psql('postgres', "SET ROLE adm; SELECT llm.resume(job => $job)");
is(sql("SELECT state FROM llm.job WHERE id = $job"), 'paused', "who has not the role's rights cannot let it through");
sql('SET ROLE mallory', 'DROP TRIGGER z ON box', 'CREATE TRIGGER z BEFORE UPDATE ON box FOR EACH ROW EXECUTE FUNCTION harmless()');
sql("SELECT llm.resume(job => $job)");
is(outcome($job), 'paused 0 0', 'changed again before it was resumed: it waits again');
my $asked = $provider->meter->{requests};
sql("SELECT llm.resume(job => $job)");
is(outcome($job), 'finished 3 0', 'what was looked at is let through');
is($provider->meter->{requests}, $asked, 'P1: and nothing is sent for it a second time');

# Everything else that a write runs or obeys.
my %change = (
	'a function' => q(CREATE OR REPLACE FUNCTION harmless() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM 1; RETURN new; END'),
	'a rule' => 'CREATE RULE r AS ON UPDATE TO t DO ALSO NOTIFY x',
	'a policy' => 'ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (fine(label))',
	'a constraint' => 'ALTER TABLE t ADD CHECK (fine(label))',
	'a generated column' => 'ALTER TABLE t ADD COLUMN g boolean GENERATED ALWAYS AS (fine(label)) STORED',
	'an index' => 'CREATE INDEX ON t (fine(label))',
	'a domain' => 'ALTER DOMAIN d ADD CHECK (length(value) < 100)',
	'a trigger of a partition' => sprintf($trigger, 'leaf'),
	'the owner' => 'RESET ROLE; ALTER TABLE t OWNER TO adm',
);
foreach my $what (sort keys %change)
{
	sending($node, 'off');
	sql('RESET ROLE', 'DROP TABLE IF EXISTS t', 'DROP DOMAIN IF EXISTS d', 'SET ROLE mallory',
		'CREATE DOMAIN d AS text');
	$job = enrich('t', 'mallory', 'boss', 'CREATE TABLE t (id int PRIMARY KEY, body d, label jsonb) PARTITION BY RANGE (id);
		CREATE TABLE leaf PARTITION OF t DEFAULT;
		CREATE TRIGGER h BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION harmless()');
	sql('SET ROLE mallory', $change{$what});
	is(outcome($job), 'paused 0 0', "P9: $what has changed: it waits");
	sql("SELECT llm.cancel(job => $job)");
}

# What is no change, and who is not to be feared.
sending($node, 'off');
$job = enrich('same', 'mallory', $super);
sql('SET ROLE mallory', 'CREATE INDEX ON same (body)', 'ALTER TABLE same ADD COLUMN more int',
	'ALTER TABLE same RENAME COLUMN label TO verdict',
	'ANALYZE same');
is(outcome($job), 'finished 3 0', 'an index without an expression, another column, another name: it goes on');
sending($node, 'off');
$job = enrich('given', 'mallory', 'boss');
sql('ALTER TABLE given OWNER TO clerk');
is(outcome($job), 'finished 3 0', 'an owner who is a member of the role could ask by itself');
sending($node, 'off');
$job = enrich('own', 'mallory', 'mallory');
sql('SET ROLE mallory', sprintf($trigger, 'own'));
is(outcome($job), 'finished 3 0', "an owner's own rows go on");
is(sql('SELECT count(*) FROM llm.job WHERE shape IS NOT NULL AND role_name = $$mallory$$'), 0, 'and no shape is kept');

done_testing();
