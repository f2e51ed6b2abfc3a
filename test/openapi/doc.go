// Package openapi drives the administrative interface over HTTPS with a client
// that a public generator makes from the contract (go generate), and checks
// the contract itself. It is a module of its own so that the generator's
// dependencies stay out of the program.
package openapi

//go:generate go tool oapi-codegen -generate types,client -package openapi -o client.gen.go ../../internal/api/openapi.yaml
