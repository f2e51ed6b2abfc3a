// Package build pins the tool that makes the deb and the rpm. It is a module of
// its own so that the tool's dependencies stay out of the program; "make
// packages" runs it. Newer releases of the tool than this one need modules that
// not every mirror has.
package build
