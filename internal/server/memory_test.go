package server

import (
	"testing"
	"time"

	"github.com/portreeve/portreeve/ftp"
)

// TestMemorySettles: what log-ins have used goes back to the system when nobody
// comes any more, in seconds and not in minutes.
func TestMemorySettles(t *testing.T) {
	r := prepare(t, listenTOML("ftp", "127.0.0.1:0", `tls = "offered"`))
	realAccount(t, r, "eve")
	r.run()
	giveBack()
	before, _ := heap()
	addr := r.s.Status().Listeners[0].Address
	for range 3 {
		c, err := ftp.Dial(t.Context(), addr, ftp.ClientOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Login(t.Context(), "eve", testPassword); err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	const slack = 10 << 20
	if held, _ := heap(); held < before+2*slack {
		t.Fatalf("the heap holds %d MiB after log-ins and %d before: nothing to give back", held>>20, before>>20)
	}
	for end := time.Now().Add(quietFor + 10*time.Second); ; time.Sleep(50 * time.Millisecond) {
		held, _ := heap()
		if held < before+slack {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the heap still holds %d MiB, %d before the log-ins", held>>20, before>>20)
		}
	}
}
