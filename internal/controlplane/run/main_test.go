//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/shard-io/shard-controller/internal/controlplane"
)

func TestBuildOnlyPrintsThePaths(t *testing.T) {
	var stdout bytes.Buffer
	if err := run(t.Context(), []string{"-build"}, &stdout, os.Stderr); err != nil {
		t.Fatal(err)
	}
	b, err := controlplane.FindBinaries(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	if want := b.Etcd + "\n" + b.APIServer + "\n"; stdout.String() != want {
		t.Errorf("printed %q, want %q", stdout.String(), want)
	}
}

func TestBadArguments(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"-bulid"}, "-bulid"},
		{[]string{"--", "v=4"}, "must be of the form --name=value"},
	} {
		var stdout, stderr bytes.Buffer
		err := run(t.Context(), tt.args, &stdout, &stderr)
		if err == nil || !strings.Contains(err.Error(), tt.want) || stdout.Len() > 0 {
			t.Errorf("%q: %v, and printed %q; want an error that says %q", tt.args, err, stdout.String(), tt.want)
		}
	}
}

// user does what somebody at the terminal would do who sees the first line.
type user struct {
	once sync.Once
	do   func(line string)
}

func (u *user) Write(p []byte) (int, error) {
	u.once.Do(func() { u.do(string(p)) })
	return len(p), nil
}

func TestServeUntilInterrupted(t *testing.T) {
	logs := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var kubeconfig string
	stdout := &user{do: func(line string) {
		defer cancel() // the interrupt
		kubeconfig = strings.TrimSpace(strings.TrimPrefix(line, "export KUBECONFIG="))
		config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
		if err != nil {
			t.Error(err)
			return
		}
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			t.Error(err)
			return
		}
		if _, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{}); err != nil {
			t.Error(err)
		}
	}}
	var stderr bytes.Buffer
	if err := run(ctx, []string{"-log-dir", logs, "-audit-log", filepath.Join(logs, "audit.log"), "--", "--v=1"}, stdout, &stderr); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(kubeconfig); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the kubeconfig %q is still there: %v", kubeconfig, err)
	}
	for _, want := range []string{"controlplane: ready at https://127.0.0.1:", "Ctrl-C stops it", "controlplane: stopping"} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("standard error does not say %q:\n%s", want, &stderr)
		}
	}
	for _, name := range []string{"etcd.log", "kube-apiserver.log", "audit.log"} {
		if info, err := os.Stat(filepath.Join(logs, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v, %v; want it kept", name, info, err)
		}
	}
}
