package api

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write openapi.yaml anew")

// TestContract keeps the copy in the repository equal to what the server says.
func TestContract(t *testing.T) {
	const file = "openapi.yaml"
	got := Contract()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what the routes and types say; run: go test ./internal/api -run Contract -update", file)
	}
	seen := map[string]bool{}
	for _, rt := range (&handler{}).routes() {
		if seen[rt.id] {
			t.Errorf("two operations are called %s", rt.id)
		}
		seen[rt.id] = true
		if !strings.Contains(got, "operationId: "+rt.id+"\n") {
			t.Errorf("%s is not in the document", rt.id)
		}
	}
}
