package hook

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/portreeve/portreeve/internal/config"
	"github.com/portreeve/portreeve/internal/events"
)

type taken struct {
	Port       int
	From, Data string
	To         []string
	TLS        bool
	User       string
}

// mailServer runs a real mail server (Debian's python3-aiosmtpd) and returns
// its settings and what it takes.
func mailServer(t *testing.T, mode config.MailTLS) (config.Mail, <-chan taken) {
	t.Helper()
	dir := t.TempDir()
	cert, key := writeCert(t, dir)
	// The system's python: another one in the path would not have the package.
	cmd := exec.Command("/usr/bin/python3", "testdata/smtp.py", string(mode), cert, key)
	var said bytes.Buffer
	cmd.Stderr = &said
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	got := make(chan taken, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(got)
		for s := bufio.NewScanner(out); s.Scan(); {
			var m taken
			if err := json.Unmarshal(s.Bytes(), &m); err != nil {
				t.Errorf("%v: %s", err, s.Bytes())
			}
			got <- m
		}
	}()
	t.Cleanup(func() {
		in.Close()
		cmd.Process.Kill()
		<-done
		cmd.Wait() // it was killed
	})
	first, ok := <-got
	if !ok {
		cmd.Wait()
		t.Fatalf("the mail server does not start; python3-aiosmtpd is needed (test/tools/install)\n%s", said.String())
	}
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return config.Mail{Server: fmt.Sprintf("127.0.0.1:%d", first.Port), TLS: mode, CA: cert, User: "portreeve", PasswordFile: password, From: "portreeve@example.org"}, got
}

func writeCert(t *testing.T, dir string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mail"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	kder, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: kder}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// TestMail: a real server takes the mail over TLS after a log-in, and a name
// made to add headers adds none.
func TestMail(t *testing.T) {
	for _, mode := range []config.MailTLS{config.MailStartTLS, config.MailImplicit} {
		t.Run(string(mode), func(t *testing.T) {
			c, got := mailServer(t, mode)
			h := hookFor("ops", config.DeliverMail, "upload")
			h.To, h.Pause = []string{"ops@example.org", "more@example.org"}, config.Duration(time.Millisecond)
			g := newRigMail(t, "", c, h)
			g.publish(upload(hostile, 5))
			var m taken
			select {
			case m = <-got:
			case <-time.After(20 * time.Second):
				st, err := g.r.States(t.Context())
				t.Fatalf("no mail: %+v, %v", st, err)
			}
			eventually(t, "an empty outbox", func() bool { return g.backlog("ops") == events.Backlog{} })
			if m.From != "portreeve@example.org" || strings.Join(m.To, ",") != "ops@example.org,more@example.org" || m.TLS != (mode == config.MailStartTLS) || m.User != "portreeve" {
				t.Errorf("envelope %+v", m)
			}
			msg, err := mail.ReadMessage(strings.NewReader(m.Data))
			if err != nil {
				t.Fatalf("%v\n%s", err, m.Data)
			}
			subject, err := new(mime.WordDecoder).DecodeHeader(msg.Header.Get("Subject"))
			if err != nil || !strings.HasPrefix(subject, `Portreeve: upload by ann: /in/a\x0d\x0aBcc: evil@example.org`) {
				t.Errorf("subject %q, %v", subject, err)
			}
			if msg.Header.Get("Bcc") != "" || !strings.HasPrefix(msg.Header.Get("Message-Id"), "<msg_") {
				t.Errorf("headers %v", msg.Header)
			}
			var body io.Reader = msg.Body
			if strings.EqualFold(msg.Header.Get("Content-Transfer-Encoding"), "quoted-printable") {
				body = quotedprintable.NewReader(body)
			}
			text, err := io.ReadAll(body)
			if err != nil || !strings.Contains(string(text), `path:     /in/a\x0d\x0aBcc: evil`) || strings.ContainsAny(string(text), "\x1b\x00\u202e\u2028") || !strings.Contains(string(text), "bytes:    5") {
				t.Errorf("body %q, %v", text, err)
			}
		})
	}
}

// TestMailTogether: what happens during the pause comes in one mail.
func TestMailTogether(t *testing.T) {
	h := hookFor("ops", config.DeliverMail, "upload")
	h.To = []string{"ops@example.org"}
	m, err := newMailer(&h, &config.Mail{Server: "127.0.0.1:25", TLS: config.MailClear, From: "a@example.org"})
	if err != nil {
		t.Fatal(err)
	}
	var ms []message
	for i := range 3 {
		e := upload(fmt.Sprintf("/in/%d", i), i)
		one, err := newMessage(&rule{Hook: h}, &e, false)
		if err != nil {
			t.Fatal(err)
		}
		ms = append(ms, one)
	}
	out, err := m.compose(ms)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if _, err := out.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Subject: Portreeve: 3 events of hook ops", "/in/0", "/in/1", "/in/2"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

// TestMailServers: one that says nothing, one without TLS, one with another certificate.
func TestMailServers(t *testing.T) {
	serve := func(greet string) string {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					if greet == "" {
						io.Copy(io.Discard, c)
						return
					}
					fmt.Fprint(c, greet)
					for s := bufio.NewScanner(c); s.Scan(); {
						fmt.Fprint(c, "250 mail.example.org\r\n")
					}
				}()
			}
		}()
		return ln.Addr().String()
	}
	real, _ := mailServer(t, config.MailStartTLS)
	stranger := real
	stranger.CA, _ = writeCert(t, t.TempDir())
	for name, tt := range map[string]struct {
		c    config.Mail
		want string
	}{
		"silent":              {config.Mail{Server: serve(""), TLS: config.MailStartTLS, From: "a@example.org"}, "timeout"},
		"no TLS":              {config.Mail{Server: serve("220 hello\r\n"), TLS: config.MailStartTLS, From: "a@example.org"}, "STARTTLS"},
		"another certificate": {stranger, "certificate"},
	} {
		h := hookFor("ops", config.DeliverMail, "upload")
		h.To, h.Timeout = []string{"ops@example.org"}, config.Duration(300*time.Millisecond)
		if name != "silent" {
			h.Timeout = config.Duration(5 * time.Second)
		}
		m, err := newMailer(&h, &tt.c)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), h.Timeout.Std())
		e := upload("/in/a", 1)
		one, err := newMessage(&rule{Hook: h}, &e, false)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.deliver(ctx, []message{one}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v; want %q", name, err, tt.want)
		}
		cancel()
	}
}
