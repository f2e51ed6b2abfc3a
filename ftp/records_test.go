package ftp

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/tlsrec"
)

// engineRecords is what the servers of the tests get as Config.Records.
var engineRecords Records

// enginePark is how soon they park their sessions; 0 is the default.
var enginePark time.Duration

var takenOver atomic.Int64

// testHandover is what internal/ftpd makes of internal/tlsrec.
type testHandover struct{ secrets tlsrec.Secrets }

func (h *testHandover) Watch(cfg *tls.Config) {
	cfg.KeyLogWriter = &h.secrets
	cfg.WrapSession = h.secrets.Count(cfg.WrapSession)
}

func (h *testHandover) Take(raw net.Conn, cs tls.ConnectionState, read []byte) RecordConn {
	if !h.secrets.Fits(cs) {
		return nil
	}
	takenOver.Add(1)
	return tlsrec.New(raw, cs, &h.secrets, read, tlsrec.Wide())
}

func (h *testHandover) Drop() { h.secrets.Wipe() }

// TestOwnRecords runs everything that goes over protected data connections
// again, with records of our own.
func TestOwnRecords(t *testing.T) {
	engineRecords = func() Handover { return &testHandover{} }
	t.Cleanup(func() { engineRecords = nil }) // behind the parallel ones
	for name, test := range map[string]func(*testing.T){
		"sizes":           TestTLSSmallAndLargeFilesAreWhole,
		"no close_notify": TestUploadWithoutCloseNotifyIsNotStored,
		"resumption":      TestDataConnectionMustResumeItsOwnSession,
		"shared":          TestSharedPortManyClients,
		"two processes":   TestSharedPortTwoProcesses,
		"clients":         TestClientTransfers,
		"early close":     TestClientEarlyClose,
		"abort":           TestClientAbort,
		"source fails":    TestClientSourceFails,
	} {
		t.Run(name, test)
	}
	if takenOver.Load() == 0 {
		t.Error("no connection was taken over")
	}
}

// gluedConn holds back what the client writes at the end of its handshake, so
// that its Finished and its first data come in one segment.
type gluedConn struct {
	net.Conn
	glue  bool
	hello bool // has gone out, by itself
	held  bytes.Buffer
}

func (g *gluedConn) Write(p []byte) (int, error) {
	if g.held.Write(p); g.glue && g.hello {
		return len(p), nil
	}
	g.hello = true
	_, err := g.Conn.Write(g.held.Next(g.held.Len()))
	return len(p), err
}

// TestDataBehindFinished: an upload whose beginning comes with the last message
// of the handshake, or which comes in single octets, is whole.
func TestDataBehindFinished(t *testing.T) {
	engineRecords = func() Handover { return &testHandover{} }
	defer func() { engineRecords = nil }()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, size := range []int{0, 1, 5000, 100_000} {
			b := newMemBackend()
			_, addr := startEngine(t, Config{Backend: b, TLS: serverTLS(), Implicit: true})
			cfg := &tls.Config{InsecureSkipVerify: true, ServerName: "ftp.test", MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
			tc, err := tls.Dial("tcp", addr, cfg)
			if err != nil {
				t.Fatal(err)
			}
			c := (&rawConn{tc, t, &bytes.Buffer{}}).login()
			d := c.passive()
			c.say("STOR f")
			c.expect(150)
			g := &gluedConn{Conn: d, glue: version == tls.VersionTLS13}
			dt := tls.Client(g, cfg)
			if err := dt.Handshake(); err != nil {
				t.Fatal(err)
			}
			want := bytes.Repeat([]byte("0123456789"), size/10+1)[:size]
			dt.Write(want)
			g.glue = false
			dt.CloseWrite()
			io.Copy(io.Discard, dt)
			c.expect(226)
			if got, _ := b.Content("/f"); got != string(want) {
				t.Errorf("%s, %d octets: %d arrived", tls.VersionName(version), size, len(got))
			}
			dt.Close()
			tc.Close()
		}
	}
}

// TestCutRecordIsNeverStored: even where policy accepts uploads without
// close_notify, one that ends amid a record was cut short for certain. One that
// ends between records is stored whole, its last line end included.
func TestCutRecordIsNeverStored(t *testing.T) {
	t.Cleanup(func() { engineRecords = nil })
	for _, records := range []Records{nil, func() Handover { return &testHandover{} }} {
		engineRecords = records
		for _, cut := range []bool{false, true} {
			b := newMemBackend()
			_, addr := startEngine(t, Config{Backend: b, TLS: serverTLS(), Implicit: true, LooseClose: true})
			cfg := &tls.Config{InsecureSkipVerify: true, ServerName: "ftp.test", ClientSessionCache: tls.NewLRUClientSessionCache(1)}
			tc, err := tls.Dial("tcp", addr, cfg)
			if err != nil {
				t.Fatal(err)
			}
			c := (&rawConn{tc, t, &bytes.Buffer{}}).login()
			c.do(200, "TYPE A")
			d := c.passive()
			c.say("STOR f")
			c.expect(150)
			dt := tls.Client(d, cfg)
			if err := dt.Handshake(); err != nil {
				t.Fatal(err)
			}
			io.WriteString(dt, "abc\r")
			if cut {
				d.Write([]byte{23, 3, 3, 0, 100, 1, 2, 3})
			}
			d.(*net.TCPConn).CloseWrite()
			if cut {
				c.expect(426)
			} else {
				c.expect(226)
			}
			if got, stored := b.Content("/f"); stored == cut || stored && got != "abc\r" {
				t.Errorf("own records %v, cut %v: stored %v, %q", records != nil, cut, stored, got)
			}
			tc.Close()
		}
	}
}

// TestSlowIsNoStall: over TLS, too, a client that is slow but moves is served,
// though a record or a block takes it longer than a stall.
func TestSlowIsNoStall(t *testing.T) {
	t.Cleanup(func() { engineRecords = nil })
	for _, records := range []Records{nil, func() Handover { return &testHandover{} }} {
		engineRecords = records
		b := newMemBackend()
		_, addr := startEngine(t, Config{Backend: b, TLS: serverTLS(), Implicit: true, StallTimeout: 400 * time.Millisecond})
		cfg := &tls.Config{InsecureSkipVerify: true, ServerName: "ftp.test", ClientSessionCache: tls.NewLRUClientSessionCache(1)}
		tc, err := tls.Dial("tcp", addr, cfg)
		if err != nil {
			t.Fatal(err)
		}
		c := (&rawConn{tc, t, &bytes.Buffer{}}).login()
		d := c.passive()
		c.say("STOR f")
		c.expect(150)
		g := &gluedConn{Conn: d}
		dt := tls.Client(g, cfg)
		if err := dt.Handshake(); err != nil {
			t.Fatal(err)
		}
		g.glue = true
		dt.Write(make([]byte, 1000)) // one record, held
		for g.held.Len() > 0 {
			d.Write(g.held.Next(150))
			time.Sleep(120 * time.Millisecond)
		}
		g.glue = false
		dt.CloseWrite()
		c.expect(226)
		if got, _ := b.Content("/f"); len(got) != 1000 {
			t.Errorf("own records %v: %d octets", records != nil, len(got))
		}
		tc.Close()
	}
}
