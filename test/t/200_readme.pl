# What the documents say is so: the README's statements run in order, its tables
# of settings, options and objects are those of the server, and the files that any
# document names are there.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

my $root = "$FindBin::RealBin/../..";
my $readme = slurp_file("$root/README.md");

# The Markdown table under a heading, without its head: a list of rows, each a list of cells.
sub table_below
{
	my $heading = shift;
	my ($section) = $readme =~ /^#+ \Q$heading\E\n(.*?)(?=^#|\z)/ms;
	my @rows;

	die "the README has no section \"$heading\"\n" unless defined $section;
	foreach my $line (split /\n/, $section)
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

my $node = new_node('readme');
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
		SELECT 'pg_class', oid, relnamespace, relname FROM pg_class WHERE relkind IN ('r', 'v')) o
	JOIN pg_depend d ON d.classid = o.class AND d.objid = o.oid AND d.deptype = 'e'
		AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'llm_enrich')
	JOIN pg_namespace n ON n.oid = o.schema ORDER BY 1)) ], 'the table of objects');

# ---------------------------------------------------------------------------
# Statements
# ---------------------------------------------------------------------------

my $key_file = PostgreSQL::Test::Utils::tempdir() . '/openai.key';
my $base_url = $provider->base_url;
my @blocks = $readme =~ /^```sql\n(.*?)^```$/msg;
my $script = join "\n", @blocks;

append_to_file($key_file, "sk-readme\n");
chmod 0600, $key_file or die "could not change the rights of $key_file: $!";
cmp_ok(scalar(@blocks), '>', 10, 'the README has statements to run');
is($script =~ s{https://api\.openai\.com/v1}{$base_url}g, 1, 'one of them names the provider');
is($script =~ s{/etc/postgresql/openai\.key}{$key_file}g, 1, 'and its key');
$provider->script({ latency_ms => 5, latency_jitter_ms => 20 });

$node->safe_psql('postgres', 'DROP EXTENSION llm_enrich CASCADE');
my ($status, $stdout, $stderr) = $node->psql('postgres', $script, on_error_stop => 1);
is($status, 0, 'they all run, in order') or diag($stderr);
unlike($stdout, qr/^(?:error|not sent)/m, 'llm.check() finds nothing wrong');
is($node->safe_psql('postgres', 'SELECT count(*) FROM llm.queue'), 0, 'and leave no task behind');
is($node->safe_psql('postgres', 'SELECT count(*) FROM llm.dead_letter'), 0, 'nor a dead letter');
is($node->safe_psql('postgres', 'SELECT count(*) FROM tickets WHERE category IS NULL OR parts IS NULL OR summary IS NULL'), 1,
	'every cell that was asked for is filled; the row that came last was asked for less');
ledger_equals_meter($node, $provider, 'P3: ledger equals meter');

# ---------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------

# In backquotes and beginning with a folder of ours; NAME, NN and A stand for what is to come.
my $named_file = qr{`((?:src|extension|test|sql|expected|tools|script|docs|bench|\.ci)/[\w./-]*\w)`};
my @missing;

foreach my $path (map { "$root/$_" } 'README.md', 'ARCHITECTURE.md', 'CONTRIBUTING.md', 'CHANGELOG.md')
{
	push @missing, map { "$path: $_" } grep { !/NAME|NN|--A--/ && !-e "$root/$_" } slurp_file($path) =~ /$named_file/g;
}
is_deeply(\@missing, [], 'the files that the documents name are there');
my @numbers = map { m{/(\d{4})-[\w-]+\.md$} ? $1 + 0 : "$_?" } sort glob("$root/docs/adr/*");
is_deeply(\@numbers, [ 1 .. @numbers ], 'decisions are numbered');

# Links to headings, as GitHub names them.
my %headings = map { lc($_) =~ s/[^\w\- ]//gr =~ s/ /-/gr => 1 } $readme =~ /^#+ (.*)$/mg;
is_deeply([ grep { !$headings{$_} } $readme =~ /\]\(#([^)]*)\)/g ], [], 'links within the README lead somewhere');

done_testing();
