# Another service tier has another price: where it is known, a request is booked at it, to the last digit, budgets
# reserve by it, and estimates are made with it. Where it is not, the row says that it is an estimate.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use PostgreSQL::Test::Utils;
use Test::More;

use LLMTest qw(!error_of);

my $provider = start_provider();
my $node = new_node('service_tiers', 'fsync = off', 'log_min_messages = warning');

setup_model($node, $provider);

sub error_of
{
	my ($stdout, $stderr);

	$node->psql('postgres', join("\n", @_), stdout => \$stdout, stderr => \$stderr);
	return $stderr;
}

my $number = 0;

# One call in a service tier; '' asks for none.
sub ask
{
	my ($tier) = @_;
	my $options = $tier eq '' ? '' : qq(, options => '{"service_tier": "$tier"}');

	$number++;
	return sql("SELECT llm_classify('text $number', '{bug,other}'$options)");
}

# Estimated, what is said, and whether the cost is that of these prices per million tokens, of the newest row.
sub last_row
{
	my ($input, $output) = @_;

	return sql("SELECT estimated, coalesce(error, '-'), cost = (input_tokens * $input + output_tokens * $output) / 1000000.0
		FROM llm.ledger ORDER BY id DESC LIMIT 1");
}

sub prices
{
	my ($tiers) = @_;

	return sql("SELECT llm.set_price('fast', 0.25, 2, cached_input_per_mtok => 0.025, tiers => '$tiers')");
}

# ---------------------------------------------------------------------------
# The ledger
# ---------------------------------------------------------------------------

ask('flex');
like(last_row('0.25', 2), qr/^t\|It was answered in service tier "flex", of which no price is known/,
	'a tier without a price is an estimate');
prices('[{"service_tier": "Flex", "input_per_mtok": 0.1, "output_per_mtok": 1},
	{"service_tier": "priority", "input_per_mtok": 0.5, "output_per_mtok": 4},
	{"service_tier": "priority", "above_tokens": 1000, "input_per_mtok": 0.9, "output_per_mtok": 5},
	{"above_tokens": 2000, "input_per_mtok": 0.3}]');
ask('flex');
is(last_row('0.1', 1), 'f|-|t', 'P3: with one it costs that, whatever the case of the word');
ask('priority');
is(last_row('0.5', 4), 'f|-|t', 'P3: so does a dearer one');
ask('');
is(last_row('0.25', 2), 'f|-|t', 'P3: the usual one keeps its price');
sql(q(SELECT llm_classify(repeat('a long text ', 500), '{bug,other}', options => '{"service_tier": "priority"}')));
is(last_row('0.9', 5), 'f|-|t', 'P3: long prompts have another one within the tier');
is(sql(q(SELECT sum(estimated_cost) > 0, sum(requests) FROM llm.bill(by => '{}'))), 't|5', 'the bill has them all');
sql(q(SELECT llm_classify(repeat('a longer text ', 1000), '{bug,other}', options => '{"service_tier": "flex"}')));
like(last_row('0.1', 1), qr/^t\|It was answered in service tier "flex", of which no price is known.*\|f$/,
	'P3: the price of short prompts in a tier is none of long ones, where only the usual price has one');
sql(q(
	CREATE TABLE t (id int PRIMARY KEY, body text, label jsonb);
	INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, 50) i));
sql(q(UPDATE t SET label = llm_classify(body, '{bug,other}', options => '{"service_tier": "flex"}')));
wait_idle($node);
is(sql(q(SELECT count(*), bool_or(estimated), bool_and(cost = (input_tokens * 0.1 + output_tokens) / 1000000)
	FROM llm.ledger WHERE relation = 'public.t')), '50|f|t', 'P3: rows of a statement, too');
is(sql('SELECT count(*), sum(input_tokens), sum(output_tokens) FROM llm.ledger'),
	join('|', $provider->meter->{requests}, @{ $provider->meter->{billed} }{qw(prompt_tokens completion_tokens)}),
	'P3: ledger and meter agree, to the token');

# ---------------------------------------------------------------------------
# Estimates
# ---------------------------------------------------------------------------

sub high
{
	my ($tier) = @_;

	return sql(qq(SELECT cost_high FROM llm.estimate(\$\$SELECT llm_classify(body, '{bug,third}',
		options => '{"service_tier": "$tier"}') FROM t\$\$)));
}

ok(high('flex') < 0.7 * high('default'), 'an estimate is made with the price of the tier');
ok(high('priority') > 1.5 * high('default'), 'also of a dearer one');
is(sql(q(SELECT max(cost_high) < 1.01 * min(cost_high)
	FROM (VALUES ('flex'), ('default')) v(tier), LATERAL llm.estimate(format(
		$$SELECT llm_classify(repeat('a longer text ', 1000) || body, '{bug,third}',
			options => '{"service_tier": "%s"}') FROM t$$, tier)))), 't',
	'a long prompt is estimated as it will be booked');

# ---------------------------------------------------------------------------
# Budgets
# ---------------------------------------------------------------------------

# What is under way when a budget is set is held to what it may cost in its tier.
sub held
{
	my ($tier) = @_;

	$provider->hold;
	sql(qq(UPDATE t SET label = llm_classify('under way', '{bug,other}', options => '{"service_tier": "$tier", "reuse": false}')
		WHERE id = 1));
	wait_claimed($node);
	sql('SELECT llm.set_budget(10)');
	$node->poll_query_until('postgres', 'SELECT sum(reserved) > 0 FROM llm.budget') or die 'nothing is reserved';
	my $reserved = sql('SELECT sum(reserved) FROM llm.budget');
	$provider->go_on;
	wait_idle($node);
	sql('SELECT llm.drop_budget(id) FROM llm.budget');
	return $reserved;
}

cmp_ok(held('priority'), '>', 1.9 * held('default'), 'P8: what is under way in a dearer tier is held at its price');
sql(q(SELECT llm.set_budget(10)));
ask('priority');
is(last_row('0.5', 4), 'f|-|t', 'P8: under a budget a dearer tier is asked for where its price is known');
is(sql(q(SELECT spent = (SELECT sum(cost) FROM llm.ledger), reserved FROM llm.budget)), 't|0',
	'P8: and spent is what it cost');
like(error_of(q(SELECT llm_classify('x', '{bug,other}', options => '{"service_tier": "scale"}'))),
	qr/budget: what service tier "scale" costs is not known.*tiers =>/, 'P8: where it is not, it is said how to tell it');

done_testing();
