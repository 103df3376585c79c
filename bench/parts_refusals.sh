# shellcheck shell=bash
#
# What bench/run measures of a provider that refuses some requests, and of neighbours that are refused: each rate as a
# share of the one without, in the same run.
#
# A case has a model name of its own in each run, since what is learned of one would help the next.

# Requests at a time to the one provider, and how long each takes, in ms.
REFUSAL_SLOTS=64
REFUSAL_LATENCY=40

part_refusals()
{
	local rows _

	rows=$(scaled 8000)
	make_database refusals
	query refusals -c "ALTER SERVER sim OPTIONS (SET max_concurrency '$REFUSAL_SLOTS')"
	warm_up refusals
	for _ in $(seq "$RUNS"); do
		refused_rate clean "$rows" ''
		refused_share 503_few "$rows" '"error_503": 0.002'
		refused_share 503 "$rows" '"error_503": 0.01'
		refused_share 429 "$rows" '"rate_limit": 0.01, "retry_after": 0.1'
		limit_share 500 500 "$rows"
		limit_share 500 100 "$rows"
		limit_share 500 50 "$rows"
		limit_share 100 100 $((rows / 4))
		limit_share 100 10 $((rows / 4))
	done
	provide '{}'
	row refused_clean 0 '' "$REFUSAL_LATENCY ms, $REFUSAL_SLOTS in flight, $rows rows: rows/s"
	row share_503_few 3 '≥ 0.9' 'with 503 at 0.2% of the requests: share of that rate'
	row share_503 3 '≥ 0.7' 'with 503 at 1%'
	row share_429 3 '≥ 0.6' 'with 429 at 1%, "Retry-After: 0.1"'
	limit_rows 500 500 '≥ 0.93'
	limit_rows 500 100 '≥ 0.93'
	limit_rows 500 50 ''
	limit_rows 100 100 '≥ 0.85'
	limit_rows 100 10 ''
	drop_database refusals
}

# Another model name: refused_rate CASE ROWS SETTINGS-OF-THE-PROVIDER
refused_rate()
{
	local name=$1 rows=$2 seconds alias

	make_table refusals "$rows" 100
	alias=${name}_$((++REFUSED_RUNS))
	query refusals >/dev/null -c "SELECT llm.add_model('$alias', server => 'sim', model => '$alias', input_per_mtok => 0.25,
		output_per_mtok => 2.00)" -c "UPDATE note SET label = llm_classify(body, $LABELS) WHERE id = 1" \
		-c "CALL llm.wait(timeout => '1 minute')" || die 'a row got no answer'
	provide "{\"latency_ms\": $REFUSAL_LATENCY${3:+, $3}}"
	seconds=$(query refusals -c "UPDATE note SET label = llm_classify(body, $LABELS, model => '$alias') WHERE id > 1" -f - <<-SQL
		SELECT extract(epoch FROM clock_timestamp()) AS began \gset
		CALL llm.wait(timeout => '10 minutes');
		SELECT extract(epoch FROM clock_timestamp()) - :began;
	SQL
	) || die 'not every row got its answer'
	provide '{}'
	[ "$(query refusals -c "SELECT count(*) FROM note WHERE label ? 'label' AND NOT label ? 'llm_enrich'")" = "$rows" ] ||
		die 'not every row got its answer'
	REFUSED_ALIAS=$alias REFUSED_SECONDS=$seconds
	note "refused_$name" "$(calc %.1f "($rows - 1) / $seconds")"
}

REFUSED_RUNS=0
REFUSED_ALIAS=
REFUSED_SECONDS=

refused_share()
{
	refused_rate "$@"
	note "share_$1" "$(calc %.3f "$(last "refused_$1") / $(last refused_clean)")"
}

# A limit that the provider does not tell, and keeps; what it lets pass at once is not counted:
# limit_share RATE BURST ROWS
limit_share()
{
	local rate=$1 burst=$2 rows=$3 name=limit_$1_$2

	refused_rate "$name" "$rows" "\"requests_per_minute\": $((60 * rate)), \"burst\": $burst, \"hide_limits\": true,
		\"retry_after_form\": \"none\""
	note "share_$name" "$(calc %.3f "($rows - 1 - $burst) / ($REFUSED_SECONDS * $rate)")"
	note "refusals_$name" "$(query refusals -c "SELECT round(100.0 * count(DISTINCT request) FILTER (WHERE outcome = 'rate_limited')
		/ count(DISTINCT request), 2) FROM llm.ledger WHERE model = '$REFUSED_ALIAS'")"
}

# limit_rows RATE BURST AIM
limit_rows()
{
	row "share_limit_$1_$2" 3 "$3" "an untold limit of $1 requests a second, $2 at once: share of it"
	row "refusals_limit_$1_$2" 2 "$([ "$1$3" != '500≥ 0.93' ] || echo '≤ 4')" 'requests refused: %'
}

# ---------------------------------------------------------------------------
# neighbours: another role's targets, none of which answers
# ---------------------------------------------------------------------------

POISONED=700
KEYS=40

part_neighbours()
{
	local rows _

	rows=$(scaled 20000)
	make_database neighbours
	query neighbours -c "ALTER SERVER sim OPTIONS (SET max_concurrency '$REFUSAL_SLOTS')"
	query neighbours >/dev/null <<-SQL || die 'the neighbour could not be made'
		CREATE ROLE neighbour;
		CREATE SERVER bad FOREIGN DATA WRAPPER llm_enrich
			OPTIONS (dialect 'openai', base_url '$LLM_PROVIDER_URL/x/bad/v1');
		GRANT USAGE ON FOREIGN SERVER bad TO neighbour;
		CREATE USER MAPPING FOR neighbour SERVER bad OPTIONS (api_key 'key-0');
		SELECT llm.add_model('bad' || i, server => 'bad', model => 'bad-' || i, input_per_mtok => 1, output_per_mtok => 1)
		FROM generate_series(1, $POISONED) i;
	SQL
	curl -sf -X POST -d '{"status": 401}' "$LLM_PROVIDER_URL/script?lane=bad" >/dev/null || die 'the provider does not answer'
	warm_up neighbours
	for _ in $(seq "$RUNS"); do
		provide "{\"latency_ms\": $REFUSAL_LATENCY}"
		enrich neighbours "$rows" alone
		query neighbours >/dev/null <<-SQL || die 'the neighbour could not ask'
			SET client_min_messages = warning;
			DROP TABLE IF EXISTS poison;
			CREATE TABLE poison AS SELECT i AS id, 'poison ' || i AS body, 'bad' || i AS alias, NULL::jsonb AS label
			FROM generate_series(1, $POISONED) i;
			ALTER TABLE poison ADD PRIMARY KEY (id);
			ALTER TABLE poison OWNER TO neighbour;
			SET ROLE neighbour;
			SET llm_enrich.notices = off;
			UPDATE poison SET label = llm_classify(body, '{a,b}', model => alias);
		SQL
		change_keys &
		enrich neighbours "$rows" beside
		wait $! || die 'a key could not be changed'
		provide '{}'
		note neighbours_share "$(calc %.3f "$(last beside_rate) / $(last alone_rate)")"
		query neighbours -c "SELECT llm.cancel('poison')" >/dev/null
		await neighbours 'cancelled rows stay' "SELECT NOT EXISTS (SELECT FROM llm.queue)"
	done
	row alone_rate 0 '' "$REFUSAL_LATENCY ms, $REFUSAL_SLOTS in flight, $rows rows: rows/s"
	row beside_rate 0 '' "the same beside another role's $POISONED models and $KEYS keys, all refused: rows/s"
	row neighbours_share 3 '≥ 0.9' 'ratio of the two'
	drop_database neighbours
	query postgres -c 'DROP ROLE neighbour'
}

# A key every tenth of a second
change_keys()
{
	local key

	for key in $(seq "$KEYS"); do
		query neighbours -c "ALTER USER MAPPING FOR neighbour SERVER bad OPTIONS (SET api_key 'key-$key')" || return 1
		sleep 0.1
	done
}
