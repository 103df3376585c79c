# A trigger that says that something is locked, where nobody holds a lock that ends some day: its row is tried
# again a few times and fails with the reason, and its answer is kept; a lock that somebody holds is waited for
# as long as it takes (P2, P4).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

my $provider = start_provider();
my $node = new_node('said_locks');

setup_model($node, $provider);

sub forward
{
	my ($query, $name) = @_;

	return ok(LLMTest::wait_forward($node, "SELECT $query"), $name);
}

# Table, and a trigger that raises for the rows where a condition holds; tries are counted by a sequence.
sub make_table
{
	my ($table, $code, $condition) = @_;

	sql(qq(
		CREATE TABLE $table (id int PRIMARY KEY, body text, label jsonb, kind text);
		INSERT INTO $table SELECT i, 'a bug in part ' || i FROM generate_series(1, 4) i;
		CREATE SEQUENCE ${table}_tries;
		CREATE FUNCTION ${table}_says() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN
			IF $condition THEN
				PERFORM nextval('${table}_tries');
				RAISE 'part % is busy', NEW.id USING ERRCODE = '$code';
			END IF;
			RETURN NEW; END \$\$;));
	return;
}

sub add_trigger
{
	my ($table, $when) = @_;

	sql(qq(CREATE TRIGGER says BEFORE UPDATE ON $table FOR EACH ROW WHEN ($when) EXECUTE FUNCTION ${table}_says()));
	return;
}

# ---------------------------------------------------------------------------
# One row of four, by each of the errors
# ---------------------------------------------------------------------------

foreach my $code (qw(55P03 40P01 40001))
{
	my $table = lc "t_$code";

	make_table($table, $code, 'NEW.id = 2');
	add_trigger($table, q(NEW.label ? 'label'));
	sql(qq(UPDATE $table SET label = llm_classify(body, '{bug,praise}')));
	$node->poll_query_until('postgres', "SELECT count(*) = 3 FROM $table WHERE label ? 'label'") or die 'others wait';
	pass("P2: rows beside one that says $code are written");
	forward('NOT EXISTS (SELECT FROM llm.queue)', 'P2: and it is final after some tries');
	is(sql(qq(SELECT reason, message, answer->>'label' FROM llm.dead_letter WHERE relation = '$table'::regclass)),
		"not_writable|$code: part 2 is busy|bug", 'P4: with the reason, and the answer that was paid');
	my $tries = sql("SELECT last_value FROM ${table}_tries");
	cmp_ok($tries, '>=', 10, "after $tries tries");
	cmp_ok($tries, '<=', 60, 'and no more');
}

my $before = $provider->meter->{requests};
sql('DROP TRIGGER says ON t_55p03');
sql(q(SELECT llm.retry(relation => 't_55p03')));
wait_idle($node);
is(sql(q(SELECT count(*) FROM t_55p03 WHERE label->>'label' = 'bug')), 4, 'P4: once the trigger lets it, it is written');
is($provider->meter->{requests}, $before, 'without a request');

# ---------------------------------------------------------------------------
# All rows; and a quiet cell
# ---------------------------------------------------------------------------

make_table('every', '55P03', 'true');
add_trigger('every', q(NEW.label ? 'label'));
sql(q(UPDATE every SET label = llm_classify(body, '{bug,praise}')));
forward('NOT EXISTS (SELECT FROM llm.queue)', 'P2: where all rows say so, all are final');
is(sql(q(SELECT count(*), min(reason) FROM llm.dead_letter WHERE relation = 'every'::regclass)), '4|not_writable',
	'with the reason');

make_table('quiet', '55P03', 'NEW.id = 2');
add_trigger('quiet', q(NEW.kind IS NOT NULL));
sql(q(UPDATE quiet SET kind = llm_classify(body, '{bug,praise}')->>'label'));
forward('NOT EXISTS (SELECT FROM llm.queue)', 'P2: a quiet cell is final, too');
is(sql(q(SELECT count(*) FROM quiet WHERE kind = 'bug')), 3, 'and the others are written');

# ---------------------------------------------------------------------------
# A lock that somebody holds
# ---------------------------------------------------------------------------

sql(q(
	CREATE TABLE held (id int PRIMARY KEY);
	INSERT INTO held VALUES (1);
	CREATE TABLE waits (id int PRIMARY KEY, body text, label jsonb);
	INSERT INTO waits VALUES (1, 'a bug');
	CREATE SEQUENCE waits_tries;
	CREATE FUNCTION waits_says() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		PERFORM nextval('waits_tries');
		PERFORM FROM held WHERE id = 1 FOR UPDATE NOWAIT;
		RETURN NEW; END $$;
	CREATE TRIGGER says BEFORE UPDATE ON waits FOR EACH ROW WHEN (NEW.label ? 'label') EXECUTE FUNCTION waits_says();));
my $session = $node->background_psql('postgres');
$session->query_safe('BEGIN; SELECT FROM held FOR UPDATE');
sql(q(UPDATE waits SET label = llm_classify(body, '{bug,praise}')));
forward('last_value > 70 FROM waits_tries', 'a lock that is held is waited for');
is(sql(q(SELECT count(*) FROM llm.dead_letter WHERE relation = 'waits'::regclass)), 0, 'P2: and no failure');
$session->query_safe('COMMIT');
$session->quit;
forward('NOT EXISTS (SELECT FROM llm.queue)', 'until it is free');
is(sql(q(SELECT label->>'label' FROM waits)), 'bug', 'then the answer is written');
ledger_equals_meter($node, $provider, 'P3: ledger and meter agree');

done_testing();
