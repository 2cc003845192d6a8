# What the scripts here share: stopping servers, waiting, and medians. For bash.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/.." && pwd)
WORK=$(mktemp -d "${BENCH_DIR:-/var/tmp}/bench.XXXXXX")
declare -A PIDS=()

say() { printf '[%4ds] %s\n' "$SECONDS" "$*" >&2; }
die() { echo "error: $*" >&2; exit 1; }
cleanup() {
  for pid in "${PIDS[@]}"; do kill -KILL "$pid" 2> /dev/null || true; done
  wait 2> /dev/null || true
  rm -rf "$WORK"
}
trap cleanup EXIT

need() { for program; do command -v "$program" > /dev/null || die "$program is not there: apt-get install redis-server redis-tools"; done; }

# The peer: valkey where it is there, else redis.
if command -v valkey-server > /dev/null; then PEER=valkey; else PEER=redis; fi
need "$PEER-server" "$PEER-cli"
CLI=$PEER-cli

# within SECONDS COMMAND...: until the command succeeds.
within() {
  local end=$((SECONDS + $1))
  shift
  until "$@" > /dev/null 2>&1; do ((SECONDS < end)) || die "not in time: $*"; sleep 0.02; done
}

stop() { kill -KILL "${PIDS[$1]}"; wait "${PIDS[$1]}" 2> /dev/null || true; unset "PIDS[$1]"; rm -rf "${WORK:?}/$1"; }

# median [min max] of the numbers on standard input.
median() { sort -g | awk '{v[NR]=$1} END {printf "%.0f [%.0f-%.0f]", NR%2 ? v[(NR+1)/2] : (v[NR/2]+v[NR/2+1])/2, v[1], v[NR]}'; }
