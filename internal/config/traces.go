package config

import "net/url"

// traces checks [traces].
func (k *checker) traces() {
	t := &k.c.Traces
	if t.Endpoint == "" {
		return
	}
	u, err := url.Parse(t.Endpoint)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		k.fail("traces.endpoint", "%q is not the URL of a collector, such as http://127.0.0.1:4318", clip(t.Endpoint))
	case u.User != nil:
		k.fail("traces.endpoint", "a URL with a password is no place for a secret; put an Authorization header into traces.headers_file")
	case u.Scheme == "http" && t.HeadersFile != "" && !loopbackHost(u.Hostname()):
		k.fail("traces.endpoint", "the headers of headers_file would cross the network in clear; write https://")
	}
}

// URL is where spans are sent: the endpoint, with the usual path where it has none.
func (t *Traces) URL() string {
	u, err := url.Parse(t.Endpoint)
	if err != nil || t.Endpoint == "" {
		return t.Endpoint
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/traces"
	}
	return u.String()
}
