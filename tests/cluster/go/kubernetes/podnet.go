package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/vishvananda/netlink"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
)

// Point to point, as kind's own network plugin has it: traffic between the
// Pods of one node is routed, so Services work without bridge netfilter.
const cniConfig = `{"cniVersion":"1.0.0","name":"podnet","plugins":[
{"type":"ptp","ipMasq":false,"ipam":{"type":"host-local","dataDir":"/run/cni-ipam-state",
 "routes":[{"dst":"0.0.0.0/0"}],"ranges":[[{"subnet":"%s"}]]}},
{"type":"portmap","capabilities":{"portMappings":true}}]}
`

const cniFile = "/etc/cni/net.d/10-podnet.conflist"

// newPodnetCommand is the Pod network. On each node it writes the CNI
// configuration for the node's Pods, and keeps a route to every other node's.
func newPodnetCommand() *cobra.Command {
	return &cobra.Command{Use: "podnet", SilenceUsage: true, RunE: func(*cobra.Command, []string) error {
		config, err := rest.InClusterConfig()
		if err != nil {
			return err
		}
		// Straight to the API server: Services may not work yet.
		if endpoint := os.Getenv("CONTROL_PLANE_ENDPOINT"); endpoint != "" {
			config.Host = "https://" + endpoint
		}
		config.Timeout = 10 * time.Second
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			return err
		}
		for written := ""; ; time.Sleep(2 * time.Second) {
			nodes, err := client.CoreV1().Nodes().List(context.Background(), metav1.ListOptions{ResourceVersion: "0"})
			if err != nil {
				klog.ErrorS(err, "list nodes")
				continue
			}
			for _, node := range nodes.Items {
				_, pods, err := net.ParseCIDR(node.Spec.PodCIDR)
				if err != nil {
					continue // not assigned yet
				}
				if node.Name != os.Getenv("NODE_NAME") {
					route(pods, node.Status.Addresses)
				} else if cidr := pods.String(); written != cidr {
					if err := writeCNI(cidr); err != nil {
						return err
					}
					written = cidr
				}
			}
		}
	}}
}

func route(pods *net.IPNet, addresses []v1.NodeAddress) {
	for _, a := range addresses {
		if a.Type == v1.NodeInternalIP {
			via := net.ParseIP(a.Address)
			if err := netlink.RouteReplace(&netlink.Route{Dst: pods, Gw: via}); err != nil {
				klog.ErrorS(err, "route", "pods", pods, "via", via)
			}
		}
	}
}

func writeCNI(cidr string) error {
	tmp := cniFile + ".tmp"
	if err := os.WriteFile(tmp, fmt.Appendf(nil, cniConfig, cidr), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, cniFile)
}
