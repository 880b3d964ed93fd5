#!/usr/bin/env bash
# Runs the fuzz targets, on stable Rust: tests/fuzz/run.sh [TARGET|all] [SECONDS each]
#
# Inputs that bring something new gather in $FUZZ_DIR/TARGET/corpus (kept from run to run, next to the build); crashes are
# written to $FUZZ_DIR/TARGET/crash-*. `MINIMISE=1` puts the smallest set of inputs with the same coverage into
# tests/fuzz/corpus/TARGET, which `cargo test --test fuzz_corpus` replays. With Debian's llvm-22 at hand
# (LLVM_BIN=/usr/lib/llvm-22/bin), COVERAGE=1 prints which lines the corpus reaches.
set -euo pipefail
unset CDPATH

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
which=${1:-all}
seconds=${2:-60}
host=$(rustc -vV | sed -n 's/^host: //p')
build=${CARGO_TARGET_DIR:-$here/../../target}/fuzz
FUZZ_DIR=${FUZZ_DIR:-$build/runs}
targets=(request inline reply lane session)
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
            awk 'NR == 1 || /resp|lane|session|TOTAL/ { print $1, "lines", $8, "missed", $9, "covered", $10 }'
    done
    exit
fi

compile "$sancov" sancov
for target in "${targets[@]}"; do
    program=$build/sancov/$host/release/$target
    runs=$FUZZ_DIR/$target
    mkdir -p "$runs/corpus" "$here/corpus/$target"
    echo "=== $target for $seconds s; crashes go to $runs"
    "$program" -max_total_time="$seconds" -artifact_prefix="$runs/" -timeout=10 -rss_limit_mb=1024 -max_len=4096 \
        -len_control=20 -print_final_stats=1 -use_value_profile=0 "$runs/corpus" "$here/corpus/$target" 2>&1 |
        tee "$runs/log" | grep -E '^(#[0-9]+.*(INITED|pulse|DONE)|stat::(number|average)|SUMMARY|thread|.*panicked|==)' || true
    if compgen -G "$runs/crash-*" > /dev/null; then
        echo "$target: found $(ls "$runs"/crash-* | wc -l) crash(es), see $runs" >&2
        exit 1
    fi
    if [ "${MINIMISE:-}" = 1 ]; then
        rm -rf "$runs/small"
        mkdir "$runs/small"
        "$program" -set_cover_merge=1 -use_counters=0 "$runs/small" "$runs/corpus" "$here/corpus/$target" 2>&1 | grep -E 'MERGE-OUTER.*(new files|coverage)' || true
        ls "$runs/small" | wc -l
        rm -rf "$here/corpus/$target"
        mv "$runs/small" "$here/corpus/$target"
    fi
done
