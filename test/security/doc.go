// Package security holds one regression test for each class of attack in
// docs/design/security.md section 1.1 to 1.4 that applies to files, FTP, SSH and
// accounts,
// named after the class. Each runs against a whole server in this process.
// "go test ./test/security -list ." lists them.
package security
