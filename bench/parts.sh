# shellcheck shell=bash
#
# What bench/run measures: one function for each part, and what they share.
#
# Times are taken by the server's clock in the session that does the work. "Visible"
# means that another session can read it: llm.wait() returns, or a SELECT sees it.

LABELS="'{billing,bug,feature,other}'"

# What inputs are made of.
WORDS='the a an is was my our it and or not for with from order invoice card payment refund error screen button page login
password account email address delivery parcel late broken missing twice again please help thanks today yesterday week
month price plan app phone update crash slow'
WORDS=${WORDS//$'\n'/ }

# Requests at a time to the one provider.
SLOTS=256

BACKLOG=${BENCH_BACKLOG:-500000}
SNAPSHOT=${BENCH_SNAPSHOT:-500000}

# ---------------------------------------------------------------------------
# Databases, tables, statements
# ---------------------------------------------------------------------------

# psql on a database of the private server, bare output
query()
{
	psql_demo -At -d "$@"
}

# A database with a model and with 997 texts of 2,000 bytes; the same every time.
make_database()
{
	local word_count

	word_count=$(wc -w <<<"$WORDS")
	query postgres -c "CREATE DATABASE $1"
	query "$1" >/dev/null <<-SQL || die "database $1 could not be made"
		CREATE EXTENSION llm_enrich;
		CREATE SERVER sim FOREIGN DATA WRAPPER llm_enrich
			OPTIONS (dialect 'openai', base_url '$LLM_PROVIDER_URL/v1', max_concurrency '$SLOTS');
		SELECT setseed(0.5);
		CREATE TABLE pool AS SELECT n, (
			SELECT string_agg((string_to_array('$WORDS', ' '))[1 + floor(random() * $word_count)], ' ')
			FROM generate_series(1, 500) WHERE n IS NOT NULL) AS body
		FROM generate_series(0, 996) n;
		-- or the rows of a table made of it would be in this order or that
		ANALYZE pool;
		SELECT llm.add_model('fast', server => 'sim', model => 'sim-1', is_default => true,
			input_per_mtok => 0.25, output_per_mtok => 2.00);
	SQL
}

drop_database()
{
	query postgres -c "DROP DATABASE $1"
}

# Ask a query that says t or f until it says t: await DATABASE WORDS QUERY
await()
{
	local tick

	for tick in $(seq 1200); do
		[ "$(query "$1" -c "$3")" != t ] || return 0
		[ "$tick" -lt 1200 ] || die "waited for two minutes: $2"
		sleep 0.1
	done
}

# Tasks of a model without a server wait. The reload makes the sender look at once.
start_sending()
{
	query "$1" -c "UPDATE llm.model SET server = 'sim'" -c 'SELECT pg_reload_conf()' >/dev/null
}

# Returns when all requests that were under way have been settled and written.
stop_sending()
{
	query "$1" -c "UPDATE llm.model SET server = 'none'"
	await "$1" 'requests under way do not end' "SELECT NOT EXISTS (SELECT FROM llm.queue WHERE state = 'claimed')
		AND NOT EXISTS (SELECT FROM llm.queue WHERE state IN ('answered', 'failed', 'cancelled', 'superseded'))"
}

# Queue all rows of the table "note", none of which is sent yet. Autovacuum would ANALYZE
# sooner or later; plans must be good with statistics and without.
queue_only()
{
	query "$1" >/dev/null <<-SQL || die 'the UPDATE failed'
		BEGIN;
		UPDATE llm.model SET server = 'sim';
		UPDATE note SET label = llm_classify(body, $LABELS);
		UPDATE llm.model SET server = 'none';
		COMMIT;
		ANALYZE llm.queue;
	SQL
}

# make_table DATABASE ROWS BYTES: a fresh table "note". The checkpoint before it lets every run
# begin alike and write to WAL files that are there already; the table's pages come after it,
# so that none of them is written to WAL in full. No answer is kept from the run before.
make_table()
{
	query "$1" <<-SQL || die 'a table could not be made'
		SET client_min_messages = warning;
		DROP TABLE IF EXISTS note;
		TRUNCATE llm.answer;
		CHECKPOINT;
		CREATE TABLE note (id bigint PRIMARY KEY, body text NOT NULL, label jsonb);
		INSERT INTO note SELECT i, left(i || ' ' || p.body, $3)
			FROM generate_series(1, $2) i JOIN pool p ON p.n = i % 997;
		VACUUM (ANALYZE) note;
	SQL
}

# Print milliseconds and bytes of WAL that a statement took, its commit included.
timed()
(
	set -o pipefail
	query "$1" <<-SQL | tail -n 1
		SELECT extract(epoch FROM clock_timestamp()) AS began, pg_current_wal_insert_lsn() AS lsn \gset
		$2;
		SELECT round(1000 * (extract(epoch FROM clock_timestamp()) - :began), 3), pg_current_wal_insert_lsn() - :'lsn';
	SQL
)

# How the provider behaves from now on.
provide()
{
	curl -sf -X POST -d "$1" "$LLM_PROVIDER_URL/script" >/dev/null || die 'the simulated provider does not answer'
}

# ---------------------------------------------------------------------------
# Processes
# ---------------------------------------------------------------------------

worker_pid()
{
	query postgres -c "SELECT pid FROM pg_stat_activity WHERE datname = '$1' AND backend_type = 'llm_enrich $2'"
}

# Seconds of processor time that a process has used
cpu_seconds()
{
	awk -v hz="$(getconf CLK_TCK)" '{ print ($14 + $15) / hz }' "/proc/$1/stat"
}

# A line of /proc/PID/status in kB: memory KEY PID
memory()
{
	local key value rest

	while read -r key value rest; do
		[ "$key" != "$1:" ] || echo "$value"
	done <"/proc/$2/status" 2>/dev/null
}

# ---------------------------------------------------------------------------
# enqueue: what deferring adds to an UPDATE
# ---------------------------------------------------------------------------

MARKER="'{\"llm_enrich\": {\"task\": 4200000, \"status\": \"pending\"}}'"

part_enqueue()
{
	local rows bytes _

	rows=$(scaled 100000)
	make_database enqueue
	query postgres -c 'ALTER SYSTEM SET llm_enrich.enabled = off' -c 'SELECT pg_reload_conf()' >/dev/null
	for bytes in 100 2000; do
		for _ in $(seq "$RUNS"); do
			enqueue_once "$rows" "$bytes" plain "UPDATE note SET label = $MARKER"
			enqueue_once "$rows" "$bytes" deferred "UPDATE note SET label = llm_classify(body, $LABELS)"
			note "enqueue_ratio_$bytes" \
				"$(calc %.3f "$(last "enqueue_deferred_$bytes") / $(last "enqueue_plain_$bytes")")"
			enqueue_once "$rows" "$bytes" copied "BEGIN; UPDATE note SET label = $MARKER;
				INSERT INTO copy SELECT id, body FROM note; COMMIT"
			if [ "$bytes" = 100 ]; then
				enqueue_once "$rows" "$bytes" text "UPDATE note SET kind = 'billing'"
				enqueue_once "$rows" "$bytes" quiet "UPDATE note SET kind = llm_classify(body, $LABELS)->>'label'"
				note enqueue_quiet_ratio "$(calc %.3f "$(last enqueue_quiet_100) / $(last enqueue_text_100)")"
			fi
			note "enqueue_to_copy_$bytes" \
				"$(calc %.3f "$(last "enqueue_deferred_$bytes") / $(last "enqueue_copied_$bytes")")"
		done
		row "enqueue_plain_$bytes" 2 '' "UPDATE of $rows rows with a constant, $bytes-byte inputs: µs a row"
		row "enqueue_deferred_$bytes" 2 '' "the same with a deferred call: µs a row"
		row "enqueue_ratio_$bytes" 2 "$([ "$bytes" = 100 ] && echo '≤ 2.5')" 'ratio of the two'
		if [ "$bytes" = 100 ]; then
			row enqueue_text_100 2 '' 'UPDATE of a text column with a constant: µs a row'
			row enqueue_quiet_100 2 '' 'the same with a deferred call, in a quiet cell: µs a row'
			row enqueue_quiet_ratio 2 '≤ 3.0' 'ratio of the two'
		fi
		row "enqueue_copied_$bytes" 2 '' "plain UPDATE, and INSERT of every id and input into another table: µs a row"
		row "enqueue_to_copy_$bytes" 2 '' 'ratio of the deferred UPDATE to these two'
		row "enqueue_plain_wal_$bytes" 0 '' 'WAL of the plain UPDATE: bytes a row'
		row "enqueue_deferred_wal_$bytes" 0 '' 'WAL of the deferred UPDATE: bytes a row'
		row "enqueue_copied_wal_$bytes" 0 '' 'WAL of the plain UPDATE and the copy: bytes a row'
	done
	enqueue_memory plain "UPDATE note SET label = $MARKER"
	enqueue_memory deferred "UPDATE note SET label = llm_classify(body, $LABELS)"
	query postgres -c 'ALTER SYSTEM RESET llm_enrich.enabled' -c 'SELECT pg_reload_conf()' >/dev/null
	drop_database enqueue
}

# Fresh tables, and a fresh queue.
enqueue_once()
{
	local rows=$1 bytes=$2 kind=$3 statement=$4 figures

	make_table enqueue "$rows" "$bytes"
	query enqueue -c 'SET client_min_messages = warning' -c 'DROP TABLE IF EXISTS copy' \
		-c 'CREATE TABLE copy (id bigint PRIMARY KEY, body text NOT NULL)' -c 'ALTER TABLE note ADD COLUMN kind text'
	figures=$(timed enqueue "$statement") || die 'the UPDATE failed'
	note "enqueue_${kind}_$bytes" "$(calc %.3f "1000 * ${figures%|*} / $rows")"
	note "enqueue_${kind}_wal_$bytes" "$(calc %.0f "${figures#*|} / $rows")"
	query enqueue -c 'TRUNCATE llm.queue, llm.job'
}

# The backend's own memory at its peak, looked at 50 times a second.
enqueue_memory()
{
	local kind=$1 statement=$2 rows file=$LLM_TMP/backend.pid client backend='' now peak=0

	rows=$(scaled 1000000)
	make_table enqueue "$rows" 100
	rm -f "$file"
	query enqueue -o "$file.new" -c 'SELECT pg_backend_pid()' -c "\\! mv $file.new $file" -c "$statement" &
	client=$!
	while kill -0 "$client" 2>/dev/null; do
		[ -n "$backend" ] || backend=$(cat "$file" 2>/dev/null)
		now=$([ -z "$backend" ] || memory RssAnon "$backend")
		[ "${now:-0}" -le "$peak" ] || peak=$now
		sleep 0.02
	done
	wait "$client" || die 'the UPDATE failed'
	note "enqueue_memory_$kind" "$(calc %.1f "$peak / 1024")"
	row "enqueue_memory_$kind" 0 '' "private memory of the backend at its peak, $rows rows, $kind: MB"
	query enqueue -c 'TRUNCATE llm.queue, llm.job'
}

# ---------------------------------------------------------------------------
# e2e: from COMMIT to the last cell, a provider that answers at once
# ---------------------------------------------------------------------------

SCRIPT_MISSING=

part_e2e()
{
	local rows few many _

	rows=$(scaled 40000)
	few=$(scaled 8000)
	many=$(scaled 100000)
	make_database e2e
	warm_up e2e
	install_script
	for _ in $(seq "$RUNS"); do
		enrich e2e "$rows" e2e
		bare_loop fields "$many" e2e_fields
		bare_loop read "$many" e2e_read
		run_script "$few"
		note e2e_to_bare "$(calc %.3f "$(last e2e_rate) / $(last e2e_fields)")"
		[ -n "$SCRIPT_MISSING" ] || note e2e_to_script "$(calc %.2f "$(last e2e_rate) / $(last e2e_script)")"
	done
	row e2e_rate 0 '' "end to end, no latency, $rows rows: rows/s"
	row e2e_fields 0 '' 'bare libcurl loop, body given whole: requests/s'
	row e2e_read 0 '' 'bare libcurl loop, body by callback: requests/s'
	row e2e_script 0 '' "the usual script, 64 in flight, $few rows: rows/s"
	[ -z "$SCRIPT_MISSING" ] || remark "the usual script: not measured, $SCRIPT_MISSING"
	row e2e_to_bare 3 '≥ 0.30' 'end to end to the bare loop (body given whole)'
	row e2e_to_script 1 '≥ 8' 'end to end to the script'
	row e2e_sender_cpu 1 '' 'processor time of the sender: µs a row'
	row e2e_writer_cpu 1 '' 'processor time of the writer: µs a row'
	row e2e_wal 0 '' 'WAL from COMMIT to the last cell: bytes a row'
	row e2e_sender_private 1 '≤ 64' 'memory of the sender, private: MB'
	row e2e_sender_resident 1 '' 'memory of the sender, with what it touched of the shared buffers: MB'
	row e2e_writer_private 1 '' 'memory of the writer, private: MB'
	row e2e_writer_resident 1 '' 'memory of the writer, with what it touched of the shared buffers: MB'
	drop_database e2e
}

# Get the workers up, and a request body to use elsewhere.
warm_up()
{
	make_table "$1" 512 100
	query "$1" -c "UPDATE note SET label = llm_classify(body, $LABELS)" -c "CALL llm.wait(timeout => '1 minute')" ||
		die 'the first rows got no answer'
	curl -sf "$LLM_PROVIDER_URL/meter/last-body" >"$LLM_TMP/request.json" || die 'the simulated provider does not answer'
}

# enrich DATABASE ROWS NAME: one run, all its figures
enrich()
{
	local database=$1 rows=$2 name=$3 sender writer sender_cpu writer_cpu figures worker

	make_table "$database" "$rows" 100
	# one more row: they may have gone to sleep
	query "$database" -c "UPDATE note SET label = llm_classify(body, $LABELS) WHERE id = 1" \
		-c "CALL llm.wait(timeout => '1 minute')" || die 'a row got no answer'
	sender=$(worker_pid "$database" sender)
	writer=$(worker_pid "$database" writer)
	sender_cpu=$(cpu_seconds "$sender")
	writer_cpu=$(cpu_seconds "$writer")
	figures=$(query "$database" -c "UPDATE note SET label = llm_classify(body, $LABELS) WHERE id > 1" -f - <<-SQL
		SELECT extract(epoch FROM clock_timestamp()) AS began, pg_current_wal_insert_lsn() AS lsn \gset
		CALL llm.wait(timeout => '10 minutes');
		SELECT extract(epoch FROM clock_timestamp()) - :began, pg_current_wal_insert_lsn() - :'lsn';
	SQL
	) || die 'not every row got its answer'
	[ "$(query "$database" -c "SELECT count(*) FROM note WHERE label ? 'label' AND NOT label ? 'llm_enrich'")" = "$rows" ] ||
		die 'not every row got its answer'
	rows=$((rows - 1))
	note "${name}_rate" "$(calc %.1f "$rows / ${figures%|*}")"
	note "${name}_wal" "$(calc %.0f "${figures#*|} / $rows")"
	note "${name}_sender_cpu" "$(calc %.2f "1e6 * ($(cpu_seconds "$sender") - $sender_cpu) / $rows")"
	note "${name}_writer_cpu" "$(calc %.2f "1e6 * ($(cpu_seconds "$writer") - $writer_cpu) / $rows")"
	for worker in sender writer; do
		note "${name}_${worker}_private" "$(calc %.1f "$(memory RssAnon "${!worker}") / 1024")"
		note "${name}_${worker}_resident" "$(calc %.1f "$(memory VmRSS "${!worker}") / 1024")"
	done
}

# bare_loop MODE REQUESTS NAME
bare_loop()
{
	local mode rate rest

	read -r mode rate rest < <("$LLM_ROOT/bench/limit" "$LLM_PROVIDER_URL/v1/chat/completions" \
		"$LLM_TMP/request.json" "$2" "$SLOTS" "$1")
	[ "$rest" = 'requests/s, 0 not 200, 0 failed' ] || die "the bare loop ($mode): $rest"
	note "$3" "$rate"
}

# The packages of the script, with what they need, in a folder that goes with us.
install_script()
{
	SCRIPT_MISSING=
	if [ "${BENCH_SCRIPT:-1}" = 0 ]; then
		SCRIPT_MISSING='left out on request'
	elif ! command -v node >/dev/null || ! command -v npm >/dev/null; then
		SCRIPT_MISSING='node or npm is missing here'
	else
		mkdir -p "$LLM_TMP/script"
		cp "$LLM_ROOT/bench/package.json" "$LLM_ROOT/bench/script.mjs" "$LLM_TMP/script/"
		npm install --prefix "$LLM_TMP/script" --no-package-lock --no-audit --no-fund --loglevel=error \
			>"$LLM_TMP/npm.log" 2>&1 </dev/null || SCRIPT_MISSING='npm could not install its packages'
	fi
	if [ -n "$SCRIPT_MISSING" ]; then
		progress "    the script is not measured: $SCRIPT_MISSING"
	else
		printf 'The script ran on Node %s, openai %s, pg %s.\n' "$(node --version | tr -d v)" \
			"$(package_version openai)" "$(package_version pg)" >>"$LLM_TMP/machine"
	fi
}

package_version()
{
	sed -n "s/^.*\"$1\": \"\(.*\)\".*$/\1/p" "$LLM_ROOT/bench/package.json"
}

run_script()
{
	local rate

	[ -z "$SCRIPT_MISSING" ] || return 0
	make_table e2e "$1" 100
	rate=$(PGDATABASE=e2e OPENAI_BASE_URL=$LLM_PROVIDER_URL/v1 OPENAI_API_KEY=bench \
		node "$LLM_TMP/script/script.mjs" note "$LLM_TMP/request.json" 64 </dev/null) || die 'the script failed'
	note e2e_script "$rate"
}

# ---------------------------------------------------------------------------
# latency: the same with a provider that takes 50 ms
# ---------------------------------------------------------------------------

part_latency()
{
	local rows _

	rows=$(scaled 60000)
	make_database latency
	warm_up latency
	provide '{"latency_ms": 50}'
	for _ in $(seq "$RUNS"); do
		enrich latency "$rows" latency
		bare_loop fields "$rows" latency_fields
		note latency_to_bare "$(calc %.3f "$(last latency_rate) / $(last latency_fields)")"
	done
	provide '{}'
	row latency_rate 0 '' "end to end, 50 ms, $SLOTS in flight, $rows rows: rows/s"
	row latency_fields 0 '' "bare libcurl loop, 50 ms, $SLOTS in flight: requests/s"
	row latency_to_bare 3 '≥ 0.95' 'end to end to the bare loop'
	row latency_sender_cpu 1 '' 'processor time of the sender, 50 ms: µs a row'
	row latency_writer_cpu 1 '' 'processor time of the writer, 50 ms: µs a row'
	row latency_wal 0 '' 'WAL from COMMIT to the last cell, 50 ms: bytes a row'
	row latency_sender_private 1 '≤ 64' 'memory of the sender, private, 50 ms: MB'
	drop_database latency
}

# ---------------------------------------------------------------------------
# backlog: the rate does not depend on how much is queued
# ---------------------------------------------------------------------------

part_backlog()
{
	local short=10000

	[ "$BACKLOG" -ge $((RUNS * 20000)) ] || die "BENCH_BACKLOG is at least $((RUNS * 20000)) for $RUNS runs"
	make_database short
	make_database long
	make_table long "$BACKLOG" 100
	progress "    queueing $BACKLOG rows"
	queue_only long
	backlog_pairs "$short" backlog
	row backlog_short 0 '' "rate of the first rows of $short: rows/s"
	row backlog_long 0 '' "rate of the first rows of $BACKLOG: rows/s"
	row backlog_ratio 3 '≥ 0.9' 'ratio, long to short'

	progress '    a transaction keeps its snapshot from now on'
	open_snapshot short
	open_snapshot long
	backlog_pairs "$short" snapshot
	close_snapshots
	row snapshot_short 0 '' "first rows of $short beneath an old snapshot: rows/s"
	row snapshot_long 0 '' "first rows of $BACKLOG beneath an old snapshot: rows/s"
	row snapshot_ratio 3 '' 'ratio, long to short'
	drop_database short
	drop_database long
}

backlog_pairs()
{
	local short=$1 name=$2 _

	for _ in $(seq "$RUNS"); do
		make_table short "$short" 100
		queue_only short
		backlog_once short "${name}_short"
		query short -c 'SELECT llm.cancel(relation => '"'note'"')' >/dev/null
		backlog_once long "${name}_long"
		note "${name}_ratio" "$(calc %.3f "$(last "${name}_long") / $(last "${name}_short")")"
	done
}

# The rate between the 1,000th and the 9,000th row of the last job's rest.
backlog_once()
{
	local database=$1 name=$2 rate

	# what autovacuum and the checkpointer owe to those who queued is not measured
	query "$database" -c 'VACUUM llm.queue' -c CHECKPOINT
	start_sending "$database"
	rate=$(query "$database" 2>&1 <<-'SQL'
		SET statement_timeout = '5min';
		DO $$
		DECLARE
			job bigint;
			first bigint;
			done bigint;
			began timestamptz;
			counted bigint;
		BEGIN
			SELECT j.id, j.done INTO job, first FROM llm.job j ORDER BY j.id DESC LIMIT 1;
			LOOP
				COMMIT;
				PERFORM pg_sleep(0.002);
				SELECT j.done INTO done FROM llm.job j WHERE j.id = job;
				IF began IS NULL AND done - first >= 1000 THEN
					began := clock_timestamp();
					counted := done;
				END IF;
				EXIT WHEN done - first >= 9000;
			END LOOP;
			RAISE INFO 'rate %', (done - counted) / extract(epoch FROM clock_timestamp() - began);
		END
		$$;
	SQL
	)
	stop_sending "$database"
	case "$rate" in
		*rate*) note "$name" "$(calc %.1f "${rate##* }")" ;;
		*) die "$rate" ;;
	esac
}

SNAPSHOTS=()

# A session that took a snapshot and sits there.
open_snapshot()
{
	local fifo=$LLM_TMP/snapshot.$1 fd

	mkfifo "$fifo"
	query "$1" <"$fifo" >/dev/null &
	exec {fd}>"$fifo"
	SNAPSHOTS+=("$fd")
	printf 'BEGIN ISOLATION LEVEL REPEATABLE READ;\nSELECT count(*) FROM pool;\n' >&"$fd"
	await "$1" 'there is no old snapshot' "SELECT EXISTS (SELECT FROM pg_stat_activity
		WHERE datname = current_database() AND state = 'idle in transaction')"
}

close_snapshots()
{
	local fd

	for fd in "${SNAPSHOTS[@]}"; do
		exec {fd}>&-
	done
	SNAPSHOTS=()
	sleep 0.2
}

# ---------------------------------------------------------------------------
# snapshot: all rows of a backlog beneath a snapshot that is older than their requests
# ---------------------------------------------------------------------------

# Tasks through a queue that stays short, beneath a snapshot that is older than all of them: nothing
# that has left the queue can be removed from it.
part_snapshot()
{
	local step=10000 rounds i

	rounds=$((SNAPSHOT / step))
	make_database snapshot
	query snapshot <<-'SQL'
		CREATE TABLE note (id bigint PRIMARY KEY, body text NOT NULL, label jsonb);
	SQL
	open_snapshot snapshot
	for i in $(seq 0 $((rounds - 1))); do
		echo "INSERT INTO note SELECT i, left(i || ' ' || p.body, 100), llm_classify(left(i || ' ' || p.body, 100), $LABELS)"
		echo "	FROM generate_series($((i * step + 1)), $(((i + 1) * step))) i JOIN pool p ON p.n = i % 997;"
		echo 'CALL llm.wait();'
	done | query snapshot >/dev/null || die 'a round of part snapshot failed'
	note snapshot_first "$(round_rate 1 $((rounds / 10)))"
	note snapshot_last "$(round_rate $((rounds - rounds / 10 + 1)) "$rounds")"
	note snapshot_slowdown "$(calc %.3f "$(last snapshot_first) / $(last snapshot_last)")"
	note snapshot_size_old "$(queue_size)"
	close_snapshots
	query snapshot -c 'VACUUM llm.queue' >/dev/null
	note snapshot_size "$(queue_size)"
	drop_database snapshot
	row snapshot_first 0 '' "$SNAPSHOT rows in sets of $step beneath an old snapshot, the first tenth: rows/s"
	row snapshot_last 0 '' 'the last tenth: rows/s'
	row snapshot_slowdown 2 '≤ 2' 'time of a row, last to first'
	row snapshot_size_old 1 '' 'llm.queue on disk then: MB'
	row snapshot_size 1 '' 'when the snapshot is gone, after one VACUUM: MB'
}

# round_rate FIRST LAST: the median rate of these jobs, from their statement to their last cell
round_rate()
{
	query snapshot -c "SELECT round((percentile_cont(0.5) WITHIN GROUP
			(ORDER BY total / extract(epoch FROM finished_at - created_at)))::numeric, 1)
		FROM (SELECT *, row_number() OVER (ORDER BY id) AS n FROM llm.job) j WHERE n BETWEEN $1 AND $2"
}

queue_size()
{
	query snapshot -c "SELECT round(pg_total_relation_size('llm.queue') / 1048576.0, 1)"
}

# ---------------------------------------------------------------------------
# wait: how long a single row takes on its way
# ---------------------------------------------------------------------------

part_wait()
{
	local n

	make_database wait
	warm_up wait
	provide '{"latency_ms": 20}'
	for n in $(seq $((RUNS * 4))); do
		wait_once "$n" wait_warm
	done
	query wait -c "ALTER SYSTEM SET llm_enrich.idle_timeout = '1s'" -c 'SELECT pg_reload_conf()' >/dev/null
	for n in $(seq "$RUNS"); do
		await postgres 'idle workers do not leave' "SELECT NOT EXISTS (SELECT FROM pg_stat_activity
			WHERE datname = 'wait' AND backend_type IN ('llm_enrich sender', 'llm_enrich writer'))"
		wait_once "$((1000 + n))" wait_cold
	done
	query wait -c 'ALTER SYSTEM RESET llm_enrich.idle_timeout' -c 'SELECT pg_reload_conf()' >/dev/null
	provide '{}'
	row wait_warm_sent 2 '' 'COMMIT sent to first request at the provider, workers up: ms'
	row wait_cold_sent 1 '' 'COMMIT sent to first request at the provider, workers to be started: ms'
	row wait_warm_written 2 '' 'answer leaves the provider to visible cell, workers up: ms'
	row wait_cold_written 1 '' 'answer leaves the provider to visible cell, workers to be started: ms'
	drop_database wait
}

# The provider logs when a request had come; it answers 20 ms later. The cell is looked at
# every half a millisecond.
wait_once()
{
	local n=$1 name=$2 figures

	figures=$(query wait <<-SQL
		BEGIN;
		INSERT INTO note VALUES (100000 + $n, 'My card was charged twice',
			llm_classify('My card was charged twice', $LABELS));
		SELECT 1000 * extract(epoch FROM clock_timestamp()) AS committed \gset
		COMMIT;
		SET statement_timeout = '1min';
		DO \$\$
		BEGIN
			LOOP
				EXIT WHEN (SELECT label ? 'label' FROM note WHERE id = 100000 + $n);
				COMMIT;
				PERFORM pg_sleep(0.0005);
			END LOOP;
		END
		\$\$;
		SELECT 1000 * extract(epoch FROM clock_timestamp()) AS visible \gset
		\set log \`curl -sf '$LLM_PROVIDER_URL/meter/log?last=1'\`
		SELECT round(at - :committed, 3), round(:visible - at - 20, 3)
			FROM (SELECT (:'log'::jsonb->0->>'at')::numeric AS at) l;
	SQL
	) || die 'a row got no answer'
	note "${name}_sent" "${figures%|*}"
	note "${name}_written" "${figures#*|}"
}
