# shellcheck shell=bash
#
# What bench/run measures of calls that are answered while a statement waits, of kept answers,
# and of sessions that have nothing to do with the extension.

# Requests at a time in this part, and sessions at a time beside a job.
IMMEDIATE_SLOTS=32
SESSIONS=32
PAIRS=${BENCH_PAIRS:-20}

part_immediate()
{
	make_database immediate
	query immediate -c 'ALTER DATABASE immediate SET llm_enrich.max_immediate_calls = 1000000' \
		-c 'ALTER DATABASE immediate SET llm_enrich.notices = off'
	warm_up immediate
	immediate_kept
	immediate_rate
	immediate_beside
	provide '{}'
	drop_database immediate
}

# A SELECT of all rows of "note": seconds.
ask_all()
{
	local figures

	figures=$(timed immediate "SELECT count(llm_classify(body, $LABELS)) FROM note${1:+ WHERE $1}") ||
		die 'a SELECT got no answer'
	calc %.3f "${figures%|*} / 1000"
}

# All answers are there: what is left is the way to the sender and back, and the ledger.
immediate_kept()
{
	local rows _

	rows=$(scaled 20000)
	for _ in $(seq "$RUNS"); do
		make_table immediate "$rows" 100
		note immediate_asked "$(calc %.0f "$rows / $(ask_all)")"
		note immediate_kept "$(calc %.0f "$rows / $(ask_all)")"
	done
	row immediate_asked 0 '' "a SELECT of $rows rows, no latency, 64 in flight: rows/s"
	row immediate_kept 0 '' 'the same when all answers are kept: rows/s'
}

# The same rows, asked by a SELECT and by an UPDATE, with as many in flight.
immediate_rate()
{
	local rows=1000 figures _

	query immediate -c "ALTER SERVER sim OPTIONS (SET max_concurrency '$IMMEDIATE_SLOTS')" \
		-c "ALTER DATABASE immediate SET llm_enrich.max_in_flight = $IMMEDIATE_SLOTS"
	provide '{"latency_ms": 50}'
	for _ in $(seq "$RUNS"); do
		make_table immediate "$rows" 100
		note immediate_50 "$(calc %.0f "$rows / $(ask_all)")"
		make_table immediate "$rows" 100
		figures=$(timed immediate "UPDATE note SET label = llm_classify(body, $LABELS); CALL llm.wait(timeout => '5 minutes')") ||
			die 'not every row got its answer'
		note deferred_50 "$(calc %.0f "1000 * $rows / ${figures%|*}")"
		note immediate_to_deferred "$(calc %.3f "$(last immediate_50) / $(last deferred_50)")"
	done
	row immediate_50 0 '' "a SELECT of $rows rows, 50 ms, $IMMEDIATE_SLOTS in flight: rows/s"
	row deferred_50 0 '' 'an UPDATE of the same rows, to its last cell: rows/s'
	row immediate_to_deferred 3 '≥ 0.9' 'ratio of the two'
}

# Sessions with 100 calls each at the same time; the median of their seconds.
sessions_of_100()
{
	local session pids=() times=$LLM_TMP/sessions

	rm -f "$times"
	for session in $(seq "$SESSIONS"); do
		echo "$(ask_all "id > $1 + ($session - 1) * 100 AND id <= $1 + $session * 100")" >>"$times" &
		pids+=($!)
	done
	wait "${pids[@]}" || die 'a session got no answer'
	sort -g "$times" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

# Sessions that ask, and a job of many rows, at one target; each alone and both together.
immediate_beside()
{
	local rows alone beside before after seconds _

	rows=$(scaled 100000)
	query immediate -c "ALTER SERVER sim OPTIONS (SET max_concurrency '$((2 * SESSIONS))')" \
		-c 'ALTER DATABASE immediate SET llm_enrich.max_in_flight = 64'
	for _ in $(seq "$RUNS"); do
		make_table immediate "$((rows + 3 * SESSIONS * 100))" 100
		alone=$(sessions_of_100 0)
		query immediate -c "UPDATE note SET label = llm_classify(body, $LABELS) WHERE id > 3 * $SESSIONS * 100" ||
			die 'the UPDATE failed'
		await immediate 'the job does not begin' 'SELECT count(*) > 1000 FROM llm.ledger WHERE job = (SELECT max(id) FROM llm.job)'
		before=$(job_rate 5)
		seconds=$(date +%s.%N)
		after=$(query immediate -c 'SELECT count(*) FROM llm.ledger WHERE job IS NOT NULL')
		beside=$(sessions_of_100 $((SESSIONS * 100)))
		seconds=$(calc %.3f "$(date +%s.%N) - $seconds")
		after=$(calc %.0f "($(query immediate -c 'SELECT count(*) FROM llm.ledger WHERE job IS NOT NULL') - $after) / $seconds")
		note sessions_alone "$alone"
		note sessions_beside "$beside"
		note sessions_ratio "$(calc %.2f "$beside / $alone")"
		note job_alone "$before"
		note job_beside "$after"
		note job_ratio "$(calc %.2f "$after / $before")"
		query immediate -c 'SELECT llm.cancel(job => (SELECT max(id) FROM llm.job))' >/dev/null
		await immediate 'the job does not end' 'SELECT NOT EXISTS (SELECT FROM llm.queue)'
	done
	row sessions_alone 2 '' "$SESSIONS sessions with 100 calls each, 50 ms, $((2 * SESSIONS)) in flight, median: s"
	row sessions_beside 2 '' "the same beside a job of $rows rows: s"
	row sessions_ratio 2 '≤ 2' 'ratio of the two'
	row job_alone 0 '' 'rate of that job alone: rows/s'
	row job_beside 0 '' 'rate of that job beside the sessions: rows/s'
	row job_ratio 2 '≥ 0.25' 'ratio of the two'
}

# Rows of jobs that are settled in a second, over so many.
job_rate()
{
	local before

	before=$(query immediate -c 'SELECT count(*) FROM llm.ledger WHERE job IS NOT NULL')
	sleep "$1"
	calc %.0f "($(query immediate -c 'SELECT count(*) FROM llm.ledger WHERE job IS NOT NULL') - $before) / $1"
}

# ---------------------------------------------------------------------------
# preload: sessions that use nothing of it
# ---------------------------------------------------------------------------

# Two servers, one of which does not preload the library; pgbench -S on each in turn, A B B A.
part_preload()
{
	local pair with=$LLM_TMP/cluster without=$LLM_TMP/without
	local with_port=$PGPORT

	(
		start_private_cluster "$without" "$LLM_ROOT/bench/postgresql.conf"
		"$LLM_BINDIR/pg_ctl" -D "$without/data" -w -t 60 -m fast stop >/dev/null
		printf "shared_preload_libraries = ''\n" >>"$without/data/postgresql.conf"
		sed -i '/^llm_enrich\./d' "$without/data/postgresql.conf"
		"$LLM_BINDIR/pg_ctl" -D "$without/data" -l "$without/server.log" -w -t 60 start >/dev/null </dev/null
		echo "$PGPORT" >"$LLM_TMP/without.port"
	) || die 'the second server did not start'
	on_exit "stop_private_cluster '$without'"
	preload_query "$with" "$with_port" -i -q -s 10
	preload_query "$without" "$(cat "$LLM_TMP/without.port")" -i -q -s 10
	# what has made the tables is still counted, and caches are cold
	preload_once "$with" "$with_port" >/dev/null
	preload_once "$without" "$(cat "$LLM_TMP/without.port")" >/dev/null
	for pair in $(seq "$PAIRS"); do
		preload_pair "$pair" "$with" "$with_port" "$without" "$(cat "$LLM_TMP/without.port")"
	done
	row preload_without 2 '' 'pgbench -S, one client, without the library: µs of processor time a transaction'
	row preload_with 2 '' 'the same with it'
	row preload_ratio 3 '≤ 1.02' "ratio of the two, $PAIRS pairs in turn"
	awk '{ s += $1; q += $1 * $1 } END { m = s / NR; d = sqrt((q / NR - m * m) / (NR > 1 ? NR - 1 : 1)); printf "mean of these %.4f, 95 of 100: %.4f to %.4f\n", m, m - 1.96 * d, m + 1.96 * d }' \
		"$LLM_TMP/samples/preload_ratio" >"$LLM_TMP/preload.words"
	remark "$(cat "$LLM_TMP/preload.words")"
	stop_private_cluster "$without"
}

preload_query()
{
	local dir=$1 port=$2

	shift 2
	PGHOST=$dir PGPORT=$port "$LLM_BINDIR/pgbench" "$@" postgres >"$LLM_TMP/pgbench.log" 2>&1 || die 'pgbench failed'
}

# Microseconds of processor time of the whole server for a transaction, of one run of pgbench.
preload_once()
{
	local dir=$1 port=$2 before after

	before=$(server_cpu "$dir")
	preload_query "$dir" "$port" -S -n -M prepared -T 2
	sleep 0.2 # the postmaster learns that the backend has ended
	after=$(server_cpu "$dir")
	awk -v cpu="$(calc %.3f "$after - $before")" '/number of transactions actually processed/ { printf "%.3f", 1e6 * cpu / $NF }' "$LLM_TMP/pgbench.log"
}

# Seconds of processor time of a server's children that have ended: backends are among them.
server_cpu()
{
	awk -v hz="$(getconf CLK_TCK)" '{ print ($16 + $17) / hz }' "/proc/$(head -n 1 "$1/data/postmaster.pid")/stat"
}

preload_pair()
{
	local with without

	if [ $(($1 % 2)) = 0 ]; then
		with=$(preload_once "$2" "$3")
		without=$(preload_once "$4" "$5")
	else
		without=$(preload_once "$4" "$5")
		with=$(preload_once "$2" "$3")
	fi
	note preload_with "$with"
	note preload_without "$without"
	note preload_ratio "$(calc %.4f "$with / $without")"
}
