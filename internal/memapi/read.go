package memapi

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// get answers the current object; with resourceVersion=0 it may answer what a stale cache has.
func (s *Server) get(c *Client, t *table, r *Request) (reply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := t.objects[objectKey(r.Namespace, r.Name)]
	if r.query.Get("resourceVersion") == "0" && c.cacheAge > 0 {
		o = nil
		key := objectKey(r.Namespace, r.Name)
		if past := t.at(t.rvAt(time.Now(), c.cacheAge, 0, s.rv), r.Namespace, key); len(past) > 0 && past[0].key == key {
			o = past[0]
		}
	}
	if o == nil {
		return reply{}, apierrors.NewNotFound(t.GVR().GroupResource(), r.Name)
	}
	return one(http.StatusOK, o, r.form), nil
}

// page is a list request, and where its answer starts.
type page struct {
	rv    int64
	limit int
	start string
}

type continueToken struct {
	APIVersion      string `json:"v"`
	ResourceVersion int64  `json:"rv"`
	StartKey        string `json:"start"`
}

const (
	continueExpired = "The provided continue parameter is too old to display a consistent list result. " +
		"You can start a new list without the continue parameter, or use the continue token in this response " +
		"to retrieve the remainder of the results. Continuing with the provided token results in an " +
		"inconsistent list - objects that were created, modified, or deleted between the time the first chunk " +
		"was returned and now may show up in the list."
	rvExpired = "The resourceVersion for the provided list is too old."
)

// pageOf decides at which revision a list is answered. The caller holds the lock.
func (s *Server) pageOf(c *Client, t *table, r *Request) (page, error) {
	p := page{rv: s.rv}
	p.limit, _ = strconv.Atoi(r.query.Get("limit"))
	asked, match := r.query.Get("resourceVersion"), metav1.ResourceVersionMatch(r.query.Get("resourceVersionMatch"))
	if token := r.query.Get("continue"); token != "" {
		return p, s.resume(&p, t, token, asked)
	}
	if len(r.query["sendInitialEvents"]) > 0 {
		return p, invalidOption("sendInitialEvents", "sendInitialEvents is forbidden for list")
	}
	if asked == "" {
		if match != "" {
			return p, invalidOption("resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided")
		}
		return p, nil
	}
	rv, err := parseRV(asked)
	if err != nil {
		return p, apierrors.NewBadRequest("invalid resource version: " + err.Error())
	}
	if rv > s.rv {
		return p, tooLarge(rv, s.rv)
	}
	exact := match == metav1.ResourceVersionMatchExact || (match == "" && p.limit > 0 && rv > 0)
	if !exact {
		p.rv = t.rvAt(r.Time, c.cacheAge, rv, s.rv)
		return p, nil
	}
	if rv < t.floor {
		return p, apierrors.NewResourceExpired(rvExpired)
	}
	p.rv = rv
	return p, nil
}

func (s *Server) resume(p *page, t *table, encoded, asked string) error {
	if asked != "" && asked != "0" {
		return apierrors.NewBadRequest("specifying resource version is not allowed when using continue")
	}
	var token continueToken
	raw, err := base64.RawURLEncoding.DecodeString(encoded)
	if err == nil {
		err = json.Unmarshal(raw, &token)
	}
	if err != nil {
		return apierrors.NewBadRequest("invalid continue token: continue key is not valid: " + err.Error())
	}
	if token.APIVersion != "meta.k8s.io/v1" || token.ResourceVersion == 0 || token.StartKey == "" {
		return apierrors.NewBadRequest("invalid continue token: continue key is not valid: incorrect encoded token")
	}
	p.start = token.StartKey
	switch {
	case token.ResourceVersion < 0:
		return nil
	case token.ResourceVersion < t.floor:
		status := apierrors.NewResourceExpired(continueExpired)
		status.ErrStatus.Continue = (page{rv: -1, start: token.StartKey}).token()
		return status
	}
	p.rv = token.ResourceVersion
	return nil
}

func (p page) token() string {
	raw, _ := json.Marshal(continueToken{APIVersion: "meta.k8s.io/v1", ResourceVersion: p.rv, StartKey: p.start})
	return base64.RawURLEncoding.EncodeToString(raw)
}

// list answers a consistent snapshot: pages of one list are all as of the first page's revision.
func (s *Server) list(c *Client, t *table, r *Request) (reply, error) {
	sel, err := r.selection(t)
	if err != nil {
		return reply{}, err
	}
	s.mu.Lock()
	p, err := s.pageOf(c, t, r)
	if err != nil {
		s.mu.Unlock()
		return reply{}, err
	}
	found := t.at(p.rv, r.Namespace, p.start)
	s.mu.Unlock()

	meta := metav1.ListMeta{ResourceVersion: formatRV(p.rv)}
	var chosen []*object
	for i, o := range found {
		if !sel.matches(o) {
			continue
		}
		if p.limit > 0 && len(chosen) == p.limit {
			last := chosen[len(chosen)-1]
			meta.Continue = page{rv: p.rv, start: last.key + "\x00"}.token()
			if rest := int64(len(found) - i); sel.empty {
				meta.RemainingItemCount = &rest
			}
			break
		}
		chosen = append(chosen, o)
	}
	return t.encodeList(meta, chosen, r.form)
}

func (t *table) encodeList(meta metav1.ListMeta, items []*object, f form) (reply, error) {
	head, err := json.Marshal(meta)
	if err != nil {
		return reply{}, err
	}
	kind, apiVersion, item := t.Kind+"List", t.GVK().GroupVersion().String(), formFull
	if f == formPartial {
		kind, apiVersion, item = "PartialObjectMetadataList", "meta.k8s.io/v1", formPartial
	} else if t.typed != nil {
		item = formBare
	} else if meta.Continue == "" { // Lists of custom resources always have this field.
		head = append([]byte(`{"continue":"",`), head[1:]...)
	}
	size := 256
	for _, o := range items {
		size += len(o.body) + 64
	}
	body := fmt.Appendf(make([]byte, 0, size), `{"kind":%q,"apiVersion":%q,"metadata":%s,"items":[`, kind, apiVersion, head)
	for i, o := range items {
		if i > 0 {
			body = append(body, ',')
		}
		body = o.encode(append(body, '\n'), item) // a line each: see Codecs
	}
	return reply{code: http.StatusOK, body: append(body, "\n]}\n"...)}, nil
}

func parseRV(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	rv, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("resourceVersion: Invalid value: %q: %w", text, err)
	}
	return int64(rv), nil
}

func tooLarge(asked, current int64) error {
	err := apierrors.NewTimeoutError(fmt.Sprintf("Too large resource version: %d, current: %d", asked, current), 1)
	err.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: metav1.CauseTypeResourceVersionTooLarge,
		Message: "Too large resource version"}}
	return err
}
