package controlplane

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// Compact makes etcd forget all revisions before the present one, as it is done
// in every cluster every few minutes. Together with a restart of the API
// server, which forgets what it had cached, it makes every watch that goes on
// from before end with 410 Gone. It returns the revision: resourceVersions
// below are gone.
func (c *ControlPlane) Compact(ctx context.Context) (revision string, err error) {
	if revision, err = c.compact(ctx); err != nil {
		return "", fmt.Errorf("controlplane: Compact: %w", err)
	}
	return revision, nil
}

func (c *ControlPlane) compact(ctx context.Context) (string, error) {
	client, err := etcdProbe(c.etcdCA, c.etcdClient)
	if err != nil {
		return "", err
	}
	defer client.CloseIdleConnections()
	var now struct {
		Header struct {
			Revision string `json:"revision"`
		} `json:"header"`
	}
	// The key is a zero byte: there is none of that name, and the header says the revision all the same.
	if err := etcdCall(ctx, client, c.etcdURL+"/v3/kv/range", map[string]any{"key": []byte{0}, "count_only": true}, &now); err != nil {
		return "", err
	}
	request := map[string]any{"revision": now.Header.Revision, "physical": true}
	return now.Header.Revision, etcdCall(ctx, client, c.etcdURL+"/v3/kv/compaction", request, nil)
}

// etcdCall calls a method of etcd's API by its JSON gateway.
func etcdCall(ctx context.Context, client *http.Client, url string, request, response any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	switch {
	case err != nil:
		return err
	case answer.StatusCode != http.StatusOK:
		return fmt.Errorf("%s: %s: %s", url, answer.Status, data)
	case response == nil:
		return nil
	}
	return json.Unmarshal(data, response)
}
