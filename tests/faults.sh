#!/usr/bin/env bash
# Plants faults in a copy of the sources and demands that the oracles find each of them.
#
#   tests/faults.sh                 every fault, by the first oracle that finds it (the gate)
#   tests/faults.sh --all           every fault, by each oracle there is
#   tests/faults.sh [--all] NAME…   these
#
# A fault is a small patch in tests/faults, asleep until RAVELIN_FAULT names it, so that one extra build holds all of
# them and no fault stands in the product's sources. The oracles are the tests as they are, run against that build; one
# of them must fail, and must say what tests/faults/expected demands. Without a fault the same build must pass. A patch
# that no longer applies is an error: write it anew.
set -euo pipefail
unset CDPATH

# shellcheck source=deploy/tools.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../deploy/tools.sh"
need_cargo
need_compiler
need_redis
for name in "${!RAVELIN_@}" REDISCLI_AUTH REDISCLI_RCFILE; do
    # The server may be chosen.
    [[ $name == RAVELIN_TEST_SERVER ]] || unset "$name"
done
cd -- "$ravelin_root"
exec < /dev/null

# A fault must be found within a minute. The witness finds all of them but those of the ACL engine, which have an oracle of
# their own; with --all the others are asked too.
patience=60
oracles=(witness)
all=
if [[ ${1-} == --all ]]; then
    shift
    all=yes
    for oracle in differential oracle dialogues records; do
        [[ ! -f tests/$oracle.rs ]] || oracles+=("$oracle")
    done
fi

faults=("$@")
is_of_acl() { [[ $1 == acl-* ]]; }
if ((${#faults[@]} == 0)); then
    for patch in tests/faults/*.patch; do
        patch=${patch##*/}
        faults+=("${patch%.patch}")
    done
fi
expected_of() { sed -n "s/^$1  *//p" tests/faults/expected; }
for fault in "${faults[@]}"; do
    if [[ ! -f tests/faults/$fault.patch || -z $(expected_of "$fault") ]]; then
        echo "There is no tests/faults/$fault.patch, or no line for it in tests/faults/expected." >&2
        exit 1
    fi
done

work=$ravelin_target/faults
tree=$work/tree
rm -rf -- "$tree"
mkdir -p -- "$tree"
# Every file as of now, or cargo might take an older build of this copy for fresh.
tar -c --exclude=./target --exclude=./.git . | tar -x -m -C "$tree"
for patch in tests/faults/*.patch; do
    # Not as part of the repository that the copy lies in.
    if ! (cd -- "$tree" && GIT_CEILING_DIRECTORIES=$work git apply -C1 -) < "$patch"; then
        echo "$patch no longer applies: write it anew." >&2
        exit 1
    fi
done
cat >> "$tree/src/lib.rs" << 'RUST'

/// Whether this fault is planted.
pub(crate) fn fault(name: &str) -> bool {
    static PLANTED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    PLANTED.get_or_init(|| std::env::var("RAVELIN_FAULT").ok()).as_deref() == Some(name)
}
RUST

began=$SECONDS
tests=()
asked=("${oracles[@]}" acl_oracle)
for oracle in "${asked[@]}"; do
    tests+=(--test "$oracle")
done
built=$(cargo test --locked --no-run "${tests[@]}" 2>&1) || {
    echo "$built" >&2
    exit 1
}
# The copy's dependencies are the same: linked, not built again.
if [[ ! -d $work/build/debug ]]; then
    mkdir -p -- "$work/build/debug"
    for part in deps build .fingerprint; do
        cp -al -- "$ravelin_target/debug/$part" "$work/build/debug/" || rm -rf -- "$work/build/debug/$part"
    done
fi
(cd -- "$tree" && CARGO_TARGET_DIR=$work/build cargo build --quiet --locked --bin ravelin)
program_of() { sed -n "s/^ *Executable tests\/$1\(\.rs\|\/main\.rs\) (\(.*\))$/\2/p" <<< "$built"; }
printf 'built in %d s\n' $((SECONDS - began))

# Runs one oracle against the copy, with a fault or none, for so many seconds at most; its words go to a file.
ask() {
    local oracle=$1 fault=$2 only=
    # The rest of it judges by the library that it is built with, which has no faults.
    [[ $oracle != acl_oracle ]] || only=the_proxy
    RAVELIN_FAULT=$fault RAVELIN_BIN=$work/build/debug/ravelin RAVELIN_ORACLE_SECONDS=2 RUST_BACKTRACE=0 \
        timeout "$3" "$(program_of "$oracle")" --nocapture $only > "$work/$oracle.log" 2>&1
}

for oracle in "${asked[@]}"; do
    began=$SECONDS
    if ! ask "$oracle" "" $((5 * patience)); then
        tail -n 30 "$work/$oracle.log" | cut -c 1-400 >&2
        echo "Without a fault, $oracle fails." >&2
        exit 1
    fi
    printf 'without a fault: %s passes in %d s\n' "$oracle" $((SECONDS - began))
done

missed=0
printf '\n%-26s %-13s %7s  %s\n' fault "found by" seconds "what it said"
for fault in "${faults[@]}"; do
    began=$SECONDS
    found=
    by=
    finders=("${oracles[@]}")
    if is_of_acl "$fault"; then
        finders=(acl_oracle)
    fi
    for oracle in "${finders[@]}"; do
        result=0
        ask "$oracle" "$fault" "$patience" || result=$?
        # Out of patience (124) is not a finding.
        if ((result != 0 && result != 124)); then
            by+=" $oracle"
            found=${found:-$oracle}
            [[ $all ]] || break
        fi
    done
    took=$((SECONDS - began))
    if [[ -z $found ]]; then
        printf '%-26s %-13s %7d  %s\n' "$fault" NOBODY "$took" ""
        missed=$((missed + 1))
        continue
    fi
    said=$(grep -aoEm 1 -e "$(expected_of "$fault").{0,80}" "$work/$found.log" | head -n 1 | cut -c 1-100) || said=
    if [[ -z $said ]]; then
        printf '%-26s %-13s %7d  %s\n' "$fault" "$found" "$took" "SOMETHING ELSE:"
        tail -n 20 "$work/$found.log" | cut -c 1-300
        missed=$((missed + 1))
    else
        printf '%-26s %-13s %7d  %s\n' "$fault" "$found" "$took" "$said"
        [[ ! $all ]] || printf '%27sasked all; found by:%s\n' '' "$by"
    fi
done
if ((missed > 0)); then
    echo "$missed of ${#faults[@]} faults were not found as expected." >&2
    exit 1
fi
printf '\nall %d faults were found\n' "${#faults[@]}"
