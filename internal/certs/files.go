package certs

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// maxPEM bounds what is read: a wrong path must be an error and not a full memory.
const maxPEM = 1 << 20

// read reads a file and remembers its state, so that a later change is seen.
// The state is taken before the content: a change in between is seen as one.
func (st *state) read(what, name string) ([]byte, fs.FileInfo, error) {
	info, err := os.Stat(name)
	var data []byte
	if err == nil {
		switch {
		case !info.Mode().IsRegular():
			return nil, nil, fmt.Errorf("%s %s is not a regular file", what, name)
		case info.Size() > maxPEM:
			return nil, nil, fmt.Errorf("%s %s has %d bytes, too many for a PEM file", what, name, info.Size())
		}
		data, err = os.ReadFile(name)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, fmt.Errorf("%s %s does not exist; check the path in the configuration", what, name)
	case errors.Is(err, fs.ErrPermission):
		return nil, nil, fmt.Errorf("%s %s cannot be read: %w; let the user that runs the server read it, with chgrp and chmod 640", what, name, fs.ErrPermission)
	case err != nil:
		return nil, nil, fmt.Errorf("%s %s cannot be read: %w", what, name, err)
	}
	st.files[name] = info
	return data, info, nil
}

// blocks lists the types of the PEM blocks in data.
func blocks(data []byte) []string {
	var types []string
	for {
		var b *pem.Block
		if b, data = pem.Decode(data); b == nil {
			return types
		}
		if b.Headers["DEK-Info"] != "" {
			types = append(types, "ENCRYPTED "+b.Type)
			continue
		}
		types = append(types, b.Type)
	}
}

func anyOf(types []string, part string) bool {
	for _, t := range types {
		if strings.Contains(t, part) {
			return true
		}
	}
	return false
}

// loadPair reads a chain and its key.
func (st *state) loadPair(certFile, keyFile string) (*certificate, error) {
	certPEM, _, certErr := st.read("certificate", certFile)
	keyPEM, keyInfo, keyErr := st.read("private key", keyFile)
	if err := errors.Join(certErr, keyErr); err != nil {
		return nil, err
	}
	inCert, inKey := blocks(certPEM), blocks(keyPEM)
	switch {
	case !anyOf(inCert, "CERTIFICATE"):
		return nil, fmt.Errorf("certificate %s contains no certificate in PEM form%s", certFile, instead(inCert))
	case anyOf(inKey, "ENCRYPTED"):
		return nil, fmt.Errorf("private key %s is encrypted, and a server has nobody to ask for the passphrase; decrypt it with \"openssl pkey -in %s -out NEWFILE\"", keyFile, keyFile)
	case !anyOf(inKey, "PRIVATE KEY"):
		return nil, fmt.Errorf("private key %s contains no private key in PEM form%s", keyFile, instead(inKey))
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		if strings.Contains(err.Error(), "does not match") {
			return nil, fmt.Errorf("private key %s does not belong to the first certificate in %s; use the key that this certificate was requested with, and put the server's own certificate before the intermediate ones", keyFile, certFile)
		}
		return nil, fmt.Errorf("certificate %s with private key %s: %w", certFile, keyFile, err)
	}
	return &certificate{Certificate: pair, certFile: certFile, keyFile: keyFile, keyMode: keyInfo.Mode().Perm()}, nil
}

// instead tells what a file holds that is not what it should hold.
func instead(types []string) string {
	if len(types) == 0 {
		return "; convert it with openssl, or name another file"
	}
	return fmt.Sprintf(" but %s; name another file", strings.ToLower(strings.Join(types, ", ")))
}

// loadCA reads the authorities of client certificates.
func (st *state) loadCA(name string) (*x509.CertPool, error) {
	data, _, err := st.read("tls.client_ca", name)
	if err != nil {
		return nil, err
	}
	pool, n := x509.NewCertPool(), 0
	for {
		var b *pem.Block
		if b, data = pem.Decode(data); b == nil {
			break
		}
		if b.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("tls.client_ca %s: certificate %d: %w", name, n+1, err)
		}
		pool.AddCert(c)
		n++
	}
	if n == 0 {
		return nil, fmt.Errorf("tls.client_ca %s contains no certificate in PEM form; name the authority's certificate", name)
	}
	return pool, nil
}
