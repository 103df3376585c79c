# SELECTs that nobody wrote: a call gives the same rows in the same order whether a node reads ahead for it, or
# it is asked when its row is reached, or its answer is looked up in a table.
#
#     LLM_RANDOM_SELECTS=1000 tools/check tap 412_random_selects     that many; 150 unless told
#     LLM_RANDOM_SEED=N                                              from another number on
#
# Statement N is made by the dice of seed N alone, so that one that fails can be made again.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use LLMTest;

my $many = $ENV{LLM_RANDOM_SELECTS} // 150;
my $first = $ENV{LLM_RANDOM_SEED} // 1;

my $provider = start_provider();
my $node = new_node('random', 'llm_enrich.max_immediate_calls = 1000000', 'llm_enrich.keep_answers = 1d');

setup_model($node, $provider);

# Three ways to the same answer; all have the cost of a call, so that the plans around them are alike.
sql(q(
	CREATE TABLE a (id int PRIMARY KEY, kind int, body text);
	INSERT INTO a SELECT i, i % 5, (ARRAY['billing', 'crash', 'refund'])[i * 7 % 3 + 1] || ' of number ' || i % 11
		FROM generate_series(1, 16) i;
	CREATE TABLE b (id int PRIMARY KEY, a int, note text);
	INSERT INTO b SELECT i, (i * 13) % 18 + 1,
		CASE WHEN i % 5 > 0 THEN (ARRAY['refund', 'crash'])[i % 2 + 1] || ' again ' || i % 4 END
		FROM generate_series(1, 20) i;
	CREATE TABLE c (kind int, word text);
	INSERT INTO c SELECT i % 6, (ARRAY['billing', 'crash', 'refund'])[i % 3 + 1] || ' word ' || i FROM generate_series(1, 8) i;
	CREATE FUNCTION ahead(text) RETURNS text LANGUAGE sql COST 1000000 AS
		$$ SELECT llm_classify($1, '{billing,crash,refund}')->>'label' $$;
	CREATE FUNCTION plain(text) RETURNS text LANGUAGE plpgsql COST 1000000 AS
		$$ BEGIN RETURN llm_classify($1, '{billing,crash,refund}')->>'label'; END $$;
	CREATE TABLE answers (input text PRIMARY KEY, label text);
	CREATE FUNCTION known(text) RETURNS text LANGUAGE plpgsql COST 1000000 AS $$ DECLARE found_label text; BEGIN
		IF $1 IS NULL THEN RETURN NULL; END IF;
		SELECT label INTO STRICT found_label FROM answers WHERE input = $1;
		RETURN found_label; END $$;
	DO $$ DECLARE r record; BEGIN
		FOR r IN WITH base (t) AS (SELECT body FROM a UNION SELECT note FROM b UNION SELECT word FROM c
				UNION VALUES ('crash of number 3'), ('billing of number 1'))
			SELECT t FROM base WHERE t IS NOT NULL UNION SELECT 'my ' || t FROM base WHERE t IS NOT NULL
			UNION SELECT upper(t) FROM base WHERE t IS NOT NULL
		LOOP
			INSERT INTO answers VALUES (r.t, NULL);
		END LOOP; END $$;
	ANALYZE;));
sql('BEGIN;', (map { my ($input, $label) = split /\|/; "UPDATE answers SET label = '$label' WHERE input = '$input';" }
	split /\n/, sql('SELECT input, plain(input) FROM answers')), 'COMMIT; ANALYZE answers');
is(sql('SELECT count(*), count(label), count(DISTINCT label) > 1 FROM answers'), sql('SELECT count(*), count(*), true FROM answers'),
	'the answers are known');

# ---------------------------------------------------------------------------
# Dice
# ---------------------------------------------------------------------------

sub one_of { return $_[ int rand @_ ]; }
sub chance { return rand() < $_[0]; }

my @labels = qw('billing' 'crash' 'refund');

# A text of one of the tables in FROM.
sub words
{
	my ($from) = @_;
	my $column = one_of(@{ $from->{texts} });

	return one_of($column, $column, $column, "'my ' || $column", "upper($column)");
}

sub ask { my ($from) = @_; return 'ASK(' . words($from) . ')'; }

# A condition; at most so deep.
sub condition
{
	my ($from, $depth) = @_;
	my $number = one_of(@{ $from->{numbers} });

	return '(' . condition($from, $depth - 1) . one_of(' AND ', ' OR ') . condition($from, $depth - 1) . ')'
	  if $depth > 0 && chance(0.4);
	return 'NOT ' . condition($from, $depth - 1) if $depth > 0 && chance(0.1);
	return one_of(
		sub { ask($from) . one_of(' = ', ' <> ') . one_of(@labels) },
		sub { ask($from) . ' IN (' . one_of(@labels) . ', ' . one_of(@labels) . ')' },
		sub { ask($from) . ' = ' . ask($from) },
		sub { ask($from) . one_of(' IS NULL', ' IS NOT NULL') },
		sub { "$number " . one_of('>', '<', '<>') . ' ' . int rand 12 },
		sub { "$number % 3 = " . int rand 3 },
		sub { one_of(@{ $from->{texts} }) . one_of(' IS NOT NULL', " LIKE '%crash%'") },
		sub { one_of('', 'NOT ') . "EXISTS (SELECT FROM c x WHERE x.kind = $number AND ASK(x.word) = " . one_of(@labels) . ')' },
		sub { "$number IN (SELECT x.a FROM b x WHERE ASK(x.note) = " . one_of(@labels) . ')' })->();
}

# A text expression.
sub value
{
	my ($from, $depth) = @_;
	my $number = one_of(@{ $from->{numbers} });

	return one_of(
		(sub { ask($from) }) x 4,
		sub { "$number\:\:text" },
		sub { words($from) },
		sub { $depth > 0 ? 'CASE WHEN ' . condition($from, 1) . ' THEN ' . value($from, $depth - 1) . ' ELSE ' . value($from, $depth - 1) . ' END' : ask($from) },
		sub { 'CASE ' . ask($from) . ' WHEN ' . one_of(@labels) . " THEN 'one' ELSE " . words($from) . ' END' },
		sub { "coalesce(nullif($number, " . int(rand 6) . ')::text, ' . ask($from) . ')' },
		sub { 'concat(' . ask($from) . ", '/', " . ask($from) . ')' },
		sub { "(SELECT max(ASK(x.word)) FROM c x WHERE x.kind = $number)" },
		sub { "(SELECT ASK(x.word) FROM c x WHERE x.kind = $number ORDER BY x.word LIMIT 1)" },
		sub { 'length(' . ask($from) . ')::text' },
		sub { '(' . condition($from, 1) . ')::text' })->();
}

# What is read: text, columns that are numbers, and texts.
sub from
{
	my ($with) = @_;
	my @from = (
		({ sql => 'a', numbers => [qw(a.id a.kind)], texts => ['a.body'] }) x 3,
		{ sql => 'a JOIN b ON b.a = a.id', numbers => [qw(a.id a.kind b.id)], texts => [qw(a.body b.note)] },
		{ sql => 'a LEFT JOIN b ON b.a = a.id', numbers => [qw(a.id a.kind)], texts => [qw(a.body b.note)] },
		{ sql => 'a LEFT JOIN b ON b.a = a.id AND ASK(b.note) = ' . one_of(@labels), numbers => [qw(a.id a.kind)], texts => [qw(a.body b.note)] },
		{ sql => 'b FULL JOIN a ON b.a = a.id', numbers => [qw(a.id b.id)], texts => [qw(a.body b.note)] },
		{ sql => 'a JOIN c ON c.kind = a.kind', numbers => [qw(a.id c.kind)], texts => [qw(a.body c.word)] },
		{ sql => 'a JOIN c ON c.kind = a.kind AND ASK(c.word) = ASK(a.body)', numbers => [qw(a.id c.kind)], texts => [qw(a.body c.word)] },
		{ sql => '(SELECT id, kind, body, ASK(body) AS l FROM a' . one_of('', ' OFFSET 0', ' ORDER BY id LIMIT 9', ' WHERE kind > 1') . ') s',
			numbers => [qw(s.id s.kind)], texts => ['s.body'], labels => ['s.l'] },
		{ sql => 'a CROSS JOIN LATERAL (SELECT ASK(x.word) AS l FROM c x WHERE x.kind = a.kind ORDER BY x.word LIMIT 1) s',
			numbers => [qw(a.id a.kind)], texts => ['a.body'], labels => ['s.l'] },
		{ sql => "(VALUES (1, 'crash of number 3'), (2, NULL), (3, 'billing of number 1')) v(id, body)", numbers => ['v.id'], texts => ['v.body'] },
		{ sql => 'a NATURAL JOIN (SELECT id FROM a x WHERE ASK(x.body) <> ' . one_of(@labels) . ') y', numbers => [qw(a.id a.kind)], texts => ['a.body'] });

	push @from, ({ sql => 'w', numbers => [qw(w.id w.kind)], texts => ['w.body'], labels => ['w.l'] },
		{ sql => 'w JOIN b ON b.a = w.id', numbers => [qw(w.id b.id)], texts => [qw(w.body b.note)], labels => ['w.l'] },
		{ sql => 'w x JOIN w ON x.l = w.l AND x.id < w.id', numbers => [qw(w.id x.id)], texts => [qw(w.body x.body)], labels => ['w.l'] }) x 3
	  if $with;
	return one_of(@from);
}

# The end of a statement with so many columns.
sub tail
{
	my ($columns, $in_order) = @_;
	my $all = join ', ', map { $_ . one_of('', '', ' DESC', ' NULLS FIRST') } 1 .. $columns;
	my $order = $in_order || chance(0.6) ? " ORDER BY $all" : '';

	$order = '' if !$in_order && chance(0.2);
	return $order . one_of('', '', '', ' LIMIT ' . (1 + int rand 9),
		' LIMIT ' . (1 + int rand 5) . ' OFFSET ' . int rand 6, ' OFFSET ' . int rand 8);
}

sub simple
{
	my ($with) = @_;
	my $from = from($with);
	my @columns = (one_of(@{ $from->{numbers} }), map { value($from, 1) } 1 .. 1 + int rand 2);

	push @columns, @{ $from->{labels} // [] };
	return ('SELECT ' . one_of('', '', '', 'DISTINCT ') . join(', ', @columns) . " FROM $from->{sql}"
		  . (chance(0.6) ? ' WHERE ' . condition($from, 2) : ''), scalar @columns);
}

sub grouped
{
	my ($with) = @_;
	my $from = from($with);
	my $key = one_of(ask($from), one_of(@{ $from->{numbers} }), 'CASE WHEN ' . condition($from, 0) . " THEN 'y' ELSE 'n' END");
	my $inner = one_of(@{ $from->{numbers} });
	my @columns = ($key,
		one_of('count(*)', 'count(' . ask($from) . ')', 'max(' . ask($from) . ')',
			'count(*) FILTER (WHERE ' . condition($from, 0) . ')'),
		one_of("ASK(max($from->{texts}[0]))", 'string_agg(' . ask($from) . ", ',' ORDER BY $inner, $from->{texts}[0])", 'min(' . value($from, 0) . ')'));

	return ('SELECT ' . join(', ', @columns) . " FROM $from->{sql}" . (chance(0.4) ? ' WHERE ' . condition($from, 1) : '') . ' GROUP BY 1'
		  . (chance(0.4) ? ' HAVING ' . one_of('count(*) > 1', "ASK(min($from->{texts}[0])) <> " . one_of(@labels), 'max(' . ask($from) . ') = ' . one_of(@labels)) : ''),
		3);
}

sub windowed
{
	my ($with) = @_;
	my $from = from($with);
	my $order = join ', ', @{ $from->{numbers} }, @{ $from->{texts} };
	my @columns = (one_of(@{ $from->{numbers} }), ask($from),
		one_of('row_number()', 'rank()', 'lag(' . ask($from) . ')', 'count(*)', "ASK(first_value($from->{texts}[0])", 'max(' . ask($from) . ')'));

	$columns[2] .= ' OVER (' . one_of('', 'PARTITION BY ' . ask($from) . ' ', "PARTITION BY $from->{numbers}[0] % 2 ") . "ORDER BY $order)"
	  . ($columns[2] =~ /^ASK/ ? ')' : '');
	return ('SELECT ' . join(', ', @columns) . " FROM $from->{sql}" . (chance(0.4) ? ' WHERE ' . condition($from, 1) : ''), 3);
}

sub set_operation
{
	my ($with) = @_;
	my @sides = map { my $from = from($with); 'SELECT ' . value($from, 1) . " FROM $from->{sql}" . (chance(0.5) ? ' WHERE ' . condition($from, 1) : '') } 1 .. 2;

	return ($sides[0] . one_of(' UNION ALL ', ' UNION ALL ', ' UNION ', ' EXCEPT ', ' INTERSECT ') . $sides[1], 1);
}

sub distinct_on
{
	my ($with) = @_;
	my $from = from($with);
	my $key = one_of(@{ $from->{numbers} });

	return ("SELECT DISTINCT ON ($key) $key, " . value($from, 1) . " FROM $from->{sql}", 2);
}

# Statement number N.
sub statement
{
	srand $_[0];
	my $with = chance(0.25) ? 'WITH w AS ' . one_of('', '', 'MATERIALIZED ', 'NOT MATERIALIZED ') . '(SELECT id, kind, body, ASK(body) AS l FROM a'
	  . one_of('', ' WHERE kind > 1', ' ORDER BY id DESC LIMIT 8') . ') ' : '';
	my $kind = one_of((\&simple) x 5, (\&grouped) x 2, (\&windowed) x 2, \&set_operation, \&distinct_on);
	my ($body, $columns) = $kind->($with ne '');

	return "$with$body" . tail($columns, $body =~ /^SELECT DISTINCT ON/);
}

# ---------------------------------------------------------------------------
# Comparing
# ---------------------------------------------------------------------------

my @numbers = $first .. $first + $many - 1;
my %statement = map { $_ => statement($_) } @numbers;

# What each statement gives with this function, its error included.
sub results
{
	my ($function, $prefix) = @_;
	my $stdout;
	my $began = time;
	my $script = join '', map { "\\echo === $_\n$prefix" . $statement{$_} =~ s/\bASK\(/$function(/gr . ";\n\\echo :SQLSTATE\n" } @numbers;

	$node->psql('postgres', $script, stdout => \$stdout, stderr => \my $stderr, on_error_stop => 0);
	note("$function: " . sprintf('%.1f s', time - $began));
	my (undef, %result) = split /^=== (\d+)\n/m, "$stdout\n";
	return \%result;
}

# One by one they are known by now; ahead they are asked for again, and come in any order.
my $known = results('known', '');
my $plain = results('plain', '');
my $plans = results('ahead', 'EXPLAIN (COSTS OFF) ');
$provider->script({ latency_ms => 0, latency_jitter_ms => 4 });
sql(q(ALTER SYSTEM SET llm_enrich.keep_answers = 0));
$node->reload;
$node->poll_query_until('postgres', 'SHOW llm_enrich.keep_answers', '0') or die 'the setting does not come';
my $before = $provider->meter->{requests};
my $ahead = results('ahead', '');
my $requests = $provider->meter->{requests} - $before;
my $faults = 0;

foreach my $number (@numbers)
{
	my $expected = $known->{$number};

	next if defined $ahead->{$number} && $ahead->{$number} eq $expected && $plain->{$number} eq $expected;
	last if ++$faults > 5;
	fail("statement $number");
	diag("$statement{$number};\n-- looked up:\n$known->{$number}-- one by one:\n$plain->{$number}-- ahead:\n$ahead->{$number}");
}
is($faults, 0, "$many statements give the same rows in the same order");

my $bad = grep { $known->{$_} !~ /^00000$/m } @numbers;
my $used = grep { $plans->{$_} =~ /LlmAsk/ } @numbers;
my $empty = grep { $known->{$_} eq "00000\n" } @numbers;

note("with a node $used, with an error $bad, without a row $empty; $requests requests");
cmp_ok($requests, '>', 5 * $many, 'they have asked');
cmp_ok($bad, '<=', $many / 20, 'nearly all of them are statements');
cmp_ok($used, '>', $many / 2, 'most have a node that reads ahead');
cmp_ok($empty, '<', $many / 3, 'and most give rows');
ledger_equals_meter($node, $provider, 'P3: ledger and meter agree');

done_testing();
