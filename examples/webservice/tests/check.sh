#!/bin/sh
# Starts the service and asks it something.
set -eu
export PORT=18080
"$1" --version
"$1" &
pid=$!
trap 'kill $pid' EXIT
for _ in 1 2 3 4 5 6 7 8 9 10; do
    if "$1" --probe 2>/dev/null; then
        echo "ok: the service answers"
        exit 0
    fi
    sleep 0.2
done
echo "not ok: no answer from the service"
exit 1
