// Package acme has the program get its certificate from a real ACME authority,
// pebble, by both challenges, and renew it. It is a module of its own so that
// the authority's dependencies stay out of the program.
package acme
