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
# What every client meets, and everything there is.
quick=(gate dialogues oracle records)
suites=(gate dialogues oracle records doors life)
# The catalog holds what the reference says, and what these two say of later commands.
newest=(catalog catalog_effects catalog_keys)

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
mapfile -t build < <(arguments "${suites[@]}" "${newest[@]}")
cargo test --quiet --locked --no-run "${build[@]}"

logs=$ravelin_target/matrix
mkdir -p -- "$logs"
rows=()
failed=()
for name in "${names[@]}"; do
    mapfile -t chosen < <(arguments "${suites[@]}")
    case $name in
        redis-7.0 | redis-8.6 | valkey-9.1) mapfile -t chosen < <(arguments "${suites[@]}" "${newest[@]}") ;;
    esac
    export RAVELIN_TEST_SERVER=$servers/$name/redis-server
    began=$SECONDS
    printf '%-11s …' "$name"
    if cargo test --locked --no-fail-fast "${chosen[@]}" > "$logs/$name.log" 2>&1; then
        result=ok
    else
        result=FAILED
        failed+=("$name")
    fi
    passed=$(awk '/^test result:/ { sum += $4 } END { print sum + 0 }' "$logs/$name.log")
    wrong=$(awk '/^test result:/ { sum += $6 } END { print sum + 0 }' "$logs/$name.log")
    row=$(printf '%-11s  %-24s  %6d  %6d  %7d  %s' "$name" "$("$RAVELIN_TEST_SERVER" --version | cut -d ' ' -f 1-3)" \
        "$passed" "$wrong" $((SECONDS - began)) "$result")
    rows+=("$row")
    printf '\r%s\n' "$row"
    # A binary that did not even start has no result line, and must not look like one that passed.
    if [[ $result == FAILED ]]; then
        grep -E '^test .* FAILED$|^error' "$logs/$name.log" | sed 's/^/    /' || tail -n 20 "$logs/$name.log"
    fi
done

printf '\n%-11s  %-24s  %6s  %6s  %7s  %s\n' server release passed failed seconds ''
printf '%s\n' "${rows[@]}"
echo "Suites: ${suites[*]}; ${newest[*]} for the reference and the newest. Logs: $logs"
if ((${#failed[@]} > 0)); then
    echo "tests/matrix.sh: failed against ${failed[*]}" >&2
    exit 1
fi
