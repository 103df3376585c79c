# What the documents say is so.  The SQL blocks of each document run in order, as one session;
# the tables of settings, options and objects are those of the server, in whichever document
# they stand; the figures of the README are those of bench/RESULTS.md; and the files and
# headings that any document names are there.
#
# A new page docs/*.md is read without a change here: it begins where the README's quick
# start ends (extension, table tickets, server openai, model fast), in a database of its own.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(basename dirname);
use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

my $root = abs_path("$FindBin::RealBin/../..");
my @pages = ('README.md', map { "docs/" . basename($_) } sort glob "$root/docs/*.md");
my %text = map { $_ => slurp_file("$root/$_") } @pages, 'ARCHITECTURE.md', 'CONTRIBUTING.md', 'CHANGELOG.md';

# A section of a document: what stands below a heading, up to the next of any level.
sub section
{
	my ($page, $heading) = @_;
	my ($section) = $text{$page} =~ /^#+ \Q$heading\E\n(.*?)(?=^#+ |\z)/ms;

	return $section;
}

# The Markdown table under a heading, wherever that is, without the table's head: a list of rows,
# each a list of cells.
sub table_below
{
	my $heading = shift;
	my @sections = grep { defined } map { section($_, $heading) } @pages;
	my @rows;

	die "there is not one section \"$heading\" in all documents\n" unless @sections == 1;
	foreach my $line (split /\n/, $sections[0])
	{
		if ($line !~ /^\|/) { last if @rows; next; }
		$line =~ s/\\\|/\0/g;
		push @rows, [ map { s/^\s+|\s+$//gr =~ s/\0/|/gr } (split /\|/, $line, -1)[ 1 .. ($line =~ tr/|//) - 1 ] ];
	}
	die "section \"$heading\" has no table\n" unless @rows > 2;
	return @rows[ 2 .. $#rows ];
}

# The names in backquotes in the first column of a table.
sub names_in
{
	return sort map { $_->[0] =~ /`([^`]+)`/g } table_below(shift);
}

# What an error's hint lists after a colon.
sub names_in_hint
{
	my ($node, $sql) = @_;
	my (undef, undef, $stderr) = $node->psql('postgres', $sql);
	my ($names) = $stderr =~ /HINT:.*: ([\w, ]+)\.$/m;

	die "no names in the hint: $stderr\n" unless defined $names;
	return sort split /, /, $names;
}

my $node = new_node('readme', 'llm_enrich.allow_table_writes = off', 'llm_enrich.notices = on',
	'llm_enrich.keep_answers = 1d');
my $provider = start_provider('--key', 'sk-readme');

# ---------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------

my %who = (postmaster => 'restart', sighup => 'reload', superuser => 'superuser', user => 'everybody');
my @settings = map {
	my ($name, $default, $unit, $context) = split /\|/, $_, -1;
	[ $name, $default, $unit, $who{$context} ]
} split /\n/, $node->safe_psql('postgres', q(
	SELECT name, current_setting(name), unit, context FROM pg_settings WHERE name LIKE 'llm\_enrich.%'));

# One setting is shown to who asks for it only.
push @settings, [ 'llm_enrich.writeback', $node->safe_psql('postgres', 'SHOW llm_enrich.writeback'), '', 'superuser' ];
is_deeply([ map { [ $_->[0] =~ tr/`//dr, @$_[ 1 .. 3 ] ] } table_below('Settings') ],
	[ sort { $a->[0] cmp $b->[0] } @settings ],
	'the table of settings is that of pg_settings');

$node->safe_psql('postgres', q(
	CREATE SERVER probe FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai', base_url 'https://localhost/v1');
	SELECT llm.add_model('probe', server => 'probe', model => 'probe', input_per_mtok => 0, output_per_mtok => 0)));
is_deeply([ names_in('Options of a server') ],
	[ names_in_hint($node, "ALTER SERVER probe OPTIONS (ADD nonsense '1')") ], 'the options of a server');
is_deeply([ names_in('Options of a user mapping') ],
	[ names_in_hint($node, "CREATE USER MAPPING FOR PUBLIC SERVER probe OPTIONS (nonsense '1')") ],
	'the options of a user mapping');
is_deeply([ names_in('Options of a call') ],
	[ names_in_hint($node, q(SELECT llm.preview('complete', 'x', model => 'probe', options => '{"nonsense": 1}'))) ],
	'the options of a call');
$node->safe_psql('postgres', q(SELECT llm.drop_model('probe'); DROP SERVER probe));

is_deeply([ names_in('Objects') ], [ split /\n/, $node->safe_psql('postgres', q(
	SELECT DISTINCT CASE WHEN n.nspname = 'llm' THEN 'llm.' ELSE '' END || o.name COLLATE "C" AS name
	FROM (SELECT 'pg_proc'::regclass AS class, oid, pronamespace AS schema, proname AS name FROM pg_proc
		UNION ALL
		SELECT 'pg_class', oid, relnamespace, relname FROM pg_class WHERE relkind IN ('r', 'v', 'p')) o
	JOIN pg_depend d ON d.classid = o.class AND d.objid = o.oid AND d.deptype = 'e'
		AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'llm_enrich')
	JOIN pg_namespace n ON n.oid = o.schema ORDER BY 1)) ], 'the table of objects');

# ---------------------------------------------------------------------------
# Statements
# ---------------------------------------------------------------------------

my $key_file = PostgreSQL::Test::Utils::tempdir() . '/openai.key';

append_to_file($key_file, "sk-readme\n");
chmod 0600, $key_file or die "could not change the rights of $key_file: $!";

# The SQL blocks of a text as one script: a key file is ours, and every provider is the simulated one.
sub script_of
{
	my ($text, $lane) = @_;
	my $base_url = $provider->base_url($lane);
	my $script = join "\n", $text =~ /^```sql\n(.*?)^```$/msg;

	$script =~ s{(provider\s+'\w+')(?![^;]*base_url)}{$1, base_url 'https://provider.example'}g;
	$script =~ s{(base_url\s+')[^']+(')}{$1$base_url$2}g;
	$script =~ s{/etc/postgresql/[\w.-]+\.key}{$key_file}g;
	return $script;
}

# Run the statements of a document in a database; nothing that they asked is left or has failed.
sub run_page
{
	my ($page, $db) = @_;
	my ($status, $stdout, $stderr) = $node->psql($db, script_of($text{$page}, $db), on_error_stop => 1);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($status, 0, "$page: its statements run, in order") or diag($stderr);
	unlike($stdout, qr/^(?:error|not sent)/m, "$page: llm.check() finds nothing wrong");
	is($node->safe_psql($db, 'SELECT count(*) FROM llm.queue'), 0, "$page: no task is left behind");
	is($node->safe_psql($db, 'SELECT count(*) FROM llm.dead_letter'), 0, "$page: nor a dead letter");
	ledger_equals_meter($node, $provider, "P3: $page: ledger equals meter", db => $db, lane => $db);
	return;
}

cmp_ok(scalar(() = $text{'README.md'} =~ /^```sql$/mg), '>', 6, 'the README has statements to run');
is(scalar(() = $text{'README.md'} =~ m{OPTIONS \(provider 'openai'}g), 1, 'one of them names the provider');
$node->safe_psql('postgres', $_) foreach map { "CREATE DATABASE $_ TEMPLATE template0 ENCODING 'UTF8'" } 'readme', 'started';

# Where the quick start ends, which is where the pages of docs/ begin.
$provider->script({ latency_ms => 5, latency_jitter_ms => 20 }, $_) foreach 'readme', 'started';
is(($node->psql('started', script_of(section('README.md', 'Quick start'), 'started'), on_error_stop => 1))[0],
	0, 'the quick start runs by itself');
$node->safe_psql('started', 'SET llm_enrich.allow_table_writes = on; DELETE FROM llm.ledger');

run_page('README.md', 'readme');
is($node->safe_psql('readme', 'SELECT count(*) FROM tickets WHERE num_nulls(kind, parts, summary, reply) > 0'),
	0, 'every cell that was asked for is filled');

foreach my $page (grep { m{^docs/} && $text{$_} =~ /^```sql$/m } @pages)
{
	my $db = basename($page, '.md') =~ tr/-/_/r;

	$provider->script({ latency_ms => 5, latency_jitter_ms => 20 }, $db);
	$node->safe_psql('postgres', "CREATE DATABASE $db TEMPLATE started");
	$node->safe_psql($db, "ALTER SERVER openai OPTIONS (SET base_url '" . $provider->base_url($db) . "')");
	run_page($page, $db);
}

# What docs/operations.md says of ORMs: one that saves a row as it was loaded writes the marker over
# the answer. The page's trigger prevents that; without it llm.reset_orphans() gives the cell back
# what it held before.
my $held = $node->safe_psql('operations', 'SELECT label FROM tickets WHERE id = 3');
my $loaded = $node->safe_psql('operations',
	q(UPDATE tickets SET label = llm_classify('x ' || body, '{billing,bug}') WHERE id = 3 RETURNING label));
like($loaded, qr/"llm_enrich"/, 'RETURNING gives the marker');
wait_idle($node, 'operations');
isnt($node->safe_psql('operations', 'SELECT label FROM tickets WHERE id = 3'), $loaded, 'the answer is in the cell');
my $answer = $node->safe_psql('operations', 'SELECT label FROM tickets WHERE id = 3');
is($node->safe_psql('operations', qq(
	UPDATE tickets SET label = '$loaded' WHERE id = 3;
	SELECT label FROM tickets WHERE id = 3)), $answer, 'P4: the trigger keeps the answer');
is($node->safe_psql('operations', qq(
	DROP TRIGGER keep_answers ON tickets;
	UPDATE tickets SET label = '$loaded' WHERE id = 3;
	SELECT llm_is_pending(label) FROM tickets WHERE id = 3;
	SELECT llm.reset_orphans('tickets', 'label');
	SELECT label FROM tickets WHERE id = 3)), "t\n1\n$held", 'P4: what it held before is given back');

# ---------------------------------------------------------------------------
# Figures
# ---------------------------------------------------------------------------

# What was measured last stands first.
my %measured;

foreach (split /\n/, slurp_file("$root/bench/RESULTS.md"))
{
	my ($what, $median) = /^\| (.*?)\s*\|\s*([\d.]+) \|/ or next;
	$measured{$what} //= $median;
}
my @figures = table_below('How fast');
is_deeply([ map { [ $_->[0], $measured{ $_->[0] } ] } @figures ], \@figures, 'the figures are those of bench/RESULTS.md');

# ---------------------------------------------------------------------------
# Files, headings
# ---------------------------------------------------------------------------

# In backquotes and beginning with a folder of ours; NAME, NN and A stand for what is to come.
my $named_file = qr{`((?:src|extension|test|sql|expected|tools|script|docs|bench|monitoring|\.ci)/[\w./-]*\w)`};
my @missing;

foreach my $page (sort keys %text)
{
	push @missing, map { "$page: $_" } grep { !/NAME|NN|--A--/ && !-e "$root/$_" } $text{$page} =~ /$named_file/g;
}
is_deeply(\@missing, [], 'the files that the documents name are there');

# Each folder of src/ says what it is for; its README names files by "folder/file.c" or by "file.c" alone.
my @strange;
foreach my $folder (map { basename($_) } sort grep { -d } glob "$root/src/*")
{
	my $page = "src/$folder/README.md";

	push @strange, "no $page" and next unless -e "$root/$page";
	push @strange, map { "$page: $_" }
		grep { !/NAME/ && !-e "$root/src/$_" && !-e "$root/src/$folder/$_" && !-e "$root/$_" }
		slurp_file("$root/$page") =~ m{`((?:\w+/)*\w+\.[ch])`}g;
}
is_deeply(\@strange, [], 'each folder of src/ has a README, and the files that it names are there');
my %decisions;
push @{ $decisions{ m{/(\d{4})-[\w-]+\.md$} ? $1 : "no number: $_" } }, basename($_) foreach glob "$root/docs/adr/*";
is_deeply([ grep { !/^\d+$/ || @{ $decisions{$_} } > 1 } sort keys %decisions ], [], 'each decision has a number of its own');

# The anchors of a document, as GitHub names them.
sub anchors
{
	return map { lc($_) =~ s/[^\w\- ]//gr =~ s/ /-/gr => 1 } $_[0] =~ /^#+ (.*)$/mg;
}

my @lost;
foreach my $page (sort keys %text)
{
	while ($text{$page} =~ /\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]*))?\)/g)
	{
		my ($path, $anchor) = ($1 eq '' ? "$root/$page" : dirname("$root/$page") . "/$1", $2);

		push @lost, "$page: $1" and next unless -e $path;
		next unless defined $anchor;
		my %anchors = anchors(slurp_file($path));
		push @lost, "$page: $1#$anchor" unless $anchors{$anchor};
	}
}
is_deeply(\@lost, [], 'links lead somewhere');
cmp_ok($text{'README.md'} =~ tr/\n//, '<=', 250, 'the README can be read at one sitting');

done_testing();
