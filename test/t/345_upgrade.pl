# Another version of the extension, and another version of the server: what is queued
# before is answered after, once (P2, P3), and nothing is sent in between.

use strict;
use warnings;

use File::Basename;
use File::Copy qw(copy);
use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest qw(!sql);

my $root = "$FindBin::RealBin/../..";
my $temp = PostgreSQL::Test::Utils::tempdir();
my $control = slurp_file("$root/llm_enrich.control");
my ($version) = $control =~ /default_version = '([^']*)'/;
my $next = "${version}next";
my $releases = "$root/test/fixtures/releases";
my $provider = start_provider();

sub requests { return $provider->meter($_[0])->{requests}; }

sub pg_config
{
	my ($stdout) = run_command([ 'pg_config', "--$_[0]" ]);

	return $stdout;
}

my $extension_dir = pg_config('sharedir') . '/extension';
my $script = "$extension_dir/llm_enrich--$version--$next.sql";
my $writable = -w $extension_dir;
my @added = ($script);

END
{
	unlink @added;
}

# The library of the next version, in a folder of its own: what names the version is
# compiled again, the rest is linked as it is.
sub build_next
{
	my $tree = "$temp/tree";
	my @stale; # objects that name the version

	mkdir "$temp/$_"
		foreach 'tree', 'tree/src', (map { 'tree/src/' . basename($_) } glob "$root/src/*"), 'tree/extension', 'tree/extension/parts',
		'next';
	foreach my $file (map { glob "$root/$_" }
		qw(Makefile llm_enrich.control src/.made-with src/*/* extension/parts/*))
	{
		my $target = "$tree/" . substr($file, length($root) + 1);

		copy($file, $target) or die "could not copy $file: $!";
		utime((stat $file)[ 8, 9 ], $target);
		push @stale, $target =~ s/\.c$/.o/r if $file =~ /\.c$/ && slurp_file($file) =~ /LLM_ENRICH_VERSION/;
	}
	unlink @stale;
	unlink glob "$tree/src/*/*.o" if !-e "$tree/src/process/init.o";
	my $text = $control =~ s/'\Q$version\E'/'$next'/r;
	unlink "$tree/llm_enrich.control";
	append_to_file("$tree/llm_enrich.control", $text);
	my (undef, $stderr) = run_command(
		[ qw(make -s -C), $tree, qw(-o llm_enrich.control -o Makefile -o made-with-what llm_enrich.so) ]);
	copy("$tree/llm_enrich.so", "$temp/next/llm_enrich.so") or die "there is no library: $stderr";
	chmod 0755, "$temp/next/llm_enrich.so";
	return;
}

# ---------------------------------------------------------------------------
# From every released version to this one
# ---------------------------------------------------------------------------

my %new_installation;

# What an installation is, and the rows that its script brings, one property a line.
sub installation
{
	my ($on, $db, $with_rows) = @_;
	my $text = $on->safe_psql($db, slurp_file("$root/test/upgrade/catalog.sql"));

	return $text unless $with_rows;
	foreach my $table (split /\n/, $on->safe_psql($db, q(
		SELECT oid::regclass FROM pg_class WHERE relnamespace = 'llm'::regnamespace AND relkind = 'r' ORDER BY relname COLLATE "C")))
	{
		# when a row was made is not what it says
		my $rows = $on->safe_psql($db, qq(
			SELECT to_jsonb(t) - ARRAY(SELECT attname::text FROM pg_attribute
				WHERE attrelid = '$table'::regclass AND (atttypid = 'timestamptz'::regtype OR attidentity <> ''))
			FROM $table t ORDER BY 1));

		$text .= join '', map { "\nrow of $table: $_" } split /\n/, $rows;
	}
	return $text;
}

# Two installations are equal; what differs is shown, - for what only the new one has.
sub is_like_new
{
	my ($on, $db, $with_rows, $name, $fresh) = @_;
	my @file = ("$temp/new_installation", "$temp/upgraded");

	$fresh //= 'fresh';
	$new_installation{"$fresh $with_rows"} //= installation($on, $fresh, $with_rows);
	unlink @file;
	append_to_file($file[0], $new_installation{"$fresh $with_rows"} . "\n");
	append_to_file($file[1], installation($on, $db, $with_rows) . "\n");
	my ($difference) = run_command([ 'diff', '-U0', @file ]);
	my @lines = grep { !/^(@@|---|\+\+\+) / } split /\n/, $difference;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(!@lines, $name) or diag(
		join "\n",
		'extension/llm_enrich--*--*.sql and extension/parts differ: - is in a new installation only, + in an upgraded one only',
		@lines[ 0 .. ($#lines < 200 ? $#lines : 200) ]);
	return;
}

SKIP:
{
	skip 'this user may not add a script to the installation', 1 if !$writable;
	my @released = map { basename($_) =~ /^llm_enrich--(.*)\.sql$/ && $1 !~ /rows$/ ? $1 : () } glob "$releases/*.sql";

	ok((grep { $_ eq '0.1.0' } @released), 'there are scripts of earlier versions');
	foreach my $release (@released)
	{
		my $copy = "$extension_dir/llm_enrich--$release.sql";

		push @added, $copy;
		copy("$releases/llm_enrich--$release.sql", $copy) or die "could not copy the script of $release: $!";
	}

	my $released = new_node('released', { extension => 0 });
	my $roles = q(SELECT string_agg(rolname, ' ' ORDER BY rolname COLLATE "C") FROM pg_roles);
	foreach my $release (@released)
	{
		my $db = "from $release";
		my $rows = "$releases/llm_enrich--$release.rows.sql";

		# As after a new package and a restart. It fails when the library has lost a function that the script names.
		# Keep one of that name which raises an error: pg_upgrade of such a database needs it, too.
		$released->safe_psql('postgres', qq(CREATE DATABASE "empty $release"; CREATE DATABASE "$db"));
		$released->command_ok(
			[ 'psql', '-XAtq', '-d', $released->connstr($_), '-c', "CREATE EXTENSION llm_enrich VERSION '$release'" ],
			"the library has whatever the script of $release names ($_)")
			foreach "empty $release", $db;

		$provider->reset;
		$released->command_ok(
			[ 'psql', '-XAtq', '-d', $released->connstr($db), '-v', 'url=' . $provider->base_url, '-f', $rows ],
			"$release leaves work behind");
		foreach my $database ("empty $release", $db)
		{
			my ($status, undef, $stderr) = $released->psql($database, 'ALTER EXTENSION llm_enrich UPDATE');

			is("$status$stderr", '0', "P6: ALTER EXTENSION UPDATE from $release ($database)");
		}
	}

	# roles belong to the cluster, so that the new installation comes last
	my $before = $released->safe_psql('postgres', "CREATE DATABASE fresh; $roles");
	is($released->safe_psql('fresh', "CREATE EXTENSION llm_enrich; $roles"), $before,
		'an upgrade makes the roles that a new installation makes');
	foreach my $release (@released)
	{
		is_like_new($released, "empty $release", 1, "an upgraded $release is what a new installation is, rows included");
		is_like_new($released, "from $release", 0, "so is one with work");
	}

	# Another superuser updates than the one who installed; what users have made on top stays, or is named.
	$released->safe_psql('postgres', q(CREATE ROLE maker SUPERUSER; CREATE ROLE other SUPERUSER;
		CREATE DATABASE made; CREATE DATABASE updated));
	$released->safe_psql('made', 'SET ROLE maker; CREATE EXTENSION llm_enrich');
	$released->safe_psql('updated', q(SET ROLE maker; CREATE EXTENSION llm_enrich VERSION '0.1.0';
		CREATE TABLE page (id int PRIMARY KEY, body text, label jsonb);
		CREATE VIEW spent AS SELECT day, input_tokens, cost FROM llm.cost_by_day;
		CREATE VIEW asked AS SELECT llm_summarize('text');
		CREATE FUNCTION ask() RETURNS void BEGIN ATOMIC UPDATE page SET label = llm_classify(body); END));
	my (undef, undef, $stderr) = $released->psql('updated', 'SET ROLE other; ALTER EXTENSION llm_enrich UPDATE');
	like($stderr,
		qr/ERROR:  function llm_classify\(.*\) is made again, and is in use by function public\.ask\(\)\nHINT:  Drop/,
		'what uses a function that is made again is named');
	$released->safe_psql('updated', 'DROP FUNCTION ask');
	$stderr = ($released->psql('updated', 'SET ROLE other; ALTER EXTENSION llm_enrich UPDATE'))[2];
	like($stderr, qr/function llm_summarize\(.*\) is made again, and is in use by view public\.asked\n/,
		'one after the other');
	$released->safe_psql('updated', 'DROP VIEW asked; SET ROLE other; ALTER EXTENSION llm_enrich UPDATE');
	is($released->safe_psql('updated', 'SELECT count(*) FROM spent'), 0, 'a view over the bill stays');
	is($released->safe_psql('updated', q(SET ROLE llm_admin; SELECT llm.forget_habits(), llm.pause(everything => true),
		llm.set_budget(1) IS NOT NULL)), '0|1|t', 'what another superuser has updated still writes its tables');
	$released->safe_psql('updated', 'DROP TABLE page; DROP VIEW spent; SELECT llm.drop_budget(id) FROM llm.budget;
		SELECT llm.resume(everything => true)');
	is_like_new($released, 'updated', 0, 'and belongs to who installed it, all of it', 'made');

	# what 0.1.0 left behind
	my $db = 'from 0.1.0';
	wait_idle($released, $db);
	is($released->safe_psql($db, q(SELECT lang, facts->>'person', facts->'letters' FROM note ORDER BY lang)),
		"de|Ada Lovelace wrote 3 letters|3\nen|Alan Turing wrote 5 letters|5",
		'P2: answers that 0.1.0 had paid for are in their cells');
	is($released->safe_psql($db, q(
		SELECT string_agg(id || ' ' || coalesce(label->>'label', '-'), ', ' ORDER BY id) FROM ticket
		WHERE id >= 20 AND NOT coalesce(label ? 'llm_enrich', false))),
		'20 billing, 21 billing, 22 billing, 23 -, 24 billing, 25 billing, 26 bug, 30 bug, 31 billing, 40 nothing',
		'P2: what it had queued is answered, what was cancelled is not');
	is(requests(), 8, 'P3: one request for each question that has no answer yet');
	is($released->safe_psql($db, q(
		SELECT string_agg(outcome || ' ' || n, ', ' ORDER BY outcome)
		FROM (SELECT outcome, count(*) AS n FROM llm.ledger WHERE id > 33 GROUP BY 1) s)),
		'cached 1, ok 8, unknown 4', 'P3: they are on the ledger, and so is what was under way');
	is($released->safe_psql($db, 'SELECT count(*) FROM llm.ledger WHERE id <= 33'), 12, 'P3: with all that was there before');
	is($released->safe_psql($db, q(SELECT sum(input_tokens + cached_tokens + cache_write_tokens), sum(output_tokens)
		FROM llm.ledger WHERE id > 33 AND NOT estimated)),
		join('|', @{ $provider->meter->{billed} }{qw(prompt_tokens completion_tokens)}), 'P3: ledger equals meter');
	is($released->safe_psql($db, q(
		SELECT string_agg(id || ' ' || state || ' ' || done || ' ' || failed || ' ' || cancelled, ', ' ORDER BY id)
		FROM llm.job WHERE day IS NULL)), '1 finished 8 1 0, 2 finished 2 0 0, 3 finished 6 0 1', 'its jobs are finished');
	is($released->safe_psql($db, q(SELECT llm.retry(task => 60358300096683))), 1, 'what had failed can be asked again');
	wait_idle($released, $db);
	is($released->safe_psql($db, 'SELECT label FROM ticket WHERE id = 9'), '{"label": "bug"}', 'and is answered');
	is($released->safe_psql($db, q(SELECT count(*) FROM llm.health WHERE problem IS NOT NULL)), 0,
		'llm.health has nothing to complain about');
	$released->stop;
}

# ---------------------------------------------------------------------------
# ALTER EXTENSION UPDATE
# ---------------------------------------------------------------------------

$provider->reset;
my $node = new_node('extension', "dynamic_library_path = '$temp/now:\$libdir'");

sub sql { return $node->safe_psql('postgres', join "\n", @_); }

sub wait_problem
{
	my ($pattern, $name) = @_;

	return ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM llm.health WHERE kind = 'problem' AND problem ~ '$pattern'"), $name);
}

sub workers_are_gone
{
	return $node->poll_query_until('postgres', q(
		SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type ~ '^llm_enrich (sender|writer)')));
}

SKIP:
{
	skip 'this user may not add a script to the installation', 1 if !$writable;
	build_next();
	append_to_file($script, "COMMENT ON SCHEMA llm IS 'of the next version';\n");

	setup_model($node, $provider, options => { max_concurrency => 4 });
	$provider->script({ latency_ms => 600_000 });
	sql(q(CREATE TABLE ticket (id int PRIMARY KEY, body text, label jsonb);
		INSERT INTO ticket SELECT i, 'The invoice is wrong ' || i FROM generate_series(1, 40) i;
		UPDATE ticket SET label = llm_classify(body, '{billing,bug}')));
	$node->poll_query_until('postgres', q(SELECT count(*) = 4 FROM llm.queue WHERE state = 'claimed')) or die 'nothing is under way';

	# the new SQL under the old library
	my ($status, undef, $stderr) = $node->psql('postgres', "ALTER EXTENSION llm_enrich UPDATE TO '$next'");
	is("$status$stderr", '0', 'P6: ALTER EXTENSION UPDATE succeeds while requests hang');
	is(sql(q(SELECT extversion FROM pg_extension WHERE extname = 'llm_enrich')), $next, 'the SQL is of the next version');
	wait_problem("^restart needed: .* is version $version, the extension is version $next", 'the old library refuses, and llm.health says what to do');
	ok(workers_are_gone(), 'no worker stays');
	my $before = requests();
	$provider->script({ latency_ms => 1 });
	sql(q(INSERT INTO ticket VALUES (41, 'A bug', NULL);
		UPDATE ticket SET label = llm_classify(body, '{billing,bug}') WHERE id = 41));
	ok(workers_are_gone() && sql('SELECT count(*) FROM llm.queue') == 41, 'what is asked meanwhile is queued');
	is(requests(), $before, 'and not sent');

	# the new library
	rename "$temp/next", "$temp/now" or die "could not rename: $!";
	$node->restart;
	wait_idle($node);
	is(sql(q(SELECT count(*) FROM ticket WHERE label->>'label' IN ('billing', 'bug') AND NOT label ? 'llm_enrich')), 41,
		'P2: after a restart everything is answered');
	is(requests(), $before + 41, 'P3: what hung was asked once more, the rest once');
	is(sql(q(SELECT count(*) FROM llm.ledger WHERE outcome = 'unknown')), 4, 'P3: and is on the ledger as unknown');
	is(sql(q(SELECT count(*) FROM llm.health WHERE problem IS NOT NULL)), 0, 'llm.health has nothing to complain about');

	# the new library over the old SQL
	$node->safe_psql('postgres', 'CREATE DATABASE behind');
	$node->safe_psql('behind', "CREATE EXTENSION llm_enrich VERSION '$version'");
	ok($node->poll_query_until('behind', q(
		SELECT count(*) = 1 FROM llm.health WHERE kind = 'problem' AND problem ~ '^restart needed' AND hint LIKE '%ALTER EXTENSION llm_enrich UPDATE%')),
		'a database whose SQL is older is refused too, and told how to go on');
	$node->safe_psql('behind', q(CREATE ROLE clerk; CREATE ROLE "Head of it";
		REVOKE ALL ON FUNCTION llm_classify FROM PUBLIC; GRANT EXECUTE ON FUNCTION llm_classify TO clerk;
		GRANT EXECUTE ON FUNCTION llm_classify, llm.cancel TO "Head of it" WITH GRANT OPTION;
		-- a role that has gone, and has left its number
		CREATE ROLE gone; GRANT EXECUTE ON FUNCTION llm.cancel TO gone; DELETE FROM pg_authid WHERE rolname = 'gone';));
	$node->safe_psql('behind', "ALTER EXTENSION llm_enrich UPDATE TO '$next'");
	is($node->safe_psql('behind', q(
		SELECT string_agg(concat_ws(' ', v.role, p.proname, has_function_privilege(v.role, p.oid, v.right)), ', '
			ORDER BY p.proname COLLATE "C", v.role COLLATE "C")
		FROM pg_proc p, (VALUES ('public', 'EXECUTE'), ('clerk', 'EXECUTE'),
			('Head of it', 'EXECUTE WITH GRANT OPTION')) v(role, "right")
		WHERE p.proname IN ('llm_classify', 'cancel')
			AND p.pronamespace IN ('llm'::regnamespace, 'public'::regnamespace))),
		'Head of it cancel t, clerk cancel t, public cancel t, Head of it llm_classify t, clerk llm_classify t, public llm_classify f',
		'functions that are made again have their rights again');
	command_like([ 'pg_dump', '-s', '-d', $node->connstr('behind') ], qr/GRANT ALL ON FUNCTION public\.llm_classify\(.*\) TO clerk;/,
		'and they are dumped');
	ok($node->poll_query_until('behind', q(SELECT count(*) = 0 FROM llm.health WHERE kind = 'problem')), 'after the update nothing is wrong');
	is(sql(q(SELECT sum(input_tokens + cached_tokens + cache_write_tokens) FROM llm.ledger WHERE NOT estimated)),
		$provider->meter->{billed}{prompt_tokens}, 'P3: known tokens are those that were billed');
}
$node->stop;

# ---------------------------------------------------------------------------
# pg_upgrade
# ---------------------------------------------------------------------------

$provider->reset;
$provider->script({ latency_ms => 600_000 });
my $old = new_node('old', { extension => 0 });
$old->safe_psql('postgres', 'CREATE SCHEMA ai; CREATE EXTENSION llm_enrich SCHEMA ai');
setup_model($old, $provider, options => { max_concurrency => 4 });
$old->safe_psql('postgres', q(CREATE ROLE ana LOGIN; GRANT USAGE ON FOREIGN SERVER sim TO ana; GRANT USAGE, CREATE ON SCHEMA ai TO ana;
	SET ROLE ana;
	CREATE TABLE ai.ticket (id int PRIMARY KEY, body text, label jsonb);
	INSERT INTO ai.ticket SELECT i, 'The invoice is wrong ' || i FROM generate_series(1, 40) i;
	UPDATE ai.ticket SET label = ai.llm_classify(body, '{billing,bug}')));
$old->poll_query_until('postgres', q(SELECT count(*) = 4 FROM llm.queue WHERE state = 'claimed')) or die 'nothing is under way';
$old->stop('fast');
my $sent = requests();
my $new = new_node('new', { extension => 0, start => 0 });
my $bin = pg_config('bindir');

$provider->script({ latency_ms => 1 });
chdir $temp or die "could not go to $temp: $!";
command_ok(
	[
		'pg_upgrade', '--no-sync', '-b', $bin, '-B', $bin, '-d', $old->data_dir, '-D', $new->data_dir,
		'-p', $old->port, '-P', $new->port, '-s', $new->host
	], 'pg_upgrade');
is(requests(), $sent, 'nothing is sent in binary-upgrade mode');
$new->start;
wait_idle($new);
is($new->safe_psql('postgres', q(SELECT count(*) FROM ai.ticket WHERE label->>'label' = 'billing' AND NOT label ? 'llm_enrich')), 40,
	'P2: what was queued before is answered after');
is(requests(), $sent + 40, 'P3: what was under way was asked once more, the rest once');
is($new->safe_psql('postgres', q(SELECT count(*) FILTER (WHERE outcome = 'ok'), count(*) FILTER (WHERE outcome = 'unknown'), count(DISTINCT role)
	FROM llm.ledger)), '40|4|1', 'P3: and the ledger has all of it');
is($new->safe_psql('postgres', q(UPDATE ai.ticket SET label = ai.llm_classify('A bug', '{billing,bug}') WHERE id = 1; CALL llm.wait();
	SELECT label FROM ai.ticket WHERE id = 1)), '{"label": "bug"}', 'and new work goes on');

done_testing();
