// Package api owns the administrative HTTP interface: versioned JSON handlers
// and the Go client that speaks to them. Today it is served on a unix socket
// in the data directory, where the file mode is the authorisation. It decides
// nothing about accounts (admin does) and runs no server (server does).
package api
