package ftp

import (
	"errors"
	"io"
	"syscall"
	"testing"
	"time"
)

// A client that sends everything before it looks at the reply must not meet a
// reset when the storage refuses in the middle.
func TestRefusedUploadIsReadToItsEnd(t *testing.T) {
	b := newMemBackend()
	b.Disk = 1 << 20
	_, addr := startEngine(t, Config{Backend: b})
	c := dialRaw(t, addr).login()
	d := c.passive()
	c.do(150, "STOR big")
	if n, err := io.CopyN(d, zeros{}, 64<<20); err != nil {
		t.Fatalf("reset after %d bytes: %v", n, err)
	}
	d.Close()
	c.expect(452)
	if _, found := b.Content("/big"); found {
		t.Error("a part of it was stored")
	}
	c.do(200, "NOOP")
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// When a client is killed, its kernel ends both connections, the data
// connection first or last. Without TLS only the other one's end shows it.
func TestKilledClientStoresNothing(t *testing.T) {
	for _, dataFirst := range []bool{true, false} {
		b := newMemBackend()
		b.File("/f", "old")
		_, addr := startEngine(t, Config{Backend: b})
		c := dialRaw(t, addr).login()
		d := c.passive()
		c.do(150, "STOR f")
		io.WriteString(d, "half of it")
		time.Sleep(300 * time.Millisecond)
		if dataFirst {
			d.Close()
			c.Close()
		} else {
			c.Close()
			d.Close()
		}
		for end := time.Now().Add(10 * time.Second); b.Open() > 0; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the session does not end")
			}
		}
		if data, _ := b.Content("/f"); data != "old" {
			t.Errorf("data connection first %v: the file holds %q", dataFirst, data)
		}
	}
}

// A FIN would pass for the end of the file with clients that do not wait for
// the reply.
func TestKickedDownloadIsReset(t *testing.T) {
	b := newMemBackend()
	b.Zeros("/f", 1<<40)
	srv, addr := startEngine(t, Config{Backend: b})
	c := dialRaw(t, addr).login()
	d := c.passive()
	c.do(150, "RETR f")
	if _, err := io.CopyN(io.Discard, d, 1<<20); err != nil {
		t.Fatal(err)
	}
	srv.mu.Lock()
	for conn := range srv.conns {
		go conn.Close("maintenance")
	}
	srv.mu.Unlock()
	d.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.Copy(io.Discard, d); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the download ended with %v, want a reset", err)
	}
}
