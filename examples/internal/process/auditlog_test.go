package process

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shard-io/shard-controller/sharding"
)

func TestAuditLogIsLinesOfJSON(t *testing.T) {
	f := &Flags{AuditLog: filepath.Join(t.TempDir(), "audit.jsonl")}
	for range 2 { // the second process goes on where the first has stopped
		log, err := f.OpenAuditLog()
		if err != nil {
			t.Fatal(err)
		}
		log.Record()(sharding.AuditRecord{
			Time: time.Unix(0, 0).UTC(), Action: sharding.AuditHandedOver, Ring: "auditor", By: "a", Resource: "secrets", Object: "shop/web",
			UID: "u", From: "a", To: "b", Epoch: 7,
		})
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(f.AuditLog)
	const line = `{"time":"1970-01-01T00:00:00Z","action":"HandedOver","ring":"auditor","by":"a","resource":"secrets","object":"shop/web","uid":"u","from":"a","to":"b","epoch":7}` + "\n"
	if err != nil || string(got) != line+line {
		t.Errorf("%v\n%s", err, got)
	}
}

func TestAuditLogThatIsNotWanted(t *testing.T) {
	log, err := (&Flags{}).OpenAuditLog()
	if err != nil || log.Record() != nil || log.Close() != nil {
		t.Errorf("log %v, error %v", log, err)
	}
	if _, err := (&Flags{AuditLog: "/nowhere/audit"}).OpenAuditLog(); err == nil || !strings.HasPrefix(err.Error(), "--audit-log: must be a file") {
		t.Errorf("error %v", err)
	}
}

// full is a disk that may be full.
type full struct{ err error }

func (f *full) Write(p []byte) (int, error) { return len(p), f.err }

func TestAuditLogOnAFullDisk(t *testing.T) {
	_, out := logged(t)
	disk := &full{err: errors.New("no space left")}
	log := &AuditLog{out: disk}
	for range 3 {
		log.write(sharding.AuditRecord{})
	}
	disk.err = nil
	log.write(sharding.AuditRecord{})
	if strings.Count(out.String(), "no space left") != 1 || strings.Count(out.String(), "can be written again") != 1 {
		t.Errorf("want one line for each change:\n%s", out)
	}
}
