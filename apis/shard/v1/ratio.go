package v1

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
)

const (
	// MaxRatio is the largest value that a Ratio can have.
	MaxRatio = 1000

	milliPerUnit = 1000
	maxMilli     = MaxRatio * milliPerUnit
)

// Ratio is a number between 0 and MaxRatio with three decimals: a load, a threshold, a tolerance. 1 is full, or all of it.
// In JSON, YAML and CBOR it is a plain number, such as 0.65.
//
// It is stored as a whole number of thousandths, so equal values compare equal with ==, and what was written comes back exactly
// as it was: 0.3 is never 0.30000000000000004. The zero value is 0. The API server refuses a number with more than three decimals
// in the schema of a field of this type; decoding in Go rounds such a number to the nearest thousandth, halves up, so that
// one odd object cannot make a whole list undecodable.
//
// A field of this type that must not be 0 says Minimum=0 with ExclusiveMinimum. The API server cuts a fractional minimum to a whole
// number when the value is a whole number, so that Minimum=0.001 would let 0 pass.
//
// +kubebuilder:validation:Type=number
// +kubebuilder:validation:XValidation:rule="double(self) * 1000.0 - double(int(double(self) * 1000.0 + 0.5)) < 0.000001 && double(self) * 1000.0 - double(int(double(self) * 1000.0 + 0.5)) > -0.000001",message="must have at most 3 decimals"
type Ratio struct {
	milli int32
}

// RatioFrom returns the Ratio nearest to f, halves up. It returns an error when f is not a number or lies outside of 0 to
// MaxRatio.
func RatioFrom(f float64) (Ratio, error) {
	if math.IsNaN(f) || f < 0 || f > MaxRatio {
		return Ratio{}, fmt.Errorf("ratio %v: must be a number from 0 to %d", f, MaxRatio)
	}
	return Ratio{milli: int32(math.Floor(f*milliPerUnit + 0.5))}, nil
}

// RatioFromMilli returns the Ratio of milli thousandths: 650 is 0.65. It returns an error when milli lies outside of 0 to
// 1000 * MaxRatio.
func RatioFromMilli(milli int32) (Ratio, error) {
	if milli < 0 || milli > maxMilli {
		return Ratio{}, fmt.Errorf("ratio of %d thousandths: must be from 0 to %d thousandths", milli, maxMilli)
	}
	return Ratio{milli: milli}, nil
}

// Float64 returns the float64 nearest to r.
func (r Ratio) Float64() float64 { return float64(r.milli) / milliPerUnit }

// Milli returns r in thousandths: 650 for 0.65.
func (r Ratio) Milli() int32 { return r.milli }

// IsZero reports whether r is 0. Fields of type Ratio whose zero value means "not set" are left out of JSON with omitzero.
func (r Ratio) IsZero() bool { return r.milli == 0 }

// Equal reports whether r and other are the same number, as == does. It makes Ratio comparable by package cmp.
func (r Ratio) Equal(other Ratio) bool { return r == other }

// String returns r in the form that it has in JSON: the shortest decimal, such as "0.65".
func (r Ratio) String() string { return strconv.FormatFloat(r.Float64(), 'f', -1, 64) }

// MarshalJSON writes r as a JSON number. It never fails.
func (r Ratio) MarshalJSON() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalJSON reads a JSON number. Anything else (a quoted number too), and a number outside of 0 to MaxRatio, is an error and
// leaves r as it was. As with every type of encoding/json, null changes nothing.
func (r *Ratio) UnmarshalJSON(data []byte) error {
	data = bytes.Trim(data, " \t\r\n") // the white space of JSON, which is less than that of Unicode
	if bytes.Equal(data, []byte("null")) {
		return nil
	}
	if !json.Valid(data) || !isNumberStart(data[0]) {
		return fmt.Errorf("ratio %.40q: must be a number from 0 to %d, without quotes", data, MaxRatio)
	}
	f, err := strconv.ParseFloat(string(data), 64)
	if err != nil {
		return fmt.Errorf("ratio %.40q: must be a number from 0 to %d", data, MaxRatio)
	}
	parsed, err := RatioFrom(f)
	if err != nil {
		return err
	}
	*r = parsed
	return nil
}

func isNumberStart(b byte) bool { return b == '-' || (b >= '0' && b <= '9') }

// OpenAPISchemaType tells the OpenAPI generator that a Ratio is a number.
func (Ratio) OpenAPISchemaType() []string { return []string{"number"} }

// OpenAPISchemaFormat tells the OpenAPI generator that the number has no special format.
func (Ratio) OpenAPISchemaFormat() string { return "" }
