# shellcheck shell=bash
# What quickstart.sh, tests/run.sh and .ci/run need of the machine; sourced, not run.
#
# Redis is unpacked from the distribution's packages into the build folder and not installed: an installed redis-server
# would be enabled and started as a service, and unpacking needs no root. The package manager's own lists and
# signatures are used, and nothing outside the build folder changes.

ravelin_root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
ravelin_target=${CARGO_TARGET_DIR:-$ravelin_root/target}
case $ravelin_target in
    /*) ;;
    *) ravelin_target=$PWD/$ravelin_target ;;
esac
# Cargo reads a relative folder from where it runs, which may be elsewhere.
if [[ -n ${CARGO_TARGET_DIR:-} ]]; then
    export CARGO_TARGET_DIR=$ravelin_target
fi
ravelin_tools=$ravelin_target/tools

have() { command -v -- "$1" > /dev/null 2>&1; }

# Runs a command as root: as it is, or by sudo. Fails without a word where neither is possible.
as_root() {
    if ((EUID == 0)); then
        "$@"
    elif have sudo; then
        sudo -- "$@"
    else
        return 1
    fi
}

# Installs packages that bring no service with them.
install_packages() {
    have apt-get || return 1
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" < /dev/null && return
    # The lists of a fresh machine are empty or old.
    as_root apt-get update < /dev/null \
        && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" < /dev/null
}

# A toolchain as Cargo.toml's rust-version says; distributions' own are often older and say so in riddles.
need_cargo() {
    # Where rustup puts it, in a shell that was open before.
    if ! have cargo && [[ -x ${CARGO_HOME:-${HOME:-/root}/.cargo}/bin/cargo ]]; then
        PATH=${CARGO_HOME:-${HOME:-/root}/.cargo}/bin:$PATH
    fi
    local wanted found
    wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$ravelin_root/Cargo.toml")
    if ! have cargo; then
        echo "cargo is missing: install a Rust toolchain, $wanted or later, see https://rustup.rs" >&2
        return 1
    fi
    # In the repository's folder: rustup's choice of a toolchain may depend on it.
    found=$(cd -- "$ravelin_root" && cargo --version | cut -d ' ' -f 2) || return
    if [[ $(printf '%s\n' "$wanted" "$found" | sort -V | head -n 1) != "$wanted" ]]; then
        echo "cargo is $found, and $wanted or later is needed: see https://rustup.rs" >&2
        return 1
    fi
}

# rustc links by `cc`, and aws-lc-sys compiles C.
need_compiler() {
    have cc && return
    echo "A C compiler is missing; installing the package gcc." >&2
    install_packages gcc libc6-dev && have cc && return
    echo "A C compiler is missing and could not be installed. As root: apt-get install gcc libc6-dev" >&2
    return 1
}

need_openssl() {
    have openssl && return
    echo "openssl is missing; installing the package openssl." >&2
    install_packages openssl && have openssl && return
    echo "openssl is missing and could not be installed. As root: apt-get install openssl" >&2
    return 1
}

# A program that a package of the same name brings.
need_package() {
    have "$1" && return
    echo "$1 is missing; installing the package $1." >&2
    install_packages "$1" && have "$1" && return
    echo "$1 is missing and could not be installed. As root: apt-get install $1" >&2
    return 1
}

# A redis-cli built from source may lack TLS.
have_redis() { have redis-server && [[ $(redis-cli --help 2>&1) == *--tls* ]]; }

# redis-server and redis-cli on PATH: the machine's own, or unpacked ones.
need_redis() {
    have_redis && return
    local bin=$ravelin_tools/bin
    if [[ ! -x $bin/redis-server || ! -x $bin/redis-cli ]] || ! "$bin/redis-server" --version > /dev/null 2>&1; then
        echo "redis-server (or a redis-cli with TLS) is missing: unpacking the distribution's into $ravelin_tools; nothing is installed, no service is started." >&2
        if ! unpack_redis; then
            echo "redis-server could not be had. Install it by hand: the packages redis-server and redis-tools of Debian and Ubuntu, or any Redis from 6 on." >&2
            return 1
        fi
    fi
    PATH=$bin:$PATH
    have_redis
}

unpack_redis() {
    if ! have apt-get || ! have dpkg; then
        echo "This machine has no apt-get and dpkg." >&2
        return 1
    fi
    local work=$ravelin_tools/redis.new file program
    rm -rf -- "$work"
    mkdir -p "$work/apt/archives/partial" "$work/apt/lists/partial" "$work/root" "$ravelin_tools/bin" || return
    local -a apt=(
        apt-get -qq
        # Private folders, so that root is not needed.
        -o Debug::NoLocking=1 -o "Dir::Cache=$work/apt" -o APT::Sandbox::User=
    )
    if ((EUID == 0)); then
        apt+=(-o APT::Sandbox::User=root)
    fi
    # Both, even where one is installed: the server is a link to a program of redis-tools.
    local -a get=(install -y --no-install-recommends --download-only --reinstall redis-server redis-tools)
    # With the machine's lists; where they are empty or old, with fresh ones of our own.
    if ! "${apt[@]}" "${get[@]}" < /dev/null > "$work/log" 2>&1; then
        apt+=(-o "Dir::State::lists=$work/apt/lists")
        if ! { "${apt[@]}" update && "${apt[@]}" "${get[@]}"; } < /dev/null > "$work/log" 2>&1; then
            sed 's/^/  apt-get: /' "$work/log" >&2
            return 1
        fi
    fi
    for file in "$work"/apt/archives/*.deb; do
        dpkg --extract "$file" "$work/root" || return
    done
    for program in redis-server redis-cli redis-benchmark; do
        file=$ravelin_tools/redis/usr/bin/$program
        # shellcheck disable=SC2016 # expanded by the program it writes
        printf '#!/bin/bash\nexport LD_LIBRARY_PATH=%q${LD_LIBRARY_PATH:+":$LD_LIBRARY_PATH"}\nexec %q "$@"\n' \
            "$(libraries "$ravelin_tools/redis" "$work/root")" "$file" > "$ravelin_tools/bin/$program" || return
        chmod 755 "$ravelin_tools/bin/$program" || return
    done
    rm -rf -- "$ravelin_tools/redis"
    mv -- "$work/root" "$ravelin_tools/redis" || return
    rm -rf -- "$work"
    "$ravelin_tools/bin/redis-server" --version > /dev/null && "$ravelin_tools/bin/redis-cli" --version > /dev/null
}

# The folders of shared libraries below $2, as they will be called below $1.
libraries() {
    find "$2" -name '*.so*' -printf '%h\n' | sort -u | sed "s|^$2|$1|" | paste -sd: -
}
