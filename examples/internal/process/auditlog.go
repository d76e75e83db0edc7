package process

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"

	"k8s.io/klog/v2"

	"github.com/shard-io/shard-controller/sharding"
)

// AuditLog is a file of JSON, one record in each line.
type AuditLog struct {
	mu     sync.Mutex
	out    io.Writer
	file   *os.File // nil: not ours to close
	failed bool
}

// OpenAuditLog opens the one that the flags name; without one it returns nil, whose Record is nil.
func (f *Flags) OpenAuditLog() (*AuditLog, error) {
	switch f.AuditLog {
	case "":
		return nil, nil
	case "-":
		return &AuditLog{out: os.Stdout}, nil
	}
	file, err := os.OpenFile(f.AuditLog, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, fmt.Errorf("--audit-log: must be a file that this process can append to, or -: %w", err)
	}
	return &AuditLog{out: file, file: file}, nil
}

// Record is what to give to the options of a Manager or Worker.
func (l *AuditLog) Record() func(sharding.AuditRecord) {
	if l == nil {
		return nil
	}
	return l.write
}

// write appends a line in one piece, so that several processes may share a file. A full disk is logged once and holds nobody up: what is
// more important, the work or its record, is not decided here.
func (l *AuditLog) write(r sharding.AuditRecord) {
	line, err := json.Marshal(r)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		_, err = l.out.Write(append(line, '\n'))
	}
	if err != nil && !l.failed {
		klog.Background().Error(err, "The audit log can't be written; records are missing from here on")
	}
	if err == nil && l.failed {
		klog.Background().Info("The audit log can be written again")
	}
	l.failed = err != nil
}

// Close closes the file, if there is one.
func (l *AuditLog) Close() error {
	if l == nil || l.file == nil {
		return nil
	}
	return l.file.Close()
}
