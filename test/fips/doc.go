// Package fips builds the program with Go's FIPS 140-3 module and transfers
// with it. The build compiles the standard library anew, hence the tag "fips";
// "make fips" runs it.
package fips
