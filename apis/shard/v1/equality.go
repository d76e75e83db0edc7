package v1

import "k8s.io/apimachinery/pkg/api/equality"

// Controllers compare objects by equality.Semantic, which panics on a type with unexported fields that it has not been told about. Telling
// it here, as apimachinery does for resource.Quantity, makes it work in every program that has these types.
func init() {
	if err := equality.Semantic.AddFunc(Ratio.Equal); err != nil {
		panic(err) // the function has the wrong form: every test of this package fails
	}
}
