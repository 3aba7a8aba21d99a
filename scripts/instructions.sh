#!/usr/bin/env bash
# Counts the instructions of what a request goes through besides the model, and compares them with the record: a
# guard against slow-downs that does not depend on how busy the machine is. RECORD=1 writes the record anew.
set -euo pipefail
# Else a failure inside $(...) would count as zero instructions, which is below any record.
shopt -s inherit_errexit
cd "$(dirname "$0")/.."

record=loader/benches/instructions.txt
# Counts of one binary differ by less than 1 %; small changes of the compiler's mind by a few.
tolerance=5

if ! command -v valgrind >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Installing valgrind ..."
        (apt-get update && apt-get install --yes --no-install-recommends valgrind) >/dev/null 2>&1 || true
    fi
    if ! command -v valgrind >/dev/null; then
        echo "instructions: skipped, valgrind is not installed"
        exit 0
    fi
fi

binary=$(cargo bench --package aibuyer-loader --bench instructions --no-run --message-format=json |
    sed -n 's/.*"name":"instructions".*"executable":"\([^"]*\)".*/\1/p')
operations=$("$binary")
if [ -z "$operations" ]; then
    echo "instructions: $binary names no operations" >&2
    exit 1
fi
toolchain="$(rustc --version | cut -d' ' -f2) $(uname -m)"

# Instructions of one operation: start-up cancels out.
count() {
    local few many
    few=$(total "$1" 20 || true)
    many=$(total "$1" 520 || true)
    if ! [[ $few =~ ^[0-9]+$ && $many =~ ^[0-9]+$ ]] || [ "$many" -le "$few" ]; then
        echo "instructions: callgrind gave no count for $1 ('$few', '$many'); run: valgrind --tool=callgrind $binary $1 20" >&2
        return 1
    fi
    echo $(((many - few) / 500))
}
total() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$binary" "$1" "$2" 2>&1 |
        sed -n 's/.*Collected *: *\([0-9]*\).*/\1/p'
}

if [ "${RECORD:-}" = 1 ]; then
    {
        echo "# Instructions of each operation; written by RECORD=1 scripts/instructions.sh."
        echo "toolchain $toolchain"
        for operation in $operations; do
            now=$(count "$operation")
            echo "$operation $now"
        done
    } >"$record.new"
    mv "$record.new" "$record"
    cat "$record"
    exit 0
fi

like=$([ "$(sed -n 's/^toolchain //p' "$record")" = "$toolchain" ] && echo yes || echo no)
failed=0
printf '%-10s %12s %12s\n' operation instructions recorded
for operation in $operations; do
    now=$(count "$operation")
    recorded=$(sed -n "s/^$operation //p" "$record")
    verdict=
    if [ -z "$recorded" ]; then
        verdict="has no record: make instructions RECORD=1"
        failed=1
    elif [ "$like" = yes ] && [ "$now" -gt $((recorded * (100 + tolerance) / 100)) ]; then
        verdict="more than $tolerance % above the record"
        failed=1
    fi
    printf '%-10s %12s %12s  %s\n' "$operation" "$now" "${recorded:-none}" "$verdict"
done
if [ "$like" = no ]; then
    echo "instructions: not compared, the record is of another toolchain ($(sed -n 's/^toolchain //p' "$record"))"
fi
if [ "$failed" = 1 ]; then
    echo "instructions: above the record, or without one. If that is meant: make instructions RECORD=1, and say why"
    exit 1
fi
