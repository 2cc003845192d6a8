# What the benchmarks share: starting and stopping servers on loopback, and medians. For bash.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/.." && pwd)
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
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
need "$PEER-server" "$PEER-benchmark" "$PEER-cli"
BENCH=$PEER-benchmark CLI=$PEER-cli

build() {
  say "building the replica (release)"
  (cd "$ROOT" && cargo build --quiet --release --locked --bin replica)
}

# within SECONDS COMMAND...: until the command succeeds.
within() {
  local end=$((SECONDS + $1))
  shift
  until "$@" > /dev/null 2>&1; do ((SECONDS < end)) || die "not in time: $*"; sleep 0.02; done
}
answers() { [ "$($CLI -p "$1" ping)" = PONG ]; }

# start_peer NAME PORT [OPTION...]: durable at every write, no rewrites during a run (favours the peer).
start_peer() {
  local name=$1 port=$2
  shift 2
  mkdir -p "$WORK/$name"
  "$PEER-server" --port "$port" --bind 127.0.0.1 --dir "$WORK/$name" --appendonly yes \
    --appendfsync always --save '' --auto-aof-rewrite-percentage 0 --daemonize no "$@" \
    > "$WORK/$name.log" 2>&1 &
  PIDS[$name]=$!
  within 20 answers "$port"
}

# start_ours NAME PORT ADMIN PEERPORT [OPTION...]
start_ours() {
  local name=$1 port=$2 admin=$3 peer=$4
  shift 4
  "$TARGET/release/replica" run --data-dir "$WORK/$name" --name "$name" --listen "127.0.0.1:$port" \
    --admin-listen "127.0.0.1:$admin" --peer-listen "127.0.0.1:$peer" "$@" 2> "$WORK/$name.log" &
  PIDS[$name]=$!
  within 20 curl -sf "http://127.0.0.1:$admin/healthz"
}

stop() { kill -KILL "${PIDS[$1]}"; wait "${PIDS[$1]}" 2> /dev/null || true; unset "PIDS[$1]"; rm -rf "${WORK:?}/$1"; }

# median [min max] of the numbers on standard input.
median() { sort -g | awk '{v[NR]=$1} END {printf "%.0f [%.0f-%.0f]", NR%2 ? v[(NR+1)/2] : (v[NR/2]+v[NR/2+1])/2, v[1], v[NR]}'; }
only_median() { sort -g | awk '{v[NR]=$1} END {print NR%2 ? v[(NR+1)/2] : (v[NR/2]+v[NR/2+1])/2}'; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN {printf "%.2f", a / b}'; }
