// Package torture kills, floods and upgrades the built program under load and
// checks what it promised. The ordinary tests run a short form; "make torture"
// (build tag torture) the whole, and writes docs/torture.md.
package torture
