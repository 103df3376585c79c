# llm.report(): a page that is whole in itself and says what the ledger says (P3), whatever names, amounts and roles
# there are, shows a role its own only (P9), and loads nothing from elsewhere: seen by a browser, where there is one.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IPC::Run ();
use JSON::PP;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest;

my $node = new_node('report', 'llm_enrich.enabled = off', "llm_enrich.bill_tags = 'team'", "timezone = 'UTC'");

# The page, as a role.
sub page
{
	my ($arguments, $role) = @_;

	return $node->safe_psql('postgres', "SELECT llm.report($arguments)", defined $role ? (extra_params => [ '-U', $role ]) : ());
}

# What is wrong with a page's markup: elements that are not closed, what is loaded, what is not ASCII.
sub faults
{
	my $page = shift;
	my (@open, @faults);

	push @faults, 'not ASCII' if $page =~ /[^\x09\x0a\x20-\x7e]/;
	push @faults, "loads $1" while $page =~ /((?:\bsrc|\bsrcset|\bhref|\baction|\bdata)\s*=\s*"(?!data:,")[^"]*"|url\(|\@import)/gi;
	push @faults, "$1 attribute" while $page =~ /<[^>]*\s(on\w+)\s*=/gi;
	while ($page =~ m{<(/?)([a-zA-Z][\w-]*)((?:[^<>"]|"[^"]*")*)>}g)
	{
		my ($end, $name, $rest) = ($1, $2, $3);

		next if $name =~ /^(?:meta|link|wbr)$/ || $rest =~ m{/$};
		if ($end eq '') { push @open, $name; }
		elsif (!@open || pop(@open) ne $name) { push @faults, "</$name> ends nothing"; @open = (); }
		push @faults, "<$name>" if $name =~ /^(?:script|iframe|object|embed|img|form|base|foreignobject)$/i;
	}
	push @faults, "<$_> is not closed" foreach @open;
	# a < that begins no element would be markup that a name has brought
	push @faults, "stray $1" while $page =~ m{(<(?![/a-zA-Z!])[^>]{0,20})}g;
	return \@faults;
}

my $empty = page('');
is_deeply(faults($empty), [], 'the page of an empty database is whole');
like($empty, qr/Nothing was spent/, 'and says that nothing was spent');
like($empty, qr/there is no server to ask/, 'and what needs attention');

# ----------------------------------------------------------------------------
# Names and amounts of all kinds
# ----------------------------------------------------------------------------

sql(q(
	CREATE ROLE "</td><script>role" LOGIN;
	CREATE ROLE plain LOGIN;
	CREATE TABLE n AS SELECT g, CASE g
		WHEN 1 THEN 'public.<script>alert(1)</script>'
		WHEN 2 THEN 'public."><img src=https://evil.example/x.png onerror=alert(2)>'
		WHEN 3 THEN 'public.' || repeat('a_very_long_name', 8)
		WHEN 4 THEN U&'public.\062A\0630\0627\0643\0631'
		WHEN 5 THEN U&'public.\202Elive\202C'
		WHEN 6 THEN E'public."tab\there\nnewline\x01"'
		WHEN 7 THEN 'public.&lt;b&gt;&amp;"''`'
		ELSE 'app.table_' || g END AS name FROM generate_series(1, 400) g;
	INSERT INTO llm.ledger (at, request, task, attempt, latency_ms, role, server, model, relation, column_name,
		operation, lane, outcome, input_tokens, output_tokens, cost, estimated, tags)
	SELECT now() - d * interval '1 day', 1000 * g + d, 1000 * g + d, 1, 900,
		CASE WHEN g % 2 = 0 THEN '</td><script>role' ELSE 'plain' END, 'srv"&<>', 'm' || g % 5, name, 'col</table>', 'classify',
		'realtime', CASE WHEN g % 7 = 0 THEN 'invalid' WHEN g % 11 = 0 THEN 'unknown' ELSE 'ok' END, 123456789, 9876543,
		CASE WHEN g < 390 THEN round(4321987.654321 / g / (1 + d), 6) WHEN g < 399 THEN 0.000000123 END, g % 11 = 0,
		'{"team": "<b>"}'
	FROM n, generate_series(0, 27) d;
	INSERT INTO llm.ended_sum (start, job, role, relation, column_name, operation, done, failed, superseded, cancelled,
		row_gone, dropped_cost)
	SELECT date_bin('15 minutes', at, '2000-01-01'), request, role, relation, column_name, operation, 40000, 0, 0, 0, 0, 0
	FROM llm.ledger));
my $page = page('');
is_deeply(faults($page), [], 'the page of hostile names is whole');
like($page, qr/public\.<wbr>&#60;script&#62;alert\(1\)/, 'P9: a name is text');
like($page, qr/&#1578;&#1584;/, 'of any script');
unlike($page, qr/&#8238;/, 'and turns nothing around');
like($page, qr/<td class="n">390 others<\/td>/, 'ten tables, and the others as one line');
my $spent = sql(q(SELECT to_char(sum(cost), 'FM999,999,999,990.00') FROM llm.ledger
	WHERE at > date_trunc('day', now()) - interval '29 days'));
like($page, qr{<span>Spent</span><b>\$\Q$spent\E</b>}, 'P3: it says what the ledger says');
like($page, qr/have no price and count as nothing/, 'and what is not known');
like($page, qr/is estimated/, 'and what is estimated');
is(scalar(() = $page =~ /<rect class="u"/g), 28, 'a bar for each day of spending');
like($page, qr/<h2>By tag team<\/h2>.*<bdi>&#60;b&#62;<\/bdi>/s, 'declared tags have a table');

my $own = page('', 'plain');
is_deeply(faults($own), [], 'the page of one role is whole');
$spent = sql(q(SELECT to_char(sum(cost), 'FM999,999,999,990.00') FROM llm.ledger
	WHERE role = 'plain' AND at > date_trunc('day', now()) - interval '29 days'));
like($own, qr{role <bdi>plain</bdi> only.*<b>\$\Q$spent\E</b>}s, 'P9: which has its own requests only');
unlike($own, qr/&#60;script&#62;role/, 'P9: and no other role');

foreach my $since (q('2020-01-01'), q('-infinity'), q(now() - interval '400 days'), q(now()))
{
	is_deeply(faults(page($since)), [], "since $since: the page is whole");
}
like(page(q(now() - interval '400 days')), qr/<h2>Spend by week/, 'a year is shown by weeks');
like(($node->psql('postgres', q(SELECT llm.report(now() + interval '1 day'))))[2],
	qr/lies in the future.*HINT/s, 'the future is refused');

# A fraction of a cent is not nothing.
sql(q(DELETE FROM llm.ledger; DELETE FROM llm.ended_sum;
	INSERT INTO llm.ledger (request, task, attempt, role, server, model, relation, column_name, operation, lane,
		outcome, cost)
	SELECT g, g, 1, 'plain', 's', 'm', 'public.t', 'c', 'classify', 'realtime', 'ok', 0.00000123 * g
	FROM generate_series(1, 3) g));
like(page(''), qr{<span>Spent</span><b>\$0\.00000738</b>}, 'P3: a fraction of a cent is told');

# Jobs under way.
sql(q(
	CREATE SERVER s FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai', base_url 'https://127.0.0.1:1/v1');
	SELECT llm.add_model('m', server => 's', model => 'm', is_default => true, input_per_mtok => 1, output_per_mtok => 1);
	CREATE TABLE t (id int PRIMARY KEY, body text, c jsonb);
	INSERT INTO t SELECT g, 'text ' || g FROM generate_series(1, 100) g;
	UPDATE t SET c = llm_classify(body, '{a,b}');
	UPDATE llm.job SET done = 25;
	INSERT INTO llm.job_cost (job, requests, input_tokens, output_tokens, cost) SELECT id, 25, 1, 1, 1.5 FROM llm.job));
like(page(''), qr{public\.<wbr>t\.<wbr>c</bdi>.*width:25\.0%.*>25<wbr>&#8201;/&#8201;100<.*\$1\.50<.*\$6\.00<}s, 'a job has its forecast');

sql(q(UPDATE llm.job SET max_cost = 1, reason = 'budget: max_cost is 1 dollars'));
like(page(''), qr{job \d+</bdi></b> budget: max_cost is 1 dollars<small>SELECT llm\.cancel\(job =&#62; \d+\)},
	'and what to type where its cap is met');
sql(q(UPDATE llm.job SET done = total));
like(page(''), qr{No job is under way}, 'one that has nothing to do is not under way');
sql(q(UPDATE llm.job SET done = 25));

SKIP:
{
	skip 'there are no budgets', 2 unless sql(q(SELECT to_regclass('llm.budget') IS NOT NULL)) eq 't';
	sql(q(SELECT llm.set_budget(20, per => 'day'), llm.set_budget(500, per => 'month', role => 'plain')));
	my $with = page('');
	is_deeply(faults($with), [], 'the page with budgets is whole');
	like($with, qr{<h2>Budgets</h2>.*the\ database<small>per\ day,\ until\ \d+\ \w+\ 00:00,\ budget\ \d
		.*/&\#8201;\$20\.00.*role\ plain.*/&\#8201;\$500\.00}xs,
		'budgets are on it');
}

# ----------------------------------------------------------------------------
# In a browser
# ----------------------------------------------------------------------------

SKIP:
{
	my ($browser) = grep { -x } map { ("$_/chromium", "$_/chromium-browser") } split /:/, $ENV{PATH};
	my $folder = PostgreSQL::Test::Utils::tempdir();

	skip 'chromium is not installed', 5 unless defined $browser;

	# What the browser says of a page, and what the page made it ask for (not what it asks for by itself).
	my $load = sub {
		my ($name, $html) = @_;
		my ($out, $err) = ('', '');

		append_to_file("$folder/$name.html", $html);
		local $ENV{HOME} = $folder;
		IPC::Run::run([ $browser, qw(--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run),
				'--enable-logging=stderr', '--host-resolver-rules=MAP * ~NOTFOUND', "--user-data-dir=$folder/$name", "--log-net-log=$folder/$name.json",
				'--dump-dom', "file://$folder/$name.html" ],
			'<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default))
			or return;
		my $log = eval { JSON::PP->new->decode(slurp_file("$folder/$name.json")) };
		my @asked = map { $_->{params}{url} } grep {
			ref $_->{params} eq 'HASH' && defined $_->{params}{url}
				&& ($_->{params}{initiator} // 'not an origin') ne 'not an origin'
		} @{ $log->{events} // [] };

		return { dom => $out, console => [ $err =~ /CONSOLE.*/g ], asked => \@asked, log => defined $log };
	};

	# It is not the page's own ban alone that keeps it from loading anything.
	my $free = $page =~ s/<meta http-equiv[^>]*>//r;
	my $control = $load->('control', $free =~ s{<footer>}{<img src="http://elsewhere.example/x.png"><footer>}r);
	skip 'chromium does not run here', 5 unless defined $control && $control->{log};
	cmp_ok(scalar(grep { /elsewhere/ } @{ $control->{asked} }), '>', 0, 'what a page loads is seen');
	my $seen = $load->('page', $page);
	is_deeply($seen->{console}, [], 'P9: the browser has nothing to say of the page');
	like($seen->{dom}, qr{<footer>.*</footer></main></body></html>}s, 'and has read it to its end');
	is_deeply($seen->{asked}, [], 'P9: nothing is loaded from elsewhere');
	is_deeply($load->('free', $free)->{asked}, [], 'P9: nor would it be, if it were allowed');
}

done_testing();
