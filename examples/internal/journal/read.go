package journal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// Read reads a journal. A last line that is not complete is left out: its
// writer was killed in the middle of it, or is still writing. Any other line
// that is no record is an error that names its number.
func Read(r io.Reader) ([]Record, error) {
	var records []Record
	in := bufio.NewReader(r)
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return records, nil
		}
		if err != nil {
			return nil, fmt.Errorf("journal: line %d: %w", n, err)
		}
		rec, err := parse(line)
		if err != nil {
			return nil, fmt.Errorf("journal: line %d: %w", n, err)
		}
		records = append(records, rec)
	}
}

func parse(line []byte) (Record, error) {
	var rec Record
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&rec); err != nil {
		return Record{}, err
	}
	return rec, rec.validate()
}

// ReadFiles reads several journals, in the order given. A file that does not
// exist is an error: a missing witness is no proof of innocence.
func ReadFiles(paths ...string) ([]Record, error) {
	var all []Record
	for _, path := range paths {
		records, err := readFile(path)
		if err != nil {
			return nil, err
		}
		all = append(all, records...)
	}
	return all, nil
}

func readFile(path string) ([]Record, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	defer f.Close()
	records, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return records, nil
}
