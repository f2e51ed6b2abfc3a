package server

import (
	"bytes"
	"fmt"
	"sync"
	"testing"

	"github.com/portreeve/portreeve/ftp"
)

// TestSharedPort has several FTPS clients transfer through one data port at
// once, while a clear session uses the range.
func TestSharedPort(t *testing.T) {
	port := freePort(t)
	r := start(t, fmt.Sprintf("shared = \"127.0.0.1:%d\"\n", port)+listenTOML("ftp", "127.0.0.1:0", `tls = "offered"
data_tls = "offered"
data_session = "require"`))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			c := r.dial(0, ftp.ClientOptions{TLS: ftp.ExplicitTLS})
			data := bytes.Repeat([]byte{byte('a' + i)}, 300_000)
			name := fmt.Sprint("shared", i)
			put(t, c, name, data)
			if got := get(t, c, name); !bytes.Equal(got, data) {
				t.Errorf("client %d: the file came back different (%d bytes)", i, len(got))
			}
			if p := c.LastData().Remote.Port(); int(p) != port {
				t.Errorf("client %d: data went to port %d, not to %d", i, p, port)
			}
		})
	}
	wg.Wait()
	c := r.dial(0, ftp.ClientOptions{})
	put(t, c, "clear", []byte("clear"))
	if p := c.LastData().Remote.Port(); int(p) == port {
		t.Error("a clear data connection used the shared port")
	}
	live, _ := r.s.LivePorts()
	states := map[string]int{}
	for _, l := range live {
		states[l.State]++
		if l.State == "shared" && int(l.Addr.Port()) != port {
			t.Errorf("the shared port is shown as %s", l.Addr)
		}
	}
	if states["control"] != 1 || states["shared"] != 1 {
		t.Errorf("the live sockets are %+v", live)
	}
}
