package nat

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/huin/goupnp"
	"github.com/huin/goupnp/dcps/internetgateway2"
	"github.com/huin/goupnp/soap"
)

// UPnP maps ports by the UPnP Internet Gateway Device protocol.
type UPnP struct {
	service igd
	local   netip.Addr // ours, as the router knows it
}

// igd is what the three kinds of WAN connection service have in common.
type igd interface {
	GetExternalIPAddressCtx(ctx context.Context) (string, error)
	AddPortMappingCtx(ctx context.Context, remoteHost string, external uint16, protocol string, internal uint16, client string, enabled bool, description string, lease uint32) error
	DeletePortMappingCtx(ctx context.Context, remoteHost string, external uint16, protocol string) error
}

// maxDescription bounds what is read of a router's answer, in octets. A large
// description has some 50 kB.
const maxDescription = 1 << 20

// routerHTTP talks to a router and to nobody else: a redirect, which would let
// it make us call any machine that we reach, is no answer, a proxy of the
// environment is not used, and an answer has an end.
var routerHTTP = &http.Client{
	Transport:     bounded{&http.Transport{MaxResponseHeaderBytes: 64 << 10, IdleConnTimeout: 10 * time.Second}},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func init() { goupnp.HTTPClientDefault = routerHTTP } // fetches descriptions

type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxDescription), resp.Body}
	}
	return resp, err
}

// FindUPnP looks for the router's UPnP service. Only answers that come from
// the gateway and point to the gateway count: anybody in the network can
// answer the question, and a foreign address would make us fetch what they like.
func FindUPnP(ctx context.Context, gateway netip.Addr) (*UPnP, error) {
	loc, local, err := discover(ctx, gateway, netip.MustParseAddrPort("239.255.255.250:1900"))
	if err != nil {
		return nil, err
	}
	return upnpAt(ctx, loc, local)
}

// discover sends the SSDP question to dst until the gateway answers.
func discover(ctx context.Context, gateway netip.Addr, dst netip.AddrPort) (*url.URL, netip.Addr, error) {
	fail := func(err error) (*url.URL, netip.Addr, error) {
		return nil, netip.Addr{}, fmt.Errorf("nat: looking for UPnP on router %s: %w", gateway, err)
	}
	probe, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(gateway, 1900))) // sends nothing: tells our address
	if err != nil {
		return fail(err)
	}
	local := probe.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	probe.Close()
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0)))
	if err != nil {
		return fail(err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 4096)
	for range 3 {
		for _, kind := range []string{"urn:schemas-upnp-org:device:InternetGatewayDevice:1", "urn:schemas-upnp-org:device:InternetGatewayDevice:2"} {
			msg := "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: " + kind + "\r\n\r\n"
			if _, err := c.WriteToUDPAddrPort([]byte(msg), dst); err != nil {
				return fail(err)
			}
		}
		c.SetReadDeadline(time.Now().Add(1500 * time.Millisecond))
		for ctx.Err() == nil {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				break
			}
			if from.Addr().Unmap() != gateway.Unmap() {
				continue
			}
			if loc := location(buf[:n]); loc != nil && loc.Hostname() == gateway.Unmap().String() {
				return loc, local, nil
			}
		}
		if err := ctx.Err(); err != nil {
			return fail(err)
		}
	}
	return fail(errors.New("it does not answer; UPnP is probably switched off in the router"))
}

// location reads the address of the device description from an SSDP answer.
func location(b []byte) *url.URL {
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), nil)
	if err != nil {
		return nil
	}
	resp.Body.Close()
	u, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || resp.StatusCode != http.StatusOK || u.Scheme != "http" {
		return nil
	}
	return u
}

// upnpAt uses the first WAN connection service of the device described at loc.
func upnpAt(ctx context.Context, loc *url.URL, local netip.Addr) (*UPnP, error) {
	var errs []error
	check := func(c *soap.SOAPClient, s igd) *UPnP {
		c.HTTPClient = *routerHTTP
		host := c.EndpointURL.Host
		if host != loc.Host {
			h, _, _ := net.SplitHostPort(host)
			if h != loc.Hostname() {
				errs = append(errs, fmt.Errorf("its service is said to be at %s", host))
				return nil
			}
		}
		return &UPnP{s, local}
	}
	v2, err := internetgateway2.NewWANIPConnection2ClientsByURLCtx(ctx, loc)
	errs = append(errs, err)
	for _, s := range v2 {
		if u := check(s.SOAPClient, s); u != nil {
			return u, nil
		}
	}
	v1, err := internetgateway2.NewWANIPConnection1ClientsByURLCtx(ctx, loc)
	errs = append(errs, err)
	for _, s := range v1 {
		if u := check(s.SOAPClient, s); u != nil {
			return u, nil
		}
	}
	ppp, err := internetgateway2.NewWANPPPConnection1ClientsByURLCtx(ctx, loc)
	errs = append(errs, err)
	for _, s := range ppp {
		if u := check(s.SOAPClient, s); u != nil {
			return u, nil
		}
	}
	return nil, fmt.Errorf("nat: the router at %s has no usable UPnP connection service: %w", loc.Host, errors.Join(errs...))
}

// Source is FromUPnP.
func (u *UPnP) Source() Source { return FromUPnP }

// External asks for the router's outer address.
func (u *UPnP) External(ctx context.Context) (netip.Addr, error) {
	s, err := u.service.GetExternalIPAddressCtx(ctx)
	if err != nil {
		return netip.Addr{}, upnpError(err)
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.IsUnspecified() { // "" and 0.0.0.0 mean that it has none
		return netip.Addr{}, &RefusedError{FromUPnP, 0, fmt.Sprintf("it has no outer address itself (it says %.40q)", s)}
	}
	return a, nil
}

// Fault codes of WANIPConnection that need a reaction.
const (
	faultNotAllowed    = 606 // many routers: no external port below 1024
	faultConflict      = 718
	faultPermanentOnly = 725
)

// Map asks for the mapping; see Mapper. Where another machine has the external
// port, or the router keeps it for itself, a high one is taken instead.
func (u *UPnP) Map(ctx context.Context, internal, external uint16, lifetime time.Duration, _ Mapping) (Mapping, error) {
	if internal == 0 || external == 0 {
		return Mapping{}, errors.New("nat: port 0 cannot be mapped")
	}
	m, err := u.mapTo(ctx, internal, external, lifetime)
	for n := 0; n < 2; n++ {
		var r *RefusedError
		if !errors.As(err, &r) || r.Code != faultConflict && !(r.Code == faultNotAllowed && external < 1024) {
			break
		}
		if other, oerr := u.mapTo(ctx, internal, uint16(20000+rand.IntN(40000)), lifetime); oerr == nil {
			return other, nil
		}
	}
	return m, err
}

func (u *UPnP) mapTo(ctx context.Context, internal, external uint16, lifetime time.Duration) (Mapping, error) {
	add := func(lease uint32) error {
		return upnpError(u.service.AddPortMappingCtx(ctx, "", external, "TCP", internal, u.local.String(), true, "portreeve", lease))
	}
	m := Mapping{Internal: internal, External: external, Lifetime: lifetime, Source: FromUPnP}
	err := add(seconds(lifetime))
	var r *RefusedError
	if errors.As(err, &r) && r.Code == faultPermanentOnly {
		m.Lifetime = 0
		err = add(0)
	}
	if err != nil {
		return Mapping{}, err
	}
	if a, err := u.External(ctx); err == nil {
		m.Addr = a
	}
	return m, nil
}

// Unmap removes a mapping.
func (u *UPnP) Unmap(ctx context.Context, m Mapping) error {
	return upnpError(u.service.DeletePortMappingCtx(ctx, "", m.External, "TCP"))
}

func upnpError(err error) error {
	var f *soap.SOAPFaultError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &f):
		e := f.Detail.UPnPError
		text := fmt.Sprintf("%.80s", e.ErrorDescription)
		if e.Errorcode == faultConflict {
			text = "another machine has this external port already"
		}
		if text == "" {
			text = fmt.Sprintf("%.80s", f.FaultString)
		}
		return &RefusedError{FromUPnP, e.Errorcode, text}
	}
	return fmt.Errorf("nat: UPnP: %w", err)
}
