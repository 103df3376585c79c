# Hosts of one form that differ in what they take, how they answer and what their errors mean: the
# host is spoken to as it can be, an answer that is there is not lost, and what an input causes is not
# held against the target, nor the other way round (P1, P3, P6, P10). The table below is quirk, what is
# right, and what was seen is compared with it; test/hosts/hosts plays the quirks.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;

use HTTP::Tiny;
use JSON::PP qw(decode_json);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

use LLMTest;

plan skip_all => 'python3 is not installed' unless -x '/usr/bin/python3';

my $node = new_node('hosts');
my $file = PostgreSQL::Test::Utils::tempdir() . '/hosts.port';

pipe(my $reader, my $writer) or die "could not make a pipe: $!";
my $pid = fork() // die "could not fork: $!";
if ($pid == 0)
{
	open(STDIN, '<&', $reader) or POSIX::_exit(1);
	close $writer;
	exec '/usr/bin/python3', "$FindBin::RealBin/../hosts/hosts", $file or POSIX::_exit(1);
}
close $reader;
for (1 .. 9000)
{
	last if -s $file;
	sleep 0.02;
}
chomp(my $port = PostgreSQL::Test::Utils::slurp_file($file));

sub ask { return decode_json('[' . HTTP::Tiny->new->get("http://127.0.0.1:$port/$_[0]")->{content} . ']')->[0]; }

sql(q(CREATE TABLE q (id bigserial PRIMARY KEY, quirk text, body text, label jsonb, words jsonb)));

# A server and a model for a quirk; options of the server.
sub meet
{
	my ($quirk, $options) = @_;

	sql(qq(CREATE SERVER "$quirk" FOREIGN DATA WRAPPER llm_enrich OPTIONS (dialect 'openai', base_url 'http://127.0.0.1:$port/$quirk/v1', timeout '60s')),
		qq(; SELECT llm.add_model('$quirk', server => '$quirk', model => '$quirk', input_per_mtok => 1, cached_input_per_mtok => 0.5, output_per_mtok => 2)));
	return;
}

sub insert
{
	my ($quirk, $n, $call) = @_;
	my $column = $call =~ /complete/ ? 'words' : 'label';

	sql(qq(INSERT INTO q (quirk, body, $column) SELECT '$quirk', b, $call FROM (SELECT 'the bill no. ' || g AS b FROM generate_series(1, $n) g) s));
	return;
}

# What has become of a quirk's rows: "done", "failed REASON" or "waits: WHY", each with its number.
sub seen
{
	my ($quirk) = @_;

	return sql(qq(
		SELECT string_agg(what || ' ' || n, ', ' ORDER BY what) FROM (
			SELECT what, count(*) AS n FROM (
				SELECT 'failed ' || d.reason AS what FROM llm.dead_letter d JOIN llm.job j ON j.id = d.job WHERE j.model = '$quirk'
				UNION ALL SELECT 'waits' FROM llm.queue t JOIN llm.job j ON j.id = t.job WHERE j.model = '$quirk'
				UNION ALL SELECT 'done' FROM q WHERE quirk = '$quirk' AND (label ? 'label' OR words ? 'text')
			) w GROUP BY 1) s));
}

# Tokens of the last request that was answered, and whether they were told.
sub tokens
{
	my ($quirk) = @_;

	return sql(qq(SELECT concat_ws(' ', input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, CASE WHEN estimated THEN 'estimated' END)
		FROM llm.ledger WHERE server = '$quirk' ORDER BY id DESC LIMIT 1));
}

my $classify = q(llm_classify(b, '{bug,billing}', model => '%s'));
my $capped = q(llm_classify(b, '{bug,billing}', model => '%s', options => '{"max_tokens": 50}'));
my $complete = q(llm_complete(b, model => '%s'));

# quirk, call, what is right; requests for two rows where it is certain; tokens where it is about them
# Before 8.6 libcurl reports a header that is too large as want of memory.
my ($major, $minor) = `curl --version` =~ m{libcurl/(\d+)\.(\d+)};
my $says_too_large = $major > 8 || ($major == 8 && $minor >= 6);

my @table = (
	['plain', $classify, 'done 2', 2, '100 0 0 10 0'],
	['parts', $classify, 'done 2', 2],
	['parts_thinking', $classify, 'done 2', 2],
	['think', $classify, 'done 2', 2],
	['think', $complete, 'done 2', undef, undef, 'text'],
	['think_caps', $classify, 'done 2', 2],
	['think_open', $complete, 'failed truncated 2', 2],
	['bom', $classify, 'done 2', 2],
	['bom_content', $classify, 'done 2', 2],
	['fence', $classify, 'done 2', 2],
	['prose', $classify, 'done 2', 2],
	['prose_two', $classify, 'failed invalid_output 2', 6],
	['gzip', $classify, 'done 2', 2],
	['latin1', $classify, 'done 2', 2],
	['comments', $classify, 'done 2', 2],
	['stream', $classify, 'waits 2', 1, undef, 'cannot be used'],
	['nul', $classify, 'failed invalid_output 2', 6],
	['blank', $classify, 'done 2', 3],
	['reasoning_beside', $classify, 'done 2', 2, '100 0 0 50 40'],
	(map { [$_, $classify, 'done 2', 2] } qw(newlines_behind alive_then_answer hints_first old_http closes)),
	(map { [$_, $classify, 'done 2', 3] } qw(alive_then_nothing half_a_body)),
	['no_choices', $classify, 'failed invalid_output 2', 6],
	['refusal', $classify, 'failed refused 2', 2],
	['endless_trailers', $classify, 'failed too_large 2', 6],
	['large_head', $classify, 'failed too_large 2', $says_too_large ? 2 : 6],
	['large_head_503', $classify, 'done 2', 3],

	(map { ["end_$_", $complete, 'done 2', 2] } qw(eos END_TURN Stop null)),
	(map { ["end_$_", $complete, 'failed truncated 2', 2] } qw(max_tokens MAX_TOKENS length model_length)),
	(map { ["end_$_", $complete, 'failed refused 2', 2] } qw(content_filter SAFETY RECITATION content_filter_PROHIBITED_CONTENT)),
	['filter_without_content', $complete, 'failed refused 2', 2],
	['limit_without_content', $complete, 'failed truncated 2', 2],
	(map { ["end_$_", $complete, 'failed invalid_output 2', 6] } qw(error novel)),
	(map { ["end_$_", $complete, 'waits 2'] } qw(insufficient_system_resource abort)),

	['usage_top_cached', $classify, 'done 2', 2, '36 64 0 10 0'],
	['usage_hits', $classify, 'done 2', 2, '36 64 0 10 0'],
	['usage_creation', $classify, 'done 2', 2, '50 20 30 10 0'],
	['usage_reasoning_beside', $classify, 'done 2', 2, '100 0 0 210 200'],
	['usage_total', $classify, 'done 2', 2, '100 0 0 210 0'],
	['usage_responses', $classify, 'done 2', 2, '60 40 0 10 0'],
	['usage_all_classes', $classify, 'done 2', 2, '36 64 0 210 200'],
	['usage_write', $classify, 'done 2', 2, '70 0 30 10 0'],
	['usage_less_in_all', $classify, 'done 2', 2, '100 0 0 10 0'],
	['usage_null', $classify, 'done 2', 2, qr/^[1-9]\d* 0 0 1\d 0 estimated$/],
	['usage_none', $classify, 'done 2', 2, qr/^[1-9]\d* 0 0 1\d 0 estimated$/],
	['usage_none_long', $complete, 'done 2', 2, qr/^\d+ 0 0 5\d\d\d 0 estimated$/],

	['no_schema', $classify, 'done 2', 3],
	['no_form', $classify, 'done 2', 4],
	['no_form_param', $classify, 'done 2', 4],
	['old_cap', $capped, 'done 2', 3],
	['old_cap_flat', $capped, 'done 2', 3],
	['no_system', $classify, 'done 2', 3],
	['nothing_but_text', $capped, 'done 2', 6],
	['bad_schema', $classify, 'failed rejected 2', 2],
	['cap_too_large', $capped, 'failed rejected 2', 2],
	['other_400', $capped, 'failed rejected 2', 2],

	['validate_failed', $classify, 'done 2', 4],
	['key_in_words', $classify, 'waits 2', 1, undef, 'refuses the key'],
	['key_reason', $classify, 'waits 2', 1, undef, 'refuses the key'],
	['key_string', $classify, 'waits 2', 1, undef, 'refuses the key'],
	['key_401_generic', $classify, 'waits 2', 1, undef, 'refuses the key'],
	['key_403', $classify, 'waits 2', 1, undef, 'refuses the key'],
	(map { [$_, $classify, 'waits 2', 1, undef, 'refuses the key'] } qw(key_detail key_number key_unknown_type)),
	(map { [$_, $classify, 'waits 2', 1, undef, 'does not know the model'] }
	  qw(model_gone model_no_id model_to_pull model_in_list model_no_access model_not_loaded)),
	(map { [$_, $classify, 'waits 2', 1, undef, 'spending limit'] } qw(balance_402 afford_402)),
	(map { [$_, $classify, 'failed too_long 2', 2] } qw(too_long_code too_long_tokens too_long_maximum)),
	['quota_for_now', $classify, 'done 2', 3],
	['model_capital', $classify, 'waits 2', 1, undef, 'does not know the model'],
	['model_type', $classify, 'waits 2', 1, undef, 'does not know the model'],
	['model_words', $classify, 'waits 2', 1, undef, 'does not know the model'],
	['address_404', $classify, 'waits 2', 1, undef, 'cannot be used'],
	['budget', $classify, 'waits 2', 1, undef, 'spending limit'],
	['credits_403', $classify, 'waits 2', 1, undef, 'spending limit'],
	['too_long', $classify, 'failed too_long 2', 2],
	['object_error', $classify, 'done 2', 4],
	(map { [$_, $classify, 'done 2', 4] } qw(error_200_502 error_200_429)),
	(map { [$_, $classify, 'done 2', 3] } qw(loading loading_bare)),
	['always_520', $classify, 'waits 2'],
	['always_429', $classify, 'waits 2', 1, undef, 'cooling down'],
	['moved_308', $classify, 'waits 2', 1, undef, 'redirect'],
	['generic_429', $classify, 'done 2', 3],
	['generic_503', $classify, 'done 2', 3],

	['wait_words', $classify, 'done 2', 3],
	['wait_date', $classify, 'done 2', 3],
	['wait_reset', $classify, 'done 2', 3],
	['wait_epoch', $classify, 'done 2', 2],
	['wait_bare_reset', $classify, 'done 2', 3],
	(map { [$_, $classify, 'done 2', 2] } qw(limits_of_zero limits_below_zero limits_far_reset)),
);

# All at once: one host holds up no other.
my %met;
my %asked_at;
my $count = 0;
my %number;
foreach my $row (@table)
{
	my ($quirk, $call) = @$row;

	meet($quirk) unless $met{$quirk}++;
	next if $met{$quirk} > 1;
	insert($quirk, 2, sprintf($call, $quirk));
	$asked_at{$quirk} = time;
}
foreach my $row (@table)
{
	my ($quirk, $call, $right, $requests, $tokens, $why) = @$row;
	my $end = time + 180;
	my $got;

	next if defined $why && $why eq 'text';
	while (time < $end)
	{
		$got = seen($quirk);
		last if $got eq $right && (!defined $requests || ask("count/$quirk") >= $requests);
		sleep 0.1;
	}
	is($got, $right, "$quirk: $right");
	if (defined $requests)
	{
		my $seen = ask("count/$quirk");

		# what is paused is tried once a minute
		$requests++ while $seen > $requests && $right =~ /^waits/ && time - $asked_at{$quirk} > 55 * $requests;
		$requests++ if $seen > $requests && requests_at_once($node, $quirk) > 1;
		is($seen, $requests, "$quirk: requests");
	}
	if (ref $tokens) { like(tokens($quirk), $tokens, "$quirk: tokens"); }
	elsif (defined $tokens) { is(tokens($quirk), $tokens, "$quirk: tokens"); }
	next unless defined $why;
	like(sql("SELECT why FROM llm.progress WHERE model = '$quirk' LIMIT 1"), qr/$why/, "$quirk: why");
}

# What a model thinks aloud is no part of a text, either.
insert('think', 1, sprintf($complete, 'think'));
ok( $node->poll_query_until(
		'postgres', q(SELECT words ->> 'text' = 'a plain answer' FROM q WHERE words IS NOT NULL AND quirk = 'think')),
	'thoughts are not stored');

# ---------------------------------------------------------------------------
# P3, P6: what a host does not take costs one request, whatever the number of rows, and is remembered
# ---------------------------------------------------------------------------

sql(q(DELETE FROM llm.habit; UPDATE llm.model SET options = NULL));
HTTP::Tiny->new->get("http://127.0.0.1:$port/reset/all");
insert('no_schema', 100, sprintf($classify, 'no_schema'));
$node->poll_query_until('postgres', q(SELECT NOT EXISTS (SELECT FROM llm.queue t JOIN llm.job j ON j.id = t.job WHERE j.model = 'no_schema')));
is(seen('no_schema'), 'done 102', 'a hundred rows at a host without schemas');
my $schemas = requests_at_once($node, 'no_schema');
cmp_ok(ask('count/no_schema'), '<=', 100 + $schemas, 'by 101 requests');
is(sql(q(SELECT name, value FROM llm.habit WHERE server = 'no_schema')), 'answer_form|json_object', 'remembered');
like(sql(q(SELECT state, hint FROM llm.health WHERE kind = 'habit' AND subject ~ 'no_schema')),
	qr/answer_form is json_object\|.*response_format type is unavailable/, 'and shown');
my $counted = ask('count/no_schema');
$node->restart;
insert('no_schema', 100, sprintf($classify, 'no_schema'));
$node->poll_query_until('postgres', q(SELECT NOT EXISTS (SELECT FROM llm.queue t JOIN llm.job j ON j.id = t.job WHERE j.model = 'no_schema')));
is(ask('count/no_schema'), $counted + 100, 'after a restart a hundred more by a hundred');
my ($outcome, $times) = split /\|/,
	sql(q(SELECT outcome, count(*) FROM llm.ledger WHERE server = 'no_schema' AND outcome <> 'ok' GROUP BY 1));
is($outcome, 'error', 'on the ledger, for nothing');
cmp_ok($times, '<=', 2 * $schemas, 'once each time that it was not known');
sql(q(SELECT llm.alter_model('no_schema', options => '{"answer_form": "json_schema"}')));
is(sql(q(SELECT count(*) FROM llm.habit WHERE server = 'no_schema')), '0', 'options of the model make it try again');

# ---------------------------------------------------------------------------
# P6: a row's own words, repeated in an error, decide nothing for others
# ---------------------------------------------------------------------------

meet('echo');
sql(q(INSERT INTO q (quirk, body, label) SELECT 'echo', b, llm_classify(b, '{bug,billing}', model => 'echo')
	FROM unnest(ARRAY['one', 'I was told of insufficient credits, try again in 23h', 'two', 'three']) b));
$node->poll_query_until('postgres', q(SELECT NOT EXISTS (SELECT FROM llm.queue t JOIN llm.job j ON j.id = t.job WHERE j.model = 'echo')));
is(seen('echo'), 'done 3, failed rejected 1', 'it alone is rejected');

close $writer;
waitpid $pid, 0;
done_testing();
