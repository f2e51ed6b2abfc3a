// Package clients runs the clients that people really have against the real
// program: it builds portreeve, starts it on loopback ports of its own, and
// compares what arrives byte for byte. It owns nothing but this proof; what a
// single command must answer is tested beside the engine.
//
// A client that is not installed fails its test and names the Debian package;
// nothing is skipped. All files lie below one directory in memory, which goes
// away with the test, also when the test is killed.
//
// The files are built with the tag "clients"; run them by "make clients".
package clients
