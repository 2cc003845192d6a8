# shellcheck shell=bash disable=SC2034 # used by those who source it
# Shared by the scripts of this directory: where things are, progress, and the
# cache of what is built. Nothing is written inside the repository.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
NAME=replicated-store                                            # of the kind cluster
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/replicated-store           # what is built
STATE=${XDG_STATE_HOME:-$HOME/.local/state}/replicated-store/cluster # what a cluster writes
BIN=$CACHE/bin                                                   # kind, kubectl, helm
LOGS=$STATE/logs
OUR_KUBECONFIG=$STATE/kubeconfig
VOLUMES=$STATE/volumes                                           # what the Pods store
POD_NET=10.244.0.0/16 SERVICE_NET=10.96.0.0/16
export PATH="$BIN:$PATH"
mkdir -p "$BIN" "$LOGS"

say() { printf '[%4ds] %s\n' "$SECONDS" "$*"; }
die() { echo "error: $*" >&2; exit 1; }

# One at a time: two builds or two starts would be in each other's way.
lock() {
  exec 9> "$STATE/lock"
  flock -n 9 || { say "waiting for another run of these scripts"; flock 9; }
}

# step WHAT EXPECTED LOG COMMAND...: runs it with its output in a log file, tells
# how it goes, and shows the log's end if it fails.
step() {
  local what=$1 expected=$2 log=$LOGS/$3.log start=$SECONDS pid
  shift 3
  say "$what (about $expected on two cores)"
  set -m # a process group of its own, so that an interrupt ends all of it
  "$@" > "$log" 2>&1 < /dev/null &
  pid=$!
  set +m
  # shellcheck disable=SC2064 # this pid, not a later one
  trap "kill -- -$pid 2>/dev/null || true" EXIT
  while kill -0 "$pid" 2> /dev/null; do
    sleep 0.2
    if (( SECONDS - start >= 30 && (SECONDS - start) % 30 == 0 )); then
      say "  still at it, $((SECONDS - start)) s so far"
      sleep 1
    fi
  done
  trap - EXIT
  wait "$pid" || { tail -n 30 "$log" >&2; die "$what failed; the whole log: $log"; }
}

need_root() { [ "$(id -u)" = 0 ] || die "$1 needs root"; }

# need_packages COMMAND=PACKAGE...: installs the Debian packages of missing commands
# (or files, if it is a path).
need_packages() {
  local missing=() pair
  for pair in "$@"; do
    case $pair in
      /*) [ -e "${pair%%=*}" ] ;;
      *) command -v "${pair%%=*}" > /dev/null ;;
    esac || missing+=("${pair#*=}")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get > /dev/null || die "missing here, and there is no apt-get to install it: ${missing[*]}"
  need_root "installing ${missing[*]}"
  step "installing ${missing[*]}" "20 s" apt install_packages "${missing[@]}"
}
install_packages() {
  apt-get update
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

docker_answers() { timeout 20 docker version > /dev/null 2>&1; }

k() { kubectl --kubeconfig "$OUR_KUBECONFIG" --request-timeout=10s "$@"; }

# foreign: KUBECONFIG names another cluster than ours, and it answers.
foreign() {
  [ -n "${KUBECONFIG:-}" ] && [ "$KUBECONFIG" != "$OUR_KUBECONFIG" ] \
    && kubectl --request-timeout=5s get --raw /readyz > /dev/null 2>&1
}

nodes() { docker ps -a --filter "label=io.x-k8s.kind.cluster=$NAME" --format '{{.Names}}' | sort; }

# routes: lets this machine reach Pods and Services by their own addresses. What
# no node has stays on this machine, too.
routes() {
  [ "$(id -u)" = 0 ] || { say "no routes to Pods and Services: they need root"; return 0; }
  local node cidr ip
  while read -r node cidr ip; do
    ip route replace "$cidr" via "$ip"
    [[ $node != *-control-plane ]] || ip route replace "$SERVICE_NET" via "$ip"
  done < <(k get nodes -o jsonpath='{range .items[*]}{.metadata.name} {.spec.podCIDR} {.status.addresses[?(@.type=="InternalIP")].address}{"\n"}{end}')
  ip route replace unreachable "$POD_NET"
}

# kube-proxy syncs everything anew each hour and when it starts, and with the nft of these nodes (1.0.6)
# that empties its map of Services if the map is there already. So one that will soon do so is taken
# away, its tables with it, and starts afresh.
refresh_proxy() {
  local started age node
  started=$(k -n kube-system get pods -l k8s-app=kube-proxy -o 'jsonpath={.items[*].status.startTime}' | tr ' ' '\n' | sort | head -n 1)
  age=$(($(date +%s) - $(date -d "${started:-now}" +%s)))
  ((age > 900)) || services_known || age=901
  ((age > 900)) || return 0
  say "starting kube-proxy anew"
  proxy_runs_on '{"replicated-store/nowhere": "true"}'
  k -n kube-system wait --for=delete pod -l k8s-app=kube-proxy --timeout=300s > /dev/null
  for node in $(nodes); do
    docker exec "$node" sh -c 'for family in ip ip6; do ! nft list table $family kube-proxy > /dev/null 2>&1 || nft delete table $family kube-proxy; done'
  done
  proxy_runs_on '{"replicated-store/nowhere": null}'
  k -n kube-system rollout status daemonset/kube-proxy --timeout=300s > /dev/null
  local end=$((SECONDS + 120))
  until services_known; do
    ((SECONDS < end)) || die "kube-proxy does not make the Services known on all nodes"
    sleep 0.5
  done
}
proxy_runs_on() { # NODE-LABELS: besides those of every node
  k -n kube-system patch daemonset kube-proxy --type merge -p "{\"spec\": {\"template\": {\"spec\": {\"nodeSelector\": $1}}}}" > /dev/null
}
services_known() { # on all nodes: their maps hold the API server's Service
  local node
  for node in $(nodes); do
    docker exec "$node" nft list map ip kube-proxy service-ips 2> /dev/null | grep -q "${SERVICE_NET%.*}.1 . tcp . 443" || return 1
  done
}
