package scaling

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"strconv"
	"strings"
	"time"
)

// maxSaved is how many characters the text of [Memory.Save] has at most. With a day in parts of 5 minutes it has less than 2000.
const maxSaved = 16 << 10

const (
	// savedPrefix and a number, the version of what follows the dot, begin the text.
	savedPrefix  = "forecast-"
	savedVersion = 1
	// clockSlack is by how much the clock of who saved may be ahead of that of who restores.
	clockSlack = 5 * time.Minute
)

// Save returns what the models have learnt so far, and how good their forecasts were, as a text for [Restore]. It is "" while there are no
// models. Forecasts that have not come due, windows and rates are not in it. The error names a model that is neither [Trend] nor
// [Seasonal], one that has values which no demand leads to, or says that the text would be longer than 16,384 characters.
func (m Memory) Save() (string, error) {
	if len(m.trackers) == 0 {
		return "", nil
	}
	var e encoder
	e.count(len(m.trackers))
	for i := range m.trackers {
		if err := e.tracker(&m.trackers[i]); err != nil {
			return "", fmt.Errorf("scaling: models: %w", err)
		}
	}
	sealed := binary.BigEndian.AppendUint32(e.data, crc32.ChecksumIEEE(e.data))
	text := savedPrefix + strconv.Itoa(savedVersion) + "." + base64.RawURLEncoding.EncodeToString(sealed)
	if len(text) > maxSaved {
		return "", fmt.Errorf("scaling: models: their text has %d characters, must have at most %d: use longer parts", len(text), maxSaved)
	}
	return text, nil
}

// Restore returns a Memory to begin with: the models are those of Options.Models, and have learnt what the text of [Memory.Save] says. now is the
// time of the restoring process. An error says why the text can't be used: it is none of Save, is damaged, is of a later version, was saved for other
// models or for other settings of them, or is of a time to come. The Memory that comes along with an error remembers nothing. So does
// that of an empty text, which is no error.
func Restore(text string, now time.Time, models ...Model) (Memory, error) {
	if text == "" {
		return Memory{}, nil
	}
	data, err := unseal(text)
	if err != nil {
		return Memory{}, fmt.Errorf("scaling: saved models: %w", err)
	}
	d := decoder{data: data, latest: now.Add(clockSlack)}
	trackers := d.trackers(models)
	if d.err != nil {
		return Memory{}, fmt.Errorf("scaling: saved models: %w", d.err)
	}
	return Memory{trackers: trackers}, nil
}

// errDamaged: the text has been written by Save, and changed since.
var errDamaged = errors.New("damaged or cut off")

// unseal returns what is within the text.
func unseal(text string) ([]byte, error) {
	if len(text) > maxSaved {
		return nil, fmt.Errorf("%d characters, must be at most %d", len(text), maxSaved)
	}
	rest, ours := strings.CutPrefix(text, savedPrefix)
	digits, encoded, dotted := strings.Cut(rest, ".")
	version, err := strconv.ParseUint(digits, 10, 16)
	switch {
	case !ours || !dotted || err != nil:
		return nil, fmt.Errorf("must begin with %q", fmt.Sprintf("%s%d.", savedPrefix, savedVersion))
	case version != savedVersion:
		return nil, fmt.Errorf("version %d, this program knows version %d", version, savedVersion)
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil || len(sealed) < crc32.Size {
		return nil, errDamaged
	}
	data, sum := sealed[:len(sealed)-crc32.Size], binary.BigEndian.Uint32(sealed[len(sealed)-crc32.Size:])
	if crc32.ChecksumIEEE(data) != sum {
		return nil, errDamaged
	}
	return data, nil
}

// LearntSince says whether the models know something that they did not at an earlier time, and that is worth to be saved: a demand that differs by
// more than 5 %, and by more than a twentieth of a shard. A demand that has not been seen is taken for 0. Models that can't be saved don't count.
func (m Memory) LearntSince(before Memory) bool {
	for _, t := range m.trackers {
		former, _ := before.Model(t.model.Name())
		switch now := t.model.(type) {
		case Trend:
			then, _ := former.(Trend)
			if differs(now.Level, then.Level) {
				return true
			}
		case Seasonal:
			then, _ := former.(Seasonal)
			for i := range now.Means {
				if differs(seen(now.Means, i), seen(then.Means, i)) {
					return true
				}
			}
		}
	}
	return false
}

func seen(means []float64, i int) float64 {
	if i >= len(means) || !isValue(means[i]) {
		return 0
	}
	return means[i]
}

func differs(a, b float64) bool {
	const part = 0.05
	return math.Abs(a-b) > part*max(1, math.Abs(a), math.Abs(b))
}
