# What a provider says about somebody's input is that role's to see, and one role's troubles leave
# room for others' (P6, P9).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

my $node = new_node('whose', 'llm_enrich.max_tries = 1');
my $provider = start_provider();

setup_model($node, $provider);
sql(q(CREATE ROLE ana; CREATE ROLE ben; CREATE ROLE chief; GRANT llm_admin TO chief;
	GRANT USAGE ON FOREIGN SERVER sim TO ana, ben;
	CREATE TABLE note (id int PRIMARY KEY, body text, label jsonb); GRANT ALL ON note TO ana, ben;
	INSERT INTO note SELECT i, 'note ' || i FROM generate_series(1, 40) i));

# What a role finds in llm.health.
sub finds
{
	my ($role, $pattern) = @_;

	return sql("SET ROLE $role; SELECT count(*) FROM llm.health WHERE concat(subject, problem) ~ " . LLMTest::quoted($pattern));
}

# The same, when it is there: a target shows only for as long as its last question is not long ago.
sub comes_to_find
{
	my ($role, $pattern) = @_;

	return wait_text($node, "SET ROLE $role; SELECT count(*) FROM llm.health WHERE concat(subject, problem) ~ " . LLMTest::quoted($pattern),
		qr/^[1-9]/);
}

# The key is refused, in words that repeat what was asked
$provider->script({ status => 401,
	body => { error => { message => 'Incorrect API key for the question about the MERGER', code => 'invalid_api_key' } } });
sql(q(SET ROLE ana; UPDATE note SET label = llm_classify('the MERGER', '{a,b}') WHERE id = 1));
$node->poll_query_until('postgres', q(SELECT count(*) > 0 FROM llm.health WHERE problem ~ 'MERGER')) or die 'nothing is shown';
is(comes_to_find('ana', 'MERGER'), 1, 'who asked sees what the provider said');
is(finds('ben', 'MERGER'), 0, 'P9: others do not');
is(comes_to_find('chief', 'MERGER'), 1, 'members of llm_admin do');
# nor by waiting for the table
sub waits
{
	my $role = shift;
	my $stderr;

	$node->psql('postgres', "SET ROLE $role; CALL llm.wait('note', timeout => '1 s')", stderr => \$stderr);
	return $stderr;
}
like(waits('ana'), qr/It waits: .*MERGER/, 'who asked is told why it waits');
my $told = waits('ben');
like($told, qr/job \d+ are not finished/, 'others are told that it does');
unlike($told, qr/MERGER|refuse|final/, 'P9: and not why, nor how many');
unlike(slurp_file($node->logfile), qr/MERGER.*API key|API key.*MERGER/, 'P9: nor is it in the log');

# One role's models are all wrong, another's problem is shown all the same
sql(qq(SELECT llm.add_model('wrong$_', server => 'sim', model => 'wrong-$_', input_per_mtok => 1, output_per_mtok => 1);
	SET ROLE ana; UPDATE note SET label = llm_classify(body, '{a,b}', model => 'wrong$_') WHERE id = $_)) foreach 2 .. 30;
$node->poll_query_until('postgres', q(SELECT count(DISTINCT model) >= 30 FROM llm.ledger)) or die 'not all were asked';
sql(q(SELECT llm.add_model('bens', server => 'sim', model => 'bens', input_per_mtok => 1, output_per_mtok => 1);
	SET ROLE ben; UPDATE note SET label = llm_classify(body, '{a,b}', model => 'bens') WHERE id = 40));
$node->poll_query_until('postgres', q(SELECT count(*) = 1 FROM llm.health WHERE kind = 'problem' AND subject ~ 'bens')) or die 'not shown';
is(finds('ben', 'model "bens"'), 1, 'P6: a role whose model is wrong finds that');
cmp_ok(finds('chief', 'model "wrong'), '<=', 8, 'P10: of the other one some are shown');
cmp_ok(finds('ana', 'model "wrong'), '>', 0, 'also to itself');

sql(q(SELECT llm.cancel('note')));
wait_idle($node);

# A member that a call adds is refused by its name, in words that would shut the target, or teach a habit, else.
$provider->script({});
foreach my $member ('incorrect api key', 'insufficient credits', 'xjson_schema', 'xsystem_instruction',
	'xmax_output_tokens_')
{
	sql(qq(SELECT llm.alter_model('fast', model => 'for $member');
		SET ROLE ana;
		UPDATE note SET label = llm_classify(body, '{a,b}', options => '{"extra_body": {"$member": 1}}') WHERE id = 1));
	wait_idle($node);
	is(sql(q(SELECT reason || ' ' || (message ~ 'nrecognized') FROM llm.dead_letter ORDER BY task DESC LIMIT 1)), 'rejected true',
		"a member \"$member\" is the row's own fault");
	is(sql(q(SET ROLE ben; SELECT llm_classify('it is fine', '{fine,bad}')->>'label')), 'fine', 'P6: others are answered meanwhile');
}
is(sql('SELECT count(*) FROM llm.habit'), 0, 'P6: and nothing was learned of the server');
$node->stop;
done_testing();
