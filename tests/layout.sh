#!/usr/bin/env bash
# Prints what a program that serves calls when it starts, answers, runs a task and waits: one
# function a line, as src/layout.txt wants them. `make layout` runs it.
set -euo pipefail
if [ $# != 1 ] || ! command -v valgrind >/dev/null || ! command -v bwrap >/dev/null; then
  echo 'usage: tests/layout.sh PROGRAM   (it needs valgrind, bwrap, and a program with symbols)' >&2
  exit 2
fi
program=$1 daemon=
work=$(mktemp -d)
trap 'kill $daemon 2>/dev/null || true; rm -rf "$work"' EXIT
bare=(env -i PATH="$PATH" TZ=UTC CONTAINER_RUNTIME=bwrap)

serve() { # NAME=VALUE…
  : >"$work/log"
  "${bare[@]}" "$@" valgrind --tool=callgrind --demangle=no --callgrind-out-file="$work/calls.%p" \
    "$program" --home "$work/home" run 2>"$work/log" &
  daemon=$!
  until grep -q ' ready pid=' "$work/log"; do sleep 0.2; kill -0 "$daemon"; done
}
stop() { kill -TERM "$daemon"; wait "$daemon"; }
say() { "${bare[@]}" "$program" --home "$work/home" "$@" >&2; }

# With a key there is a proxy; without one the demo engine answers.
serve ANTHROPIC_API_KEY=none
sleep 15
stop
serve
say ask --timeout 300 'hello'
say ask --timeout 300 'hello again'
say register-group --jid script:other --name Other --folder other --no-trigger-required
say ask --timeout 300 --group other 'hello'
say schedule-task --group main --at "$(date -u -d '+5 seconds' +%FT%T)" --prompt 'hello'
sleep 15
stop

# What differs from build to build is left open: hashes, and the compiler's marks on what it split.
symbols() { nm --defined-only "$program" | awk '$2 ~ /^[tTwW]$/ { print $3 }'; }
called() { sed -nE "s/^c?fn=\([0-9]+\) ([^']+).*/\1/p" "$work"/calls.*; }
LC_ALL=C comm -12 <(symbols | LC_ALL=C sort -u) <(called | LC_ALL=C sort -u) |
  sed -E 's/17h[0-9a-f]{16}E(\..*)?$/17h*/; s/Cs[0-9A-Za-z]+_/Cs*_/g
    s/\.(isra|part|constprop|cold|[0-9]+)(\..*)?$/*/' |
  LC_ALL=C sort -u
