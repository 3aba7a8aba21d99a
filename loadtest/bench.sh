#!/usr/bin/env bash
# The short set: the limits, then an open loop in steps against the production-size model, with a report.
set -euo pipefail
cd "$(dirname "$0")/.."

results=loadtest/results
model=.cache/models/ctr-criteo-shape
address=127.0.0.1:18520

echo "1 of 2: limits, about 3 minutes (building first)"
cargo bench --package aibuyer-server --bench limits

echo "2 of 2: open loop in steps, about 1 minute"
cargo build --release --package aibuyer-server --package aibuyer-loadtest
# Medians of the closed loop with 32 candidates and 64 callers.
ceiling() {
    python3 - "$1" "$results/limits.json" <<'PY'
import json, statistics, sys
rows = {row["scenario"]: row for row in json.load(open(sys.argv[2]))["rows"]}
print(statistics.median(rows["ctr-criteo-shape, Encoded, 32 × 64"][sys.argv[1]]))
PY
}
target/release/aibuyer-server serve --set "server.grpc_listen=$address" --set server.http_listen=127.0.0.1:18521 \
    --set "registry.path=$(dirname "$model")" --set log.level=warn &
server=$!
trap 'kill -TERM $server; wait $server || true' EXIT
scripts/wait-ready.sh 127.0.0.1:18521 $server
# A broken objective is a figure here, not a failure: a benchmark does not judge the machine it runs on.
target/release/aibuyer-loadtest open --address "$address" --pid "$server" --model "$model/1" --form encoded \
    --rates 500,1000,2000,3000,4000 --duration 8s --name "Open loop, production-size model, 32 candidates" \
    --slo loadtest/slo.toml --html "$results/step.html" --json out/loadtest/step.json \
    --ceiling-rows-per-second "$(ceiling in_process_rows_per_second)" \
    --ceiling-requests-per-second "$(ceiling bare_tonic_requests_per_second)" || [ $? = 1 ]
