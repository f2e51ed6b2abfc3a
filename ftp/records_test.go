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

// TestOwnRecordsAllocateLittle: with records of our own nothing is allocated
// for a block, up or down.
func TestOwnRecordsAllocateLittle(t *testing.T) {
	engineRecords = func() Handover { return &testHandover{} }
	defer func() { engineRecords = nil }()
	dir := t.TempDir()
	_, addr := startEngine(t, Config{Backend: dirBackend{dir}, TLS: serverTLS(), Binding: BindRequire})
	for _, verb := range []string{"RETR", "STOR"} {
		perBlock(t, dir, addr, "tls", verb, 0.3)
	}
}

// gluedConn holds back what the client writes at the end of its handshake, so
// that its Finished and its first data come in one segment.
type gluedConn struct {
	net.Conn
	glue bool
	held bytes.Buffer
}

func (g *gluedConn) Write(p []byte) (int, error) {
	if g.held.Write(p); g.glue {
		return len(p), nil
	}
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
			g := &gluedConn{Conn: d}
			dt := tls.Client(g, cfg)
			if version == tls.VersionTLS13 {
				g.glue = true
				go func() { // the ClientHello must go out by itself
					time.Sleep(50 * time.Millisecond)
					d.Write(g.held.Next(g.held.Len()))
				}()
			}
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
