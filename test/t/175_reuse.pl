# A reused connection that dies before the first byte of its answer: libcurl
# would send the request again by itself. Hits at the provider are requests on
# the ledger all the same (P3).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

use constant ROWS => 400;

# every death is a try, and some tasks meet several
my $node = new_node('reuse', 'llm_enrich.max_tries = 50');
my $provider = start_provider();
setup_model($node, $provider, options => { max_concurrency => 8 });
$provider->script({ die_on_reuse => 0.3 });
$node->safe_psql('postgres', qq(
	CREATE TABLE note (id int PRIMARY KEY, body text, summary jsonb);
	INSERT INTO note SELECT i, 'Customer ' || i || ' writes [[mark:' || i || ']]' FROM generate_series(1, @{[ROWS]}) i;
	UPDATE note SET summary = llm_summarize(body, 20);));
wait_idle($node);

my $meter = $provider->meter;
cmp_ok($meter->{outcomes}{died_on_reuse}, '>', 20, 'connections did die');
is($node->safe_psql('postgres', "SELECT count(*) FROM llm.ledger WHERE outcome = 'unknown'"),
	$meter->{outcomes}{died_on_reuse}, 'P3: each request that died is on the ledger as unknown');
ledger_equals_meter($node, $provider, 'P3: ledger equals meter');
is($node->safe_psql('postgres', q(SELECT count(*) FROM note WHERE summary->>'summary' LIKE '%[[mark:' || id || ']]%')),
	ROWS, 'every row has its own answer');
my $marks = $provider->marks;
my $hits = 0;
$hits += $_ foreach values %$marks;
is($node->safe_psql('postgres', 'SELECT count(*), sum(attempts) FROM (SELECT max(attempt) AS attempts FROM llm.ledger GROUP BY task) t'),
	ROWS . "|$hits", 'attempts are numbered without a gap');

done_testing();
