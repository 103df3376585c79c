# A database where new functions are open to nobody until somebody says so: who may call one function of
# ours gets its answers, and sees how they stand. And no partition shows what its table hides.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

my $node = new_node('privileges', { extension => 0 });
my $provider = start_provider();

sub as { return sql("SET ROLE $_[0];", @_[ 1 .. $#_ ]); }

sql(q(ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
	CREATE EXTENSION llm_enrich;
	CREATE ROLE clerk; CREATE ROLE stranger; CREATE ROLE reader; CREATE ROLE writer;
	GRANT pg_read_all_data TO reader; GRANT pg_write_all_data TO writer;
	CREATE TABLE ticket (id int PRIMARY KEY, body text, label jsonb, gist text);
	ALTER TABLE ticket OWNER TO clerk;
	INSERT INTO ticket VALUES (1, 'The invoice is wrong'), (2, 'The page has a bug');
	CREATE SEQUENCE other));
setup_model($node, $provider);
sql(q(GRANT USAGE ON FOREIGN SERVER sim TO clerk, stranger;
	GRANT EXECUTE ON FUNCTION llm_classify TO clerk));

# ---------------------------------------------------------------------------
# One function is enough
# ---------------------------------------------------------------------------

as('clerk', q(UPDATE ticket SET label = llm_classify(body, '{billing,bug}') WHERE id = 1;
	UPDATE ticket SET gist = llm_classify(body, '{billing,bug}')->>'label' WHERE id = 2));
is(as('clerk', 'SELECT count(*), min(relation) FROM llm.progress'), '2|public.ticket', 'how they stand is seen');
wait_idle($node);
is(sql('SELECT label, gist FROM ticket ORDER BY id'), qq({"label": "billing"}|\n|bug), 'cells of both kinds are written');
my $views = sql(q(SELECT string_agg(oid::regclass::text, ' ' ORDER BY relname COLLATE "C") FROM pg_class
	WHERE relkind = 'v' AND relnamespace = 'llm'::regnamespace));
foreach my $view (split / /, $views)
{
	my ($status, undef, $stderr) = $node->psql('postgres', "SET ROLE clerk; SELECT * FROM $view");

	is("$status$stderr", '0', "$view can be read");
}
is((split /\n/, as('writer', q(SELECT setval('other', 7))))[0], 7, 'setval() is what it was for who writes all tables');
is(sql(q(
	SELECT string_agg(DISTINCT d.refobjid::regprocedure::text, ', ') FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
	WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_proc'::regclass AND r.ev_class IN
		(SELECT oid FROM pg_class WHERE relnamespace = 'llm'::regnamespace)
	AND NOT has_function_privilege('public', d.refobjid, 'EXECUTE'))), '', 'what the views read is open');

my (undef, undef, $stderr) = $node->psql('postgres', q(SET ROLE stranger; SELECT llm_classify('A bug')));
like($stderr, qr/permission denied for function llm_classify/, 'what people call is not');

# ---------------------------------------------------------------------------
# Partitions
# ---------------------------------------------------------------------------

ok($node->poll_query_until('postgres', q(SELECT count(*) > 0 FROM llm.ledger_sum_total)), 'the ledger is summed');
foreach my $grain (qw(quarter hour day total))
{
	is(as('reader', "SELECT count(*) FROM llm.ledger_sum_$grain"), 0, "P9: who reads all tables sees nobody's sums (llm.ledger_sum_$grain)");
}
isnt(as('clerk', 'SELECT sum(requests) FROM llm.bill()'), '', 'its own bill is there');

done_testing();
