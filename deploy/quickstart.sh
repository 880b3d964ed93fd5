#!/usr/bin/env bash
# Shows Ravelin at work in front of a private Redis: builds it, makes certificates, starts both on this machine's
# loopback, says one allowed and one denied command with their audit lines, and waits for Ctrl-C. With --once it ends
# after the demonstration: 0 if everything was as it should be, 1 if not, with the step that failed.
#
# Nothing is installed but a C compiler where there is none; nothing is left running, and nothing is left on disk but
# the build folder.
# shellcheck disable=SC2317,SC2329 # functions are called by traps and by `within`
set -Eeuo pipefail
unset CDPATH

usage() {
    echo "Usage: $0 [--once]"
    echo "  --once   end after the demonstration instead of waiting for Ctrl-C"
}

once=false
for argument in "$@"; do
    case $argument in
        --once) once=true ;;
        -h | --help)
            usage
            exit 0
            ;;
        *)
            echo "$0: unknown argument: $argument" >&2
            usage >&2
            exit 2
            ;;
    esac
done

# What the user's shell has set for another Ravelin or Redis must not reach these.
for name in "${!RAVELIN_@}" REDISCLI_AUTH REDISCLI_RCFILE; do
    unset "$name"
done
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=deploy/tools.sh
. "$here/tools.sh"

if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
    bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
else
    bold='' dim='' green='' red='' plain=''
fi

dir='' redis_pid='' ravelin_pid='' transcript=/dev/null step=preparation

# To the terminal, and to the transcript in which the password is looked for at the end.
say() { printf '%s\n' "$*" | tee -a "$transcript"; }
begin() {
    step=$1
    say ""
    say "${bold}$1${plain}"
}
item() { say "$(printf '  %-14s%s' "$1" "$2")"; }
good() { say "  ${green}✓${plain} $*"; }

fail() {
    trap - ERR
    printf '\n%sfailed%s in step "%s": %s\n' "$red" "$plain" "$step" "$*" >&2
    local log
    for log in redis.log ravelin.log audit.jsonl; do
        if [[ -n $dir && -s $dir/$log ]]; then
            printf '\nThe end of %s:\n' "$log" >&2
            tail -n 8 -- "$dir/$log" | sed 's/^/  /' >&2
        fi
    done
    exit 1
}

# Ends one process that this script started, and waits for it: by TERM, after ten seconds by KILL.
end() {
    local pid=$1 tries=100
    kill -TERM "$pid" 2> /dev/null || true
    while kill -0 "$pid" 2> /dev/null && ((tries-- > 0)); do
        sleep 0.1
    done
    kill -KILL "$pid" 2> /dev/null || true
    wait "$pid" 2> /dev/null
}

clean_up() {
    local status=$?
    trap - EXIT ERR
    trap '' INT TERM HUP
    if [[ -n $ravelin_pid ]]; then end "$ravelin_pid" || true; fi
    if [[ -n $redis_pid ]]; then end "$redis_pid" || true; fi
    if [[ -n $dir ]]; then rm -rf -- "$dir"; fi
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
trap 'fail "the command \`$BASH_COMMAND\` ended with status $? (line $LINENO)"' ERR

# Repeats a question ten times a second until it is answered with yes; $1 is how many seconds at most.
within() {
    local tries=$(($1 * 10))
    shift
    while ! "$@"; do
        ((tries-- > 0)) || return 1
        sleep 0.1
    done
}

running() { kill -0 "$1" 2> /dev/null; }

# --- tools and build ---

say "${bold}Ravelin quickstart${plain}"
begin "Tools"
[[ $(uname -s) == Linux ]] || fail "Ravelin runs on Linux; this is $(uname -s)"
need_cargo || fail "there is no cargo"
need_compiler || fail "there is no C compiler"
need_redis || fail "there is no redis-server"
item Rust "$(cargo --version)"
item Redis "$(redis-server --version | cut -d ' ' -f 1-3)"

begin "Build"
item running "cargo build --release   ${dim}(some minutes the first time)${plain}"
(cd "$ravelin_root" && cargo build --release --locked --bin ravelin --target-dir "$ravelin_target") \
    || fail "cargo build did not succeed"
ravelin=$ravelin_target/${CARGO_BUILD_TARGET:+$CARGO_BUILD_TARGET/}release/ravelin
[[ -x $ravelin ]] || fail "the build left no program at $ravelin"
item Ravelin "$("$ravelin" -V)   $ravelin"

# --- a place of our own ---

step="Private folder"
parent=${TMPDIR:-/tmp}
# The path of a Unix socket has at most 107 bytes.
if ((${#parent} > 60)); then parent=/tmp; fi
umask 077
dir=$(mktemp -d "$parent/ravelin.XXXXXXXX")
dir=$(cd -- "$dir" && pwd -P)
transcript=$dir/transcript

begin "Certificates"
"$ravelin" certs --dir "$dir/pki" --server localhost,127.0.0.1 --client quickstart > "$dir/certs.out" \
    || fail "\`ravelin certs\` did not succeed"
ca=$dir/pki/ca.crt
server=$dir/pki/server
client=$dir/pki/client-quickstart
for file in "$ca" "$server.crt" "$server.key" "$client.crt" "$client.key"; do
    [[ -s $file ]] || fail "\`ravelin certs\` did not make $file"
done
for file in "$dir"/pki/*.key; do
    [[ $(stat -c %a "$file") == 600 ]] || fail "$file can be read by others"
done
item folder "$dir/pki"
item made "a CA, a server for localhost and 127.0.0.1, a client with CN=quickstart"

# --- Redis, which only this user reaches, and only with the password ---

begin "Redis"
# What people's password managers make, and what breaks careless quoting; the digits make it new each time.
password="p@ss \"word' \\ \$HOME %s #;$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')"
printf '%s\n' "$password" > "$dir/redis-password"
quoted=${password//\\/\\\\}
quoted=${quoted//\"/\\\"}
cat > "$dir/redis.conf" << CONF
port 0
unixsocket $dir/redis.sock
unixsocketperm 700
requirepass "$quoted"
dir $dir
save ""
appendonly no
daemonize no
CONF
setsid redis-server "$dir/redis.conf" > "$dir/redis.log" 2>&1 < /dev/null &
redis_pid=$!
ask_redis() { REDISCLI_AUTH=$password redis-cli -s "$dir/redis.sock" "$@" 2>&1; }
redis_answers() {
    running "$redis_pid" || fail "redis-server ended at once"
    [[ -S $dir/redis.sock && $(ask_redis PING) == PONG ]]
}
within 10 redis_answers || fail "redis-server did not answer within 10 seconds"
item socket "$dir/redis.sock   ${dim}(no port, password required)${plain}"

# --- Ravelin ---

begin "Ravelin"
cat > "$dir/ravelin.toml" << TOML
[[service]]
name = "cache"
listen = [{ address = "127.0.0.1:0" }]
upstream = { address = "unix:$dir/redis.sock", password_file = "$dir/redis-password" }

[tls]
cert = "$server.crt"
key = "$server.key"
client_ca = "$ca"

[admission]
allow = ["127.0.0.1"]

[[role]]
name = "app"
match = [{ cn = "quickstart" }]

[limits]
max_connections = 100

[audit]
output = [{ file = { path = "$dir/audit.jsonl" } }]

[admin]
address = "127.0.0.1:0"
TOML
"$ravelin" check -c "$dir/ravelin.toml" > "$dir/check.out" 2>&1 || {
    sed 's/^/  /' "$dir/check.out" >&2
    fail "\`ravelin check\` refuses the configuration"
}
item configuration "$dir/ravelin.toml"
setsid "$ravelin" run -c "$dir/ravelin.toml" > "$dir/ravelin.out" 2> "$dir/ravelin.log" < /dev/null &
ravelin_pid=$!

# The kernel chose both ports; the log tells them.
port_after() { sed -n "s/.*$1 127\.0\.0\.1:\([0-9][0-9]*\).*/\1/p" "$dir/ravelin.log" | head -n 1; }
listening() {
    running "$ravelin_pid" || fail "ravelin ended at once"
    port=$(port_after 'listening on')
    admin=$(port_after 'admin endpoint on')
    [[ -n $port && -n $admin ]]
}
get() {
    local line
    exec 3<> "/dev/tcp/127.0.0.1/$admin" || return 1
    printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$1" >&3
    IFS= read -r -t 5 line <&3 || line=''
    exec 3<&- 3>&-
    [[ $line == 'HTTP/1.1 200'* ]]
} 2> /dev/null
within 10 listening || fail "ravelin did not say within 10 seconds where it listens"
within 10 get /readyz || fail "ravelin is not ready after 10 seconds"
item "listens on" "127.0.0.1:$port   ${dim}(mutual TLS)${plain}"
item "audit stream" "$dir/audit.jsonl"

# --- the demonstration ---

cli=(redis-cli --tls -h 127.0.0.1 -p "$port" --cacert "$ca" --cert "$client.crt" --key "$client.key")

# The audit line of the last command $1 with outcome $2.
record_of() { grep -i "\"event\":\"command\".*\"cmd\":\"$1\".*\"outcome\":\"$2\"" "$dir/audit.jsonl" | tail -n 1 | grep .; }
recorded() { record_of "$@" > /dev/null; }

# Says a command as the client; $1 is the reply's beginning, $2 the outcome in its record, the rest the command.
show() {
    local expected=$1 outcome=$2 reply
    shift 2
    reply=$("${cli[@]}" "$@" 2>&1) || true
    say ""
    say "  ${bold}> $*${plain}"
    say "  $reply"
    [[ $reply == "$expected"* ]] || fail "expected a reply that begins with \"$expected\""
    within 5 recorded "$1" "$outcome" || fail "no audit line says that $1 was: $outcome"
    say "  ${dim}$(record_of "$1" "$outcome")${plain}"
}

begin "A client with a certificate"
show OK ran SET greeting "hello from behind the wall"
show "hello from behind the wall" ran GET greeting
show NOPERM denied FLUSHALL
[[ $(ask_redis GET greeting) == "hello from behind the wall" ]] || fail "the key is gone: FLUSHALL reached Redis"
stats=$(ask_redis INFO commandstats)
[[ $stats == *cmdstat_set:* ]] || fail "Redis does not count the SET"
[[ $stats != *flushall* ]] || fail "Redis counts a FLUSHALL"
say ""
good "the denied command never reached Redis, and the key is still there"

begin "A client without a certificate"
reply=$(redis-cli --tls -h 127.0.0.1 -p "$port" --cacert "$ca" PING 2>&1) || true
[[ $reply != *PONG* ]] || fail "it was answered"
refusal_of() { grep '"event":"handshake_failure"' "$dir/audit.jsonl" | grep '"reason":"no-certificate"' | tail -n 1 | grep .; }
refused() { refusal_of > /dev/null; }
within 5 refused || fail "no audit line tells of it"
say "  ${dim}$(refusal_of)${plain}"
good "refused, and recorded"

step="Password"
# `|| true`: finding nothing is what is hoped for.
found=$(grep -lFe "$password" -e "$quoted" -- "$dir/audit.jsonl" "$dir/ravelin.log" "$dir/ravelin.out" "$dir/check.out" "$dir/transcript" || true)
[[ -z $found ]] || fail "it can be read in $found"
good "Redis' password is in no record, no log and no output"
running "$ravelin_pid" || fail "ravelin has ended"
if grep -q 'panic at' "$dir/ravelin.log"; then fail "ravelin's log tells of a panic"; fi

if $once; then
    step="End"
    kill -TERM "$ravelin_pid"
    # The exit code of a clean drain is 0.
    status=0
    wait "$ravelin_pid" || status=$?
    ravelin_pid=''
    ((status == 0)) || fail "ravelin ended with status $status after SIGTERM"
    good "ravelin drained and ended with status 0 after SIGTERM"
    say ""
    say "${green}Everything was as it should be.${plain}"
    exit 0
fi

cli[0]=$(command -v redis-cli)
begin "Now you"
say "  Paste this into another terminal, and try GET greeting, KEYS * or CONFIG GET requirepass:"
say ""
say "    $(printf '%q ' "${cli[@]}")"
say ""
say "  Every command appears in the audit stream:"
say ""
say "    tail -f $(printf '%q' "$dir/audit.jsonl")"
say ""
say "  Ctrl-C ends both and removes $dir"
trap 'say ""; say "Ending."; exit 0' INT TERM HUP
wait -n "$ravelin_pid" "$redis_pid" || true
step=Waiting
running "$ravelin_pid" || fail "ravelin ended by itself"
fail "redis-server ended by itself"
