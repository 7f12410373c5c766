package httpapi

import (
	"net/http"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/swaggest/swgui/v5emb"
	"go.yaml.in/yaml/v3"
)

// pagePolicy lets the reference page run its own script, and nothing from elsewhere.
const pagePolicy = "default-src 'self'; script-src 'self' 'unsafe-inline'; " +
	"style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"

// documents serves a contract as YAML and JSON under a path, and a reference page that reads it.
func (f *front) documents(title, path string, contract []byte) {
	f.router.Get(path+".yaml", func(w http.ResponseWriter, _ *http.Request) {
		write(w, "application/yaml", http.StatusOK, contract)
	})
	text := asJSON(contract)
	f.router.Get(path+".json", func(w http.ResponseWriter, _ *http.Request) {
		write(w, typeJSON, http.StatusOK, text)
	})
	page := v5emb.New(title, path+".json", "/docs/")
	f.router.Get("/docs", http.RedirectHandler("/docs/", http.StatusFound).ServeHTTP)
	f.router.Get("/docs/*", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", pagePolicy)
		page.ServeHTTP(w, r)
	})
}

// asJSON is the same document in JSON. The contracts are part of the program and held valid by tests.
func asJSON(contract []byte) []byte {
	var document any
	if err := yaml.Unmarshal(contract, &document); err != nil {
		panic(err)
	}
	text, err := jsonv2.Marshal(document, jsonv2.Deterministic(true))
	if err != nil {
		panic(err)
	}
	return text
}
