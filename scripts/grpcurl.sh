#!/usr/bin/env bash
# Lists, describes and calls the server by reflection with grpcurl, and checks the answers.
set -euo pipefail
cd "$(dirname "$0")/.."

version=v1.9.3
if ! command -v go >/dev/null; then
    echo "grpcurl check skipped: it is installed through Go, which is not here"
    exit 0
fi
grpcurl=$PWD/.cache/bin/grpcurl-$version
if [ ! -x "$grpcurl" ]; then
    echo "Installing grpcurl $version through Go ..."
    GOBIN=$PWD/.cache/bin go install "github.com/fullstorydev/grpcurl/cmd/grpcurl@$version"
    mv .cache/bin/grpcurl "$grpcurl"
fi

address=127.0.0.1:18500
target/release/aibuyer-server serve --set "server.grpc_listen=$address" --set server.http_listen=127.0.0.1:18501 \
    --set log.level=warn &
server=$!
trap 'kill -TERM $server; wait $server || true' EXIT
check() {
    local expected=$1
    shift
    local answer
    answer=$("$grpcurl" -plaintext "$@" 2>&1 || true)
    if ! grep -qF -- "$expected" <<<"$answer"; then
        echo "grpcurl $*: expected \"$expected\", got:" && echo "$answer" && exit 1
    fi
    echo "ok: grpcurl ${*: -1}"
}
for _ in $(seq 100); do
    "$grpcurl" -plaintext "$address" grpc.health.v1.Health/Check 2>/dev/null | grep -q '"SERVING"' && break
    sleep 0.1
done
check aibuyer.serving.v1.CtrService "$address" list
check 'rpc PredictCtr' "$address" describe aibuyer.serving.v1.CtrService
check '"SERVING"' -d '{"service": "models/ctr-upworthy"}' "$address" grpc.health.v1.Health/Check
candidates='"candidates": [{"name": "headline_chars", "int64s": {"values": [40, 90]}}]'
check '"ctrUpper"' -d "{\"model\": {\"name\": \"ctr-upworthy\"}, $candidates}" "$address" \
    aibuyer.serving.v1.CtrService/PredictCtr
check '"named"' -d "{\"id\": 1, \"named\": {\"model\": {\"name\": \"ctr-upworthy\"}, $candidates}}" "$address" \
    aibuyer.serving.v1.CtrService/StreamPredictCtr
check '"method": "FORECAST_METHOD_MODEL"' -d "$(<examples/requests/forecast.json)" "$address" \
    aibuyer.serving.v1.ForecastService/Forecast
check 'Code: NotFound' -d "{\"model\": {\"name\": \"no-such-model\"}, $candidates}" "$address" \
    aibuyer.serving.v1.CtrService/PredictCtr
