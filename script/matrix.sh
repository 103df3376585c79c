# shellcheck shell=bash
# shellcheck disable=SC2034 # lib.sh reads LLM_PATIENCE and LLM_DIE_STATUS
#
# script/test --matrix: the same suites on several major versions of PostgreSQL.
# 15 runs on this machine; others run on the release of Debian that has them, in
# a temporary folder that debootstrap fills. Sourced by script/test, after lib.sh.
#
# 15+undefined is 15 built with the sanitizer of that name and with assertions (script/sanitize).
#
#     run_matrix MAJORS ARG...  each version in turn, then the sum of all; exits
#     make_leg MAJOR            make the folder of a version, in a process of its own; exits
#     run_leg MAJOR ARG...      one version in its folder, in a process of its own; exits
#
# The folders are made one after the other while the first versions run.
#
# Needs root and the network. Where the machine allows it, the folder has a /proc
# in a mount namespace of its own, which goes with the last process there, however
# that ends; elsewhere it has none, and a test that reads it skips.
#
# A version whose folder cannot be made is named together with the reason, and is
# no failure. LLM_VERSION_LIMIT is the seconds that a version may take (none),
# LLM_FOLDER_LIMIT those for making its folder (900), LLM_MATRIX_LIMIT those after
# which no further version is begun in a folder (none), LLM_DEBIAN_MIRROR the address
# that debootstrap takes packages from (its own).

COULD_NOT_RUN=3
LLM_FOLDERS_JOB=

debian_with()
{
	case "$1" in
		17) echo trixie ;;
		18 | 19) echo sid ;;
	esac
}

# What is not released yet comes from experimental, which is to be put on top of unstable.
is_experimental()
{
	[ "$1" -ge 19 ]
}

# ---------------------------------------------------------------------------
# All versions
# ---------------------------------------------------------------------------

run_matrix()
{
	local versions=$1 version name status=0 passed=0 failed=0 ran='' missed='' outcomes=''

	shift
	make_temp
	# a folder of 2 GB takes a while to go
	LLM_PATIENCE=120
	begin_folders "$versions"
	for version in ${versions//,/ }; do
		LLM_OUTPUT=$LLM_TMP/$version.log
		name=${version/+undefined/ (assertions, undefined behaviour sanitizer)}
		say "== PostgreSQL $name =="
		run_version "$version" "$@"
		case $? in
			0) ;;
			"$COULD_NOT_RUN") missed+=$'\n'"$name: not run: $OUTCOME"; continue ;;
			*) status=1 ;;
		esac
		ran+=${ran:+, }$name
		outcomes+=$'\n'"PostgreSQL $name: $OUTCOME"
		passed=$((passed + PASSED))
		failed=$((failed + FAILED))
	done
	say "$outcomes"
	say "$passed passed, $failed failed"
	say "ran: ${ran:-none}$missed"
	[ -n "$ran" ] || status=1
	exit "$status"
}

# Begin to make the folders that a list of versions needs: $LLM_TMP/MAJOR, with a log MAJOR.making
# and, at the end, MAJOR.status. What apt has to do for this machine is done before.
begin_folders()
{
	local version major majors=()

	for version in ${1//,/ }; do
		major=${version%%+*}
		[ -z "$(debian_with "$major")" ] || majors+=("$major")
	done
	[ "${#majors[@]}" -gt 0 ] && [ "$(id -u)" = 0 ] || return
	need_packages debootstrap
	need_test_packages 15
	set -m
	make_folders "${majors[@]}" </dev/null &
	LLM_FOLDERS_JOB=$!
	set +m
	for major in "${majors[@]}"; do
		on_exit "leave_folder '$LLM_TMP/$major'"
	done
	on_exit 'end_group "$LLM_FOLDERS_JOB"'
}

make_folders()
{
	local major

	for major in "$@"; do
		env "LLM_PG_MAJOR=$major" LLM_LEG=make "LLM_FOLDER=$LLM_TMP/$major" \
			"$LLM_ROOT/script/test" >"$LLM_TMP/$major.making" 2>&1
		echo "$?" >"$LLM_TMP/$major.status"
	done
}

# Run one version and return its status. Sets PASSED, FAILED and OUTCOME.
run_version()
{
	local major=${1%%+*} sanitizer=${1#"${1%%+*}"} status line leg=

	shift
	PASSED=0 FAILED=0
	[ -z "$(debian_with "$major")" ] || leg=run
	if [ -n "$leg" ] && [ "$SECONDS" -ge "${LLM_MATRIX_LIMIT:-$((SECONDS + 1))}" ]; then
		OUTCOME="the versions before it took $SECONDS s"
		return "$COULD_NOT_RUN"
	fi
	# 0 is no limit; what is ended by it has time to clean up after itself
	run_recorded timeout -k 300 "${LLM_VERSION_LIMIT:-0}" \
		env "LLM_PG_MAJOR=$major" "LLM_LEG=$leg" "LLM_FOLDER=$LLM_TMP/$major" "LLM_SANITIZE=${sanitizer#+}" \
		"$LLM_ROOT/script/test" "$@"
	status=$?
	# what is not needed any more makes room
	[ -z "$leg" ] || rm -rf --one-file-system "${LLM_TMP:?}/$major"
	if [ "$status" = "$COULD_NOT_RUN" ]; then
		OUTCOME=$(sed -n 's/^test: //p' "$LLM_OUTPUT" | tail -n 1)
		return "$status"
	fi
	line=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$LLM_OUTPUT" | tail -n 1)
	[ -z "$line" ] || read -r PASSED _ FAILED _ <<<"$line"
	OUTCOME=${line:-no test ran to the end}
	case "$status" in
		0) ;;
		124) OUTCOME+=", ended after $LLM_VERSION_LIMIT s" ;;
		*) [ "$FAILED" -gt 0 ] || OUTCOME+=', but it ended with an error: see above' ;;
	esac
	return "$status"
}

# Run a command and keep what it says in LLM_OUTPUT as well.
run_recorded()
{
	local status tee

	mkfifo "$LLM_OUTPUT.pipe"
	tee "$LLM_OUTPUT" <"$LLM_OUTPUT.pipe" &
	tee=$!
	run_job "$@" >"$LLM_OUTPUT.pipe" 2>&1
	status=$?
	wait "$tee"
	rm -f "$LLM_OUTPUT.pipe"
	return "$status"
}

# ---------------------------------------------------------------------------
# One version in a folder
# ---------------------------------------------------------------------------

make_leg()
{
	local major=$1

	LLM_DIE_STATUS=$COULD_NOT_RUN
	LLM_PATIENCE=60
	on_exit "[ \$status = 0 ] || leave_folder '$LLM_FOLDER'"
	make_temp
	fill_folder "$LLM_FOLDER" "$(debian_with "$major")" "$major"
	exit 0
}

run_leg()
{
	local major=$1 status

	shift
	LLM_DIE_STATUS=$COULD_NOT_RUN
	[ "$(id -u)" = 0 ] || die "a folder with Debian $(debian_with "$major") needs root"
	LLM_PATIENCE=60
	on_exit "leave_folder '$LLM_FOLDER'"
	until [ -s "$LLM_FOLDER.status" ]; do
		sleep 0.2
	done
	cat "$LLM_FOLDER.making"
	[ "$(cat "$LLM_FOLDER.status")" = 0 ] || exit "$COULD_NOT_RUN"
	LLM_DIE_STATUS=1
	command_in_folder "$LLM_FOLDER" "$major"

	run_job "${IN_FOLDER[@]}" "$@"
	status=$?
	[ "$status" = 0 ] || keep_results "$LLM_FOLDER/llm_enrich/tmp_check" "pg$major"
	exit "$status"
}

# Fill a folder with a release of Debian, this tree and what that needs.
fill_folder()
{
	local folder=$1 release=$2 major=$3 free

	mkdir -p "$folder"
	free=$(df -Pk "$folder" | awk 'NR == 2 { print $4 }')
	[ "$free" -gt 4000000 ] || die "a folder with Debian $release needs 4 GB in ${LLM_TMP%/*}; TMPDIR names another place"
	say "making a folder with Debian $release"
	bounded debootstrap --variant=minbase "$release" "$folder" ${LLM_DEBIAN_MIRROR:+"$LLM_DEBIAN_MIRROR"} ||
		die "debootstrap $release: $REASON"
	settle_folder "$folder"
	! is_experimental "$major" || add_experimental "$folder" "$major"
	stand_in "$folder" "$major"
	copy_tree "$folder/llm_enrich" clean
	command_in_folder "$folder" "$major"
	bounded "${IN_FOLDER[@]}" --install || die "installing packages in Debian $release: $REASON"
	rm -f "$folder"/var/cache/apt/archives/*.deb
}

# Run a command within what is left of LLM_FOLDER_LIMIT. On failure set REASON.
bounded()
{
	local log=$LLM_TMP/folder.log limit=${LLM_FOLDER_LIMIT:-900}

	[ "$SECONDS" -ge "$limit" ] ||
		run_job timeout -k 30 "$((limit - SECONDS))" "$@" >"$log" 2>&1 && return 0
	if [ "$SECONDS" -ge "$limit" ]; then
		REASON="not ready after $limit s"
	else
		REASON=$(grep -E '^E: |rror: ' "$log" | tail -n 1)
		REASON=${REASON:-$(tail -n 1 "$log")}
		tail -n 15 "$log" | sed 's/^/    | /'
	fi
	return 1
}

# What debootstrap leaves open: names and proxies as here, no service, no list of translations.
settle_folder()
{
	local folder=$1 file

	for file in resolv.conf hosts; do
		[ ! -e "/etc/$file" ] || cp -L "/etc/$file" "$folder/etc/$file"
	done
	{
		echo 'Acquire::Languages "none";'
		apt-config dump 2>/dev/null | grep -E '^Acquire::(https?::|Check-|Retries|ForceIPv)'
	} >"$folder/etc/apt/apt.conf.d/90llm-enrich"
	# nobody misses the folder if the machine stops
	echo force-unsafe-io >"$folder/etc/dpkg/dpkg.cfg.d/llm-enrich"
	printf '#!/bin/sh\nexit 101\n' >"$folder/usr/sbin/policy-rc.d"
	chmod 755 "$folder/usr/sbin/policy-rc.d"
	# it insists on /proc, and the package of PostgreSQL on it
	chroot "$folder" dpkg-divert --quiet --local --rename --add /usr/bin/systemd-tmpfiles >/dev/null
	ln -sf true "$folder/usr/bin/systemd-tmpfiles"
}

# An empty package stands for clang and LLVM, which the server's development files want for bitcode alone: no test
# compiles any, and they are 500 MB of what would be installed. Where apt does not know them yet, they are installed.
stand_in()
{
	local folder=$1 major=$2 names room=$LLM_TMP/stand-in

	names=$(chroot "$folder" apt-cache depends "postgresql-server-dev-$major" 2>/dev/null |
		sed -nE 's/^ *Depends: ((clang|llvm)-[0-9][0-9a-z.-]*)$/\1/p' | paste -sd, -)
	[ -n "$names" ] || return 0
	mkdir -p "$room/DEBIAN"
	printf '%s\n' 'Package: llm-enrich-no-bitcode' 'Version: 1' 'Architecture: all' 'Maintainer: nobody' \
		"Provides: $names" 'Description: stands for what compiles to bitcode' >"$room/DEBIAN/control"
	{
		dpkg-deb --build "$room" "$folder/no-bitcode.deb" && chroot "$folder" dpkg --install /no-bitcode.deb
	} >"$LLM_TMP/stand-in.log" 2>&1
	rm -f "$folder/no-bitcode.deb"
}

# Let apt know of experimental, and take from there only the server and what belongs to it.
add_experimental()
{
	local folder=$1 major=$2

	sed 's/ sid / experimental /' "$folder/etc/apt/sources.list" >"$folder/etc/apt/sources.list.d/experimental.list"
	printf 'Package: %s\nPin: release a=experimental\nPin-Priority: 600\n' "src:postgresql-$major src:postgresql-common" \
		>"$folder/etc/apt/preferences.d/llm-enrich"
}

# Sets IN_FOLDER, the command that is script/test in a folder.
command_in_folder()
{
	local folder=$1 major=$2 name settings=() with_proc

	# shellcheck disable=SC2016
	with_proc=(unshare --mount --propagation private sh -c 'mount -t proc proc "$0/proc" && exec "$@"' "$folder")
	"${with_proc[@]}" true 2>/dev/null || with_proc=()
	for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY CI LLM_JOBS LLM_WERROR LLM_SANITIZE; do
		[ -z "${!name-}" ] || settings+=("$name=${!name}")
	done
	IN_FOLDER=(${with_proc[@]+"${with_proc[@]}"} chroot "$folder" /usr/bin/env -i HOME=/ LANG=C.UTF-8
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin" "LLM_PG_MAJOR=$major" LLM_LINT=no
		${settings[@]+"${settings[@]}"} /llm_enrich/script/test)
}

# Before the folder is removed: end what runs there, and undo what an interrupted debootstrap mounted.
leave_folder()
{
	local _ place

	end_processes_under "$1"
	while read -r _ place _; do
		case "$place" in "$1"/*) echo "$place" ;; esac
	done </proc/mounts 2>/dev/null | sort -r | while IFS= read -r place; do
		umount -l "$place"
	done
}
