// Package pkg holds the tests of the RPM and the DEB: on machines with a real
// systemd, from the medium alone, with no way out.
package pkg
