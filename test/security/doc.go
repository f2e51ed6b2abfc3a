// Package security holds one regression test for each class of attack in
// docs/design/security.md section 1.1 to 1.3 that applies to FTP and accounts,
// named after the class. Each runs against a whole server in this process.
// "go test ./test/security -list ." lists them.
package security
