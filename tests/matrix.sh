#!/usr/bin/env bash
# Runs the tests that talk to a server against servers of other releases: tests/matrix.sh [--quick] [NAME…], all of
# tests/servers.sh without a name. Prints a table; any failure, and a server that cannot be had, fails it.
set -euo pipefail
unset CDPATH

# shellcheck source=deploy/tools.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../deploy/tools.sh"
cd -- "$ravelin_root"
exec < /dev/null

all=(redis-2.8 redis-3.2 redis-5.0 redis-6.0 redis-6.2 redis-7.0 redis-8.0 redis-8.6 redict-7.3 valkey-8.0 valkey-9.1)
# What every client meets, in less than a minute per server.
quick=(gate dialogues records oracle fallback doors strict_framing states_ends states_replies states_tracking states_twins monitor
    witness)
# All that a server's release takes part in.
suites=("${quick[@]}" life states_vanish replication strict_options flow_matrix flow_pipelines differential acl acl_oracle
    arguments attacks credentials credentials_select databases explain misfortunes presets rename roles scripts shadow wall_clock)
# What the catalog says of commands is looked at by means that came with 7.0: COMMAND's key specs, and what CLIENT LIST shows
# of a connection (resp, ssub). What earlier servers do with their replies, the suites above see through the proxy.
since7=(catalog_effects catalog_keys)
# The catalog itself holds word by word what the reference says, and what these two say of later commands.
newest=(catalog)

case ${1-} in
    --help | -h)
        cat << USAGE
Usage: tests/matrix.sh [--quick] [NAME…]

Runs the tests that talk to a server against servers of other releases, got by tests/servers.sh.

  --quick   only ${quick[*]}
  NAME      ${all[*]}
USAGE
        exit
        ;;
    --quick)
        suites=("${quick[@]}")
        shift
        ;;
esac
names=("$@")
((${#names[@]} > 0)) || names=("${all[@]}")

need_cargo
need_compiler
need_redis
servers=${RAVELIN_SERVERS:-$ravelin_target/servers}
tests/servers.sh "${names[@]}"
for name in "${!RAVELIN_@}" REDISCLI_AUTH REDISCLI_RCFILE; do
    unset "$name"
done

arguments() { printf -- '--test\n%s\n' "$@"; }
echo "Building the tests"
mapfile -t build < <(arguments "${suites[@]}" "${since7[@]}" "${newest[@]}")
cargo test --quiet --locked --no-run "${build[@]}"

logs=$ravelin_target/matrix
mkdir -p -- "$logs"
line() { printf '%-11s  %-14s  %6s  %6s  %7s  %s\n' "$@"; }
# As the program itself says: INFO of the forks says 7.2.4 for all of them.
release() { "$1" --version | sed -n 's/^\([A-Za-z]*\) server v=\([0-9.]*\).*/\1 \2/p'; }
tally() { awk -v field="$1" '/^test result:/ { sum += $field } END { print sum + 0 }' "$2"; }

failed=()
printf '\n'
line server release passed failed seconds result
for name in "${names[@]}"; do
    asked=("${suites[@]}")
    case $name in
        redis-7.0 | redis-8.6 | valkey-9.1) asked+=("${since7[@]}" "${newest[@]}") ;;
        redis-8.* | redict-* | valkey-*) asked+=("${since7[@]}") ;;
    esac
    mapfile -t chosen < <(arguments "${asked[@]}")
    export RAVELIN_TEST_SERVER=$servers/$name/redis-server
    log=$logs/$name.log
    began=$SECONDS
    if cargo test --locked --no-fail-fast "${chosen[@]}" > "$log" 2>&1; then
        result=ok
    else
        result=FAILED
        failed+=("$name")
    fi
    line "$name" "$(release "$RAVELIN_TEST_SERVER")" "$(tally 4 "$log")" "$(tally 6 "$log")" $((SECONDS - began)) "$result"
    # A binary that did not even start has no result line, and must not look like one that passed.
    if [[ $result == FAILED ]]; then
        grep -E '^test .* FAILED$|^error' "$log" | sed 's/^/    /' || tail -n 20 "$log"
    fi
done

echo "Suites: ${suites[*]}; ${since7[*]} from 7.0 on; ${newest[*]} for the reference and the newest. Logs: $logs"
if ((${#failed[@]} > 0)); then
    echo "tests/matrix.sh: failed against ${failed[*]}" >&2
    exit 1
fi
