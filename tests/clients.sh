#!/usr/bin/env bash
# Runs the tests with real clients: tests/clients.sh [NAME…], all of tests/clients.rs without a part of a test's name.
# The libraries come from PyPI and npm, by the machine's own settings for both, at fixed versions, into the build
# folder, where they stay. Prints a table; what cannot be had fails it. RAVELIN_TEST_SERVER may name another server.
set -euo pipefail
unset CDPATH

# shellcheck source=deploy/tools.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../deploy/tools.sh"
cd -- "$ravelin_root"
exec < /dev/null

case ${1-} in
    --help | -h)
        echo "Usage: tests/clients.sh [NAME…]"
        echo
        echo "Runs the tests with real clients whose names contain NAME; all of them without."
        echo "  RAVELIN_TEST_SERVER   a redis-server other than the one on the path"
        exit
        ;;
esac

need_python() {
    have python3 && python3 -c 'import ensurepip, venv' > /dev/null 2>&1 && return
    echo "python3 or its venv module is missing; installing the packages python3 and python3-venv." >&2
    install_packages python3 python3-venv && have python3 && return
    echo "python3 or its venv module is missing and could not be installed. As root: apt-get install python3 python3-venv" >&2
    return 1
}

need_node() {
    if ! have node || ! have npm; then
        echo "node or npm is missing; installing the packages nodejs and npm." >&2
        install_packages nodejs npm || true
        if ! have node || ! have npm; then
            echo "node or npm is missing and could not be installed. As root: apt-get install nodejs npm" >&2
            return 1
        fi
    fi
    local found
    found=$(node --version)
    found=${found#v}
    if ((${found%%.*} < 20)); then
        echo "node is $found, and the libraries need 20 or later: Debian has it from 13 (trixie) on, or see https://nodejs.org" >&2
        return 1
    fi
}

# Fills the folder $1, or leaves nothing of it.
fetch() {
    rm -rf -- "$1"
    mkdir -p -- "$1"
    python3 -m venv "$1/venv"
    "$1/venv/bin/pip" install --quiet --disable-pip-version-check --retries 5 --no-deps -r tests/clients/requirements.txt
    "$1/venv/bin/pip" check > "$1/check" || {
        cat -- "$1/check" >&2
        return 1
    }
    cp -- tests/clients/package.json tests/clients/package-lock.json "$1"
    # Not `npm ci`: what a registry lacks of optional packages for other systems, which nothing here needs, ends it.
    (cd -- "$1" && npm install --omit=optional --no-audit --no-fund --no-update-notifier --ignore-scripts \
        --loglevel=error > npm.log 2>&1) || {
        cat -- "$1/npm.log" >&2
        return 1
    }
    # shellcheck disable=SC2016 # expanded by node
    node -e '
        const { packages } = require(process.argv[1]);
        const installed = require(process.argv[2] + "/node_modules/.package-lock.json").packages;
        const odd = Object.keys(installed).filter((path) => installed[path].integrity !== packages[path]?.integrity);
        if (odd.length > 0) throw new Error(`not what package-lock.json says: ${odd}`);
        if (Object.keys(installed).length < 15) throw new Error("too few packages");
    ' "$ravelin_root/tests/clients/package-lock.json" "$1"
}

need_cargo
need_compiler
need_redis
need_python
need_node

wanted=$(cat -- tests/clients/requirements.txt tests/clients/package-lock.json <(python3 --version) <(node --version) | sha256sum)
libraries=$ravelin_target/clients/${wanted:0:16}
if [[ ! -e $libraries/complete ]]; then
    echo "Getting the clients' libraries"
    fetch "$libraries" || {
        echo "tests/clients.sh: the libraries could not be had; the reason stands above" >&2
        exit 1
    }
    touch -- "$libraries/complete"
fi

server=${RAVELIN_TEST_SERVER-}
for name in "${!RAVELIN_@}" REDISCLI_AUTH REDISCLI_RCFILE; do
    unset "$name"
done
if [[ -n $server ]]; then export RAVELIN_TEST_SERVER=$server; fi
export RAVELIN_CLIENT_LIBRARIES=$libraries
release=$("${server:-redis-server}" --version | cut -d ' ' -f 1-3)

# They wait more than they compute.
threads=$(($(nproc) * 2))
log=$ravelin_target/clients/log
began=$SECONDS
status=0
# Not captured: a row is worth having from a test that fails later, too.
cargo test --locked --test clients -- --include-ignored --nocapture --test-threads "$threads" "$@" > "$log" 2>&1 || status=$?
if ((status != 0)); then
    # All but the audit streams.
    grep -v '^{"v":1,' -- "$log" >&2 || true
fi

# Lines of the log: row, client, version, protocol, sections, steps, result, with tabs between.
table() {
    printf 'client\tversion\tprotocol\twhat\tsteps\tresult\n'
    grep -a -o $'row\t.*' -- "$log" | cut -f 2- | sort
}
printf '\nAgainst %s:\n\n' "$release"
table | awk -F '\t' '
    { for (i = 1; i <= NF; i++) { cell[NR, i] = $i; if (length($i) > width[i]) width[i] = length($i) } columns = NF }
    END {
        for (row = 1; row <= NR; row++) {
            line = ""
            for (i = 1; i <= columns; i++) line = line sprintf("%-" width[i] + 2 "s", cell[row, i])
            sub(/ +$/, "", line)
            print line
        }
    }'
printf '\n%s (%d s, log: %s)\n' "$(grep -a '^test result:' -- "$log" || echo 'The tests did not start.')" $((SECONDS - began)) "$log"
if ((status != 0)); then
    echo "tests/clients.sh: failed against $release" >&2
    exit 1
fi
