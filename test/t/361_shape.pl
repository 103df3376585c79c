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
	qr/^paused: owner, triggers, .* of public\.box have changed since .*, then SELECT llm\.resume\(job => $job\);$/,
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

# Cancelled before anybody has looked: it ends, and nothing is written.
sending($node, 'off');
$job = enrich('away', 'mallory', $super);
sql('SET ROLE mallory', sprintf($trigger, 'away'));
is(outcome($job), 'paused 0 0', 'another one waits');
($rc, undef, $err) = $node->psql('postgres', "SELECT llm.cancel(job => $job)");
like($err, qr/NOTICE:  cells in column "label" of public\.away stay pending.*HINT:  Then SELECT llm\.reset_orphans\('(?:public\.)?away', 'label'\)/s,
	'llm.cancel() says what becomes of its cells');
ok($node->poll_query_until('postgres', "SELECT state = 'finished' AND cancelled = 3 FROM llm.job WHERE id = $job"),
	'P9: answers that have come are cancelled at once');
is(sql("SELECT count(*) FROM llm.queue WHERE job = $job"), 0, 'and nothing of it is left');
is(sql(q(SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory')), 'f', 'P9: the owner got nothing');
is(sql("SELECT count(*) FROM llm.ledger WHERE job = $job AND outcome = 'ok'"), 3, 'P3: what was paid is on the ledger');
sql('DROP TRIGGER z ON away');
is(sql(q(SELECT llm.reset_orphans('away', 'label'))), 3, 'the cells are given back by who has looked');
is(sql('SELECT count(*) FROM away WHERE label IS NULL'), 3, 'and hold what they held');

# A table of one's own may have a column of another's domain.
sending($node, 'off');
sql('SET ROLE mallory', 'CREATE DOMAIN hers AS jsonb', q(CREATE FUNCTION seize(jsonb) RETURNS boolean LANGUAGE plpgsql AS
	'BEGIN IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN ALTER ROLE mallory SUPERUSER; END IF; RETURN true; END'));
$job = enrich('mine', $super, $super, 'CREATE TABLE mine (id int PRIMARY KEY, body text, label hers)');
sql('SET ROLE mallory', 'ALTER DOMAIN hers ADD CHECK (seize(value)) NOT VALID');
is(outcome($job), 'paused 0 0', "P9: a condition of another's domain puts off the write-back to one's own table");
is(sql(q(SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory')), 'f', 'and is not run');
sql("SELECT llm.cancel(job => $job)");
sending($node, 'off');
$job = enrich('plain', $super, $super, 'CREATE TABLE plain (id int PRIMARY KEY, body text, label jsonb)');
is(sql("SELECT shape IS NULL FROM llm.job WHERE id = $job"), 't', "one's own table of PostgreSQL's types is not looked at");
is(outcome($job), 'finished 3 0', 'and is written');

# Resumed while the writer, which has looked at it, is at a job before it: so it is. Rows of "slow" wait until they may
# go on.
sending($node, 'off');
sql(q(CREATE FUNCTION waits() RETURNS trigger LANGUAGE plpgsql AS
	'BEGIN IF new.label ? $$label$$ THEN PERFORM pg_advisory_xact_lock(new.id); END IF; RETURN new; END'),
	'CREATE TABLE slow (id int PRIMARY KEY, body text, label jsonb)', q(INSERT INTO slow VALUES (77, 'a bug'), (78, 'a bill')),
	'CREATE TRIGGER w BEFORE UPDATE ON slow FOR EACH ROW EXECUTE FUNCTION waits()');
my @slow = map { sql("UPDATE slow SET label = llm_classify(body, '{billing,bug}', options => '{\"priority\": $_}') WHERE id = $_",
	'SELECT max(job) FROM llm.queue') } 77, 78;
sql("SELECT llm.pause(job => $_)") foreach @slow;
$job = enrich('again', 'mallory', $super);
sql('SET ROLE mallory', 'CREATE TRIGGER z BEFORE UPDATE ON again FOR EACH ROW EXECUTE FUNCTION harmless()');
is(outcome($job), 'paused 0 0', 'one more waits');
my $gate = $node->background_psql('postgres');
$gate->query_safe('SELECT pg_advisory_lock(77), pg_advisory_lock(78)');
sql("SELECT llm.resume(job => $_)") foreach @slow;
my $waits_at = q(SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = %d);
$node->poll_query_until('postgres', sprintf $waits_at, 77) or die 'the writer does not wait';
sql("SELECT llm.cancel(task => (SELECT min(id) FROM llm.queue WHERE job = $job))");
$gate->query_safe('SELECT pg_advisory_unlock(77)');
$node->poll_query_until('postgres', sprintf $waits_at, 78) or die 'the writer does not wait for the other row';
sql("SELECT llm.resume(job => $job)");
$gate->query_safe('SELECT pg_advisory_unlock(78)');
$gate->quit;
ok($node->poll_query_until('postgres', "SELECT state = 'finished' AND done = 2 AND cancelled = 1 FROM llm.job WHERE id = $job"),
	'P2: what was resumed meanwhile goes on');
is(sql(q(SELECT count(*) FROM slow WHERE label ? 'label')), 2, 'beside the others');

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
	'a domain within an array' => 'ALTER DOMAIN e ADD CHECK (length(value) < 100) NOT VALID',
	'a domain within a composite type' => 'ALTER DOMAIN f ADD CHECK (length(value) < 100) NOT VALID',
	'the owner' => 'RESET ROLE; ALTER TABLE t OWNER TO adm',
);
foreach my $what (sort keys %change)
{
	sending($node, 'off');
	sql('RESET ROLE', 'DROP TABLE IF EXISTS t', 'DROP TYPE IF EXISTS c', 'DROP DOMAIN IF EXISTS d, e, f',
		'SET ROLE mallory', 'CREATE DOMAIN d AS text', 'CREATE DOMAIN e AS text', 'CREATE DOMAIN f AS text',
		'CREATE TYPE c AS (part f)');
	$job = enrich('t', 'mallory', 'boss', 'CREATE TABLE t (id int PRIMARY KEY, body d, label jsonb, es e[], cs c[])
		PARTITION BY RANGE (id);
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

# What is around a call, and a condition, calls what it called when it was asked: no cast, no function with a closer
# argument and no condition of a domain that another role has added since (ADR 112).
sending($node, 'off');
sql('RESET ROLE', 'CREATE TABLE public.ran (who text)', 'GRANT INSERT ON public.ran TO PUBLIC', 'CREATE SCHEMA shop AUTHORIZATION mallory',
	'GRANT USAGE ON SCHEMA shop TO PUBLIC',
	'CREATE FUNCTION public.same(x anyelement) RETURNS anyelement LANGUAGE sql IMMUTABLE AS $$SELECT x$$',
	'SET ROLE mallory', q(CREATE TYPE shop.mood AS ENUM ('billing', 'bug')), 'CREATE DOMAIN shop.word AS text', 'CREATE DOMAIN shop.fold AS text',
	'CREATE DOMAIN shop.item AS text', 'CREATE DOMAIN shop.deep AS text', 'CREATE DOMAIN shop.fits AS text CHECK (length(value) < 100)', 'CREATE DOMAIN shop.part AS text', 'CREATE TYPE shop.pair AS (a shop.part, b int)',
	'CREATE FUNCTION shop.own(x text) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT x$$');
sql('CREATE TABLE meant (id int PRIMARY KEY, body text, mood text, word text, fold text, same text, own text, item text, pair text, deep text, fits text, label jsonb,
		checked jsonb)',
	q(INSERT INTO meant VALUES (1, 'The invoice is wrong')));
my %mean = (
	mood => q((%s->>'label')::shop.mood::text),
	word => q((%s->>'label')::shop.word::text),
	fold => q((%s->>'label')::shop.fold::text),
	same => q(public.same(%s->>'label')),
	own => q(shop.own(%s->>'label')),
	fits => q(('{a}'::shop.fits[])[1] || ((%s->>'label')::shop.fits::text)),
	deep => q((%s->>'label')::shop.deep::text),
	# literals that the parser reads
	item => q(('{a,b}'::shop.item[])[1] || (%s->>'label')),
	pair => q((('(a,1)'::shop.pair).a) || (%s->>'label')));
my %job = map {
	$_ => sql(sprintf("UPDATE meant SET $_ = $mean{$_}", q(llm_classify(body, '{billing,bug}'))), 'SELECT llm.last_job()')
} sort keys %mean;
$job{label} = sql(q(UPDATE meant SET label = llm_classify(body, '{billing,bug}', checks => ARRAY[$$public.same(answer->>'label') <> ''$$])),
	'SELECT llm.last_job()');
$job{checked} = sql(q(UPDATE meant SET checked = llm_classify(body, '{billing,bug}',
	checks => ARRAY[$$answer->>'label' <> ALL ('{x,y}'::shop.item[]::text[])$$])), 'SELECT llm.last_job()');
my $run = q(LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.ran VALUES (current_user); RETURN %s; END $$);
sql('SET ROLE mallory',
	'CREATE FUNCTION shop.read(x text) RETURNS shop.mood ' . sprintf($run, q('bug')), 'CREATE CAST (text AS shop.mood) WITH FUNCTION shop.read(text)',
	'CREATE FUNCTION shop.fine(x text) RETURNS boolean ' . sprintf($run, 'true'), 'ALTER DOMAIN shop.word ADD CHECK (shop.fine(value))',
	# one that the planner calls
	q(CREATE FUNCTION shop.folds(int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
		IF current_user <> 'mallory' THEN RAISE 'ran as %', current_user; END IF; RETURN true; END $$),
	'ALTER DOMAIN shop.fold ADD CHECK (shop.folds(1))',
	'ALTER DOMAIN shop.item ADD CHECK (shop.folds(1))', 'ALTER DOMAIN shop.part ADD CHECK (shop.folds(1))',
	'CREATE FUNCTION public.same(x text) RETURNS text ' . sprintf($run, 'x'),
	# a function of pg_catalog that runs what it is told
	q(CREATE FUNCTION shop.leak() RETURNS tsquery LANGUAGE plpgsql AS $$ BEGIN
		IF current_user <> 'mallory' THEN RAISE 'ran as %', current_user; END IF; RETURN 'b'; END $$),
	q(ALTER DOMAIN shop.deep ADD CHECK (ts_rewrite('a'::tsquery, 'SELECT $$a$$::tsquery, shop.leak()') IS NOT NULL)));
sending($node, 'on');
my %added = (deep => 'domain shop.deep', mood => 'shop.read', word => 'shop.fine', fold => 'shop.folds',
	same => 'public.same', item => 'shop.folds', pair => 'shop.folds', label => 'public.same', checked => 'shop.folds');
foreach my $column (sort keys %added)
{
	sql("CALL llm.wait(job => $job{$column})");
	my $what = quotemeta $added{$column};
	like(sql("SELECT reason || ': ' || message FROM llm.dead_letter WHERE job = $job{$column}"),
		qr/^not_writable: .*(?:function $what\(.*(?:text|integer)\) would be called|that $what had not)/,
		"P9: what was added for $column since is not called");
}
sql("CALL llm.wait(job => $job{own})");
is(sql('SELECT own FROM meant'), 'billing', 'what was named is');
sql("CALL llm.wait(job => $job{fits})");
is(sql('SELECT fits FROM meant'), 'abilling', 'so is what a domain had');
is(sql('SELECT count(*) FROM public.ran'), 0, 'P9: nothing of it ran, as any role');
$asked = $provider->meter->{requests};
sql('DROP CAST (text AS shop.mood)', 'DROP FUNCTION public.same(text)', q(SELECT llm.retry(reason => '{not_writable}')));
sql('CALL llm.wait(relation => $$meant$$)');
is(sql(q(SELECT mood || ' ' || same || ' ' || (label->>'label') FROM meant)), 'billing billing billing', 'when it is gone the answers are written');
is($provider->meter->{requests}, $asked, 'P4: and nothing is asked for them again');

done_testing();
