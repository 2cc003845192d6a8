# Run `make` alone for what there is. Programs that are missing are built or installed by the
# targets that need them; Rust (rustup) and, where there is no cluster, Go must be there.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

include tests/cluster/cluster.mk

TARGET := $(or $(CARGO_TARGET_DIR),target)
# Runs what follows with the cluster's kubeconfig and programs.
IN_CLUSTER = eval "$$($(CLUSTER)/env)";

.PHONY: help demo test install uninstall fmt lint doc deny unit kills soak sim model e2e outages chart crd bench

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | sort | while IFS=$$'\t' read -r target what; do \
	  printf '  \033[1mmake %-14s\033[0m %s\n' "$$target" "$$what"; done

demo: ## a store on a cluster, from nothing, with what it does shown step by step
	@tests/demo

test: ## everything: format, lints, all tests, and end to end on a cluster; tells what took how long
	@tests/all

install: load ## build the image, put it onto the cluster's nodes, install or upgrade the chart
	@$(CLUSTER)/install

uninstall: ## take the operator away; stores stay
	@$(IN_CLUSTER) helm uninstall replicated-store --namespace replicated-store-system --wait

fmt: ## format the code
	cargo fmt --all

lint: ## formatting and lints
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

doc: ## the code's documentation, without a warning
	RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' cargo doc --locked --no-deps --document-private-items

deny: ## licenses, sources and bans of dependencies; advisories where their database can be reached
	@tests/deny

unit: ## unit and integration tests
	cargo test --locked --lib --bins --test it

kills: ## kill replicas under clients again and again, and judge what these saw; FOR=1h for how long, SEED=N
	$(if $(SEED),TEST_SEED=$(SEED)) IT_KILLS=$(or $(FOR),10m) cargo test --locked --test it -- --nocapture kills::a_store

soak: ## mixed load, restarts, lost disks and changes of leader, with bounds on what replicas take; FOR=2h for how long, SEED=N
	$(if $(SEED),TEST_SEED=$(SEED)) IT_SOAK=$(or $(FOR),20m) cargo test --locked --test it -- --nocapture soak::a_store

sim: ## simulation; SEEDS=N for so many runs of each kind, FIRST=N for where they begin
	$(if $(SEEDS),SIM_SEEDS=$(SEEDS)) $(if $(FIRST),SIM_FIRST=$(FIRST)) cargo test --locked --test sim $(if $(SEEDS),run::)

model: ## all that may happen to the replication core within bounds; LONG=1 for wider ones; SCOPES='voters=3 writes=2 ...' and STATES=N for others, SEED=N and WALKS=N for the walks
	$(if $(LONG),MODEL_LONG=1) $(if $(SCOPES),MODEL_SCOPES='$(SCOPES)') $(if $(STATES),MODEL_STATES=$(STATES)) $(if $(SEED),MODEL_SEED=$(SEED)) $(if $(WALKS),MODEL_WALKS=$(WALKS)) \
	  cargo test --locked --package replication-model -- --nocapture $(if $(SCOPES),the_protocol_holds --exact,$(if $(WALKS),walks))

e2e: load ## end to end, on the cluster of `make cluster`; E2E=NAME for some of them
	@$(IN_CLUSTER) E2E_KUBECONFIG=$$KUBECONFIG E2E_IMAGE=$$(cat $(TARGET)/image-tag) \
	  cargo test --locked --test e2e -- --ignored --test-threads=2 $(E2E)

outages: load ## how long clients cannot write when the lead moves, through either Service: the table in the README; about half an hour
	@$(IN_CLUSTER) export E2E_KUBECONFIG=$$KUBECONFIG E2E_IMAGE=$$(cat $(TARGET)/image-tag) E2E_LONG=1; \
	  for lease in 1000 200; do \
	    echo "leases of $$lease ms"; \
	    E2E_LEASE_MS=$$lease cargo test --locked --test e2e -- --ignored --test-threads=1 --nocapture outage:: 2>&1 \
	      | grep -E '^measured|goal:|^test |panicked'; \
	  done

bench: ## speed beside others, about an hour for all of it; CASES=set,get for some, ROUNDS=5, ARGS=--quick to see that it works
	cargo bench --locked --bench peers -- --pictures benches/results $(if $(CASES),--cases $(CASES)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(ARGS)

chart: ## lint the chart, and have the cluster check what it renders
	@$(IN_CLUSTER) tests/chart

crd: ## write the definition of the custom resource anew, after a change of src/api
	cargo run --locked --bin operator -- crd > crds/replicatedstores.yaml.new
	mv crds/replicatedstores.yaml.new crds/replicatedstores.yaml
