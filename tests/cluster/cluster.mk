# A cluster to test on; included by the Makefile. See README.md beside this file.
CLUSTER := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))

.PHONY: cluster cluster-down cluster-tools kubeconfig image load

cluster: ## a Kubernetes cluster to test on: kind with NODES=3, or the one KUBECONFIG names
	@$(CLUSTER)/up

cluster-down: ## remove it and put everything back; PURGE=1 removes Docker's data, too
	@$(CLUSTER)/down

cluster-tools: ## only build kind, kubectl and helm
	@$(CLUSTER)/tools

kubeconfig: ## print the path of the cluster's kubeconfig
	@$(CLUSTER)/env kubeconfig

image: ## build the image; its name goes into target/image-tag
	@$(CLUSTER)/image

load: image ## put the image onto the cluster's nodes
	@$(CLUSTER)/load
