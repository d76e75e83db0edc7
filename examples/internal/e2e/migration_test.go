package e2e

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	v1 "github.com/shard-io/shard-controller/apis/shard/v1"
)

// migrate creates a ShardMigration of all objects.
func (s *system) migrate(name, from, to string, change func(*v1.ShardMigrationSpec)) {
	s.t.Helper()
	m := &v1.ShardMigration{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: s.ns},
		Spec:       v1.ShardMigrationSpec{Ring: s.ring, Source: from, Target: to},
	}
	if change != nil {
		change(&m.Spec)
	}
	_, err := s.shards.ShardV1().ShardMigrations(s.ns).Create(s.t.Context(), m, metav1.CreateOptions{})
	s.must(err)
}

// migrated waits for the end of a migration and returns its status.
func (s *system) migrated(name, phase string) v1.ShardMigrationStatus {
	s.t.Helper()
	var status v1.ShardMigrationStatus
	s.eventually(name+" is "+phase, func() error {
		m, err := s.shards.ShardV1().ShardMigrations(s.ns).Get(s.t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		status = m.Status
		return want(status.Phase == phase, "%+v", status)
	})
	return status
}

// Objects that are being written to go to another shard by hand and stay there; with the manager killed, they go back; and a migration
// that is deleted takes back what it has moved.
func TestMigration(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	manager, _ := s.start("w-1", "w-2")
	s.createSecrets("tls", 120)
	s.settled("w-1", "w-2")
	s.churn("tls", 120)

	s.migrate("there", "w-1", "w-2", nil)
	status := s.migrated("there", "Succeeded")
	s.must(s.ownedBy("w-2")())
	t.Logf("%d objects in %s", status.Objects.Moved, status.Finished.Sub(status.Started.Time))
	s.eventually("everything is audited", s.audited)

	rate := int32(20)
	s.migrate("back", "w-2", "w-1", func(m *v1.ShardMigrationSpec) { m.ObjectsPerSecond = &rate })
	s.migrated("back", "Transfer")
	manager.Kill()
	s.startManager("m-2")
	status = s.migrated("back", "Succeeded")
	s.must(want(status.Objects.Moved == 120 && status.Objects.Failed == 0, "%+v", status.Objects))
	s.must(s.ownedBy("w-1")())

	s.migrate("undone", "w-1", "w-2", func(m *v1.ShardMigrationSpec) { m.ObjectsPerSecond = &rate })
	s.eventually("some have been moved, and others have not", func() error {
		count, err := s.owners()
		if err != nil {
			return err
		}
		return want(count["w-1"] > 0 && count["w-2"] > 0, "owners are %v", count)
	})
	s.must(s.shards.ShardV1().ShardMigrations(s.ns).Delete(t.Context(), "undone", metav1.DeleteOptions{}))
	s.eventually("it is gone", func() error {
		list, err := s.shards.ShardV1().ShardMigrations(s.ns).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, m := range list.Items {
			if m.Name == "undone" {
				return want(false, "%+v", m.Status)
			}
		}
		return nil
	})
	s.must(s.ownedBy("w-1")())
}
