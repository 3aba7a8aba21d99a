#!/usr/bin/env bash
# Serves the demo models in the foreground; prints what to try once it is ready.
set -euo pipefail
cd "$(dirname "$0")/.."

setting() { target/release/aibuyer-server config | sed -n "s/^$1 = \"\(.*\)\"/\1/p"; }
grpc=$(setting grpc_listen)
http=$(setting http_listen)

target/release/aibuyer-server serve &
server=$!
trap 'kill -TERM $server 2>/dev/null || true' INT TERM

ready() {
    exec 3<>"/dev/tcp/${http%:*}/${http##*:}"
    printf 'GET /healthz/ready HTTP/1.0\r\n\r\n' >&3 && head -n 1 <&3 | grep -q ' 200 '
}
# A server whose address is taken ends at once, and another one must not be taken for it.
sleep 0.3
for _ in $(seq 300); do
    kill -0 $server 2>/dev/null || break
    if (ready) 2>/dev/null; then
        cat <<TEXT

The demo models are served. Four things to try, from another terminal:

  1. Predict, with the bundled client:
       target/release/aibuyer-server predict examples/requests/upworthy.json --address $grpc

  2. Call it with grpcurl, which learns the API from the server:
       grpcurl -plaintext $grpc describe aibuyer.serving.v1.CtrService
       grpcurl -plaintext -d '{"model": {"name": "ctr-upworthy"}, "candidates": [{"name": "headline_chars", "int64s": {"values": [40, 90]}}]}' \\
           $grpc aibuyer.serving.v1.CtrService/PredictCtr

  3. Forecast the next day of an hourly series from its last three:
       grpcurl -plaintext -d @ $grpc aibuyer.serving.v1.ForecastService/Forecast < examples/requests/forecast.json

  4. See what serves, in a browser:
       http://$http/

Ctrl-C stops it.

TEXT
        break
    fi
    sleep 0.1
done
# A signal ends the first wait; the second one waits for the server to finish what is under way.
wait $server || wait $server
