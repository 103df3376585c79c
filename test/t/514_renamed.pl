# A budget that is set after a rename counts what was spent before it, and not what others spend that have the
# name now (P8); and an invoice that is a credit, of a provider that costs nothing.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

my $provider = start_provider();
my $node = new_node('renamed');

setup_model($node, $provider);
setup_model($node, $provider, server => 'free', lane => 'free', alias => 'free', is_default => 0,
	prices => { input_per_mtok => 0, cached_input_per_mtok => 0, cache_write_per_mtok => 0, output_per_mtok => 0 });

sub cost_of { return sql("SELECT trim_scale(sum(cost)) FROM llm.ledger WHERE $_[0]"); }

sql(q(
	CREATE ROLE writer; CREATE ROLE "Other One";
	GRANT USAGE ON FOREIGN SERVER sim TO writer, "Other One";
	CREATE SCHEMA elsewhere; GRANT ALL ON SCHEMA public, elsewhere TO writer, "Other One";
	SET ROLE writer;
	CREATE TABLE note (id int PRIMARY KEY, body text, label jsonb);
	INSERT INTO note SELECT i, 'The invoice is wrong, number ' || i FROM generate_series(1, 5) i;
	UPDATE note SET label = llm_classify(body, '{billing,bug}');));
wait_idle($node);
my $before = cost_of('true');
cmp_ok($before, '>', 0, 'five rows have cost something');

sql(q(
	ALTER TABLE note RENAME TO "Old note"; ALTER TABLE "Old note" SET SCHEMA elsewhere;
	ALTER ROLE writer RENAME TO "Old writer";
	SELECT llm.set_budget(1, relation => 'elsewhere."Old note"'), llm.set_budget(1, role => 'Old writer');));
is(sql(q(SELECT trim_scale(spent) FROM llm.budget WHERE relation IS NOT NULL)), $before, 'P8: a table that was renamed and moved');
is(sql(q(SELECT trim_scale(spent) FROM llm.budget WHERE role IS NOT NULL)), $before, 'P8: a role that was renamed');

# Somebody else has the name.
sql(q(
	SELECT llm.drop_budget(id) FROM llm.budget;
	ALTER ROLE "Other One" RENAME TO writer;
	SET ROLE writer;
	CREATE TABLE note (id int PRIMARY KEY, body text, label jsonb);
	INSERT INTO note VALUES (1, 'The invoice is wrong');
	UPDATE note SET label = llm_classify(body, '{billing,bug}');));
wait_idle($node);
sql(q(SELECT llm.set_budget(1, relation => 'elsewhere."Old note"'), llm.set_budget(1, role => 'Old writer');));
is(sql(q(SELECT string_agg(trim_scale(spent)::text, ',') FROM llm.budget)), '0,0',
	'what others spend that have the name now does not count');

# ---------------------------------------------------------------------------
# A credit
# ---------------------------------------------------------------------------

sql(q(SELECT llm_complete('Hello', model => 'free')));
is(sql(q(SELECT gap, why FROM llm.reconcile('free', billed => -2) WHERE day IS NULL)),
	q(-2|the invoice is lower: a credit that is no request's), 'an invoice below zero, where nothing has cost anything');
ledger_equals_meter($node, $provider, 'P3: ledger and meter agree', server => 'sim');
ledger_equals_meter($node, $provider, 'P3: also where nothing costs anything', server => 'free', lane => 'free');

done_testing();
