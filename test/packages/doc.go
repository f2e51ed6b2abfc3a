// Package packages installs what "make packages" makes on a clean Debian that
// its own systemd boots (systemd-nspawn), and runs the service there: under
// the shipped unit, as its user, with its sandbox. The tests need root and the
// build tag "package"; "make package-test" runs them.
package packages
