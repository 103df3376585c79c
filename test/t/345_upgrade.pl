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

use LLMTest;

my $root = "$FindBin::RealBin/../..";
my $temp = PostgreSQL::Test::Utils::tempdir();
my $control = slurp_file("$root/llm_enrich.control");
my ($version) = $control =~ /default_version = '([^']*)'/;
my $next = "${version}next";
my $provider = start_provider();

sub pg_config
{
	my ($stdout) = run_command([ 'pg_config', "--$_[0]" ]);

	return $stdout;
}

my $extension_dir = pg_config('sharedir') . '/extension';
my $script = "$extension_dir/llm_enrich--$version--$next.sql";

END
{
	unlink $script if defined $script;
}

# The library of the next version, in a folder of its own: what names the version is
# compiled anew, the rest is linked as it is.
sub build_next
{
	my $tree = "$temp/tree";

	mkdir "$temp/$_"
		foreach 'tree', 'tree/src', (map { 'tree/src/' . basename($_) } glob "$root/src/*"), 'tree/extension', 'tree/extension/parts',
		'next';
	foreach my $file (map { glob "$root/$_" } 'Makefile', 'llm_enrich.control', 'src/*/*', 'extension/parts/*')
	{
		my $target = "$tree/" . substr($file, length($root) + 1);

		copy($file, $target) or die "could not copy $file: $!";
		utime((stat $file)[ 8, 9 ], $target);
		unlink $target =~ s/\.c$/.o/r if $file =~ /\.c$/ && slurp_file($file) =~ /LLM_ENRICH_VERSION/;
	}
	unlink glob "$tree/src/*/*.o" if !-e "$tree/src/process/init.o";
	my $text = $control =~ s/'\Q$version\E'/'$next'/r;
	unlink "$tree/llm_enrich.control";
	append_to_file("$tree/llm_enrich.control", $text);
	my (undef, $stderr) = run_command(
		[ 'make', '-s', '-C', $tree, '-o', 'llm_enrich.control', '-o', 'Makefile', 'llm_enrich.so' ]);
	copy("$tree/llm_enrich.so", "$temp/next/llm_enrich.so") or die "there is no library: $stderr";
	chmod 0755, "$temp/next/llm_enrich.so";
	return;
}

# ---------------------------------------------------------------------------
# ALTER EXTENSION UPDATE
# ---------------------------------------------------------------------------

my $node = new_node('extension', "dynamic_library_path = '$temp/now:\$libdir'");

sub sql { return $node->safe_psql('postgres', join "\n", @_); }
sub requests { return $provider->meter($_[0])->{requests}; }

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
	skip 'this user may not add a script to the installation', 1 if !-w $extension_dir;
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
	$node->safe_psql('behind', "ALTER EXTENSION llm_enrich UPDATE TO '$next'");
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
