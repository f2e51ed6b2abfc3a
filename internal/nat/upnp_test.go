package nat

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const upnpDevice = `<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><specVersion><major>1</major><minor>0</minor></specVersion><device>
<deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType><friendlyName>r</friendlyName><UDN>uuid:1</UDN><deviceList><device>
<deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType><friendlyName>w</friendlyName><UDN>uuid:2</UDN><deviceList><device>
<deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:1</deviceType><friendlyName>c</friendlyName><UDN>uuid:3</UDN><serviceList><service>
<serviceType>urn:schemas-upnp-org:service:%s:1</serviceType><serviceId>urn:upnp-org:serviceId:x</serviceId><SCPDURL>/s</SCPDURL><controlURL>%s</controlURL><eventSubURL>/e</eventSubURL>
</service></serviceList></device></deviceList></device></deviceList></device></root>`

// fakeIGD is a UPnP router.
type fakeIGD struct {
	service   string
	control   string // control URL in the description
	external  string
	permanent bool // only leases without end
	conflict  bool
	mu        sync.Mutex
	calls     []string
}

func (f *fakeIGD) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/desc.xml" {
		fmt.Fprintf(w, upnpDevice, f.service, f.control)
		return
	}
	body, _ := io.ReadAll(r.Body)
	action := r.Header.Get("SOAPAction")
	action = strings.Trim(action[strings.LastIndex(action, "#")+1:], `"`)
	f.mu.Lock()
	f.calls = append(f.calls, action+" "+string(body))
	f.mu.Unlock()
	fault := func(code int, text string) {
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(w, `<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail><UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>%d</errorCode><errorDescription>%s</errorDescription></UPnPError></detail></s:Fault></s:Body></s:Envelope>`, code, text)
	}
	switch {
	case f.conflict && action == "AddPortMapping":
		fault(faultConflict, "ConflictInMappingEntry")
		return
	case f.permanent && action == "AddPortMapping" && !strings.Contains(string(body), "<NewLeaseDuration>0<"):
		fault(faultPermanentOnly, "OnlyPermanentLeasesSupported")
		return
	}
	out := ""
	if action == "GetExternalIPAddress" {
		out = "<NewExternalIPAddress>" + f.external + "</NewExternalIPAddress>"
	}
	fmt.Fprintf(w, `<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><u:%sResponse xmlns:u="urn:schemas-upnp-org:service:%s:1">%s</u:%sResponse></s:Body></s:Envelope>`, action, f.service, out, action)
}

func startIGD(t *testing.T, f *fakeIGD) *url.URL {
	t.Helper()
	if f.control == "" {
		f.control = "/ctl"
	}
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL + "/desc.xml")
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestUPnP(t *testing.T) {
	for _, service := range []string{"WANIPConnection", "WANPPPConnection"} {
		f := &fakeIGD{service: service, external: "198.51.100.20"}
		u, err := upnpAt(t.Context(), startIGD(t, f), ip("192.168.1.5"))
		if err != nil {
			t.Fatal(err)
		}
		if a, err := u.External(t.Context()); err != nil || a != ip("198.51.100.20") {
			t.Errorf("%s: %v %v", service, a, err)
		}
		m, err := u.Map(t.Context(), 50000, 50001, time.Hour, Mapping{})
		if err != nil || m.External != 50001 || m.Internal != 50000 || m.Addr != ip("198.51.100.20") || m.Lifetime != time.Hour {
			t.Errorf("%s: %+v %v", service, m, err)
		}
		if err := u.Unmap(t.Context(), m); err != nil {
			t.Error(err)
		}
		all := strings.Join(f.calls, "\n")
		for _, want := range []string{"<NewInternalClient>192.168.1.5<", "<NewLeaseDuration>3600<", "<NewProtocol>TCP<", "DeletePortMapping", "<NewExternalPort>50001<"} {
			if !strings.Contains(all, want) {
				t.Errorf("%s: no %s in\n%s", service, want, all)
			}
		}
	}
}

func TestUPnPTrouble(t *testing.T) {
	f := &fakeIGD{service: "WANIPConnection", external: "0.0.0.0", permanent: true}
	u, err := upnpAt(t.Context(), startIGD(t, f), ip("192.168.1.5"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.External(t.Context()); !Refused(err) || !strings.Contains(err.Error(), "no outer address") {
		t.Errorf("a router without an address: %v", err)
	}
	if m, err := u.Map(t.Context(), 21, 21, time.Hour, Mapping{}); err != nil || m.Lifetime != 0 || m.Addr.IsValid() {
		t.Errorf("a router with endless leases only: %+v %v", m, err)
	}
	f.conflict = true
	if _, err := u.Map(t.Context(), 21, 21, time.Hour, Mapping{}); !Refused(err) || !strings.Contains(err.Error(), "another machine") {
		t.Errorf("a taken port: %v", err)
	}
	for name, f := range map[string]*fakeIGD{
		"no WAN service":               {service: "Layer3Forwarding"},
		"a service on another machine": {service: "WANIPConnection", control: "http://192.0.2.66:80/ctl"},
	} {
		if _, err := upnpAt(t.Context(), startIGD(t, f), ip("192.168.1.5")); err == nil {
			t.Errorf("%s was used", name)
		}
	}
}

func TestDiscoverTrustsOnlyTheGateway(t *testing.T) {
	answer := func(loc string) func([]byte) [][]byte {
		return func(req []byte) [][]byte {
			if !strings.HasPrefix(string(req), "M-SEARCH * HTTP/1.1\r\n") {
				return nil
			}
			return [][]byte{[]byte("nonsense"), []byte("HTTP/1.1 200 OK\r\nST: x\r\nLocation: " + loc + "\r\n\r\n")}
		}
	}
	gateway := ip("127.0.0.1")
	loc, local, err := discover(t.Context(), gateway, router(t, answer("http://127.0.0.1:5000/desc.xml")))
	if err != nil || loc.String() != "http://127.0.0.1:5000/desc.xml" || local != gateway {
		t.Errorf("%v %v %v", loc, local, err)
	}
	for _, bad := range []string{"http://192.0.2.66/desc.xml", "file:///etc/passwd", "https://127.0.0.1/", "", "http://127.0.0.1.example.org/"} {
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
		if loc, _, err := discover(ctx, gateway, router(t, answer(bad))); err == nil {
			t.Errorf("%q was believed: %v", bad, loc)
		}
		cancel()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancel()
	if _, _, err := discover(ctx, netip.MustParseAddr("127.0.0.2"), router(t, answer("http://127.0.0.2/desc.xml"))); err == nil {
		t.Error("an answer from another machine was believed")
	}
}

// TestUPnPHostileAnswers: a router, or who speaks in its name, cannot make the
// server call other machines, nor fill its memory.
func TestUPnPHostileAnswers(t *testing.T) {
	inner := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("an inner service was called: %s %s", r.Method, r.URL)
	}))
	defer inner.Close()
	var sent atomic.Int64
	router := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/redirect.xml", "/ctl":
			http.Redirect(w, r, inner.URL+"/admin?reset=1", http.StatusTemporaryRedirect)
		case "/desc.xml":
			fmt.Fprintf(w, upnpDevice, "WANIPConnection", "/ctl")
		case "/endless.xml":
			io.WriteString(w, `<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0"><device><friendlyName>`)
			for chunk := strings.Repeat("a", 64<<10); ; {
				n, err := io.WriteString(w, chunk)
				if sent.Add(int64(n)); err != nil || sent.Load() > 64<<20 {
					return
				}
			}
		}
	}))
	defer router.Close()
	at := func(path string) (*UPnP, error) {
		u, err := url.Parse(router.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		return upnpAt(t.Context(), u, ip("192.168.1.5"))
	}
	if _, err := at("/redirect.xml"); err == nil {
		t.Error("a redirect gave a description")
	}
	u, err := at("/desc.xml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.External(t.Context()); err == nil {
		t.Error("a redirect gave an address")
	}
	if _, err := at("/endless.xml"); err == nil || sent.Load() > 32<<20 {
		t.Errorf("%d octets were taken, %v", sent.Load(), err)
	}
}
