package v1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Target is a resource whose objects are assigned to shards: the root objects of the ring. Cluster-scoped resources work too.
type Target struct {
	// group is the API group of the resource. A DNS name of at most 253 characters, default "": the core group. Written by
	// the user.
	// +default=""
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$`
	// +optional
	Group string `json:"group,omitempty"`

	// resource is the name of the resource: lowercase and plural as in the API's paths, such as secrets; not the kind, and not a
	// subresource. 1 to 63 characters, required. Written by the user.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z]([-a-z0-9]*[a-z0-9])?$`
	Resource string `json:"resource"`

	// namespaceSelector selects, by the labels of their namespaces, the objects to shard. Default none: all namespaces. It means
	// nothing for a cluster-scoped resource. Written by the user.
	// +optional
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`

	// labelSelector selects, by their own labels, the objects to shard. Default none: all of them. Written by the user.
	// +optional
	LabelSelector *metav1.LabelSelector `json:"labelSelector,omitempty"`

	// controlled are the resources of the objects that are children of the target's: those which have one as their
	// controller. Children live on the shard of their root. At most 16, none twice, none of them a target of the same ring, default
	// none. Written by the user.
	// +listType=map
	// +listMapKey=group
	// +listMapKey=resource
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Controlled []ControlledResource `json:"controlled,omitempty"`
}

// ControlledResource is a resource of children.
type ControlledResource struct {
	// group is the API group of the resource. A DNS name of at most 253 characters, default "": the core group. Written by
	// the user.
	// +default=""
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$`
	// +optional
	Group string `json:"group,omitempty"`

	// resource is the name of the resource: lowercase and plural as in the API's paths, such as configmaps. 1 to 63 characters,
	// required. Written by the user.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z]([-a-z0-9]*[a-z0-9])?$`
	Resource string `json:"resource"`
}
