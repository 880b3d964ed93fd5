#!/usr/bin/env bash
# Runs all tests, against a real Redis. What is missing is fetched (see deploy/tools.sh); what cannot be had is a
# failure, never a skipped test. Arguments go to `cargo test`.
set -euo pipefail
unset CDPATH

# shellcheck source=deploy/tools.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../deploy/tools.sh"
need_cargo
need_compiler
need_redis
need_package strace
echo "Testing against $(redis-server --version | cut -d ' ' -f 1-3)"

# A test talks to its own Redis and its own Ravelin only.
for name in "${!RAVELIN_@}" REDISCLI_AUTH REDISCLI_RCFILE; do
    unset "$name"
done
cd -- "$ravelin_root"
exec cargo test --workspace --locked "$@"
