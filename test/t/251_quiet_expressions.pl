# What is around a call of a quiet cell gives what PostgreSQL gives for the same expression
# over the known answer, in a session whose settings are not the writer's (P2); and what
# cannot be evaluated any more costs no answer (P4).

use strict;
use warnings;

use Encode ();
use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

my $node = new_node('quiet_expressions');
my $provider = start_provider();
setup_model($node, $provider);

my $answer = '{"s": "Ärger", "n": 7, "f": 2.50, "d": "03/04/2026", "t": "2026-03-04 05:06:07", "b": true, "l": ["x", "y"], "z": null, "i": "1 day 02:00"}';
my $schema = q('{"type": "object"}');
my $call = "llm_complete(body, $schema)";
my $known = "'$answer'::jsonb";
$provider->script({ latency_ms => 1, answers => { question => Encode::decode('UTF-8', $answer) } });

sql(q(CREATE SCHEMA own;
	CREATE TYPE own.pair AS (a int, b text);
	CREATE TYPE own.mood AS ENUM ('good', 'bad', 'Ärger');
	CREATE DOMAIN own.small AS int CHECK (VALUE < 100);
	CREATE FUNCTION own.both(text, text) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT $1 || '/' || $2 $$;
	CREATE FUNCTION own.local(date) RETURNS text STABLE LANGUAGE plpgsql AS $$
		BEGIN RETURN $1::text || current_setting('search_path'); END $$;
	CREATE OPERATOR own.|+| (FUNCTION = own.both, LEFTARG = text, RIGHTARG = text);
	CREATE TABLE result (n int PRIMARY KEY, body text, a int, b text, c char(6), d date, ts timestamptz,
		arr text[], x float8, got text, want text);
	CREATE TABLE night (id int PRIMARY KEY, body text, kind text)));

my @expressions = split /\n/, <<'END';
CALL->>'s'
upper(CALL->>'s')
CALL->>'s' || b
b || ': ' || (CALL->>'s') || c
concat(c, '|', CALL->>'s', '|', c)
(CALL->>'n')::int + a
(CALL->>'n')::numeric / 3
(CALL->>'f')::numeric
(CALL->>'f')::float8 * x
(CALL->>'d')::date
(CALL->>'d')::date - d
(CALL->>'d')::date + ('03/04/2026'::date - d)
(CALL->>'d') > '03/04/2026'
(CALL->>'t')::timestamptz
(CALL->>'t')::timestamptz AT TIME ZONE 'America/New_York'
(CALL->>'t')::timestamp::timestamptz - ts
to_char((CALL->>'t')::timestamptz, 'TZ HH24:MI')
date_trunc('day', (CALL->>'t')::timestamptz)
(CALL->>'i')::interval
(CALL->>'i')::interval * a
(CALL->>'b')::boolean
NOT (CALL->>'b')::boolean
(CALL->>'b')::boolean AND a > 1
CALL->'l'
CALL#>>'{l,1}'
jsonb_array_length(CALL->'l')
ARRAY[CALL->>'s', b, 'q"']
arr || ARRAY[CALL->>'s']
(CALL->>'s') = ANY (arr || ARRAY['Ärger'])
array_to_string(ARRAY[CALL->>'s', NULL, b], ',', '-')
ROW(a, CALL->>'s')
ROW(a, CALL->>'s')::own.pair
(ROW(a, CALL->>'s')::own.pair).b
(CALL->>'s')::own.mood
(CALL->>'s')::own.mood > 'good'
(CALL->>'n')::own.small
own.both(CALL->>'s', b)
own.both(b, CALL->>'s')
(CALL->>'s') |+| b
own.local((CALL->>'d')::date)
local((CALL->>'d')::date)
CASE WHEN a > 1 THEN CALL->>'s' ELSE b END
CASE WHEN a > 100 THEN CALL->>'s' ELSE b END
CASE a WHEN 2 THEN upper(CALL->>'s') WHEN 3 THEN 'three' END
left(CASE WHEN a = 2 THEN CALL->>'s' ELSE 'none' END, 3)
COALESCE(NULL, CALL->>'s')
COALESCE(b, CALL->>'s')
COALESCE(CALL->>'z')
NULLIF(CALL->>'s', b)
GREATEST(CALL->>'s', b)
(CALL->>'s')::varchar(3)
(CALL->>'s')::char(8) || '|'
substr(CALL->>'s', a, 2)
(SELECT max(n) FROM result r WHERE r.n <= result.n) || (CALL->>'s')
current_setting('datestyle') || (CALL->>'s')
(CALL || '{"more": 1}')->>'more'
(CALL - 's')::text
'NaN'::numeric + (CALL->>'n')::numeric
-0.0::float8 * (CALL->>'n')::float8
(CALL->>'s') COLLATE "C" < 'b'
(CALL->>'n')::int IN (7, a)
extract(epoch FROM (CALL->>'i')::interval)
encode(convert_to(CALL->>'s', 'UTF8'), 'hex')
convert_to(CALL->>'s', 'UTF8')
format('%s %I %L', CALL->>'s', b, c)
END

my $script = join "\n", 'SET datestyle = \'SQL, DMY\';', 'SET timezone = \'Asia/Tokyo\';', 'SET search_path = own, public;',
	'SET intervalstyle = \'iso_8601\';', 'SET bytea_output = \'escape\';', 'SET extra_float_digits = 0;';
my $n = 0;
foreach my $expression (@expressions)
{
	my $got = $expression =~ s/CALL/$call/gr;
	my $want = $expression =~ s/CALL/$known/gr;

	$n++;
	$script .= "\nINSERT INTO result VALUES ($n, 'question $n', 2, 'bé', 'char', '02/03/2026', '02/03/2026 04:05:06+00', '{p,\"q r\"}', 0.1);";
	$script .= "\nUPDATE result SET got = ($got)::text, want = ($want)::text WHERE n = $n;";
}
sql($script);
wait_idle($node);
is(sql('SELECT n, got, want FROM result WHERE got IS DISTINCT FROM want ORDER BY n'), '', scalar(@expressions) . ' expressions give what PostgreSQL gives');
is(sql('SELECT count(*) FROM llm.dead_letter'), 0, 'none of them failed');
diag(map { "$_\n" } map { "$_: $expressions[$_ - 1]" } split /\n/, sql('SELECT n FROM result WHERE got IS DISTINCT FROM want ORDER BY n'));

# ---------------------------------------------------------------------------
# the same expressions in sub-selects, whose calls are lifted out of them
# ---------------------------------------------------------------------------

my %ways = (
	'a sub-select' => 'UPDATE result SET got = s.v FROM (SELECT n, (GOT)::text AS v FROM result) s WHERE s.n = result.n AND s.n = NUMBER',
	'WITH' => 'WITH s AS (SELECT n, GOT AS v FROM result), r AS (SELECT n, v::text AS v FROM s) UPDATE result SET got = r.v FROM r WHERE r.n = result.n AND r.n = NUMBER',
	'a sub-select of columns' => 'UPDATE result SET (got, x) = (SELECT (GOT)::text, x) WHERE n = NUMBER',
	'a sub-select that is a value' => 'UPDATE result SET got = (SELECT (GOT)::text) WHERE n = NUMBER',
	'a row that an outer join has not found' => 'UPDATE result SET got = s.v FROM result other LEFT JOIN (SELECT n, (GOT)::text AS v FROM result WHERE false) s ON s.n = other.n WHERE other.n = result.n AND other.n = NUMBER');
foreach my $way (sort keys %ways)
{
	my $wanted = $way =~ /not found/ ? 'NULL' : 'want';
	my $again = $script =~ s/^INSERT.*\n//gmr;

	$again =~ s/^UPDATE result SET got = .*\n?//gm;
	$n = 0;
	# what was NULL the last time is asked again
	$again .= "\nSELECT llm.discard('result', 'got', reason => '{none}'); UPDATE result SET got = 'none';";
	foreach my $expression (@expressions)
	{
		my $got = $expression =~ s/CALL/$call/gr;
		my $statement = $ways{$way} =~ s/GOT/$got/r;

		$n++;
		next if $expression =~ /SELECT max/;
		$again .= "\n" . ($statement =~ s/NUMBER/$n/r) . ';';
	}
	sql($again);
	wait_idle($node);
	is(sql("SELECT n, got, want FROM result WHERE got IS DISTINCT FROM $wanted AND got IS DISTINCT FROM 'none' ORDER BY n"),
		'', "$way gives the same");
	is(sql(q(SELECT count(*) FROM result WHERE got = 'none')), 1, 'all of them');
}

# ---------------------------------------------------------------------------
# a function around the call that is gone when the answer comes
# ---------------------------------------------------------------------------

sub requests { return $provider->meter->{requests}; }

$provider->script({ latency_ms => 1, answers => { question => '{"label": "billing"}' } });
sql(q(CREATE ROLE asker;
	GRANT USAGE ON FOREIGN SERVER sim TO asker;
	GRANT ALL ON SCHEMA own TO asker;
	GRANT ALL ON night TO asker;
	CREATE FUNCTION own.shout(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN upper($1); END $$;
	INSERT INTO night SELECT i, 'question ' || i FROM generate_series(1, 3) i;));
sub ask { sending($node, 'off'); return sql(qq(SET ROLE asker; UPDATE night SET kind = own.shout(llm_classify(body, '{billing,bug}')->>'label') WHERE id = $_[0])); }
sub outcome { return sql(q(SELECT key->>'id', reason, answer FROM llm.dead_letter)); }

ask(1);
sql(q(DROP FUNCTION own.shout;
	CREATE FUNCTION own.whisper(text) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT lower($1) $$));
sending($node, 'on');
wait_idle($node);
is(outcome(), '1|not_writable|{"label": "billing"}', 'P4: a function that was dropped: not_writable, and the answer is kept');
my $before = requests();
sql(q(CREATE FUNCTION own.shout(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN upper($1); END $$;
	SELECT llm.retry(relation => 'night')));
wait_idle($node);
is(sql('SELECT kind FROM night WHERE id = 1'), 'BILLING', 'P4: it is written once the function is back');
is(requests(), $before, 'P3: without a request');

ask(2);
sql('REVOKE EXECUTE ON FUNCTION own.shout FROM PUBLIC');
sending($node, 'on');
wait_idle($node);
is(outcome(), '2|not_writable|{"label": "billing"}', 'P9: EXECUTE was lost: not_writable, and the answer is kept');
$before = requests();
sql(q(GRANT EXECUTE ON FUNCTION own.shout TO asker; SELECT llm.retry(relation => 'night')));
wait_idle($node);
is(sql('SELECT kind FROM night WHERE id = 2'), 'BILLING', 'P4: it is written once the right is back');
is(requests(), $before, 'P3: without a request');

# another function with the name and other types: an error of the row, no crash
ask(3);
sql(q(DROP FUNCTION own.shout;
	CREATE FUNCTION own.shout(text) RETURNS int[] IMMUTABLE LANGUAGE sql AS $$ SELECT ARRAY[1, length($1)] $$));
sending($node, 'on');
wait_idle($node);
is(sql(q(SELECT kind FROM night WHERE id = 3)) || outcome(), '{1,7}', 'what has its name now is what is called');

# the column retyped meanwhile: an old NULL is filled, another value is not
sql(q(ALTER TABLE night ADD COLUMN score int; UPDATE night SET score = 5 WHERE id = 2));
sending($node, 'off');
sql(q(UPDATE night SET score = length(llm_classify(body, '{billing,bug}')->>'label') WHERE id IN (1, 2)));
sql('ALTER TABLE night ALTER COLUMN score TYPE numeric(8,2)');
sending($node, 'on');
wait_idle($node);
is(sql('SELECT id, score FROM night WHERE id < 3 ORDER BY id'), "1|7.00\n2|5.00", 'retyped: an old NULL is filled');
is(sql(q(SELECT key->>'id', reason, answer FROM llm.dead_letter)), '2|not_writable|{"label": "billing"}', 'and the other answer is kept');

done_testing();
