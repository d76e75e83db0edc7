package memapi

// LabelSelector is that of a list or watch, as it was asked for.
func (r *Request) LabelSelector() string { return r.query.Get("labelSelector") }
