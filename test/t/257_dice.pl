# The writer's session is as new for each role: the dice that one role's trigger has set do not fall for another one (P9).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

my $node = new_node('dice');
my $provider = start_provider();

setup_model($node, $provider);
sql(q(CREATE ROLE eve; CREATE ROLE ben; GRANT USAGE ON FOREIGN SERVER sim TO eve, ben;
	CREATE TABLE fallen (id serial PRIMARY KEY, role name, writer int, value float8); GRANT ALL ON fallen TO PUBLIC;
	GRANT ALL ON SEQUENCE fallen_id_seq TO PUBLIC; GRANT CREATE ON SCHEMA public TO eve, ben;),
	map { qq(
	SET ROLE $_;
	CREATE TABLE of_$_ (id int PRIMARY KEY, body text, label jsonb);
	INSERT INTO of_$_ SELECT i, 'note ' || i FROM generate_series(1, 20) i;
	CREATE FUNCTION throw_of_$_() RETURNS trigger LANGUAGE plpgsql AS \$\$BEGIN
		INSERT INTO public.fallen (role, writer, value) VALUES (current_user, pg_backend_pid(), random());
		IF current_user = 'eve' THEN PERFORM setseed(0.5); END IF;
		RETURN NULL;
	END\$\$;
	CREATE TRIGGER throw AFTER UPDATE ON of_$_ FOR EACH ROW
		WHEN (current_setting('llm_enrich.writeback')::boolean) EXECUTE FUNCTION throw_of_$_();
	RESET ROLE;) } qw(eve ben));
my $known = sql('SELECT setseed(0.5) IS NULL; SELECT random()') =~ s/^.*\n//r;

foreach my $role (qw(eve ben))
{
	sql(qq(SET ROLE $role; UPDATE of_$role SET label = llm_classify(body, '{note,other}')));
	wait_idle($node);
}
is(sql(q(SELECT count(*) FROM fallen)), 40, 'triggers run at the write-back');
cmp_ok(sql("SELECT count(*) FROM fallen WHERE role = 'eve' AND value = $known"), '>', 0, 'the role that sets the dice knows them');
is(sql(q(SELECT count(DISTINCT writer) FROM fallen)), 1, 'both are served by one process');
is(sql("SELECT count(*) FROM fallen WHERE role = 'ben' AND value = $known"), 0, 'P9: and not how they fall for another one');

$node->stop;
done_testing();
