// Package oidc tests log-ins of administrators against a real OpenID Connect
// provider: oidc-provider, which is certified for it, from the npm registry.
// The test starts it, drives its pages as a browser would, and runs the
// program itself on both sides. Run it with "make oidc".
package oidc
