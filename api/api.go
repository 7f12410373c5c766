// Package api is the contracts of Holdfast's HTTP listeners: openapi.yaml for the public one and
// admin.yaml for operators.
//
// They are written first; everything else follows from them: the server's types, the Go client and
// the reference pages. The package only holds the texts.
package api

import _ "embed" // for the two texts

//go:generate go run github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2 -config server.cfg.yaml openapi.yaml
//go:generate go run github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2 -config admin.cfg.yaml admin.yaml
//go:generate go run github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2 -config client.cfg.yaml openapi.yaml

//go:embed openapi.yaml
var public []byte

//go:embed admin.yaml
var admin []byte

// Public is the contract of the public listener, as YAML. The caller must not change it.
func Public() []byte { return public }

// Admin is the contract of the admin listener, as YAML. The caller must not change it.
func Admin() []byte { return admin }
