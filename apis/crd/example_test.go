package crd_test

import (
	"context"
	"fmt"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/shard-io/shard-controller/apis/crd"
)

// An installer brings the definitions of the cluster that KUBECONFIG names up to date.
func ExampleInstall() {
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		clientcmd.NewDefaultClientConfigLoadingRules(), &clientcmd.ConfigOverrides{}).ClientConfig()
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := crd.Install(ctx, cfg); err != nil {
		fmt.Println(err)
	}
}

func ExampleObjects() {
	objects, err := crd.Objects()
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, object := range objects {
		fmt.Println(object.GetKind(), object.GetName())
	}
	// Output:
	// CustomResourceDefinition shardconfigs.shard.io
	// CustomResourceDefinition shardinstances.shard.io
	// CustomResourceDefinition shardmigrations.shard.io
}
