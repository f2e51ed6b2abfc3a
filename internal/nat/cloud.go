package nat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// Cloud reads the public IPv4 address from the metadata service of a cloud.
type Cloud struct {
	base   string // of the service; for tests
	client *http.Client
}

const metadataBase = "http://169.254.169.254"

// Address asks the services of EC2, GCE and Azure at the same time and returns
// the first answer with the provider's name. Outside a cloud it fails within two
// seconds.
func (c *Cloud) Address(ctx context.Context) (netip.Addr, string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	base, client := c.base, c.client
	if base == "" {
		base = metadataBase
	}
	if client == nil { // never through a proxy: the address is that of this very machine
		client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	get := func(method, path, key, value string) (string, error) {
		req, err := http.NewRequestWithContext(ctx, method, base+path, nil)
		if err != nil {
			return "", err
		}
		req.Header.Set(key, value)
		resp, err := client.Do(req)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("status %s", resp.Status)
		}
		return strings.TrimSpace(string(b)), err
	}
	providers := map[string]func() (string, error){
		"EC2": func() (string, error) {
			token, err := get(http.MethodPut, "/latest/api/token", "X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "60")
			if err != nil || len(token) > 1024 || strings.ContainsAny(token, "\r\n") {
				return "", errors.Join(err, errors.New("no token"))
			}
			return get(http.MethodGet, "/latest/meta-data/public-ipv4", "X-Aws-Ec2-Metadata-Token", token)
		},
		"GCE": func() (string, error) {
			return get(http.MethodGet, "/computeMetadata/v1/instance/network-interfaces/0/access-configs/0/external-ip", "Metadata-Flavor", "Google")
		},
		"Azure": func() (string, error) {
			return get(http.MethodGet, "/metadata/instance/network/interface/0/ipv4/ipAddress/0/publicIpAddress?api-version=2021-02-01&format=text", "Metadata", "true")
		},
	}
	type answer struct {
		addr     netip.Addr
		provider string
		err      error
	}
	answers := make(chan answer, len(providers))
	for name, ask := range providers {
		go func() {
			s, err := ask()
			a, perr := netip.ParseAddr(s)
			if err == nil && (perr != nil || ClassOf(a) != Public) {
				err = fmt.Errorf("it has no public address for this machine (%.40q)", s)
			}
			answers <- answer{a, name, err}
		}()
	}
	var errs []error
	for range providers {
		x := <-answers
		if x.err == nil {
			return x.addr, x.provider, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", x.provider, x.err))
	}
	return netip.Addr{}, "", fmt.Errorf("nat: no cloud metadata: %w", errors.Join(errs...))
}
