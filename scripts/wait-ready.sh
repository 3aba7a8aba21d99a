#!/usr/bin/env bash
# wait-ready.sh HOST:PORT PID: waits until the server's HTTP page says that it is ready, or its process has ended.
set -euo pipefail
address=$1 pid=$2

ready() {
    exec 3<>"/dev/tcp/${address%:*}/${address##*:}"
    printf 'GET /healthz/ready HTTP/1.0\r\n\r\n' >&3 && head -n 1 <&3 | grep -q ' 200 '
}
for _ in $(seq 600); do
    kill -0 "$pid" 2>/dev/null || { echo "the server ended before it was ready" >&2 && exit 1; }
    (ready) 2>/dev/null && exit 0
    sleep 0.1
done
echo "no model was ready within a minute; see http://$address/" >&2
exit 1
