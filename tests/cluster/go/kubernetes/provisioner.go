package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

// directories provisions a directory below base/<node> for each claim: a local
// disk of the node that the first Pod was put on. All nodes share base, so one
// provisioner can make and remove the directories of all of them.
type directories struct{ base string }

func (d directories) Provision(_ context.Context, o controller.ProvisionOptions) (*v1.PersistentVolume, controller.ProvisioningState, error) {
	fail := func(err error) (*v1.PersistentVolume, controller.ProvisioningState, error) {
		return nil, controller.ProvisioningFinished, err
	}
	if o.PVC.Spec.Selector != nil {
		return fail(errors.New("claim selectors are not supported"))
	}
	if mode := o.PVC.Spec.VolumeMode; mode != nil && *mode == v1.PersistentVolumeBlock {
		return fail(errors.New("block volumes are not supported"))
	}
	if o.SelectedNodeName == "" {
		return fail(errors.New("the storage class must wait for the first consumer"))
	}
	dir := filepath.Join(d.base, o.SelectedNodeName, o.PVName)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fail(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil { // whatever the umask
		return fail(err)
	}
	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: o.PVName},
		Spec: v1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *o.StorageClass.ReclaimPolicy,
			AccessModes:                   o.PVC.Spec.AccessModes,
			Capacity:                      v1.ResourceList{v1.ResourceStorage: o.PVC.Spec.Resources.Requests[v1.ResourceStorage]},
			// "local" volumes honour fsGroup; hostPath volumes do not.
			PersistentVolumeSource: v1.PersistentVolumeSource{Local: &v1.LocalVolumeSource{Path: dir}},
			NodeAffinity: &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{NodeSelectorTerms: []v1.NodeSelectorTerm{{
				MatchExpressions: []v1.NodeSelectorRequirement{{
					Key: v1.LabelHostname, Operator: v1.NodeSelectorOpIn, Values: []string{o.SelectedNodeName},
				}},
			}}}},
		},
	}, controller.ProvisioningFinished, nil
}

func (d directories) Delete(_ context.Context, pv *v1.PersistentVolume) error {
	if pv.Spec.Local == nil {
		return &controller.IgnoredError{Reason: "not a local volume"}
	}
	rel, err := filepath.Rel(d.base, pv.Spec.Local.Path)
	if err != nil || !filepath.IsLocal(rel) || rel == "." {
		return &controller.IgnoredError{Reason: "not below " + d.base}
	}
	return os.RemoveAll(pv.Spec.Local.Path)
}

func newProvisionerCommand() *cobra.Command {
	var base, name string
	c := &cobra.Command{Use: "provisioner", SilenceUsage: true, RunE: func(c *cobra.Command, _ []string) error {
		config, err := rest.InClusterConfig()
		if err != nil {
			return err
		}
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			return err
		}
		controller.NewProvisionController(c.Context(), client, name, directories{base}, controller.LeaderElection(false)).Run(c.Context())
		return nil
	}}
	c.Flags().StringVar(&base, "base", "", "directory below which volumes are made")
	c.Flags().StringVar(&name, "name", "", "provisioner name, as storage classes have it")
	return c
}
