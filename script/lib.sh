# shellcheck shell=bash
#
# What script/test, script/demo and tools/check share: packages, ordinary
# rights, temporary folders, a private server, the simulated provider.
#
# To be sourced by bash with `set -u`. A script that uses it calls, in order:
#
#     llm_init                    once
#     need_packages NAME...       installs what is missing (Debian only)
#     leave_root SCRIPT ARG...    under root: run SCRIPT again as an ordinary user, or
#     run_in_copy SCRIPT WHAT ARG...  do so on a copy of the tree, root or not
#     make_temp                   sets LLM_TMP
#     copy_server, start_private_cluster, start_provider, psql_demo
#
# What is started is ended and what is made is removed when the script exits,
# fails or is interrupted.

LLM_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
LLM_TMP=
LLM_JOB=
LLM_CLEANUPS=()

say()
{
	printf '%s\n' "$*"
}

die()
{
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit "${LLM_DIE_STATUS:-1}"
}

# ---------------------------------------------------------------------------
# Exit and interrupt
# ---------------------------------------------------------------------------

# Settings that every script wants: messages and sort order do not depend on
# who runs it, and no file of that person's home is read.
llm_init()
{
	unset LC_ALL LC_MESSAGES LC_COLLATE LC_CTYPE LANGUAGE
	unset PGHOST PGPORT PGUSER PGDATABASE PGOPTIONS PGSERVICE PGPASSFILE PGDATA
	unset MAKEFLAGS MFLAGS MAKELEVEL
	export LANG=C.UTF-8 PSQLRC=/dev/null PGSYSCONFDIR=/nonexistent
	umask 022
	trap run_cleanups EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
}

# Run a command at exit; the last one given runs first.
on_exit()
{
	LLM_CLEANUPS=("$1" ${LLM_CLEANUPS[@]+"${LLM_CLEANUPS[@]}"})
}

run_cleanups()
{
	local status=$? command

	trap '' HUP INT TERM
	trap - EXIT
	end_job
	for command in ${LLM_CLEANUPS[@]+"${LLM_CLEANUPS[@]}"}; do
		eval "$command"
	done
	exit "$status"
}

# Run a command in a process group of its own and wait for it, so that an
# interrupt reaches this shell first and the whole group through it.
run_job()
{
	local status

	set -m
	"$@" </dev/null &
	LLM_JOB=$!
	set +m
	wait "$LLM_JOB"
	status=$?
	LLM_JOB=
	return "$status"
}

# End the command that run_job waits for.
end_job()
{
	end_group "$LLM_JOB"
}

# End a process group: ask, then insist after 20 s, or after LLM_PATIENCE (it may be
# another of our scripts, which cleans up after itself first).
end_group()
{
	local tick

	[ -n "$1" ] || return 0
	kill -TERM -- "-$1" 2>/dev/null || return 0
	for tick in $(seq "$((${LLM_PATIENCE:-20} * 10))"); do
		kill -0 -- "-$1" 2>/dev/null || return 0
		[ "$tick" = 100 ] && kill -TERM -- "-$1" 2>/dev/null
		sleep 0.1
	done
	kill -KILL -- "-$1" 2>/dev/null
}

# Print the ids of the processes whose program or working folder lies under a
# folder that we made. None are found where /proc is not mounted.
processes_under()
{
	# one find for all: a readlink for each took a fifth of the processor on a busy machine
	(
		cd / || exit
		find /proc -maxdepth 2 -path '/proc/[0-9]*' \( -name exe -o -name cwd \) \
			\( -lname "$1/*" -o -lname "$1" \) -printf '%h\n' 2>/dev/null | sort -u | sed 's,^/proc/,,'
	) | grep -vxE "$$|$PPID|$BASHPID"
}

# End every process that runs in a folder that we made: servers first, in the
# way that lets them give their shared memory back.
end_processes_under()
{
	local file pid tick

	# neither here nor elsewhere <(...), which wants /proc
	find "$1" -name postmaster.pid 2>/dev/null | while IFS= read -r file; do
		pid=$(head -n 1 "$file" 2>/dev/null)
		[ -n "$pid" ] && kill -QUIT "$pid" 2>/dev/null
		for tick in $(seq 50); do
			[ -e "$file" ] && kill -0 "$pid" 2>/dev/null || break
			sleep 0.1
		done
	done
	for tick in TERM TERM KILL KILL; do
		pid=$(processes_under "$1")
		[ -n "$pid" ] || return 0
		# shellcheck disable=SC2086
		kill "-$tick" $pid 2>/dev/null
		sleep 0.2
	done
}

# ---------------------------------------------------------------------------
# Temporary folders
# ---------------------------------------------------------------------------

# Make LLM_TMP, removed at exit together with what still runs in it. The path is
# short, since that of a Unix socket must be.
make_temp()
{
	local parent=${TMPDIR:-/tmp}

	[ -n "$LLM_TMP" ] && return 0
	if [ "${#parent}" -gt 30 ] || [ ! -w "$parent" ]; then
		parent=/tmp
	fi
	LLM_TMP=$(mktemp -d "$parent/llm.XXXXXX") || die "could not make a folder in $parent"
	LLM_TMP=$(cd "$LLM_TMP" && pwd -P)
	on_exit remove_temp
}

remove_temp()
{
	cd / || return
	end_processes_under "$LLM_TMP"
	rm -rf --one-file-system "$LLM_TMP"
}

# Copy the tree without its history and without test results. With "clean" as
# second argument what was built stays behind too.
copy_tree()
{
	local skip=(--exclude=./.git --exclude=./tmp_check --exclude=./tmp_prefix --exclude=./results
		--exclude=./output_iso --warning=no-file-changed --warning=no-file-removed)

	if [ "${2-}" = clean ]; then
		skip+=('--exclude=*.o' '--exclude=*.so' '--exclude=*.bc' '--exclude=./llm_enrich--*.sql'
			--exclude=./src/.made-with --exclude=./test/fuzz/build --exclude=./bench/limit
			--exclude=./test/provider/llm-provider --exclude=./test/provider/llm-provider-asan
			'--exclude=./test/unit/*_test')
	fi
	mkdir -p "$1" || die "could not make $1"
	# a file that changes while we read it is no trouble
	tar -C "$LLM_ROOT" "${skip[@]}" -cf - . | tar -C "$1" --no-same-owner -xf -
	[ -e "$1/Makefile" ] || die "could not copy the tree to $1"
}

# ---------------------------------------------------------------------------
# Packages
# ---------------------------------------------------------------------------

# Install the Debian packages of the list that are missing.
need_packages()
{
	local name missing=() as_root=()

	command -v dpkg-query >/dev/null || return 0
	for name in "$@"; do
		case "$(dpkg-query -W -f='${db:Status-Abbrev}' "$name" 2>/dev/null)" in
			ii*) ;;
			*) missing+=("$name") ;;
		esac
	done
	[ "${#missing[@]}" -gt 0 ] || return 0

	if [ "$(id -u)" != 0 ]; then
		if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
			say "Packages are missing, and this is neither root nor allowed to use sudo without a password." >&2
			die "please run, as root: apt-get install --no-install-recommends ${missing[*]}"
		fi
		as_root=(sudo -n)
	fi
	say "installing ${missing[*]}"
	make_temp
	apt_get update
	# the folder where we say that no cluster is wanted comes with postgresql-common
	case " ${missing[*]} " in
		*" postgresql-"[0-9]*)
			apt_get install postgresql-common
			refuse_main_cluster
			;;
	esac
	apt_get install "${missing[@]}"
	allow_main_cluster
}

# Run apt-get without a question and without a word, unless it fails.
apt_get()
{
	local action=$1

	shift
	if ! run_job ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 \
		apt-get -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=600 \
		-o Dpkg::Options::=--force-confold "$action" "$@" >"$LLM_TMP/apt.log" 2>&1; then
		cat "$LLM_TMP/apt.log" >&2
		die "apt-get $action failed"
	fi
}

NO_CLUSTER=/etc/postgresql-common/createcluster.d/00-llm-enrich-none.conf

# The server's package would make and start a cluster of its own: not on our account.
refuse_main_cluster()
{
	LLM_AS_ROOT=(${as_root[@]+"${as_root[@]}"})
	on_exit allow_main_cluster
	"${LLM_AS_ROOT[@]}" mkdir -p "${NO_CLUSTER%/*}"
	echo 'create_main_cluster = false' | "${LLM_AS_ROOT[@]}" tee "$NO_CLUSTER" >/dev/null
}

allow_main_cluster()
{
	[ ! -e "$NO_CLUSTER" ] || "${LLM_AS_ROOT[@]}" rm -f "$NO_CLUSTER"
}

# ---------------------------------------------------------------------------
# Ordinary rights
# ---------------------------------------------------------------------------

# Run a script of this tree again on a copy of the tree and exit as it does,
# under root as an ordinary user who can read the copy. What was built comes
# along unless the second argument is "clean". The test results of a failed run
# are brought back to tmp_check.
run_in_copy()
{
	local script=$1 what=$2 user='' as_user=() status

	shift 2
	make_temp
	copy_tree "$LLM_TMP/tree" "$what"
	mkdir -p "$LLM_TMP/home"
	if [ "$(id -u)" = 0 ]; then
		command -v setpriv >/dev/null || die "setpriv is missing (package util-linux)"
		user=postgres
		id -u "$user" >/dev/null 2>&1 || user=nobody
		chown -R "$user:" "$LLM_TMP"
		as_user=(setpriv "--reuid=$user" "--regid=$(id -g "$user")" --init-groups --
			env "USER=$user" "LOGNAME=$user" TMPDIR=/tmp)
	fi
	cd "$LLM_TMP/tree" || exit 1
	run_job ${as_user[@]+"${as_user[@]}"} env "HOME=$LLM_TMP/home" LLM_IN_COPY=1 "$LLM_TMP/tree/$script" "$@"
	status=$?
	cd "$LLM_ROOT" || exit 1
	[ "$status" = 0 ] || keep_results "$LLM_TMP/tree/tmp_check" "${LLM_SANITIZE-}"
	exit "$status"
}

# PostgreSQL does not run as root.
leave_root()
{
	[ "$(id -u)" != 0 ] || run_in_copy "$1" built "${@:2}"
}

# Bring logs and differences, not data folders, to tmp_check of the tree, or to
# the folder in it that the second argument names.
keep_results()
{
	local to=$LLM_ROOT/tmp_check${2:+/$2}

	[ -d "$1" ] && [ "$1" != "$to" ] || return 0
	rm -rf "$to"
	mkdir -p "$to"
	(cd "$1" && find . -path '*/data/*' -prune -o -path '*/pgdata/*' -prune -o -path '*_data/*' -prune -o \
		-type f -size -20000k -print0 | tar --null -T - -cf -) | tar -C "$to" --no-same-owner -xf -
	say "logs and differences: $to"
}

# ---------------------------------------------------------------------------
# A private server
# ---------------------------------------------------------------------------

# Choose the server to build for: PG_CONFIG, else Debian's of LLM_PG_MAJOR, else
# the one in PATH.
choose_pg_config()
{
	if [ -z "${PG_CONFIG-}" ] || ! command -v "$PG_CONFIG" >/dev/null; then
		PG_CONFIG=/usr/lib/postgresql/${LLM_PG_MAJOR:-15}/bin/pg_config
		[ -x "$PG_CONFIG" ] || PG_CONFIG=pg_config
	fi
	command -v "$PG_CONFIG" >/dev/null || die "there is no pg_config: install postgresql-server-dev-15 or set PG_CONFIG"
	export PG_CONFIG
}

# Copy the server under a folder and install the extension into the copy.
# PostgreSQL finds its files relative to its program, so the copy stands alone:
# nothing outside the folder is written. Sets LLM_BINDIR.
copy_server()
{
	local prefix=$1 bindir sharedir pkglibdir program

	choose_pg_config
	bindir=$("$PG_CONFIG" --bindir)
	sharedir=$("$PG_CONFIG" --sharedir)
	pkglibdir=$("$PG_CONFIG" --pkglibdir)
	rm -rf "$prefix"
	mkdir -p "$prefix$bindir" "$prefix$sharedir" "$prefix$pkglibdir"
	# by name, since bindir may be /usr/bin
	for program in "$bindir"/pg_* "$bindir"/{postgres,initdb,psql,pgbench} \
		"$bindir"/{create,drop}{db,user} "$bindir"/{vacuum,reindex,cluster}db; do
		[ ! -f "$program" ] || cp -pL "$program" "$prefix$bindir/"
	done
	tar -C "$sharedir" --exclude=./man --exclude=./doc -cf - . | tar -C "$prefix$sharedir" -xf -
	tar -C "$pkglibdir" --exclude=./bitcode --exclude=./pgxs -cf - . | tar -C "$prefix$pkglibdir" -xf -
	[ -x "$prefix$bindir/postgres" ] || die "there is no server in $bindir: install postgresql-${LLM_PG_MAJOR:-15}"
	make -C "$LLM_ROOT" -s -j"$(nproc)" all &&
		make -C "$LLM_ROOT" -s install DESTDIR="$prefix" >/dev/null || return 1
	# shellcheck disable=SC2034
	LLM_BINDIR=$prefix$bindir
}

# LLM_SANITIZE=undefined, address or valgrind: every process that finds a fault writes a
# report into a folder and dies, or under valgrind goes on. The server that copy_server made
# is told so. Of undefined behaviour the server reports in its log: by then it has written
# over its environment, so that gcc's library finds no options. Sets LLM_REPORTS.
watch_faults()
{
	local known

	known=$("$PG_CONFIG" --sharedir)/valgrind.supp
	LLM_REPORTS=$1
	mkdir -p "$LLM_REPORTS"
	case "${LLM_SANITIZE-}" in
		undefined | address)
			export UBSAN_OPTIONS="abort_on_error=1:print_stacktrace=1:log_path=$LLM_REPORTS/report"
			# what lives as long as its process is no leak to it
			export ASAN_OPTIONS="abort_on_error=1:detect_leaks=0:log_path=$LLM_REPORTS/report"
			;;
	esac
	case "${LLM_SANITIZE-}" in
		address) wrap_server "export LD_PRELOAD='$(gcc -print-file-name=libasan.so)'; exec -a \"\$0\"" ;;
		valgrind)
			[ -e "$known" ] || known=/dev/null
			wrap_server "exec valgrind --quiet --leak-check=no --gen-suppressions=all --error-limit=no \
				--trace-children=yes '--log-file=$LLM_REPORTS/report.%p' '--suppressions=$known'"
			;;
	esac
}

# Have the copied server started by a command of bash, under the same process id.
wrap_server()
{
	local postgres=$LLM_BINDIR/postgres

	mv "$postgres" "$postgres.real"
	printf '#!/bin/bash\n%s "%s" "$@"\n' "$1" "$postgres.real" >"$postgres"
	chmod 755 "$postgres"
}

# Make and start a cluster in a folder: superuser postgres, no password, reached
# by a Unix socket in that folder only. A second argument names a file whose
# settings are added. Sets PGHOST and friends for what follows.
start_private_cluster()
{
	local dir=$1 settings=${2-}

	mkdir -p "$dir"
	"$LLM_BINDIR/initdb" -D "$dir/data" -U postgres --auth=trust --no-sync --no-instructions -E UTF8 --locale=C.UTF-8 \
		>"$dir/initdb.log" 2>&1 || { cat "$dir/initdb.log" >&2; die "initdb failed"; }
	export PGHOST=$dir PGPORT=$((20000 + RANDOM % 20000)) PGUSER=postgres PGDATABASE=postgres
	cat >>"$dir/data/postgresql.conf" <<-CONF
		listen_addresses = ''
		unix_socket_directories = '$dir'
		port = $PGPORT
		shared_preload_libraries = 'llm_enrich'
		fsync = off
		log_line_prefix = '%m %b[%p] %q%a '
	CONF
	[ -z "$settings" ] || cat "$settings" >>"$dir/data/postgresql.conf"
	on_exit "stop_private_cluster '$dir'"
	"$LLM_BINDIR/pg_ctl" -D "$dir/data" -l "$dir/server.log" -w -t 60 start >/dev/null </dev/null ||
		{ tail -n 40 "$dir/server.log" >&2; die "the server did not start"; }
}

stop_private_cluster()
{
	[ ! -e "$1/data/postmaster.pid" ] || "$LLM_BINDIR/pg_ctl" -D "$1/data" -w -t 20 -m fast stop >/dev/null 2>&1 ||
		"$LLM_BINDIR/pg_ctl" -D "$1/data" -w -t 20 -m immediate stop >/dev/null 2>&1
}

# Build the simulated provider if need be and start it; further arguments go to
# it. It ends when its standard input does, so at the latest with us. Sets
# LLM_PROVIDER_PORT and LLM_PROVIDER_URL.
start_provider()
{
	local file tick

	make_temp
	make -C "$LLM_ROOT/test/provider" -s >/dev/null || die "the simulated provider could not be built"
	file=$LLM_TMP/provider.port
	rm -f "$file" "$LLM_TMP/provider.stdin"
	mkfifo "$LLM_TMP/provider.stdin"
	"$LLM_ROOT/test/provider/llm-provider" --port 0 --port-file "$file" --exit-with-stdin "$@" \
		<"$LLM_TMP/provider.stdin" >"$LLM_TMP/provider.log" 2>&1 &
	LLM_PROVIDER_PID=$!
	on_exit stop_provider
	exec {LLM_PROVIDER_STDIN}>"$LLM_TMP/provider.stdin"
	for tick in $(seq 100); do
		LLM_PROVIDER_PORT=$(cat "$file" 2>/dev/null)
		[ -z "$LLM_PROVIDER_PORT" ] || break
		[ "$tick" -lt 100 ] || { cat "$LLM_TMP/provider.log" >&2; die "the simulated provider did not start"; }
		sleep 0.1
	done
	LLM_PROVIDER_URL=http://127.0.0.1:$LLM_PROVIDER_PORT
	export LLM_PROVIDER_PORT LLM_PROVIDER_URL
}

stop_provider()
{
	[ -n "${LLM_PROVIDER_PID-}" ] || return 0
	exec {LLM_PROVIDER_STDIN}>&-
	kill "$LLM_PROVIDER_PID" 2>/dev/null
	wait "$LLM_PROVIDER_PID" 2>/dev/null
	LLM_PROVIDER_PID=
}

# psql on the private cluster, without anyone's settings; stops at the first error.
psql_demo()
{
	"$LLM_BINDIR/psql" -X -q -v ON_ERROR_STOP=1 "$@"
}
