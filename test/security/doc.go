// Package security holds one regression test for each class of attack in
// docs/design/security.md section 1 that applies to what the server has, named
// after the class. Each runs against a whole server in this process.
// "go test ./test/security -list ." lists them, docs/attacks.md explains them.
package security
