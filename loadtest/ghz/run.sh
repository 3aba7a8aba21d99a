#!/usr/bin/env bash
# run.sh SCENARIO|all [HOST:PORT [GHZ FLAGS...]]: loads the server with ghz; results in out/ghz.
#
# Without an address a server with the demo model is started and stopped. Flags go to ghz and win over the scenario:
# `run.sh soak 127.0.0.1:8500 --duration 1m`.
set -euo pipefail
cd "$(dirname "$0")/../.."

version=v0.121.0
scenarios=(smoke step soak spike overload cancel-storm skewed-keys single-row stream)
usage="scenarios: ${scenarios[*]}, or all (without soak)"
scenario=${1:?$usage}
address=${2:-}
shift $(($# < 2 ? $# : 2))

if ! command -v go >/dev/null; then
    echo "ghz skipped: it is built with Go, which is not here"
    exit 0
fi
bin=$PWD/.cache/bin
if [ ! -x "$bin/ghz-$version" ] || [ loadtest/ghz/render/main.go -nt "$bin/ghz-render-$version" ]; then
    echo "Building ghz $version with Go ..."
    (cd loadtest/ghz/render && go build -o "$bin/ghz-$version" github.com/bojand/ghz/cmd/ghz)
    (cd loadtest/ghz/render && go build -o "$bin/ghz-render-$version" .)
fi

mkdir -p out/ghz
if [ -z "$address" ]; then
    address=127.0.0.1:18530
    target/release/aibuyer-server serve --set "server.grpc_listen=$address" \
        --set server.http_listen=127.0.0.1:18531 --set log.level=error &
    server=$!
    trap 'kill -TERM $server; wait $server || true' EXIT
    scripts/wait-ready.sh 127.0.0.1:18531 $server
fi

run() {
    local name=$1 strict=-all-ok
    shift
    # These ask for more than a server can give, or give up early: calls may fail, the server may not.
    case $name in spike | overload | cancel-storm) strict= ;; esac
    if [ "$name" = skewed-keys ]; then
        target/release/aibuyer-loadtest requests --model models/ctr-upworthy/1 --context test_id,week --count 1024 \
            --out out/ghz/skewed.bin
    fi
    if [ "$name" = stream ]; then
        # Every test is a message of each stream.
        python3 -c 'import json, sys
print(json.dumps([{"id": i, "named": test} for i, test in enumerate(json.load(sys.stdin))]))' \
            <loadtest/ghz/data/upworthy.json >out/ghz/stream-messages.json
    fi
    echo "ghz $name ..."
    "$bin/ghz-$version" --config "loadtest/ghz/$name.json" --format json --output "out/ghz/$name.json" "$@" "$address"
    "$bin/ghz-render-$version" $strict "out/ghz/$name.json"
    echo "written: out/ghz/$name.html, out/ghz/$name.json"
    if [ -z "$strict" ]; then
        echo "Still answering?"
        "$bin/ghz-$version" --config loadtest/ghz/smoke.json --total 100 --format json --output out/ghz/after.json "$address"
        "$bin/ghz-render-$version" -all-ok out/ghz/after.json >/dev/null
        echo "yes, all of 100 calls"
    fi
}
if [ "$scenario" = all ]; then
    for name in "${scenarios[@]}"; do
        [ "$name" = soak ] || run "$name" "$@"
    done
elif [ -e "loadtest/ghz/$scenario.json" ]; then
    run "$scenario" "$@"
else
    echo "no scenario \`$scenario\`; $usage" >&2
    exit 2
fi
