# Nobody is held up for want of a look at a job that is older than a thousand others (P6).

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use LLMTest;

my $node = new_node('shares');
my $provider = start_provider('--key', 'right');

sub make_target
{
	my ($name, $script, %options) = @_;

	$provider->script($script, $name);
	setup_model($node, $provider, server => $name, lane => $name, alias => $name, model => "sim-$name",
		is_default => 0, options => \%options);
	sql("CREATE USER MAPPING FOR PUBLIC SERVER $name OPTIONS (api_key 'right');
		CREATE TABLE $name (id int PRIMARY KEY, body text, label jsonb)");
	return;
}

# ---------------------------------------------------------------------------
# An old job that gets a task is found at once
# ---------------------------------------------------------------------------

make_target('single', {});
make_target('long', { hang => 1 });
my $ask = sub { return "llm_classify(body, '{billing,bug}', model => '$_[0]')" };
my $insert = sub {
	return "INSERT INTO single VALUES ($_[0], 'billing', llm_classify('billing', '{billing,bug}', model => 'single'))";
};
sql($insert->(1));
wait_until("(SELECT label ? 'label' FROM single WHERE id = 1)", 'the first one of the day is done');
sql("INSERT INTO long SELECT i, 'billing' FROM generate_series(1, 100) i");
# As if so many jobs had been made meanwhile.
sql("SELECT setval(pg_get_serial_sequence('llm.job', 'id'), 5000)");
my $long = sql("UPDATE long SET label = " . $ask->('long') . "; SELECT llm.last_job()");
cmp_ok($long, '>', 5000, 'a job that runs is newer by far');
wait_until("EXISTS (SELECT FROM llm.queue WHERE job = $long AND state = 'claimed')", 'it runs');
my $start = time;
sql($insert->(2));
wait_until("(SELECT label ? 'label' FROM single WHERE id = 2)", 'the single row is done');
cmp_ok(time - $start, '<', 30, "P6: a row that joins the day's job does not wait for the next sweep");

$node->stop('fast');
done_testing();
