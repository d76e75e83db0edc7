package fence_test

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"

	shardv1 "github.com/shard-io/shard-controller/apis/shard/v1"
	"github.com/shard-io/shard-controller/sharding/fence"
)

func auditor() *shardv1.ShardConfig {
	return &shardv1.ShardConfig{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "auditor"},
		Spec: shardv1.ShardConfigSpec{Targets: []shardv1.Target{{
			Resource: "secrets", Controlled: []shardv1.ControlledResource{{Resource: "configmaps"}},
		}}},
	}
}

func identities() fence.Options {
	return fence.Options{
		Managers: []string{fence.ServiceAccount("shop", "manager")},
		Workers:  []string{fence.ServiceAccount("shop", "worker")},
	}
}

func ExampleObjects() {
	objects, err := fence.Objects(auditor(), identities())
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, object := range objects {
		fields, _ := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
		fmt.Println(fields["kind"], fields["metadata"].(map[string]any)["name"])
	}
	// Output:
	// ValidatingAdmissionPolicy auditor.shop.fence.shard.io
	// ValidatingAdmissionPolicyBinding auditor.shop.fence.shard.io
	// ValidatingAdmissionPolicy auditor.shop.shards.shard.io
	// ValidatingAdmissionPolicyBinding auditor.shop.shards.shard.io
}

func ExampleOptions_mistakes() {
	o := identities()
	o.Workers = o.Managers
	_, err := fence.Objects(auditor(), o)
	fmt.Println(err)
	// Output:
	// fence options: "system:serviceaccount:shop:manager" is in Managers and Workers: give managers and workers ServiceAccounts of their own, and name each once
}

// An installer does this once, and again whenever the targets of the ring have changed.
func ExampleInstall() {
	install := func(ctx context.Context, client kubernetes.Interface) error {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		return fence.Install(ctx, client, auditor(), identities())
	}
	_ = install
}
