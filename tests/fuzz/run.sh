#!/usr/bin/env bash
# Runs the fuzz targets, on stable Rust: tests/fuzz/run.sh [TARGET|all] [SECONDS each]
#
# Inputs that bring something new gather in $FUZZ_DIR/TARGET/corpus (kept from run to run, next to the build); crashes are
# written to $FUZZ_DIR/TARGET/crash-* (and timeout-*, oom-*) and stay there until they are moved away. `MINIMISE=1` brings
# tests/fuzz/corpus/TARGET, which `cargo test --test fuzz_corpus` replays, down to the smallest set of inputs with the same
# coverage; inputs there that somebody gave a name are kept. It may be interrupted: nothing is removed before all that is
# new is there. With the LLVM tools of rustc's version at hand (LLVM_BIN=/usr/lib/llvm-22/bin), COVERAGE=1 prints which
# lines of which files the corpus reaches.
set -euo pipefail
unset CDPATH

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
which=${1:-all}
seconds=${2:-60}
host=$(rustc -vV | sed -n 's/^host: //p')
build=${CARGO_TARGET_DIR:-$here/../../target}/fuzz
FUZZ_DIR=${FUZZ_DIR:-$build/runs}
targets=(request inline reply lane proxy session acl)
if [ "$which" != all ]; then
    targets=("$which")
fi

# What cargo-fuzz passes on a nightly compiler; these passes and arguments are LLVM's and work on stable.
sancov='-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing'
compile() {
    env RUSTFLAGS="$1" CARGO_TARGET_DIR="$build/$2" cargo build --manifest-path "$here/Cargo.toml" --locked --release \
        --features run --target "$host" --bins
}

if [ "${COVERAGE:-}" = 1 ]; then
    bin=${LLVM_BIN:?where llvm-profdata and llvm-cov of the version of rustc are}
    compile "-Cinstrument-coverage --cfg fuzzing" coverage
    for target in "${targets[@]}"; do
        program=$build/coverage/$host/release/$target
        profile=$FUZZ_DIR/$target/profile
        LLVM_PROFILE_FILE=$profile.raw "$program" -runs=0 "$here/corpus/$target" 2> /dev/null
        "$bin/llvm-profdata" merge -sparse "$profile.raw" -o "$profile"
        echo "=== $target"
        "$bin/llvm-cov" report "$program" -instr-profile="$profile" \
            -ignore-filename-regex='registry|rustc|tests/fuzz|/src/(net|tls|config|server|cli|metrics|admin)' |
            awk '/resp|lane|session|policy/ && $10 != "0.00%" { print $1, "lines", $8, "missed", $9, "covered", $10 }'
    done
    exit
fi

# Bounds that tests/fuzz_corpus.rs sets on a corpus: files at least and at most, bytes.
files_min=10 files_max=300 bytes_max=200000

# The files of a folder, and their bytes: "FILES BYTES".
measure() {
    find "$1" -type f -printf '%s\n' | awk '{ bytes += $1 } END { print NR + 0, bytes + 0 }'
}

# Inputs that are not called by their hash were put there by hand: what was found.
named() {
    find "$1" -type f | grep -vE '/[0-9a-f]{40}$' || true
}

# minimise PROGRAM RUNS CORPUS
minimise() {
    local program=$1 runs=$2 corpus=$3 small=$2/small longest files bytes file
    for longest in 4096 2048 1024 512; do
        rm -rf "$small"
        mkdir "$small"
        named "$corpus" | while read -r file; do cp "$file" "$small/"; done
        "$program" -set_cover_merge=1 -use_counters=0 -timeout=10 -max_len="$longest" "$small" "$runs/corpus" "$corpus" \
            > "$runs/minimise.log" 2>&1 || { tail -n 5 "$runs/minimise.log" >&2; return 1; }
        read -r files bytes < <(measure "$small")
        echo "minimised to $files inputs of at most $longest bytes, $bytes bytes in all"
        if ((files < files_min)); then
            break
        fi
        if ((files <= files_max && bytes <= bytes_max)); then
            cp "$small"/* "$corpus/"
            find "$corpus" -type f | while read -r file; do
                [ -e "$small/${file##*/}" ] || rm -- "$file"
            done
            return
        fi
    done
    echo "$corpus stays as it is: a corpus has $files_min to $files_max files of together at most $bytes_max bytes" >&2
    return 1
}

compile "$sancov" sancov
for target in "${targets[@]}"; do
    program=$build/sancov/$host/release/$target
    runs=$FUZZ_DIR/$target
    mkdir -p "$runs/corpus" "$here/corpus/$target"
    echo "=== $target for $seconds s; log and crashes in $runs"
    status=0
    "$program" -max_total_time="$seconds" -artifact_prefix="$runs/" -timeout=10 -rss_limit_mb=1024 -max_len=4096 \
        -len_control=20 -print_final_stats=1 -use_value_profile=0 "$runs/corpus" "$here/corpus/$target" \
        > "$runs/log" 2>&1 || status=$?
    grep -aE '^(#[0-9]+.*(INITED|DONE)|stat::(number|average)|SUMMARY|thread.*panicked|==)' "$runs/log" || true
    found=$(find "$runs" -maxdepth 1 '(' -name 'crash-*' -o -name 'timeout-*' -o -name 'oom-*' ')')
    if [ -n "$found" ]; then
        printf '%s: found\n%s\n' "$target" "$found" >&2
        exit 1
    fi
    if [ "$status" != 0 ]; then
        echo "$target: ended with status $status, see $runs/log" >&2
        exit 1
    fi
    if [ "${MINIMISE:-}" = 1 ]; then
        minimise "$program" "$runs" "$here/corpus/$target"
    fi
done
